//! The planted bugs: what is changed in the PTX of a kernel, and what must be found.

use zeroforge_emulator::tensor_map::Swizzle;
use zeroforge_emulator::{FindingKind, Schedule};

use crate::kernels::HostBug;

/// A change of the text. Occurrences count from 1.
#[derive(Clone, Copy, Debug)]
pub enum Edit {
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
    pub fn apply(&self, ptx: &str) -> Result<String, String> {
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
pub enum Expect {
    /// A finding of a kind, of which one party is at the line of the CUDA source that has this text.
    Finding(FindingKind, &'static str),
    /// Wrong results: for what is legal but not what was meant, such as a swizzle that differs between the
    /// copy and the product.
    WrongResult,
}

/// A planted bug.
pub struct Mutation {
    pub kernel: &'static str,
    pub name: &'static str,
    pub edits: &'static [Edit],
    pub host: HostBug,
    pub schedule: Schedule,
    pub expect: Expect,
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

/// All of them.
pub const MUTATIONS: &[Mutation] = &[
    // gemm: a pipeline of TMA and wgmma.
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
        F::Race,
        "wgmma_m64n64k16<0, 0>(d, a, b);",
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
        "too many bytes are announced",
        &[Swap("24576", 1, "24592")],
        F::Deadlock,
        "mbarrier_wait(&s.full[slot]",
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
        "the wait for the wgmmas is dropped",
        &[Drop("wgmma.wait_group.sync.aligned 0;", 1)],
        F::InFlightAccumulator,
        "*(float2 *)at = make_float2",
    ),
    bug(
        "gemm",
        "the wait for the wgmmas leaves one group",
        &[Swap("wgmma.wait_group.sync.aligned 0;", 1, "wgmma.wait_group.sync.aligned 1;")],
        F::Race,
        "tma_load_2d(s.a[slot]",
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
        "the slot is freed before the wgmmas are waited for",
        &[
            Drop("wgmma.wait_group.sync.aligned 0;", 1),
            Before("add.s32 \t%r123, %r123, 1;", 1, "wgmma.wait_group.sync.aligned 0;"),
        ],
        F::Race,
        "tma_load_2d(s.a[slot]",
    ),
    bug(
        "gemm",
        "the barrier of all threads is dropped",
        &[Drop("bar.sync \t0;", 1)],
        F::MbarrierMisuse,
        "mbarrier_wait(&s.full[slot]",
    ),
    bug(
        "gemm",
        "the barriers' initialisation is not fenced",
        &[Drop("fence.mbarrier_init", 1)],
        F::MbarrierMisuse,
        "tma_load_2d(s.a[slot]",
    ),
    bug(
        "gemm",
        "the empty barrier expects one arrival",
        &[Swap("mov.u32 \t%r25, 2;", 1, "mov.u32 \t%r25, 1;")],
        F::Race,
        "tma_load_2d(s.a[slot]",
    ),
    bug(
        "gemm",
        "the consumers do not wait for the data",
        &[Drop("mbarrier.try_wait", 1), Swap("@!done bra AGAIN;", 1, "")],
        F::Race,
        "wgmma_m64n64k16<0, 0>(d, a, b);",
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
        "a store goes out of bounds",
        &[Swap("st.global.v2.f32 \t[%rd31+224]", 1, "st.global.v2.f32 \t[%rd31+65760]")],
        F::OutOfBounds,
        "*(float2 *)(at + 8 * n)",
    ),
    bug(
        "gemm",
        "a vector store is misaligned",
        &[Swap("st.global.v2.f32 \t[%rd29+32]", 1, "st.global.v2.f32 \t[%rd29+36]")],
        F::Misaligned,
        "*(float2 *)at = make_float2",
    ),
    host(
        "gemm",
        "the box is one row too high",
        HostBug::Box(0, 1),
        Finding(F::TransactionCount, "tma_load_2d(s.a[slot]"),
    ),
    host("gemm", "the map of A swizzles 64 bytes", HostBug::Swizzle(1, Swizzle::None), WrongResult),
    // gemm_mn_major: descriptors.
    wrong("gemm_mn_major", "LBO and SBO are swapped", &[]),
];
