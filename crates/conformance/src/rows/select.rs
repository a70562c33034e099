//! `arg_max` and `top_k` against a sort.

use std::cmp::Ordering;

use zeroforge_artifact::{DType, Expr};
use zeroforge_kernels::Refusal;
use zeroforge_kernels::rows::{ArgMaxArgs, TopK, TopKArgs, arg_max, top_k};

use super::{Case, Layout, exactly, same_values, values};
use crate::random::Random;
use crate::tensor::encode;

const DTYPES: [DType; 3] = [DType::F32, DType::Bf16, DType::F16];

/// The larger first, NaN above everything, equal ones by index.
fn order(x: &[f64], a: usize, b: usize) -> Ordering {
    let by_value = match (x[a].is_nan(), x[b].is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        _ => x[b].partial_cmp(&x[a]).unwrap_or(Ordering::Equal),
    };
    by_value.then(a.cmp(&b))
}

/// Rows with ties, infinities, NaN, zeros of both signs, or in rising order.
pub(super) fn awkward(random: &mut Random, dtype: DType, rows: i64, length: i64) -> Vec<f64> {
    let mut x = values(random, dtype, rows * length, 3.0);
    for row in x.chunks_mut(length as usize) {
        match random.range(0, 7) {
            0 => row.iter_mut().for_each(|v| *v = v.round()),
            1 => row.fill(f64::NEG_INFINITY),
            2 => row.sort_by(f64::total_cmp),
            3 => {
                for v in row.iter_mut().step_by(3) {
                    *v = f64::NAN;
                }
            }
            4 => {
                let special = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 0.0, -0.0];
                row.iter_mut().for_each(|v| *v = random.pick(&special));
            }
            5 => row.iter_mut().for_each(|v| *v = random.pick(&[0.0, -0.0])),
            _ => {}
        }
    }
    x
}

fn best(x: &[f64], count: usize) -> Vec<usize> {
    let mut at: Vec<usize> = (0..x.len()).collect();
    at.sort_by(|&a, &b| order(x, a, b));
    at.truncate(count);
    at
}

/// The index of the first largest element.
pub(super) fn first_largest(x: &[f64]) -> usize {
    best(x, 1)[0]
}

pub(super) fn arg_max_case(random: &mut Random) -> Result<Case, Refusal> {
    let dtype = random.pick(&DTYPES);
    let (rows, most) = (random.range(1, 5), random.pick(&[1, 9, 600, 6000]));
    let length = random.range(1, most);
    let x = awkward(random, dtype, rows, length);
    let expected: Vec<u8> = x
        .chunks(length as usize)
        .flat_map(|row| (first_largest(row) as i64).to_le_bytes())
        .collect();
    let mut layout = Layout::new(random);
    let args = ArgMaxArgs {
        rows: Expr::constant(rows),
        length: Expr::constant(length),
        x: layout.matrix(&encode(dtype, &x), rows, length, dtype.size()),
        indices: layout.output_array("indices", expected.len(), exactly(expected, 8)),
    };
    Ok(layout.case(format!("{rows} rows of {length}"), arg_max(dtype, &args)?))
}

pub(super) fn top_k_case(random: &mut Random) -> Result<Case, Refusal> {
    let dtype = random.pick(&DTYPES);
    let k = random.pick(&[1, 2, 7, 50, 64, 600, 1024]);
    let (rows, more) = (random.range(1, 3), random.pick(&[0, 3, 700, 5000]));
    let length = k + random.range(0, more);
    let x = awkward(random, dtype, rows, length);
    let bytes = encode(dtype, &x);
    let size = dtype.size();
    let (mut expected_values, mut expected_indices) = (Vec::new(), Vec::new());
    for row in x.chunks(length as usize) {
        for at in best(row, k as usize) {
            expected_values.push(row[at]);
            expected_indices.extend((at as i64).to_le_bytes());
        }
    }
    let mut layout = Layout::new(random);
    let args = TopKArgs {
        rows: Expr::constant(rows),
        length: Expr::constant(length),
        x: layout.matrix(&bytes, rows, length, size),
        values: layout.output("values", (rows, k, size), same_values(dtype, expected_values)),
        indices: layout.output("indices", (rows, k, 8), exactly(expected_indices, 8)),
    };
    Ok(layout.case(format!("{k} of {rows} rows of {length}"), top_k(TopK { dtype, k }, &args)?))
}
