//! Contractions, convolutions, attention, norms, softmax, pooling.

use zeroforge_artifact::{DType, Expr};
use zeroforge_graph::op::{BinaryOp, PositionMask, ReduceOp, UnaryOp, UpsampleMode};
use zeroforge_graph::{Op, ValueId};

use super::args::Args;
use super::pointwise::one;
use super::reduce::variance_of;
use super::{Importer, Lowered};

/// Largest stride, padding, dilation or kernel.
const MAX_WINDOW: usize = 1 << 20;

/// Lowers an op of this family; `None` if it is of another.
pub(super) fn lower(
    im: &mut Importer<'_>,
    base: &str,
    op: &str,
    args: Args<'_>,
) -> Option<Lowered> {
    Some(match base {
        "linear" => one(linear(im, args)),
        "mm" | "bmm" | "matmul" | "mv" | "dot" => one(matmul(im, args)),
        "outer" | "ger" => one(outer(im, args)),
        "addmm" | "baddbmm" => one(addmm(im, base, args)),
        "einsum" => one(einsum(im, args)),
        "conv1d" | "conv2d" | "conv3d" | "convolution" => one(convolution(im, base, args)),
        "conv_transpose1d" | "conv_transpose2d" | "conv_transpose3d" => {
            one(conv_transpose(im, args))
        }
        "scaled_dot_product_attention" => one(attention(im, args)),
        "softmax" | "_softmax" | "_safe_softmax" => one(softmax(im, base, args)),
        "log_softmax" | "_log_softmax" => one(softmax(im, base, args)),
        "layer_norm" => one(layer_norm(im, args)),
        "native_layer_norm" => native_layer_norm(im, args),
        "rms_norm" | "_fused_rms_norm" => one(rms_norm(im, args)),
        "group_norm" => one(group_norm(im, args)),
        "native_group_norm" => native_group_norm(im, args),
        "instance_norm" => one(instance_norm(im, args)),
        "batch_norm" | "_native_batch_norm_legit_no_training" | "_native_batch_norm_legit" => {
            batch_norm(im, args)
        }
        "max_pool1d" | "max_pool2d" | "max_pool3d" => one(pool(im, ReduceOp::Max, args)),
        "max_pool2d_with_indices" => one(pool(im, ReduceOp::Max, args)),
        "avg_pool1d" | "avg_pool2d" | "avg_pool3d" => one(pool(im, ReduceOp::Mean, args)),
        "adaptive_avg_pool1d"
        | "adaptive_avg_pool2d"
        | "adaptive_avg_pool3d"
        | "_adaptive_avg_pool2d" => one(adaptive_pool(im, args)),
        "upsample_nearest1d" | "upsample_nearest2d" | "upsample_nearest3d" => {
            one(upsample(im, UpsampleMode::Nearest, args))
        }
        "upsample_bilinear2d" | "upsample_linear1d" | "upsample_trilinear3d" => {
            match args.boolean("align_corners", false) {
                Ok(align_corners) => {
                    one(upsample(im, UpsampleMode::Linear { align_corners }, args))
                }
                Err(e) => Err(e),
            }
        }
        _ => {
            let _ = op;
            return None;
        }
    })
}

fn matmul_of(
    im: &mut Importer<'_>,
    a: ValueId,
    b: ValueId,
    transpose_b: bool,
) -> Result<ValueId, String> {
    im.push(Op::MatMul { transpose_b }, &[a, b])
}

fn linear(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (x, w) = (args.tensor(im, "input")?, args.tensor(im, "weight")?);
    let shape = im.shape(x);
    let vector = shape.len() == 1;
    let x = if vector { im.reshape(x, vec![Expr::constant(1), shape[0].clone()])? } else { x };
    let mut v = matmul_of(im, x, w, true)?;
    if let Some(bias) = args.optional_tensor(im, "bias")? {
        v = im.binary(BinaryOp::Add, v, bias)?;
    }
    if vector {
        let n = im.extent(w, 0)?;
        v = im.reshape(v, vec![n])?;
    }
    Ok(v)
}

