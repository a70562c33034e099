//! The checkers: what a kernel does is watched, and what the ISA forbids or leaves undefined is reported.
//!
//! [`clock`] says what happened before what; [`race`] uses it on shared memory, [`global`] on global memory;
//! [`register`] watches registers; [`bank`] counts what is slow. Rules of single instructions are checked
//! where the instruction is executed (`ops`).

pub(crate) mod bank;
pub(crate) mod clock;
pub(crate) mod global;
pub(crate) mod order;
pub(crate) mod race;
pub(crate) mod register;
pub(crate) mod runs;
pub(crate) mod shadow;
pub(crate) mod summary;

use crate::machine::context::Cx;
use crate::machine::warp::{Lanes64, Warp};

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    /// Read and write in one, ordered with other atomics on the same bytes.
    Atomic,
}

/// Which proxy an access goes through (PTX ISA 8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proxy {
    Generic,
    Async,
}

/// An access of the lanes of a warp's mask, each `bytes` long at its address, inside its memory and aligned.
pub(crate) struct WarpAccess<'a> {
    pub(crate) kind: Kind,
    /// Global addresses, or shared addresses with the rank plus one above the offset.
    pub(crate) addresses: &'a Lanes64,
    pub(crate) lanes: u32,
    pub(crate) bytes: u32,
    /// A strong operation (relaxed, acquire, release, volatile): it may race with other strong ones.
    pub(crate) strong: bool,
    /// How the addresses are spaced, where all lanes take part and they are evenly.
    pub(crate) even: Option<runs::Even>,
}

impl<'a> WarpAccess<'a> {
    pub(crate) fn new(
        kind: Kind,
        addresses: &'a Lanes64,
        lanes: u32,
        bytes: u32,
        strong: bool,
    ) -> WarpAccess<'a> {
        let even = runs::even(addresses, lanes);
        WarpAccess { kind, addresses, lanes, bytes, strong, even }
    }

    /// As one stripe over memory, if it is one: for reads a place that all lanes read is one too.
    #[inline]
    pub(crate) fn stripe(&self) -> Option<runs::Even> {
        self.even.filter(|e| e.is_stripe(self.bytes) || e.step == 0 && self.kind == Kind::Read)
    }
}

/// An access of shared memory by a warp through the generic proxy. Returns the lanes that store where
/// another lane stores too: see [`race::stores_disagree`].
pub(crate) fn shared_access(cx: &mut Cx<'_>, warp: &mut Warp, access: &WarpAccess<'_>) -> u32 {
    if cx.env.options.checks.protocol {
        crate::ops::mbarrier_state::plain_access(cx, warp, access);
    }
    let mut checked = race::Checked::default();
    if cx.env.options.checks.races {
        checked = race::shared_access(cx, warp, access);
        if access.strong || access.kind == Kind::Atomic {
            order::strong_shared(cx, warp, access);
        }
    }
    // Bytes whose writer is not waited for are a race, not bytes that nobody wrote.
    if cx.env.options.checks.uninitialised && access.kind != Kind::Write && !checked.raced {
        race::uninitialised_shared(cx, warp, access);
    }
    if cx.env.options.checks.performance {
        bank::shared_access(cx, warp, access);
    }
    if access.kind == Kind::Read {
        return checked.twice;
    }
    if let Some(even) = access.stripe() {
        let (rank, offset) = crate::memory::window::split_shared(even.first as u32, cx.rank);
        let pattern = even.pattern(access.bytes);
        let len = even.span(access.bytes) as u32;
        cx.cluster.ctas[rank as usize].mark_pattern(offset, len, pattern);
    } else {
        runs::each_run(access, true, |run| {
            let (rank, offset) = crate::memory::window::split_shared(run.address as u32, cx.rank);
            cx.cluster.ctas[rank as usize].mark_written(offset, run.count * access.bytes);
        });
    }
    checked.twice
}

/// An access of global memory by a warp. Initialisation is checked and noted by the caller, who knows the
/// allocation. Returns the lanes that store where another lane stores too: see [`race::stores_disagree`].
pub(crate) fn global_access(cx: &mut Cx<'_>, warp: &mut Warp, access: &WarpAccess<'_>) -> u32 {
    let mut checked = race::Checked::default();
    if cx.env.options.checks.races {
        checked = global::access(cx, warp, access);
        if access.strong || access.kind == Kind::Atomic {
            order::strong_global(cx, warp, access);
        }
    }
    if cx.env.options.checks.performance {
        bank::global_access(cx, warp, access);
    }
    checked.twice
}

/// The lanes of a mask.
pub(crate) fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let lane = left.trailing_zeros();
        (lane < 32).then(|| {
            left &= left - 1;
            lane as usize
        })
    })
}
