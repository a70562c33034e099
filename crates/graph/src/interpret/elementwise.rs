//! Creation and elementwise functions.

use zeroforge_artifact::DType;

use super::scalar::{compare, float_binary, float_unary, int_binary, int_unary, saturate, wrap};
use super::tensor::{Data, round};
use super::{InterpretError, Precision, Result, ResultType, Tensor};
use crate::op::{BinaryOp, Op, UnaryOp};

/// `None` if the op is of another family.
pub(super) fn evaluate(
    op: &Op,
    inputs: &[&Tensor],
    result: &ResultType,
    precision: Precision,
) -> Result<Option<Vec<Tensor>>> {
    let count = super::tensor::numel(&result.shape).unwrap_or(0);
    let (dtype, shape) = (result.dtype, result.shape.clone());
    let constant = |e: &zeroforge_artifact::Expr| {
        e.as_const().ok_or_else(|| InterpretError::internal("a size is not bound"))
    };
    Ok(Some(vec![match op {
        Op::Full { value, .. } => {
            cast(&Tensor::float(DType::F64, shape, vec![*value; count]), dtype, precision)
        }
        Op::FullInt { value, .. } => Tensor::int(dtype, shape, vec![constant(value)?; count]),
        Op::Iota { start, step, .. } => {
            let start = constant(start)?;
            let values =
                (0..count as i64).map(|i| start.wrapping_add(i.wrapping_mul(*step))).collect();
            cast(&Tensor::int(DType::I64, shape, values), dtype, precision)
        }
        Op::Unary(op) => unary(*op, inputs[0], result)?,
        Op::Binary(op) => {
            binary(*op, &inputs[0].expand(&shape)?, &inputs[1].expand(&shape)?, result)?
        }
        Op::Where => {
            let condition = inputs[0].expand(&shape)?;
            let (a, b) = (inputs[1].expand(&shape)?, inputs[2].expand(&shape)?);
            let condition = condition.ints()?;
            let data = match (&a.data, &b.data) {
                (Data::Float(a), Data::Float(b)) => Data::Float(choose(condition, a, b)),
                (Data::Int(a), Data::Int(b)) => Data::Int(choose(condition, a, b)),
                _ => return Err(InterpretError::internal("the branches differ in kind")),
            };
            Tensor { dtype, shape, data }
        }
        Op::Cast(to) => cast(inputs[0], *to, precision),
        _ => return Ok(None),
    }]))
}

fn choose<T: Copy>(condition: &[i64], a: &[T], b: &[T]) -> Vec<T> {
    condition.iter().zip(a.iter().zip(b)).map(|(&c, (&a, &b))| if c != 0 { a } else { b }).collect()
}

/// Converts the element type; see [`Op::Cast`].
pub(super) fn cast(x: &Tensor, to: DType, precision: Precision) -> Tensor {
    let shape = x.shape.clone();
    match &x.data {
        Data::Float(v) if to.is_float() => {
            Tensor::float(to, shape, v.iter().map(|&v| round(to, precision, v)).collect())
        }
        Data::Float(v) if to == DType::Bool => {
            Tensor::int(to, shape, v.iter().map(|&v| i64::from(v != 0.0)).collect())
        }
        Data::Float(v) => Tensor::int(to, shape, v.iter().map(|&v| saturate(v, to)).collect()),
        Data::Int(v) if to.is_float() => {
            let convert = |v: i64| match (precision, to) {
                // One rounding, not two.
                (Precision::Rounded, DType::F32) => f64::from(v as f32),
                _ => round(to, precision, v as f64),
            };
            Tensor::float(to, shape, v.iter().map(|&v| convert(v)).collect())
        }
        Data::Int(v) => Tensor::int(to, shape, v.iter().map(|&v| wrap(to, v)).collect()),
    }
}

fn unary(op: UnaryOp, x: &Tensor, result: &ResultType) -> Result<Tensor> {
    let shape = x.shape.clone();
    Ok(match (&x.data, op) {
        (Data::Float(v), UnaryOp::IsNan) => {
            Tensor::int(DType::Bool, shape, v.iter().map(|v| i64::from(v.is_nan())).collect())
        }
        (Data::Float(v), UnaryOp::IsInf) => {
            Tensor::int(DType::Bool, shape, v.iter().map(|v| i64::from(v.is_infinite())).collect())
        }
        (Data::Float(v), op) => {
            let function =
                float_unary(op).ok_or(InterpretError::internal("not a function of floats"))?;
            Tensor::float(result.dtype, shape, v.iter().map(|&v| function(v)).collect())
        }
        (Data::Int(v), op) => {
            let function =
                int_unary(op).ok_or(InterpretError::internal("a float function of integers"))?;
            Tensor::int(result.dtype, shape, v.iter().map(|&v| function(v)).collect())
        }
    })
}

fn binary(op: BinaryOp, a: &Tensor, b: &Tensor, result: &ResultType) -> Result<Tensor> {
    let shape = result.shape.clone();
    match (&a.data, &b.data) {
        (Data::Float(a), Data::Float(b)) => {
            if op.is_comparison() {
                let function = compare::<f64>(op);
                let values = a.iter().zip(b).map(|(a, b)| i64::from(function(a, b))).collect();
                return Ok(Tensor::int(DType::Bool, shape, values));
            }
            let function =
                float_binary(op).ok_or(InterpretError::internal("not a function of floats"))?;
            let values = a.iter().zip(b).map(|(&a, &b)| function(a, b)).collect();
            Ok(Tensor::float(result.dtype, shape, values))
        }
        (Data::Int(x), Data::Int(y)) => {
            let values = x.iter().zip(y);
            let values = if op.is_comparison() {
                let function = compare::<i64>(op);
                values.map(|(a, b)| i64::from(function(a, b))).collect()
            } else {
                let bits = 8 * a.dtype.size() as i64;
                let function = |(&a, &b)| int_binary(op, a, b, bits);
                let values = values.map(function).collect::<Option<_>>();
                values.ok_or(InterpretError::internal("not a function of integers"))?
            };
            Ok(Tensor::int(result.dtype, shape, values))
        }
        _ => Err(InterpretError::internal("the operands differ in kind")),
    }
}