fn matmul(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let a = args.tensor(im, "self")?;
    let b = ["other", "mat2", "vec", "tensor"]
        .into_iter()
        .find(|n| args.find(n).is_some())
        .ok_or("the second operand is missing")?;
    let b = args.tensor(im, b)?;
    let (sa, sb) = (im.shape(a), im.shape(b));
    let one = Expr::constant(1);
    let a2 = if sa.len() == 1 { im.reshape(a, vec![one.clone(), sa[0].clone()])? } else { a };
    let b2 = if sb.len() == 1 { im.reshape(b, vec![sb[0].clone(), one])? } else { b };
    let v = matmul_of(im, a2, b2, false)?;
    let mut shape = im.shape(v);
    if sb.len() == 1 {
        shape.pop();
    }
    if sa.len() == 1 {
        // The row axis: last but one, or last once the column is gone.
        shape.remove(shape.len() - 1 - usize::from(sb.len() != 1));
    }
    im.reshape(v, shape)
}

/// `[n]` and `[m]` to `[n, m]`.
fn outer(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let dtype = im.result_dtype(args)?;
    let (a, b) = (args.tensor(im, "self")?, args.tensor(im, "vec2")?);
    let (a, b) = (im.cast(a, dtype)?, im.cast(b, dtype)?);
    let n = im.ty(a).numel();
    let column = im.reshape(a, vec![n, Expr::constant(1)])?;
    im.binary(BinaryOp::Mul, column, b)
}

fn addmm(im: &mut Importer<'_>, base: &str, args: Args<'_>) -> Result<ValueId, String> {
    let names = if base == "addmm" { ("mat1", "mat2") } else { ("batch1", "batch2") };
    let (bias, a, b) =
        (args.tensor(im, "self")?, args.tensor(im, names.0)?, args.tensor(im, names.1)?);
    let mut v = matmul_of(im, a, b, false)?;
    let (alpha, beta) = (args.float("alpha", 1.0)?, args.float("beta", 1.0)?);
    if alpha != 1.0 {
        let alpha = im.float(alpha, im.dtype(v))?;
        v = im.binary(BinaryOp::Mul, v, alpha)?;
    }
    if beta == 0.0 {
        return Ok(v);
    }
    let mut bias = bias;
    if beta != 1.0 {
        let beta = im.float(beta, im.dtype(bias))?;
        bias = im.binary(BinaryOp::Mul, bias, beta)?;
    }
    im.binary(BinaryOp::Add, v, bias)
}

