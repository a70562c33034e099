//! Elementwise operations.

use zeroforge_artifact::DType;
use zeroforge_graph::op::{BinaryOp, UnaryOp};
use zeroforge_graph::{Op, ValueId};

use super::args::{Args, Scalar};
use super::dtype::{result_type, with_scalar};
use super::{Importer, Lowered};

/// Lowers an op of this family; `None` if it is of another.
pub(super) fn lower(
    im: &mut Importer<'_>,
    base: &str,
    op: &str,
    args: Args<'_>,
) -> Option<Lowered> {
    Some(one(match base.strip_suffix('_').filter(|b| !b.ends_with('_')).unwrap_or(base) {
        "add" | "sub" | "rsub" => add(im, base, args),
        "mul" | "multiply" => arithmetic(im, BinaryOp::Mul, args),
        "div" | "true_divide" => div(im, args),
        "floor_divide" => arithmetic(im, BinaryOp::FloorDiv, args),
        "remainder" => arithmetic(im, BinaryOp::Rem, args),
        "fmod" => arithmetic(im, BinaryOp::Fmod, args),
        "pow" => pow(im, op, args),
        "maximum" => arithmetic(im, BinaryOp::Max, args),
        "minimum" => arithmetic(im, BinaryOp::Min, args),
        "max" | "min" if op.ends_with(".other") => {
            arithmetic(im, if base == "max" { BinaryOp::Max } else { BinaryOp::Min }, args)
        }
        "atan2" => arithmetic(im, BinaryOp::Atan2, args),
        "bitwise_and" | "__and__" | "logical_and" => logic(im, base, BinaryOp::And, args),
        "bitwise_or" | "__or__" | "logical_or" => logic(im, base, BinaryOp::Or, args),
        "bitwise_xor" | "__xor__" | "logical_xor" => logic(im, base, BinaryOp::Xor, args),
        "__lshift__" | "bitwise_left_shift" => arithmetic(im, BinaryOp::Shl, args),
        "__rshift__" | "bitwise_right_shift" => arithmetic(im, BinaryOp::Shr, args),
        "eq" => compare(im, BinaryOp::Eq, args),
        "ne" => compare(im, BinaryOp::Ne, args),
        "lt" => compare(im, BinaryOp::Lt, args),
        "le" => compare(im, BinaryOp::Le, args),
        "gt" => compare(im, BinaryOp::Gt, args),
        "ge" => compare(im, BinaryOp::Ge, args),
        "where" => select(im, args),
        "masked_fill" => masked_fill(im, args),
        "clamp" | "clip" | "clamp_min" | "clamp_max" | "hardtanh" | "relu6" => {
            clamp(im, base, args)
        }
        "_to_copy" | "to" | "type_as" | "float" | "half" | "bfloat16" => convert(im, args),
        "logical_not" => logical_not(im, args),
        "bitwise_not" => bitwise_not(im, args),
        "isnan" => float_test(im, UnaryOp::IsNan, args),
        "isinf" => float_test(im, UnaryOp::IsInf, args),
        "square" => square(im, args),
        "leaky_relu" => leaky_relu(im, args),
        "elu" => elu(im, args),
        "softplus" => softplus(im, args),
        "mish" => mish(im, args),
        "hardswish" | "hardsigmoid" => hard(im, base, args),
        "log2" | "log10" | "exp2" => scaled(im, base, args),
        "gelu" => gelu(im, args),
        "glu" => glu(im, args),
        "neg" | "abs" | "sign" | "relu" | "floor" | "ceil" | "round" | "trunc" => {
            plain(im, base.trim_end_matches('_'), args)
        }
        "exp" | "expm1" | "log" | "log1p" | "sqrt" | "rsqrt" | "reciprocal" | "sin" | "cos"
        | "tanh" | "erf" | "sigmoid" | "silu" => plain(im, base.trim_end_matches('_'), args),
        "clone" | "alias" | "contiguous" | "detach" | "lift_fresh_copy" | "lift_fresh"
        | "dropout" | "alpha_dropout" | "feature_dropout" | "native_dropout" | "positive" => {
            args.tensor(im, "self").or_else(|_| args.tensor(im, "input"))
        }
        "copy" => copy(im, args),
        "_assert_tensor_metadata"
        | "_assert_async"
        | "_assert_scalar"
        | "sym_constrain_range"
        | "sym_constrain_range_for_size" => return Some(Ok(Vec::new())),
        _ => return None,
    }))
}

pub(super) fn one(result: Result<ValueId, String>) -> Lowered {
    result.map(|v| vec![v])
}

/// The second operand: a tensor or a number.
enum Other {
    Tensor(ValueId),
    Number(Scalar),
}

