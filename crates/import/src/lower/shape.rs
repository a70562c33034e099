//! Views, layout and joins.

use zeroforge_artifact::{DType, Expr};
use zeroforge_graph::op::PadMode;
use zeroforge_graph::{Op, ValueId};

use super::args::Args;
use super::pointwise::one;
use super::{Importer, Lowered};

/// Most times that `diff` repeats.
const MAX_DIFF: i64 = 64;

/// Lowers an op of this family; `None` if it is of another.
pub(super) fn lower(im: &mut Importer<'_>, base: &str, _: &str, args: Args<'_>) -> Option<Lowered> {
    Some(match base {
        "view" | "reshape" | "_unsafe_view" | "flatten" | "unflatten" | "squeeze" | "unsqueeze"
        | "_reshape_alias" | "view_as" | "squeeze_" | "unsqueeze_" => {
            one(to_result_shape(im, args))
        }
        "sym_size" => size(im, args),
        "sym_numel" => numel(im, args),
        "permute" => one(permute(im, args)),
        "transpose" | "t" | "swapaxes" | "mT" | "numpy_T" => one(transpose(im, base, args)),
        "movedim" => one(movedim(im, args)),
        "expand" | "expand_as" | "broadcast_to" => one(expand(im, args)),
        "slice" => one(slice(im, args)),
        "narrow" => one(narrow(im, args)),
        "select" => one(select(im, args)),
        "split" | "split_with_sizes" | "chunk" | "tensor_split" | "unsafe_split" => {
            split(im, base, args)
        }
        "unbind" => unbind(im, args),
        "cat" | "concat" => one(concat(im, args)),
        "stack" => one(stack(im, args)),
        "flip" => one(flip(im, args)),
        "roll" => one(roll(im, args)),
        "repeat" | "tile" => one(repeat(im, args)),
        "repeat_interleave" => one(repeat_interleave(im, args)),
        "pad" | "constant_pad_nd" => one(pad(im, args)),
        "diff" => one(diff(im, args)),
        "unfold" => one(unfold(im, args)),
        "diagonal" => one(diagonal(im, args)),
        "meshgrid" => meshgrid(im, args),
        "pixel_shuffle" => one(pixel_shuffle(im, args)),
        _ => return None,
    })
}

/// Ops that keep the elements in order: the exporter recorded the shape they give.
fn to_result_shape(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let mut shape = im.result_shape(args)?;
    // Sizes that the exporter names by a fresh symbol but the arguments spell out.
    if Expr::product(&shape) != im.ty(x).numel()
        && let Some(given) = args.sizes(im, "size").or_else(|_| args.sizes(im, "shape"))?
        && given.len() == shape.len()
    {
        let known = Expr::product(given.iter().filter(|e| !e.is(-1)));
        shape = given
            .into_iter()
            .map(|e| if e.is(-1) { im.ty(x).numel().floor_div(&known) } else { e })
            .collect();
    }
    im.reshape(x, shape)
}

fn size(im: &mut Importer<'_>, args: Args<'_>) -> Lowered {
    let x = args.tensor(im, "self")?;
    let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
    let n = im.shape(x).get(axis).cloned().ok_or("a scalar has no sizes")?;
    im.define_size(args.node, n);
    Ok(Vec::new())
}

fn numel(im: &mut Importer<'_>, args: Args<'_>) -> Lowered {
    let x = args.tensor(im, "self")?;
    let n = im.ty(x).numel();
    im.define_size(args.node, n);
    Ok(Vec::new())
}

fn permute(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let rank = im.rank(x);
    let dims = args.ints(im, "dims")?.ok_or("argument `dims` is missing")?;
    let perm = dims.iter().map(|&d| im.axis(d, rank)).collect::<Result<Vec<_>, _>>()?;
    im.push(Op::Permute(perm), &[x])
}

fn transpose(im: &mut Importer<'_>, base: &str, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let rank = im.rank(x);
    if rank < 2 {
        return Ok(x);
    }
    let names = if base == "swapaxes" { ("axis0", "axis1") } else { ("dim0", "dim1") };
    let a = im.axis(args.int(names.0, -2)?, rank)?;
    let b = im.axis(args.int(names.1, -1)?, rank)?;
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(a, b);
    im.push(Op::Permute(perm), &[x])
}

