//! Vector clocks: what happened before what.
//!
//! Every actor (a warp, or a stream of asynchronous work) counts its own releases. A clock holds, per
//! actor, the latest count that its owner has seen, once for accesses through the generic proxy and once
//! per state space for those that a proxy fence made visible to the async proxy (PTX ISA 8.6). An access by
//! actor `a` at count `n` happened before the owner's next one if the owner has seen `n` or more of `a`.
//!
//! Actors are those of one cluster. What was seen of other clusters, through atomics and fences in global
//! memory, is kept apart: most kernels never see any.
//!
//! Lanes of a warp that release (or fence) without the others give what they did themselves, and what all did
//! before the lanes were last ordered. What they did themselves is kept as a part: it covers these lanes only.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What was seen of one cluster's actors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    generic: Vec<u32>,
    /// Of those, what a proxy fence made visible to async accesses of shared and of global memory.
    fenced_shared: Vec<u32>,
    fenced_global: Vec<u32>,
    /// What some lanes of an actor did, beyond the above.
    parts: Vec<Part>,
}

/// What some lanes of a warp did up to a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    actor: u32,
    count: u32,
    lanes: u32,
    /// For which accesses: [`GENERIC`], [`SHARED`], [`GLOBAL`].
    kinds: u8,
}

/// Seen by any access; by async accesses of shared memory; by those of global memory.
pub(crate) const GENERIC: u8 = 1;
pub(crate) const SHARED: u8 = 2;
pub(crate) const GLOBAL: u8 = 4;

impl Seen {
    fn join(&mut self, from: &Seen) {
        join(&mut self.generic, &from.generic);
        join(&mut self.fenced_shared, &from.fenced_shared);
        join(&mut self.fenced_global, &from.fenced_global);
        for &part in &from.parts {
            self.add(part);
        }
    }

    fn list(&self, kind: u8) -> &[u32] {
        match kind {
            GENERIC => &self.generic,
            SHARED => &self.fenced_shared,
            _ => &self.fenced_global,
        }
    }

    /// Takes away the parts that the whole covers. Those of the owner itself say what its lanes have of one
    /// another; they are covered by what came back to it as a whole.
    fn drop_covered(&mut self, owner: u32, returned: u32) {
        let mut parts = std::mem::take(&mut self.parts);
        parts.retain(|p| {
            if p.actor == owner && p.kinds & GENERIC != 0 {
                return p.count > returned;
            }
            let mut kinds = [GENERIC, SHARED, GLOBAL].into_iter().filter(|k| p.kinds & k != 0);
            !kinds.all(|k| get(self.list(k), p.actor) >= p.count)
        });
        self.parts = parts;
    }

    fn add(&mut self, part: Part) {
        let covers = |a: &Part, b: &Part| {
            a.actor == b.actor
                && a.count >= b.count
                && b.lanes & !a.lanes == 0
                && b.kinds & !a.kinds == 0
        };
        if !self.parts.iter().any(|p| covers(p, &part)) {
            self.parts.retain(|p| !covers(&part, p));
            self.parts.push(part);
        }
    }

    /// Whether lanes of an actor are seen up to a count through parts.
    fn has_parts(&self, actor: u32, count: u32, lanes: u32, kind: u8) -> bool {
        let fits = |p: &&Part| p.actor == actor && p.count >= count && p.kinds & kind != 0;
        let seen = self.parts.iter().filter(fits).fold(0, |all, p| all | p.lanes);
        lanes & !seen == 0 && seen != 0
    }

    fn fence(&mut self, shared: bool, global: bool) {
        if shared {
            join(&mut self.fenced_shared, &self.generic);
        }
        if global {
            join(&mut self.fenced_global, &self.generic);
        }
        for part in self.parts.iter_mut().filter(|p| p.kinds & GENERIC != 0) {
            part.kinds |= kinds_of(shared, global);
        }
    }
}

