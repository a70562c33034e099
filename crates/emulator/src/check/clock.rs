//! Vector clocks: what happened before what.
//!
//! Every actor (a warp, or a stream of asynchronous work) counts its own releases. A clock holds, per
//! actor, the latest count that its owner has seen, once for accesses through the generic proxy and once
//! for those that a proxy fence made visible to the async proxy (PTX ISA 8.6). An access by actor `a` at
//! count `n` happened before the owner's next one if the owner has seen `n` or more of `a`.

/// What an owner has seen of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    owner: u32,
    generic: Vec<u32>,
    fenced: Vec<u32>,
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

impl Clock {
    /// The clock of an actor that has done nothing: its own count is 1, so that 0 means never.
    pub(crate) fn of(owner: u32) -> Clock {
        let mut clock = Clock { owner, ..Clock::default() };
        set(&mut clock.generic, owner, 1);
        clock
    }

    /// The owner's own count: what its accesses are recorded with.
    pub(crate) fn now(&self) -> u32 {
        self.seen(self.owner)
    }

    /// What the owner has seen of an actor.
    #[inline]
    pub(crate) fn seen(&self, actor: u32) -> u32 {
        self.generic.get(actor as usize).copied().unwrap_or(0)
    }

    /// What of an actor's generic accesses is visible to the owner's async accesses.
    #[inline]
    pub(crate) fn seen_async(&self, actor: u32) -> u32 {
        self.fenced.get(actor as usize).copied().unwrap_or(0)
    }

    /// Gives all that was seen to an object that others will acquire from, and starts a new count.
    pub(crate) fn release_to(&mut self, object: &mut Clock) {
        object.acquire(self);
        self.tick();
    }

    /// Starts a new count: later accesses are not covered by earlier releases.
    pub(crate) fn tick(&mut self) {
        let next = self.now() + 1;
        set(&mut self.generic, self.owner, next);
    }

    /// Takes over all that an object was given.
    pub(crate) fn acquire(&mut self, object: &Clock) {
        join(&mut self.generic, &object.generic);
        join(&mut self.fenced, &object.fenced);
    }

    /// Notes that work of an actor up to a count is complete and seen, by either proxy.
    pub(crate) fn see(&mut self, actor: u32, count: u32) {
        set(&mut self.generic, actor, count);
        set(&mut self.fenced, actor, count);
    }

    /// `fence.proxy.async`: the owner's own accesses so far become visible to the async proxy.
    pub(crate) fn fence_proxy(&mut self) {
        let now = self.now();
        set(&mut self.fenced, self.owner, now);
        self.tick();
    }

    /// Forgets everything; for objects that are used again.
    pub(crate) fn clear(&mut self) {
        self.generic.clear();
        self.fenced.clear();
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
        a.fence_proxy();
        let late = a.now();
        a.release_to(&mut object);
        b.acquire(&object);
        assert!(b.seen_async(0) >= write && b.seen_async(0) < late);
    }
}
