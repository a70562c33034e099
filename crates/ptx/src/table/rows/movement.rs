//! Data movement and conversion, synchronous (PTX ISA 9.7.9).

use super::Opcode::*;
use super::{Arch, Form, row};

pub(super) static ROWS: &[Form] = &[
    row(
        Mov,
        "mov(.pred|<x16-64>|.f32|.f64|.b128)",
        "d:T/{T}, a:T/{T}/sym",
        "9.7.9.3",
    ),
    row(ShflSync, "shfl.sync(.up|.down|.bfly|.idx).b32", "d:b32|p?:pred, a:b32, b:u32, c:u32, mask:b32", "9.7.9.6"),
    row(Prmt, "prmt.b32[.f4e|.b4e|.rc8|.ecl|.ecr|.rc16]", "d:b32, a:b32, b:b32, c:b32", "9.7.9.7"),
    row(
        Ld,
        "ld[.weak][<ld-space>][.ca|.cg|.cs|.lu|.cv][<l1>][<l2>][.L2::cache_hint][<prefetch>][<vec>]<data128>",
        "d:v~T, a:mem, policy[.L2::cache_hint]:b64",
        "9.7.9.8",
    ),
    row(
        Ld,
        "ld(.volatile[<ld-space>]|<ld-space>.volatile)[<prefetch>][<vec>]<data128>",
        "d:v~T, a:mem",
        "9.7.9.8",
    ),
    row(
        Ld,
        "ld((.relaxed|.acquire)<scope>[<ordered-space>]|<ordered-space>(.relaxed|.acquire)<scope>)[<l1>][<l2>][.L2::cache_hint][<prefetch>][<vec>]<data128>",
        "d:v~T, a:mem, policy[.L2::cache_hint]:b64",
        "9.7.9.8",
    ),
    row(Ld, "ld.mmio.relaxed.sys[.global]<data>", "d:~T, a:mem", "9.7.9.8"),
    row(
        Ld,
        "ld.global[.ca|.cg|.cs].nc[<l1>][<l2>][.L2::cache_hint][<prefetch>][<vec>]<data128>",
        "d:v~T, a:mem, policy[.L2::cache_hint]:b64",
        "9.7.9.9",
    ),
    row(Ldu, "ldu[.global][<vec>]<data128>", "d:v~T, a:mem", "9.7.9.10"),
    row(
        St,
        "st[.weak][<st-space>][.wb|.cg|.cs|.wt][<l1>][<l2>][.L2::cache_hint][<vec>]<data128>",
        "a:mem, b:v~T, policy[.L2::cache_hint]:b64",
        "9.7.9.11",
    ),
    row(
        St,
        "st(.volatile[<st-space>]|<st-space>.volatile)[<vec>]<data128>",
        "a:mem, b:v~T",
        "9.7.9.11",
    ),
    row(
        St,
        "st((.relaxed|.release)<scope>[<ordered-space>]|<ordered-space>(.relaxed|.release)<scope>)[<l1>][<l2>][.L2::cache_hint][<vec>]<data128>",
        "a:mem, b:v~T, policy[.L2::cache_hint]:b64",
        "9.7.9.11",
    ),
    row(St, "st.mmio.relaxed.sys[.global]<data>", "a:mem, b:~T", "9.7.9.11"),
    row(
        StAsync,
        "st.async[.weak][.shared::cluster].mbarrier::complete_tx::bytes[.v2|.v4](.b32|.b64|.u32|.u64|.s32|.s64|.f32|.f64)",
        "a:mem, b:T*V, barrier:mem",
        "9.7.9.12",
    )
    .since(Arch::Sm90),
    row(
        MultimemLdReduce,
        "multimem.ld_reduce[.weak|(.relaxed|.acquire)<scope>][.global](.min|.max|.add|.and|.or|.xor)[.acc::f32][.v2|.v4|.v8](.b32|.b64|.u32|.u64|.s32|.s64|.f32|.f64|.f16|.f16x2|.bf16|.bf16x2)",
        "d:T*V, a:mem",
        "9.7.9.14",
    )
    .since(Arch::Sm90),
    row(
        MultimemSt,
        "multimem.st[.weak|(.relaxed|.release)<scope>][.global][.v2|.v4|.v8](.b32|.b64|.u32|.u64|.s32|.s64|.f32|.f64|.f16|.f16x2|.bf16|.bf16x2)",
        "a:mem, b:T*V",
        "9.7.9.14",
    )
    .since(Arch::Sm90),
    row(
        MultimemRed,
        "multimem.red[(.relaxed|.release)<scope>][.global](.min|.max|.add|.and|.or|.xor)[.v2|.v4|.v8](.b32|.b64|.u32|.u64|.s32|.s64|.f32|.f64|.f16|.f16x2|.bf16|.bf16x2)",
        "a:mem, b:T*V",
        "9.7.9.14",
    )
    .since(Arch::Sm90),
    row(Prefetch, "prefetch[.global|.local](.L1|.L2)", "a:mem", "9.7.9.15"),
    row(Prefetch, "prefetch.global(.L2::evict_last|.L2::evict_normal)", "a:mem", "9.7.9.15"),
    row(PrefetchTensormap, "prefetch[.const|.param].tensormap", "a:mem", "9.7.9.15")
        .since(Arch::Sm90),
    row(Prefetchu, "prefetchu.L1", "a:mem", "9.7.9.15"),
    row(Applypriority, "applypriority[.global].L2::evict_normal", "a:mem, size:imm(128..128)", "9.7.9.16"),
    row(DiscardL2, "discard[.global].L2", "a:mem, size:imm(128..128)", "9.7.9.17"),
    row(
        CreatePolicy,
        "createpolicy.fractional(.L2::evict_last|.L2::evict_normal|.L2::evict_first|.L2::evict_unchanged)[.L2::evict_first|.L2::evict_unchanged].b64",
        "d:b64, fraction?:f32",
        "9.7.9.18",
    ),
    row(
        CreatePolicy,
        "createpolicy.range[.global](.L2::evict_last|.L2::evict_normal|.L2::evict_first|.L2::evict_unchanged)[.L2::evict_first|.L2::evict_unchanged].b64",
        "d:b64, a:mem, primary:u32, total:u32",
        "9.7.9.18",
    ),
    row(CreatePolicy, "createpolicy.cvt.L2.b64", "d:b64, a:b64", "9.7.9.18"),
    row(Isspacep, "isspacep(.const|.global|.local|<param>|<shared>)", "d:pred, a:b32/b64", "9.7.9.19"),
    row(Cvta, "cvta(.const|.global|.local|<param>|<shared>)(.u32|.u64)", "d:T, a:T/sym", "9.7.9.20"),
    row(Cvta, "cvta.to(.const|.global|.local|<param>|<shared>)(.u32|.u64)", "d:T, a:T/sym", "9.7.9.20"),
    row(Cvt, "cvt[.sat]<i8-64><i8-64>", "d:~T, a:~T2", "9.7.9.21"),
    row(Cvt, "cvt<round>[.ftz][.sat](.f16|.bf16|.f32|.f64)<i8-64>", "d:~T, a:~T2", "9.7.9.21"),
    row(Cvt, "cvt<roundi>[.ftz][.sat]<i8-64>(.f16|.bf16|.f32|.f64)", "d:~T, a:~T2", "9.7.9.21"),
    row(
        Cvt,
        "cvt[<round>|<roundi>][.ftz][.sat](.f16|.bf16|.f32|.f64)(.f16|.bf16|.f32|.f64)",
        "d:~T, a:~T2",
        "9.7.9.21",
    ),
    row(
        Cvt,
        "cvt(.rn|.rz)(.relu[.satfinite]|.satfinite)(.f16|.bf16).f32",
        "d:b16, a:f32",
        "9.7.9.21",
    ),
    row(Cvt, "cvt(.rn|.rz)[.relu][.satfinite](.f16x2|.bf16x2).f32", "d:T, a:f32, b:f32", "9.7.9.21"),
    row(Cvt, "cvt(.rna[.satfinite]|(.rn|.rz)[.satfinite][.relu]).tf32.f32", "d:b32, a:f32", "9.7.9.21"),
    row(Cvt, "cvt.rn.satfinite[.relu]<fp8x2>.f32", "d:b16, a:f32, b:f32", "9.7.9.21"),
    row(Cvt, "cvt.rn.satfinite[.relu]<fp8x2>.f16x2", "d:b16, a:f16x2", "9.7.9.21"),
    row(Cvt, "cvt.rn[.relu].f16x2<fp8x2>", "d:f16x2, a:b16", "9.7.9.21"),
    row(CvtPack, "cvt.pack.sat(.u16|.s16).s32", "d:b32, a:s32, b:s32", "9.7.9.22"),
    row(CvtPack, "cvt.pack.sat(.u8|.s8|.u4|.s4).s32.b32", "d:b32, a:s32, b:s32, c:b32", "9.7.9.22"),
    row(Mapa, "mapa[.shared::cluster](.u32|.u64)", "d:T, a:T/sym, b:u32", "9.7.9.23").since(Arch::Sm90),
    row(Getctarank, "getctarank[.shared::cluster](.u32|.u64)", "d:u32, a:T/sym", "9.7.9.24").since(Arch::Sm90),
];
