//! `norm` against sums in f64, and in f32 one after another.

use half::{bf16, f16};
use zeroforge_artifact::{DType, Expr};
use zeroforge_kernels::Refusal;
use zeroforge_kernels::rows::{Norm, NormArgs, NormKind, Quantise, norm};

use super::{Case, Judge, Layout, exactly, near, values};
use crate::random::Random;
use crate::tensor::{decode, encode, round};
use crate::verdict::judge;

/// Nearest e4m3 value, ties to even, the largest beyond it.
fn e4m3(v: f64) -> f64 {
    if v.is_nan() {
        return v;
    }
    let magnitude = v.abs().min(448.0);
    let exponent = if magnitude > 0.0 { magnitude.log2().floor().max(-6.0) } else { -6.0 };
    let unit = (exponent - 3.0).exp2();
    ((magnitude / unit).round_ties_even() * unit).min(448.0).copysign(v)
}

/// The value of e4m3 bits.
fn of_e4m3(bits: u8) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 3 & 15), f64::from(bits & 7));
    let magnitude = match (exponent, bits & 7) {
        (15, 7) => f64::NAN,
        (0, _) => fraction / 512.0,
        _ => (1.0 + fraction / 8.0) * f64::from(exponent - 7).exp2(),
    };
    if bits & 0x80 != 0 { -magnitude } else { magnitude }
}

/// A sum of two elements as their type rounds it.
fn added(dtype: DType, a: f64, b: f64) -> f64 {
    let sum = a as f32 + b as f32;
    match dtype {
        DType::Bf16 => bf16::from_f32(sum).to_f64(),
        DType::F16 => f16::from_f32(sum).to_f64(),
        _ => f64::from(sum),
    }
}

struct Affine {
    weight: Option<Vec<f64>>,
    bias: Option<Vec<f64>>,
}

fn exact_row(h: &[f64], spec: &Norm, affine: &Affine) -> Vec<f64> {
    let n = h.len() as f64;
    let mean = match spec.kind {
        NormKind::Layer => h.iter().sum::<f64>() / n,
        NormKind::Rms => 0.0,
    };
    let variance = h.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    let scale = 1.0 / (variance + f64::from(spec.eps)).sqrt();
    let at = |of: &Option<Vec<f64>>, i: usize, none: f64| of.as_ref().map_or(none, |w| w[i]);
    (0..h.len())
        .map(|i| (h[i] - mean) * scale * at(&affine.weight, i, 1.0) + at(&affine.bias, i, 0.0))
        .collect()
}

fn naive_row(h: &[f64], spec: &Norm, affine: &Affine) -> Vec<f64> {
    let n = h.len() as f32;
    let mean = match spec.kind {
        NormKind::Layer => h.iter().fold(0f32, |s, v| s + *v as f32) / n,
        NormKind::Rms => 0.0,
    };
    let centred: Vec<f32> = h.iter().map(|v| *v as f32 - mean).collect();
    let variance = centred.iter().fold(0f32, |s, v| s + v * v) / n;
    let scale = 1.0 / (variance + spec.eps).sqrt();
    let at = |of: &Option<Vec<f64>>, i: usize, none: f32| of.as_ref().map_or(none, |w| w[i] as f32);
    (0..h.len())
        .map(|i| centred[i] * scale * at(&affine.weight, i, 1.0) + at(&affine.bias, i, 0.0))
        .map(f64::from)
        .collect()
}

/// The scale of a row, and its values rounded with it and multiplied again.
fn quantised(row: &[f64], to: Quantise) -> (f64, Vec<f64>) {
    let nan = row.iter().any(|v| v.is_nan());
    let largest = row.iter().fold(if nan { f64::NAN } else { 0.0 }, |m, v| m.max(v.abs()));
    let largest = if nan { f64::NAN } else { largest };
    let limit = if to == Quantise::E4m3 { 448.0 } else { 127.0 };
    let scale = largest / limit;
    let inverse = if largest == 0.0 { 0.0 } else { limit / largest };
    let back = row.iter().map(|v| match to {
        Quantise::E4m3 => e4m3(v * inverse) * scale,
        Quantise::S8 => (v * inverse).round_ties_even() * scale,
    });
    (scale, back.collect())
}

/// Scales within twice the naive error of the values that they come from, of which a row's largest is only one.
fn near_scales(expected: Vec<f64>, exact: &[f64], naive: &[f64], to: Quantise) -> Judge {
    let limit = if to == Quantise::E4m3 { 448.0 } else { 127.0 };
    let errors = exact.iter().zip(naive).map(|(a, b)| (a - b).abs()).filter(|e| e.is_finite());
    let naive_error = errors.fold(0f64, f64::max) / limit;
    Box::new(move |got| {
        for (row, (got, expected)) in decode(DType::F32, got).iter().zip(&expected).enumerate() {
            // Two more roundings: the reciprocal and the product.
            let allowed = 2.0 * naive_error + 2.0 * f64::from(f32::EPSILON) * expected;
            let right =
                (got - expected).abs() <= allowed || (got.is_nan() && !expected.is_finite());
            if !right {
                return Err(format!(
                    "of row {row} is {got} instead of {expected}, {allowed} allowed"
                ));
            }
        }
        Ok(())
    })
}