fn movedim(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let rank = im.rank(x);
    let list = |im: &Importer<'_>, name: &str| -> Result<Vec<usize>, String> {
        let dims = args.ints(im, name)?.ok_or_else(|| format!("argument `{name}` is missing"))?;
        dims.iter().map(|&d| im.axis(d, rank)).collect()
    };
    let (from, to) = (list(im, "source")?, list(im, "destination")?);
    if from.len() != to.len() {
        return Err(format!("{} axes move to {} places", from.len(), to.len()));
    }
    let mut rest = (0..rank).filter(|a| !from.contains(a));
    let mut perm = Vec::with_capacity(rank);
    for axis in 0..rank {
        match to.iter().position(|&t| t == axis) {
            Some(i) => perm.push(from[i]),
            None => perm.extend(rest.next()),
        }
    }
    im.push(Op::Permute(perm), &[x])
}

fn expand(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let mut shape = im.result_shape(args)?;
    // Prefer the sizes of the operand where the exporter kept them (-1).
    let from = im.shape(x);
    let skip = shape.len().checked_sub(from.len()).ok_or("expand cannot drop axes")?;
    if let Some(given) = args.sizes(im, "size")? {
        for (i, (n, e)) in shape.iter_mut().zip(&given).enumerate() {
            if !e.is(-1) {
                n.clone_from(e);
            } else if let Some(i) = i.checked_sub(skip) {
                n.clone_from(&from[i]);
            }
        }
    }
    if from == shape {
        return Ok(x);
    }
    im.push(Op::Expand(shape), &[x])
}

/// A slice bound: negative counts from the end, then clamped to the axis.
fn bound(e: Expr, n: &Expr) -> Expr {
    match (e.as_const(), n.as_const()) {
        (Some(v), _) if v == i64::MAX => n.clone(),
        (Some(v), Some(n)) => {
            Expr::constant(if v < 0 { v.saturating_add(n).max(0) } else { v.min(n) })
        }
        (Some(v), None) if v < 0 => n.clone() + Expr::constant(v),
        (Some(0), None) => Expr::constant(0),
        // The exporter guards that symbolic and constant bounds stay inside the axis.
        _ => e,
    }
}

fn slice(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
    let n = im.extent(x, axis)?;
    let start = args.size(im, "start")?.unwrap_or_else(|| Expr::constant(0));
    let end = args.size(im, "end")?.unwrap_or_else(|| n.clone());
    let step = args.int("step", 1)?;
    let (start, mut end) = (bound(start, &n), bound(end, &n));
    let recorded = im.result_shape(args)?;
    // The recorded size decides what a symbolic bound was clamped to.
    if step == 1
        && let Some(size) = recorded.get(axis)
        && *size != end.clone() - start.clone()
    {
        end = start.clone() + size.clone();
    }
    if start.is(0) && end == n && step == 1 {
        return Ok(x);
    }
    im.push(Op::Slice { axis, start, end, step }, &[x])
}

fn narrow(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
    let n = im.extent(x, axis)?;
    let start = args.size(im, "start")?.ok_or("argument `start` is missing")?;
    let length = args.size(im, "length")?.ok_or("argument `length` is missing")?;
    let start = bound(start, &n);
    let end = start.clone() + length;
    im.push(Op::Slice { axis, start, end, step: 1 }, &[x])
}

/// Removes an axis by taking one index of it.
pub(super) fn take(
    im: &mut Importer<'_>,
    x: ValueId,
    axis: usize,
    index: Expr,
) -> Result<ValueId, String> {
    let n = im.extent(x, axis)?;
    let start = match index.as_const() {
        Some(v) if v < 0 => n + Expr::constant(v),
        _ => index,
    };
    let end = start.clone() + Expr::constant(1);
    let one = im.push(Op::Slice { axis, start, end, step: 1 }, &[x])?;
    let mut shape = im.shape(one);
    shape.remove(axis);
    im.reshape(one, shape)
}

fn select(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
    let index = args.size(im, "index")?.ok_or("argument `index` is missing")?;
    take(im, x, axis, index)
}

