//! Matrix instructions of a warp and of a warpgroup (PTX ISA 9.7.14, 9.7.15).

use super::Opcode::*;
use super::{Arch, Form, row};

/// `a` is a descriptor or registers. The constants that follow are scale of A, of B, transpose of A, of B;
/// with A in registers that of A is left out (the verifier counts them).
const WGMMA_HALF_F32: &str = "dc:f32*N/2, a:b64/b32*4, b:b64, scale:pred, scale_a:imm(-1..1), scale_b:imm(-1..1), trans_a?:imm(0..1), trans_b?:imm(0..1)";
const WGMMA_HALF_F16: &str = "dc:b32*N/4, a:b64/b32*4, b:b64, scale:pred, scale_a:imm(-1..1), scale_b:imm(-1..1), trans_a?:imm(0..1), trans_b?:imm(0..1)";
const WGMMA_F32: &str =
    "dc:f32*N/2, a:b64/b32*4, b:b64, scale:pred, scale_a:imm(-1..1), scale_b:imm(-1..1)";
const WGMMA_F16: &str =
    "dc:b32*N/4, a:b64/b32*4, b:b64, scale:pred, scale_a:imm(-1..1), scale_b:imm(-1..1)";
const WGMMA_S32: &str = "dc:b32*N/2, a:b64/b32*4, b:b64, scale:pred";

