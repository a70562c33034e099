//! Barriers, fences, atomics, warp votes and mbarriers (PTX ISA 9.7.13).

use super::Opcode::*;
use super::{Arch, Form, row};

pub(super) static ROWS: &[Form] = &[
    row(Bar, "bar[.cta].sync", "a:u32, b?:u32", "9.7.13.1"),
    row(Bar, "bar[.cta].arrive", "a:u32, b:u32", "9.7.13.1"),
    row(Bar, "bar[.cta].red.popc.u32", "d:u32, a:u32, b?:u32, c:pred", "9.7.13.1"),
    row(Bar, "bar[.cta].red(.and|.or).pred", "d:pred, a:u32, b?:u32, c:pred", "9.7.13.1"),
    row(Barrier, "barrier[.cta].sync[.aligned]", "a:u32, b?:u32", "9.7.13.1"),
    row(Barrier, "barrier[.cta].arrive[.aligned]", "a:u32, b:u32", "9.7.13.1"),
    row(
        Barrier,
        "barrier[.cta].red.popc[.aligned].u32",
        "d:u32, a:u32, b?:u32, c:pred",
        "9.7.13.1",
    ),
    row(
        Barrier,
        "barrier[.cta].red(.and|.or)[.aligned].pred",
        "d:pred, a:u32, b?:u32, c:pred",
        "9.7.13.1",
    ),
    row(BarWarpSync, "bar.warp.sync", "mask:b32", "9.7.13.2"),
    row(BarrierClusterArrive, "barrier.cluster.arrive[.release|.relaxed][.aligned]", "", "9.7.13.3")
        .since(Arch::Sm90),
    row(BarrierClusterWait, "barrier.cluster.wait[.acquire][.aligned]", "", "9.7.13.3")
        .since(Arch::Sm90),
    // Fences.
    row(Membar, "membar(.cta|.gl|.sys)", "", "9.7.13.4"),
    row(Fence, "fence[.sc|.acq_rel]<scope>", "", "9.7.13.4"),
    row(Fence, "fence(.acquire|.release)<scope>", "", "9.7.13.4"),
    row(
        Fence,
        "fence(.acquire.sync_restrict::shared::cluster|.release.sync_restrict::shared::cta).cluster",
        "",
        "9.7.13.4",
    )
    .since(Arch::Sm90),
    row(FenceMbarrierInit, "fence.mbarrier_init.release.cluster", "", "9.7.13.4").since(Arch::Sm90),
    row(FenceProxy, "fence.proxy.alias", "", "9.7.13.4"),
    row(
        FenceProxy,
        "fence.proxy.async[.global|.shared::cta|.shared::cluster]",
        "",
        "9.7.13.4",
    )
    .since(Arch::Sm90),
    row(
        FenceProxy,
        "fence.proxy.async::generic(.acquire.sync_restrict::shared::cluster|.release.sync_restrict::shared::cta).cluster",
        "",
        "9.7.13.4",
    )
    .since(Arch::Sm90),
    row(FenceProxyTensormap, "fence.proxy.tensormap::generic.release<scope>", "", "9.7.13.4")
        .since(Arch::Sm90),
    row(
        FenceProxyTensormap,
        "fence.proxy.tensormap::generic.acquire<scope>",
        "a:mem, size:imm(128..128)",
        "9.7.13.4",
    )
    .since(Arch::Sm90),
    // Atomics.
    row(
        Atom,
        "atom<atom-quality>(.and|.or|.xor|.exch)[.L2::cache_hint](.b32|.b64)",
        "d:T, a:mem, b:T, policy[.L2::cache_hint]:b64",
        "9.7.13.5",
    ),
    row(
        Atom,
        "atom<atom-quality>.exch[.L2::cache_hint].b128",
        "d:T, a:mem, b:T, policy[.L2::cache_hint]:b64",
        "9.7.13.5",
    )
    .since(Arch::Sm90),
    row(
        Atom,
        "atom<atom-quality>.cas[.L2::cache_hint](.b16|.b32|.b64|.b128)",
        "d:T, a:mem, b:T, c:T, policy[.L2::cache_hint]:b64",
        "9.7.13.5",
    ),
    row(
        Atom,
        "atom<atom-quality>(.add[.L2::cache_hint](.u32|.s32|.u64|.s64|.f32|.f64)|(.inc|.dec)[.L2::cache_hint].u32|(.min|.max)[.L2::cache_hint](.u32|.s32|.u64|.s64))",
        "d:T, a:mem, b:T, policy[.L2::cache_hint]:b64",
        "9.7.13.5",
    ),
    row(
        Atom,
        "atom<atom-quality>.add.noftz[.L2::cache_hint](.f16|.f16x2|.bf16|.bf16x2)",
        "d:T, a:mem, b:T, policy[.L2::cache_hint]:b64",
        "9.7.13.5",
    ),
    row(
        Atom,
        "atom<atom-quality>(.add[.L2::cache_hint](.v2|.v4).f32|<half-red>[.L2::cache_hint]((.v2|.v4|.v8)(.f16|.bf16)|(.v2|.v4)(.f16x2|.bf16x2)))",
        "d:T*V, a:mem, b:T*V, policy[.L2::cache_hint]:b64",
        "9.7.13.5",
    )
    .since(Arch::Sm90),
    row(
        Atom,
        "atom((.and|.or|.xor|.exch)(<late-quality>)(.b32|.b64)|.add(<late-quality>)(.u32|.s32|.u64|.s64|.f32|.f64)|(.inc|.dec)(<late-quality>).u32|(.min|.max)(<late-quality>)(.u32|.s32|.u64|.s64))",
        "d:T, a:mem, b:T",
        "9.7.13.5",
    ),
    row(
        Atom,
        "atom.cas<late-quality>(.b16|.b32|.b64|.b128)",
        "d:T, a:mem, b:T, c:T",
        "9.7.13.5",
    ),
    row(
        Red,
        "red<red-quality>((.and|.or|.xor)[.L2::cache_hint](.b32|.b64)|.add[.L2::cache_hint](.u32|.s32|.u64|.s64|.f32|.f64)|(.inc|.dec)[.L2::cache_hint].u32|(.min|.max)[.L2::cache_hint](.u32|.s32|.u64|.s64))",
        "a:mem, b:T, policy[.L2::cache_hint]:b64",
        "9.7.13.6",
    ),
    row(
        Red,
        "red<red-quality>.add.noftz[.L2::cache_hint](.f16|.f16x2|.bf16|.bf16x2)",
        "a:mem, b:T, policy[.L2::cache_hint]:b64",
        "9.7.13.6",
    ),
    row(
        Red,
        "red<red-quality>(.add[.L2::cache_hint](.v2|.v4).f32|<half-red>[.L2::cache_hint]((.v2|.v4|.v8)(.f16|.bf16)|(.v2|.v4)(.f16x2|.bf16x2)))",
        "a:mem, b:T*V, policy[.L2::cache_hint]:b64",
        "9.7.13.6",
    )
    .since(Arch::Sm90),
    row(
        RedAsync,
        "red.async[.relaxed][.cluster][.shared::cluster].mbarrier::complete_tx::bytes((.inc|.dec).u32|(.min|.max)(.u32|.s32)|(.and|.or|.xor).b32|.add(.u32|.s32|.u64))",
        "a:mem, b:T, barrier:mem",
        "9.7.13.7",
    )
    .since(Arch::Sm90),
    // Warp level.
    row(VoteSync, "vote.sync(.all|.any|.uni).pred", "d:pred, a:pred, mask:b32", "9.7.13.9"),
    row(VoteSync, "vote.sync.ballot.b32", "d:b32, a:pred, mask:b32", "9.7.13.9"),
    row(MatchSync, "match.any.sync(.b32|.b64)", "d:b32, a:T, mask:b32", "9.7.13.10"),
    row(MatchSync, "match.all.sync(.b32|.b64)", "d:b32|p?:pred, a:T, mask:b32", "9.7.13.10"),
    row(Activemask, "activemask.b32", "d:b32", "9.7.13.11"),
    row(
        ReduxSync,
        "redux.sync((.add|.min|.max)(.u32|.s32)|(.and|.or|.xor).b32)",
        "d:T, a:T, mask:b32",
        "9.7.13.12",
    ),
    row(GriddepcontrolLaunchDependents, "griddepcontrol.launch_dependents", "", "9.7.13.13")
        .since(Arch::Sm90),
    row(GriddepcontrolWait, "griddepcontrol.wait", "", "9.7.13.13").since(Arch::Sm90),
    row(ElectSync, "elect.sync", "d:b32|p:pred, mask:b32", "9.7.13.14").since(Arch::Sm90),
    // mbarrier.
    row(MbarrierInit, "mbarrier.init[<own>].b64", "a:mem, count:u32", "9.7.13.15.9"),
    row(MbarrierInval, "mbarrier.inval[<own>].b64", "a:mem", "9.7.13.15.10"),
    row(
        MbarrierExpectTx,
        "mbarrier.expect_tx[.relaxed][.cta|.cluster][<shared>].b64",
        "a:mem, bytes:u32",
        "9.7.13.15.11",
    )
    .since(Arch::Sm90),
    row(
        MbarrierCompleteTx,
        "mbarrier.complete_tx[.relaxed][.cta|.cluster][<shared>].b64",
        "a:mem, bytes:u32",
        "9.7.13.15.12",
    )
    .since(Arch::Sm90),
    row(
        MbarrierArrive,
        "mbarrier.arrive[.release|.relaxed][.cta|.cluster][<shared>].b64",
        "d:b64, a:mem, count?:u32",
        "9.7.13.15.13",
    ),
    row(
        MbarrierArrive,
        "mbarrier.arrive.expect_tx[.release|.relaxed][.cta|.cluster][<shared>].b64",
        "d:b64, a:mem, bytes:u32",
        "9.7.13.15.13",
    )
    .since(Arch::Sm90),
    row(
        MbarrierArrive,
        "mbarrier.arrive.noComplete[.release][.cta][<own>].b64",
        "d:b64, a:mem, count:u32",
        "9.7.13.15.13",
    ),
    row(
        MbarrierArriveDrop,
        "mbarrier.arrive_drop[.release|.relaxed][.cta|.cluster][<shared>].b64",
        "d:b64, a:mem, count?:u32",
        "9.7.13.15.14",
    ),
    row(
        MbarrierArriveDrop,
        "mbarrier.arrive_drop.expect_tx[.release|.relaxed][.cta|.cluster][<shared>].b64",
        "d:b64, a:mem, bytes:u32",
        "9.7.13.15.14",
    )
    .since(Arch::Sm90),
    row(
        MbarrierArriveDrop,
        "mbarrier.arrive_drop.noComplete[.release][.cta][<own>].b64",
        "d:b64, a:mem, count:u32",
        "9.7.13.15.14",
    ),
    row(
        CpAsyncMbarrierArrive,
        "cp.async.mbarrier.arrive[.noinc][<own>].b64",
        "a:mem",
        "9.7.13.15.15",
    ),
    row(
        MbarrierTestWait,
        "mbarrier.test_wait[.acquire|.relaxed][.cta|.cluster][<own>].b64",
        "d:pred, a:mem, state:b64",
        "9.7.13.15.16",
    ),
    row(
        MbarrierTestWait,
        "mbarrier.test_wait.parity[.acquire|.relaxed][.cta|.cluster][<own>].b64",
        "d:pred, a:mem, parity:u32",
        "9.7.13.15.16",
    ),
    row(
        MbarrierTryWait,
        "mbarrier.try_wait[.acquire|.relaxed][.cta|.cluster][<own>].b64",
        "d:pred, a:mem, state:b64, time?:u32",
        "9.7.13.15.16",
    )
    .since(Arch::Sm90),
    row(
        MbarrierTryWait,
        "mbarrier.try_wait.parity[.acquire|.relaxed][.cta|.cluster][<own>].b64",
        "d:pred, a:mem, parity:u32, time?:u32",
        "9.7.13.15.16",
    )
    .since(Arch::Sm90),
    row(MbarrierPendingCount, "mbarrier.pending_count.b64", "d:u32, state:b64", "9.7.13.15.17"),
];