fn other(im: &Importer<'_>, args: Args<'_>, name: &str) -> Result<Other, String> {
    match args.optional_tensor(im, name) {
        Ok(Some(v)) => Ok(Other::Tensor(v)),
        Ok(None) => Err(format!("argument `{name}` is missing")),
        Err(_) => match args.scalar(name) {
            Ok(Some(v)) => Ok(Other::Number(v)),
            Ok(None) => Err(format!("argument `{name}` is missing")),
            Err(e) => Err(e),
        },
    }
}

/// The second operand as a tensor of a dtype; symbolic sizes count as numbers.
fn operand(
    im: &mut Importer<'_>,
    args: Args<'_>,
    name: &str,
    dtype: DType,
) -> Result<ValueId, String> {
    match other(im, args, name) {
        Ok(Other::Tensor(v)) => im.cast(v, dtype),
        Ok(Other::Number(s)) => im.scalar(s, dtype),
        Err(e) => match args.size(im, name) {
            Ok(Some(value)) => {
                let v = im.push(Op::FullInt { dtype: DType::I64, shape: vec![], value }, &[])?;
                im.cast(v, dtype)
            }
            _ => Err(e),
        },
    }
}

fn arithmetic(im: &mut Importer<'_>, op: BinaryOp, args: Args<'_>) -> Result<ValueId, String> {
    let dtype = im.result_dtype(args)?;
    let a = operand(im, args, "self", dtype)?;
    let b = operand(im, args, "other", dtype)?;
    im.binary(op, a, b)
}

fn add(im: &mut Importer<'_>, base: &str, args: Args<'_>) -> Result<ValueId, String> {
    let dtype = im.result_dtype(args)?;
    let mut a = operand(im, args, "self", dtype)?;
    let mut b = operand(im, args, "other", dtype)?;
    let base = base.trim_end_matches('_');
    if base == "rsub" {
        std::mem::swap(&mut a, &mut b);
    }
    if let Some(alpha) = args.scalar("alpha")?
        && alpha.as_f64() != 1.0
    {
        let alpha = im.scalar(alpha, dtype)?;
        let scaled = if base == "rsub" { &mut a } else { &mut b };
        *scaled = im.binary(BinaryOp::Mul, *scaled, alpha)?;
    }
    if dtype == DType::Bool {
        return im.binary(BinaryOp::Or, a, b);
    }
    im.binary(if base == "add" { BinaryOp::Add } else { BinaryOp::Sub }, a, b)
}

fn div(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let op = match args.string("rounding_mode")? {
        None => BinaryOp::Div,
        Some("floor") => BinaryOp::FloorDiv,
        Some("trunc") => BinaryOp::TruncDiv,
        Some(mode) => return Err(format!("rounding mode `{mode}` is unknown")),
    };
    arithmetic(im, op, args)
}

fn pow(im: &mut Importer<'_>, op: &str, args: Args<'_>) -> Result<ValueId, String> {
    let dtype = im.result_dtype(args)?;
    let base = operand(im, args, "self", dtype)?;
    if op.ends_with("Tensor_Scalar")
        && let Some(exponent) = args.scalar("exponent")?
    {
        let e = exponent.as_f64();
        if e == 2.0 {
            return im.binary(BinaryOp::Mul, base, base);
        }
        if e == 1.0 {
            return Ok(base);
        }
        if dtype.is_float() {
            if e == 0.5 {
                return im.unary(UnaryOp::Sqrt, base);
            }
            if e == -0.5 {
                return im.unary(UnaryOp::Rsqrt, base);
            }
            if e == -1.0 {
                return im.unary(UnaryOp::Recip, base);
            }
        }
        if e == 3.0 {
            let square = im.binary(BinaryOp::Mul, base, base)?;
            return im.binary(BinaryOp::Mul, square, base);
        }
    }
    let exponent = operand(im, args, "exponent", dtype)?;
    im.binary(BinaryOp::Pow, base, exponent)
}

fn logic(
    im: &mut Importer<'_>,
    base: &str,
    op: BinaryOp,
    args: Args<'_>,
) -> Result<ValueId, String> {
    let dtype = if base.starts_with("logical") { DType::Bool } else { im.result_dtype(args)? };
    let a = operand(im, args, "self", dtype)?;
    let b = operand(im, args, "other", dtype)?;
    im.binary(op, a, b)
}

fn compare(im: &mut Importer<'_>, op: BinaryOp, args: Args<'_>) -> Result<ValueId, String> {
    let a = args.tensor(im, "self")?;
    let (dtype, rank) = (im.dtype(a), im.rank(a));
    let common = match other(im, args, "other") {
        Ok(Other::Tensor(b)) => result_type((dtype, rank), (im.dtype(b), im.rank(b))),
        Ok(Other::Number(s)) => with_scalar(dtype, s),
        Err(_) => with_scalar(dtype, Scalar::Int(0)),
    };
    let a = im.cast(a, common)?;
    let b = operand(im, args, "other", common)?;
    im.binary(op, a, b)
}

