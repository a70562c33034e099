//! Where temporaries live: slots of the arena, shared by values whose lifetimes do not overlap.
//!
//! Sizes known at compile time are packed into one slot at constant offsets (best fit, largest
//! first, as in TensorFlow Lite's greedy-by-size planner; Pisarchyk and Lee, 2020). Symbolic sizes
//! each take a slot; a slot is reused by a later value of provably equal size.

use zeroforge_artifact::Expr;
use zeroforge_artifact::program::BUFFER_ALIGN;

use crate::lower::{Lowered, StorageId, StorageKind};

/// The plan: for each storage its place in the arena, for temporaries only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryPlan {
    /// Per storage: (slot, byte offset), if it is in the arena.
    pub places: Vec<Option<(u32, u64)>>,
    /// Size of each slot in bytes.
    pub slots: Vec<Expr>,
}

/// First and last step that touches a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lifetime {
    first: usize,
    last: usize,
}

impl Lifetime {
    fn overlaps(self, other: Lifetime) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

fn lifetimes(lowered: &Lowered) -> Vec<Option<Lifetime>> {
    let mut lifetimes: Vec<Option<Lifetime>> = vec![None; lowered.storages.len()];
    for (step, s) in lowered.steps.iter().enumerate() {
        for id in s.reads.iter().chain(&s.writes).chain(&s.workspace) {
            let l = lifetimes[id.0 as usize].get_or_insert(Lifetime { first: step, last: step });
            l.last = step;
        }
    }
    for id in &lowered.outputs {
        if let Some(l) = &mut lifetimes[id.0 as usize] {
            l.last = usize::MAX;
        }
    }
    lifetimes
}

/// Plans the arena. Deterministic: depends on nothing but the lowered steps.
pub fn plan(lowered: &Lowered) -> MemoryPlan {
    let lifetimes = lifetimes(lowered);
    let mut plan = MemoryPlan { places: vec![None; lowered.storages.len()], slots: Vec::new() };
    let mut fixed: Vec<(StorageId, u64, Lifetime)> = Vec::new();
    let mut symbolic: Vec<(StorageId, Expr, Lifetime)> = Vec::new();
    for (i, storage) in lowered.storages.iter().enumerate() {
        let (StorageKind::Temporary, Some(lifetime)) = (&storage.kind, lifetimes[i]) else {
            continue;
        };
        let id = StorageId(i as u32);
        match storage.bytes().as_const() {
            Some(bytes) => {
                let bytes = u64::try_from(bytes).unwrap_or(0).next_multiple_of(BUFFER_ALIGN);
                fixed.push((id, bytes, lifetime));
            }
            None => symbolic.push((id, storage.bytes(), lifetime)),
        }
    }
    place_fixed(&mut plan, fixed);
    place_symbolic(&mut plan, symbolic);
    plan
}

fn place_fixed(plan: &mut MemoryPlan, mut storages: Vec<(StorageId, u64, Lifetime)>) {
    if storages.is_empty() {
        return;
    }
    storages.sort_by_key(|(id, bytes, _)| (std::cmp::Reverse(*bytes), *id));
    let slot = plan.slots.len() as u32;
    // Placed so far, by offset.
    let mut placed: Vec<(u64, u64, Lifetime)> = Vec::new();
    let mut total = 0;
    for (id, bytes, lifetime) in storages {
        let mut best: Option<(u64, u64)> = None; // (gap, offset)
        let mut end = 0;
        for &(offset, size, _) in placed.iter().filter(|(_, _, l)| l.overlaps(lifetime)) {
            if offset > end {
                let gap = offset - end;
                if gap >= bytes && best.is_none_or(|(g, _)| gap < g) {
                    best = Some((gap, end));
                }
            }
            end = end.max(offset + size);
        }
        let offset = best.map_or(end, |(_, offset)| offset);
        let at = placed.partition_point(|(o, _, _)| *o <= offset);
        placed.insert(at, (offset, bytes, lifetime));
        total = total.max(offset + bytes);
        plan.places[id.0 as usize] = Some((slot, offset));
    }
    plan.slots.push(Expr::constant(i64::try_from(total).unwrap_or(i64::MAX)));
}

fn place_symbolic(plan: &mut MemoryPlan, mut storages: Vec<(StorageId, Expr, Lifetime)>) {
    storages.sort_by_key(|(id, _, l)| (l.first, *id));
    // Slots of this kind: index, size, step after which it is free.
    let mut slots: Vec<(u32, Expr, usize)> = Vec::new();
    for (id, bytes, lifetime) in storages {
        let free = slots
            .iter()
            .position(|(_, size, until)| *until < lifetime.first && larger_or_equal(size, &bytes));
        let at = match free {
            Some(at) => at,
            None => {
                let slot = plan.slots.len() as u32;
                plan.slots.push(bytes.clone());
                slots.push((slot, bytes, 0));
                slots.len() - 1
            }
        };
        slots[at].2 = lifetime.last;
        plan.places[id.0 as usize] = Some((slots[at].0, 0));
    }
}

/// Whether a slot provably holds `bytes` and wastes little: equal, or a constant multiple up to 4.
fn larger_or_equal(slot: &Expr, bytes: &Expr) -> bool {
    slot == bytes
        || slot.exact_div(bytes).and_then(|q| q.as_const()).is_some_and(|q| (1..=4).contains(&q))
}

/// Checks a plan: everything alive at one step is disjoint and inside its slot (constant sizes).
/// For tests and debug builds.
pub fn check(lowered: &Lowered, plan: &MemoryPlan) -> Result<(), String> {
    let lifetimes = lifetimes(lowered);
    let mut alive: Vec<(usize, u32, u64, Option<u64>, Lifetime)> = Vec::new();
    for (i, place) in plan.places.iter().enumerate() {
        let (Some((slot, offset)), Some(lifetime)) = (place, lifetimes[i]) else { continue };
        let bytes = lowered.storages[i].bytes().as_const().map(|b| b.max(0) as u64);
        if let (Some(bytes), Some(total)) = (bytes, plan.slots[*slot as usize].as_const())
            && offset + bytes > total as u64
        {
            return Err(format!("storage {i} ends beyond slot {slot}"));
        }
        for (j, other_slot, other_offset, other_bytes, other) in &alive {
            let apart = match (bytes, other_bytes) {
                (Some(a), Some(b)) => offset + a <= *other_offset || other_offset + b <= *offset,
                _ => false,
            };
            if slot == other_slot && !apart && lifetime.overlaps(*other) {
                return Err(format!("storages {i} and {j} overlap in slot {slot}"));
            }
        }
        alive.push((i, *slot, *offset, bytes, lifetime));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel_spec::KernelSpec;
    use crate::launch::{Launch, LoopLaunch};
    use crate::loop_ir::{Body, LoopKernel};
    use crate::lower::{LoweredStep, Storage};
    use zeroforge_artifact::{DType, Symbol};

    fn step(reads: &[u32], writes: &[u32]) -> LoweredStep {
        let ids = |v: &[u32]| v.iter().map(|&i| StorageId(i)).collect();
        LoweredStep {
            spec: KernelSpec::Loop(LoopKernel {
                operands: vec![],
                ints: 0,
                multiples: vec![],
                outer: vec![],
                inner: vec![],
                body: Body::default(),
                stages: vec![],
            }),
            launch: Launch::Loop(LoopLaunch::default()),
            reads: ids(reads),
            writes: ids(writes),
            workspace: None,
            origin: String::new(),
            flops: Expr::constant(0),
        }
    }

    fn temporary(numel: Expr) -> Storage {
        Storage { name: String::new(), dtype: DType::F32, numel, kind: StorageKind::Temporary }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let lowered = Lowered {
            storages: (0..6).map(|_| temporary(Expr::constant(1024))).collect(),
            steps: (0..5).map(|i| step(&[i], &[i + 1])).collect(),
            ..Lowered::default()
        };
        let plan = plan(&lowered);
        check(&lowered, &plan).unwrap();
        assert_eq!(plan.slots, vec![Expr::constant(2 * 4096)]);
    }

    #[test]
    fn symbolic_slots_are_reused_when_equal() {
        let s = Expr::symbol(Symbol(0));
        let lowered = Lowered {
            storages: (0..4).map(|_| temporary(s.clone())).collect(),
            steps: (0..3).map(|i| step(&[i], &[i + 1])).collect(),
            ..Lowered::default()
        };
        let plan = plan(&lowered);
        check(&lowered, &plan).unwrap();
        assert_eq!(plan.slots.len(), 2);
    }

    #[test]
    fn the_checker_finds_a_planted_overlap() {
        let lowered = Lowered {
            storages: (0..2).map(|_| temporary(Expr::constant(64))).collect(),
            steps: vec![step(&[0], &[1])],
            ..Lowered::default()
        };
        let mut plan = plan(&lowered);
        plan.places[1] = plan.places[0];
        assert!(check(&lowered, &plan).is_err());
    }
}