/// Bytes times their rows' exact scales, against the exact result; the error of the naive one is that of rounding once.
fn near_quantised(exact: Vec<f64>, naive: Vec<f64>, width: usize, to: Quantise) -> Judge {
    Box::new(move |got| {
        for (row, ((exact, naive), got)) in
            exact.chunks(width).zip(naive.chunks(width)).zip(got.chunks(width)).enumerate()
        {
            let (scale, _) = quantised(exact, to);
            let (_, naive) = quantised(naive, to);
            if !scale.is_finite() {
                continue; // Its scale says that the row is no number.
            }
            let value = |b: &u8| match to {
                Quantise::E4m3 => of_e4m3(*b) * scale,
                Quantise::S8 => f64::from(b.cast_signed()) * scale,
            };
            let got: Vec<f64> = got.iter().map(value).collect();
            let verdict = judge(DType::F32, exact, &naive, &got);
            if !verdict.passes() {
                return Err(format!("row {row} is wrong: {verdict:?}"));
            }
        }
        Ok(())
    })
}

pub(super) fn case(random: &mut Random) -> Result<Case, Refusal> {
    let dtypes = [DType::F32, DType::Bf16, DType::F16];
    let dtype = random.pick(&dtypes);
    let weight_dtype = if random.one_in(3) { DType::F32 } else { dtype };
    let width = random.pick(&[1, 3, 40, 64, 100, 768, 1000, 2048, 4104]);
    let rows = random.range(1, 6);
    let quantise = random.pick(&[None, None, Some(Quantise::E4m3), Some(Quantise::S8)]);
    let kind = random.pick(&[NormKind::Layer, NormKind::Rms]);
    let spec = Norm { kind, dtype, weight_dtype, width, eps: 1e-5, quantise };
    let (size, count) = (dtype.size(), rows * width);
    let mut x = values(random, dtype, count, 3.0);
    let offset = random.pick(&[0.0, 0.0, 50.0]);
    x.iter_mut().for_each(|v| *v = round(dtype, *v + offset));
    match random.range(0, 5) {
        0 => x[..width as usize].fill(0.0),
        1 => x[width as usize - 1] = f64::NAN,
        2 => x[0] = f64::INFINITY,
        _ => {}
    }
    let residual = random.one_in(2).then(|| values(random, dtype, count, 1.0));
    let vector =
        |random: &mut Random, on: bool| on.then(|| values(random, weight_dtype, width, 1.0));
    let affine =
        Affine { weight: vector(random, true), bias: vector(random, kind == NormKind::Layer) };
    let affine = if random.one_in(4) { Affine { weight: None, bias: None } } else { affine };
    let h: Vec<f64> = match &residual {
        Some(residual) => x.iter().zip(residual).map(|(a, b)| added(dtype, *a, *b)).collect(),
        None => x.clone(),
    };
    let rows_of = |f: &dyn Fn(&[f64]) -> Vec<f64>| -> Vec<f64> {
        h.chunks(width as usize).flat_map(f).collect()
    };
    let exact = rows_of(&|row| exact_row(row, &spec, &affine));
    let naive = rows_of(&|row| naive_row(row, &spec, &affine));
    let with_sum = residual.is_some() && random.one_in(2);
    let mut layout = Layout::new(random);
    let (out, scales) = match quantise {
        None => {
            let naive = naive.iter().map(|v| round(dtype, *v)).collect();
            (layout.output("out", (rows, width, size), near(dtype, exact, naive)), None)
        }
        Some(to) => {
            let scales = |of: &[f64]| -> Vec<f64> {
                of.chunks(width as usize).map(|row| quantised(row, to).0).collect()
            };
            let judge = near_scales(scales(&exact), &exact, &naive, to);
            let array = layout.output_array("scales", 4 * rows as usize, judge);
            let judge = near_quantised(exact, naive, width as usize, to);
            (layout.output("out", (rows, width, 1), judge), Some(array))
        }
    };
    let args = NormArgs {
        rows: Expr::constant(rows),
        x: layout.matrix(&encode(dtype, &x), rows, width, size),
        residual: residual.map(|r| layout.matrix(&encode(dtype, &r), rows, width, size)),
        sum: with_sum.then(|| {
            let expected = encode(dtype, &h);
            // NaN has many forms.
            let judge: Judge = match h.iter().any(|v| v.is_nan()) {
                true => near(dtype, decode(dtype, &expected), h.clone()),
                false => exactly(expected, size),
            };
            layout.output("sum", (rows, width, size), judge)
        }),
        weight: affine.weight.map(|w| layout.array(&encode(weight_dtype, &w), weight_dtype.size())),
        bias: affine.bias.map(|b| layout.array(&encode(weight_dtype, &b), weight_dtype.size())),
        out,
        scales,
    };
    Ok(layout.case(format!("{spec:?}, {rows} rows"), norm(spec, &args)?))
}