fn select(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let dtype = im.result_dtype(args)?;
    let condition = args.tensor(im, "condition")?;
    let condition = im.cast(condition, DType::Bool)?;
    let a = operand(im, args, "self", dtype)?;
    let b = operand(im, args, "other", dtype)?;
    im.push(Op::Where, &[condition, a, b])
}

fn masked_fill(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let mask = args.tensor(im, "mask")?;
    let value = operand(im, args, "value", im.dtype(x))?;
    im.push(Op::Where, &[mask, value, x])
}

fn clamp(im: &mut Importer<'_>, base: &str, args: Args<'_>) -> Result<ValueId, String> {
    let dtype = im.result_dtype(args)?;
    let x = args.tensor(im, "self")?;
    let mut x = im.cast(x, dtype)?;
    let base = base.trim_end_matches('_');
    let (low, high) = match base {
        "hardtanh" => ("min_val", "max_val"),
        _ => ("min", "max"),
    };
    let defaults = match base {
        "hardtanh" => (Some(-1.0), Some(1.0)),
        "relu6" => (Some(0.0), Some(6.0)),
        _ => (None, None),
    };
    for (name, op, default) in [(low, BinaryOp::Max, defaults.0), (high, BinaryOp::Min, defaults.1)]
    {
        let bound = if args.find(name).is_some() {
            Some(operand(im, args, name, dtype)?)
        } else {
            default.map(|v| im.float(v, dtype)).transpose()?
        };
        if let Some(bound) = bound {
            x = im.binary(op, x, bound)?;
        }
    }
    Ok(x)
}

fn convert(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let dtype = im.result_dtype(args)?;
    im.cast(x, dtype)
}

fn logical_not(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let x = im.cast(x, DType::Bool)?;
    im.unary(UnaryOp::LogicalNot, x)
}

fn bitwise_not(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let op = if im.dtype(x) == DType::Bool { UnaryOp::LogicalNot } else { UnaryOp::BitNot };
    im.unary(op, x)
}

fn float_test(im: &mut Importer<'_>, op: UnaryOp, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    if im.dtype(x).is_float() {
        return im.unary(op, x);
    }
    let shape = im.shape(x);
    im.full(Scalar::Bool(false), DType::Bool, shape)
}

fn unary_op(name: &str) -> Option<UnaryOp> {
    Some(match name {
        "neg" => UnaryOp::Neg,
        "abs" => UnaryOp::Abs,
        "sign" => UnaryOp::Sign,
        "relu" => UnaryOp::Relu,
        "floor" => UnaryOp::Floor,
        "ceil" => UnaryOp::Ceil,
        "round" => UnaryOp::Round,
        "trunc" => UnaryOp::Trunc,
        "exp" => UnaryOp::Exp,
        "expm1" => UnaryOp::Expm1,
        "log" => UnaryOp::Log,
        "log1p" => UnaryOp::Log1p,
        "sqrt" => UnaryOp::Sqrt,
        "rsqrt" => UnaryOp::Rsqrt,
        "reciprocal" => UnaryOp::Recip,
        "sin" => UnaryOp::Sin,
        "cos" => UnaryOp::Cos,
        "tanh" => UnaryOp::Tanh,
        "erf" => UnaryOp::Erf,
        "sigmoid" => UnaryOp::Sigmoid,
        "silu" => UnaryOp::Silu,
        _ => return None,
    })
}

/// The operand, cast to the (float) type of the result.
fn input(im: &mut Importer<'_>, args: Args<'_>) -> Result<(ValueId, DType), String> {
    let dtype = im.result_dtype(args)?;
    let x = args.tensor(im, "self")?;
    Ok((im.cast(x, dtype)?, dtype))
}

fn plain(im: &mut Importer<'_>, name: &str, args: Args<'_>) -> Result<ValueId, String> {
    let op = unary_op(name).ok_or("unknown function")?;
    let (x, dtype) = input(im, args)?;
    let rounds = matches!(op, UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc);
    if rounds && !dtype.is_float() {
        return Ok(x);
    }
    if name == "round" && args.int("decimals", 0)? != 0 {
        return Err("rounding to decimals is not supported".to_owned());
    }
    im.unary(op, x)
}

fn square(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (x, _) = input(im, args)?;
    im.binary(BinaryOp::Mul, x, x)
}

fn gelu(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (x, _) = input(im, args)?;
    let op = match args.string("approximate")? {
        None | Some("none") => UnaryOp::Gelu,
        Some("tanh") => UnaryOp::GeluTanh,
        Some(other) => return Err(format!("approximation `{other}` is unknown")),
    };
    im.unary(op, x)
}