fn split(im: &mut Importer<'_>, base: &str, args: Args<'_>) -> Lowered {
    let x = args.tensor(im, "self").or_else(|_| args.tensor(im, "tensor"))?;
    let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
    let n = im.extent(x, axis)?;
    let mut ends = Vec::new();
    match base {
        "split_with_sizes" => {
            let sizes =
                args.sizes(im, "split_sizes")?.ok_or("argument `split_sizes` is missing")?;
            let mut end = Expr::constant(0);
            for size in sizes {
                end = end + size;
                ends.push(end.clone());
            }
        }
        "split" if args.ints(im, "split_size").is_ok_and(|s| s.is_some_and(|s| s.len() > 1)) => {
            let mut end = 0;
            for size in args.ints(im, "split_size")?.unwrap_or_default() {
                end = size.saturating_add(end);
                ends.push(Expr::constant(end));
            }
        }
        _ => {
            let total =
                n.as_const().ok_or("splitting a symbolic axis is not supported; use slices")?;
            let size = match base {
                "chunk" => {
                    let chunks = args.int("chunks", 1)?.max(1);
                    total / chunks + i64::from(total % chunks > 0)
                }
                _ => args.int("split_size", total)?,
            };
            if size < 1 {
                return Err(format!("pieces of {size} elements"));
            }
            // Each piece has a name, which bounds the work.
            let named = super::output_names(args.node).len();
            if total / size > named as i64 {
                return Err(format!("pieces of {size} of {total} elements, {named} have names"));
            }
            let mut end = 0;
            while end < total {
                end = size.saturating_add(end).min(total);
                ends.push(Expr::constant(end));
            }
        }
    }
    let mut start = Expr::constant(0);
    let mut pieces = Vec::with_capacity(ends.len());
    for end in ends {
        pieces.push(im.push(Op::Slice { axis, start, end: end.clone(), step: 1 }, &[x])?);
        start = end;
    }
    Ok(pieces)
}

fn unbind(im: &mut Importer<'_>, args: Args<'_>) -> Lowered {
    let x = args.tensor(im, "self")?;
    let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
    let n = im.extent(x, axis)?.as_const().ok_or("unbinding a symbolic axis is not supported")?;
    // Each piece has a name, which bounds the work.
    let named = super::output_names(args.node).len();
    if n > named as i64 {
        return Err(format!("{n} pieces, of which {named} have names"));
    }
    (0..n).map(|i| take(im, x, axis, Expr::constant(i))).collect()
}

/// Concatenates, converting to the type of the result and dropping legacy empty pieces.
fn concat(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let dtype = im.result_dtype(args)?;
    let rank = im.result_shape(args)?.len();
    let axis = im.axis(args.int("dim", 0)?, rank)?;
    let mut pieces = Vec::new();
    for v in args.tensors(im, "tensors")? {
        if rank != 1 && matches!(im.shape(v).as_slice(), [n] if n.is(0)) {
            continue;
        }
        pieces.push(im.cast(v, dtype)?);
    }
    if pieces.len() == 1 {
        return Ok(pieces[0]);
    }
    im.push(Op::Concat { axis }, &pieces)
}

fn stack(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let dtype = im.result_dtype(args)?;
    let rank = im.result_shape(args)?.len();
    let axis = im.axis(args.int("dim", 0)?, rank)?;
    let mut pieces = Vec::new();
    for v in args.tensors(im, "tensors")? {
        let v = im.cast(v, dtype)?;
        let mut shape = im.shape(v);
        if axis > shape.len() {
            return Err(format!("a new axis {axis} in a tensor with {} axes", shape.len()));
        }
        shape.insert(axis, Expr::constant(1));
        pieces.push(im.reshape(v, shape)?);
    }
    if pieces.len() == 1 {
        return Ok(pieces[0]);
    }
    im.push(Op::Concat { axis }, &pieces)
}

fn flip(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let dims = args.ints(im, "dims")?.unwrap_or_default();
    let axes = dims.iter().map(|&d| im.axis(d, im.rank(x))).collect::<Result<Vec<_>, _>>()?;
    if axes.is_empty() {
        return Ok(x);
    }
    im.push(Op::Flip(axes), &[x])
}

fn roll(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let mut x = args.tensor(im, "self")?;
    let shifts = args.ints(im, "shifts")?.unwrap_or_default();
    let dims = args.ints(im, "dims")?.unwrap_or_default();
    if dims.is_empty() {
        return Err("rolling the flattened tensor is not supported; name the dimensions".to_owned());
    }
    for (&shift, &dim) in shifts.iter().zip(&dims) {
        let axis = im.axis(dim, im.rank(x))?;
        let n = im.extent(x, axis)?;
        let at = (-Expr::constant(shift)).modulo(&n);
        let piece = |start, end| Op::Slice { axis, start, end, step: 1 };
        if at.is(0) {
            continue;
        }
        let back = im.push(piece(at.clone(), n), &[x])?;
        let front = im.push(piece(Expr::constant(0), at), &[x])?;
        x = im.push(Op::Concat { axis }, &[back, front])?;
    }
    Ok(x)
}

