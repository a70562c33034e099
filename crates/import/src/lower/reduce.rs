//! Reductions and scans.

use zeroforge_artifact::{DType, Expr};
use zeroforge_graph::op::{BinaryOp, ReduceOp, UnaryOp};
use zeroforge_graph::{Op, ValueId};

use super::args::Args;
use super::pointwise::one;
use super::{Importer, Lowered};

/// Lowers an op of this family; `None` if it is of another.
pub(super) fn lower(
    im: &mut Importer<'_>,
    base: &str,
    op: &str,
    args: Args<'_>,
) -> Option<Lowered> {
    Some(match base {
        "sum" => one(reduce(im, ReduceOp::Sum, args)),
        "mean" => one(reduce(im, ReduceOp::Mean, args)),
        "prod" => one(reduce(im, ReduceOp::Prod, args)),
        "amax" => one(reduce(im, ReduceOp::Max, args)),
        "amin" => one(reduce(im, ReduceOp::Min, args)),
        "any" => one(logical(im, ReduceOp::Any, args)),
        "all" => one(logical(im, ReduceOp::All, args)),
        "max" | "min" if op.ends_with(".dim") => with_indices(im, base, args),
        "max" => one(reduce(im, ReduceOp::Max, args)),
        "min" => one(reduce(im, ReduceOp::Min, args)),
        "argmax" => one(arg(im, ReduceOp::ArgMax, args)),
        "argmin" => one(arg(im, ReduceOp::ArgMin, args)),
        "var" | "std" => one(variance(im, base, args)),
        "linalg_vector_norm" | "norm" => one(vector_norm(im, args)),
        "logsumexp" => one(logsumexp(im, args)),
        "cumsum" => one(cumsum(im, args)),
        "topk" => top_k(im, args),
        _ => return None,
    })
}

/// Reduced axes: all if `dim` is absent or empty.
fn axes(im: &Importer<'_>, args: Args<'_>, x: ValueId) -> Result<Vec<usize>, String> {
    let rank = im.rank(x);
    let mut axes = match args.ints(im, "dim")? {
        Some(list) if !list.is_empty() => {
            list.iter().map(|&d| im.axis(d, rank)).collect::<Result<Vec<_>, _>>()?
        }
        _ => (0..rank).collect(),
    };
    if rank == 0 {
        axes.clear();
    }
    axes.sort_unstable();
    axes.dedup();
    Ok(axes)
}

fn apply(
    im: &mut Importer<'_>,
    op: ReduceOp,
    x: ValueId,
    axes: Vec<usize>,
    keep_dims: bool,
) -> Result<ValueId, String> {
    if axes.is_empty() {
        return Ok(x);
    }
    im.push(Op::Reduce { op, axes, keep_dims }, &[x])
}

fn reduce(im: &mut Importer<'_>, op: ReduceOp, args: Args<'_>) -> Result<ValueId, String> {
    let dtype = im.result_dtype(args)?;
    let x = args.tensor(im, "self")?;
    let x = im.cast(x, dtype)?;
    let axes = axes(im, args, x)?;
    apply(im, op, x, axes, args.boolean("keepdim", false)?)
}

fn logical(im: &mut Importer<'_>, op: ReduceOp, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let x = im.cast(x, DType::Bool)?;
    let axes = axes(im, args, x)?;
    apply(im, op, x, axes, args.boolean("keepdim", false)?)
}

/// `argmax` without a dimension runs over the flattened tensor.
fn arg(im: &mut Importer<'_>, op: ReduceOp, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let keep_dims = args.boolean("keepdim", false)?;
    match args.find("dim") {
        Some(_) if im.rank(x) > 0 => {
            let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
            apply(im, op, x, vec![axis], keep_dims)
        }
        _ => {
            let n = im.ty(x).numel();
            let flat = im.reshape(x, vec![n])?;
            let result = apply(im, op, flat, vec![0], false)?;
            let shape = im.result_shape(args)?;
            im.reshape(result, shape)
        }
    }
}

fn with_indices(im: &mut Importer<'_>, base: &str, args: Args<'_>) -> Lowered {
    let x = args.tensor(im, "self")?;
    let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
    let keep_dims = args.boolean("keepdim", false)?;
    let (value, index) = match base {
        "max" => (ReduceOp::Max, ReduceOp::ArgMax),
        _ => (ReduceOp::Min, ReduceOp::ArgMin),
    };
    let values = apply(im, value, x, vec![axis], keep_dims)?;
    let indices = apply(im, index, x, vec![axis], keep_dims)?;
    Ok(vec![values, indices])
}

fn count(im: &mut Importer<'_>, x: ValueId, axes: &[usize]) -> Expr {
    let shape = im.shape(x);
    Expr::product(axes.iter().map(|&a| &shape[a]))
}

/// A symbolic number as a scalar tensor.
pub(super) fn number(im: &mut Importer<'_>, value: Expr, dtype: DType) -> Result<ValueId, String> {
    let v = im.push(Op::FullInt { dtype: DType::I64, shape: vec![], value }, &[])?;
    im.cast(v, dtype)
}

