//! Scalar C expressions from loop-IR instructions, for every target: C and CUDA C++ spell them alike, and
//! each target's prelude defines the `zf_` functions.

use zeroforge_artifact::DType;
use zeroforge_graph::op::{BinaryOp, UnaryOp};

use crate::loop_ir::{Body, Inst, InstId, InstKind};

/// The C type in which values of a compute type are held.
pub(crate) fn compute_type(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool | DType::U8 | DType::I8 | DType::I16 | DType::I32 => "int32_t",
        DType::I64 => "int64_t",
        DType::F16 | DType::Bf16 | DType::F32 => "float",
        DType::F64 => "double",
    }
}

/// The C type of elements in memory.
pub(crate) fn memory_type(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool | DType::U8 => "uint8_t",
        DType::I8 => "int8_t",
        DType::I16 => "int16_t",
        DType::I32 => "int32_t",
        DType::I64 => "int64_t",
        DType::F16 => "zf_f16",
        DType::Bf16 => "zf_bf16",
        DType::F32 => "float",
        DType::F64 => "double",
    }
}

/// Converts an element just loaded to its compute type.
pub(crate) fn from_memory(dtype: DType, value: &str) -> String {
    match dtype {
        DType::F16 => format!("zf_from_f16({value})"),
        DType::Bf16 => format!("zf_from_bf16({value})"),
        DType::Bool => format!("({value} != 0)"),
        DType::U8 | DType::I8 | DType::I16 => format!("(int32_t){value}"),
        _ => value.to_owned(),
    }
}

/// Converts a computed value of type `from` to a memory type.
pub(crate) fn to_memory(dtype: DType, from: DType, value: &str) -> String {
    match dtype {
        DType::F16 => format!("zf_to_f16({value})"),
        DType::Bf16 => format!("zf_to_bf16({value})"),
        DType::Bool => format!("(uint8_t)({value} != 0)"),
        _ if from == dtype => value.to_owned(),
        _ => format!("({}){value}", memory_type(dtype)),
    }
}

fn float_literal(bits: u64, dtype: DType) -> String {
    let value = f64::from_bits(bits);
    let suffix = if dtype == DType::F64 { "" } else { "f" };
    let single = value as f32;
    let finite = if dtype == DType::F64 { value.is_finite() } else { single.is_finite() };
    if value.is_nan() {
        return "ZF_NAN".to_owned();
    }
    if !finite {
        return if value > 0.0 { "ZF_INF".to_owned() } else { "(-ZF_INF)".to_owned() };
    }
    let text = if dtype == DType::F64 { format!("{value:e}") } else { format!("{single:e}") };
    let text = if text.contains('.') { text } else { text.replacen('e', ".0e", 1) };
    format!("({text}{suffix})")
}

fn int_suffix(dtype: DType) -> &'static str {
    if dtype == DType::I64 { "i64" } else { "i32" }
}

fn unary(op: UnaryOp, dtype: DType, a: &str) -> String {
    let f = if dtype == DType::F64 { "" } else { "f" };
    let call = |name: &str| format!("zf_{name}{f}({a})");
    let is_float = dtype.is_float();
    match op {
        UnaryOp::Neg if is_float => format!("(-{a})"),
        UnaryOp::Neg => {
            let t = compute_type(dtype);
            format!("({t})(0 - (u{t}){a})")
        }
        UnaryOp::Abs if is_float => {
            if dtype == DType::F64 {
                format!("zf_fabs({a})")
            } else {
                format!("zf_fabsf({a})")
            }
        }
        UnaryOp::Abs => format!("({a} < 0 ? ({t})(0 - (u{t}){a}) : {a})", t = compute_type(dtype)),
        UnaryOp::Sign if is_float => {
            let t = compute_type(dtype);
            format!("({a} != {a} ? {a} : ({t})(({a} > 0) - ({a} < 0)))")
        }
        UnaryOp::Sign => format!("(({a} > 0) - ({a} < 0))"),
        UnaryOp::Exp => call("exp"),
        UnaryOp::Expm1 => call("expm1"),
        UnaryOp::Log => call("log"),
        UnaryOp::Log1p => call("log1p"),
        UnaryOp::Sqrt => call("sqrt"),
        UnaryOp::Rsqrt => call("rsqrt"),
        UnaryOp::Recip => {
            if dtype == DType::F64 {
                format!("(1.0 / {a})")
            } else {
                format!("(1.0f / {a})")
            }
        }
        UnaryOp::Sin => call("sin"),
        UnaryOp::Cos => call("cos"),
        UnaryOp::Tanh => call("tanh"),
        UnaryOp::Erf => call("erf"),
        UnaryOp::Sigmoid => call("sigmoid"),
        // A comparison with NaN is false, so NaN passes through.
        UnaryOp::Relu => format!("({a} < 0 ? 0 : {a})"),
        UnaryOp::Silu => call("silu"),
        UnaryOp::Gelu => call("gelu"),
        UnaryOp::GeluTanh => call("gelu_tanh"),
        UnaryOp::Floor => call("floor"),
        UnaryOp::Ceil => call("ceil"),
        UnaryOp::Round => call("round"),
        UnaryOp::Trunc => call("trunc"),
        UnaryOp::LogicalNot => format!("(!{a})"),
        UnaryOp::BitNot => format!("(~{a})"),
        UnaryOp::IsNan => format!("({a} != {a})"),
        UnaryOp::IsInf => format!("({a} == ZF_INF || {a} == -ZF_INF)"),
    }
}

