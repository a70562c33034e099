//! Races in global memory.
//!
//! Inside a cluster the clocks tell what is ordered, as in shared memory ([`race`]). Between clusters there
//! are two cases. A kernel without atomics, fences and strong accesses of global memory cannot order its
//! clusters: [`summary`] finds what one writes and another one touches. A kernel that has them runs all its
//! clusters in turns, and one shadow with the clocks of all of them is kept for the launch.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::check::clock::Clock;
use crate::check::race::{self, BETWEEN_BLOCKS, Checked};
use crate::check::runs::each_run;
use crate::check::shadow::{Access, Entry, Found, PAGE, Shadow, Stripe, View};
use crate::check::summary::{Clash, Mark, Summaries};
use crate::check::{Kind, WarpAccess};
use crate::machine::context::{Cx, Env, RawFinding, Who};
use crate::machine::warp::Warp;
use crate::report::FindingKind;

/// Pages of shadow beyond which all is forgotten and begun anew: 64 Ki of 4 KiB take 300 MB.
const MAX_PAGES: usize = 1 << 16;

/// Shadow of global memory by page.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    shadow: Shadow,
    numbers: HashMap<u64, u32>,
    /// Pages of late accesses plus one, and their numbers: at the places that the low bits of pages say.
    last: [(u64, u32); 32],
}

impl Pages {
    fn page(&mut self, page: u64) -> u32 {
        let place = (page % 32) as usize;
        if self.last[place].0 == page + 1 {
            return self.last[place].1;
        }
        if self.shadow.len() >= MAX_PAGES {
            tracing::warn!(
                "the race detector forgets accesses of global memory: there are too many"
            );
            *self = Pages::default();
        }
        let shadow = &mut self.shadow;
        let number = *self.numbers.entry(page).or_insert_with(|| shadow.add_page());
        self.last[place] = (page + 1, number);
        number
    }

    /// Checks and records an access.
    fn range(&mut self, address: u64, len: u64, entry: &Entry, view: &View<'_>, found: &mut Found) {
        let (mut at, end) = (address, address + len);
        while at < end {
            let next = ((at / PAGE + 1) * PAGE).min(end);
            let page = self.page(at / PAGE);
            self.shadow.access(page, at, next - at, entry, view, found);
            at = next;
        }
    }
}

/// What is known of all clusters of a launch that talk to each other.
#[derive(Debug, Default)]
pub(crate) struct OfLaunch {
    pages: Pages,
    /// What strong writes hand on, by address.
    pub(crate) locations: HashMap<u64, Clock>,
}

/// Who touched which bytes of global memory in this launch.
#[derive(Debug, Default)]
pub(crate) struct GlobalShadow {
    summaries: Summaries,
    launch: Mutex<OfLaunch>,
}

impl GlobalShadow {
    /// Shadow for a launch that sees this many allocations.
    pub(crate) fn new(allocations: usize) -> GlobalShadow {
        GlobalShadow { summaries: Summaries::new(allocations), ..GlobalShadow::default() }
    }

