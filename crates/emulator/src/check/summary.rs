//! Which clusters read and wrote which bytes of global memory, in launches whose clusters cannot order their
//! accesses: there a byte that one cluster writes and another one touches is a race, whatever the order in
//! which the emulator ran them.
//!
//! For every piece of memory the first and the last cluster are kept that wrote and that read it, as maxima
//! that host threads update without locks. They do not depend on the order of the updates, so what is found
//! depends on the launch alone and not on the number of host threads.
//!
//! Pieces have 128, 16, 4 and 1 bytes. An access is noted at the largest pieces that it covers, so that copies
//! and coalesced accesses cost little memory and single bytes of different blocks are still told apart.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Bytes of the pieces of a level, as shifts, the largest first.
const SHIFTS: [u32; 4] = [7, 4, 2, 0];
/// Bytes of memory whose pieces are made at once.
const PAGE_SHIFT: u32 = 14;
/// Bytes of summaries beyond which no more are made.
const LIMIT: u64 = 4 << 30;

/// Who accessed something: what orders accesses by cluster, and what a report needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(u64);

impl Mark {
    /// Clusters beyond 2^30 and instructions beyond 2^20 are taken for the last.
    pub(crate) fn new(cluster: u32, rank: u32, warp: u32, lane: u32, pc: u32) -> Mark {
        let cluster = u64::from(cluster.min((1 << 30) - 1));
        let pc = u64::from(pc.min((1 << 20) - 2)) + 1;
        let (rank, warp, lane) = (u64::from(rank), u64::from(warp), u64::from(lane));
        Mark(cluster << 34 | (rank & 15) << 30 | (warp & 31) << 25 | (lane & 31) << 20 | pc)
    }

    pub(crate) fn cluster(self) -> u32 {
        (self.0 >> 34) as u32
    }

    pub(crate) fn rank(self) -> u32 {
        (self.0 >> 30) as u32 & 15
    }

    pub(crate) fn warp(self) -> u32 {
        (self.0 >> 25) as u32 & 31
    }

    pub(crate) fn lane(self) -> u32 {
        (self.0 >> 20) as u32 & 31
    }

    pub(crate) fn pc(self) -> u32 {
        (self.0 as u32 & ((1 << 20) - 1)).wrapping_sub(1)
    }
}

/// Of a piece: the complement of the least mark, and the greatest one, of writes and of reads; 0 for none.
#[derive(Debug, Default)]
struct Piece {
    marks: [AtomicU64; 4],
}

impl Piece {
    #[inline]
    fn add(&self, mark: Mark, writes: bool) {
        let at = if writes { 0 } else { 2 };
        for (cell, value) in [(&self.marks[at], !mark.0), (&self.marks[at + 1], mark.0)] {
            if cell.load(Relaxed) < value {
                cell.fetch_max(value, Relaxed);
            }
        }
    }

    fn get(&self) -> [u64; 4] {
        std::array::from_fn(|i| self.marks[i].load(Relaxed))
    }
}

type Level = OnceLock<Box<[OnceLock<Box<[Piece]>>]>>;

/// Summaries of an allocation.
#[derive(Debug, Default)]
struct OfAllocation {
    levels: [Level; 4],
}

/// Summaries of all memory.
#[derive(Debug, Default)]
pub(crate) struct Summaries {
    of: Vec<OfAllocation>,
    bytes: AtomicU64,
    full: AtomicBool,
}

/// A byte that a cluster writes and another one touches.
#[derive(Debug)]
pub(crate) struct Clash {
    /// Index of the allocation and offset in it.
    pub(crate) allocation: usize,
    pub(crate) offset: u64,
    pub(crate) writer: Mark,
    pub(crate) other: Mark,
    /// Whether the other one writes too.
    pub(crate) both_write: bool,
}

impl Summaries {
    pub(crate) fn new(allocations: usize) -> Summaries {
        let of = std::iter::repeat_with(OfAllocation::default).take(allocations).collect();
        Summaries { of, ..Summaries::default() }
    }

    /// Whether memory for summaries ran out, so that accesses were not noted.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Relaxed)
    }

    /// Notes an access to a range of an allocation of `size` bytes.
    #[inline]
    pub(crate) fn add(
        &self,
        allocation: usize,
        size: u64,
        offset: u64,
        len: u64,
        writes: bool,
        mark: impl Fn(u64) -> Mark,
    ) {
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let level = SHIFTS.iter().position(|&s| at % (1 << s) == 0 && end - at >= 1 << s);
            let level = level.unwrap_or(SHIFTS.len() - 1);
            let bytes = 1 << SHIFTS[level];
            if let Some(pieces) = self.page(allocation, size, level, at) {
                let index = (at & ((1 << PAGE_SHIFT) - 1)) >> SHIFTS[level];
                pieces[index as usize].add(mark(at), writes);
            }
            at += bytes;
        }
    }

    fn page(&self, allocation: usize, size: u64, level: usize, at: u64) -> Option<&[Piece]> {
        let pages = self.of.get(allocation)?.levels[level].get_or_init(|| {
            let count = size.div_ceil(1 << PAGE_SHIFT);
            std::iter::repeat_with(OnceLock::new).take(count as usize).collect()
        });
        let page = pages.get((at >> PAGE_SHIFT) as usize)?;
        if let Some(pieces) = page.get() {
            return Some(pieces);
        }
        let count = 1usize << (PAGE_SHIFT - SHIFTS[level]);
        let bytes = (count * size_of::<Piece>()) as u64;
        if self.bytes.fetch_add(bytes, Relaxed) + bytes > LIMIT {
            self.bytes.fetch_sub(bytes, Relaxed);
            self.full.store(true, Relaxed);
            return None;
        }
        Some(page.get_or_init(|| std::iter::repeat_with(Piece::default).take(count).collect()))
    }

    /// Calls `f` for every byte range that clusters clash on, in the order of addresses.
    pub(crate) fn clashes(&self, mut f: impl FnMut(Clash)) {
        for (allocation, of) in self.of.iter().enumerate() {
            let pages = of.levels.iter().filter_map(|l| l.get()).map(|l| l.len()).max();
            for page in 0..pages.unwrap_or(0) {
                let levels: [Option<&[Piece]>; 4] = std::array::from_fn(|l| {
                    of.levels[l].get().and_then(|p| p[page].get()).map(|p| &p[..])
                });
                let base = (page as u64) << PAGE_SHIFT;
                scan(&levels, 0, 0, 1 << PAGE_SHIFT, [0; 4], &mut |offset, marks| {
                    if let Some((writer, other, both_write)) = clash(marks) {
                        f(Clash { allocation, offset: base + offset, writer, other, both_write });
                    }
                });
            }
        }
    }
}