fn glu(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let x = args.tensor(im, "self")?;
    let axis = im.axis(args.int("dim", -1)?, im.rank(x))?;
    let n = im.extent(x, axis)?;
    let half = n.floor_div(&2.into());
    let slice = |start, end| Op::Slice { axis, start, end, step: 1 };
    let a = im.push(slice(0.into(), half.clone()), &[x])?;
    let b = im.push(slice(half, n), &[x])?;
    let gate = im.unary(UnaryOp::Sigmoid, b)?;
    im.binary(BinaryOp::Mul, a, gate)
}

fn positive(im: &mut Importer<'_>, x: ValueId) -> Result<ValueId, String> {
    let zero = im.float(0.0, im.dtype(x))?;
    im.binary(BinaryOp::Gt, x, zero)
}

fn leaky_relu(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (x, dtype) = input(im, args)?;
    let slope = im.float(args.float("negative_slope", 0.01)?, dtype)?;
    let low = im.binary(BinaryOp::Mul, x, slope)?;
    let condition = positive(im, x)?;
    im.push(Op::Where, &[condition, x, low])
}

fn elu(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (x, dtype) = input(im, args)?;
    let alpha = args.float("alpha", 1.0)?;
    let scale = args.float("scale", 1.0)?;
    let input_scale = im.float(args.float("input_scale", 1.0)?, dtype)?;
    let scaled = im.binary(BinaryOp::Mul, x, input_scale)?;
    let e = im.unary(UnaryOp::Expm1, scaled)?;
    let alpha = im.float(alpha * scale, dtype)?;
    let low = im.binary(BinaryOp::Mul, e, alpha)?;
    let scale = im.float(scale, dtype)?;
    let high = im.binary(BinaryOp::Mul, x, scale)?;
    let condition = positive(im, x)?;
    im.push(Op::Where, &[condition, high, low])
}

/// `log(1 + e^(beta x)) / beta`, linear above the threshold.
fn softplus_of(
    im: &mut Importer<'_>,
    x: ValueId,
    beta: f64,
    threshold: f64,
) -> Result<ValueId, String> {
    let dtype = im.dtype(x);
    let beta = im.float(beta, dtype)?;
    let scaled = im.binary(BinaryOp::Mul, x, beta)?;
    let e = im.unary(UnaryOp::Exp, scaled)?;
    let log = im.unary(UnaryOp::Log1p, e)?;
    let low = im.binary(BinaryOp::Div, log, beta)?;
    let threshold = im.float(threshold, dtype)?;
    let linear = im.binary(BinaryOp::Gt, scaled, threshold)?;
    im.push(Op::Where, &[linear, x, low])
}

fn softplus(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (x, _) = input(im, args)?;
    softplus_of(im, x, args.float("beta", 1.0)?, args.float("threshold", 20.0)?)
}

fn mish(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (x, _) = input(im, args)?;
    let s = softplus_of(im, x, 1.0, 20.0)?;
    let t = im.unary(UnaryOp::Tanh, s)?;
    im.binary(BinaryOp::Mul, x, t)
}

fn hard(im: &mut Importer<'_>, base: &str, args: Args<'_>) -> Result<ValueId, String> {
    let (x, dtype) = input(im, args)?;
    let (three, six, zero) = (im.float(3.0, dtype)?, im.float(6.0, dtype)?, im.float(0.0, dtype)?);
    let v = im.binary(BinaryOp::Add, x, three)?;
    let v = im.binary(BinaryOp::Max, v, zero)?;
    let v = im.binary(BinaryOp::Min, v, six)?;
    let v = im.binary(BinaryOp::Div, v, six)?;
    if base.starts_with("hardswish") { im.binary(BinaryOp::Mul, x, v) } else { Ok(v) }
}

fn scaled(im: &mut Importer<'_>, base: &str, args: Args<'_>) -> Result<ValueId, String> {
    let (x, dtype) = input(im, args)?;
    match base.trim_end_matches('_') {
        "exp2" => {
            let two = im.float(2.0, dtype)?;
            im.binary(BinaryOp::Pow, two, x)
        }
        name => {
            let base =
                if name == "log2" { std::f64::consts::LN_2 } else { std::f64::consts::LN_10 };
            let log = im.unary(UnaryOp::Log, x)?;
            let factor = im.float(1.0 / base, dtype)?;
            im.binary(BinaryOp::Mul, log, factor)
        }
    }
}

/// `copy(self, src)`: src broadcast and converted to self.
fn copy(im: &mut Importer<'_>, args: Args<'_>) -> Result<ValueId, String> {
    let (x, src) = (args.tensor(im, "self")?, args.tensor(im, "src")?);
    let (dtype, shape) = (im.dtype(x), im.shape(x));
    let v = im.cast(src, dtype)?;
    if im.shape(v) == shape { Ok(v) } else { im.push(Op::Expand(shape), &[v]) }
}
