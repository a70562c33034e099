//! What is remembered of accesses, for the race detectors of shared and of global memory.
//!
//! Memory is watched in cells of 64 bytes. A cell remembers the last write and the reads since, in records
//! that say which bytes they touched and which lane touched which byte, so that neighbouring small stores
//! of different lanes are told apart. One record of each sort is kept in place; what does not fit in it (reads
//! by several warps, stores of single bytes in odd orders) goes to a list beside.
//!
//! A read is forgotten when a later one that it happened before covers its bytes: whoever comes after the
//! later one comes after both. A write replaces what it covers.

use crate::check::clock::{Clock, GENERIC, GLOBAL, SHARED};
use crate::check::runs::{Even, Run};

/// Bytes of a cell.
pub(crate) const CELL: u64 = 64;
/// Bytes of a page of cells.
pub(crate) const PAGE: u64 = 4096;
const CELLS: usize = (PAGE / CELL) as usize;

/// Lane of a byte that at least two lanes touched.
const MANY: i8 = i8::MAX;
/// Shift with which all bytes of a cell belong to the base lane.
const WHOLE: u8 = 7;
/// Records in a list beyond which reads of one warp are put together although they are of different
/// instructions.
const LONG: usize = 6;

const ASYNC: u8 = 1;
const STRONG: u8 = 2;
/// Issued for a range by lanes together, not lane by lane.
const RANGE: u8 = 4;

/// A record of an access to a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// Who, as clocks know it, and its count then.
    pub(crate) actor: u32,
    pub(crate) count: u32,
    /// Instruction.
    pub(crate) pc: u32,
    /// Cluster of the actor: its index in the launch.
    pub(crate) cluster: u32,
    /// The warp that executed the instruction.
    pub(crate) issuer: u16,
    /// Bytes of the cell; 0 for no record.
    mask: u64,
    /// With the base `MANY`, the lanes that touched every byte.
    many: u32,
    /// Byte b belongs to lane `base + (b >> shift)`.
    base: i8,
    shift: u8,
    flags: u8,
}

impl Access {
    /// A record of lanes that access `1 << shift` bytes each, one after the other. `base` and the bytes are set
    /// per cell.
    pub(crate) fn by_lanes(warp: u32, count: u32, pc: u32, issuer: u16, strong: bool) -> Access {
        let flags = if strong { STRONG } else { 0 };
        Access { actor: warp, count, pc, issuer, flags, ..Access::default() }
    }

    /// A record of asynchronous work.
    pub(crate) fn by_work(actor: u32, count: u32, pc: u32, issuer: u16, lanes: u32) -> Access {
        let base = match lanes.count_ones() {
            1 => lanes.trailing_zeros() as i8,
            _ => MANY,
        };
        Access {
            actor,
            count,
            pc,
            issuer,
            base,
            shift: WHOLE,
            flags: RANGE,
            many: lanes,
            ..Access::default()
        }
    }

    pub(crate) fn of_cluster(mut self, cluster: u32) -> Access {
        self.cluster = cluster;
        self
    }

    pub(crate) fn strong(mut self, yes: bool) -> Access {
        self.flags |= if yes { STRONG } else { 0 };
        self
    }

    pub(crate) fn through_async(mut self, yes: bool) -> Access {
        self.flags |= if yes { ASYNC } else { 0 };
        self
    }

    #[inline]
    pub(crate) fn is_async(&self) -> bool {
        self.flags & ASYNC != 0
    }

    #[inline]
    fn is_strong(&self) -> bool {
        self.flags & STRONG != 0
    }

    #[inline]
    fn is_range(&self) -> bool {
        self.flags & RANGE != 0
    }

    #[inline]
    fn same_lanes(&self, other: &Access) -> bool {
        self.base == other.base && self.shift == other.shift && self.base != MANY
    }

    fn lanes_of(&self, byte: u32) -> u32 {
        if self.base == MANY {
            return self.many;
        }
        let lane = i32::from(self.base) + (byte >> self.shift) as i32;
        1u32.checked_shl(lane as u32).unwrap_or(0)
    }

