//! A warp: registers, lanes, and the fragments into which branches take it apart.
//!
//! Lanes that are at the same instruction run together. A divergent branch splits the running lanes in two
//! fragments; the one with the lowest `pc` goes first, so that the others are met where the paths join
//! again, as compilers lay code out. A fragment that waits lets the others run.

use crate::check::clock::{Clock, Lanes};
use crate::ops::bulk::BulkState;
use crate::ops::cp_async::CpAsyncState;
use crate::ops::wgmma::WgmmaState;
use crate::program::Kernel;

/// Lanes of a warp.
pub(crate) const LANES: usize = 32;
/// All lanes.
pub(crate) const ALL: u32 = u32::MAX;

pub(crate) type Lanes32 = [u32; LANES];
pub(crate) type Lanes64 = [u64; LANES];

/// What a fragment waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Other lanes of the warp, to come to the same instruction.
    Lanes,
    /// A named barrier to leave this generation.
    Named { barrier: u32, generation: u64 },
    /// The mbarrier at a shared offset of the own block to leave the phase of this parity.
    Mbarrier { offset: u32, parity: u32 },
    /// The cluster barrier to leave this generation.
    Cluster { generation: u64 },
    /// The other warps of a warpgroup to start the wgmmas of a group.
    Warpgroup { index: u32, group: u64 },
    /// Registers for a warpgroup.
    Registers { count: u32 },
}

/// Lanes that are at one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) pc: u32,
    pub(crate) mask: u32,
    pub(crate) wait: Option<Wait>,
}

/// A warp.
#[derive(Debug)]
pub(crate) struct Warp {
    /// 32-bit registers and constants; 8- and 16-bit values are zero-extended.
    pub(crate) r32: Vec<Lanes32>,
    /// 64-bit registers and constants.
    pub(crate) r64: Vec<Lanes64>,
    /// Predicates and constants, a bit per lane.
    pub(crate) p: Vec<u32>,
    /// Tracked registers: lanes that wrote them.
    pub(crate) tracked: Vec<u32>,

    /// The running fragment.
    pub(crate) pc: u32,
    pub(crate) active: u32,
    pub(crate) wait: Option<Wait>,
    /// Lanes that execute the current instruction: active ones whose guard holds.
    pub(crate) mask: u32,
    /// The other fragments.
    pub(crate) fragments: Vec<Fragment>,
    /// The lowest `pc` at which another fragment may be met or must go first.
    meet_at: u32,
    /// The carry flag of extended-precision arithmetic, a bit per lane (PTX ISA 9.7.2).
    pub(crate) carry: u32,
    /// Lanes that have not exited.
    pub(crate) live: u32,

    /// Rank of the block in its cluster.
    pub(crate) rank: u32,
    /// Index in the block.
    pub(crate) index: u32,
    /// Index in the cluster; names the warp to the race detector.
    pub(crate) actor: u32,
    /// `%tid` of each lane.
    pub(crate) tid: [Lanes32; 3],
    /// Local memory, one lane after the other.
    pub(crate) local: Vec<u8>,
    /// What the warp has seen of others; see [`Clock`].
    pub(crate) clock: Clock,
    /// The warp's count when its lanes were last ordered among themselves (`bar.warp.sync`, barriers):
    /// accesses of different lanes race if both come after it.
    pub(crate) lanes_ordered: u32,
    /// What the warp had seen at its last fence, which its strong writes hand on, with its own count; and what its strong reads
    /// were handed, which its next fence takes over (PTX ISA 8.10, release and acquire patterns).
    pub(crate) fenced: Option<Box<(Clock, u32)>>,
    pub(crate) handed: Option<Box<Clock>>,

    /// A `barrier.red` whose result is not taken yet.
    pub(crate) reducing: Option<u64>,
    pub(crate) cp_async: CpAsyncState,
    pub(crate) bulk: BulkState,
    pub(crate) wgmma: WgmmaState,

    /// Instructions executed, by the warp and by its lanes.
    pub(crate) executed: u64,
    pub(crate) lanes_executed: u64,
}

