//! Vector clocks: what happened before what.
//!
//! Every actor (a warp, or a stream of asynchronous work) counts its own releases. A clock holds, per
//! actor, the latest count that its owner has seen, once for accesses through the generic proxy and once
//! per state space for those that a proxy fence made visible to the async proxy (PTX ISA 8.6). An access by
//! actor `a` at count `n` happened before the owner's next one if the owner has seen `n` or more of `a`.
//!
//! Actors are those of one cluster. What was seen of other clusters, through atomics and fences in global
//! memory, is kept apart: most kernels never see any.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What was seen of one cluster's actors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    generic: Vec<u32>,
    /// Of those, what a proxy fence made visible to async accesses of shared and of global memory.
    fenced_shared: Vec<u32>,
    fenced_global: Vec<u32>,
}

impl Seen {
    fn join(&mut self, from: &Seen) {
        join(&mut self.generic, &from.generic);
        join(&mut self.fenced_shared, &from.fenced_shared);
        join(&mut self.fenced_global, &from.fenced_global);
    }

    fn fence(&mut self, shared: bool, global: bool) {
        if shared {
            join(&mut self.fenced_shared, &self.generic);
        }
        if global {
            join(&mut self.fenced_global, &self.generic);
        }
    }
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

    /// Starts a new count: later accesses are not covered by earlier releases.
    pub(crate) fn tick(&mut self) {
        let next = self.now() + 1;
        set(&mut self.own.generic, self.owner, next);
    }

    /// Takes over all that an object was given.
    pub(crate) fn acquire(&mut self, object: &Clock) {
        self.own.join(&object.own);
        self.returned = self.returned.max(get(&object.own.generic, self.owner));
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
        if !object.own.generic.is_empty() {
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

    /// Forgets everything; for objects that are used again.
    pub(crate) fn clear(&mut self) {
        self.own.generic.clear();
        self.own.fenced_shared.clear();
        self.own.fenced_global.clear();
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
