//! What the elementwise ops are on single values. Floats are f64, everything else i64.

use zeroforge_artifact::DType;

use crate::op::{BinaryOp, UnaryOp};

/// Wraps an integer to its type's range.
pub fn wrap(dtype: DType, v: i64) -> i64 {
    match dtype {
        DType::Bool => i64::from(v != 0),
        DType::U8 => i64::from(v as u8),
        DType::I8 => i64::from(v as i8),
        DType::I16 => i64::from(v as i16),
        DType::I32 => i64::from(v as i32),
        _ => v,
    }
}

/// A float as an integer of a type: truncated and saturated; NaN gives 0.
pub fn saturate(v: f64, to: DType) -> i64 {
    match to {
        DType::U8 => i64::from(v as u8),
        DType::I8 => i64::from(v as i8),
        DType::I16 => i64::from(v as i16),
        DType::I32 => i64::from(v as i32),
        _ => v as i64,
    }
}

/// The function of integers that an op is, the result not yet wrapped to the type; `None` if it is none.
pub fn int_unary(op: UnaryOp) -> Option<fn(i64) -> i64> {
    Some(match op {
        UnaryOp::Neg => i64::wrapping_neg,
        UnaryOp::Abs => i64::wrapping_abs,
        UnaryOp::Sign => i64::signum,
        UnaryOp::Relu => |v| v.max(0),
        UnaryOp::LogicalNot => |v| i64::from(v == 0),
        UnaryOp::BitNot => |v| !v,
        _ => return None,
    })
}

/// The function of floats that an op is; `None` if it is none or its result is no float.
pub fn float_unary(op: UnaryOp) -> Option<fn(f64) -> f64> {
    Some(match op {
        UnaryOp::Neg => |v| -v,
        UnaryOp::Abs => f64::abs,
        UnaryOp::Sign => |v| if v == 0.0 || v.is_nan() { v } else { v.signum() },
        UnaryOp::Exp => f64::exp,
        UnaryOp::Expm1 => f64::exp_m1,
        UnaryOp::Log => f64::ln,
        UnaryOp::Log1p => f64::ln_1p,
        UnaryOp::Sqrt => f64::sqrt,
        UnaryOp::Rsqrt => |v| 1.0 / v.sqrt(),
        UnaryOp::Recip => |v| 1.0 / v,
        UnaryOp::Sin => f64::sin,
        UnaryOp::Cos => f64::cos,
        UnaryOp::Tanh => f64::tanh,
        UnaryOp::Erf => erf,
        UnaryOp::Sigmoid => sigmoid,
        UnaryOp::Relu => |v| if v.is_nan() { v } else { v.max(0.0) },
        UnaryOp::Silu => |v| v * sigmoid(v),
        UnaryOp::Gelu => |v| 0.5 * v * (1.0 + erf(v * std::f64::consts::FRAC_1_SQRT_2)),
        UnaryOp::GeluTanh => |v| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v * v * v);
            0.5 * v * (1.0 + inner.tanh())
        },
        UnaryOp::Floor => f64::floor,
        UnaryOp::Ceil => f64::ceil,
        UnaryOp::Round => f64::round_ties_even,
        UnaryOp::Trunc => f64::trunc,
        UnaryOp::LogicalNot | UnaryOp::BitNot | UnaryOp::IsNan | UnaryOp::IsInf => {
            return None;
        }
    })
}

fn sigmoid(v: f64) -> f64 {
    1.0 / (1.0 + (-v).exp())
}

/// The error function by a series of positive terms:
/// `2/sqrt(pi) e^(-x^2) sum x (2 x^2)^n / (1 3 5 ... (2n + 1))`.
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() {
        return x;
    }
    // Beyond, 1 is the nearest double.
    if a > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (a, a, 1.0);
    while term > sum * 1e-17 {
        term *= 2.0 * a * a / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    (std::f64::consts::FRAC_2_SQRT_PI * (-a * a).exp() * sum).copysign(x)
}

/// The comparison that an op is; `>=` for any op that is none.
pub fn compare<T: PartialOrd>(op: BinaryOp) -> fn(&T, &T) -> bool {
    match op {
        BinaryOp::Eq => |a, b| a == b,
        BinaryOp::Ne => |a, b| a != b,
        BinaryOp::Lt => |a, b| a < b,
        BinaryOp::Le => |a, b| a <= b,
        BinaryOp::Gt => |a, b| a > b,
        _ => |a, b| a >= b,
    }
}

