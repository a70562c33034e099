//! Decoded instructions: what a warp executes.

use zeroforge_ptx::StateSpace;

use crate::machine::context::Cx;
use crate::machine::warp::Warp;
use crate::ops;

/// Executes one decoded instruction for the lanes in [`Warp::mask`].
pub(crate) type Exec = fn(&Inst, &mut Warp, &mut Cx<'_>) -> Step;

/// What follows an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The next instruction.
    Next,
    /// The instruction set the warp's `pc`, `active` and fragments itself.
    Moved,
    /// The current fragment waits; [`Warp::wait`] says for what. `pc` stays: the instruction runs again
    /// when the wait ends, unless it moved `pc` itself.
    Wait,
    /// The launch is over: a trap.
    Stop,
}

/// No guard.
pub(crate) const NO_GUARD: u32 = u32::MAX;
/// No register: an operand that is not there.
pub(crate) const NO_REGISTER: u32 = u32::MAX;

/// A decoded instruction. Registers are indices into the files of their class; constants lie behind the
/// registers, so that every source is an index.
pub(crate) struct Inst {
    pub(crate) exec: Exec,
    /// Index of the guard's predicate, or [`NO_GUARD`].
    pub(crate) guard: u32,
    pub(crate) guard_negated: bool,
    /// Whether it runs with an empty mask: branches, which move `pc` themselves, and barriers.
    pub(crate) always: bool,
    /// Destination, second destination.
    pub(crate) d: u32,
    pub(crate) e: u32,
    /// Sources.
    pub(crate) a: u32,
    pub(crate) b: u32,
    pub(crate) c: u32,
    /// A number: immediate, branch target, shift, table.
    pub(crate) imm: u64,
    /// What does not fit above.
    pub(crate) detail: Detail,
    /// Registers to check for initialisation, and registers to mark, as indices of tracked registers; see
    /// `program::tracked`. None for nearly all.
    pub(crate) tracked: Option<Box<Tracked>>,
    /// Registers of the kernel's wgmmas that it touches. None for nearly all.
    pub(crate) wgmma: Option<Box<ops::wgmma::watch::Touch>>,
}

/// Registers whose initialisation is not certain at decode time.
#[derive(Debug, Default)]
pub(crate) struct Tracked {
    /// The guard.
    pub(crate) guard: Vec<u32>,
    pub(crate) reads: Vec<u32>,
    pub(crate) writes: Vec<u32>,
    /// Of a copy: what is written is known where these are.
    pub(crate) copied: Vec<u32>,
}

impl Inst {
    pub(crate) fn new(exec: Exec) -> Inst {
        Inst {
            exec,
            guard: NO_GUARD,
            guard_negated: false,
            always: false,
            d: NO_REGISTER,
            e: NO_REGISTER,
            a: NO_REGISTER,
            b: NO_REGISTER,
            c: NO_REGISTER,
            imm: 0,
            detail: Detail::None,
            tracked: None,
            wgmma: None,
        }
    }
}

/// The operands of instructions that have more than registers.
pub(crate) enum Detail {
    None,
    Memory(Box<ops::memory::MemoryOp>),
    Atomic(Box<ops::atomic::AtomicOp>),
    Mbarrier(Box<ops::mbarrier::MbarrierOp>),
    Tma(Box<ops::tma::TmaOp>),
    Tensormap(Box<ops::tensormap::TensormapOp>),
    Bulk(Box<ops::bulk::BulkOp>),
    CpAsync(Box<ops::cp_async::CpAsyncOp>),
    Wgmma(Box<ops::wgmma::WgmmaOp>),
    Mma(Box<ops::mma::MmaOp>),
    Matrix(Box<ops::matrix::MatrixOp>),
    Convert(Box<ops::convert::ConvertOp>),
    Barrier(Box<ops::barrier::BarrierOp>),
    Compare(Box<ops::compare::CompareOp>),
    Special(zeroforge_ptx::SpecialRegister),
    /// Registers of vectors: `mov.b64 {a, b}, r`.
    Registers(Box<[Value]>),
    /// Branch targets of `brx.idx`.
    Targets(Box<[u32]>),
    Call(Box<ops::call::CallOp>),
}

/// A register or constant with its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// `r32`: 32-bit registers and, zero-extended, 8- and 16-bit ones.
    R32(u32),
    R64(u32),
    /// Two 64-bit registers, low half first.
    R128(u32),
    Pred(u32),
    Sink,
}

/// A memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addr {
    pub(crate) base: AddrBase,
    pub(crate) offset: i64,
}

/// What an address starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddrBase {
    R32(u32),
    R64(u32),
    /// The offset is the whole address.
    Fixed,
}

impl Addr {
    /// Address of a lane, in the space of the access.
    #[inline]
    pub(crate) fn lane(&self, warp: &Warp, lane: usize) -> u64 {
        let base = match self.base {
            AddrBase::R32(r) => u64::from(warp.r32[r as usize][lane]),
            AddrBase::R64(r) => warp.r64[r as usize][lane],
            AddrBase::Fixed => 0,
        };
        base.wrapping_add(self.offset as u64)
    }
}

/// Where a symbol lies, as an address in its own space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SymbolPlace {
    pub(crate) space: StateSpace,
    pub(crate) address: u64,
}
