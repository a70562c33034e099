//! Values on their way to and from a device: f64 outside, the element type's bytes inside.

use half::{bf16, f16};
use zeroforge_artifact::DType;

/// Rounds a value to a type, as storing it would.
pub fn round(dtype: DType, value: f64) -> f64 {
    match dtype {
        DType::F32 => f64::from(value as f32),
        DType::Bf16 => bf16::from_f64(value).to_f64(),
        DType::F16 => f16::from_f64(value).to_f64(),
        _ => value,
    }
}

/// Values as bytes of a float type.
///
/// # Panics
/// For types that are not f32, f64, bf16 or f16.
pub fn encode(dtype: DType, values: &[f64]) -> Vec<u8> {
    match dtype {
        DType::F64 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::F32 => values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect(),
        DType::Bf16 => values.iter().flat_map(|v| bf16::from_f64(*v).to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|v| f16::from_f64(*v).to_le_bytes()).collect(),
        other => panic!("{other} is not a float type that cases are drawn in"),
    }
}

/// Bytes of a float type as values.
///
/// # Panics
/// As [`encode`].
pub fn decode(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        DType::F64 => bytes.as_chunks().0.iter().map(|c| f64::from_le_bytes(*c)).collect(),
        DType::F32 => {
            bytes.as_chunks().0.iter().map(|c| f64::from(f32::from_le_bytes(*c))).collect()
        }
        DType::Bf16 => {
            bytes.as_chunks().0.iter().map(|c| bf16::from_le_bytes(*c).to_f64()).collect()
        }
        DType::F16 => bytes.as_chunks().0.iter().map(|c| f16::from_le_bytes(*c).to_f64()).collect(),
        other => panic!("{other} is not a float type that cases are drawn in"),
    }
}
