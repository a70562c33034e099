//! What a launch tells: findings, counters, printed text.

use std::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Slow, not wrong.
    Warning,
    /// Wrong, or undefined by the ISA.
    Error,
}

/// What kind of bug was found. The list is closed, so that tests and dashboards can name each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FindingKind {
    /// Nothing can go on: warps wait for what nobody will do.
    Deadlock,
    /// The instruction budget was used up.
    Endless,
    /// A register is read that was not written.
    UninitialisedRegister,
    /// Shared memory is read that was not written.
    UninitialisedShared,
    /// Global memory is read that was not written.
    UninitialisedGlobal,
    /// An access outside of every allocation or of the block's shared memory.
    OutOfBounds,
    /// An address that is not a multiple of what the access needs.
    Misaligned,
    /// A write to constant or parameter memory.
    ReadOnly,
    /// Two accesses, at least one a write, with nothing that orders them.
    Race,
    /// Ordered, but without the proxy fence that async accesses need (PTX ISA 8.6).
    MissingProxyFence,
    /// A register of a wgmma that is still in flight is touched (PTX ISA 9.7.15.7).
    InFlightAccumulator,
    /// `wgmma.fence` is missing before a wgmma.
    MissingWgmmaFence,
    /// Warps of a warpgroup disagree about a wgmma.
    WgmmaMismatch,
    /// A matrix or tensor descriptor that the hardware would not take.
    BadDescriptor,
    /// Bytes announced by expect_tx and bytes that arrive do not agree.
    TransactionCount,
    /// A phase of an mbarrier ended without a wait before the next arrives, or more arrivals than
    /// expected came.
    PhaseOverrun,
    /// Another misuse of an mbarrier: not initialised, initialised twice, wrong parity, plain access.
    MbarrierMisuse,
    /// Misuse of a named barrier.
    BarrierMisuse,
    /// An `.aligned` or `.sync` instruction that not all its threads reach.
    Divergence,
    /// A block left while others of its cluster, or copies under way, may still use its shared memory.
    ClusterExit,
    /// Misuse of `setmaxnreg`.
    SetMaxRegisters,
    /// A value that the ISA leaves undefined is used: shuffles from lanes that take no part, and so on.
    Undefined,
    /// `trap`, a failed `assert`, or an instruction that cannot be executed.
    Trap,
    /// Threads of a warp hit one bank of shared memory with different words.
    BankConflict,
    /// Threads of a warp touch more sectors of global memory than their bytes need.
    Uncoalesced,
}

impl FindingKind {
    /// How bad it is.
    pub fn severity(self) -> Severity {
        match self {
            FindingKind::BankConflict | FindingKind::Uncoalesced => Severity::Warning,
            _ => Severity::Error,
        }
    }

    /// Short name for people and machines: `missing-proxy-fence`.
    pub fn name(self) -> &'static str {
        match self {
            FindingKind::Deadlock => "deadlock",
            FindingKind::Endless => "endless",
            FindingKind::UninitialisedRegister => "uninitialised-register",
            FindingKind::UninitialisedShared => "uninitialised-shared",
            FindingKind::UninitialisedGlobal => "uninitialised-global",
            FindingKind::OutOfBounds => "out-of-bounds",
            FindingKind::Misaligned => "misaligned",
            FindingKind::ReadOnly => "read-only",
            FindingKind::Race => "race",
            FindingKind::MissingProxyFence => "missing-proxy-fence",
            FindingKind::InFlightAccumulator => "in-flight-accumulator",
            FindingKind::MissingWgmmaFence => "missing-wgmma-fence",
            FindingKind::WgmmaMismatch => "wgmma-mismatch",
            FindingKind::BadDescriptor => "bad-descriptor",
            FindingKind::TransactionCount => "transaction-count",
            FindingKind::PhaseOverrun => "phase-overrun",
            FindingKind::MbarrierMisuse => "mbarrier-misuse",
            FindingKind::BarrierMisuse => "barrier-misuse",
            FindingKind::Divergence => "divergence",
            FindingKind::ClusterExit => "cluster-exit",
            FindingKind::SetMaxRegisters => "setmaxnreg",
            FindingKind::Undefined => "undefined",
            FindingKind::Trap => "trap",
            FindingKind::BankConflict => "bank-conflict",
            FindingKind::Uncoalesced => "uncoalesced",
        }
    }
}

/// A place in a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceLine {
    /// CUDA source and line, where the module was compiled with line information.
    pub source: Option<(String, u32)>,
    /// Where the function of that line was inlined, the innermost place first.
    pub inlined_at: Vec<(String, u32)>,
    /// Line of the PTX text.
    pub ptx_line: u32,
    /// The instruction.
    pub instruction: String,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, line)) = &self.source {
            write!(f, "{file}:{line}")?;
            for (file, line) in &self.inlined_at {
                write!(f, ", inlined at {file}:{line}")?;
            }
            write!(f, " ")?;
        }
        write!(f, "(PTX line {}: {})", self.ptx_line, self.instruction)
    }
}

/// Who did something: threads at a place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Party {
    /// `%ctaid`.
    pub cta: [u32; 3],
    /// Warp of the block.
    pub warp: u32,
    /// Lanes of the warp, a bit each.
    pub lanes: u32,
    /// Where.
    pub at: SourceLine,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.cta;
        write!(f, "block ({x}, {y}, {z}) warp {} ", self.warp)?;
        match (self.lanes, self.lanes.count_ones()) {
            (u32::MAX, _) => write!(f, "all lanes")?,
            (mask, 1) => write!(f, "lane {}", mask.trailing_zeros())?,
            (mask, _) => write!(f, "lanes {mask:#010x}")?,
        }
        write!(f, " at {}", self.at)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What kind.
    pub kind: FindingKind,
    /// The kernel.
    pub kernel: String,
    /// What was wrong and what to do, without the place.
    pub message: String,
    /// Who ran into it.
    pub party: Party,
    /// The other side of a race or a mismatch.
    pub other: Option<Party>,
    /// The address, where there is one.
    pub address: Option<u64>,
    /// How often the same was found at the same place.
    pub count: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}\n  in `{}`, {}",
            self.kind.name(),
            self.message,
            self.kernel,
            self.party
        )?;
        if let Some(other) = &self.other {
            write!(f, "\n  against {other}")?;
        }
        if self.count > 1 {
            write!(f, "\n  {} times", self.count)?;
        }
        Ok(())
    }
}

/// What happened in a launch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Findings in the order of blocks, equal ones counted.
    pub findings: Vec<Finding>,
    /// Findings beyond the limit.
    pub dropped: u64,
    /// Warp instructions executed.
    pub warp_instructions: u64,
    /// Lane instructions executed.
    pub lane_instructions: u64,
    /// `wgmma.mma_async` executed by whole warpgroups.
    pub wgmmas: u64,
    /// What the kernel printed.
    pub printed: String,
}

impl Report {
    /// Findings that are errors.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|f| f.kind.severity() == Severity::Error)
    }

    /// Whether nothing wrong was found; warnings do not count.
    pub fn is_clean(&self) -> bool {
        self.errors().next().is_none()
    }
}
