//! Races in shared memory.
//!
//! Actors, as [`Clock`](crate::check::clock::Clock) knows them, with W warps in the cluster: 0..W are the
//! warps; W.. their bulk stores (count: bulk group), 2W.. their warpgroups' wgmmas (count: wgmma group), 3W.. their
//! `cp.async` copies (count: group), 4W.. what their bulk stores write (count: bulk group; that the sources are
//! read is known earlier, by `wait_group.read`), 5W.. mbarriers (count: phase + 1), under which copies that
//! complete on them are recorded, their reading included.
//!
//! What orders what (PTX ISA 8.6, 8.9, 9.7.13.4): a warp sees what others released to a barrier that it
//! acquired; asynchronous work is seen by who observes its completion; a generic write before an
//! asynchronous access needs `fence.proxy.async` on the way besides. Lanes of one warp are ordered among
//! themselves by `bar.warp.sync` and barriers only, not by shuffles.

use std::collections::HashMap;

use crate::check::clock::Clock;
use crate::check::global::Pages;
use crate::check::runs::each_run;
use crate::check::shadow::{Access, Conflict, Entry, Found, PAGE, Shadow, Stripe, View};
use crate::check::{Kind, Proxy, WarpAccess};
use crate::machine::cluster::unlinear;
use crate::machine::context::{Cx, Env, Who};
use crate::machine::cta::Cta;
use crate::machine::warp::Warp;
use crate::memory::window::split_shared;
use crate::report::FindingKind;

/// What orders blocks that are not of one cluster.
pub(crate) const BETWEEN_BLOCKS: &str = "blocks of a grid are ordered by release and acquire only (PTX ISA 8.10): fence.acq_rel.gpu (__threadfence) and an atomic or volatile store by the first, an atomic or volatile load that reads it and a fence by the second, with bar.sync where other threads of the block take part; or by separate launches";

/// No page yet.
const NO_PAGE: u32 = u32::MAX;

/// Shadow of the shared memory of a cluster's blocks.
#[derive(Debug, Default)]
pub(crate) struct RaceState {
    /// Warps of the cluster.
    warps: u32,
    /// Index of the cluster in the launch.
    pub(crate) cluster: u32,
    /// Rank and offset of the mbarriers that have an actor.
    mbarriers: HashMap<(u32, u32), u32>,
    shadow: Shadow,
    /// Per block, the numbers of the pages of its shared memory.
    pages: Vec<Vec<u32>>,
    /// What the cluster's own warps did to global memory.
    pub(crate) global: Pages,
    /// What strong writes to shared memory hand on, by rank and offset.
    pub(crate) locations: HashMap<(u32, u32), Clock>,
}

/// Index of the cluster of a block, x fastest.
fn cluster_index(env: &Env<'_>, cta: [u32; 3]) -> u32 {
    let (grid, cluster) = (env.config.grid, env.config.cluster);
    let [x, y, z]: [u64; 3] = std::array::from_fn(|i| u64::from(cta[i] / cluster[i]));
    let [nx, ny]: [u64; 2] = std::array::from_fn(|i| u64::from(grid[i] / cluster[i]));
    (x + nx * (y + ny * z)) as u32
}

impl RaceState {
    /// Shadow for these blocks.
    pub(crate) fn new(env: &Env<'_>, ctas: &[Cta], warps: u32) -> RaceState {
        let pages = |c: &Cta| vec![NO_PAGE; c.shared.len().div_ceil(PAGE as usize)];
        RaceState {
            warps,
            cluster: ctas.first().map_or(0, |c| cluster_index(env, c.id)),
            global: Pages::default(),
            locations: HashMap::new(),
            mbarriers: HashMap::new(),
            shadow: Shadow::default(),
            pages: ctas.iter().map(pages).collect(),
        }
    }

    /// The actor of the reading of a warp's bulk stores.
    pub(crate) fn bulk_actor(&self, warp: &Warp) -> u32 {
        self.warps + warp.actor
    }

    /// The actor of the wgmmas of a warp's warpgroup, named by its first warp: they are operations of all four,
    /// which see them complete together (`ops::wgmma`).
    pub(crate) fn wgmma_actor(&self, warp: &Warp) -> u32 {
        2 * self.warps + warp.actor - warp.index % 4
    }

    /// The actor of a warp's `cp.async` copies.
    pub(crate) fn cp_async_actor(&self, warp: &Warp) -> u32 {
        3 * self.warps + warp.actor
    }

