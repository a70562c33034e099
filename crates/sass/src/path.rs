//! The way through a loop, or a kernel, that its work takes.
//!
//! Machine code has side ways: a retry where a wait did not succeed, a block for the last tile, a rare rescale. Of all ways
//! from a start to an end the *hot path* is the one with most matrix products and synchronisation, and among those the
//! shortest. What it leaves out is reported as conditional, never dropped.

use std::collections::{BTreeMap, BTreeSet};

use crate::flow::Flow;
use crate::instruction::Instruction;

/// Worth of a way: tensor cycles, then events of synchronisation, then few instructions.
type Worth = (i64, i64, i64);

fn adds(a: Worth, b: Worth) -> Worth {
    (a.0 + b.0, a.1 + b.1, a.2 + b.2)
}

fn is_check(i: &Instruction) -> bool {
    i.base() == "SYNCS" && i.has("PHASECHK")
}

/// Worth of each block. A check of a barrier that is only reached when a check failed is a retry, and worth nothing.
fn worths(code: &[Instruction], flow: &Flow) -> Vec<Worth> {
    let checks_last = |b: usize| {
        let block = &flow.blocks[b];
        let tail = &code[block.start..block.end];
        tail.iter().rev().take(3).any(is_check) && block.next.len() > 1
    };
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); flow.blocks.len()];
    for &b in &flow.order {
        for &n in &flow.blocks[b].next {
            before[n].push(b);
        }
    }
    (0..flow.blocks.len())
        .map(|b| {
            let block = &flow.blocks[b];
            let retry = !before[b].is_empty() && before[b].iter().all(|&p| checks_last(p));
            let mut worth = (0, 0, 0);
            for i in &code[block.start..block.end] {
                worth.2 -= 1;
                match i.base() {
                    _ if i.wgmma().is_some() => {
                        worth.0 += i.wgmma().map_or(0, |w| w.tensor_cycles() as i64);
                    }
                    "HMMA" | "IMMA" | "DMMA" => worth.0 += 1,
                    "SYNCS" if is_check(i) => worth.1 += i64::from(!retry),
                    "SYNCS" | "BAR" => worth.1 += 1,
                    _ if i.base().starts_with("UTMA") => worth.1 += 1,
                    _ => {}
                }
            }
            worth
        })
        .collect()
}

/// The hot path from a block to any of some blocks, inside a set of blocks, without going back. Both ends are in it; none if
/// no way leads there.
pub fn hot_path(
    code: &[Instruction],
    flow: &Flow,
    inside: &BTreeSet<usize>,
    from: usize,
    to: &[usize],
) -> Option<Vec<usize>> {
    let worth = worths(code, flow);
    let rank: BTreeMap<usize, usize> =
        flow.order.iter().enumerate().map(|(n, &b)| (b, n)).collect();
    let mut best: BTreeMap<usize, (Worth, Option<usize>)> = BTreeMap::new();
    // Against the order, so that what follows a block is known when it is met.
    for &b in flow.order.iter().rev().filter(|b| inside.contains(b)) {
        let here = worth[b];
        let mut found: Option<(Worth, Option<usize>)> = to.contains(&b).then_some((here, None));
        for &n in &flow.blocks[b].next {
            if rank[&n] <= rank[&b] {
                continue;
            }
            if let Some((w, _)) = best.get(&n) {
                let w = adds(*w, here);
                if found.is_none_or(|(f, _)| w > f) {
                    found = Some((w, Some(n)));
                }
            }
        }
        if let Some(found) = found {
            best.insert(b, found);
        }
    }
    let mut path = vec![from];
    let mut at = best.get(&from)?;
    while let Some(n) = at.1 {
        path.push(n);
        at = best.get(&n)?;
    }
    Some(path)
}