fn binary(op: BinaryOp, dtype: DType, a: &str, b: &str) -> String {
    let is_float = dtype.is_float();
    let (t, s) = (compute_type(dtype), int_suffix(dtype));
    let f = if dtype == DType::F64 { "" } else { "f" };
    let wrapping = |op: &str| format!("({t})((u{t}){a} {op} (u{t}){b})");
    match op {
        BinaryOp::Add if is_float => format!("({a} + {b})"),
        BinaryOp::Sub if is_float => format!("({a} - {b})"),
        BinaryOp::Mul if is_float => format!("({a} * {b})"),
        BinaryOp::Add => wrapping("+"),
        BinaryOp::Sub => wrapping("-"),
        BinaryOp::Mul => wrapping("*"),
        BinaryOp::Div => format!("({a} / {b})"),
        BinaryOp::FloorDiv if is_float => format!("zf_floor{f}({a} / {b})"),
        BinaryOp::TruncDiv if is_float => format!("zf_trunc{f}({a} / {b})"),
        BinaryOp::Rem if is_float => format!("({a} - {b} * zf_floor{f}({a} / {b}))"),
        BinaryOp::Fmod if is_float => format!("({a} - {b} * zf_trunc{f}({a} / {b}))"),
        BinaryOp::Pow if is_float => format!("zf_pow{f}({a}, {b})"),
        BinaryOp::FloorDiv => format!("zf_floordiv_{s}({a}, {b})"),
        BinaryOp::TruncDiv => format!("zf_truncdiv_{s}({a}, {b})"),
        BinaryOp::Rem => format!("zf_rem_{s}({a}, {b})"),
        BinaryOp::Fmod => format!("zf_fmod_{s}({a}, {b})"),
        BinaryOp::Pow => format!("zf_pow_{s}({a}, {b})"),
        BinaryOp::Shl => format!("zf_shl_{s}({a}, {b})"),
        BinaryOp::Shr => format!("zf_shr_{s}({a}, {b})"),
        // NaN wins: `a` is kept if it is smaller or NaN, otherwise `b`, which may be NaN.
        BinaryOp::Min if is_float => format!("({a} < {b} || {a} != {a} ? {a} : {b})"),
        BinaryOp::Max if is_float => format!("({a} > {b} || {a} != {a} ? {a} : {b})"),
        BinaryOp::Min => format!("({a} < {b} ? {a} : {b})"),
        BinaryOp::Max => format!("({a} > {b} ? {a} : {b})"),
        BinaryOp::Atan2 => format!("zf_atan2{f}({a}, {b})"),
        BinaryOp::Eq => format!("({a} == {b})"),
        BinaryOp::Ne => format!("({a} != {b})"),
        BinaryOp::Lt => format!("({a} < {b})"),
        BinaryOp::Le => format!("({a} <= {b})"),
        BinaryOp::Gt => format!("({a} > {b})"),
        BinaryOp::Ge => format!("({a} >= {b})"),
        BinaryOp::And => format!("({a} & {b})"),
        BinaryOp::Or => format!("({a} | {b})"),
        BinaryOp::Xor => format!("({a} ^ {b})"),
    }
}