    /// The actor of the writing of a warp's bulk stores.
    pub(crate) fn bulk_write_actor(&self, warp: &Warp) -> u32 {
        4 * self.warps + warp.actor
    }

    /// The actor of an mbarrier.
    pub(crate) fn mbarrier_actor(&mut self, rank: u32, offset: u32) -> u32 {
        let next = 5 * self.warps + self.mbarriers.len() as u32;
        *self.mbarriers.entry((rank, offset)).or_insert(next)
    }

    /// The mbarrier of an actor.
    fn mbarrier_of(&self, actor: u32) -> Option<(u32, u32)> {
        self.mbarriers.iter().find(|&(_, &a)| a == actor).map(|(&place, _)| place)
    }

    /// Records and checks an access to consecutive bytes of one block.
    fn range(
        &mut self,
        rank: u32,
        offset: u32,
        len: u32,
        entry: &Entry,
        view: &View<'_>,
        found: &mut Found,
    ) {
        let Some(pages) = self.pages.get_mut(rank as usize) else { return };
        let (mut at, end) = (u64::from(offset), u64::from(offset) + u64::from(len));
        while at < end {
            let next = ((at / PAGE + 1) * PAGE).min(end);
            let Some(page) = pages.get_mut((at / PAGE) as usize) else { return };
            if *page == NO_PAGE {
                *page = self.shadow.add_page();
            }
            self.shadow.access(*page, at, next - at, entry, view, found);
            at = next;
        }
    }

    /// What kind of work an actor is, with what must happen before others may come after it.
    pub(crate) fn remedy(&self, old: &Access, old_writes: bool) -> String {
        let w = self.warps.max(1);
        match old.actor / w {
            0 => "put a barrier between them: bar.sync, or an mbarrier arrive after the first and a wait before the second".to_owned(),
            1 => "wait for the store with cp.async.bulk.wait_group (.read is enough where only the source is used again) in the thread that issued it, then order the second access after that".to_owned(),
            2 => "cover the wgmma with wgmma.wait_group, then order the second access after that".to_owned(),
            3 => "wait for the copy with cp.async.wait_group in every thread that issued it (or cp.async.mbarrier.arrive), then order the second access after that with a barrier".to_owned(),
            4 => "wait for the store with cp.async.bulk.wait_group (not .read, which says only that the source was read) in the thread that issued it, then order the second access after that".to_owned(),
            _ => {
                let at = self.mbarrier_of(old.actor);
                let at = at.map_or(String::new(), |(rank, offset)| {
                    format!(" at shared offset {offset:#x} of block {rank} of the cluster")
                });
                let what = if old_writes { "copy" } else { "copy's reading" };
                format!("wait on the mbarrier{at}, on which the {what} completes, before the second access")
            }
        }
    }
}

/// Who made an access.
pub(crate) fn party(env: &Env<'_>, access: &Access) -> Who {
    let issuer = u32::from(access.issuer);
    let threads = env.config.block.iter().product::<u32>();
    let per_cta = threads.div_ceil(32).max(1);
    let cta = block_of(env, access.cluster, issuer / per_cta);
    Who { cta, warp: issuer % per_cta, lanes: access.all_lanes(), pc: access.pc }
}

/// `%ctaid` of the block of a rank in a cluster.
pub(crate) fn block_of(env: &Env<'_>, cluster: u32, rank: u32) -> [u32; 3] {
    let size = env.config.cluster;
    let clusters = std::array::from_fn(|i| env.config.grid[i] / size[i]);
    let (id, within) = (unlinear(cluster.into(), clusters), unlinear(rank.into(), size));
    std::array::from_fn(|i| id[i] * size[i] + within[i])
}

pub(crate) fn view<'a>(warp: &'a Warp, cluster: u32, lanes: u32) -> View<'a> {
    View {
        clock: &warp.clock,
        warp: warp.actor,
        cluster,
        lanes_ordered: warp.ordered_from(),
        lanes,
        global: false,
    }
}

