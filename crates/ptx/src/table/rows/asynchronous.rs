//! Asynchronous copies and tensor maps (PTX ISA 9.7.9.25 to 9.7.9.27).

use super::Opcode::*;
use super::{Arch, Form, row};

pub(super) static ROWS: &[Form] = &[
    row(
        CpAsync,
        "cp.async.ca<own>.global[.L2::cache_hint][<prefetch>]",
        "to:mem, from:mem, size:imm(4..16), source?:u32/pred, policy[.L2::cache_hint]:b64",
        "9.7.9.25.3.1",
    ),
    row(
        CpAsync,
        "cp.async.cg<own>.global[.L2::cache_hint][<prefetch>]",
        "to:mem, from:mem, size:imm(16..16), source?:u32/pred, policy[.L2::cache_hint]:b64",
        "9.7.9.25.3.1",
    ),
    row(CpAsyncCommitGroup, "cp.async.commit_group", "", "9.7.9.25.3.2"),
    row(CpAsyncWaitGroup, "cp.async.wait_group", "n:imm(0..2147483647)", "9.7.9.25.3.3"),
    row(CpAsyncWaitAll, "cp.async.wait_all", "", "9.7.9.25.3.3"),
    // Bulk.
    row(
        CpAsyncBulk,
        "cp.async.bulk(.shared::cluster|.shared::cta).global.mbarrier::complete_tx::bytes[.multicast::cluster][.L2::cache_hint]",
        "to:mem, from:mem, size:u32, barrier:mem, mask[.multicast::cluster]:b16, policy[.L2::cache_hint]:b64",
        "9.7.9.25.4.1",
    )
    .since(Arch::Sm90),
    row(
        CpAsyncBulk,
        "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes",
        "to:mem, from:mem, size:u32, barrier:mem",
        "9.7.9.25.4.1",
    )
    .since(Arch::Sm90),
    row(
        CpAsyncBulk,
        "cp.async.bulk.global.shared::cta.bulk_group[.L2::cache_hint][.cp_mask]",
        "to:mem, from:mem, size:u32, policy[.L2::cache_hint]:b64, mask[.cp_mask]:b16",
        "9.7.9.25.4.1",
    )
    .since(Arch::Sm90),
    row(
        CpReduceAsyncBulk,
        "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes(.and|.or|.xor|.add|.inc|.dec|.min|.max)(.s32|.u32|.s64|.u64|.b32|.b64)",
        "to:mem, from:mem, size:u32, barrier:mem",
        "9.7.9.25.4.2",
    )
    .since(Arch::Sm90),
    row(
        CpReduceAsyncBulk,
        "cp.reduce.async.bulk.global.shared::cta.bulk_group[.L2::cache_hint]((.and|.or|.xor|.add|.inc|.dec|.min|.max)(.s32|.u32|.s64|.u64|.b32|.b64|.f32|.f64)|.add.noftz(.f16|.bf16)|(.min|.max)(.f16|.bf16))",
        "to:mem, from:mem, size:u32, policy[.L2::cache_hint]:b64",
        "9.7.9.25.4.2",
    )
    .since(Arch::Sm90),
    row(
        CpAsyncBulkPrefetch,
        "cp.async.bulk.prefetch.L2.global[.L2::cache_hint]",
        "from:mem, size:u32, policy[.L2::cache_hint]:b64",
        "9.7.9.25.4.3",
    )
    .since(Arch::Sm90),
    // Tensors.
    row(
        CpAsyncBulkTensor,
        "cp.async.bulk.tensor<dim>(.shared::cluster|.shared::cta).global[.tile].mbarrier::complete_tx::bytes[.multicast::cluster][.L2::cache_hint]",
        "to:mem, from:tensor, barrier:mem, mask[.multicast::cluster]:b16, policy[.L2::cache_hint]:b64",
        "9.7.9.25.5.2",
    )
    .since(Arch::Sm90),
    row(
        CpAsyncBulkTensor,
        "cp.async.bulk.tensor<dim>(.shared::cluster|.shared::cta).global<im2col>.mbarrier::complete_tx::bytes[.multicast::cluster][.L2::cache_hint]",
        "to:mem, from:tensor, barrier:mem, offsets:b16*1/b16*2/b16*3, mask[.multicast::cluster]:b16, policy[.L2::cache_hint]:b64",
        "9.7.9.25.5.2",
    )
    .since(Arch::Sm90),
    row(
        CpAsyncBulkTensor,
        "cp.async.bulk.tensor<dim>.global.shared::cta[.tile|.im2col_no_offs].bulk_group[.L2::cache_hint]",
        "to:tensor, from:mem, policy[.L2::cache_hint]:b64",
        "9.7.9.25.5.2",
    )
    .since(Arch::Sm90),
    row(
        CpReduceAsyncBulkTensor,
        "cp.reduce.async.bulk.tensor<dim>.global.shared::cta(.add|.min|.max|.inc|.dec|.and|.or|.xor)[.tile|.im2col_no_offs].bulk_group[.L2::cache_hint]",
        "to:tensor, from:mem, policy[.L2::cache_hint]:b64",
        "9.7.9.25.5.3",
    )
    .since(Arch::Sm90),
    row(
        CpAsyncBulkPrefetchTensor,
        "cp.async.bulk.prefetch.tensor<dim>.L2.global[.tile][.L2::cache_hint]",
        "from:tensor, policy[.L2::cache_hint]:b64",
        "9.7.9.25.5.4",
    )
    .since(Arch::Sm90),
    row(
        CpAsyncBulkPrefetchTensor,
        "cp.async.bulk.prefetch.tensor<dim>.L2.global<im2col>[.L2::cache_hint]",
        "from:tensor, offsets:b16*1/b16*2/b16*3, policy[.L2::cache_hint]:b64",
        "9.7.9.25.5.4",
    )
    .since(Arch::Sm90),
    row(CpAsyncBulkCommitGroup, "cp.async.bulk.commit_group", "", "9.7.9.25.6.1").since(Arch::Sm90),
    row(
        CpAsyncBulkWaitGroup,
        "cp.async.bulk.wait_group[.read]",
        "n:imm(0..2147483647)",
        "9.7.9.25.6.2",
    )
    .since(Arch::Sm90),
    // Tensor maps.
    row(
        TensormapReplace,
        "tensormap.replace.tile.global_address[.global|.shared::cta].b1024.b64",
        "a:mem, value:b64",
        "9.7.9.27",
    )
    .since(Arch::Sm90a),
    row(
        TensormapReplace,
        "tensormap.replace.tile.rank[.global|.shared::cta].b1024.b32",
        "a:mem, value:b32",
        "9.7.9.27",
    )
    .since(Arch::Sm90a),
    row(
        TensormapReplace,
        "tensormap.replace.tile(.box_dim|.global_dim|.element_stride)[.global|.shared::cta].b1024.b32",
        "a:mem, index:imm(0..4), value:b32",
        "9.7.9.27",
    )
    .since(Arch::Sm90a),
    row(
        TensormapReplace,
        "tensormap.replace.tile.global_stride[.global|.shared::cta].b1024.b64",
        "a:mem, index:imm(0..3), value:b64",
        "9.7.9.27",
    )
    .since(Arch::Sm90a),
    row(
        TensormapReplace,
        "tensormap.replace.tile(.elemtype|.interleave_layout|.swizzle_mode|.swizzle_atomicity|.fill_mode)[.global|.shared::cta].b1024.b32",
        "a:mem, value:imm",
        "9.7.9.27",
    )
    .since(Arch::Sm90a),
    row(
        TensormapCpFenceproxy,
        "tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release<scope>.sync.aligned",
        "to:mem, from:mem, size:imm(128..128)",
        "9.7.13.15.18",
    )
    .since(Arch::Sm90),
];