    /// Lanes that touched bytes of a mask.
    pub(crate) fn lanes(&self, mask: u64) -> u32 {
        bits(self.mask & mask).fold(0, |all, byte| all | self.lanes_of(byte))
    }

    /// Lanes that touched any byte.
    pub(crate) fn all_lanes(&self) -> u32 {
        self.lanes(u64::MAX)
    }

    /// Whether different lanes of one warp touched a byte.
    fn lanes_differ(&self, new: &Access, view: &View<'_>) -> bool {
        if new.is_range() {
            return self.lanes(new.mask) & !view.lanes != 0;
        }
        if self.same_lanes(new) {
            return false;
        }
        bits(self.mask & new.mask).any(|b| (self.lanes_of(b) | new.lanes_of(b)).count_ones() > 1)
    }

    /// Lanes of this access that are not the one of `new` at the same byte.
    fn lanes_apart(&self, new: &Access, view: &View<'_>) -> u32 {
        if new.is_range() {
            return self.lanes(new.mask) & !view.lanes;
        }
        bits(self.mask & new.mask).fold(0, |all, b| {
            let (old, new) = (self.lanes_of(b), new.lanes_of(b));
            all | if new.count_ones() > 1 { old } else { old & !new }
        })
    }

    /// Makes all bytes belong to the lanes of this and of another access to the same bytes.
    fn share(&mut self, other: &Access) {
        self.many = self.all_lanes() | other.all_lanes();
        (self.base, self.shift) = (MANY, WHOLE);
    }

    #[inline]
    fn same_actor(&self, other: &Access) -> bool {
        self.actor == other.actor && self.cluster == other.cluster
    }

    /// What decides whether it was seen.
    #[inline]
    fn stamp(&self) -> (u32, u32, u32, u8) {
        (self.actor, self.cluster, self.count, self.flags)
    }

    #[inline]
    fn merges(&self, new: &Access) -> bool {
        self.same_actor(new)
            && self.count == new.count
            && self.pc == new.pc
            && self.flags == new.flags
            && self.base == new.base
            && self.shift == new.shift
            && self.many == new.many
    }
}

/// The bytes of a mask.
fn bits(mask: u64) -> impl Iterator<Item = u32> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let bit = left.trailing_zeros();
        (bit < 64).then(|| {
            left &= left - 1;
            bit
        })
    })
}

/// Bytes of a cell from one to before another.
#[inline]
fn span(from: u64, to: u64) -> u64 {
    (u64::MAX >> (CELL - (to - from))) << from
}

/// How the one who accesses now sees what was before.
pub(crate) struct View<'a> {
    pub(crate) clock: &'a Clock,
    /// The warp, as an actor of its cluster, and its cluster.
    pub(crate) warp: u32,
    pub(crate) cluster: u32,
    /// The warp's count when its lanes were last ordered among themselves.
    pub(crate) lanes_ordered: u32,
    /// For ranges: the lanes that issue.
    pub(crate) lanes: u32,
    /// Whether the memory is global: proxy fences may name a space.
    pub(crate) global: bool,
}