fn cast(to: DType, from: DType, a: &str) -> String {
    let from_float = from.is_float();
    match to {
        DType::Bool => format!("({a} != 0)"),
        DType::F32 => format!("(float){a}"),
        DType::F64 => format!("(double){a}"),
        DType::F16 => format!("zf_round_f16((float){a})"),
        DType::Bf16 => format!("zf_round_bf16((float){a})"),
        DType::I32 | DType::I64 if from_float => {
            let f = if from == DType::F64 { "f64" } else { "f32" };
            format!("zf_{f}_to_{}({a})", int_suffix(to))
        }
        DType::I32 | DType::I64 => format!("({}){a}", compute_type(to)),
        DType::U8 | DType::I8 | DType::I16 => {
            // Floats saturate at the narrow type's ends; integers wrap.
            if from_float {
                let (low, high) = match to {
                    DType::U8 => (0, 255),
                    DType::I8 => (-128, 127),
                    _ => (-32768, 32767),
                };
                let f = if from == DType::F64 { "f64" } else { "f32" };
                let v = format!("zf_{f}_to_i32({a})");
                format!("({v} < {low} ? {low} : ({v} > {high} ? {high} : {v}))")
            } else {
                format!("(int32_t)({}){a}", memory_type(to))
            }
        }
    }
}

/// Names and loads as the surrounding template spells them.
pub(crate) trait Names {
    /// The variable of an outer axis.
    fn outer(&self, axis: u32) -> String;
    /// The variable of an inner axis.
    fn inner(&self, axis: u32) -> String;
    /// An i64 parameter.
    fn param(&self, index: u32) -> String;
    /// The result of a reduce stage.
    fn acc(&self, index: u32) -> String;
    /// The pointer of an operand, and its memory type.
    fn operand(&self, index: u32) -> (String, DType);
}

/// The name of an instruction's variable.
pub(crate) fn var(id: InstId) -> String {
    format!("v{}", id.0)
}

/// The C expression of one instruction in terms of the variables of its operands.
pub(crate) fn expression(body: &Body, inst: &Inst, names: &dyn Names) -> String {
    let dtype_of = |id: &InstId| body.inst(*id).dtype;
    match &inst.kind {
        InstKind::Int(v) => match inst.dtype {
            DType::I64 if *v == i64::MIN => "INT64_MIN".to_owned(),
            DType::I64 => format!("INT64_C({v})"),
            _ if *v == i64::from(i32::MIN) => "INT32_MIN".to_owned(),
            _ => format!("({v})"),
        },
        InstKind::FloatBits(bits) => float_literal(*bits, inst.dtype),
        InstKind::Param(i) => names.param(*i),
        InstKind::Outer(i) => names.outer(*i),
        InstKind::Inner(i) => names.inner(*i),
        InstKind::Acc(i) => names.acc(*i),
        InstKind::Load { operand, index, guard } => {
            let (pointer, dtype) = names.operand(*operand);
            let element = from_memory(dtype, &format!("{pointer}[{}]", var(*index)));
            match guard {
                Some(guard) => format!("({} ? {element} : 0)", var(*guard)),
                None => element,
            }
        }
        InstKind::Unary(op, a) => unary(*op, dtype_of(a), &var(*a)),
        InstKind::Binary(op, a, b) => binary(*op, dtype_of(a), &var(*a), &var(*b)),
        InstKind::Select(c, a, b) => format!("({} ? {} : {})", var(*c), var(*a), var(*b)),
        InstKind::Cast(to, a) => cast(*to, dtype_of(a), &var(*a)),
    }
}

/// `const float v7 = ...;`
pub(crate) fn definition(body: &Body, id: InstId, names: &dyn Names) -> String {
    let inst = body.inst(id);
    let ty = compute_type(inst.dtype);
    format!("const {ty} {} = {};", var(id), expression(body, inst, names))
}

/// Operands of an instruction.
pub(crate) fn operands(kind: &InstKind) -> Vec<InstId> {
    match kind {
        InstKind::Load { index, guard, .. } => std::iter::once(*index).chain(*guard).collect(),
        InstKind::Unary(_, a) | InstKind::Cast(_, a) => vec![*a],
        InstKind::Binary(_, a, b) => vec![*a, *b],
        InstKind::Select(c, a, b) => vec![*c, *a, *b],
        _ => Vec::new(),
    }
}