impl Warp {
    /// A warp at the start of a kernel. `tid` has the first lane's linear thread index.
    pub(crate) fn new(kernel: &Kernel, block: [u32; 3], rank: u32, index: u32, actor: u32) -> Warp {
        let threads = block.iter().product::<u32>();
        let first = index * LANES as u32;
        let count = (threads - first).min(LANES as u32);
        let lanes = if count == 32 { ALL } else { (1 << count) - 1 };
        let thread = |lane: usize| first + lane as u32;
        let tid = [
            std::array::from_fn(|lane| thread(lane) % block[0]),
            std::array::from_fn(|lane| thread(lane) / block[0] % block[1]),
            std::array::from_fn(|lane| thread(lane) / (block[0] * block[1])),
        ];
        let mut r32 = vec![[0; LANES]; kernel.files.r32];
        r32.extend(kernel.files.constants32.iter().map(|&c| [c; LANES]));
        let mut r64 = vec![[0; LANES]; kernel.files.r64];
        r64.extend(kernel.files.constants64.iter().map(|&c| [c; LANES]));
        let mut p = vec![0; kernel.files.predicates];
        p.extend([0, ALL]);
        Warp {
            r32,
            r64,
            p,
            tracked: vec![0; kernel.files.tracked.len()],
            pc: 0,
            active: lanes,
            wait: None,
            mask: lanes,
            fragments: Vec::new(),
            meet_at: u32::MAX,
            carry: 0,
            live: lanes,
            rank,
            index,
            actor,
            tid,
            local: vec![0; kernel.local_bytes as usize * LANES],
            clock: Clock::of(actor),
            lanes_ordered: 0,
            fenced: None,
            handed: None,
            reducing: None,
            cp_async: CpAsyncState::default(),
            bulk: BulkState::default(),
            wgmma: WgmmaState::default(),
            executed: 0,
            lanes_executed: 0,
        }
    }

    /// Orders the lanes among themselves.
    pub(crate) fn order_lanes(&mut self) {
        self.clock.tick();
        self.lanes_ordered = self.clock.now();
    }

    /// The first own count from which the lanes are not ordered among themselves.
    pub(crate) fn ordered_from(&self) -> u32 {
        self.lanes_ordered.max(self.clock.unordered_from())
    }

    /// The lanes that execute, where they are not all that live; what they release is theirs alone.
    fn some_lanes(&self) -> Option<Lanes> {
        let ordered_from = self.ordered_from();
        (self.live & !self.mask != 0).then_some(Lanes { mask: self.mask, ordered_from })
    }

    /// Gives what the executing lanes have done and seen to an object that others will acquire from.
    pub(crate) fn release_to(&mut self, object: &mut Clock) {
        match self.some_lanes() {
            Some(lanes) => self.clock.release_part_to(object, lanes),
            None => self.clock.release_to(object),
        }
    }

    /// `fence.proxy.async` by the executing lanes.
    pub(crate) fn fence_proxy(&mut self, shared: bool, global: bool) {
        match self.some_lanes() {
            Some(lanes) => self.clock.fence_proxy_part(shared, global, lanes),
            None => self.clock.fence_proxy_of(shared, global),
        }
    }

    /// Whether every lane has exited.
    pub(crate) fn is_done(&self) -> bool {
        self.live == 0
    }

    /// `d = f(a)` on 32-bit registers for the lanes of the mask.
    #[inline(always)]
    pub(crate) fn map1_32(&mut self, d: u32, a: u32, f: impl Fn(u32) -> u32) {
        self.map1(d, a, f);
    }

    /// `d = f(a, b)` on 32-bit registers for the lanes of the mask.
    #[inline(always)]
    pub(crate) fn map2_32(&mut self, d: u32, a: u32, b: u32, f: impl Fn(u32, u32) -> u32) {
        self.map2(d, [a, b], f);
    }

    /// `d = f(a, b, c)` on 32-bit registers for the lanes of the mask.
    #[inline(always)]
    pub(crate) fn map3_32(&mut self, d: u32, abc: [u32; 3], f: impl Fn(u32, u32, u32) -> u32) {
        self.map3(d, abc, f);
    }

    /// Sets a predicate for the lanes of the mask.
    #[inline(always)]
    pub(crate) fn set_predicate(&mut self, d: u32, bits: u32) {
        let p = &mut self.p[d as usize];
        *p = (*p & !self.mask) | (bits & self.mask);
    }

    /// Takes the running fragment apart: the lanes of `taken` go to `target`, the others go on. Sets `pc`.
    pub(crate) fn branch(&mut self, taken: u32, target: u32) {
        let next = self.pc + 1;
        let stay = self.active & !taken;
        if stay == 0 {
            self.pc = target;
        } else if taken == 0 {
            self.pc = next;
        } else {
            let (first, other) = match target < next {
                true => ((target, taken), (next, stay)),
                false => ((next, stay), (target, taken)),
            };
            (self.pc, self.active) = first;
            self.fragments.push(Fragment { pc: other.0, mask: other.1, wait: None });
            self.meet_at = self.meet_at.min(other.0);
        }
        if !self.fragments.is_empty() {
            self.reconverge();
        }
    }

