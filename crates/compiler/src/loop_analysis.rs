//! What a printer needs to know about the instructions of a loop kernel.

use crate::c_expression::operands;
use crate::loop_ir::{Body, InstId, InstKind, Stage};

/// How deep in the row's loops each instruction must be computed: 0 is once per row, `i + 1` inside
/// the loop of inner axis `i`.
pub(crate) fn levels(body: &Body) -> Vec<usize> {
    let mut levels: Vec<usize> = Vec::with_capacity(body.insts.len());
    for inst in &body.insts {
        let own = match inst.kind {
            InstKind::Inner(axis) => axis as usize + 1,
            _ => 0,
        };
        let deepest = operands(&inst.kind).iter().map(|id| levels[id.0 as usize]).max();
        levels.push(own.max(deepest.unwrap_or(0)));
    }
    levels
}

/// What the stages need, transitively, in order.
pub(crate) fn needed(body: &Body, roots: &[InstId]) -> Vec<InstId> {
    let mut mark = vec![false; body.insts.len()];
    for root in roots {
        mark[root.0 as usize] = true;
    }
    for i in (0..body.insts.len()).rev() {
        if mark[i] {
            for operand in operands(&body.insts[i].kind) {
                mark[operand.0 as usize] = true;
            }
        }
    }
    (0..body.insts.len() as u32).filter(|i| mark[*i as usize]).map(InstId).collect()
}

pub(crate) fn stage_roots(stage: &Stage) -> Vec<InstId> {
    match stage {
        Stage::Reduce { value, .. } => vec![*value],
        Stage::Store { index, value, guard, .. } => {
            [*index, *value].into_iter().chain(*guard).collect()
        }
    }
}

/// Whether an instruction depends on accumulator `acc`.
pub(crate) fn reads_acc(body: &Body, id: InstId, acc: u32) -> bool {
    let inst = body.inst(id);
    inst.kind == InstKind::Acc(acc) || operands(&inst.kind).iter().any(|&o| reads_acc(body, o, acc))
}
