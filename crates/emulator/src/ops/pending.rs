//! Asynchronous work that is under way: copies between shared and global memory.
//!
//! A copy is checked when it is started and moves its bytes when it completes. By default that is as late as
//! a kernel can tell: copies that complete on an mbarrier when nothing else can run, copies of bulk groups
//! when a thread waits for them. Bulk groups complete in two steps, as the ISA has it: the source is read
//! (`wait_group.read`), the target is written (`wait_group`).

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use crate::machine::context::{ClusterState, Env, Who};
use crate::machine::cta::Cta;
use crate::ops::bulk_copy::{self, Reduction};
use crate::ops::cp_async::LaneCopies;
use crate::ops::mbarrier::Place;
use crate::ops::mbarrier_state::{self, Arrival};
use crate::ops::tma_copy::{self, Tile};
use crate::options::Schedule;
use crate::report::FindingKind;
use crate::tensor_map::{TENSOR_MAP_BYTES, TensorMap};

/// Work in the order in which it was started.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    queue: VecDeque<Work>,
    /// Decoded tensor maps by generic address, with the bytes that they were decoded from.
    pub(crate) maps: HashMap<u64, ([u8; TENSOR_MAP_BYTES], Rc<TensorMap>)>,
}

/// A range of one block's shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedRange {
    pub(crate) rank: u32,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// What is to be moved.
#[derive(Debug)]
pub(crate) enum Transfer {
    /// Global to shared memory.
    Load { from: u64, to: SharedRange },
    /// A box of a tensor to shared memory.
    TileLoad { tile: Tile, to: SharedRange },
    /// Shared to global memory.
    Store { from: SharedRange, to: u64, reduction: Option<Reduction> },
    /// Shared memory to a box of a tensor.
    TileStore { tile: Tile, from: SharedRange, reduction: Option<Reduction> },
    /// Shared memory to that of another block.
    Shared { from: SharedRange, to: SharedRange, reduction: Option<Reduction> },
    /// Registers to shared memory: `st.async`, `red.async`.
    Values { bytes: [u8; 32], to: SharedRange, reduction: Option<Reduction> },
    /// `cp.async` of lanes of a warp, which arrive at mbarriers when all are there.
    LaneCopies { copies: Vec<LaneCopies>, arrivals: Vec<Place> },
}

/// How completion is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Bytes on an mbarrier. The phase is that in which the copy was started.
    Mbarrier { place: Place, bytes: u32, phase: u32 },
    /// The bulk group of a thread.
    Group { actor: u32, lane: u32, group: u32 },
    /// By arrivals alone.
    Arrivals { actor: u32 },
}

/// A piece of work.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) who: Who,
    pub(crate) transfer: Transfer,
    pub(crate) signal: Signal,
    /// The source, once it is read.
    pub(crate) read: Option<Vec<u8>>,
}

impl Work {
    /// Block whose shared memory is written.
    fn writes(&self) -> Option<u32> {
        match &self.transfer {
            Transfer::Load { to, .. }
            | Transfer::TileLoad { to, .. }
            | Transfer::Shared { to, .. }
            | Transfer::Values { to, .. } => Some(to.rank),
            _ => None,
        }
    }
}

/// Starts work. It completes now if `at_once`.
pub(crate) fn start(state: &mut ClusterState, env: &Env<'_>, work: Work, at_once: bool) {
    match at_once {
        true => complete(state, env, work),
        false => state.pending.queue.push_back(work),
    }
}

/// Completes one piece of work: the oldest whose completion somebody may wait for, or with a random
/// schedule any. False if there is none.
pub(crate) fn complete_one(state: &mut ClusterState, env: &Env<'_>) -> bool {
    let queue = &state.pending.queue;
    let len = queue.len();
    if len == 0 {
        return false;
    }
    let at = match env.options.schedule {
        Schedule::Random(_) => state.random.below(len),
        // Groups are completed by who waits for them: nobody is woken by them.
        _ => queue.iter().position(|w| !matches!(w.signal, Signal::Group { .. })).unwrap_or(0),
    };
    let Some(work) = state.pending.queue.remove(at) else { return false };
    complete(state, env, work);
    true
}