impl View<'_> {
    /// What is seen of an access's actor: by any access, and by async ones.
    #[inline]
    fn seen(&self, old: &Access) -> (u32, u32) {
        if old.cluster != self.cluster {
            return self.clock.seen_other(old.cluster, old.actor);
        }
        let fenced = match self.global {
            true => self.clock.seen_async_global(old.actor),
            false => self.clock.seen_async(old.actor),
        };
        (self.clock.seen(old.actor), fenced)
    }

    /// Whether an access was made by lanes of the warp itself.
    #[inline]
    fn is_own(&self, old: &Access) -> bool {
        old.actor == self.warp && old.cluster == self.cluster && !old.is_range()
    }

    /// Why `new` may not come after `old`, if it may not. `old_writes`: reads need no proxy fence.
    #[inline]
    fn judge(&self, old: &Access, old_writes: bool, new: &Access) -> Option<Conflict> {
        if old.mask & new.mask == 0 || old.is_strong() && new.is_strong() {
            return None;
        }
        if self.is_own(old) {
            let apart = old.count >= self.lanes_ordered && old.lanes_differ(new, self);
            // Lanes may be ordered through a lock or a flag, too.
            if apart && !self.seen_lanes(old, old.lanes_apart(new, self), GENERIC) {
                return Some(Conflict::Lanes);
            }
            if !new.is_async() {
                return None;
            }
        }
        let (generic, fenced) = self.seen(old);
        if generic < old.count && !self.seen_part(old, new, GENERIC) {
            return Some(Conflict::Order);
        }
        let needs_fence = old_writes && new.is_async() && !old.is_async();
        let kind = if self.global { GLOBAL } else { SHARED };
        let missing = needs_fence && fenced < old.count && !self.seen_part(old, new, kind);
        missing.then_some(Conflict::Fence)
    }

    /// Whether the lanes of the older access released for themselves.
    #[cold]
    fn seen_part(&self, old: &Access, new: &Access, kind: u8) -> bool {
        self.seen_lanes(old, old.lanes(new.mask), kind)
    }

    /// The same of some of its lanes.
    #[cold]
    fn seen_lanes(&self, old: &Access, lanes: u32, kind: u8) -> bool {
        if old.is_range() {
            return false;
        }
        match old.cluster == self.cluster {
            true => self.clock.seen_part(old.actor, old.count, lanes, kind),
            false => self.clock.seen_other_part(old.cluster, old.actor, old.count, lanes, kind),
        }
    }

    /// Whether a write comes before a range whatever its bytes and lanes, as `judge` has it.
    #[inline]
    fn comes_before(&self, old: &Access, new: &Access) -> bool {
        let (generic, fenced) = self.seen(old);
        let needs_fence = new.is_async() && !old.is_async();
        let own = self.is_own(old) && old.count >= self.lanes_ordered;
        !own && generic >= old.count && (!needs_fence || fenced >= old.count)
    }

    /// Whether a read need not be kept beside a later one: it came before that one, or whoever comes after that
    /// one comes after both, as the work of one actor completes in order.
    #[inline]
    fn replaces(&self, old: &Access, new: &Access) -> bool {
        let within = || old.lanes(new.mask) & !new.many == 0;
        old.same_actor(new) && new.base == MANY && within() || self.ordered(old, new)
    }

    /// Whether `old` happened before `new`, fences aside.
    #[inline]
    fn ordered(&self, old: &Access, new: &Access) -> bool {
        if self.is_own(old) {
            return old.count < self.lanes_ordered || !old.lanes_differ(new, self);
        }
        self.seen(old).0 >= old.count
    }
}

/// What is missing between two accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// Lanes of one warp are not ordered.
    Lanes,
    /// Nothing orders them.
    Order,
    /// They are ordered, but through different proxies.
    Fence,
}

/// What an access ran into.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The first conflict: what is missing, the older access, whether it writes, where.
    pub(crate) first: Option<(Conflict, Access, bool, u64)>,
    /// Lanes with a conflict of that sort.
    pub(crate) lanes: u32,
    /// Lanes that write what another lane wrote by the same instruction since the lanes were ordered, and
    /// what that was: one execution of it, or two.
    pub(crate) again: u32,
    again_first: Option<(Access, u64)>,
}

impl Found {
    /// Counts the lanes that wrote twice as a conflict: the instruction ran twice.
    pub(crate) fn twice_is_conflict(&mut self) {
        if let (None, Some((old, at))) = (self.first, self.again_first) {
            self.first = Some((Conflict::Lanes, old, true, at));
            self.lanes = self.again;
        }
    }
}

/// 64 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cell {
    write: Access,
    read: Access,
    /// Further records: one plus the index of a list.
    more: u32,
}

/// Lists of further records.
#[derive(Debug, Default)]
struct Lists {
    lists: Vec<Vec<(bool, Access)>>,
    free: Vec<u32>,
}

