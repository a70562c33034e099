//! What is known about neighbouring points: which values they share, and which accesses are one packet of memory.
//!
//! A thread takes its points in groups of V neighbours along one axis, the first at a multiple of V. Every
//! instruction is the same for the whole group, grows by a constant step from point to point, or varies freely.
//! An access whose index grows by one, from an index that is known to be a multiple of V, can be made 16 bytes
//! at a time.

use zeroforge_artifact::DType;
use zeroforge_graph::op::BinaryOp;

use crate::loop_ir::{Extent, Inst, InstId, InstKind, LoopKernel, Stage};

/// Largest power of two that is tracked.
const MAX_MULTIPLE: i64 = 256;
/// Bytes of the widest access that a thread can make.
pub(super) const ACCESS_BYTES: i64 = 16;

/// The axis along which the points of a group lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Outer(u32),
    Inner(u32),
}

/// How a value differs between the points of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Along {
    /// Not at all.
    Same,
    /// By a constant, never zero, from point to point.
    Steps(i64),
    /// Freely.
    Any,
}

/// What is known about an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) along: Along,
    /// A power of two that divides an integer's value at the group's first point.
    pub(super) multiple: i64,
}

/// How a group accesses an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// One element for all points.
    Same,
    /// Neighbouring elements, aligned for accesses of as many bytes as they have, at most 16.
    Packet,
    /// An element for every point.
    Each,
}

/// The facts of all instructions of a kernel for one choice of groups.
pub(super) struct Facts {
    facts: Vec<Fact>,
    points: i64,
}

const SAME: Fact = Fact { along: Along::Same, multiple: 1 };
const ANY: Fact = Fact { along: Along::Any, multiple: 1 };

impl Facts {
    /// Groups of `points` (a power of two) along `axis`.
    pub(super) fn new(kernel: &LoopKernel, axis: Axis, points: i64) -> Facts {
        let mut facts = Facts { facts: Vec::with_capacity(kernel.body.insts.len()), points };
        for inst in &kernel.body.insts {
            let fact = facts.of(kernel, axis, inst);
            facts.facts.push(fact);
        }
        facts
    }

    pub(super) fn get(&self, id: InstId) -> Fact {
        self.facts[id.0 as usize]
    }

    pub(super) fn same(&self, id: InstId) -> bool {
        self.get(id).along == Along::Same
    }

    /// How a group reads or writes an operand at an index.
    pub(super) fn access(
        &self,
        kernel: &LoopKernel,
        operand: u32,
        index: InstId,
        guard: Option<InstId>,
    ) -> Access {
        let fact = self.get(index);
        let guarded_alike = guard.is_none_or(|g| self.same(g));
        match fact.along {
            Along::Same if guarded_alike => Access::Same,
            Along::Steps(1) if guarded_alike && self.points > 1 => {
                let operand = &kernel.operands[operand as usize];
                let size = operand.dtype.size() as i64;
                let bytes = (self.points * size).min(ACCESS_BYTES);
                let aligned = i64::from(operand.align).max(size) % bytes == 0;
                match aligned && fact.multiple * size % bytes == 0 {
                    true => Access::Packet,
                    false => Access::Each,
                }
            }
            _ => Access::Each,
        }
    }

    /// Whether a value goes up by one within the group and starts at one of its multiples.
    fn walks(&self, id: InstId) -> bool {
        let fact = self.get(id);
        fact.along == Along::Steps(1) && fact.multiple >= self.points
    }

    /// Whether a value is the same multiple of the group's size for all its points.
    fn bounds(&self, id: InstId) -> bool {
        let fact = self.get(id);
        fact.along == Along::Same && fact.multiple >= self.points
    }

    fn of(&self, kernel: &LoopKernel, axis: Axis, inst: &Inst) -> Fact {
        let walk = |along: bool| match along {
            true => Fact { along: Along::Steps(1), multiple: self.points },
            false => SAME,
        };
        match &inst.kind {
            InstKind::Int(value) => Fact { multiple: power_of_two(*value), ..SAME },
            InstKind::FloatBits(_) => SAME,
            InstKind::Param(i) => Fact { multiple: kernel.multiple(*i), ..SAME },
            InstKind::Outer(i) => walk(axis == Axis::Outer(*i)),
            InstKind::Inner(i) => walk(axis == Axis::Inner(*i)),
            // Rows are the points of a group along an outer axis; each has results of its own.
            InstKind::Acc(_) => match axis {
                Axis::Outer(_) => ANY,
                Axis::Inner(_) => SAME,
            },
            InstKind::Load { index, guard, .. } => {
                self.alike(&[Some(*index), *guard].into_iter().flatten().collect::<Vec<_>>())
            }
            InstKind::Unary(_, a) => self.alike(&[*a]),
            InstKind::Binary(op, a, b) => self.binary(kernel, *op, *a, *b),
            InstKind::Select(c, a, b) => {
                let (x, y) = (self.get(*a), self.get(*b));
                match self.same(*c) && x.along == y.along {
                    true => Fact { along: x.along, multiple: x.multiple.min(y.multiple) },
                    false => ANY,
                }
            }
            InstKind::Cast(to, a) => {
                let from = kernel.body.inst(*a).dtype;
                if *to == DType::I64 && from == DType::I64 {
                    self.get(*a)
                } else {
                    self.alike(&[*a])
                }
            }
        }
    }