/// Completes the work of bulk groups of a thread below `group`; with `read`, its sources are read only.
pub(crate) fn complete_groups(
    state: &mut ClusterState,
    env: &Env<'_>,
    thread: (u32, u32),
    group: u32,
    read: bool,
) {
    let mut at = 0;
    while at < state.pending.queue.len() {
        let ours = matches!(
            state.pending.queue[at].signal,
            Signal::Group { actor, lane, group: g } if (actor, lane) == thread && g < group
        );
        if !ours {
            at += 1;
        } else if read {
            let ClusterState { pending, ctas, .. } = &mut *state;
            read_source(ctas, &mut pending.queue[at]);
            at += 1;
        } else if let Some(work) = state.pending.queue.remove(at) {
            complete(state, env, work);
        }
    }
}

/// Completes the `cp.async` copies of a warp that went to an mbarrier.
pub(crate) fn complete_lane_copies(state: &mut ClusterState, env: &Env<'_>, warp: u32) {
    let mut at = 0;
    while at < state.pending.queue.len() {
        let ours =
            matches!(state.pending.queue[at].signal, Signal::Arrivals { actor } if actor == warp);
        match ours {
            true => {
                if let Some(work) = state.pending.queue.remove(at) {
                    complete(state, env, work);
                }
            }
            false => at += 1,
        }
    }
}

fn read_source(ctas: &[Cta], work: &mut Work) {
    if work.read.is_some() {
        return;
    }
    let from = match &work.transfer {
        Transfer::Store { from, .. }
        | Transfer::TileStore { from, .. }
        | Transfer::Shared { from, .. } => *from,
        _ => return,
    };
    let at = from.offset as usize;
    work.read = Some(ctas[from.rank as usize].shared[at..at + from.len as usize].to_vec());
}

fn complete(state: &mut ClusterState, env: &Env<'_>, mut work: Work) {
    read_source(&state.ctas, &mut work);
    let written = work.writes();
    let Work { who, transfer, signal, read } = work;
    let source = read.unwrap_or_default();
    if let Some(to) = written
        && env.options.checks.protocol
        && state.ctas[to as usize].live_threads == 0
        && to_other(state, to, who)
    {
        let cta = state.ctas[to as usize].id;
        state.findings.add(FindingKind::ClusterExit, who, None, None, || {
            format!("a copy into the shared memory of block ({}, {}, {}) arrives after all its threads have exited; end the kernel with a cluster barrier or wait for the copy there", cta[0], cta[1], cta[2])
        });
    }
    match &transfer {
        Transfer::Load { from, to } => bulk_copy::load(state, env, *from, *to),
        Transfer::TileLoad { tile, to } => tma_copy::load(state, env, tile, *to),
        Transfer::Store { to, reduction, .. } => {
            bulk_copy::store(env, &source, *to, *reduction);
        }
        Transfer::TileStore { tile, from, reduction } => {
            tma_copy::store(env, tile, *from, &source, *reduction);
        }
        Transfer::Shared { to, reduction, .. } => {
            bulk_copy::into_shared(state, &source, *to, *reduction);
        }
        Transfer::Values { bytes, to, reduction } => {
            bulk_copy::into_shared(state, &bytes[..to.len as usize], *to, *reduction);
        }
        Transfer::LaneCopies { copies, arrivals } => {
            for c in copies {
                crate::ops::cp_async::move_bytes(state, env, c);
            }
            let arrival = Arrival { count: 1, drop: false, no_complete: false };
            for &place in arrivals {
                mbarrier_state::arrive_as(state, env, place, arrival, who);
            }
        }
    }
    if let Signal::Mbarrier { place, bytes, phase } = signal {
        let bytes = i64::from(bytes);
        mbarrier_state::complete_tx(state, env, place, bytes, who, Some(phase));
    }
    state.events += 1;
}

/// Whether a block is another one than that of who started the work.
fn to_other(state: &ClusterState, rank: u32, who: Who) -> bool {
    state.ctas[rank as usize].id != who.cta
}
