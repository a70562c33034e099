//! Basic blocks, dominators and loops.

use std::collections::{BTreeMap, BTreeSet};

use crate::instruction::Instruction;

/// A straight run of instructions.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Index of its first instruction.
    pub start: usize,
    /// Index past its last.
    pub end: usize,
    /// Blocks that may follow.
    pub next: Vec<usize>,
}

/// A natural loop.
#[derive(Clone, Debug)]
pub struct Loop {
    /// Block where it is entered.
    pub header: usize,
    /// Blocks in it, header included.
    pub blocks: BTreeSet<usize>,
    /// Blocks that jump back.
    pub latches: Vec<usize>,
    /// Innermost loop around it.
    pub parent: Option<usize>,
}

/// A kernel's control flow.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Blocks by address.
    pub blocks: Vec<Block>,
    /// Loops by the address of their header; the outer first.
    pub loops: Vec<Loop>,
    /// Blocks that can be reached from the entry, in an order where those before come before, except along back edges.
    pub order: Vec<usize>,
}

/// What ends a block, if the instruction does.
enum End {
    /// Falls through.
    None,
    /// May jump, may fall through.
    Branch(Option<u64>),
    /// Jumps.
    Jump(Option<u64>),
    /// Leaves the kernel, or the function.
    Exit,
    /// May leave, may fall through.
    MayExit,
}

fn end_of(i: &Instruction) -> End {
    let always = i.predicate.is_none();
    match i.base() {
        "BRA" | "BRX" | "JMP" | "JMX" | "BRXU" | "JMXU" => {
            // `BRA.DIV UR4, label`, `BRA.U UP0, label`: a condition among the operands.
            let conditional = i.operands.len() > 1 && i.target.is_some();
            if always && !conditional { End::Jump(i.target) } else { End::Branch(i.target) }
        }
        "EXIT" | "RET" | "KILL" if always => End::Exit,
        "EXIT" | "RET" | "KILL" => End::MayExit,
        "BPT" if i.has("TRAP") && always => End::Exit,
        _ => End::None,
    }
}

impl Flow {
    /// The control flow of a kernel.
    pub fn new(code: &[Instruction]) -> Flow {
        let index: BTreeMap<u64, usize> =
            code.iter().enumerate().map(|(n, i)| (i.address, n)).collect();
        let to = |address: Option<u64>| address.and_then(|a| index.get(&a).copied());
        let mut leaders = BTreeSet::from([0]);
        for (n, i) in code.iter().enumerate() {
            match end_of(i) {
                End::None => {}
                End::Branch(t) | End::Jump(t) => {
                    leaders.insert(n + 1);
                    leaders.extend(to(t));
                }
                End::Exit | End::MayExit => {
                    leaders.insert(n + 1);
                }
            }
        }
        let starts: Vec<usize> = leaders.into_iter().filter(|&n| n < code.len()).collect();
        let block_at: BTreeMap<usize, usize> =
            starts.iter().enumerate().map(|(b, &n)| (n, b)).collect();
        let mut blocks = Vec::new();
        for (b, &start) in starts.iter().enumerate() {
            let end = starts.get(b + 1).copied().unwrap_or(code.len());
            let through = block_at.get(&end).copied();
            let jump = |t| to(t).and_then(|n| block_at.get(&n).copied());
            let mut next: Vec<usize> = match end_of(&code[end - 1]) {
                End::None | End::MayExit => through.into_iter().collect(),
                End::Branch(t) => through.into_iter().chain(jump(t)).collect(),
                End::Jump(t) => jump(t).into_iter().collect(),
                End::Exit => Vec::new(),
            };
            next.dedup();
            blocks.push(Block { start, end, next });
        }
        let order = reverse_postorder(&blocks);
        let loops = loops(&blocks, &order);
        Flow { blocks, loops, order }
    }