/// Repeats whole axes: `[n] -> [r, n] -> [r * n]` for each.
fn repeat(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let times = match args.sizes(im, "repeats")? {
        Some(t) => t,
        None => args.sizes(im, "dims")?.ok_or("argument `repeats` is missing")?,
    };
    let shape = im.shape(x);
    let rank = times.len().max(shape.len());
    let pad = |list: &[Expr]| -> Vec<Expr> {
        let mut out = vec![Expr::constant(1); rank - list.len()];
        out.extend_from_slice(list);
        out
    };
    let (times, shape) = (pad(&times), pad(&shape));
    let mut split = Vec::new();
    let mut wide = Vec::new();
    let mut merged = Vec::new();
    for (r, n) in times.iter().zip(&shape) {
        split.extend([Expr::constant(1), n.clone()]);
        wide.extend([r.clone(), n.clone()]);
        merged.push(r.clone() * n.clone());
    }
    let v = im.reshape(x, split)?;
    let v = im.push(Op::Expand(wide), &[v])?;
    im.reshape(v, merged)
}

/// Repeats elements: `[n] -> [n, r] -> [n * r]`.
fn repeat_interleave(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let times = args.size(im, "repeats").map_err(|_| {
        "repeating by a tensor gives a shape that depends on data; pass a number".to_owned()
    })?;
    let times = times.ok_or("argument `repeats` is missing")?;
    let x = match args.find("dim") {
        Some(_) => x,
        None => {
            let n = im.ty(x).numel();
            im.reshape(x, vec![n])?
        }
    };
    let axis = im.axis(args.int("dim", 0)?, im.rank(x))?;
    let mut shape = im.shape(x);
    let mut merged = shape.clone();
    merged[axis] = im.extent(x, axis)? * times.clone();
    shape.insert(axis + 1, Expr::constant(1));
    let v = im.reshape(x, shape.clone())?;
    shape[axis + 1] = times;
    let v = im.push(Op::Expand(shape), &[v])?;
    im.reshape(v, merged)
}

fn pad(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let rank = im.rank(x);
    let list = args.sizes(im, "pad")?.ok_or("argument `pad` is missing")?;
    if list.len() % 2 != 0 || list.len() > 2 * rank {
        return Err(format!("{} paddings for {rank} axes", list.len()));
    }
    let mut pads = vec![(Expr::constant(0), Expr::constant(0)); rank];
    // The list starts with the last axis.
    for (i, pair) in list.chunks_exact(2).enumerate() {
        pads[rank - 1 - i] = (pair[0].clone(), pair[1].clone());
    }
    let value = args.float("value", 0.0)?;
    let mode = match args.string("mode")? {
        None | Some("constant") => PadMode::Constant(value),
        Some("reflect") => PadMode::Reflect,
        Some("replicate") => PadMode::Replicate,
        Some(mode) => return Err(format!("padding mode `{mode}` is not supported")),
    };
    im.push(Op::Pad { pads, mode }, &[x])
}

fn diff(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let mut x = args.tensor(im, "self")?;
    let axis = im.axis(args.int("dim", -1)?, im.rank(x))?;
    let mut pieces = Vec::new();
    pieces.extend(args.optional_tensor(im, "prepend")?);
    pieces.push(x);
    pieces.extend(args.optional_tensor(im, "append")?);
    if pieces.len() > 1 {
        x = im.push(Op::Concat { axis }, &pieces)?;
    }
    let times = args.int("n", 1)?;
    if !(0..=MAX_DIFF).contains(&times) {
        return Err(format!("diff taken {times} times; 0 to {MAX_DIFF} are supported"));
    }
    for _ in 0..times {
        let n = im.extent(x, axis)?;
        let one = Expr::constant(1);
        let piece = |start, end| Op::Slice { axis, start, end, step: 1 };
        let high = im.push(piece(one.clone(), n.clone()), &[x])?;
        let low = im.push(piece(Expr::constant(0), n - one), &[x])?;
        x = if im.dtype(x) == DType::Bool {
            im.binary(zeroforge_graph::op::BinaryOp::Ne, high, low)?
        } else {
            im.binary(zeroforge_graph::op::BinaryOp::Sub, high, low)?
        };
    }
    Ok(x)
}