    /// A value of operands without more structure.
    fn alike(&self, operands: &[InstId]) -> Fact {
        if operands.iter().all(|&id| self.same(id)) { SAME } else { ANY }
    }

    fn binary(&self, kernel: &LoopKernel, op: BinaryOp, a: InstId, b: InstId) -> Fact {
        if kernel.body.inst(a).dtype != DType::I64 {
            return self.alike(&[a, b]);
        }
        let (x, y) = (self.get(a), self.get(b));
        let multiple = x.multiple.min(y.multiple);
        let steps = |step: i64, multiple: i64| match step {
            0 => Fact { along: Along::Same, multiple },
            _ => Fact { along: Along::Steps(step), multiple },
        };
        let step = |along: Along| match along {
            Along::Same => Some(0i64),
            Along::Steps(step) => Some(step),
            Along::Any => None,
        };
        match op {
            BinaryOp::Add | BinaryOp::Sub => match (step(x.along), step(y.along)) {
                (Some(p), Some(q)) => {
                    let sum = if op == BinaryOp::Add { p.checked_add(q) } else { p.checked_sub(q) };
                    sum.map_or(ANY, |s| steps(s, multiple))
                }
                _ => ANY,
            },
            BinaryOp::Mul => {
                let product = (x.multiple * y.multiple).min(MAX_MULTIPLE);
                let constant = |id: InstId| match kernel.body.inst(id).kind {
                    InstKind::Int(value) => Some(value),
                    _ => None,
                };
                let scaled = match (x.along, y.along) {
                    (Along::Same, Along::Same) => Some(0),
                    (Along::Steps(s), Along::Same) => constant(b).and_then(|c| s.checked_mul(c)),
                    (Along::Same, Along::Steps(s)) => constant(a).and_then(|c| s.checked_mul(c)),
                    _ => None,
                };
                scaled.map_or(ANY, |s| steps(s, product))
            }
            // A group that starts at a multiple of its size lies between two multiples of the divisor.
            BinaryOp::FloorDiv if self.walks(a) && self.divides(kernel, b) => SAME,
            BinaryOp::Rem if self.walks(a) && self.divides(kernel, b) => steps(1, multiple),
            BinaryOp::Rem if self.same(a) && self.divides(kernel, b) => Fact { multiple, ..SAME },
            // ... and on one side of any of them.
            BinaryOp::Lt | BinaryOp::Ge if self.walks(a) && self.bounds(b) => SAME,
            BinaryOp::Gt | BinaryOp::Le if self.bounds(a) && self.walks(b) => SAME,
            BinaryOp::Min | BinaryOp::Max if self.same(a) && self.same(b) => {
                Fact { multiple, ..SAME }
            }
            _ => self.alike(&[a, b]),
        }
    }

    /// Whether a divisor is positive and a multiple of the group's size.
    fn divides(&self, kernel: &LoopKernel, id: InstId) -> bool {
        let positive = match kernel.body.inst(id).kind {
            InstKind::Int(value) => value > 0,
            // The size of an axis: where it is zero there are no points.
            InstKind::Param(i) => {
                kernel.outer.iter().chain(&kernel.inner).any(|e| *e == Extent::Param(i))
            }
            _ => false,
        };
        positive && self.bounds(id)
    }
}

fn power_of_two(value: i64) -> i64 {
    1 << value.trailing_zeros().min(MAX_MULTIPLE.ilog2())
}

/// Whether the extent of an axis is known to be a multiple of the group's size.
pub(super) fn fills(kernel: &LoopKernel, extent: Extent, points: i64) -> bool {
    match extent {
        Extent::Const(n) => n % points == 0,
        Extent::Param(i) => kernel.multiple(i) >= points,
    }
}

/// The accesses of a kernel: operand, index, guard.
pub(super) fn accesses<'a>(
    kernel: &'a LoopKernel,
    needed: &'a [InstId],
) -> impl Iterator<Item = (u32, InstId, Option<InstId>)> + 'a {
    let loads = needed.iter().filter_map(|&id| match kernel.body.inst(id).kind {
        InstKind::Load { operand, index, guard } => Some((operand, index, guard)),
        _ => None,
    });
    let stores = kernel.stages.iter().filter_map(|stage| match *stage {
        Stage::Store { operand, index, guard, .. } => Some((operand, index, guard)),
        Stage::Reduce { .. } => None,
    });
    loads.chain(stores)
}