fn kinds_of(shared: bool, global: bool) -> u8 {
    (if shared { SHARED } else { 0 }) | (if global { GLOBAL } else { 0 })
}

/// Lanes that release or fence for themselves: which, and the first count of their warp from which its lanes
/// are not ordered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lanes {
    pub(crate) mask: u32,
    pub(crate) ordered_from: u32,
}

/// What an owner has seen of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    owner: u32,
    /// The owner's own count that came back to it from others: what it did up to there comes before all that
    /// any part of it does from then on.
    returned: u32,
    own: Seen,
    /// Other clusters by index. Shared, because all warps of a block take it over from one another.
    others: Option<Arc<BTreeMap<u32, Seen>>>,
}

fn join(into: &mut Vec<u32>, from: &[u32]) {
    if into.len() < from.len() {
        into.resize(from.len(), 0);
    }
    for (a, &b) in into.iter_mut().zip(from) {
        *a = (*a).max(b);
    }
}

fn set(list: &mut Vec<u32>, at: u32, value: u32) {
    let at = at as usize;
    if list.len() <= at {
        list.resize(at + 1, 0);
    }
    list[at] = list[at].max(value);
}

fn get(list: &[u32], at: u32) -> u32 {
    list.get(at as usize).copied().unwrap_or(0)
}

impl Clock {
    /// The clock of an actor that has done nothing: its own count is 1, so that 0 means never.
    pub(crate) fn of(owner: u32) -> Clock {
        let mut clock = Clock { owner, ..Clock::default() };
        set(&mut clock.own.generic, owner, 1);
        clock
    }

    /// The owner's own count: what its accesses are recorded with.
    #[inline]
    pub(crate) fn now(&self) -> u32 {
        self.seen(self.owner)
    }

    /// The first own count whose accesses are not known to come before all that follows.
    #[inline]
    pub(crate) fn unordered_from(&self) -> u32 {
        self.returned + 1
    }

    /// What the owner has seen of an actor.
    #[inline]
    pub(crate) fn seen(&self, actor: u32) -> u32 {
        get(&self.own.generic, actor)
    }

    /// What of an actor's generic accesses of shared memory is visible to the owner's async accesses.
    #[inline]
    pub(crate) fn seen_async(&self, actor: u32) -> u32 {
        get(&self.own.fenced_shared, actor)
    }

    /// The same of global memory.
    #[inline]
    pub(crate) fn seen_async_global(&self, actor: u32) -> u32 {
        get(&self.own.fenced_global, actor)
    }

    /// What the owner has seen of an actor of another cluster, and what of that is visible to async accesses
    /// of global memory.
    pub(crate) fn seen_other(&self, cluster: u32, actor: u32) -> (u32, u32) {
        let seen = self.others.as_ref().and_then(|o| o.get(&cluster));
        seen.map_or((0, 0), |s| (get(&s.generic, actor), get(&s.fenced_global, actor)))
    }

    /// Gives all that was seen to an object that others will acquire from, and starts a new count.
    pub(crate) fn release_to(&mut self, object: &mut Clock) {
        object.acquire(self);
        self.tick();
    }

    /// The same by some lanes only.
    pub(crate) fn release_part_to(&mut self, object: &mut Clock, lanes: Lanes) {
        let now = self.now();
        let owner = self.owner;
        self.own.generic[owner as usize] = lanes.ordered_from - 1;
        object.acquire(self);
        self.own.generic[owner as usize] = now;
        object.own.add(Part { actor: owner, count: now, lanes: lanes.mask, kinds: GENERIC });
        self.tick();
    }

    /// Whether lanes of an actor are seen up to a count, although the whole is not.
    pub(crate) fn seen_part(&self, actor: u32, count: u32, lanes: u32, kind: u8) -> bool {
        self.own.has_parts(actor, count, lanes, kind)
    }