/// Sum of squared differences from the mean, divided by `n - correction`.
pub(super) fn variance_of(
    im: &mut Importer<'_>,
    x: ValueId,
    axes: &[usize],
    correction: i64,
    keep_dims: bool,
) -> Result<ValueId, String> {
    let dtype = im.dtype(x);
    let mean = apply(im, ReduceOp::Mean, x, axes.to_vec(), true)?;
    let centred = im.binary(BinaryOp::Sub, x, mean)?;
    let square = im.binary(BinaryOp::Mul, centred, centred)?;
    if correction == 0 {
        return apply(im, ReduceOp::Mean, square, axes.to_vec(), keep_dims);
    }
    let sum = apply(im, ReduceOp::Sum, square, axes.to_vec(), keep_dims)?;
    let n = count(im, x, axes) - Expr::constant(correction);
    let n = number(im, n, dtype)?;
    im.binary(BinaryOp::Div, sum, n)
}

fn variance(im: &mut Importer<'_>, base: &str, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let axes = axes(im, args, x)?;
    let unbiased = args.boolean("unbiased", true)?;
    let correction = args.float("correction", if unbiased { 1.0 } else { 0.0 })?;
    if correction.fract() != 0.0 {
        return Err(format!("correction {correction} is not whole"));
    }
    let v = variance_of(im, x, &axes, correction as i64, args.boolean("keepdim", false)?)?;
    if base == "std" { im.unary(UnaryOp::Sqrt, v) } else { Ok(v) }
}

fn vector_norm(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let dtype = im.result_dtype(args)?;
    let x = args.tensor(im, "self")?;
    let x = im.cast(x, dtype)?;
    let axes = axes(im, args, x)?;
    let keep_dims = args.boolean("keepdim", false)?;
    let order =
        if args.find("ord").is_some() { args.float("ord", 2.0)? } else { args.float("p", 2.0)? };
    if order == 2.0 {
        let square = im.binary(BinaryOp::Mul, x, x)?;
        let sum = apply(im, ReduceOp::Sum, square, axes, keep_dims)?;
        return im.unary(UnaryOp::Sqrt, sum);
    }
    let magnitude = im.unary(UnaryOp::Abs, x)?;
    if order == 1.0 {
        return apply(im, ReduceOp::Sum, magnitude, axes, keep_dims);
    }
    if order == f64::INFINITY {
        return apply(im, ReduceOp::Max, magnitude, axes, keep_dims);
    }
    if order == f64::NEG_INFINITY {
        return apply(im, ReduceOp::Min, magnitude, axes, keep_dims);
    }
    let p = im.float(order, dtype)?;
    let power = im.binary(BinaryOp::Pow, magnitude, p)?;
    let sum = apply(im, ReduceOp::Sum, power, axes, keep_dims)?;
    let inverse = im.float(1.0 / order, dtype)?;
    im.binary(BinaryOp::Pow, sum, inverse)
}

fn logsumexp(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let axes = axes(im, args, x)?;
    let dtype = im.dtype(x);
    let max = apply(im, ReduceOp::Max, x, axes.clone(), true)?;
    // Rows of -inf (or +inf) must not become NaN by inf - inf.
    let infinite = im.unary(UnaryOp::IsInf, max)?;
    let zero = im.float(0.0, dtype)?;
    let shift = im.push(Op::Where, &[infinite, zero, max])?;
    let shifted = im.binary(BinaryOp::Sub, x, shift)?;
    let e = im.unary(UnaryOp::Exp, shifted)?;
    let sum = apply(im, ReduceOp::Sum, e, axes, true)?;
    let log = im.unary(UnaryOp::Log, sum)?;
    let result = im.binary(BinaryOp::Add, log, shift)?;
    let shape = im.result_shape(args)?;
    im.reshape(result, shape)
}

fn cumsum(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let dtype = im.result_dtype(args)?;
    let x = args.tensor(im, "self")?;
    let x = im.cast(x, dtype)?;
    if im.rank(x) == 0 {
        return Ok(x);
    }
    let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
    im.push(Op::CumSum { axis }, &[x])
}

fn top_k(im: &mut Importer<'_>, args: Args<'_>) -> Lowered {
    let x = args.tensor(im, "self")?;
    let k = args.size(im, "k")?.ok_or("argument `k` is missing")?;
    let rank = im.rank(x);
    if rank == 0 {
        return Err("the largest elements of a scalar are not supported".to_owned());
    }
    let axis = im.axis(args.int("dim", -1)?, rank)?;
    let largest = args.boolean("largest", true)?;
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(axis, rank - 1);
    let last = axis + 1 == rank;
    let mut v = if last { x } else { im.push(Op::Permute(perm.clone()), &[x])? };
    if !largest {
        v = im.unary(UnaryOp::Neg, v)?;
    }
    let mut results = im.push_all(Op::TopK { k }, &[v])?;
    if !largest {
        results[0] = im.unary(UnaryOp::Neg, results[0])?;
    }
    if !last {
        for r in &mut results {
            *r = im.push(Op::Permute(perm.clone()), &[*r])?;
        }
    }
    Ok(results)
}