/// Points per group along an axis: as many as make the narrowest packets 16 bytes without making the widest more
/// than two accesses; 1 where nothing would be gained. The axis must be a multiple of the group's size unless
/// `tail` says that what is left over is done point by point.
pub(super) fn choose(
    kernel: &LoopKernel,
    needed: &[InstId],
    axis: Axis,
    extent: Extent,
    tail: bool,
) -> i64 {
    for points in [16, 8, 4, 2] {
        if !tail && !fills(kernel, extent, points) {
            continue;
        }
        let facts = Facts::new(kernel, axis, points);
        let (mut packets, mut neighbours, mut narrowest, mut widest) = (0, 0, i64::MAX, 0);
        for (operand, index, guard) in accesses(kernel, needed) {
            let size = kernel.operands[operand as usize].dtype.size() as i64;
            match facts.access(kernel, operand, index, guard) {
                Access::Packet => {
                    packets += 1;
                    (narrowest, widest) = (narrowest.min(size), widest.max(size));
                }
                // Apart from their alignment these could be packets: neighbouring threads would now read
                // elements that lie apart.
                Access::Each if facts.get(index).along == Along::Steps(1) => neighbours += 1,
                _ => {}
            }
        }
        let fits = narrowest.saturating_mul(points) <= ACCESS_BYTES
            || (widest * points <= 2 * ACCESS_BYTES && narrowest < widest);
        if packets > neighbours && fits && widest * points <= 2 * ACCESS_BYTES {
            return points;
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loop_ir::{Body, Operand};

    /// `p0[o0 * row + i0 + start]` of bf16, the row length passed.
    fn kernel(row: i64, start: i64, align: u32) -> (LoopKernel, InstId) {
        let mut body = Body::default();
        let mut int = |kind| body.push(kind, DType::I64);
        let (o, i) = (int(InstKind::Outer(0)), int(InstKind::Inner(0)));
        let (row, start) = (int(InstKind::Int(row)), int(InstKind::Int(start)));
        let base = int(InstKind::Binary(BinaryOp::Mul, o, row));
        let at = int(InstKind::Binary(BinaryOp::Add, base, i));
        let at = int(InstKind::Binary(BinaryOp::Add, at, start));
        let kernel = LoopKernel {
            operands: vec![Operand { dtype: DType::Bf16, written: false, align }],
            ints: 1,
            multiples: vec![32],
            outer: vec![Extent::Const(4)],
            inner: vec![Extent::Const(64)],
            body,
            stages: vec![],
        };
        (kernel, at)
    }

    fn access(row: i64, start: i64, align: u32) -> Access {
        let (kernel, at) = kernel(row, start, align);
        Facts::new(&kernel, Axis::Inner(0), 8).access(&kernel, 0, at, None)
    }

    #[test]
    fn packets_need_every_alignment() {
        assert_eq!(access(64, 8, 256), Access::Packet);
        assert_eq!(access(64, 4, 256), Access::Each);
        assert_eq!(access(60, 8, 256), Access::Each);
        assert_eq!(access(64, 8, 8), Access::Each);
        assert_eq!(access(64, 8, 0), Access::Each);
        let (kernel, at) = kernel(64, 0, 256);
        let facts = Facts::new(&kernel, Axis::Outer(0), 4);
        assert_eq!(facts.get(at).along, Along::Steps(64));
    }

    #[test]
    fn groups_lie_within_quotients_and_on_one_side_of_bounds() {
        let (mut kernel, _) = kernel(64, 0, 256);
        let mut int = |kind| kernel.body.push(kind, DType::I64);
        let (i, n) = (int(InstKind::Inner(0)), int(InstKind::Param(0)));
        let (whole, odd) = (int(InstKind::Int(16)), int(InstKind::Int(12)));
        let minus = int(InstKind::Int(-16));
        let mut op = |op, a, b| {
            let dtype =
                if matches!(op, BinaryOp::Lt | BinaryOp::Le) { DType::Bool } else { DType::I64 };
            kernel.body.push(InstKind::Binary(op, a, b), dtype)
        };
        let quotient = op(BinaryOp::FloorDiv, i, whole);
        let rest = op(BinaryOp::Rem, i, whole);
        let split = op(BinaryOp::FloorDiv, i, odd);
        let negative = op(BinaryOp::FloorDiv, i, minus);
        // A parameter that is no extent may be negative.
        let unknown = op(BinaryOp::FloorDiv, i, n);
        let (below, upto) = (op(BinaryOp::Lt, i, whole), op(BinaryOp::Le, i, whole));
        let (above, past) = (op(BinaryOp::Le, whole, i), op(BinaryOp::Lt, whole, i));
        let facts = Facts::new(&kernel, Axis::Inner(0), 8);
        let along = |id| facts.get(id).along;
        assert_eq!((along(quotient), along(rest)), (Along::Same, Along::Steps(1)));
        assert_eq!(facts.get(rest).multiple, 8);
        assert_eq!(
            (along(split), along(negative), along(unknown)),
            (Along::Any, Along::Any, Along::Any)
        );
        assert_eq!((along(below), along(upto)), (Along::Same, Along::Any));
        assert_eq!((along(above), along(past)), (Along::Same, Along::Any));
    }
}
