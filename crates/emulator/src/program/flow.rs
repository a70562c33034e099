//! What instructions read and write, how control flows between them, and which registers are live.
//!
//! Registers of all frames have one numbering here. Everything is per thread: lanes of a warp have columns
//! of their own in every register, so divergence plays no part.

use zeroforge_ptx::table::{Presence, Role};
use zeroforge_ptx::{Base, Instruction, Opcode, Operand, RegisterId, Type};

use crate::program::flatten::{Flat, FlatKernel};

/// Most words of bits that the analysis may use: beyond, registers keep places of their own.
const MAX_WORDS: usize = 1 << 24;

/// The registers of an instruction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accesses {
    pub(crate) guard: Option<u32>,
    pub(crate) reads: Vec<u32>,
    /// Read only if another operand says so: accumulators of a wgmma, which may start from zero.
    pub(crate) perhaps: Vec<u32>,
    pub(crate) writes: Vec<u32>,
}

/// A basic block: a range of the code, and where it goes.
#[derive(Debug, Default)]
struct Block {
    start: usize,
    end: usize,
    next: Vec<usize>,
}

/// A kernel's registers and control flow.
pub(crate) struct Flow {
    /// Number of the first register of each frame.
    bases: Vec<u32>,
    /// Types of all registers.
    pub(crate) types: Vec<Type>,
    pub(crate) accesses: Vec<Accesses>,
    blocks: Vec<Block>,
}

/// Each operand with what is done with it; the descriptions that may be missing are there from left to
/// right, as the verifier matches them. What does not fit counts as read and written.
fn roles(i: &Instruction) -> impl Iterator<Item = (&Operand, Role)> {
    let all = i.form.operand_specs();
    let needed = |presence: &Presence| match presence {
        Presence::Always => true,
        Presence::Optional => false,
        Presence::With(modifier) => i.has(*modifier),
    };
    let least = all.iter().filter(|s| needed(&s.presence)).count();
    let mut spare = i.operands.len().saturating_sub(least);
    let specs: Vec<Role> = all
        .iter()
        .filter(|spec| {
            let optional = spec.presence == Presence::Optional && spare > 0;
            spare -= usize::from(optional);
            optional || needed(&spec.presence)
        })
        .map(|spec| spec.role)
        .collect();
    i.operands
        .iter()
        .enumerate()
        .map(move |(k, operand)| (operand, specs.get(k).copied().unwrap_or(Role::ReadWrite)))
}

impl Accesses {
    fn of(item: &Flat<'_>, base: u32) -> Accesses {
        let i = item.instruction();
        let mut all =
            Accesses { guard: i.guard.map(|g| base + g.register.0), ..Accesses::default() };
        // The instruction of a return is not executed, only its guard.
        if !matches!(item, Flat::Return(_)) {
            for (operand, role) in roles(i) {
                all.operand(operand, role, base);
            }
        }
        all
    }

    fn operand(&mut self, operand: &Operand, role: Role, base: u32) {
        let mut read = |r: RegisterId| self.reads.push(base + r.0);
        let mut address = |b: Base| {
            if let Base::Register(r) = b {
                read(r);
            }
        };
        match operand {
            Operand::Register(r) => match role {
                Role::Read => self.reads.push(base + r.0),
                Role::Write => self.writes.push(base + r.0),
                Role::ReadWrite => {
                    self.perhaps.push(base + r.0);
                    self.writes.push(base + r.0);
                }
            },
            Operand::Not(r) => read(*r),
            Operand::Memory(a) => address(a.base),
            Operand::Tensor { map, coordinates } => {
                address(map.base);
                for c in coordinates {
                    self.operand(c, Role::Read, base);
                }
            }
            Operand::Vector(list) | Operand::List(list) => {
                for element in list {
                    self.operand(element, role, base);
                }
            }
            Operand::Pair(a, b) => {
                self.operand(a, role, base);
                self.operand(b, role, base);
            }
            Operand::Special(_)
            | Operand::Immediate(_)
            | Operand::Sink
            | Operand::Symbol(_, _)
            | Operand::Label(_)
            | Operand::Prototype(_) => {}
        }
    }

    /// All registers that the instruction may read.
    pub(crate) fn all_reads(&self) -> impl Iterator<Item = u32> + '_ {
        self.guard.iter().chain(&self.reads).chain(&self.perhaps).copied()
    }

    /// Whether its writes happen whenever it is reached.
    pub(crate) fn is_certain(&self) -> bool {
        self.guard.is_none()
    }
}