/// Windows of `size` every `step` along an axis; the window becomes the last axis.
fn unfold(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    use zeroforge_graph::op::BinaryOp;
    let x = args.tensor(im, "self")?;
    let rank = im.rank(x);
    let axis = im.axis(args.int("dimension", 0)?, rank)?;
    let (size, step) = (args.int("size", 1)?, args.int("step", 1)?);
    im.extent(x, axis)?;
    let count = im.result_shape(args)?.get(axis).cloned().ok_or("a scalar has no windows")?;
    let iota = |len, step| Op::Iota { dtype: DType::I64, len, start: Expr::constant(0), step };
    let first = im.push(iota(count.clone(), step), &[])?;
    let first = im.reshape(first, vec![count, Expr::constant(1)])?;
    let offset = im.push(iota(Expr::constant(size), 1), &[])?;
    let index = im.binary(BinaryOp::Add, first, offset)?;
    let windows = im.push(Op::IndexSelect { axis }, &[x, index])?;
    let mut perm: Vec<usize> = (0..=rank).filter(|&a| a != axis + 1).collect();
    perm.push(axis + 1);
    im.push(Op::Permute(perm), &[windows])
}

/// The diagonal of two axes, as the last axis: every `columns + 1`-th element of the two flattened.
fn diagonal(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let rank = im.rank(x);
    if rank < 2 {
        return Err("a diagonal needs two axes".to_owned());
    }
    let row = im.axis(args.int("dim1", 0)?, rank)?;
    let column = im.axis(args.int("dim2", 1)?, rank)?;
    let mut perm: Vec<usize> = (0..rank).filter(|&a| a != row && a != column).collect();
    perm.extend([row, column]);
    let mut shape: Vec<Expr> = perm.iter().map(|&a| im.shape(x)[a].clone()).collect();
    let v = im.push(Op::Permute(perm), &[x])?;
    let (rows, columns) = (shape[rank - 2].clone(), shape[rank - 1].clone());
    shape.truncate(rank - 2);
    shape.push(rows * columns.clone());
    let v = im.reshape(v, shape)?;
    let offset = args.int("offset", 0)?;
    let start = if offset >= 0 {
        Expr::constant(offset)
    } else {
        -Expr::constant(offset) * columns.clone()
    };
    let length = im.result_shape(args)?.pop().ok_or("a diagonal has one axis at least")?;
    let step = columns.as_const().ok_or("a diagonal needs a constant number of columns")?;
    let step = step.saturating_add(1);
    let one = Expr::constant(1);
    let end = start.clone() + (length - one.clone()) * Expr::constant(step) + one;
    im.push(Op::Slice { axis: rank - 2, start, end, step }, &[v])
}

/// One tensor per vector, each broadcast over the axes of the others.
fn meshgrid(im: &mut Importer<'_>, args: Args<'_>) -> Lowered {
    let tensors = args.tensors(im, "tensors")?;
    let shape = im.result_shape(args)?;
    let swapped = args.string("indexing")? == Some("xy");
    let mut grids = Vec::with_capacity(tensors.len());
    for (i, v) in tensors.into_iter().enumerate() {
        let axis = if swapped && i < 2 { 1 - i } else { i };
        let mut column = vec![Expr::constant(1); shape.len()];
        let Some(n) = column.get_mut(axis) else {
            return Err(format!("{} axes for axis {axis} of a grid", shape.len()));
        };
        *n = im.ty(v).numel();
        let v = im.reshape(v, column)?;
        grids.push(im.push(Op::Expand(shape.clone()), &[v])?);
    }
    Ok(grids)
}

fn pixel_shuffle(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let r = Expr::constant(args.int("upscale_factor", 1)?);
    let s = im.shape(x);
    let [b, c, h, w] = s.as_slice() else { return Err("expected four axes".to_owned()) };
    let out = c.floor_div(&(r.clone() * r.clone()));
    let split = vec![b.clone(), out.clone(), r.clone(), r.clone(), h.clone(), w.clone()];
    let v = im.reshape(x, split)?;
    let v = im.push(Op::Permute(vec![0, 1, 4, 2, 5, 3]), &[v])?;
    im.reshape(v, vec![b.clone(), out, h.clone() * r.clone(), w.clone() * r])
}