    pub(crate) fn launch(&self) -> MutexGuard<'_, OfLaunch> {
        self.launch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn view<'a>(cx: &Cx<'_>, warp: &'a Warp, lanes: u32) -> View<'a> {
    View { global: true, ..race::view(warp, cx.cluster.race.cluster, lanes) }
}

/// Checks and records an access by a warp through the generic proxy.
pub(crate) fn access(cx: &mut Cx<'_>, warp: &Warp, access: &WarpAccess<'_>) -> Checked {
    let mut found = Found::default();
    let view = view(cx, warp, warp.mask);
    let strong = access.strong || access.kind == Kind::Atomic;
    let cluster = cx.cluster.race.cluster;
    let writes = access.kind != Kind::Read;
    let count = race::count_of(warp, strong && writes);
    let new =
        Access::by_lanes(warp.actor, count, warp.pc, warp.actor as u16, strong).of_cluster(cluster);
    let env = cx.env;
    if let Some(even) = access.stripe() {
        let (at, len) = (even.first, even.span(access.bytes));
        let stripe = Some(Stripe::of_even(&even, at, access.bytes));
        if env.communicates {
            let pages = &mut env.global_shadow.launch().pages;
            pages.range(at, len, &Entry { access: new, stripe, writes }, &view, &mut found);
        } else {
            let entry = Entry { access: new, stripe, writes };
            cx.cluster.race.global.range(at, len, &entry, &view, &mut found);
            summarise_runs(env, access, |lane| {
                Mark::new(cluster, warp.rank, warp.index, lane, warp.pc)
            });
        }
    } else if env.communicates {
        let mut launch = env.global_shadow.launch();
        each_run(access, !writes, |run| {
            let stripe = Stripe::of(&run, run.address, access.bytes);
            let entry = Entry { access: new, stripe: Some(stripe), writes };
            let len = u64::from(run.count * access.bytes);
            launch.pages.range(run.address, len, &entry, &view, &mut found);
        });
    } else {
        let pages = &mut cx.cluster.race.global;
        each_run(access, !writes, |run| {
            let stripe = Stripe::of(&run, run.address, access.bytes);
            let entry = Entry { access: new, stripe: Some(stripe), writes };
            let len = u64::from(run.count * access.bytes);
            pages.range(run.address, len, &entry, &view, &mut found);
        });
        summarise_runs(env, access, |lane| {
            Mark::new(cluster, warp.rank, warp.index, lane, warp.pc)
        });
    }
    race::finish(cx, warp, access, found, "global address")
}

/// Notes an access for the comparison with other clusters.
fn summarise_runs(env: &Env<'_>, access: &WarpAccess<'_>, mark: impl Fn(u32) -> Mark) {
    let writes = access.kind != Kind::Read;
    let shift = access.bytes.trailing_zeros();
    each_run(access, !writes, |run| {
        let len = u64::from(run.count * access.bytes);
        summarise(env, run.address, len, writes, |at| {
            mark(run.lane + ((at - run.address) >> shift) as u32)
        });
    });
}

/// Notes what a cluster touches for the comparison with other clusters.
fn summarise(env: &Env<'_>, address: u64, len: u64, writes: bool, mark: impl Fn(u64) -> Mark) {
    let Some((at, offset)) = env.find(address, len) else {
        // Lanes of a run are each inside an allocation; the run may go over several.
        if len > 1 {
            let half = len.div_ceil(2);
            summarise(env, address, half, writes, &mark as &dyn Fn(u64) -> Mark);
            summarise(env, address + half, len - half, writes, &mark as &dyn Fn(u64) -> Mark);
        }
        return;
    };
    let (base, size) = (env.memory[at].base, env.memory[at].size);
    env.global_shadow.summaries.add(at, size, offset as u64, len, writes, |o| mark(base + o));
}

/// A range of global memory used by asynchronous work: a bulk copy, a row of a tensor copy.
pub(crate) struct GlobalRange {
    pub(crate) kind: Kind,
    pub(crate) address: u64,
    pub(crate) len: u64,
    /// The stream of asynchronous work, and its count when this access is complete.
    pub(crate) actor: u32,
    pub(crate) count: u32,
}

/// Checks and records an access of global memory through the async proxy by work that lanes of `warp` start
/// now. The range is inside an allocation.
pub(crate) fn range_access(cx: &mut Cx<'_>, warp: &Warp, lanes: u32, range: &GlobalRange) {
    if !cx.env.options.checks.races {
        return;
    }
    let cluster = cx.cluster.race.cluster;
    let env = cx.env;
    let mut found = Found::default();
    let view = view(cx, warp, lanes);
    let writes = range.kind != Kind::Read;
    let new = Access::by_work(range.actor, range.count, warp.pc, warp.actor as u16, lanes)
        .of_cluster(cluster)
        .through_async(true)
        .strong(range.kind == Kind::Atomic);
    let (at, len) = (range.address, range.len);
    let entry = Entry { access: new, stripe: None, writes };
    if env.communicates {
        env.global_shadow.launch().pages.range(at, len, &entry, &view, &mut found);
    } else {
        cx.cluster.race.global.range(at, len, &entry, &view, &mut found);
        let lane = lanes.trailing_zeros() & 31;
        let mark = Mark::new(cluster, warp.rank, warp.index, lane, warp.pc);
        summarise(env, at, len, writes, |_| mark);
    }
    if let Some(first) = found.first {
        let who = Who::of(warp, cx.cta().id, lanes);
        let place = format!("global address {:#x}", first.3);
        let what = if writes { "asynchronous write" } else { "asynchronous read" };
        race::report(cx, who, first, what, &place);
    }
}

/// What clusters that cannot be ordered clash on.
pub(crate) fn clashes(env: &Env<'_>) -> Vec<RawFinding> {
    let mut found: Vec<RawFinding> = Vec::new();
    let mut places = HashMap::new();
    let summaries = &env.global_shadow.summaries;
    if summaries.is_full() {
        tracing::warn!(
            "not all accesses of global memory were compared between blocks: there are too many"
        );
    }
    summaries.clashes(|clash| {
        let (who, other) = (party(env, clash.other), party(env, clash.writer));
        let key = (who.pc, other.pc, clash.both_write);
        if let Some(&at) = places.get(&key) {
            let known: &mut RawFinding = &mut found[at];
            known.count += 1;
            return;
        }
        places.insert(key, found.len());
        found.push(finding(env, &clash, who, other));
    });
    found
}

fn finding(env: &Env<'_>, clash: &Clash, who: Who, other: Who) -> RawFinding {
    let address = env.memory[clash.allocation].base + clash.offset;
    let what = if clash.both_write { "write" } else { "read" };
    let message = format!(
        "a {what} at global address {address:#x} is not ordered with a write by another block; {BETWEEN_BLOCKS}"
    );
    let kind = FindingKind::Race;
    RawFinding { kind, message, who, other: Some(other), address: Some(address), count: 1 }
}

fn party(env: &Env<'_>, mark: Mark) -> Who {
    let cta = race::block_of(env, mark.cluster(), mark.rank());
    Who { cta, warp: mark.warp(), lanes: 1 << mark.lane(), pc: mark.pc() }
}