/// Sets of numbers below a fixed bound, one after the other in memory.
pub(crate) struct Sets {
    words: usize,
    bits: Vec<u64>,
}

impl Sets {
    /// `count` empty sets; None if they would take too much memory.
    pub(crate) fn new(count: usize, bound: usize) -> Option<Sets> {
        let words = bound.div_ceil(64);
        let all = words.checked_mul(count).filter(|&n| n <= MAX_WORDS)?;
        Some(Sets { words, bits: vec![0; all] })
    }

    pub(crate) fn get(&self, set: usize) -> &[u64] {
        &self.bits[set * self.words..(set + 1) * self.words]
    }

    pub(crate) fn get_mut(&mut self, set: usize) -> &mut [u64] {
        &mut self.bits[set * self.words..(set + 1) * self.words]
    }
}

pub(crate) fn has(set: &[u64], at: usize) -> bool {
    set[at / 64] >> (at % 64) & 1 == 1
}

pub(crate) fn insert(set: &mut [u64], at: usize) {
    set[at / 64] |= 1 << (at % 64);
}

pub(crate) fn remove(set: &mut [u64], at: usize) {
    set[at / 64] &= !(1 << (at % 64));
}

pub(crate) fn members(set: &[u64]) -> impl Iterator<Item = usize> + '_ {
    set.iter().enumerate().flat_map(|(w, &word)| {
        let mut left = word;
        std::iter::from_fn(move || {
            let bit = left.trailing_zeros() as usize;
            (bit < 64).then(|| {
                left &= left - 1;
                w * 64 + bit
            })
        })
    })
}

impl Flow {
    /// The flow of a kernel with everything put into it.
    pub(crate) fn of(flat: &FlatKernel<'_>) -> Flow {
        let mut bases = Vec::with_capacity(flat.frames.len());
        let mut types = Vec::new();
        for frame in &flat.frames {
            bases.push(types.len() as u32);
            let registers = frame.function.body.as_ref().map_or(&[][..], |b| &b.registers[..]);
            types.extend(registers.iter().map(|r| r.ty));
        }
        let bound = types.len() as u32;
        let accesses = flat.code.iter().map(|(frame, item)| {
            let mut all = Accesses::of(item, bases[*frame as usize]);
            // Registers that do not exist are refused when the instruction is decoded.
            all.guard = all.guard.filter(|&r| r < bound);
            for list in [&mut all.reads, &mut all.perhaps, &mut all.writes] {
                list.retain(|&r| r < bound);
            }
            all
        });
        let accesses = accesses.collect();
        let mut flow = Flow { bases, types, accesses, blocks: blocks(flat) };
        flow.keep_in_flight(flat);
        flow
    }

    /// The frame's register of a number.
    pub(crate) fn number(&self, frame: usize, register: usize) -> usize {
        self.bases[frame] as usize + register
    }

    /// Registers that a wgmma works on are used until the work is known to be complete: `wgmma.wait_group`
    /// counts as a read of all that may be in flight (PTX ISA 9.7.15.7).
    fn keep_in_flight(&mut self, flat: &FlatKernel<'_>) {
        let opcode = |at: usize| flat.code[at].1.instruction().opcode();
        let mut numbers = std::collections::HashMap::new();
        for (at, all) in self.accesses.iter().enumerate() {
            if opcode(at) == Opcode::WgmmaMmaAsync {
                for r in all.reads.iter().chain(&all.writes) {
                    let next = numbers.len();
                    numbers.entry(*r).or_insert(next);
                }
            }
        }
        let Some(mut sets) = Sets::new(self.blocks.len() + 1, numbers.len()) else { return };
        if numbers.is_empty() {
            return;
        }
        let mut registers = vec![0; numbers.len()];
        for (&r, &n) in &numbers {
            registers[n] = r;
        }
        let step = |at: usize, all: &Accesses, set: &mut [u64]| match opcode(at) {
            Opcode::WgmmaMmaAsync => {
                for r in all.reads.iter().chain(&all.writes) {
                    insert(set, numbers[r]);
                }
            }
            Opcode::WgmmaWaitGroup if waits_for_all(flat.code[at].1.instruction()) => set.fill(0),
            _ => {}
        };
        let temporary = self.blocks.len();
        let mut work: Vec<usize> = (0..self.blocks.len()).rev().collect();
        while let Some(b) = work.pop() {
            let entry = sets.get(b).to_vec();
            sets.get_mut(temporary).copy_from_slice(&entry);
            for at in self.blocks[b].start..self.blocks[b].end {
                step(at, &self.accesses[at], sets.get_mut(temporary));
            }
            let exit = sets.get(temporary).to_vec();
            for &next in &self.blocks[b].next {
                let mut grown = false;
                for (to, &from) in sets.get_mut(next).iter_mut().zip(&exit) {
                    grown |= from & !*to != 0;
                    *to |= from;
                }
                if grown && !work.contains(&next) {
                    work.push(next);
                }
            }
        }
        for b in 0..self.blocks.len() {
            let mut set = sets.get(b).to_vec();
            for at in self.blocks[b].start..self.blocks[b].end {
                if opcode(at) == Opcode::WgmmaWaitGroup {
                    self.accesses[at].perhaps.extend(members(&set).map(|n| registers[n]));
                }
                step(at, &self.accesses[at], &mut set);
            }
        }
    }