impl Lists {
    fn push(&mut self, cell: &mut Cell, writes: bool, access: Access) {
        if cell.more == 0 {
            cell.more = self.free.pop().unwrap_or_else(|| {
                self.lists.push(Vec::new());
                self.lists.len() as u32
            });
        }
        let list = &mut self.lists[cell.more as usize - 1];
        let long = !writes && list.len() >= LONG;
        let fits = |a: &Access| match long {
            true => a.merges(&Access { pc: a.pc, ..access }),
            false => a.merges(&access),
        };
        let known = list.iter_mut().find(|(w, a)| *w == writes && fits(a));
        match known {
            Some((_, a)) => a.mask |= access.mask,
            None => list.push((writes, access)),
        }
    }

    /// Takes bytes away from records for which `superseded` says so.
    fn trim(&mut self, cell: &mut Cell, mask: u64, superseded: impl Fn(bool, &Access) -> bool) {
        let list = &mut self.lists[cell.more as usize - 1];
        list.retain_mut(|(writes, a)| {
            if a.mask & mask != 0 && superseded(*writes, a) {
                a.mask &= !mask;
            }
            a.mask != 0
        });
        if list.is_empty() {
            self.free.push(cell.more);
            cell.more = 0;
        }
    }
}

impl Cell {
    /// Checks an access against what is known and records it.
    #[inline]
    fn access(
        &mut self,
        lists: &mut Lists,
        at: u64,
        new: &Access,
        writes: bool,
        view: &View<'_>,
        found: &mut Found,
    ) {
        if self.write.mask & new.mask != 0 {
            note(view, &self.write, true, new, writes, at, found);
        }
        if writes && self.read.mask & new.mask != 0 {
            note(view, &self.read, false, new, writes, at, found);
        }
        if self.more != 0 {
            for (old_writes, old) in &lists.lists[self.more as usize - 1] {
                if writes || *old_writes {
                    note(view, old, *old_writes, new, writes, at, found);
                }
            }
        }
        match writes {
            true => self.record_write(lists, new, view),
            false => self.record_read(lists, new, view),
        }
    }

    #[inline]
    fn record_read(&mut self, lists: &mut Lists, new: &Access, view: &View<'_>) {
        let old = &mut self.read;
        if new.is_range() && old.mask != 0 && old.merges(new) {
            old.mask |= new.mask;
            return;
        }
        if old.mask == 0 && self.more == 0 {
            *old = *new;
            return;
        }
        if old.same_actor(new) && old.count == new.count && old.flags == new.flags {
            if old.same_lanes(new) && (old.pc == new.pc || old.mask == new.mask) {
                old.mask |= new.mask;
                return;
            }
            if old.mask == new.mask && !new.is_range() && old.shift == WHOLE && new.shift == WHOLE {
                old.share(new);
                return;
            }
        }
        if old.mask & new.mask != 0 && view.replaces(old, new) {
            old.mask &= !new.mask;
        }
        let rest = std::mem::replace(old, *new);
        if self.more != 0 {
            let superseded = |writes: bool, a: &Access| !writes && view.replaces(a, new);
            lists.trim(self, new.mask, superseded);
        }
        if rest.mask != 0 {
            lists.push(self, false, rest);
        }
    }

    #[inline]
    fn record_write(&mut self, lists: &mut Lists, new: &Access, view: &View<'_>) {
        // Strong accesses that nothing orders are no race: the last of every warp is kept.
        let stays = |a: &Access| {
            a.is_strong() && new.is_strong() && !a.same_actor(new) && !view.ordered(a, new)
        };
        if self.more != 0 {
            lists.trim(self, new.mask, |_, a| !stays(a));
        }
        if !stays(&self.read) {
            self.read.mask &= !new.mask;
        }
        let old = &mut self.write;
        if old.mask != 0 && old.same_actor(new) && old.count == new.count {
            if old.merges(new) && old.base != MANY {
                old.mask |= new.mask;
                return;
            }
        }
        if old.same_actor(new) && old.mask == new.mask && old.is_strong() && new.is_strong() {
            let before = *old;
            *old = *new;
            if before.shift == WHOLE && new.shift == WHOLE && !before.same_lanes(new) {
                old.share(&before);
            }
            return;
        }
        if !stays(old) {
            old.mask &= !new.mask;
        }
        let rest = std::mem::replace(old, *new);
        if rest.mask != 0 {
            lists.push(self, true, rest);
        }
    }
}

