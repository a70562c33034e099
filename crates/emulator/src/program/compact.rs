//! Places for registers: virtual registers that are never live at once share one.
//!
//! Compilers write thousands of virtual registers, of which few are live at a time. With a place for each
//! the registers of a warp would not fit into the caches. Places are given by one pass over live ranges in
//! the order of the code.
//!
//! A range is taken from the first to the last position at which the register is live or written, holes
//! included, so that a register that is live around a loop keeps its place through all of it. A register
//! that an instruction writes never shares a place with one that it reads: instructions on several lanes or
//! several registers may write one result before they read the next operand, and those that park run again.

use zeroforge_ptx::Type;

use crate::program::Files;
use crate::program::flatten::FlatKernel;
use crate::program::flow::{Flow, Live};
use crate::program::inst::Value;

/// Places of all registers.
pub(crate) struct Places {
    /// Sizes of the register files.
    pub(crate) files: Files,
    /// By frame and register.
    pub(crate) registers: Vec<Vec<Value>>,
    /// Most 32-bit registers that are live at once.
    pub(crate) pressure: u32,
}

/// First and last position of a register; `first > last` if it is nowhere.
#[derive(Clone, Copy)]
struct Range {
    first: u32,
    last: u32,
}

impl Range {
    const NONE: Range = Range { first: u32::MAX, last: 0 };

    fn extend(&mut self, at: usize) {
        self.first = self.first.min(at as u32);
        self.last = self.last.max(at as u32);
    }
}

/// 32-bit registers that a value takes; predicates have registers of their own.
fn weight(ty: Type) -> u32 {
    match ty {
        Type::Pred => 0,
        ty => ty.bits().div_ceil(32).max(1),
    }
}

/// Gives every register its place.
pub(crate) fn places(flat: &FlatKernel<'_>, flow: &Flow, live: Option<&Live>) -> Places {
    let ranges = match live {
        Some(live) => ranges(flow, live),
        // Too large to analyse: everything is live everywhere.
        None => vec![Range { first: 0, last: u32::MAX }; flow.types.len()],
    };
    let mut files = Files::default();
    let values = assign(flow, &ranges, &mut files);
    let registers = flat.frames.iter().enumerate().map(|(f, frame)| {
        let count = frame.function.body.as_ref().map_or(0, |b| b.registers.len());
        (0..count).map(|r| values[flow.number(f, r)]).collect()
    });
    let registers = registers.collect();
    let pressure = match live {
        Some(live) => pressure(flow, live),
        None => (files.r32 + 2 * files.r64) as u32,
    };
    Places { files, registers, pressure }
}

fn ranges(flow: &Flow, live: &Live) -> Vec<Range> {
    let mut ranges = vec![Range::NONE; flow.types.len()];
    for (range, [entry, exit]) in flow.ranges(live) {
        for r in entry {
            ranges[r as usize].extend(range.start);
        }
        for r in exit {
            ranges[r as usize].extend(range.end - 1);
        }
        for at in range {
            let all = &flow.accesses[at];
            for r in all.all_reads().chain(all.writes.iter().copied()) {
                ranges[r as usize].extend(at);
            }
        }
    }
    ranges
}

/// A file of places that are taken and given back.
#[derive(Default)]
struct File {
    size: u32,
    free: Vec<u32>,
}

impl File {
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.size += 1;
            self.size - 1
        })
    }
}

fn assign(flow: &Flow, ranges: &[Range], files: &mut Files) -> Vec<Value> {
    let mut order: Vec<u32> = (0..ranges.len() as u32).collect();
    order.retain(|&r| ranges[r as usize].first <= ranges[r as usize].last);
    order.sort_by_key(|&r| ranges[r as usize].first);
    // What is nowhere is never looked up.
    let mut values = vec![Value::Sink; ranges.len()];
    let (mut r32, mut r64, mut predicates) = (File::default(), File::default(), File::default());
    // Pairs of adjacent places are for 128 bits and are not given back: such registers are few.
    for &r in &order {
        if flow.types[r as usize] == Type::B128 {
            values[r as usize] = Value::R128(r64.size);
            r64.size += 2;
        }
    }
    let mut ends = std::collections::BinaryHeap::new();
    for &r in &order {
        let range = ranges[r as usize];
        while let Some(&std::cmp::Reverse((last, gone))) = ends.peek() {
            if last >= range.first {
                break;
            }
            ends.pop();
            match values[gone as usize] {
                Value::R32(i) => r32.free.push(i),
                Value::R64(i) => r64.free.push(i),
                Value::Pred(i) => predicates.free.push(i),
                Value::R128(_) | Value::Sink => {}
            }
        }
        values[r as usize] = match flow.types[r as usize] {
            Type::B128 => continue,
            Type::Pred => Value::Pred(predicates.take()),
            ty if ty.bits() == 64 => Value::R64(r64.take()),
            _ => Value::R32(r32.take()),
        };
        ends.push(std::cmp::Reverse((range.last, r)));
    }
    files.r32 = r32.size as usize;
    files.r64 = r64.size as usize;
    files.predicates = predicates.size as usize;
    values
}

/// Most 32-bit registers that are live between two instructions, or written by one.
fn pressure(flow: &Flow, live: &Live) -> u32 {
    let mut is_live = vec![false; flow.types.len()];
    let mut most = 0;
    for (range, [_, exit]) in flow.ranges(live) {
        let mut now = 0;
        let mut touched = Vec::new();
        for r in exit {
            is_live[r as usize] = true;
            now += weight(flow.types[r as usize]);
            touched.push(r);
        }
        most = most.max(now);
        for at in range.rev() {
            let all = &flow.accesses[at];
            let dead = all.writes.iter().filter(|&&r| !is_live[r as usize]);
            most = most.max(now + dead.map(|&r| weight(flow.types[r as usize])).sum::<u32>());
            if all.is_certain() {
                for &r in &all.writes {
                    if std::mem::take(&mut is_live[r as usize]) {
                        now -= weight(flow.types[r as usize]);
                    }
                }
            }
            for r in all.all_reads() {
                if !std::mem::replace(&mut is_live[r as usize], true) {
                    now += weight(flow.types[r as usize]);
                    touched.push(r);
                }
            }
            most = most.max(now);
        }
        for r in touched {
            is_live[r as usize] = false;
        }
    }
    most
}