/// Two-operand einsum as a batched matrix product.
fn einsum(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let equation: String =
        args.string("equation")?.unwrap_or_default().chars().filter(|c| *c != ' ').collect();
    let tensors = args.tensors(im, "tensors")?;
    let refuse = || {
        format!("einsum `{equation}` is not supported; write it with matmul, permute and reshape")
    };
    let (left, output) = equation.split_once("->").ok_or_else(refuse)?;
    let inputs: Vec<&str> = left.split(',').collect();
    let distinct = |s: &str| {
        s.chars().enumerate().all(|(i, c)| c.is_ascii_alphabetic() && !s[..i].contains(c))
    };
    if inputs.len() != tensors.len() || !inputs.iter().all(|s| distinct(s)) || !distinct(output) {
        return Err(refuse());
    }
    let permute =
        |im: &mut Importer<'_>, v: ValueId, from: &str, to: &str| -> Result<ValueId, String> {
            if from == to {
                return Ok(v);
            }
            let perm = to.chars().map(|c| from.find(c)).collect::<Option<Vec<_>>>();
            im.push(Op::Permute(perm.ok_or_else(refuse)?), &[v])
        };
    // Sums out letters that neither the other operand nor the output has.
    let reduce = |im: &mut Importer<'_>,
                  v: ValueId,
                  s: &str,
                  keep: &str|
     -> Result<(ValueId, String), String> {
        let axes: Vec<usize> =
            s.chars().enumerate().filter(|(_, c)| !keep.contains(*c)).map(|(i, _)| i).collect();
        let rest: String = s.chars().filter(|c| keep.contains(*c)).collect();
        if axes.is_empty() {
            return Ok((v, rest));
        }
        let op = Op::Reduce { op: ReduceOp::Sum, axes, keep_dims: false };
        Ok((im.push(op, &[v])?, rest))
    };
    if inputs.iter().zip(&tensors).any(|(s, &x)| s.len() != im.rank(x)) {
        return Err(refuse());
    }
    match (&inputs[..], &tensors[..]) {
        ([s], [x]) => {
            let (v, rest) = reduce(im, *x, s, output)?;
            permute(im, v, &rest, output)
        }
        ([sa, sb], [a, b]) => {
            let (a, sa) = reduce(im, *a, sa, &format!("{sb}{output}"))?;
            let (b, sb) = reduce(im, *b, sb, &format!("{sa}{output}"))?;
            let pick = |s: &str, f: &dyn Fn(char) -> bool| -> String {
                s.chars().filter(|&c| f(c)).collect()
            };
            let batch = pick(&sa, &|c| sb.contains(c) && output.contains(c));
            let contracted = pick(&sa, &|c| sb.contains(c) && !output.contains(c));
            let rows = pick(&sa, &|c| !sb.contains(c));
            let columns = pick(&sb, &|c| !sa.contains(c));
            let size = |im: &Importer<'_>, c: char| {
                let (v, s) = if sa.contains(c) { (a, &sa) } else { (b, &sb) };
                s.find(c).map(|i| im.shape(v)[i].clone()).unwrap_or_else(|| Expr::constant(1))
            };
            let sizes =
                |im: &Importer<'_>, s: &str| s.chars().map(|c| size(im, c)).collect::<Vec<_>>();
            let product = |list: &[Expr]| Expr::product(list);
            let (bs, ms, ns, ks) =
                (sizes(im, &batch), sizes(im, &rows), sizes(im, &columns), sizes(im, &contracted));
            let pa = permute(im, a, &sa, &format!("{batch}{rows}{contracted}"))?;
            let pb = permute(im, b, &sb, &format!("{batch}{contracted}{columns}"))?;
            let with = |tail: [Expr; 2]| bs.iter().cloned().chain(tail).collect::<Vec<_>>();
            let pa = im.reshape(pa, with([product(&ms), product(&ks)]))?;
            let pb = im.reshape(pb, with([product(&ks), product(&ns)]))?;
            let v = matmul_of(im, pa, pb, false)?;
            let full = bs.iter().chain(&ms).chain(&ns).cloned().collect();
            let v = im.reshape(v, full)?;
            permute(im, v, &format!("{batch}{rows}{columns}"), output)
        }
        _ => Err(refuse()),
    }
}

/// One entry per spatial axis from a list that may hold a single value for all.
fn spatial(
    im: &Importer<'_>,
    args: Args<'_>,
    name: &str,
    n: usize,
    default: i64,
) -> Result<Vec<usize>, String> {
    let list = args.ints(im, name)?.unwrap_or_default();
    let list = match list.len() {
        0 => vec![default; n],
        1 => vec![list[0]; n],
        len if len == n => list,
        len => return Err(format!("argument `{name}` has {len} entries for {n} axes")),
    };
    list.into_iter()
        .map(|v| {
            let v = usize::try_from(v).ok().filter(|v| *v <= MAX_WINDOW).ok_or(v);
            v.map_err(|v| format!("argument `{name}` holds {v}; 0 to {MAX_WINDOW} are supported"))
        })
        .collect()
}

