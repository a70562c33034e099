//! Layer norm and RMS norm with a residual before and a quantisation after.

use zeroforge_artifact::{DType, Expr};

use super::{Array, Block, Contract, Rows, instance, multiple, packet, rows_multiple, type_name};
use crate::{Instance, Plan, Refusal};

/// Threads of the largest block, and points that each holds.
const MOST_THREADS: i64 = 1024;
/// Points of a row that a thread holds in registers.
const HELD: i64 = 32;

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `(h - mean) / sqrt(variance + eps)`.
    Layer,
    /// `h / sqrt(mean of squares + eps)`.
    Rms,
}

/// Types of a quantised result. A row's scale is its largest magnitude over the type's (448, 127).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantise {
    /// FP8 with 4 bits of exponent and 3 of fraction, rounded to nearest even.
    E4m3,
    /// -127 to 127, rounded to nearest even.
    S8,
}

/// What [`norm`] is instantiated for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Layer norm or RMS norm.
    pub kind: NormKind,
    /// Type of x, residual, sum, and of the result if it is not quantised.
    pub dtype: DType,
    /// Type of weight and bias.
    pub weight_dtype: DType,
    /// Elements of a row.
    pub width: i64,
    /// Added to the variance.
    pub eps: f32,
    /// The result's type and scales; `None` for `dtype`.
    pub quantise: Option<Quantise>,
}

/// Operands of [`norm`]: `h = x + residual`, rounded to its type; `out = norm(h) * weight + bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct NormArgs {
    /// Rows.
    pub rows: Expr,
    /// `[rows, width]`.
    pub x: Rows,
    /// `[rows, width]`, added to x.
    pub residual: Option<Rows>,
    /// `[rows, width]`, written: h. Needs a residual; may be x or the residual itself.
    pub sum: Option<Rows>,
    /// `[width]`.
    pub weight: Option<Array>,
    /// `[width]`.
    pub bias: Option<Array>,
    /// `[rows, width]`, written.
    pub out: Rows,
    /// f32 `[rows]`, written: what quantised values are multiplied with. Given exactly if the result is quantised.
    pub scales: Option<Array>,
}

/// A norm of every row, read once and written once.
///
/// # Errors
/// Arguments outside of the contract.
pub fn norm(spec: Norm, args: &NormArgs) -> Result<(Instance, Plan), Refusal> {
    let Norm { dtype, weight_dtype, width, .. } = spec;
    let contract = Contract { kernel: "norm" };
    let variant = contract.variant(dtype)?;
    contract.rule(variant.dtypes.contains(&weight_dtype), "weight", || {
        format!("is {weight_dtype}; it must be a type that this kernel takes for x")
    })?;
    contract.rule((1..=variant.most).contains(&width), "width", || {
        format!("is {width}; it must be between 1 and {}", variant.most)
    })?;
    contract.rule(spec.eps >= 0.0 && spec.eps.is_finite(), "eps", || {
        format!("is {}; it must be finite and not negative", spec.eps)
    })?;
    contract.rule(args.scales.is_some() == spec.quantise.is_some(), "scales", || {
        "are given exactly if the result is quantised".to_owned()
    })?;
    contract.rule(args.sum.is_none() || args.residual.is_some(), "sum", || {
        "is asked for without a residual".to_owned()
    })?;
    contract.size("rows", &args.rows, 0, i32::MAX.into())?;
    let (size, length) = (dtype.size(), Expr::constant(width));
    let shape = (&args.rows, &length);
    let out_size = if spec.quantise.is_some() { 1 } else { size };
    contract.rows("x", &args.x, size, shape, false)?;
    contract.rows("out", &args.out, out_size, shape, true)?;
    let mut multiples = vec![
        rows_multiple(size, &args.x, &args.rows),
        rows_multiple(out_size, &args.out, &args.rows),
        1 << width.trailing_zeros().min(8),
    ];
    let others = [("residual", &args.residual, false), ("sum", &args.sum, true)];
    for (name, rows, written) in others {
        let Some(rows) = rows else { continue };
        contract.rows(name, rows, size, shape, written)?;
        multiples.push(rows_multiple(size, rows, &args.rows));
    }
    for (name, array) in [("weight", &args.weight), ("bias", &args.bias)] {
        let Some(array) = array else { continue };
        contract.elements(name, &array.offset, weight_dtype.size())?;
        multiples.push(multiple(weight_dtype.size(), &array.offset, None));
    }
    if let Some(scales) = &args.scales {
        contract.elements("scales", &scales.offset, 4)?;
    }
    let points = packet(size, &multiples);
    let groups = width / points;
    let turns = HELD / points;
    let ceil_div = |a: i64, b: i64| (a + b - 1) / b;
    // A warp's row, or a block's with as few turns as keep about 256 threads busy.
    let (threads, lanes) = if groups <= 32 * turns.min(8) {
        (variant.threads, 32)
    } else {
        let turns = ceil_div(groups, 256).min(turns);
        // The results of four warps are read at once.
        let lanes = (ceil_div(ceil_div(groups, turns), 128) * 128).min(MOST_THREADS);
        (lanes, lanes)
    };
    let mut block = Block::default();
    block.rows(&args.x);
    block.optional_rows(args.residual.as_ref());
    block.optional_rows(args.sum.as_ref());
    block.rows(&args.out);
    block.optional_array(args.weight.as_ref());
    block.optional_array(args.bias.as_ref());
    block.optional_array(args.scales.as_ref());
    block.int(&args.rows);
    block.float(spec.eps);
    let (bytes, plan) = block.finish(args.rows.ceil_div(&Expr::constant(threads / lanes)));
    let out = match spec.quantise {
        None => type_name(dtype),
        Some(Quantise::E4m3) => "zf::e4m3",
        Some(Quantise::S8) => "zf::s8",
    };
    let call = format!(
        "zf::norm<{}, {}, {out}, {points}, {width}, {threads}, {lanes}, {}, {}, {}, {}, {}>",
        type_name(dtype),
        type_name(weight_dtype),
        spec.kind == NormKind::Layer,
        args.residual.is_some(),
        args.sum.is_some(),
        args.weight.is_some(),
        args.bias.is_some()
    );
    let doc = format!("norm {:?} {dtype} width {width} packets of {points}", spec.kind);
    Ok((instance(variant, ("norm", "NormParams", call), threads, bytes, doc), plan))
}