    /// Calls a function with each position in execution order within blocks, backwards, and with the
    /// registers that are live after the instruction. None if the analysis would take too much memory.
    pub(crate) fn live(&self) -> Option<Live> {
        // Registers that are read in a block that did not write them: only they can be live between blocks.
        let bound = self.types.len();
        let mut numbers = vec![u32::MAX; bound];
        let mut registers = Vec::new();
        let mut written_in = vec![usize::MAX; bound];
        for (b, block) in self.blocks.iter().enumerate() {
            for at in block.start..block.end {
                let all = &self.accesses[at];
                for r in all.all_reads() {
                    if written_in[r as usize] != b && numbers[r as usize] == u32::MAX {
                        numbers[r as usize] = registers.len() as u32;
                        registers.push(r);
                    }
                }
                if all.is_certain() {
                    for &r in &all.writes {
                        written_in[r as usize] = b;
                    }
                }
            }
        }
        let count = registers.len();
        let mut sets = Sets::new(self.blocks.len() * 2, count)?;
        // Set 2b: live at the entry of b. 2b + 1: at its exit.
        let mut before = vec![Vec::new(); self.blocks.len()];
        for (b, block) in self.blocks.iter().enumerate() {
            for &next in &block.next {
                before[next].push(b);
            }
        }
        let mut queued = vec![true; self.blocks.len()];
        let mut work: Vec<usize> = (0..self.blocks.len()).collect();
        while let Some(b) = work.pop() {
            queued[b] = false;
            let mut set = vec![0u64; count.div_ceil(64)];
            for &next in &self.blocks[b].next {
                for (to, &from) in set.iter_mut().zip(sets.get(2 * next)) {
                    *to |= from;
                }
            }
            sets.get_mut(2 * b + 1).copy_from_slice(&set);
            for at in (self.blocks[b].start..self.blocks[b].end).rev() {
                let all = &self.accesses[at];
                let number = |r: u32| Some(numbers[r as usize]).filter(|&n| n != u32::MAX);
                if all.is_certain() {
                    for n in all.writes.iter().filter_map(|&r| number(r)) {
                        remove(&mut set, n as usize);
                    }
                }
                for n in all.all_reads().filter_map(number) {
                    insert(&mut set, n as usize);
                }
            }
            if sets.get(2 * b) != set {
                sets.get_mut(2 * b).copy_from_slice(&set);
                for &p in &before[b] {
                    if !queued[p] {
                        queued[p] = true;
                        work.push(p);
                    }
                }
            }
        }
        Some(Live { registers, sets })
    }

