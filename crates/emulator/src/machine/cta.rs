//! A block (CTA): its shared memory and barriers.

use std::collections::BTreeMap;

use crate::check::clock::Clock;
use crate::memory::window::SHARED_START;
use crate::ops::cluster::RemoteUses;
use crate::ops::mbarrier_state::MbarrierShadow;
use crate::ops::registers::RegisterPool;
use crate::ops::wgmma::WarpgroupState;

/// One of the 16 named barriers (PTX ISA 9.7.13.1).
#[derive(Debug, Default)]
pub(crate) struct NamedBarrier {
    /// Threads that came, and how many are expected; 0 where nobody came yet.
    pub(crate) arrived: u32,
    pub(crate) expected: u32,
    /// Whether all threads of the block are expected, however many still run.
    pub(crate) whole_block: bool,
    /// Warps that came in this generation, a bit each, and where the first of them stands.
    pub(crate) warps: u64,
    pub(crate) first_pc: u32,
    /// How often it completed.
    pub(crate) generation: u64,
    /// Clocks of those that came; what is released.
    pub(crate) gathering: Clock,
    pub(crate) released: Clock,
    /// `barrier.red`: the value being gathered and the last result.
    pub(crate) reduction: u32,
    pub(crate) result: u32,
}

/// A block.
#[derive(Debug)]
pub(crate) struct Cta {
    /// `%ctaid`.
    pub(crate) id: [u32; 3],
    pub(crate) rank: u32,
    /// Shared memory from offset 0, the reserved part included.
    pub(crate) shared: Vec<u8>,
    /// A bit per byte of shared memory: whether something wrote it.
    pub(crate) shared_written: Vec<u64>,
    pub(crate) named: [NamedBarrier; 16],
    /// What is known of the mbarriers beyond their 8 bytes, by offset.
    pub(crate) mbarriers: BTreeMap<u32, MbarrierShadow>,
    /// One per four warps.
    pub(crate) warpgroups: Vec<WarpgroupState>,
    /// Registers that `setmaxnreg` moves.
    pub(crate) registers: RegisterPool,
    /// What the cluster's other blocks did to the shared memory.
    pub(crate) remote: RemoteUses,
    /// Threads that have not exited.
    pub(crate) live_threads: u32,
}

impl Cta {
    /// A block with this much shared memory, the reserved part not counted.
    pub(crate) fn new(id: [u32; 3], rank: u32, threads: u32, shared_bytes: u32) -> Cta {
        let len = (SHARED_START + shared_bytes) as usize;
        Cta {
            id,
            rank,
            shared: vec![0; len],
            shared_written: vec![0; len.div_ceil(64)],
            named: Default::default(),
            mbarriers: BTreeMap::new(),
            warpgroups: (0..threads.div_ceil(128)).map(|_| WarpgroupState::default()).collect(),
            registers: RegisterPool::default(),
            remote: RemoteUses::default(),
            live_threads: threads,
        }
    }

    /// Range of an access in [`Cta::shared`], if it is inside.
    pub(crate) fn range(&self, offset: u32, len: u32) -> Option<std::ops::Range<usize>> {
        let start = offset as usize;
        let end = start.checked_add(len as usize)?;
        (offset >= SHARED_START && end <= self.shared.len()).then_some(start..end)
    }

    /// Notes that bytes were written.
    pub(crate) fn mark_written(&mut self, offset: u32, len: u32) {
        each_word(offset, len, |word, bits| self.shared_written[word] |= bits);
    }

    /// Notes that the bytes of a range were written that the pattern has, a bit for each byte of every 64.
    pub(crate) fn mark_pattern(&mut self, offset: u32, len: u32, pattern: u64) {
        each_word(offset, len, |word, bits| self.shared_written[word] |= bits & pattern);
    }

    /// The first byte of a range that nothing wrote.
    pub(crate) fn first_unwritten(&self, offset: u32, len: u32) -> Option<u32> {
        let mut first = None;
        each_word(offset, len, |word, bits| {
            let missing = bits & !self.shared_written[word];
            if missing != 0 && first.is_none() {
                first = Some(word as u32 * 64 + missing.trailing_zeros());
            }
        });
        first
    }
}

fn each_word(offset: u32, len: u32, mut f: impl FnMut(usize, u64)) {
    let (mut at, end) = (offset, offset + len);
    while at < end {
        let bit = at % 64;
        let n = (64 - bit).min(end - at);
        let bits = if n == 64 { u64::MAX } else { ((1 << n) - 1) << bit };
        f((at / 64) as usize, bits);
        at += n;
    }
}