/// A kernel's size along a spatial axis.
fn kernel_size(im: &Importer<'_>, w: ValueId, axis: usize) -> Result<usize, String> {
    let n = im.extent(w, 2 + axis)?;
    let size = n.as_const().and_then(|n| usize::try_from(n).ok());
    size.filter(|n| *n <= MAX_WINDOW)
        .ok_or_else(|| format!("a kernel of size {n}; it must be static and at most {MAX_WINDOW}"))
}

fn convolution(im: &mut Importer<'_>, base: &str, args: Args<'_>) -> Result<ValueId, String> {
    let (x, w) = (args.tensor(im, "input")?, args.tensor(im, "weight")?);
    let bias = args.optional_tensor(im, "bias")?;
    let n = im.rank(w).saturating_sub(2);
    let stride = spatial(im, args, "stride", n, 1)?;
    let dilation = spatial(im, args, "dilation", n, 1)?;
    let groups = usize::try_from(args.int("groups", 1)?).map_err(|_| "negative groups")?;
    if base == "convolution" && args.boolean("transposed", false)? {
        return conv_transpose(im, args);
    }
    let padding = match args.string("padding") {
        Ok(Some("valid")) => vec![(0, 0); n],
        Ok(Some("same")) => {
            let mut pads = Vec::new();
            for (i, d) in dilation.iter().enumerate() {
                let total = d * kernel_size(im, w, i)?.saturating_sub(1);
                pads.push((total / 2, total - total / 2));
            }
            pads
        }
        Ok(Some(other)) => return Err(format!("padding `{other}` is unknown")),
        _ => spatial(im, args, "padding", n, 0)?.into_iter().map(|p| (p, p)).collect(),
    };
    let mut inputs = vec![x, w];
    inputs.extend(bias);
    let unbatched = im.rank(x) == n + 1;
    if unbatched {
        let mut shape = im.shape(x);
        shape.insert(0, Expr::constant(1));
        inputs[0] = im.reshape(x, shape)?;
    }
    let op = Op::Conv { stride, padding, dilation, groups, bias: bias.is_some() };
    let v = im.push(op, &inputs)?;
    if unbatched {
        let shape = im.shape(v)[1..].to_vec();
        return im.reshape(v, shape);
    }
    Ok(v)
}

fn conv_transpose(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (x, w) = (args.tensor(im, "input")?, args.tensor(im, "weight")?);
    let bias = args.optional_tensor(im, "bias")?;
    let n = im.rank(w).saturating_sub(2);
    (0..n).try_for_each(|axis| kernel_size(im, w, axis).map(drop))?;
    let op = Op::ConvTranspose {
        stride: spatial(im, args, "stride", n, 1)?,
        padding: spatial(im, args, "padding", n, 0)?,
        output_padding: spatial(im, args, "output_padding", n, 0)?,
        dilation: spatial(im, args, "dilation", n, 1)?,
        groups: usize::try_from(args.int("groups", 1)?).map_err(|_| "negative groups")?,
        bias: bias.is_some(),
    };
    let mut inputs = vec![x, w];
    inputs.extend(bias);
    im.push(op, &inputs)
}

