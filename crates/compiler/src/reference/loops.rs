//! Loop nests, as `loop_ir` defines them.

use zeroforge_artifact::DType;
use zeroforge_graph::interpret::scalar;

use super::evaluate::{Evaluator, Value};
use super::view::{Block, View};
use super::{Fault, MAX_WORK, Memory, Output, Values, count, parallel, plain, stored};
use crate::loop_analysis::{levels, needed, stage_roots};
use crate::loop_ir::{Extent, Fold, InstId, LoopKernel, Stage};

/// A stage with the instructions that it needs: once per row, and at every point of the row.
struct Prepared<'a> {
    stage: &'a Stage,
    row: Vec<InstId>,
    point: Vec<InstId>,
}

pub(super) fn compute(
    kernel: &LoopKernel,
    block: Block<'_>,
    memory: &dyn Memory,
) -> Result<Vec<Output>, Fault> {
    let operands = kernel.operands.len();
    let mut views = Vec::with_capacity(operands);
    for (i, operand) in kernel.operands.iter().enumerate() {
        views.push(View::new(memory, i as u32, operand.dtype, block.u64(8 * i)?));
    }
    let mut ints = Vec::with_capacity(kernel.ints as usize);
    for i in 0..kernel.ints as usize {
        ints.push(block.i64(8 * (operands + i))?);
    }
    let size = |e: &Extent| match *e {
        Extent::Const(n) => n,
        Extent::Param(i) => ints.get(i as usize).copied().unwrap_or(0),
    };
    let outer: Vec<i64> = kernel.outer.iter().map(size).collect();
    let inner: Vec<i64> = kernel.inner.iter().map(size).collect();
    let (rows, row) = (count(&outer)?, count(&inner)?);
    let points = count(&[rows as i64, row as i64])?;
    if kernel.stages.iter().any(|s| matches!(s, Stage::Store { .. })) {
        stored(&[rows as i64])?;
    }
    if kernel.is_elementwise() {
        stored(&[points as i64])?;
        // Points outside of an empty row do not exist.
        if points == 0 {
            return Ok(Vec::new());
        }
    }
    let levels = levels(&kernel.body);
    let prepared: Vec<Prepared<'_>> = kernel
        .stages
        .iter()
        .map(|stage| {
            let insts = needed(&kernel.body, &stage_roots(stage));
            let (row, point) = insts.into_iter().partition(|id| levels[id.0 as usize] == 0);
            Prepared { stage, row, point }
        })
        .collect();
    let work = points.max(rows).saturating_mul(kernel.body.insts.len() as u64);
    if work > MAX_WORK {
        return Err(Fault::Sizes(format!("{work} instructions")));
    }
    let parts = parallel(rows, work, |range| {
        let accs = kernel.stages.len();
        let shape = (outer.len(), inner.len(), accs);
        let mut evaluator = Evaluator::new(&kernel.body, &ints, &views, shape);
        let mut outputs: Vec<Output> =
            kernel.operands.iter().map(|o| Output::new(o.dtype)).collect();
        for at in range {
            unravel(at, &outer, &mut evaluator.outer);
            one_row(kernel, &prepared, &inner, row, &mut evaluator, &views, &mut outputs)?;
        }
        Ok(outputs)
    })?;
    let mut outputs: Vec<Output> = Vec::new();
    for part in parts {
        match outputs.is_empty() {
            true => outputs = part,
            false => outputs.iter_mut().zip(part).for_each(|(all, part)| all.append(part)),
        }
    }
    outputs.retain(|o| !o.addresses.is_empty());
    Ok(outputs)
}

fn unravel(mut at: u64, sizes: &[i64], index: &mut [i64]) {
    for (i, &n) in index.iter_mut().zip(sizes).rev() {
        let n = n.max(1) as u64;
        *i = (at % n) as i64;
        at /= n;
    }
}

/// Moves an index to its neighbour.
fn advance(index: &mut [i64], sizes: &[i64]) {
    for (i, &n) in index.iter_mut().zip(sizes).rev() {
        *i += 1;
        if *i < n {
            return;
        }
        *i = 0;
    }
}