    /// The same of another cluster.
    pub(crate) fn seen_other_part(
        &self,
        cluster: u32,
        actor: u32,
        count: u32,
        lanes: u32,
        kind: u8,
    ) -> bool {
        let seen = self.others.as_ref().and_then(|o| o.get(&cluster));
        seen.is_some_and(|s| s.has_parts(actor, count, lanes, kind))
    }

    /// Starts a new count: later accesses are not covered by earlier releases.
    pub(crate) fn tick(&mut self) {
        let next = self.now() + 1;
        set(&mut self.own.generic, self.owner, next);
    }

    /// Takes over all that an object was given.
    pub(crate) fn acquire(&mut self, object: &Clock) {
        self.own.join(&object.own);
        self.returned = self.returned.max(get(&object.own.generic, self.owner));
        if !self.own.parts.is_empty() {
            self.own.drop_covered(self.owner, self.returned);
        }
        match (&mut self.others, &object.others) {
            (_, None) => {}
            (mine @ None, Some(theirs)) => *mine = Some(Arc::clone(theirs)),
            (Some(mine), Some(theirs)) if Arc::ptr_eq(mine, theirs) => {}
            (Some(mine), Some(theirs)) => {
                let mine = Arc::make_mut(mine);
                for (&cluster, seen) in theirs.iter() {
                    mine.entry(cluster).or_default().join(seen);
                }
            }
        }
    }

    /// Takes over what a warp of another cluster gave. `from` is its cluster's index, `own` the owner's.
    pub(crate) fn acquire_from(&mut self, object: &Clock, from: u32, own: u32) {
        if from == own {
            self.acquire(object);
            return;
        }
        let mine = Arc::make_mut(self.others.get_or_insert_default());
        if !object.own.generic.is_empty() || !object.own.parts.is_empty() {
            mine.entry(from).or_default().join(&object.own);
        }
        for (&cluster, seen) in object.others.iter().flat_map(|o| o.iter()) {
            match cluster == own {
                true => {
                    self.own.join(seen);
                    self.returned = self.returned.max(get(&seen.generic, self.owner));
                }
                false => mine.entry(cluster).or_default().join(seen),
            }
        }
    }

    /// Notes that work of an actor up to a count is complete and seen, by either proxy: asynchronous work
    /// whose completion fences implicitly.
    pub(crate) fn see(&mut self, actor: u32, count: u32) {
        set(&mut self.own.generic, actor, count);
        set(&mut self.own.fenced_shared, actor, count);
        set(&mut self.own.fenced_global, actor, count);
    }

    /// Notes that work of an actor through the generic proxy is complete: `cp.async` (PTX ISA 9.7.9.25.3).
    pub(crate) fn see_generic(&mut self, actor: u32, count: u32) {
        set(&mut self.own.generic, actor, count);
    }

    /// `fence.proxy.async`: all that the owner has seen in these state spaces becomes visible to the async
    /// proxy, its own accesses included. The fence may stand anywhere on the way from the write to the async
    /// access (PTX ISA 8.9.6, proxy-preserved base causality order).
    pub(crate) fn fence_proxy_of(&mut self, shared: bool, global: bool) {
        self.own.fence(shared, global);
        if let Some(others) = &mut self.others {
            Arc::make_mut(others).values_mut().for_each(|s| s.fence(shared, global));
        }
        self.tick();
    }

    /// The same by some lanes only: of the own accesses it covers theirs, and those before the lanes were
    /// last ordered.
    pub(crate) fn fence_proxy_part(&mut self, shared: bool, global: bool, lanes: Lanes) {
        let now = self.now();
        let owner = self.owner;
        self.own.generic[owner as usize] = lanes.ordered_from - 1;
        self.own.fence(shared, global);
        self.own.generic[owner as usize] = now;
        let kinds = kinds_of(shared, global);
        self.own.add(Part { actor: owner, count: now, lanes: lanes.mask, kinds });
        if let Some(others) = &mut self.others {
            Arc::make_mut(others).values_mut().for_each(|s| s.fence(shared, global));
        }
        self.tick();
    }