#[inline]
fn note(
    view: &View<'_>,
    old: &Access,
    old_writes: bool,
    new: &Access,
    writes: bool,
    at: u64,
    found: &mut Found,
) {
    // A lane's own accesses through one proxy are ordered by the program.
    if old.mask & new.mask == 0
        || view.is_own(old) && old.same_lanes(new) && new.flags & (ASYNC | RANGE) == 0
    {
        return;
    }
    let Some(conflict) = view.judge(old, old_writes, new) else { return };
    note_conflict(conflict, old, old_writes, new, writes, at, found);
}

#[cold]
fn note_conflict(
    conflict: Conflict,
    old: &Access,
    old_writes: bool,
    new: &Access,
    writes: bool,
    at: u64,
    found: &mut Found,
) {
    let both = old.mask & new.mask;
    let at = at + u64::from(both.trailing_zeros());
    let same = conflict == Conflict::Lanes && old_writes && writes && !new.is_range();
    if same && old.pc == new.pc && old.count == new.count {
        found.again |= new.lanes(both);
        found.again_first.get_or_insert((*old, at));
        return;
    }
    match &found.first {
        None => {
            found.first = Some((conflict, *old, old_writes, at));
            found.lanes = new.lanes(both);
        }
        Some((first, ..)) if *first == conflict => found.lanes |= new.lanes(both),
        _ => {}
    }
}

/// Cells of memory that was touched, in pages. Who owns the memory keeps the numbers of its pages.
#[derive(Debug, Default)]
pub(crate) struct Shadow {
    pages: Vec<Box<[Cell; CELLS]>>,
    lists: Lists,
}

impl Shadow {
    /// A new page; its number.
    pub(crate) fn add_page(&mut self) -> u32 {
        self.pages.push(Box::new([Cell::default(); CELLS]));
        self.pages.len() as u32 - 1
    }

    /// Pages that exist.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// An access to consecutive bytes inside one page. `lane`: of by-lane records, the lane of the byte at
    /// `origin` and the bytes of a lane as a shift; bytes before and after belong to its neighbours.
    #[inline]
    pub(crate) fn access(
        &mut self,
        page: u32,
        at: u64,
        len: u64,
        mut new: Access,
        lane: Option<Stripe>,
        writes: bool,
        view: &View<'_>,
        found: &mut Found,
    ) {
        let cells = &mut self.pages[page as usize];
        let end = at + len;
        // Of ranges that are read: the last write that was found to come before.
        let mut before: Option<(u32, u32, u32, u8)> = None;
        let mut cell = at / CELL * CELL;
        while cell < end {
            let from = at.max(cell) - cell;
            let to = (end - cell).min(CELL);
            new.mask = span(from, to);
            if let Some(stripe) = lane {
                new.mask &= stripe.pattern;
                stripe.apply(cell, &mut new);
            }
            let index = (cell % PAGE / CELL) as usize;
            if !writes && new.is_range() && cells[index].more == 0 {
                let c = &mut cells[index];
                let write = Some(c.write.stamp());
                if c.write.mask & new.mask != 0
                    && before != write
                    && view.comes_before(&c.write, &new)
                {
                    before = write;
                }
                let known = c.write.mask & new.mask == 0 || before == write;
                if known && (c.read.mask == 0 || c.read.merges(&new)) {
                    match c.read.mask {
                        0 => c.read = new,
                        _ => c.read.mask |= new.mask,
                    }
                    cell += CELL;
                    continue;
                }
            }
            cells[index].access(&mut self.lists, cell, &new, writes, view, found);
            cell += CELL;
        }
    }
}

impl Stripe {
    /// Of a run of lanes that have these bytes each.
    #[inline]
    pub(crate) fn of(run: &Run, origin: u64, bytes: u32) -> Stripe {
        // The bytes of a single lane are told apart from nobody's: records of one lane can be put together.
        let shift = if run.count == 1 { WHOLE.into() } else { bytes.trailing_zeros() };
        let pattern = u64::MAX;
        Stripe { origin, lane: run.lane, shift, broadcast: run.broadcast, pattern }
    }