    /// Ranges of the code, their live registers at entry and exit, as given by [`Flow::live`].
    pub(crate) fn ranges<'a>(
        &'a self,
        live: &'a Live,
    ) -> impl Iterator<Item = (std::ops::Range<usize>, [Vec<u32>; 2])> + 'a {
        self.blocks.iter().enumerate().map(move |(b, block)| {
            let list = |set| members(live.sets.get(set)).map(|n| live.registers[n]).collect();
            (block.start..block.end, [list(2 * b), list(2 * b + 1)])
        })
    }

    /// Runs a forward analysis of sets of `bound` numbers: `step` changes a set as an instruction does, sets
    /// of several ways into a block are intersected, `start` is the set at the kernel's start. Then calls
    /// `visit` with each instruction that can be reached and the set before it. False if that would take too
    /// much memory.
    pub(crate) fn forward(
        &self,
        bound: usize,
        step: impl Fn(usize, &mut [u64]),
        mut visit: impl FnMut(usize, &[u64]),
    ) -> bool {
        let Some(mut sets) = Sets::new(self.blocks.len(), bound) else { return false };
        let mut reached = vec![false; self.blocks.len()];
        let mut queued = vec![false; self.blocks.len()];
        let mut work = Vec::new();
        if !self.blocks.is_empty() {
            (reached[0], queued[0]) = (true, true);
            work.push(0);
        }
        while let Some(b) = work.pop() {
            queued[b] = false;
            let mut set = sets.get(b).to_vec();
            for at in self.blocks[b].start..self.blocks[b].end {
                step(at, &mut set);
            }
            for &next in &self.blocks[b].next {
                let to = sets.get_mut(next);
                let mut changed = !reached[next];
                if reached[next] {
                    for (to, &from) in to.iter_mut().zip(&set) {
                        changed |= *to & !from != 0;
                        *to &= from;
                    }
                } else {
                    to.copy_from_slice(&set);
                    reached[next] = true;
                }
                if changed && !queued[next] {
                    queued[next] = true;
                    work.push(next);
                }
            }
        }
        for b in (0..self.blocks.len()).filter(|&b| reached[b]) {
            let mut set = sets.get(b).to_vec();
            for at in self.blocks[b].start..self.blocks[b].end {
                visit(at, &set);
                step(at, &mut set);
            }
        }
        true
    }
}

/// Live registers of each block.
pub(crate) struct Live {
    registers: Vec<u32>,
    sets: Sets,
}

impl Live {
    /// Registers that may be read before anything wrote them.
    pub(crate) fn at_start(&self) -> Vec<u32> {
        if self.sets.bits.is_empty() {
            return Vec::new();
        }
        members(self.sets.get(0)).map(|n| self.registers[n]).collect()
    }
}

fn waits_for_all(i: &Instruction) -> bool {
    use zeroforge_ptx::Immediate;
    matches!(i.operands.first(), Some(Operand::Immediate(Immediate::Integer(0))))
}

/// Where an instruction goes besides the next one, and whether it can go to the next one.
fn targets(flat: &FlatKernel<'_>, at: usize) -> (Vec<u32>, bool) {
    let (frame, item) = &flat.code[at];
    let i = item.instruction();
    let label = |operand: &Operand| match operand {
        Operand::Label(l) => flat.frames[*frame as usize].label(*l),
        _ => None,
    };
    let goes_on = i.guard.is_some();
    match item {
        Flat::Return(_) => (vec![flat.end_of(*frame)], goes_on),
        Flat::Provided(..) => (Vec::new(), true),
        Flat::Instruction(_) => match i.opcode() {
            Opcode::Bra => (i.operands.iter().filter_map(label).collect(), goes_on),
            Opcode::BrxIdx => {
                let all = i.operands.iter().flat_map(|o| match o {
                    Operand::List(list) => list.as_slice(),
                    other => std::slice::from_ref(other),
                });
                (all.filter_map(label).collect(), goes_on)
            }
            Opcode::Ret | Opcode::Exit | Opcode::Trap => (Vec::new(), goes_on),
            _ => (Vec::new(), true),
        },
    }
}

fn ends_block(item: &Flat<'_>) -> bool {
    let opcode = item.instruction().opcode();
    matches!(item, Flat::Return(_))
        || matches!(
            opcode,
            Opcode::Bra | Opcode::BrxIdx | Opcode::Ret | Opcode::Exit | Opcode::Trap
        )
}

fn blocks(flat: &FlatKernel<'_>) -> Vec<Block> {
    let len = flat.code.len();
    let mut leads = vec![false; len + 1];
    leads[0] = true;
    for (at, (_, item)) in flat.code.iter().enumerate() {
        if ends_block(item) {
            leads[at + 1] = true;
            for target in targets(flat, at).0 {
                leads[target as usize] = true;
            }
        }
    }
    let starts: Vec<usize> = (0..len).filter(|&at| leads[at]).collect();
    let mut of = vec![usize::MAX; len + 1];
    for (b, &start) in starts.iter().enumerate() {
        of[start] = b;
    }
    let mut blocks = Vec::with_capacity(starts.len());
    for (b, &start) in starts.iter().enumerate() {
        let end = starts.get(b + 1).copied().unwrap_or(len);
        let (mut next, goes_on) = targets(flat, end - 1);
        if goes_on {
            next.push(end as u32);
        }
        // Behind the last instruction threads exit.
        let mut next: Vec<usize> =
            next.into_iter().map(|t| of[t as usize]).filter(|&b| b != usize::MAX).collect();
        next.sort_unstable();
        next.dedup();
        blocks.push(Block { start, end, next });
    }
    blocks
}