fn attention(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (mut q, mut k, mut v) =
        (args.tensor(im, "query")?, args.tensor(im, "key")?, args.tensor(im, "value")?);
    if args.float("dropout_p", 0.0)? != 0.0 {
        return Err("attention dropout is not supported; export in eval mode".to_owned());
    }
    let shape = im.shape(q);
    let rank = shape.len();
    let mut mask = args.optional_tensor(im, "attn_mask")?;
    // The op has exactly [batch, heads, length, width].
    let lead = match rank {
        0..=1 => return Err("attention needs at least two axes".to_owned()),
        2 => vec![Expr::constant(1); 2],
        3 => vec![Expr::constant(1)],
        _ => Vec::new(),
    };
    let four = |im: &mut Importer<'_>, x: ValueId| -> Result<ValueId, String> {
        let s = im.shape(x);
        let r = s.len();
        if r > 4 {
            let batch = Expr::product(&s[..r - 3]);
            let mut shape = vec![batch];
            shape.extend_from_slice(&s[r - 3..]);
            return im.reshape(x, shape);
        }
        if r < 2 {
            return Err("attention needs at least two axes".to_owned());
        }
        // A missing head axis goes behind the batch: [B, S, D] is [B, 1, S, D].
        let mut shape = s.clone();
        match r {
            3 => shape.insert(1, Expr::constant(1)),
            2 => {
                shape.insert(0, Expr::constant(1));
                shape.insert(0, Expr::constant(1));
            }
            _ => {}
        }
        im.reshape(x, shape)
    };
    let _ = lead;
    q = four(im, q)?;
    k = four(im, k)?;
    v = four(im, v)?;
    if let Some(m) = mask
        && rank != 4
        && im.rank(m) >= 3
    {
        mask = Some(four(im, m)?);
    }
    // Batch axes that broadcast.
    let batch = im.shape(q)[0].clone();
    for x in [&mut k, &mut v] {
        let mut shape = im.shape(*x);
        if shape[0] != batch {
            shape[0] = batch.clone();
            *x = im.push(Op::Expand(shape), &[*x])?;
        }
    }
    let dtype = im.dtype(q);
    if let Some(m) = mask
        && im.dtype(m) != DType::Bool
    {
        mask = Some(im.cast(m, dtype)?);
    }
    let scale = match args.find("scale") {
        Some(_) => args.float("scale", 1.0)?,
        None => {
            let d = im.shape(q)[3].as_const().ok_or("the head dimension is symbolic")?;
            1.0 / (d as f64).sqrt()
        }
    };
    let position = args.boolean("is_causal", false)?.then(|| PositionMask {
        causal: true,
        window: None,
        // torch aligns is_causal at the top left.
        offset: Expr::constant(0),
    });
    let mut inputs = vec![q, k, v];
    inputs.extend(mask);
    let out = im.push(Op::Attention { scale, mask: mask.is_some(), position }, &inputs)?;
    if rank == 4 {
        return Ok(out);
    }
    let mut result = shape[..rank - 1].to_vec();
    result.push(im.shape(v)[3].clone());
    im.reshape(out, result)
}

fn softmax(im: &mut Importer<'_>, base: &str, args: Args<'_>) -> Result<ValueId, String> {
    let dtype = im.result_dtype(args)?;
    let x = args.tensor(im, "self")?;
    let x = im.cast(x, dtype)?;
    let axis = im.axis(args.int("dim", -1)?, im.rank(x))?;
    if im.rank(x) == 0 {
        let one = if base.contains("log") { 0.0 } else { 1.0 };
        return im.float(one, dtype);
    }
    let v = im.push(
        if base.contains("log") { Op::LogSoftmax { axis } } else { Op::Softmax { axis } },
        &[x],
    )?;
    if base != "_safe_softmax" {
        return Ok(v);
    }
    // Rows of only -inf give zeros.
    let nan = im.unary(UnaryOp::IsNan, v)?;
    let zero = im.float(0.0, dtype)?;
    im.push(Op::Where, &[nan, zero, v])
}

fn norm_operands(
    im: &Importer<'_>,
    args: Args<'_>,
    x: ValueId,
) -> Result<(Vec<ValueId>, bool, bool), String> {
    let (weight, bias) = (args.optional_tensor(im, "weight")?, args.optional_tensor(im, "bias")?);
    let mut inputs = vec![x];
    inputs.extend(weight);
    inputs.extend(bias);
    Ok((inputs, weight.is_some(), bias.is_some()))
}

fn layer_norm(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "input")?;
    let axes =
        args.sizes(im, "normalized_shape")?.ok_or("argument `normalized_shape` is missing")?;
    let (inputs, weight, bias) = norm_operands(im, args, x)?;
    let op = Op::LayerNorm { axes: axes.len(), eps: args.float("eps", 1e-5)?, weight, bias };
    im.push(op, &inputs)
}