/// Whether `x`, which is not zero, has another sign than `divisor`.
fn opposite(x: f64, divisor: f64) -> bool {
    x != 0.0 && (x < 0.0) != (divisor < 0.0)
}

/// The function of two floats that an op is; `None` if it is none or its result is no float.
pub fn float_binary(op: BinaryOp) -> Option<fn(f64, f64) -> f64> {
    Some(match op {
        BinaryOp::Add => |a, b| a + b,
        BinaryOp::Sub => |a, b| a - b,
        BinaryOp::Mul => |a, b| a * b,
        BinaryOp::Div => |a, b| a / b,
        BinaryOp::FloorDiv => |a, b| {
            if b == 0.0 {
                return a / b;
            }
            // Through the exact remainder, so that the quotient cannot round up to an integer.
            let rest = a % b;
            let quotient = (a - rest) / b - f64::from(u8::from(opposite(rest, b)));
            if quotient == 0.0 { 0.0f64.copysign(a / b) } else { quotient.round() }
        },
        BinaryOp::TruncDiv => |a, b| (a / b).trunc(),
        BinaryOp::Rem => |a, b| {
            let rest = a % b;
            if opposite(rest, b) { rest + b } else { rest }
        },
        BinaryOp::Fmod => |a, b| a % b,
        BinaryOp::Pow => f64::powf,
        BinaryOp::Min => |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) },
        BinaryOp::Max => |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) },
        BinaryOp::Atan2 => f64::atan2,
        _ => return None,
    })
}

/// A function of two integers of a width in bits, the result not yet wrapped to it; `None` if the op is
/// no function of integers.
pub fn int_binary(op: BinaryOp, a: i64, b: i64, bits: i64) -> Option<i64> {
    Some(match op {
        BinaryOp::Add => a.wrapping_add(b),
        BinaryOp::Sub => a.wrapping_sub(b),
        BinaryOp::Mul => a.wrapping_mul(b),
        BinaryOp::FloorDiv | BinaryOp::TruncDiv if b == 0 => 0,
        BinaryOp::FloorDiv => {
            let quotient = a.wrapping_div(b);
            let inexact = a.wrapping_rem(b) != 0 && (a < 0) != (b < 0);
            quotient - i64::from(inexact)
        }
        BinaryOp::TruncDiv => a.wrapping_div(b),
        BinaryOp::Rem | BinaryOp::Fmod if b == 0 => 0,
        BinaryOp::Rem => {
            let rest = a.wrapping_rem(b);
            if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
        }
        BinaryOp::Fmod => a.wrapping_rem(b),
        BinaryOp::Pow => power(a, b),
        BinaryOp::Min => a.min(b),
        BinaryOp::Max => a.max(b),
        BinaryOp::And => a & b,
        BinaryOp::Or => a | b,
        BinaryOp::Xor => a ^ b,
        BinaryOp::Shl => {
            if (0..bits).contains(&b) {
                a.wrapping_shl(b as u32)
            } else {
                0
            }
        }
        BinaryOp::Shr => a >> if (0..bits).contains(&b) { b } else { 63 },
        _ => return None,
    })
}

fn power(base: i64, exponent: i64) -> i64 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 => {
                if exponent % 2 == 0 {
                    1
                } else {
                    -1
                }
            }
            _ => 0,
        };
    }
    let (mut result, mut square, mut rest) = (1i64, base, exponent);
    while rest > 0 {
        if rest & 1 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        rest >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::{erf, power};

    #[test]
    fn erf_has_known_values() {
        for (x, y) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (-2.0, -0.995_322_265_018_952_7),
            (3.5, 0.999_999_256_901_627_7),
            (9.0, 1.0),
        ] {
            assert!((erf(x) - y).abs() < 4e-15, "erf({x}) = {}", erf(x));
        }
    }

    #[test]
    fn powers_of_integers() {
        assert_eq!((power(3, 4), power(-1, -3), power(2, -1), power(2, 64)), (81, -1, 0, 0));
    }
}
