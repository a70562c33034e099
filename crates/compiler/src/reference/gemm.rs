//! Contractions: `zf_gemm_params` of `abi.h`.

use std::mem::offset_of;

use zeroforge_artifact::DType;
use zeroforge_artifact::abi::{zf_gemm_params, zf_operand};

use super::evaluate::{Evaluator, Value};
use super::view::{Block, View};
use super::{Fault, MAX_LENGTH, Memory, Output, Values, count, parallel, plain, stored};
use crate::kernel_spec::{BLayout, GemmSpec};
use crate::loop_analysis::needed;

/// Columns that are computed at once.
const COLUMNS: i64 = 128;

struct Problem<'a> {
    a: (View<'a>, [i64; 4]),
    b: (View<'a>, [i64; 4]),
    c: (View<'a>, [i64; 4]),
    batch: [i64; 2],
    m: i64,
    n: i64,
    k: i64,
}

pub(super) fn compute(
    spec: &GemmSpec,
    block: Block<'_>,
    memory: &dyn Memory,
) -> Result<Vec<Output>, Fault> {
    let operand = |index: u32, dtype: DType, at: usize| -> Result<_, Fault> {
        Ok((View::new(memory, index, dtype, block.u64(at)?), block.strides(at)?))
    };
    let batch = offset_of!(zf_gemm_params, batch);
    let problem = Problem {
        a: operand(0, spec.a, offset_of!(zf_gemm_params, a))?,
        b: operand(1, spec.b, offset_of!(zf_gemm_params, b))?,
        c: operand(2, spec.c, offset_of!(zf_gemm_params, c))?,
        batch: [block.i64(batch)?, block.i64(batch + 8)?],
        m: block.i64(offset_of!(zf_gemm_params, m))?,
        n: block.i64(offset_of!(zf_gemm_params, n))?,
        k: block.i64(offset_of!(zf_gemm_params, k))?,
    };
    let Problem { batch, m, n, k, .. } = problem;
    stored(&[batch[0], batch[1], m, n])?;
    let work = count(&[batch[0], batch[1], m, n, k.max(1)])?;
    // One row of A and one block of B's columns are held.
    if k > MAX_LENGTH {
        return Err(Fault::Sizes(format!("products of length {k}")));
    }

    let mut extras = Vec::new();
    let mut strides = Vec::new();
    for (i, &dtype) in spec.epilogue.extra.iter().enumerate() {
        let at = offset_of!(zf_gemm_params, extra) + i * size_of::<zf_operand>();
        let (view, s) = operand(3 + i as u32, dtype, at)?;
        extras.push(view);
        strides.extend(s);
    }
    let insts = match spec.epilogue.result {
        Some(id) => needed(&spec.epilogue.body, &[id]),
        None => Vec::new(),
    };
    let blocks = (n.max(0) as u64).div_ceil(COLUMNS as u64);
    let total = batch[0].max(0) as u64 * batch[1].max(0) as u64 * blocks;
    let parts = parallel(total, work, |range| {
        let mut epilogue = Evaluator::new(&spec.epilogue.body, &strides, &extras, (4, 0, 1));
        let mut output = Output::new(spec.c);
        for at in range {
            let columns = (at % blocks) as i64 * COLUMNS;
            let pair = (at / blocks) as i64;
            let batch_at = [pair / batch[1], pair % batch[1]];
            let (accs, magnitude) = match spec.a == DType::F64 || spec.b == DType::F64 {
                true => problem.block::<f64>(spec.b_layout, batch_at, columns)?,
                false => problem.block::<f32>(spec.b_layout, batch_at, columns)?,
            };
            output.note_sum(magnitude);
            let width = COLUMNS.min(n - columns);
            for row in 0..m {
                for column in 0..width {
                    let acc = accs[(row * width + column) as usize];
                    let mut value = Value { exact: acc.0, plain: acc.1, int: 0 };
                    let index = [batch_at[0], batch_at[1], row, columns + column];
                    if let Some(result) = spec.epilogue.result {
                        epilogue.accs[0] = value;
                        epilogue.outer.copy_from_slice(&index);
                        epilogue.run(&insts)?;
                        value = epilogue.value(result);
                    }
                    let (view, strides) = &problem.c;
                    let address = view.address(linear(index, strides))?;
                    output.push_float(address, value.exact, value.plain);
                }
            }
        }
        Ok(output)
    })?;
    let mut all = Output::new(spec.c);
    parts.into_iter().for_each(|part| all.append(part));
    if let Values::Float { exact, .. } = &all.values
        && exact.is_empty()
    {
        return Ok(Vec::new());
    }
    Ok(vec![all])
}

fn linear(index: [i64; 4], strides: &[i64; 4]) -> i64 {
    let terms = index.iter().zip(strides).map(|(i, s)| i.wrapping_mul(*s));
    terms.fold(0, i64::wrapping_add)
}

/// What products are summed in by a plain implementation.
trait Accumulator: Copy + Default + Send {
    type Operand: Copy;
    fn operand(v: f64) -> Self::Operand;
    fn to_f64(self) -> f64;
    fn add_product(self, a: Self::Operand, b: Self::Operand) -> Self;
}

impl Accumulator for f32 {
    type Operand = plain::Split;
    fn operand(v: f64) -> plain::Split {
        plain::split(v as f32)
    }
    fn to_f64(self) -> f64 {
        self.into()
    }
    fn add_product(self, a: plain::Split, b: plain::Split) -> f32 {
        plain::add_product(self, a, b)
    }
}

impl Accumulator for f64 {
    type Operand = f64;
    fn operand(v: f64) -> f64 {
        v
    }
    fn to_f64(self) -> f64 {
        self
    }
    fn add_product(self, a: f64, b: f64) -> f64 {
        self + a * b
    }
}

impl Problem<'_> {
    /// Exact and plain sums of a block of columns, `[m][width]`, and the largest sum of magnitudes.
    fn block<T: Accumulator>(
        &self,
        layout: BLayout,
        batch: [i64; 2],
        first: i64,
    ) -> Result<(Vec<(f64, f64)>, f64), Fault> {
        let width = COLUMNS.min(self.n - first).max(0);
        let (view, strides) = &self.b;
        let mut b: Vec<(f64, T::Operand)> = Vec::new();
        for k in 0..self.k {
            for n in first..first + width {
                let inside = match layout {
                    BLayout::RowMajorKn => [k.wrapping_mul(strides[2]), n],
                    BLayout::RowMajorNk => [n.wrapping_mul(strides[2]), k],
                    BLayout::Panels { nr } => {
                        let nr = i64::from(nr.max(1));
                        [(n / nr).wrapping_mul(strides[2]), k.wrapping_mul(nr) + n % nr]
                    }
                };
                let at = linear([batch[0], batch[1], 0, 0], strides);
                let value = view.float(at.wrapping_add(inside[0]).wrapping_add(inside[1]))?;
                b.push((value, T::operand(value)));
            }
        }
        let width = width as usize;
        let mut out = Vec::with_capacity(self.m.max(0) as usize * width);
        let mut exact = vec![0.0f64; width];
        let mut magnitudes = vec![0.0f64; width];
        let mut largest = 0.0f64;
        let mut sums = vec![T::default(); width];
        for m in 0..self.m {
            exact.fill(0.0);
            magnitudes.fill(0.0);
            sums.fill(T::default());
            let (view, strides) = &self.a;
            let start = linear([batch[0], batch[1], m, 0], strides);
            for (k, row) in b.chunks_exact(width.max(1)).enumerate() {
                let wide = view.float(start.wrapping_add(k as i64))?;
                let narrow = T::operand(wide);
                let columns = exact.iter_mut().zip(&mut sums).zip(&mut magnitudes);
                for (((e, s), magnitude), &b) in columns.zip(row) {
                    *magnitude += (wide * b.0).abs();
                    *e += wide * b.0;
                    *s = s.add_product(narrow, b.1);
                }
            }
            largest = magnitudes.iter().fold(largest, |a, &b| a.max(b));
            // A plain implementation stores the product in the type of its operands.
            let round = |v: T| plain::round(self.a.0.dtype, v.to_f64());
            out.extend(exact.iter().zip(&sums).map(|(e, s)| (*e, round(*s))));
        }
        Ok((out, largest))
    }
}