/// Checks and records an access by a warp through the generic proxy.
pub(crate) fn shared_access(cx: &mut Cx<'_>, warp: &Warp, access: &WarpAccess<'_>) -> Checked {
    let mut found = Found::default();
    let cluster = cx.cluster.race.cluster;
    let view = view(warp, cluster, warp.mask);
    let strong = access.strong || access.kind == Kind::Atomic;
    let writes = access.kind != Kind::Read;
    let count = count_of(warp, strong && writes);
    let new = Access::by_lanes(warp.actor, count, warp.pc, warp.actor as u16, strong)
        .of_cluster(cx.cluster.race.cluster);
    let (own, race) = (cx.rank, &mut cx.cluster.race);
    if let Some(even) = access.stripe() {
        let (rank, offset) = split_shared(even.first as u32, own);
        let stripe = Stripe::of_even(&even, offset.into(), access.bytes);
        let len = even.span(access.bytes) as u32;
        let entry = Entry { access: new, stripe: Some(stripe), writes };
        race.range(rank, offset, len, &entry, &view, &mut found);
        return finish(cx, warp, access, found, "shared offset");
    }
    each_run(access, !writes, |run| {
        let (rank, offset) = split_shared(run.address as u32, own);
        let stripe = Stripe::of(&run, offset.into(), access.bytes);
        let entry = Entry { access: new, stripe: Some(stripe), writes };
        let len = run.count * access.bytes;
        race.range(rank, offset, len, &entry, &view, &mut found);
    });
    finish(cx, warp, access, found, "shared offset")
}

/// The count under which an access is recorded. A strong write that hands on what a fence before it covers is
/// itself seen by whoever takes that over, since they read its value: it counts as before the fence.
pub(crate) fn count_of(warp: &Warp, strong_write: bool) -> u32 {
    match &warp.fenced {
        Some(fenced) if strong_write => fenced.1,
        _ => warp.clock.now(),
    }
}

/// What a check of an access by lanes found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checked {
    /// A race was reported.
    pub(crate) raced: bool,
    /// Lanes that store where another lane stores in the same execution.
    pub(crate) twice: u32,
}

/// Reports what an access by lanes ran into.
pub(crate) fn finish(
    cx: &mut Cx<'_>,
    warp: &Warp,
    access: &WarpAccess<'_>,
    mut found: Found,
    place: &str,
) -> Checked {
    let twice = overlapping(access, found.again);
    if twice == 0 {
        found.twice_is_conflict();
    }
    let raced = found.first.is_some();
    if let Some((conflict, old, old_writes, at)) = found.first {
        let who = Who::of(warp, cx.cta().id, found.lanes);
        let what = match access.kind {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Atomic => "atomic operation",
        };
        let place = format!("{place} {at:#x}");
        report(cx, who, (conflict, old, old_writes, at), what, &place);
    }
    Checked { raced, twice }
}

/// Lanes of a mask whose bytes overlap those of another lane.
pub(crate) fn overlapping(access: &WarpAccess<'_>, mask: u32) -> u32 {
    let mut out = 0;
    if mask != 0 {
        let bytes = u64::from(access.bytes);
        for a in super::lanes(access.lanes) {
            for b in super::lanes(access.lanes & !(u32::MAX >> (31 - a))) {
                if access.addresses[a].abs_diff(access.addresses[b]) < bytes {
                    out |= 1 << a | 1 << b;
                }
            }
        }
    }
    out
}