    /// Sends lanes that were to go elsewhere to an instruction again, as a fragment of their own.
    pub(crate) fn send_back(&mut self, lanes: u32, pc: u32) {
        self.active &= !lanes;
        for f in &mut self.fragments {
            f.mask &= !lanes;
        }
        self.fragments.retain(|f| f.mask != 0);
        self.fragments.push(Fragment { pc, mask: lanes, wait: None });
        self.reconverge();
    }

    /// Whether the fragments must be looked at before the instruction at `pc`.
    #[inline(always)]
    pub(crate) fn must_reconverge(&self) -> bool {
        self.pc >= self.meet_at
    }

    /// Joins fragments at the same instruction and lets the one that is furthest behind go first.
    pub(crate) fn reconverge(&mut self) {
        let lowest = self.fragments.iter().filter(|f| f.wait.is_none()).map(|f| f.pc).min();
        if let Some(lowest) = lowest.filter(|&l| l < self.pc) {
            let at = self.fragments.iter().position(|f| f.wait.is_none() && f.pc == lowest);
            if let Some(at) = at {
                let other = std::mem::replace(
                    &mut self.fragments[at],
                    Fragment { pc: self.pc, mask: self.active, wait: self.wait },
                );
                (self.pc, self.active, self.wait) = (other.pc, other.mask, other.wait);
            }
        }
        self.join();
    }

    /// Joins fragments at the running one's instruction and notes where the next may be met.
    fn join(&mut self) {
        let (pc, mut active) = (self.pc, self.active);
        self.fragments.retain(|f| {
            let joins = f.pc == pc && matches!(f.wait, None | Some(Wait::Lanes));
            if joins {
                active |= f.mask;
            }
            !joins
        });
        self.active = active;
        self.meet_at = self
            .fragments
            .iter()
            .filter(|f| matches!(f.wait, None | Some(Wait::Lanes)) && f.pc > pc)
            .map(|f| f.pc)
            .min()
            .unwrap_or(u32::MAX);
    }

    /// Puts the running fragment aside and takes up one that can run: the lowest `pc`, or with `rotate`
    /// the one after the running one, so that a spinning fragment cannot keep the others from running.
    /// False if none can.
    pub(crate) fn switch(&mut self, rotate: bool) -> bool {
        if self.active != 0 {
            self.fragments.push(Fragment { pc: self.pc, mask: self.active, wait: self.wait });
            self.active = 0;
            self.wait = None;
        }
        let can_run = |f: &Fragment| f.wait.is_none();
        let at = match rotate {
            true => self.fragments.iter().position(can_run),
            false => (0..self.fragments.len())
                .filter(|&i| can_run(&self.fragments[i]))
                .min_by_key(|&i| self.fragments[i].pc),
        };
        let Some(at) = at else { return false };
        let f = self.fragments.remove(at);
        (self.pc, self.active, self.wait) = (f.pc, f.mask, None);
        match rotate {
            true => self.join(),
            false => self.reconverge(),
        }
        true
    }

    /// Ends lanes of the running fragment. Sets `pc` past the instruction for those that go on.
    pub(crate) fn exit(&mut self, lanes: u32) {
        self.live &= !lanes;
        self.active &= !lanes;
        self.pc += 1;
        // Nobody waits for lanes that are gone: the others look again.
        for f in &mut self.fragments {
            if f.wait == Some(Wait::Lanes) {
                f.wait = None;
            }
        }
        self.meet_at = 0;
    }

    /// Parks the running fragment until other lanes come to this instruction.
    pub(crate) fn wait_for_lanes(&mut self) {
        self.wait = Some(Wait::Lanes);
    }

    /// Parks some of the running lanes at their instruction until others come to it; the rest go on.
    pub(crate) fn park(&mut self, lanes: u32) {
        self.active &= !lanes;
        self.mask &= !lanes;
        self.fragments.push(Fragment { pc: self.pc, mask: lanes, wait: Some(Wait::Lanes) });
    }

    /// All fragments, the running one first; for reports.
    pub(crate) fn all_fragments(&self) -> Vec<Fragment> {
        let running = Fragment { pc: self.pc, mask: self.active, wait: self.wait };
        let all = std::iter::once(running).chain(self.fragments.iter().copied());
        all.filter(|f| f.mask != 0).collect()
    }
}
