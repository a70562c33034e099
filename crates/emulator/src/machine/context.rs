//! What an instruction may touch besides its warp.

use std::collections::HashMap;
use std::sync::Arc;

use crate::check::race::RaceState;
use crate::launch::LaunchConfig;
use crate::machine::cta::Cta;
use crate::machine::warp::Warp;
use crate::memory::device::Allocation;
use crate::ops::cluster::ClusterBarrier;
use crate::ops::pending::Pending;
use crate::options::{Device, Options, Schedule};
use crate::program::Kernel;
use crate::report::FindingKind;

/// What all blocks of a launch share, unchanging.
pub(crate) struct Env<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) config: &'a LaunchConfig,
    pub(crate) device: &'a Device,
    pub(crate) options: &'a Options,
    /// Live allocations by address.
    pub(crate) memory: Vec<Arc<Allocation>>,
    /// Whether blocks may talk to each other: then all run on one host thread, in turns.
    pub(crate) communicates: bool,
    /// Shadow of global memory for the race detector.
    pub(crate) global_shadow: crate::check::global::GlobalShadow,
}

impl Env<'_> {
    /// The allocation that holds a range, and the offset in it.
    #[inline]
    pub(crate) fn find(&self, address: u64, len: u64) -> Option<(usize, usize)> {
        let at = self.memory.partition_point(|a| a.base <= address).checked_sub(1)?;
        self.memory[at].offset(address, len).map(|offset| (at, offset))
    }
}

/// Who ran into a finding: block, warp, lanes, instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Who {
    pub(crate) cta: [u32; 3],
    pub(crate) warp: u32,
    pub(crate) lanes: u32,
    pub(crate) pc: u32,
}

impl Who {
    pub(crate) fn of(warp: &Warp, cta: [u32; 3], lanes: u32) -> Who {
        Who { cta, warp: warp.index, lanes, pc: warp.pc }
    }
}

/// A finding before its places are turned into lines.
#[derive(Clone, Debug)]
pub(crate) struct RawFinding {
    pub(crate) kind: FindingKind,
    pub(crate) message: String,
    pub(crate) who: Who,
    pub(crate) other: Option<Who>,
    pub(crate) address: Option<u64>,
    pub(crate) count: u64,
}

/// Findings of one cluster; equal ones are counted.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) list: Vec<RawFinding>,
    index: HashMap<(FindingKind, u32, Option<u32>), usize>,
}

impl Findings {
    /// Adds a finding; the message is made only for the first at a place.
    pub(crate) fn add(
        &mut self,
        kind: FindingKind,
        who: Who,
        other: Option<Who>,
        address: Option<u64>,
        message: impl FnOnce() -> String,
    ) {
        let key = (kind, who.pc, other.map(|o| o.pc));
        if let Some(&at) = self.index.get(&key) {
            self.list[at].count += 1;
            return;
        }
        self.index.insert(key, self.list.len());
        self.list.push(RawFinding { kind, message: message(), who, other, address, count: 1 });
    }
}

/// A small generator for random schedules (SplitMix64); the same seed gives the same schedule.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// What the blocks of one cluster share.
pub(crate) struct ClusterState {
    pub(crate) ctas: Vec<Cta>,
    /// `%clusterid`.
    pub(crate) id: [u32; 3],
    pub(crate) barrier: ClusterBarrier,
    /// Asynchronous work that is under way.
    pub(crate) pending: Pending,
    pub(crate) findings: Findings,
    pub(crate) race: RaceState,
    pub(crate) random: Random,
    pub(crate) printed: String,
    pub(crate) wgmmas: u64,
    /// Something happened that may wake a warp: counts up.
    pub(crate) events: u64,
}

/// The context of an instruction.
pub(crate) struct Cx<'a> {
    pub(crate) env: &'a Env<'a>,
    pub(crate) cluster: &'a mut ClusterState,
    /// Rank of the warp's block.
    pub(crate) rank: u32,
}

impl Cx<'_> {
    /// The warp's own block.
    #[inline]
    pub(crate) fn cta(&mut self) -> &mut Cta {
        &mut self.cluster.ctas[self.rank as usize]
    }

    /// Adds a finding of lanes of a warp at its current instruction.
    pub(crate) fn find(
        &mut self,
        warp: &Warp,
        lanes: u32,
        kind: FindingKind,
        address: Option<u64>,
        message: impl FnOnce() -> String,
    ) {
        let who = Who::of(warp, self.cta().id, lanes);
        self.cluster.findings.add(kind, who, None, address, message);
    }

    /// Whether asynchronous work that starts now completes at once.
    pub(crate) fn completes_at_once(&mut self) -> bool {
        match self.env.options.schedule {
            Schedule::Late => false,
            Schedule::Eager => true,
            Schedule::Random(_) => self.cluster.random.next() & 1 == 0,
        }
    }
}