/// The result with the mean and the reciprocal deviation of each row.
fn native_layer_norm(im: &mut Importer<'_>, args: Args<'_>) -> Lowered {
    let out = layer_norm(im, args)?;
    if args.node.outputs.len() < 2 {
        return Ok(vec![out]);
    }
    let x = args.tensor(im, "input")?;
    let rank = im.rank(x);
    let axes = args.sizes(im, "normalized_shape")?.map_or(0, |s| s.len());
    let axes: Vec<usize> = (rank - axes..rank).collect();
    let mean =
        im.push(Op::Reduce { op: ReduceOp::Mean, axes: axes.clone(), keep_dims: true }, &[x])?;
    let variance = variance_of(im, x, &axes, 0, true)?;
    let eps = im.float(args.float("eps", 1e-5)?, im.dtype(x))?;
    let shifted = im.binary(BinaryOp::Add, variance, eps)?;
    let scale = im.unary(UnaryOp::Rsqrt, shifted)?;
    Ok(vec![out, mean, scale])
}

fn rms_norm(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "input")?;
    let axes =
        args.sizes(im, "normalized_shape")?.ok_or("argument `normalized_shape` is missing")?;
    let weight = args.optional_tensor(im, "weight")?;
    // torch's default is the machine epsilon of the computation type.
    let default = match im.dtype(x) {
        DType::F64 => f64::EPSILON,
        DType::F32 => f64::from(f32::EPSILON),
        DType::F16 => 9.765625e-4,
        _ => 7.8125e-3,
    };
    let eps = match args.find("eps") {
        Some(_) => args.float("eps", default)?,
        None => default,
    };
    let mut inputs = vec![x];
    inputs.extend(weight);
    im.push(Op::RmsNorm { axes: axes.len(), eps, weight: weight.is_some() }, &inputs)
}

fn group_norm(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "input")?;
    let groups =
        args.int(if args.find("num_groups").is_some() { "num_groups" } else { "group" }, 1)?;
    let (inputs, weight, bias) = norm_operands(im, args, x)?;
    let groups = usize::try_from(groups).map_err(|_| "negative groups")?;
    let op = Op::GroupNorm { groups, eps: args.float("eps", 1e-5)?, weight, bias };
    im.push(op, &inputs)
}

fn native_group_norm(im: &mut Importer<'_>, args: Args<'_>) -> Lowered {
    if args.node.outputs.iter().skip(1).any(|o| format!("{o:?}").contains("unused")) {
        tracing::trace!("statistics of a group norm are unused");
    }
    let out = group_norm(im, args)?;
    let x = args.tensor(im, "input")?;
    let groups = args.int("group", 1)?;
    let shape = im.shape(x);
    let g = Expr::constant(groups);
    let rest = Expr::product(&shape[1..]).floor_div(&g);
    let flat = im.reshape(x, vec![shape[0].clone(), g, rest])?;
    let mean =
        im.push(Op::Reduce { op: ReduceOp::Mean, axes: vec![2], keep_dims: false }, &[flat])?;
    let variance = variance_of(im, flat, &[2], 0, false)?;
    let eps = im.float(args.float("eps", 1e-5)?, im.dtype(x))?;
    let shifted = im.binary(BinaryOp::Add, variance, eps)?;
    let scale = im.unary(UnaryOp::Rsqrt, shifted)?;
    Ok(vec![out, mean, scale])
}

fn instance_norm(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "input")?;
    let channels = im.shape(x).get(1).and_then(Expr::as_const).ok_or("channels must be static")?;
    let (inputs, weight, bias) = norm_operands(im, args, x)?;
    let op = Op::GroupNorm {
        groups: usize::try_from(channels).map_err(|_| "negative channels")?,
        eps: args.float("eps", 1e-5)?,
        weight,
        bias,
    };
    im.push(op, &inputs)
}