/// Reports stores of different values by lanes of one instruction to one place (PTX ISA 8.9: neither of
/// them is ordered; with equal values the result is the same).
pub(crate) fn stores_disagree(
    cx: &mut Cx<'_>,
    warp: &Warp,
    access: &WarpAccess<'_>,
    twice: u32,
    value: impl Fn(usize) -> u128,
) {
    for a in super::lanes(twice) {
        for b in super::lanes(twice & !(u32::MAX >> (31 - a))) {
            let bytes = u64::from(access.bytes);
            let (at, other) = (access.addresses[a], access.addresses[b]);
            let equal = at == other && value(a) == value(b);
            if at.abs_diff(other) < bytes && !equal {
                cx.find(warp, 1 << a | 1 << b, FindingKind::Race, Some(at), || {
                    format!("lanes {a} and {b} store different values to {at:#x} in one instruction; which one stays is not defined")
                });
                return;
            }
        }
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with('a') { "an" } else { "a" }
}

/// Adds the finding of a conflict.
pub(crate) fn report(
    cx: &mut Cx<'_>,
    who: Who,
    (conflict, old, old_writes, at): (Conflict, Access, bool, u64),
    what: &str,
    place: &str,
) {
    let race = &cx.cluster.race;
    let other = party(cx.env, &old);
    let before = if old_writes { "write" } else { "read" };
    let before = if old.is_async() { format!("asynchronous {before}") } else { before.to_owned() };
    let kind = match conflict {
        Conflict::Fence => FindingKind::MissingProxyFence,
        _ => FindingKind::Race,
    };
    let remedy = match old.cluster == race.cluster {
        true => race.remedy(&old, old_writes),
        false => BETWEEN_BLOCKS.to_owned(),
    };
    cx.cluster.findings.add(kind, who, Some(other), Some(at), || match conflict {
        Conflict::Lanes => format!(
            "{} {what} at {place} is not ordered after {} {before} by another lane of the same warp; put bar.warp.sync (__syncwarp) between them",
            article(what),
            article(&before)
        ),
        Conflict::Order => {
            let a = article(what);
            format!("{a} {what} at {place} is not ordered after an earlier {before}; {remedy}")
        }
        Conflict::Fence => format!(
            "an {what} at {place} comes after a write through the generic proxy without fence.proxy.async between them; the writer must execute it after the write and before the barrier (PTX ISA 8.6)"
        ),
    });
}

/// Reports lanes that read bytes which nothing wrote.
pub(crate) fn uninitialised_shared(cx: &mut Cx<'_>, warp: &Warp, access: &WarpAccess<'_>) {
    if let Some(even) = access.even {
        let (rank, offset) = split_shared(even.first as u32, cx.rank);
        let (cta, len) = (&cx.cluster.ctas[rank as usize], even.span(access.bytes) as u32);
        // The lanes are inside the block's memory, and so is what lies between them.
        if cta.first_unwritten(offset, len).is_none() {
            return;
        }
    }
    let mut bad = 0u32;
    let mut first = None;
    each_run(access, true, |run| {
        let (rank, offset) = split_shared(run.address as u32, cx.rank);
        let cta = &cx.cluster.ctas[rank as usize];
        if cta.first_unwritten(offset, run.count * access.bytes).is_none() {
            return;
        }
        for i in 0..run.count {
            let at = offset + i * access.bytes;
            if let Some(missing) = cta.first_unwritten(at, access.bytes) {
                bad |= if run.broadcast { access.lanes } else { 1 << (run.lane + i) };
                first.get_or_insert((rank, missing));
            }
        }
    });
    if let Some((rank, at)) = first {
        report_unwritten(cx, warp, bad, rank, at);
    }
}

fn report_unwritten(cx: &mut Cx<'_>, warp: &Warp, lanes: u32, rank: u32, at: u32) {
    let own = rank == cx.rank;
    cx.find(warp, lanes, FindingKind::UninitialisedShared, Some(u64::from(at)), || {
        let whose = match own {
            true => String::new(),
            false => format!(" of block {rank} of the cluster"),
        };
        format!("the byte at shared offset {at:#x}{whose} is read but nothing wrote it")
    });
}

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
/// async access needs `fence.proxy.async` on the way, everything else needs order only). Reads of bytes
/// that nothing wrote are reported too; writes are noted as written by whoever completes the work.
///
/// Whether the bytes were written is known when the work starts: what is written by work that is still
/// under way then is a race.
pub(crate) fn range_access(cx: &mut Cx<'_>, warp: &Warp, lanes: u32, access: &RangeAccess) {
    let checks = &cx.env.options.checks;
    let (races, uninitialised) = (checks.races, checks.uninitialised);
    let writes = access.kind != Kind::Read;
    if races {
        let mut found = Found::default();
        let new = Access::by_work(access.actor, access.count, warp.pc, warp.actor as u16, lanes)
            .of_cluster(cx.cluster.race.cluster)
            .through_async(access.proxy == Proxy::Async);
        let cluster = cx.cluster.race.cluster;
        let view = view(warp, cluster, lanes);
        let (rank, offset, len) = (access.rank, access.offset, access.len);
        let entry = Entry { access: new, stripe: None, writes };
        cx.cluster.race.range(rank, offset, len, &entry, &view, &mut found);
        if let Some(first) = found.first {
            let who = Who::of(warp, cx.cta().id, lanes);
            let what = match (access.proxy, writes) {
                (Proxy::Async, true) => "asynchronous write",
                (Proxy::Async, false) => "asynchronous read",
                (Proxy::Generic, true) => "cp.async write",
                (Proxy::Generic, false) => "cp.async read",
            };
            let place = format!("shared offset {:#x}", first.3);
            report(cx, who, first, what, &place);
            if first.0 == Conflict::Order {
                return;
            }
        }
    }
    if uninitialised && !writes {
        let cta = cx.cluster.ctas.get(access.rank as usize);
        let missing = cta.and_then(|c| c.first_unwritten(access.offset, access.len));
        if let Some(at) = missing {
            report_unwritten(cx, warp, lanes, access.rank, at);
        }
    }
}
