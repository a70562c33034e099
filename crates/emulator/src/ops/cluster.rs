//! Clusters: addresses of other blocks' shared memory and the cluster barrier (PTX ISA 9.7.9.23, 9.7.13.3).

use zeroforge_ptx::Instruction;

use crate::check::clock::Clock;
use crate::machine::context::Cx;
use crate::machine::warp::Warp;
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::Inst;

/// The barrier of a cluster.
#[derive(Debug, Default)]
pub(crate) struct ClusterBarrier {
    /// Threads that came in this generation.
    pub(crate) arrived: u32,
    /// How often it completed.
    pub(crate) generation: u64,
    pub(crate) gathering: Clock,
    pub(crate) released: Clock,
}

pub(crate) fn decode(_d: &mut Decoder<'_>, _i: &Instruction) -> Result<Inst, Reason> {
    Err("not implemented".to_owned())
}

/// Reports lanes that leave while others may still use their block's shared memory.
pub(crate) fn check_exit(_warp: &Warp, _cx: &mut Cx<'_>, _lanes: u32) {}

/// Threads that exited are no longer waited for.
pub(crate) fn thread_exited(_cx: &mut Cx<'_>) {}