/// `(x - mean) * rsqrt(var + eps) * weight + bias` with running statistics.
fn batch_norm(im: &mut Importer<'_>, args: Args<'_>) -> Lowered {
    if args.boolean("training", false)? {
        return Err("batch norm in training mode is not supported; export in eval mode".to_owned());
    }
    let x = args.tensor(im, "input")?;
    let (mean, variance) = (args.tensor(im, "running_mean")?, args.tensor(im, "running_var")?);
    let (weight, bias) = (args.optional_tensor(im, "weight")?, args.optional_tensor(im, "bias")?);
    let rank = im.rank(x);
    let dtype = im.dtype(x);
    let column = |im: &mut Importer<'_>, v: ValueId| -> Result<ValueId, String> {
        let v = im.cast(v, dtype)?;
        let mut shape = vec![im.extent(v, 0)?];
        shape.resize(rank.saturating_sub(1), Expr::constant(1));
        im.reshape(v, shape)
    };
    let eps = im.float(args.float("eps", 1e-5)?, im.dtype(variance))?;
    let shifted = im.binary(BinaryOp::Add, variance, eps)?;
    let mut scale = im.unary(UnaryOp::Rsqrt, shifted)?;
    if let Some(weight) = weight {
        scale = im.binary(BinaryOp::Mul, scale, weight)?;
    }
    let mean = column(im, mean)?;
    let scale = column(im, scale)?;
    let centred = im.binary(BinaryOp::Sub, x, mean)?;
    let mut v = im.binary(BinaryOp::Mul, centred, scale)?;
    if let Some(bias) = bias {
        let bias = column(im, bias)?;
        v = im.binary(BinaryOp::Add, v, bias)?;
    }
    // The saved statistics are empty outside training.
    let empty = im.full(super::Scalar::Int(0), DType::F32, vec![Expr::constant(0)])?;
    Ok(vec![v, empty, empty])
}

fn pool(im: &mut Importer<'_>, op: ReduceOp, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let kernel = args.ints(im, "kernel_size")?.ok_or("argument `kernel_size` is missing")?;
    let n = match im.rank(x) {
        r if r > kernel.len() && kernel.len() > 1 => kernel.len(),
        r => r.saturating_sub(2),
    };
    if im.rank(x) != n + 2 {
        return Err("pooling needs a batch axis".to_owned());
    }
    if args.boolean("ceil_mode", false)? {
        return Err("pooling with ceil_mode is not supported".to_owned());
    }
    if args.find("divisor_override").is_some() {
        return Err("pooling with divisor_override is not supported".to_owned());
    }
    let kernel = spatial(im, args, "kernel_size", n, 1)?;
    let stride = match args.ints(im, "stride")? {
        Some(list) if !list.is_empty() => spatial(im, args, "stride", n, 1)?,
        _ => kernel.clone(),
    };
    let padding = spatial(im, args, "padding", n, 0)?.into_iter().map(|p| (p, p)).collect();
    let dilation = spatial(im, args, "dilation", n, 1)?;
    let count_include_pad = args.boolean("count_include_pad", true)?;
    im.push(Op::Pool { op, kernel, stride, padding, dilation, count_include_pad }, &[x])
}

fn adaptive_pool(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let shape = im.result_shape(args)?;
    if shape.len() < 3 {
        return Err("pooling needs a batch axis".to_owned());
    }
    im.push(Op::AdaptiveAvgPool { out: shape[2..].to_vec() }, &[x])
}

fn upsample(im: &mut Importer<'_>, mode: UpsampleMode, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "input").or_else(|_| args.tensor(im, "self"))?;
    let shape = im.result_shape(args)?;
    if shape.len() < 3 {
        return Err("resampling needs a batch axis".to_owned());
    }
    im.push(Op::Upsample { out: shape[2..].to_vec(), mode }, &[x])
}
