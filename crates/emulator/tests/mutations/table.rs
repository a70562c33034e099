//! The planted bugs: what is changed in the PTX of a kernel, and what must be found.

use zeroforge_emulator::tensor_map::Swizzle;
use zeroforge_emulator::{FindingKind, Schedule};

use crate::kernels::HostBug;

/// A change of the text. Occurrences count from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Edit {
    /// Takes away the line of an occurrence.
    Drop(&'static str, usize),
    /// Writes the line of an occurrence twice.
    Double(&'static str, usize),
    /// Puts another text in the place of an occurrence.
    Swap(&'static str, usize, &'static str),
    /// Puts a line before that of an occurrence.
    Before(&'static str, usize, &'static str),
}

impl Edit {
    /// The changed text.
    pub(crate) fn apply(&self, ptx: &str) -> Result<String, String> {
        let (text, nth) = match *self {
            Edit::Drop(t, n) | Edit::Double(t, n) | Edit::Swap(t, n, _) | Edit::Before(t, n, _) => {
                (t, n)
            }
        };
        let found = ptx.match_indices(text).nth(nth - 1);
        let (at, _) = found.ok_or_else(|| {
            format!("`{text}` occurs {} times, not {nth}", ptx.matches(text).count())
        })?;
        let start = ptx[..at].rfind('\n').map_or(0, |i| i + 1);
        let end = ptx[at..].find('\n').map_or(ptx.len(), |i| at + i + 1);
        Ok(match *self {
            Edit::Drop(..) => format!("{}{}", &ptx[..start], &ptx[end..]),
            Edit::Double(..) => format!("{}{}{}", &ptx[..end], &ptx[start..end], &ptx[end..]),
            Edit::Swap(_, _, other) => format!("{}{other}{}", &ptx[..at], &ptx[at + text.len()..]),
            Edit::Before(_, _, line) => format!("{}{line}\n{}", &ptx[..start], &ptx[start..]),
        })
    }
}

/// What must come out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expect {
    /// A finding of a kind, of which one party is at the line of the CUDA source that has this text.
    Finding(FindingKind, &'static str),
    /// Wrong results: for what is legal but not what was meant, such as a swizzle that differs between the
    /// copy and the product.
    WrongResult,
}

/// A planted bug.
pub(crate) struct Mutation {
    pub(crate) kernel: &'static str,
    pub(crate) name: &'static str,
    pub(crate) edits: &'static [Edit],
    pub(crate) host: HostBug,
    pub(crate) schedule: Schedule,
    pub(crate) expect: Expect,
}

const fn bug(
    kernel: &'static str,
    name: &'static str,
    edits: &'static [Edit],
    kind: FindingKind,
    line: &'static str,
) -> Mutation {
    let expect = Expect::Finding(kind, line);
    Mutation { kernel, name, edits, host: HostBug::None, schedule: Schedule::Late, expect }
}

const fn wrong(kernel: &'static str, name: &'static str, edits: &'static [Edit]) -> Mutation {
    let (host, schedule) = (HostBug::None, Schedule::Late);
    Mutation { kernel, name, edits, host, schedule, expect: Expect::WrongResult }
}

const fn host(kernel: &'static str, name: &'static str, host: HostBug, expect: Expect) -> Mutation {
    Mutation { kernel, name, edits: &[], host, schedule: Schedule::Late, expect }
}

use Edit::{Before, Double, Drop, Swap};
use Expect::{Finding, WrongResult};
use FindingKind as F;

const WAIT_WGMMA: &str = "wgmma.wait_group.sync.aligned 0;";
const LOAD: &str = "cp.async.bulk.tensor.2d.shared::cluster";

/// All of them.
pub(crate) const MUTATIONS: &[Mutation] = &[
    // gemm: TMA into slots, wgmma out of them, full and empty mbarriers, setmaxnreg.
    bug(
        "gemm",
        "the consumers' arrival is dropped",
        &[Drop("mbarrier.arrive.shared::cta.b64 _", 1)],
        F::Deadlock,
        "mbarrier_wait(&s.empty[slot]",
    ),
    bug(
        "gemm",
        "the consumers' arrival is doubled",
        &[Double("mbarrier.arrive.shared::cta.b64 _", 1)],
        F::PhaseOverrun,
        "mbarrier_arrive(&s.empty[slot])",
    ),
    bug(
        "gemm",
        "the producer waits for the other parity",
        &[
            Drop("not.b32", 1),
            Swap("and.b32  \t%r101, %r113, 1;", 1, "and.b32  \t%r101, %r112, 1;"),
        ],
        F::Deadlock,
        "mbarrier_wait(&s.empty[slot]",
    ),
    bug(
        "gemm",
        "the consumers wait for the other parity",
        &[Swap(
            "and.b32  \t%r32, %r35, 1;",
            1,
            "and.b32  \t%r32, %r35, 1;\nxor.b32 %r32, %r32, 1;",
        )],
        F::Race,
        "wgmma_m64n64k16<0, 0>(d, a, b);",
    ),
    bug(
        "gemm",
        "too many bytes are announced",
        &[Swap("24576", 1, "24592")],
        F::TransactionCount,
        "mbarrier_arrive_expect_tx(&s.full[slot]",
    ),
    bug(
        "gemm",
        "too few bytes are announced",
        &[Swap("24576", 1, "24560")],
        F::TransactionCount,
        "tma_load_2d(s.b[slot]",
    ),
    bug(
        "gemm",
        "no bytes are announced",
        &[Swap(
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r102], %r103;",
            1,
            "mbarrier.arrive.shared::cta.b64 _, [%r102];",
        )],
        F::TransactionCount,
        "tma_load_2d(s.a[slot]",
    ),
    bug(
        "gemm",
        "the wait for the wgmmas is dropped",
        &[Drop(WAIT_WGMMA, 1)],
        F::InFlightAccumulator,
        "*(float2 *)at = make_float2",
    ),
    bug(
        "gemm",
        "the wait for the wgmmas leaves one group",
        &[Swap(WAIT_WGMMA, 1, "wgmma.wait_group.sync.aligned 1;")],
        F::Race,
        "tma_load_2d(s.a[slot]",
    ),
    bug(
        "gemm",
        "the slot is freed before the wgmmas are waited for",
        &[Drop(WAIT_WGMMA, 1), Before("add.s32 \t%r123, %r123, 1;", 1, WAIT_WGMMA)],
        F::Race,
        "tma_load_2d(s.a[slot]",
    ),
    bug(
        "gemm",
        "the wgmmas are not committed",
        &[Drop("wgmma.commit_group", 1)],
        F::InFlightAccumulator,
        "*(float2 *)at = make_float2",
    ),
    bug(
        "gemm",
        "wgmma.fence is dropped",
        &[Drop("wgmma.fence.sync.aligned", 1)],
        F::MissingWgmmaFence,
        "wgmma_m64n64k16<0, 0>(d, a, b);",
    ),
    bug(
        "gemm",
        "the barrier of all threads is dropped",
        &[Drop("bar.sync \t0;", 1)],
        F::Race,
        "mbarrier_wait(&s.full[slot]",
    ),
    bug(
        "gemm",
        "the empty barrier expects one arrival",
        &[Swap("mov.u32 \t%r25, 2;", 1, "mov.u32 \t%r25, 1;")],
        F::PhaseOverrun,
        "mbarrier_arrive(&s.empty[slot])",
    ),
    bug(
        "gemm",
        "the empty barrier expects three arrivals",
        &[Swap("mov.u32 \t%r25, 2;", 1, "mov.u32 \t%r25, 3;")],
        F::Deadlock,
        "mbarrier_wait(&s.empty[slot]",
    ),
    bug(
        "gemm",
        "the consumers do not wait for the data",
        &[Drop("mbarrier.try_wait", 1), Drop("@!done bra AGAIN;", 1)],
        F::Race,
        "wgmma_m64n64k16<0, 0>(d, a, b);",
    ),
    bug(
        "gemm",
        "the producer does not wait for the slot",
        &[Drop("mbarrier.try_wait", 2), Drop("@!done bra AGAIN;", 2)],
        F::Race,
        "tma_load_2d(s.a[slot]",
    ),
    bug(
        "gemm",
        "a barrier is initialised twice",
        &[Swap("[%r16], %r25;", 1, "[%r14], %r25;")],
        F::MbarrierMisuse,
        "mbarrier_init(&s.empty[i], 2)",
    ),
    bug(
        "gemm",
        "more registers are asked for than there are",
        &[Swap("setmaxnreg.inc.sync.aligned.u32 232", 1, "setmaxnreg.inc.sync.aligned.u32 256")],
        F::Deadlock,
        "setmaxnreg_inc<232>();",
    ),
    bug(
        "gemm",
        "setmaxnreg is executed by some lanes only",
        &[Swap(
            "setmaxnreg.dec.sync.aligned.u32 40;",
            1,
            "@%p1 setmaxnreg.dec.sync.aligned.u32 40;",
        )],
        F::Divergence,
        "setmaxnreg_dec<40>();",
    ),
    bug(
        "gemm",
        "a store goes out of bounds",
        &[Swap("[%rd31+224]", 1, "[%rd31+65760]")],
        F::OutOfBounds,
        "*(float2 *)(at + 8 * n)",
    ),
    bug(
        "gemm",
        "a vector store is misaligned",
        &[Swap("[%rd29+32]", 1, "[%rd29+36]")],
        F::Misaligned,
        "*(float2 *)at = make_float2",
    ),
    bug(
        "gemm",
        "two blocks write the same tile",
        &[Swap("mov.u32 \t%r88, %ctaid.x;", 1, "mov.u32 \t%r88, 0;")],
        F::Race,
        "*(float2 *)at = make_float2",
    ),
    bug(
        "gemm",
        "the copy goes to an odd multiple of 16 bytes",
        &[Swap("add.s32 \t%r108, %r121, 49152;", 1, "add.s32 \t%r108, %r121, 49168;")],
        F::Misaligned,
        "tma_load_2d(s.b[slot]",
    ),
    bug(
        "gemm",
        "the descriptor of B is behind shared memory",
        &[Swap("add.s32 \t%r68, %r49, 49248;", 1, "add.s32 \t%r68, %r49, 75000;")],
        F::OutOfBounds,
        "wgmma_m64n64k16<0, 0>(d, a, b);",
    ),
    bug(
        "gemm",
        "warps of a warpgroup have different descriptors",
        &[Swap("and.b32  \t%r43, %r42, -8192;", 1, "and.b32  \t%r43, %r42, -2048;")],
        F::WgmmaMismatch,
        "wgmma_m64n64k16<0, 0>(d, a, b);",
    ),
    host(
        "gemm",
        "the box of A is one row too high",
        HostBug::Box(0, 1),
        Finding(F::TransactionCount, "mbarrier_arrive_expect_tx(&s.full[slot]"),
    ),
    host(
        "gemm",
        "the box of A is one row too low",
        HostBug::Box(0, -1),
        Finding(F::TransactionCount, "mbarrier_arrive_expect_tx(&s.full[slot]"),
    ),
    host("gemm", "the map of B does not swizzle", HostBug::Swizzle(1, Swizzle::None), WrongResult),
    // gemm_mn_major: descriptors with the other dimension contiguous.
    wrong(
        "gemm_mn_major",
        "LBO and SBO are swapped",
        &[Swap("4611686293338849280", 2, "4611694814553964608")],
    ),
    bug(
        "gemm_mn_major",
        "the second half of B is not copied",
        &[Drop(LOAD, 3), Swap("24576;", 1, "16384;")],
        F::UninitialisedShared,
        "wgmma_m64n128k16<1, 1>(d, da, db)",
    ),
    wrong(
        "gemm_mn_major",
        "the descriptor has no swizzle",
        &[Swap("4611686293338849280", 1, "274911461376")],
    ),
    wrong(
        "gemm_mn_major",
        "the operands are taken for K-major",
        &[Swap("p, 1, 1, 1, 1;", 1, "p, 1, 1, 0, 0;")],
    ),
    bug(
        "gemm_mn_major",
        "a warp does not free the slot",
        &[Swap("setp.ne.s32 \t%p4, %r3, 0;", 1, "setp.ne.s32 \t%p4, %r1, 0;")],
        F::Deadlock,
        "mbarrier_wait(&s.empty[slot]",
    ),
    bug(
        "gemm_mn_major",
        "the copying warp leaves the slots it filled last",
        &[Swap("setp.lt.s32 \t%p8, %r124, %r11;", 1, "setp.le.s32 \t%p8, %r124, %r11;")],
        F::ClusterExit,
        "tma_load_2d(s.b[slot][1]",
    ),
    // cluster: multicast, remote arrivals, distributed shared memory.
    bug(
        "cluster",
        "the blocks do not meet before the first copy",
        &[Drop("barrier.cluster.arrive", 1), Drop("barrier.cluster.wait", 1)],
        F::MbarrierMisuse,
        "tma_load_2d_multicast",
    ),
    bug(
        "cluster",
        "a block leaves while its memory is read",
        &[Drop("barrier.cluster.arrive", 3), Drop("barrier.cluster.wait", 3)],
        F::ClusterExit,
        "sums[blockIdx.x / 2] = s.sum",
    ),
    bug(
        "cluster",
        "the sum is read before the blocks meet",
        &[Drop("barrier.cluster.arrive", 2), Drop("barrier.cluster.wait", 2)],
        F::Race,
        "sums[blockIdx.x / 2] = s.sum",
    ),
    bug(
        "cluster",
        "the barrier of the cluster is not waited for",
        &[Drop("barrier.cluster.wait", 2)],
        F::BarrierMisuse,
        "cluster_sync();#3",
    ),
    bug(
        "cluster",
        "the slot is freed in the own block only",
        &[Swap("setp.gt.u32 \t%p5, %r4, 1;", 1, "setp.ne.u32 \t%p5, %r4, %r27;")],
        F::Deadlock,
        "mbarrier_wait_cluster(&s.empty[slot]",
    ),
    bug(
        "cluster",
        "the copy goes to the own block only",
        &[Swap("mov.u16 \t%rs1, 3;", 1, "mov.u16 \t%rs1, 1;")],
        F::Deadlock,
        "mbarrier_wait(&s.full[slot]",
    ),
    bug(
        "cluster",
        "the copy goes to a block that does not exist",
        &[Swap("mov.u16 \t%rs1, 3;", 1, "mov.u16 \t%rs1, 7;")],
        F::OutOfBounds,
        "tma_load_2d_multicast",
    ),
    bug(
        "cluster",
        "lanes free the slot while others read it",
        &[Drop("bar.warp.sync", 1)],
        F::Race,
        "total += s.a[slot]",
    ),
    bug(
        "cluster",
        "the partial sums are not waited for",
        &[Drop("bar.sync %r107, %r113;", 1)],
        F::Race,
        "s.sum = s.part[0]",
    ),
    bug(
        "cluster",
        "the named barrier expects a warp too many",
        &[Swap("mov.u32 \t%r113, 64;", 1, "mov.u32 \t%r113, 96;")],
        F::Deadlock,
        "bar_sync(1, 64)",
    ),
    bug(
        "cluster",
        "a shuffle reads from a lane that left",
        &[Before("shfl.sync.bfly.b32 \t%r108", 1, "@%p5 bra $L__BB0_12;")],
        F::Deadlock,
        "total += __shfl_xor_sync",
    ),
    host("cluster", "the tensor of A has fewer rows", HostBug::Rows(0, 1), WrongResult),
    // attention: A from registers, named barriers in turn, shuffles, the result through shared memory.
    bug(
        "attention",
        "fence.proxy.async is dropped",
        &[Drop("fence.proxy.async", 1)],
        F::MissingProxyFence,
        "tma_store_2d(&o",
    ),
    bug(
        "attention",
        "fence.proxy.async is of global memory",
        &[Swap("fence.proxy.async.shared::cta", 1, "fence.proxy.async.global")],
        F::MissingProxyFence,
        "tma_store_2d(&o",
    ),
    bug(
        "attention",
        "fence.proxy.async comes before the tile is written",
        &[
            Drop("fence.proxy.async", 1),
            Before("st.shared.u32 \t[%r186], %r140;", 1, "fence.proxy.async.shared::cta;"),
        ],
        F::MissingProxyFence,
        "tma_store_2d(&o",
    ),
    bug(
        "attention",
        "the warpgroup does not meet before the tile goes out",
        &[Drop("bar.sync %r156, %r157;", 1)],
        F::Race,
        "tma_store_2d(&o",
    ),
    bug(
        "attention",
        "the block ends before the tile is read",
        &[Drop("cp.async.bulk.wait_group.read", 1)],
        F::ClusterExit,
        "tma_store_2d(&o",
    ),
    bug(
        "attention",
        "the store is not committed",
        &[Drop("cp.async.bulk.commit_group", 1)],
        F::ClusterExit,
        "tma_store_2d(&o",
    ),
    bug(
        "attention",
        "the wait for the scores is dropped",
        &[Drop(WAIT_WGMMA, 1)],
        F::InFlightAccumulator,
        "p[i] *= scale;",
    ),
    bug(
        "attention",
        "the wait for the output is dropped",
        &[Drop(WAIT_WGMMA, 2)],
        F::InFlightAccumulator,
        "unsigned value = pack(out",
    ),
    bug(
        "attention",
        "the fence before the second product is dropped",
        &[Drop("wgmma.fence.sync.aligned", 2)],
        F::MissingWgmmaFence,
        "wgmma_m64n64k16_ra<1>(out",
    ),
    bug(
        "attention",
        "V is not waited for",
        &[Drop("mbarrier.try_wait", 3), Drop("@!done bra AGAIN;", 3)],
        F::Race,
        "wgmma_m64n64k16_ra<1>(out",
    ),
    bug(
        "attention",
        "Q is not waited for",
        &[Drop("mbarrier.try_wait", 1), Drop("@!done bra AGAIN;", 1)],
        F::Race,
        "wgmma_m64n64k16<0, 0>(p",
    ),
    bug(
        "attention",
        "the first turn is given to nobody",
        &[Drop("bar.arrive %r32, %r33;", 1)],
        F::Deadlock,
        "bar_sync(1 + group, 256)",
    ),
    bug(
        "attention",
        "the turn is kept",
        &[Drop("bar.arrive %r5, %r55;", 1)],
        F::Deadlock,
        "bar_sync(1 + group, 256)",
    ),
    bug(
        "attention",
        "two named barriers have one number",
        &[Swap("bar.arrive %r5, %r55;", 1, "bar.arrive %r2, %r55;")],
        F::BarrierMisuse,
        "bar_sync(1 + group, 256)",
    ),
    bug(
        "attention",
        "participants disagree about a named barrier",
        &[Swap("mov.u32 \t%r33, 256;", 1, "mov.u32 \t%r33, 384;")],
        F::BarrierMisuse,
        "bar_arrive(1, 256)",
    ),
    bug(
        "attention",
        "K and V arrive on one barrier",
        &[Swap("[%rd41, {%r266, %r285}], [%r263];", 1, "[%rd41, {%r266, %r285}], [%r257];")],
        F::TransactionCount,
        "tma_load_2d(s.v[slot]",
    ),
    bug(
        "attention",
        "a shuffle takes only half of the lanes",
        &[Swap("mov.u32 \t%r113, -1;", 1, "mov.u32 \t%r113, 65535;")],
        F::Undefined,
        "most[h] = row_max",
    ),
    // mma_gemm: cp.async, ldmatrix, mma.sync.
    bug(
        "mma_gemm",
        "the wait leaves one group too many",
        &[Swap("cp.async.wait_group 1;", 1, "cp.async.wait_group 2;")],
        F::Race,
        "ldmatrix_x4(fa[j]",
    ),
    bug(
        "mma_gemm",
        "the wait is dropped",
        &[Drop("cp.async.wait_group", 1)],
        F::Race,
        "ldmatrix_x4(fa[j]",
    ),
    bug(
        "mma_gemm",
        "the barrier is dropped",
        &[Drop("bar.sync \t0;", 1)],
        F::Race,
        "ldmatrix_x4(fa[j]",
    ),
    bug(
        "mma_gemm",
        "a commit is dropped",
        &[Drop("cp.async.commit_group", 3)],
        F::Race,
        "ldmatrix_x4(fa[j]",
    ),
    bug(
        "mma_gemm",
        "the slot is filled while it is read",
        &[Swap("add.s32 \t%r48, %r61, 10240;", 1, "add.s32 \t%r48, %r61, 0;")],
        F::Race,
        "cp_async_16(s.a[slot]",
    ),
    bug(
        "mma_gemm",
        "half of a row is not copied",
        &[Drop("cp.async.cg.shared.global [%r28]", 1)],
        F::UninitialisedShared,
        "ldmatrix_x4(fa[j]",
    ),
    bug(
        "mma_gemm",
        "a row of a matrix is misaligned",
        &[Swap("add.s32 \t%r76, %r66, 1280;", 1, "add.s32 \t%r76, %r66, 1288;")],
        F::Misaligned,
        "ldmatrix_x4(fa[j]",
    ),
    bug(
        "mma_gemm",
        "a copy reads behind the matrix",
        &[Swap("setp.ge.s32 \t%p4, %r237, %r2;", 1, "setp.gt.s32 \t%p4, %r237, %r2;")],
        F::OutOfBounds,
        "cp_async_16(s.a[slot]",
    ),
    bug(
        "mma_gemm",
        "mma.sync is executed by some lanes only",
        &[
            Swap("ldmatrix.sync", 1, "@%p1 ldmatrix.sync"),
            Swap("setp.lt.s32 \t%p1, %r12, 32;", 1, "setp.lt.u32 \t%p1, %r1, 16;"),
        ],
        F::Divergence,
        "ldmatrix_x4(fa[j]",
    ),
    // reduce: shuffles, shared and global memory.
    bug(
        "reduce",
        "the barrier of the block is dropped",
        &[Drop("bar.sync \t0;", 1)],
        F::Race,
        "sums[lane] += sums[lane + 4];",
    ),
    bug(
        "reduce",
        "the barrier of the warp is dropped",
        &[Drop("bar.warp.sync", 1)],
        F::Race,
        "float total = sums[0]",
    ),
    bug(
        "reduce",
        "the flag is not waited for",
        &[Drop("bar.sync \t0;", 2)],
        F::Race,
        "if (!last) return;",
    ),
    bug(
        "reduce",
        "the fence before the counter is dropped",
        &[Drop("membar.gl;", 1)],
        F::Race,
        "total += parts[2 * i];",
    ),
    bug(
        "reduce",
        "the fence after the counter is dropped",
        &[Drop("membar.gl;", 2)],
        F::Race,
        "total += parts[2 * i];",
    ),
    bug(
        "reduce",
        "the counter is not atomic",
        &[Swap(
            "atom.global.add.u32 \t%r65, [%rd17], 1;",
            1,
            "ld.global.u32 %r65, [%rd17];\nadd.u32 %r68, %r65, 1;\nst.global.u32 [%rd17], %r68;",
        )],
        F::Race,
        "last = atomicAdd",
    ),
    bug(
        "reduce",
        "a warp's part is not written",
        &[Swap("setp.ne.s32 \t%p13, %r104, 0;", 1, "setp.ne.s32 \t%p13, %r19, 0;")],
        F::UninitialisedShared,
        "sums[lane] += sums[lane + 4];",
    ),
    bug(
        "reduce",
        "the barrier is reached by some lanes only",
        &[Swap("bar.sync \t0;", 2, "@%p13 bar.sync \t0;")],
        F::Divergence,
        "__syncthreads();#2",
    ),
    bug(
        "reduce",
        "a shuffle names lanes that are elsewhere",
        &[Before("shfl.sync.bfly.b32 \t%r77", 1, "@%p21 bra $L__BB0_20;")],
        F::Undefined,
        "total += __shfl_xor_sync",
    ),
    bug(
        "reduce",
        "a load of four is misaligned",
        &[Swap(
            "ld.global.v4.f32 \t{%f29, %f30, %f31, %f32}, [%rd14];",
            1,
            "ld.global.v4.f32 \t{%f29, %f30, %f31, %f32}, [%rd14+4];",
        )],
        F::Misaligned,
        "float4 v = x[i];",
    ),
    bug(
        "reduce",
        "the last elements are read twice as far",
        &[Swap("setp.lt.s32 \t%p2, %r101, %r4;", 1, "setp.le.s32 \t%p2, %r101, %r4;")],
        F::OutOfBounds,
        "float4 v = x[i];",
    ),
    bug(
        "reduce",
        "a register is not set on every path",
        &[Drop("mov.f32 \t%f124, 0f00000000;", 1), Drop("mov.f32 \t%f124, 0f00000000;", 1)],
        F::UninitialisedRegister,
        "sum += v.x",
    ),
];