    /// Forgets everything; for objects that are used again.
    pub(crate) fn clear(&mut self) {
        self.own.generic.clear();
        self.own.fenced_shared.clear();
        self.own.fenced_global.clear();
        self.own.parts.clear();
        self.others = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_covers_what_came_before_it_and_not_what_comes_after() {
        let (mut a, mut b, mut object) = (Clock::of(0), Clock::of(1), Clock::default());
        let before = a.now();
        a.release_to(&mut object);
        let after = a.now();
        b.acquire(&object);
        assert!(b.seen(0) >= before && b.seen(0) < after);
        assert_eq!(b.seen_async(0), 0);
    }

    #[test]
    fn lanes_that_release_alone_give_their_own_and_what_was_ordered_before() {
        let (mut a, mut b, mut object) = (Clock::of(0), Clock::of(1), Clock::default());
        let before = a.now();
        a.tick();
        let ordered_from = a.now();
        a.tick();
        let after = a.now();
        a.release_part_to(&mut object, Lanes { mask: 0b11, ordered_from });
        b.acquire(&object);
        assert!(b.seen(0) >= before && b.seen(0) < ordered_from);
        assert!(b.seen_part(0, after, 0b10, GENERIC) && !b.seen_part(0, after, 0b110, GENERIC));
        assert!(!b.seen_part(0, after + 1, 0b10, GENERIC) && !b.seen_part(0, after, 1, SHARED));
        // Another lane releases too, later; both together are seen.
        a.release_part_to(&mut object, Lanes { mask: 0b100, ordered_from });
        b.acquire(&object);
        assert!(b.seen_part(0, after, 0b111, GENERIC) && !b.seen_part(0, after + 1, 1, GENERIC));
        b.fence_proxy_of(true, false);
        assert!(b.seen_part(0, after, 0b111, SHARED) && !b.seen_part(0, after, 0b111, GLOBAL));
        // The whole takes the place of the parts.
        a.release_to(&mut object);
        b.acquire(&object);
        assert!(b.seen(0) > after && !b.own.parts.iter().any(|p| p.kinds == GENERIC));
    }

    #[test]
    fn a_proxy_fence_travels_with_the_release() {
        let (mut a, mut b, mut object) = (Clock::of(0), Clock::of(1), Clock::default());
        let write = a.now();
        a.fence_proxy_of(true, true);
        let late = a.now();
        a.release_to(&mut object);
        b.acquire(&object);
        assert!(b.seen_async(0) >= write && b.seen_async(0) < late);
    }

    #[test]
    fn a_proxy_fence_by_who_acquired_covers_what_it_acquired() {
        let (mut a, mut b, mut object) = (Clock::of(0), Clock::of(1), Clock::default());
        let write = a.now();
        a.release_to(&mut object);
        b.acquire(&object);
        assert_eq!(b.seen_async(0), 0);
        b.fence_proxy_of(true, false);
        assert!(b.seen_async(0) >= write);
        assert_eq!(b.seen_async_global(0), 0);
    }

    #[test]
    fn other_clusters_are_seen_directly_and_through_third_ones() {
        let (mut a, mut b, mut c) = (Clock::of(3), Clock::of(3), Clock::of(3));
        let (mut first, mut second) = (Clock::default(), Clock::default());
        let write = a.now();
        a.release_to(&mut first);
        b.acquire_from(&first, 7, 8);
        assert!(b.seen_other(7, 3).0 >= write);
        b.release_to(&mut second);
        c.acquire_from(&second, 8, 9);
        assert!(c.seen_other(7, 3).0 >= write && c.seen_other(7, 3).0 < a.now());
        assert!(c.seen_other(8, 3).0 >= 1);
        // And back: what the first cluster did is its own again.
        let mut third = Clock::default();
        c.release_to(&mut third);
        let mut d = Clock::of(4);
        d.acquire_from(&third, 9, 7);
        assert!(d.seen(3) >= write && d.seen_other(7, 3) == (0, 0));
    }
}