pub(super) static ROWS: &[Form] = &[
    // ldmatrix and its kin.
    row(
        Ldmatrix,
        "ldmatrix.sync.aligned(.m8n8(.x1|.x2|.x4)[.trans]|(.x1|.x2|.x4)[.trans].m8n8)[<own>].b16",
        "d:b32*X, a:mem",
        "9.7.14.5.15",
    ),
    row(
        Stmatrix,
        "stmatrix.sync.aligned(.m8n8(.x1|.x2|.x4)[.trans]|(.x1|.x2|.x4)[.trans].m8n8)[<own>].b16",
        "a:mem, b:b32*X",
        "9.7.14.5.16",
    )
    .since(Arch::Sm90),
    row(Movmatrix, "movmatrix.sync.aligned.m8n8.trans.b16", "d:b32, a:b32", "9.7.14.5.17"),
    // mma of a warp.
    row(MmaSync, "mma.sync.aligned.m8n8k4(.row|.col)(.row|.col).f32.f16.f16.f32", "d:f32*8, a:b32*2, b:b32*2, c:f32*8", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m8n8k4(.row|.col)(.row|.col).f16.f16.f16.f16", "d:b32*4, a:b32*2, b:b32*2, c:b32*4", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k8.row.col.f32(.f16.f16|.bf16.bf16).f32", "d:f32*4, a:b32*2, b:b32*1, c:f32*4", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16", "d:b32*2, a:b32*2, b:b32*1, c:b32*2", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k16.row.col.f32(.f16.f16|.bf16.bf16).f32", "d:f32*4, a:b32*4, b:b32*2, c:f32*4", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16", "d:b32*2, a:b32*4, b:b32*2, c:b32*2", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32", "d:f32*4, a:b32*2, b:b32*1, c:f32*4", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", "d:f32*4, a:b32*4, b:b32*2, c:f32*4", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k32.row.col.f32<fp8><fp8>.f32", "d:f32*4, a:b32*4, b:b32*2, c:f32*4", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k16.row.col.f32<fp8><fp8>.f32", "d:f32*4, a:b32*2, b:b32*1, c:f32*4", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k32.row.col.f16<fp8><fp8>.f16", "d:b32*2, a:b32*4, b:b32*2, c:b32*2", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k16.row.col.f16<fp8><fp8>.f16", "d:b32*2, a:b32*2, b:b32*1, c:b32*2", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64", "d:f64*2, a:f64*1, b:f64*1, c:f64*2", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k4.row.col[.rn].f64.f64.f64.f64", "d:f64*4, a:f64*2, b:f64*1, c:f64*4", "9.7.14.5.14").since(Arch::Sm90),
    row(MmaSync, "mma.sync.aligned.m16n8k8.row.col[.rn].f64.f64.f64.f64", "d:f64*4, a:f64*4, b:f64*2, c:f64*4", "9.7.14.5.14").since(Arch::Sm90),
    row(MmaSync, "mma.sync.aligned.m16n8k16.row.col[.rn].f64.f64.f64.f64", "d:f64*4, a:f64*8, b:f64*4, c:f64*4", "9.7.14.5.14").since(Arch::Sm90),
    row(MmaSync, "mma.sync.aligned.m8n8k16.row.col[.satfinite].s32<s8><s8>.s32", "d:b32*2, a:b32*1, b:b32*1, c:b32*2", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k16.row.col[.satfinite].s32<s8><s8>.s32", "d:b32*4, a:b32*2, b:b32*1, c:b32*4", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k32.row.col[.satfinite].s32<s8><s8>.s32", "d:b32*4, a:b32*4, b:b32*2, c:b32*4", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m8n8k32.row.col[.satfinite].s32<s4><s4>.s32", "d:b32*2, a:b32*1, b:b32*1, c:b32*2", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k32.row.col[.satfinite].s32<s4><s4>.s32", "d:b32*4, a:b32*2, b:b32*1, c:b32*4", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k64.row.col[.satfinite].s32<s4><s4>.s32", "d:b32*4, a:b32*4, b:b32*2, c:b32*4", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32(.xor|.and).popc", "d:b32*2, a:b32*1, b:b32*1, c:b32*2", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k128.row.col.s32.b1.b1.s32(.xor|.and).popc", "d:b32*4, a:b32*2, b:b32*1, c:b32*4", "9.7.14.5.14"),
    row(MmaSync, "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32(.xor|.and).popc", "d:b32*4, a:b32*4, b:b32*2, c:b32*4", "9.7.14.5.14"),
    row(MmaSpSync, "mma(.sp|.sp::ordered_metadata).sync.aligned.m16n8k16.row.col.f32(.f16.f16|.bf16.bf16).f32", "d:f32*4, a:b32*2, b:b32*2, c:f32*4, e:b32, f:imm(0..3)", "9.7.14.6.3"),
    row(MmaSpSync, "mma(.sp|.sp::ordered_metadata).sync.aligned.m16n8k32.row.col.f32(.f16.f16|.bf16.bf16).f32", "d:f32*4, a:b32*4, b:b32*4, c:f32*4, e:b32, f:imm(0..3)", "9.7.14.6.3"),
    row(MmaSpSync, "mma(.sp|.sp::ordered_metadata).sync.aligned.m16n8k64.row.col.f32<fp8><fp8>.f32", "d:f32*4, a:b32*4, b:b32*4, c:f32*4, e:b32, f:imm(0..3)", "9.7.14.6.3"),
    row(MmaSpSync, "mma(.sp|.sp::ordered_metadata).sync.aligned.m16n8k64.row.col[.satfinite].s32<s8><s8>.s32", "d:b32*4, a:b32*4, b:b32*4, c:b32*4, e:b32, f:imm(0..3)", "9.7.14.6.3"),
    // wmma, in the shapes and types that C++'s nvcuda::wmma has.
    row(WmmaLoad, "wmma.load(.a|.b).sync.aligned(.row|.col)(.m16n16k16|.m8n32k16|.m32n8k16)[.global|<own>].f16", "d:b32*8, a:mem, stride?:b32", "9.7.14.4.3"),
    row(WmmaLoad, "wmma.load(.a|.b).sync.aligned(.row|.col)(.m16n16k16|.m8n32k16|.m32n8k16)[.global|<own>](.bf16|<s8>)", "d:b32*1/b32*2/b32*4/b32*8, a:mem, stride?:b32", "9.7.14.4.3"),
    row(WmmaLoad, "wmma.load(.a|.b).sync.aligned(.row|.col).m16n16k8[.global|<own>].tf32", "d:b32*4, a:mem, stride?:b32", "9.7.14.4.3"),
    row(WmmaLoad, "wmma.load.c.sync.aligned(.row|.col)(.m16n16k16|.m8n32k16|.m32n8k16|.m16n16k8)[.global|<own>](.f32|.s32)", "d:T*8, a:mem, stride?:b32", "9.7.14.4.3"),
    row(WmmaLoad, "wmma.load.c.sync.aligned(.row|.col)(.m16n16k16|.m8n32k16|.m32n8k16)[.global|<own>].f16", "d:b32*4, a:mem, stride?:b32", "9.7.14.4.3"),
    row(WmmaStore, "wmma.store.d.sync.aligned(.row|.col)(.m16n16k16|.m8n32k16|.m32n8k16|.m16n16k8)[.global|<own>](.f32|.s32)", "a:mem, b:T*8, stride?:b32", "9.7.14.4.4"),
    row(WmmaStore, "wmma.store.d.sync.aligned(.row|.col)(.m16n16k16|.m8n32k16|.m32n8k16)[.global|<own>].f16", "a:mem, b:b32*4, stride?:b32", "9.7.14.4.4"),
    row(WmmaMma, "wmma.mma.sync.aligned(.row|.col)(.row|.col)(.m16n16k16|.m8n32k16|.m32n8k16)(.f32|.f16)(.f32|.f16)", "d:b32*4/f32*8, a:b32*8, b:b32*8, c:b32*4/f32*8", "9.7.14.4.5"),
    row(WmmaMma, "wmma.mma.sync.aligned(.row|.col)(.row|.col)(.m16n16k16|.m8n32k16|.m32n8k16)(.f32.bf16.bf16.f32|.s32.s8.s8.s32[.satfinite]|.s32.u8.u8.s32[.satfinite])", "d:T*8, a:b32*1/b32*2/b32*4/b32*8, b:b32*1/b32*2/b32*4/b32*8, c:T*8", "9.7.14.4.5"),
    row(WmmaMma, "wmma.mma.sync.aligned(.row|.col)(.row|.col).m16n16k8.f32.tf32.tf32.f32", "d:f32*8, a:b32*4, b:b32*4, c:f32*8", "9.7.14.4.5"),
    // wgmma.
    row(WgmmaFence, "wgmma.fence.sync.aligned", "", "9.7.15.7.1").since(Arch::Sm90a),
    row(WgmmaCommitGroup, "wgmma.commit_group.sync.aligned", "", "9.7.15.7.2").since(Arch::Sm90a),
    row(WgmmaWaitGroup, "wgmma.wait_group.sync.aligned", "n:imm(0..7)", "9.7.15.7.3")
        .since(Arch::Sm90a),
    row(WgmmaMmaAsync, "wgmma.mma_async.sync.aligned<m64nNk16>.f32(.f16.f16|.bf16.bf16)", WGMMA_HALF_F32, "9.7.15.5.2").since(Arch::Sm90a),
    row(WgmmaMmaAsync, "wgmma.mma_async.sync.aligned<m64nNk16>.f16.f16.f16", WGMMA_HALF_F16, "9.7.15.5.2").since(Arch::Sm90a),
    row(WgmmaMmaAsync, "wgmma.mma_async.sync.aligned<m64nNk8>.f32.tf32.tf32", WGMMA_F32, "9.7.15.5.2").since(Arch::Sm90a),
    row(WgmmaMmaAsync, "wgmma.mma_async.sync.aligned<m64nNk32>.f32<fp8><fp8>", WGMMA_F32, "9.7.15.5.2").since(Arch::Sm90a),
    row(WgmmaMmaAsync, "wgmma.mma_async.sync.aligned<m64nNk32>.f16<fp8><fp8>", WGMMA_F16, "9.7.15.5.2").since(Arch::Sm90a),
    row(WgmmaMmaAsync, "wgmma.mma_async.sync.aligned<m64nMk32>[.satfinite].s32<s8><s8>", WGMMA_S32, "9.7.15.5.2").since(Arch::Sm90a),
    row(WgmmaMmaAsync, "wgmma.mma_async.sync.aligned<m64nMk32>.s32<s8><s8>.satfinite", WGMMA_S32, "9.7.15.5.2").since(Arch::Sm90a),
    row(WgmmaMmaAsync, "wgmma.mma_async.sync.aligned<m64nMk256>.s32.b1.b1.and.popc", WGMMA_S32, "9.7.15.5.2").since(Arch::Sm90a),
    row(WgmmaMmaAsyncSp, "wgmma.mma_async.sp.sync.aligned<m64nNk32>.f32(.f16.f16|.bf16.bf16)", "dc:f32*N/2, a:b64/b32*4, b:b64, meta:b32, selector:imm(0..3), scale:pred, scale_a:imm(-1..1), scale_b:imm(-1..1), trans_a?:imm(0..1), trans_b?:imm(0..1)", "9.7.15.6.4").since(Arch::Sm90a),
];
