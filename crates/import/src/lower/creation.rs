//! Tensors from nothing.

use zeroforge_artifact::{DType, Expr};
use zeroforge_graph::{Op, ValueId};

use super::args::{Args, Scalar};
use super::pointwise::one;
use super::{Importer, Lowered};

/// Lowers an op of this family; `None` if it is of another.
pub(super) fn lower(
    im: &mut Importer<'_>,
    base: &str,
    op: &str,
    args: Args<'_>,
) -> Option<Lowered> {
    Some(one(match base {
        "full" | "new_full" | "full_like" => {
            let value = if args.find("fill_value").is_some() { "fill_value" } else { "value" };
            match args.scalar(value) {
                Ok(v) => filled(im, args, v.unwrap_or(Scalar::Int(0))),
                Err(e) => Err(e),
            }
        }
        "zeros" | "zeros_like" | "new_zeros" | "empty" | "empty_like" | "new_empty" | "zero"
        | "empty_permuted" | "new_empty_strided" => filled(im, args, Scalar::Int(0)),
        "ones" | "ones_like" | "new_ones" => filled(im, args, Scalar::Int(1)),
        "fill" => match args.scalar("value") {
            Ok(Some(v)) => filled(im, args, v),
            _ => fill_tensor(im, args),
        },
        "scalar_tensor" => match args.scalar("s") {
            Ok(Some(v)) => filled(im, args, v),
            _ => size_tensor(im, args),
        },
        "arange" => arange(im, op, args),
        "linspace" => linspace(im, args),
        "eye" => eye(im, args),
        "tril" | "triu" => triangle(im, base, args),
        _ => return None,
    }))
}

fn filled(im: &mut Importer<'_>, args: Args<'_>, value: Scalar) -> Result<ValueId, String> {
    let (dtype, shape) = (im.result_dtype(args)?, im.result_shape(args)?);
    im.full(value, dtype, shape)
}

fn fill_tensor(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (dtype, shape) = (im.result_dtype(args)?, im.result_shape(args)?);
    let v = args.tensor(im, "value")?;
    let v = im.cast(v, dtype)?;
    im.push(Op::Expand(shape), &[v])
}

fn size_tensor(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let dtype = im.result_dtype(args)?;
    let value = args.size(im, "s")?.ok_or("argument `s` is missing")?;
    let v = im.push(Op::FullInt { dtype: DType::I64, shape: vec![], value }, &[])?;
    im.cast(v, dtype)
}

fn arange(im: &mut Importer<'_>, op: &str, args: Args<'_>) -> Result<ValueId, String> {
    let (dtype, shape) = (im.result_dtype(args)?, im.result_shape(args)?);
    let [len] = shape.as_slice() else { return Err("a sequence has one axis".to_owned()) };
    let len = len.clone();
    let start = if op == "arange.default" { None } else { args.size(im, "start").ok().flatten() };
    let sizes = args.size(im, "end").is_ok()
        && (args.find("start").is_none() || args.size(im, "start").is_ok());
    let step = args.int("step", 1);
    if let (true, Ok(step)) = (sizes, step) {
        let start = start.unwrap_or_else(|| Expr::constant(0));
        return im.push(Op::Iota { dtype, len, start, step }, &[]);
    }
    // Fractional bounds: an integer sequence scaled.
    let iota =
        im.push(Op::Iota { dtype: DType::I64, len, start: Expr::constant(0), step: 1 }, &[])?;
    let x = im.cast(iota, dtype)?;
    let step = im.float(args.float("step", 1.0)?, dtype)?;
    let start = im.float(args.float("start", 0.0)?, dtype)?;
    let x = im.binary(zeroforge_graph::op::BinaryOp::Mul, x, step)?;
    im.binary(zeroforge_graph::op::BinaryOp::Add, x, start)
}

/// Evenly spaced from `start` to `end`, each half counted from its end as torch does, so that both
/// ends are exact.
fn linspace(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    use zeroforge_graph::op::BinaryOp;
    let (dtype, shape) = (im.result_dtype(args)?, im.result_shape(args)?);
    if !dtype.is_float() {
        return Err("linspace of integers is not supported; use arange".to_owned());
    }
    let [len] = shape.as_slice() else { return Err("a sequence has one axis".to_owned()) };
    let steps = len.as_const().ok_or("linspace needs a constant number of steps")?;
    let (start, end) = (args.float("start", 0.0)?, args.float("end", 0.0)?);
    let step = if steps > 1 { (end - start) / (steps - 1) as f64 } else { 0.0 };
    let iota = |start| Op::Iota { dtype: DType::I64, len: len.clone(), start, step: 1 };
    let i = im.push(iota(Expr::constant(0)), &[])?;
    let from_end = im.push(iota(Expr::constant(1) - Expr::constant(steps)), &[])?;
    let middle = im.scalar(Scalar::Int(steps / 2), DType::I64)?;
    let first_half = im.binary(BinaryOp::Lt, i, middle)?;
    let step = im.float(step, dtype)?;
    let mut half = |index, base: f64| -> Result<ValueId, String> {
        let index = im.cast(index, dtype)?;
        let distance = im.binary(BinaryOp::Mul, index, step)?;
        let base = im.float(base, dtype)?;
        im.binary(BinaryOp::Add, distance, base)
    };
    let low = half(i, start)?;
    let high = half(from_end, if steps > 1 { end } else { start })?;
    im.push(Op::Where, &[first_half, low, high])
}

/// Row and column indices of the last two axes, as `[rows, 1]` and `[columns]`.
fn positions(
    im: &mut Importer<'_>,
    rows: Expr,
    columns: Expr,
) -> Result<(ValueId, ValueId), String> {
    let iota = |len| Op::Iota { dtype: DType::I64, len, start: Expr::constant(0), step: 1 };
    let i = im.push(iota(rows.clone()), &[])?;
    let i = im.reshape(i, vec![rows, Expr::constant(1)])?;
    let j = im.push(iota(columns), &[])?;
    Ok((i, j))
}

fn eye(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (dtype, shape) = (im.result_dtype(args)?, im.result_shape(args)?);
    let [rows, columns] = shape.as_slice() else {
        return Err("an identity matrix has two axes".to_owned());
    };
    let (i, j) = positions(im, rows.clone(), columns.clone())?;
    let equal = im.binary(zeroforge_graph::op::BinaryOp::Eq, i, j)?;
    im.cast(equal, dtype)
}

fn triangle(im: &mut Importer<'_>, base: &str, args: Args<'_>) -> Result<ValueId, String> {
    use zeroforge_graph::op::BinaryOp;
    let x = args.tensor(im, "self")?;
    let shape = im.shape(x);
    let rank = shape.len();
    if rank < 2 {
        return Err("a triangle needs two axes".to_owned());
    }
    let (i, j) = positions(im, shape[rank - 2].clone(), shape[rank - 1].clone())?;
    let diagonal = im.scalar(Scalar::Int(args.int("diagonal", 0)?), DType::I64)?;
    let limit = im.binary(BinaryOp::Add, i, diagonal)?;
    let keep = im.binary(if base == "tril" { BinaryOp::Le } else { BinaryOp::Ge }, j, limit)?;
    let zero = im.scalar(Scalar::Int(0), im.dtype(x))?;
    im.push(Op::Where, &[keep, x, zero])
}