/// Joins the marks of the levels and calls `f` for the smallest pieces that exist.
fn scan(
    levels: &[Option<&[Piece]>; 4],
    level: usize,
    from: u64,
    to: u64,
    above: [u64; 4],
    f: &mut impl FnMut(u64, [u64; 4]),
) {
    let Some(next) = (level..4).find(|&l| levels[l].is_some()) else {
        f(from, above);
        return;
    };
    let Some(pieces) = levels[next] else { return };
    let deeper = levels[next + 1..].iter().any(Option::is_some);
    for at in (from..to).step_by(1 << SHIFTS[next]) {
        let own = pieces[(at >> SHIFTS[next]) as usize].get();
        let marks = std::array::from_fn(|i| above[i].max(own[i]));
        match deeper {
            true => scan(levels, next + 1, at, at + (1 << SHIFTS[next]), marks, f),
            false => f(at, marks),
        }
    }
}

/// The two sides of a clash: the first writer and somebody of another cluster.
fn clash([least_write, last_write, least_read, last_read]: [u64; 4]) -> Option<(Mark, Mark, bool)> {
    if last_write == 0 {
        return None;
    }
    let (first, last) = (Mark(!least_write), Mark(last_write));
    if first.cluster() != last.cluster() {
        return Some((first, last, true));
    }
    if last_read == 0 {
        return None;
    }
    let readers = [Mark(!least_read), Mark(last_read)];
    let other = readers.into_iter().find(|r| r.cluster() != first.cluster())?;
    Some((first, other, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(cluster: u32) -> impl Fn(u64) -> Mark {
        move |_| Mark::new(cluster, 3, 7, 21, 1234)
    }

    fn found(accesses: &[(u32, u64, u64, bool)]) -> Vec<u64> {
        let summaries = Summaries::new(1);
        for &(cluster, offset, len, writes) in accesses {
            summaries.add(0, 1 << 20, offset, len, writes, mark(cluster));
        }
        let mut out = Vec::new();
        summaries.clashes(|c| out.push(c.offset));
        out
    }

    #[test]
    fn a_mark_keeps_what_it_was_made_of() {
        let m = Mark::new(1_000_000, 15, 31, 30, 999_999);
        assert_eq!(
            (m.cluster(), m.rank(), m.warp(), m.lane(), m.pc()),
            (1_000_000, 15, 31, 30, 999_999)
        );
        assert_eq!(Mark::new(0, 0, 0, 0, 0).pc(), 0);
    }

    #[test]
    fn clusters_clash_on_the_bytes_that_one_writes_and_another_touches() {
        // Neighbouring bytes and words of different clusters.
        assert!(
            found(&[(0, 0, 1, true), (1, 1, 1, true), (2, 2, 2, true), (3, 4, 4, true)]).is_empty()
        );
        assert_eq!(found(&[(0, 0, 1, true), (1, 0, 4, false)]), [0]);
        assert_eq!(found(&[(1, 0, 4096, false), (0, 1000, 2, true)]), [1000, 1001]);
        assert_eq!(found(&[(5, 128, 128, true), (5, 128, 128, false)]), [] as [u64; 0]);
        assert_eq!(found(&[(5, 128, 128, true), (6, 160, 16, true)]), [160]);
        assert!(found(&[(0, 0, 4096, false), (1, 0, 4096, false)]).is_empty());
        assert_eq!(
            found(&[(3, 20_000, 8, true), (1, 20_004, 4, false), (2, 20_004, 4, false)]),
            [20_004]
        );
    }

    #[test]
    fn the_order_of_accesses_does_not_matter() {
        let mut random = crate::machine::context::Random::new(7);
        for _ in 0..300 {
            let accesses: Vec<_> = (0..12)
                .map(|_| {
                    let shift = random.below(8);
                    let offset = random.below(512 >> shift) << shift;
                    (random.below(3) as u32, offset as u64, 1 << shift, random.below(4) == 0)
                })
                .collect();
            let mut other = accesses.clone();
            other.reverse();
            other.rotate_left(random.below(12));
            let expected: Vec<u64> = (0..640u64)
                .filter(|&byte| {
                    let on: Vec<_> =
                        accesses.iter().filter(|a| a.1 <= byte && byte < a.1 + a.2).collect();
                    on.iter().any(|a| a.3 && on.iter().any(|b| b.0 != a.0))
                })
                .collect();
            let (a, b) = (found(&accesses), found(&other));
            assert_eq!(a, b);
            // Found pieces may be larger than a byte, and only their starts are told.
            assert!(a.iter().all(|x| expected.contains(x)), "{accesses:?}: {a:?} {expected:?}");
            assert_eq!(a.is_empty(), expected.is_empty(), "{accesses:?}");
        }
    }
}