    /// Loops that contain no other loop with work in it.
    pub fn is_innermost(&self, l: usize) -> bool {
        !self.loops.iter().any(|other| other.parent == Some(l))
    }

    /// First and last instruction of a loop's body in line: from its header to its last jump back. Blocks that the compiler
    /// moved elsewhere (slow paths) are not between them.
    pub fn span(&self, l: &Loop) -> (usize, usize) {
        let last = l.latches.iter().map(|&b| self.blocks[b].end).max().unwrap_or(0);
        (self.blocks[l.header].start, last.max(self.blocks[l.header].end))
    }
}

fn reverse_postorder(blocks: &[Block]) -> Vec<usize> {
    let mut order = Vec::new();
    if blocks.is_empty() {
        return order;
    }
    let mut seen = vec![false; blocks.len()];
    let mut stack = vec![(0usize, 0usize)];
    seen[0] = true;
    while let Some((b, n)) = stack.pop() {
        match blocks[b].next.get(n) {
            Some(&next) => {
                stack.push((b, n + 1));
                if !seen[next] {
                    seen[next] = true;
                    stack.push((next, 0));
                }
            }
            None => order.push(b),
        }
    }
    order.reverse();
    order
}

/// Immediate dominators (Cooper, Harvey, Kennedy: A Simple, Fast Dominance Algorithm).
fn dominators(blocks: &[Block], order: &[usize]) -> Vec<Option<usize>> {
    let mut rank = vec![usize::MAX; blocks.len()];
    for (n, &b) in order.iter().enumerate() {
        rank[b] = n;
    }
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); blocks.len()];
    for &b in order {
        for &n in &blocks[b].next {
            before[n].push(b);
        }
    }
    let mut idom: Vec<Option<usize>> = vec![None; blocks.len()];
    let Some(&entry) = order.first() else { return idom };
    idom[entry] = Some(entry);
    let mut changed = true;
    while changed {
        changed = false;
        for &b in &order[1..] {
            let mut new: Option<usize> = None;
            for &p in before[b].iter().filter(|&&p| idom[p].is_some()) {
                new = Some(match new {
                    None => p,
                    Some(mut other) => {
                        let mut p = p;
                        while p != other {
                            let later = if rank[p] > rank[other] { &mut p } else { &mut other };
                            match idom[*later] {
                                Some(up) => *later = up,
                                None => break,
                            }
                        }
                        p
                    }
                });
            }
            if idom[b] != new {
                idom[b] = new;
                changed = true;
            }
        }
    }
    idom
}

fn loops(blocks: &[Block], order: &[usize]) -> Vec<Loop> {
    let idom = dominators(blocks, order);
    let dominates = |a: usize, mut b: usize| loop {
        if a == b {
            return true;
        }
        match idom[b] {
            Some(up) if up != b => b = up,
            _ => return false,
        }
    };
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); blocks.len()];
    for &b in order {
        for &n in &blocks[b].next {
            before[n].push(b);
        }
    }
    let mut by_header: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &b in order {
        for &n in &blocks[b].next {
            if dominates(n, b) {
                by_header.entry(n).or_default().push(b);
            }
        }
    }
    let mut list: Vec<Loop> = Vec::new();
    for (header, latches) in by_header {
        let mut body = BTreeSet::from([header]);
        let mut stack = latches.clone();
        while let Some(b) = stack.pop() {
            if body.insert(b) {
                stack.extend(&before[b]);
            }
        }
        list.push(Loop { header, blocks: body, latches, parent: None });
    }
    // The outer first.
    list.sort_by_key(|l| (l.header, std::cmp::Reverse(l.blocks.len())));
    for i in 0..list.len() {
        let parent = (0..list.len())
            .filter(|&p| p != i && list[p].blocks.len() > list[i].blocks.len())
            .filter(|&p| list[p].blocks.contains(&list[i].header))
            .min_by_key(|&p| list[p].blocks.len());
        list[i].parent = parent;
    }
    list
}
