//! Gathers and scatters.

use zeroforge_artifact::{DType, Expr};
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
    Some(one(match base.strip_suffix('_').unwrap_or(base) {
        "embedding" => embedding(im, args),
        "index_select" => index_select(im, args),
        "gather" => gather(im, args),
        "index" | "_unsafe_index" => index(im, args),
        "index_copy" => index_copy(im, "source", false, args),
        "index_add" => index_copy(im, "source", true, args),
        "index_fill" => index_fill(im, args),
        "index_put" | "_unsafe_index_put" => index_put(im, args),
        "scatter" | "scatter_add" => scatter(im, base, op, args),
        "slice_scatter" => slice_scatter(im, args),
        "select_scatter" => select_scatter(im, args),
        _ => return None,
    }))
}

fn embedding(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (weight, indices) = (args.tensor(im, "weight")?, args.tensor(im, "indices")?);
    im.push(Op::IndexSelect { axis: 0 }, &[weight, indices])
}

fn index_select(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (x, index) = (args.tensor(im, "self")?, args.tensor(im, "index")?);
    let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
    im.push(Op::IndexSelect { axis }, &[x, index])
}

fn gather(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (x, index) = (args.tensor(im, "self")?, args.tensor(im, "index")?);
    let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
    im.push(Op::Gather { axis }, &[x, index])
}

/// Index tensors and the axes that they index.
fn indices(im: &Importer<'_>, args: Args<'_>) -> Result<(Vec<usize>, Vec<ValueId>), String> {
    let mut axes = Vec::new();
    let mut tensors = Vec::new();
    for (axis, index) in args.optional_tensors(im, "indices")?.into_iter().enumerate() {
        let Some(index) = index else { continue };
        if im.dtype(index) == DType::Bool {
            return Err("indexing by a bool mask gives a shape that depends on data; use torch.where or masked_fill".to_owned());
        }
        axes.push(axis);
        tensors.push(index);
    }
    Ok((axes, tensors))
}

fn index(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let (axes, tensors) = indices(im, args)?;
    if axes.is_empty() {
        return Ok(x);
    }
    if let [axis] = axes[..] {
        return im.push(Op::IndexSelect { axis }, &[x, tensors[0]]);
    }
    let mut inputs = vec![x];
    inputs.extend(tensors);
    im.push(Op::IndexMulti { axes }, &inputs)
}

fn index_copy(
    im: &mut Importer<'_>,
    source: &str,
    accumulate: bool,
    args: Args<'_>,
) -> Result<ValueId, String> {
    let (x, index) = (args.tensor(im, "self")?, args.tensor(im, "index")?);
    let src = args.tensor(im, source)?;
    let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
    if accumulate && args.float("alpha", 1.0)? != 1.0 {
        return Err("index_add with alpha is not supported; scale the source".to_owned());
    }
    let mut shape = im.shape(x);
    im.extent(x, axis)?;
    shape[axis] = im.shape(index).first().cloned().unwrap_or_else(|| Expr::constant(1));
    let index = im.reshape(index, vec![shape[axis].clone()])?;
    let src = if im.shape(src) == shape { src } else { im.reshape(src, shape)? };
    im.push(Op::IndexCopy { axis, accumulate }, &[x, index, src])
}

/// Writes one value at a list of positions.
fn index_fill(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (x, index) = (args.tensor(im, "self")?, args.tensor(im, "index")?);
    let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
    let mut shape = im.shape(x);
    im.extent(x, axis)?;
    shape[axis] = im.ty(index).numel();
    let index = im.reshape(index, vec![shape[axis].clone()])?;
    let src = match args.scalar("value") {
        Ok(Some(value)) => im.full(value, im.dtype(x), shape)?,
        _ => {
            let value = args.tensor(im, "value")?;
            let value = im.cast(value, im.dtype(x))?;
            im.push(Op::Expand(shape), &[value])?
        }
    };
    im.push(Op::IndexCopy { axis, accumulate: false }, &[x, index, src])
}

fn index_put(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let (axes, tensors) = indices(im, args)?;
    let values = args.tensor(im, "values")?;
    let values = im.cast(values, im.dtype(x))?;
    let accumulate = args.boolean("accumulate", false)?;
    // One list of positions on one axis is an index_copy.
    if let ([axis], [index]) = (&axes[..], &tensors[..])
        && im.rank(*index) == 1
    {
        let mut shape = im.shape(x);
        im.extent(x, *axis)?;
        shape[*axis] = im.extent(*index, 0)?;
        if im.shape(values) == shape {
            return im.push(Op::IndexCopy { axis: *axis, accumulate }, &[x, *index, values]);
        }
    }
    let mut inputs = vec![x];
    inputs.extend(tensors);
    inputs.push(values);
    im.push(Op::IndexPut { axes, accumulate }, &inputs)
}

fn scatter(im: &mut Importer<'_>, base: &str, op: &str, args: Args<'_>) -> Result<ValueId, String> {
    let (x, index) = (args.tensor(im, "self")?, args.tensor(im, "index")?);
    let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
    if op.contains("reduce") {
        return Err("scatter with reduce is not supported; use scatter_add".to_owned());
    }
    let shape = im.shape(index);
    let src = match args.scalar("value") {
        Ok(Some(value)) => im.full(value, im.dtype(x), shape.clone())?,
        _ => args.tensor(im, "src")?,
    };
    let src = crop(im, src, &shape)?;
    let accumulate = base.starts_with("scatter_add");
    im.push(Op::Scatter { axis, accumulate }, &[x, index, src])
}

/// The part of a source that an index covers: torch allows larger sources.
fn crop(im: &mut Importer<'_>, mut src: ValueId, shape: &[Expr]) -> Result<ValueId, String> {
    for (axis, n) in shape.iter().enumerate() {
        if im.shape(src).get(axis).is_some_and(|m| m != n) {
            let op = Op::Slice { axis, start: Expr::constant(0), end: n.clone(), step: 1 };
            src = im.push(op, &[src])?;
        }
    }
    Ok(src)
}

fn slice_scatter(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (x, src) = (args.tensor(im, "self")?, args.tensor(im, "src")?);
    let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
    let n = im.extent(x, axis)?;
    let start = args.size(im, "start")?.unwrap_or_else(|| Expr::constant(0));
    let start = match start.as_const() {
        Some(v) if v < 0 => n + Expr::constant(v),
        _ => start,
    };
    let step = args.int("step", 1)?;
    let src = im.cast(src, im.dtype(x))?;
    im.push(Op::SliceScatter { axis, start, step }, &[x, src])
}

fn select_scatter(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (x, src) = (args.tensor(im, "self")?, args.tensor(im, "src")?);
    let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
    let n = im.extent(x, axis)?;
    let index = args.size(im, "index")?.ok_or("argument `index` is missing")?;
    let start = match index.as_const() {
        Some(v) if v < 0 => n + Expr::constant(v),
        _ => index,
    };
    let mut shape = im.shape(src);
    if axis > shape.len() {
        return Err(format!("a new axis {axis} in a tensor with {} axes", shape.len()));
    }
    shape.insert(axis, Expr::constant(1));
    let src = im.reshape(src, shape)?;
    let src = im.cast(src, im.dtype(x))?;
    im.push(Op::SliceScatter { axis, start, step: 1 }, &[x, src])
}
