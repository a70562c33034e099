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
    let start = if op == "arange.default" { None } else { args.size(im, "start").ok().flatten() };
    let sizes = args.size(im, "end").is_ok()
        && (args.find("start").is_none() || args.size(im, "start").is_ok());
    let step = args.int("step", 1);
    if let (true, Ok(step)) = (sizes, step) {
        let start = start.unwrap_or_else(|| Expr::constant(0));
        return im.push(Op::Iota { dtype, len: shape[0].clone(), start, step }, &[]);
    }
    // Fractional bounds: an integer sequence scaled.
    let iota = im.push(
        Op::Iota { dtype: DType::I64, len: shape[0].clone(), start: Expr::constant(0), step: 1 },
        &[],
    )?;
    let x = im.cast(iota, dtype)?;
    let step = im.float(args.float("step", 1.0)?, dtype)?;
    let start = im.float(args.float("start", 0.0)?, dtype)?;
    let x = im.binary(zeroforge_graph::op::BinaryOp::Mul, x, step)?;
    im.binary(zeroforge_graph::op::BinaryOp::Add, x, start)
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
    let (i, j) = positions(im, shape[0].clone(), shape[1].clone())?;
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