    /// Of evenly spaced lanes ([`Even::is_stripe`]) or one place, the first at `first`.
    #[inline]
    pub(crate) fn of_even(even: &Even, first: u64, bytes: u32) -> Stripe {
        if even.step == 0 {
            let (shift, pattern) = (WHOLE.into(), u64::MAX);
            return Stripe { origin: first, lane: 0, shift, broadcast: true, pattern };
        }
        let shift = even.step.trailing_zeros();
        // The bytes between two lanes' belong to nobody; those from each multiple of the step on to one lane.
        let origin = match even.step == u64::from(bytes) {
            true => first,
            false => first & !(even.step - 1),
        };
        let pattern = Even { first, ..*even }.pattern(bytes);
        Stripe { origin, lane: 0, shift, broadcast: false, pattern }
    }
}

/// Which lane has which byte of an access by lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stripe {
    /// Address of `lane`'s bytes.
    pub(crate) origin: u64,
    pub(crate) lane: u32,
    /// A lane's bytes are `1 << shift`; more than a cell's for a single lane.
    pub(crate) shift: u32,
    /// All lanes access the same bytes.
    pub(crate) broadcast: bool,
    /// Bytes of every cell that are accessed, from the first to the last.
    pub(crate) pattern: u64,
}

impl Stripe {
    #[inline]
    fn apply(&self, cell: u64, new: &mut Access) {
        if self.broadcast {
            (new.base, new.shift, new.many) = (MANY, WHOLE, u32::MAX);
        } else if self.shift >= u32::from(WHOLE) {
            (new.base, new.shift) = (self.lane as i8, WHOLE);
        } else {
            let bytes = cell as i64 - self.origin as i64;
            new.base = (i64::from(self.lane) + (bytes >> self.shift)) as i8;
            // One lane in a cell is told apart from nobody.
            new.shift = if 1 << self.shift == CELL { WHOLE } else { self.shift as u8 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::clock::Lanes;
    use crate::machine::context::Random;

    /// An access with the numbers of those that it is known to come after.
    struct Done {
        access: Access,
        writes: bool,
        after: Vec<usize>,
    }

    const WARPS: usize = 3;

    /// Random accesses of lanes and of asynchronous work, with releases, acquires, fences and lane barriers
    /// between them. Until the first conflict, the detector must say what comparing with everything says.
    fn run(seed: u64, with_async: bool) -> (bool, usize) {
        let mut random = Random::new(seed);
        let mut clocks: Vec<Clock> = (0..WARPS as u32).map(Clock::of).collect();
        let mut ordered = [0; WARPS];
        let mut groups = [1u32; WARPS];
        let mut object = Clock::default();
        let (mut cell, mut lists) = (Cell::default(), Lists::default());
        let mut all: [Vec<Done>; 16] = Default::default();
        for step in 0..200 {
            let w = random.below(WARPS);
            match random.below(13) {
                0 | 1 => clocks[w].release_to(&mut object),
                12 => {
                    let ordered_from = ordered[w].max(clocks[w].unordered_from());
                    let lanes = Lanes { mask: 1 + random.below(31) as u32, ordered_from };
                    match random.below(3) {
                        0 => clocks[w].fence_proxy_part(true, true, lanes),
                        _ => clocks[w].release_part_to(&mut object, lanes),
                    }
                }
                2 | 3 => clocks[w].acquire(&object),
                4 => {
                    clocks[w].tick();
                    ordered[w] = clocks[w].now();
                }
                5 => clocks[w].fence_proxy_of(true, true),
                6 => {
                    // The work of a warp completes and the warp sees it.
                    clocks[w].see((WARPS + w) as u32, groups[w]);
                    groups[w] += 1;
                }
                kind => {
                    let writes = random.below(4) == 0;
                    let pc = random.below(3) as u32;
                    let work = with_async && kind == 11;
                    let lanes = if random.below(2) == 0 { 1 << random.below(4) } else { u32::MAX };
                    let mut new = match work {
                        true => Access::by_work((WARPS + w) as u32, groups[w], pc, w as u16, lanes)
                            .through_async(true),
                        false => Access::by_lanes(w as u32, clocks[w].now(), pc, w as u16, false),
                    };
                    let shift = random.below(5) as u32;
                    let first = random.below(16 >> shift) << shift;
                    let count = 1 + random.below((16 - first) >> shift);
                    let len = count << shift;
                    new.mask = span(first as u64, (first + len) as u64);
                    if !work {
                        let broadcast = count == 1 && !writes && random.below(3) == 0;
                        let lane = random.below(4) as u32;
                        Stripe {
                            origin: first as u64,
                            lane,
                            shift: if count == 1 { WHOLE.into() } else { shift },
                            broadcast,
                            pattern: u64::MAX,
                        }
                        .apply(0, &mut new);
                    }
                    let view = View {
                        clock: &clocks[w],
                        warp: w as u32,
                        cluster: 0,
                        lanes_ordered: ordered[w],
                        lanes,
                        global: false,
                    };
                    let (mut must, mut may) = (false, false);
                    for (byte, all) in
                        all.iter_mut().enumerate().filter(|(b, _)| new.mask >> b & 1 != 0)
                    {
                        let new = Access { mask: 1 << byte, ..new };
                        // What comes before something that comes before this comes before this: lanes may be
                        // ordered through another warp. What came first is still there to compare with only
                        // if it is a write, so that both answers are right.
                        let direct: Vec<bool> =
                            all.iter().map(|old| view.replaces(&old.access, &new)).collect();
                        let through = |i: usize| {
                            (i..all.len()).any(|m| direct[m] && all[m].after.contains(&i))
                        };
                        let after: Vec<usize> =
                            (0..all.len()).filter(|&i| direct[i] || through(i)).collect();
                        for (i, old) in all.iter().enumerate().filter(|(_, o)| writes || o.writes) {
                            match view.judge(&old.access, old.writes, &new) {
                                None => {}
                                Some(Conflict::Lanes | Conflict::Order) if after.contains(&i) => {
                                    may = true;
                                }
                                Some(_) => must = true,
                            }
                        }
                        all.push(Done { access: new, writes, after });
                    }
                    let mut found = Found::default();
                    cell.access(&mut lists, 0, &new, writes, &view, &mut found);
                    let detected = found.first.is_some() || found.again != 0;
                    assert!(detected || !must, "missed: seed {seed} step {step} {new:?}");
                    assert!(!detected || must || may, "false: seed {seed} step {step} {new:?}");
                    if detected {
                        return (true, step);
                    }
                }
            }
        }
        (false, 200)
    }

    #[test]
    fn the_first_conflict_is_found_and_nothing_before_it() {
        let mut conflicts = 0;
        let mut longest = 0;
        for seed in 0..40_000 {
            let (found, steps) = run(seed, seed % 2 == 0);
            conflicts += u32::from(found);
            longest = longest.max(steps);
        }
        assert!(conflicts > 10_000 && longest > 40, "{conflicts} conflicts, {longest} steps");
    }

    #[test]
    fn lists_are_given_back() {
        let mut lists = Lists::default();
        let mut cell = Cell::default();
        let clock = Clock::of(0);
        let view =
            View { clock: &clock, warp: 0, cluster: 0, lanes_ordered: 0, lanes: 1, global: false };
        for round in 0..100u32 {
            for byte in [0u32, 2, 4, 6] {
                let mut new = Access::by_lanes(0, 1, round * 4 + byte, 0, false);
                new.mask = 3 << byte;
                Stripe {
                    origin: 0,
                    lane: 0,
                    shift: WHOLE.into(),
                    broadcast: false,
                    pattern: u64::MAX,
                }
                .apply(0, &mut new);
                cell.access(&mut lists, 0, &new, true, &view, &mut Found::default());
            }
        }
        assert!(lists.lists.len() == 1 && lists.lists[0].len() <= 4);
    }
}