fn one_row(
    kernel: &LoopKernel,
    stages: &[Prepared<'_>],
    inner: &[i64],
    row: u64,
    evaluator: &mut Evaluator<'_>,
    views: &[View<'_>],
    outputs: &mut [Output],
) -> Result<(), Fault> {
    let mut accs = 0;
    let mut scan: Option<(&Prepared<'_>, InstId, usize)> = None;
    for prepared in stages {
        match prepared.stage {
            // Folded point by point with the store that follows.
            Stage::Reduce { fold: Fold::Scan, value } => {
                evaluator.run(&prepared.row)?;
                scan = Some((prepared, *value, accs));
                accs += 1;
            }
            Stage::Reduce { fold, value } => {
                evaluator.run(&prepared.row)?;
                let dtype = kernel.body.inst(*value).dtype;
                let mut folded = Folded::new(*fold, dtype);
                evaluator.inner.fill(0);
                for at in 0..row {
                    evaluator.run(&prepared.point)?;
                    folded.add(at as i64, evaluator.value(*value));
                    advance(&mut evaluator.inner, inner);
                }
                evaluator.accs[accs] = folded.value;
                accs += 1;
            }
            stage @ Stage::Store { .. } => {
                if let Some((scanned, value, acc)) = scan.take() {
                    let dtype = kernel.body.inst(value).dtype;
                    let mut folded = Folded::new(Fold::Sum, dtype);
                    evaluator.inner.fill(0);
                    for at in 0..row {
                        evaluator.run(&scanned.point)?;
                        folded.add(at as i64, evaluator.value(value));
                        evaluator.accs[acc] = folded.value;
                        evaluator.run(&prepared.row)?;
                        evaluator.run(&prepared.point)?;
                        store(stage, evaluator, views, outputs)?;
                        advance(&mut evaluator.inner, inner);
                    }
                    continue;
                }
                evaluator.run(&prepared.row)?;
                // A store that no inner index reaches happens once per row.
                if prepared.point.is_empty() && !kernel.is_elementwise() {
                    store(stage, evaluator, views, outputs)?;
                    continue;
                }
                evaluator.inner.fill(0);
                for _ in 0..row {
                    evaluator.run(&prepared.point)?;
                    store(stage, evaluator, views, outputs)?;
                    advance(&mut evaluator.inner, inner);
                }
            }
        }
    }
    Ok(())
}

fn store(
    stage: &Stage,
    evaluator: &Evaluator<'_>,
    views: &[View<'_>],
    outputs: &mut [Output],
) -> Result<(), Fault> {
    let Stage::Store { operand, index, value, guard } = stage else { return Ok(()) };
    if guard.is_some_and(|g| evaluator.value(g).int == 0) {
        return Ok(());
    }
    let view = &views[*operand as usize];
    let address = view.address(evaluator.value(*index).int)?;
    let found = evaluator.value(*value);
    let output = &mut outputs[*operand as usize];
    if output.addresses.len() as u64 >= super::MAX_ELEMENTS {
        return Err(Fault::Sizes("too many elements to write".to_owned()));
    }
    if view.dtype.is_float() {
        let float = evaluator.is_float(*value);
        let (exact, plain) =
            if float { (found.exact, found.plain) } else { (found.int as f64, found.int as f64) };
        output.push_float(address, exact, plain);
    } else if let Values::Int(values) = &mut output.values {
        let int = match evaluator.is_float(*value) {
            true => scalar::saturate(found.plain, view.dtype),
            false => found.int,
        };
        output.addresses.push(address);
        values.push(scalar::wrap(view.dtype, int));
    }
    Ok(())
}

/// A fold under way.
struct Folded {
    fold: Fold,
    dtype: DType,
    value: Value,
    /// For argmax and argmin: the best so far.
    best: Option<Value>,
}

impl Folded {
    fn new(fold: Fold, dtype: DType) -> Folded {
        let int_range = match dtype {
            DType::I64 => (i64::MIN, i64::MAX),
            DType::Bool => (0, 1),
            _ => (i32::MIN.into(), i32::MAX.into()),
        };
        let start = |float: f64, int: i64| Value { exact: float, plain: float, int };
        let value = match fold {
            Fold::Sum | Fold::Any | Fold::Scan => start(0.0, 0),
            Fold::Prod | Fold::All => start(1.0, 1),
            Fold::Max => start(f64::NEG_INFINITY, int_range.0),
            Fold::Min => start(f64::INFINITY, int_range.1),
            Fold::ArgMax | Fold::ArgMin => start(-1.0, -1),
        };
        Folded { fold, dtype, value, best: None }
    }

    fn add(&mut self, at: i64, next: Value) {
        let Value { exact, plain, int } = self.value;
        let round = |v: f64| match self.dtype {
            DType::F64 => v,
            _ => plain::round(DType::F32, v),
        };
        let larger = |a: f64, b: f64| if a > b || a.is_nan() { a } else { b };
        let smaller = |a: f64, b: f64| if a < b || a.is_nan() { a } else { b };
        self.value = match self.fold {
            Fold::Sum | Fold::Scan => Value {
                exact: exact + next.exact,
                plain: round(plain + next.plain),
                int: scalar::wrap(self.dtype_of_sum(), int.wrapping_add(next.int)),
            },
            Fold::Prod => Value {
                exact: exact * next.exact,
                plain: round(plain * next.plain),
                int: scalar::wrap(self.dtype_of_sum(), int.wrapping_mul(next.int)),
            },
            Fold::Max => Value {
                exact: larger(exact, next.exact),
                plain: larger(plain, next.plain),
                int: int.max(next.int),
            },
            Fold::Min => Value {
                exact: smaller(exact, next.exact),
                plain: smaller(plain, next.plain),
                int: int.min(next.int),
            },
            Fold::Any => Value { int: i64::from(int != 0 || next.int != 0), ..self.value },
            Fold::All => Value { int: i64::from(int != 0 && next.int != 0), ..self.value },
            Fold::ArgMax | Fold::ArgMin => {
                if self.best.is_none_or(|best| self.beats(next, best)) {
                    self.best = Some(next);
                    self.value.int = at;
                }
                self.value
            }
        };
    }

    fn dtype_of_sum(&self) -> DType {
        if self.dtype == DType::Bool { DType::I32 } else { self.dtype }
    }

    /// Whether a later value takes the place of the best so far; the first of equals stays, NaN wins.
    fn beats(&self, next: Value, best: Value) -> bool {
        let max = self.fold == Fold::ArgMax;
        if self.dtype.is_float() {
            let (a, b) = (next.plain, best.plain);
            return !b.is_nan() && (a.is_nan() || if max { a > b } else { a < b });
        }
        if max { next.int > best.int } else { next.int < best.int }
    }
}
