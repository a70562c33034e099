//! Which registers are watched for reads before any write.
//!
//! A register that is live at the start of the kernel may be read on a path that does not write it. Only
//! such registers are watched, and of their reads only those that the path before does not settle. A plain
//! `mov` reads nothing in this sense: it copies what is known, as compilers move values about that they
//! have not set and never use.

use std::collections::HashMap;

use zeroforge_ptx::Opcode;

use crate::program::flatten::FlatKernel;
use crate::program::flow::{Accesses, Flow, Live, has, insert, remove};
use crate::program::inst::Tracked;

/// Watched registers' names, and per instruction what is watched.
pub(crate) struct Watched {
    pub(crate) names: Vec<String>,
    pub(crate) by_instruction: HashMap<usize, Box<Tracked>>,
}

/// Finds the registers and the instructions that must be watched.
pub(crate) fn watched(flat: &FlatKernel<'_>, flow: &Flow, live: Option<&Live>) -> Watched {
    let nothing = Watched { names: Vec::new(), by_instruction: HashMap::new() };
    let Some(live) = live else {
        tracing::warn!(
            kernel = flat.frames.first().map_or("", |f| f.function.name.as_str()),
            "the kernel is too large to follow its registers: reads of unwritten ones are not found"
        );
        return nothing;
    };
    let is_copy = |at: usize| flat.code[at].1.instruction().opcode() == Opcode::Mov;
    // Registers that may be read too early, and those that copies pass that on to.
    let mut numbers: HashMap<u32, usize> = HashMap::new();
    for r in live.at_start() {
        let next = numbers.len();
        numbers.insert(r, next);
    }
    if numbers.is_empty() {
        return nothing;
    }
    let copies: Vec<usize> = (0..flat.code.len()).filter(|&at| is_copy(at)).collect();
    loop {
        let before = numbers.len();
        for &at in &copies {
            let all = &flow.accesses[at];
            if all.reads.iter().any(|r| numbers.contains_key(r)) {
                for &r in &all.writes {
                    let next = numbers.len();
                    numbers.entry(r).or_insert(next);
                }
            }
        }
        if numbers.len() == before {
            break;
        }
    }
    let number = |r: &u32| numbers.get(r).copied();
    let step = |at: usize, set: &mut [u64]| {
        let all = &flow.accesses[at];
        if all.writes.iter().all(|r| number(r).is_none()) {
            return;
        }
        // Under a guard, nothing becomes certain; a copy may bring what is not set.
        let source_set = all.reads.iter().filter_map(number).all(|n| has(set, n));
        for n in all.writes.iter().filter_map(number) {
            if is_copy(at) && !source_set {
                remove(set, n);
            } else if all.is_certain() {
                insert(set, n);
            }
        }
    };
    let mut reads = HashMap::new();
    let done = flow.forward(numbers.len(), step, |at, set| {
        let all = &flow.accesses[at];
        let missing = |list: &mut dyn Iterator<Item = u32>| -> Vec<usize> {
            list.filter_map(|r| number(&r)).filter(|&n| !has(set, n)).collect()
        };
        let guard = missing(&mut all.guard.iter().copied());
        let early = match is_copy(at) {
            true => Vec::new(),
            false => missing(&mut all.reads.iter().copied()),
        };
        if !guard.is_empty() || !early.is_empty() {
            reads.insert(at, (guard, early));
        }
    });
    if !done || reads.is_empty() {
        return nothing;
    }
    // Registers that are in no such read and are copied to none need no watch.
    let mut needed = vec![false; numbers.len()];
    for n in reads.values().flat_map(|(guard, early)| guard.iter().chain(early)) {
        needed[*n] = true;
    }
    loop {
        let mut grown = false;
        for &at in &copies {
            let all = &flow.accesses[at];
            if all.writes.iter().filter_map(number).any(|n| needed[n]) {
                for n in all.reads.iter().filter_map(number) {
                    grown |= !std::mem::replace(&mut needed[n], true);
                }
            }
        }
        if !grown {
            break;
        }
    }
    build(flat, flow, &numbers, &needed, reads, is_copy)
}

fn build(
    flat: &FlatKernel<'_>,
    flow: &Flow,
    numbers: &HashMap<u32, usize>,
    needed: &[bool],
    mut reads: HashMap<usize, (Vec<usize>, Vec<usize>)>,
    is_copy: impl Fn(usize) -> bool,
) -> Watched {
    let mut names_of = vec![String::new(); numbers.len()];
    for (f, frame) in flat.frames.iter().enumerate() {
        let registers = frame.function.body.as_ref().map_or(&[][..], |b| &b.registers[..]);
        for (r, register) in registers.iter().enumerate() {
            if let Some(&n) = numbers.get(&(flow.number(f, r) as u32)) {
                names_of[n] = register.name.clone();
            }
        }
    }
    let mut names = Vec::new();
    let mut index = vec![u32::MAX; numbers.len()];
    for (n, name) in names_of.into_iter().enumerate().filter(|(n, _)| needed[*n]) {
        index[n] = names.len() as u32;
        names.push(name);
    }
    let watched = |list: &[u32]| -> Vec<u32> {
        let all = list.iter().filter_map(|r| numbers.get(r)).filter(|&&n| needed[n]);
        all.map(|&n| index[n]).collect()
    };
    let mut by_instruction = HashMap::new();
    for at in 0..flat.code.len() {
        let all: &Accesses = &flow.accesses[at];
        let (guard, early) = reads.remove(&at).unwrap_or_default();
        let indices = |list: Vec<usize>| list.into_iter().map(|n| index[n]).collect::<Vec<_>>();
        let mut tracked = Tracked {
            guard: indices(guard),
            reads: indices(early),
            writes: watched(&all.writes),
            copied: Vec::new(),
        };
        if is_copy(at) && !tracked.writes.is_empty() {
            tracked.copied = watched(&all.reads);
        }
        if !(tracked.guard.is_empty() && tracked.reads.is_empty() && tracked.writes.is_empty()) {
            by_instruction.insert(at, Box::new(tracked));
        }
    }
    Watched { names, by_instruction }
}
