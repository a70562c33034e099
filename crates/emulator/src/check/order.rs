//! Order through memory: release and acquire patterns (PTX ISA 8.10).
//!
//! A fence notes what the warp has seen by then; a strong write after it hands that on at its address; a
//! strong read there is handed it; a fence after the read takes it over. Read-modify-writes keep what earlier
//! writes handed on (release sequences), plain strong stores replace it. `.release` and `.acquire` are a fence
//! before and after.
//!
//! The shapes that kernels use are covered: flags, semaphores, counters whose last arriver goes on, barriers of
//! a whole grid. Scopes are taken to be wide enough.

use crate::check::clock::Clock;
use crate::check::{Kind, WarpAccess, lanes};
use crate::machine::context::Cx;
use crate::machine::warp::Warp;
use crate::memory::window::split_shared;

/// Stands for no cluster: clocks at global addresses belong to none.
const NOBODY: u32 = u32::MAX;

/// A fence (`fence.acq_rel`, `fence.sc`, `membar`), or the one in `.acquire` and `.release`.
pub(crate) fn fence(warp: &mut Warp, cx: &Cx<'_>) {
    if !cx.env.options.checks.races {
        return;
    }
    if let Some(handed) = warp.handed.take() {
        warp.clock.acquire_from(&handed, NOBODY, cx.cluster.race.cluster);
    }
    let (mut seen, count) = (Clock::default(), warp.clock.now());
    warp.release_to(&mut seen);
    warp.fenced = Some(Box::new((seen, count)));
}

/// Adds what a location was handed to what the warp was.
fn take(warp: &mut Warp, given: &Clock) {
    warp.handed.get_or_insert_default().acquire(given);
}

/// Hands on what the warp had seen at its last fence.
fn give(warp: &Warp, cluster: u32, location: &mut Clock, replace: bool) {
    if replace {
        location.clear();
    }
    if let Some(fenced) = &warp.fenced {
        location.acquire_from(&fenced.0, cluster, NOBODY);
    }
}

/// A strong access of shared memory.
pub(crate) fn strong_shared(cx: &mut Cx<'_>, warp: &mut Warp, access: &WarpAccess<'_>) {
    let cluster = cx.cluster.race.cluster;
    let mut before = None;
    for lane in lanes(access.lanes) {
        let place = split_shared(access.addresses[lane] as u32, cx.rank);
        if before.replace(place) != Some(place) {
            let location = cx.cluster.race.locations.entry(place).or_default();
            exchange(warp, cluster, location, access.kind);
        }
    }
}

/// A strong access of global memory.
pub(crate) fn strong_global(cx: &mut Cx<'_>, warp: &mut Warp, access: &WarpAccess<'_>) {
    let cluster = cx.cluster.race.cluster;
    let mut before = None;
    let mut launch = cx.env.global_shadow.launch();
    for lane in lanes(access.lanes) {
        let place = access.addresses[lane];
        if before.replace(place) != Some(place) {
            exchange(warp, cluster, launch.locations.entry(place).or_default(), access.kind);
        }
    }
}

fn exchange(warp: &mut Warp, cluster: u32, location: &mut Clock, kind: Kind) {
    if kind != Kind::Write {
        take(warp, location);
    }
    if kind != Kind::Read {
        give(warp, cluster, location, kind == Kind::Write);
    }
}
