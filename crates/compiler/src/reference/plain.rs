//! Functions of floats as a plain implementation in the type itself computes them: every step rounded.

use half::{bf16, f16};
use zeroforge_artifact::DType;
use zeroforge_graph::interpret::scalar;
use zeroforge_graph::op::{BinaryOp, UnaryOp};

/// A float rounded to a memory type.
pub(super) fn round(dtype: DType, v: f64) -> f64 {
    match dtype {
        DType::F16 => f16::from_f64(v).to_f64(),
        DType::Bf16 => bf16::from_f64(v).to_f64(),
        DType::F32 => f64::from(v as f32),
        _ => v,
    }
}

/// An operand of a contraction as the tensor core takes it: the sum of two tf32 numbers. Narrower types fit
/// into the first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Split {
    big: f32,
    small: f32,
}

/// Rounded to the 11 bits of tf32, ties away from zero.
fn tf32(x: f32) -> f32 {
    if x.is_finite() { f32::from_bits(x.to_bits().wrapping_add(0x1000) & !0x1fff) } else { x }
}

/// An f32 as an operand.
pub(super) fn split(x: f32) -> Split {
    let big = tf32(x);
    let rest = x - big;
    Split { big, small: tf32(if rest.is_nan() { 0.0 } else { rest }) }
}

/// Adds a product to an f32 sum: three products of tf32 numbers (the product of the small parts is below the
/// last bit), each of which f32 holds exactly. For 16-bit floats one, the others are zero.
pub(super) fn add_product(sum: f32, a: Split, b: Split) -> f32 {
    sum + a.small * b.big + a.big * b.small + a.big * b.big
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// A function in f32; `None` where rounding the exact result is all that f32 can lose.
pub(super) fn unary(op: UnaryOp) -> Option<fn(f32) -> f32> {
    Some(match op {
        UnaryOp::Exp => f32::exp,
        UnaryOp::Expm1 => f32::exp_m1,
        UnaryOp::Log => f32::ln,
        UnaryOp::Log1p => f32::ln_1p,
        UnaryOp::Rsqrt => |x| 1.0 / x.sqrt(),
        UnaryOp::Sin => f32::sin,
        UnaryOp::Cos => f32::cos,
        UnaryOp::Tanh => f32::tanh,
        UnaryOp::Sigmoid => sigmoid,
        UnaryOp::Silu => |x| x * sigmoid(x),
        UnaryOp::Gelu => |x| {
            let erf = scalar::erf(f64::from(x * std::f32::consts::FRAC_1_SQRT_2)) as f32;
            0.5 * x * (1.0 + erf)
        },
        UnaryOp::GeluTanh => |x| {
            let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        },
        _ => return None,
    })
}

/// A function of two in f32; `None` where rounding the exact result is all that f32 can lose.
pub(super) fn binary(op: BinaryOp) -> Option<fn(f32, f32) -> f32> {
    Some(match op {
        BinaryOp::FloorDiv => |a, b| (a / b).floor(),
        BinaryOp::TruncDiv => |a, b| (a / b).trunc(),
        BinaryOp::Rem => |a, b| a - b * (a / b).floor(),
        BinaryOp::Fmod => |a, b| a - b * (a / b).trunc(),
        BinaryOp::Pow => f32::powf,
        BinaryOp::Atan2 => f32::atan2,
        _ => return None,
    })
}
