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

/// Rounds a value to `e4m3` (OCP 8-bit floating point: 4 bits of exponent, no infinity), ties to even, values beyond
/// the largest become it.
pub fn round_e4m3(value: f64) -> f64 {
    if value == 0.0 || value.is_nan() {
        return value;
    }
    let exponent = value.abs().log2().floor().max(-6.0);
    let step = (exponent - 3.0).exp2();
    ((value / step).round_ties_even() * step).clamp(-448.0, 448.0)
}

/// Values of `e4m3` as bytes.
pub fn encode_e4m3(values: &[f64]) -> Vec<u8> {
    let magnitude = |code: u8| -> f64 {
        let (exponent, fraction) = (f64::from(code >> 3), f64::from(code & 7));
        if exponent == 0.0 {
            fraction / 512.0
        } else {
            (1.0 + fraction / 8.0) * (exponent - 7.0).exp2()
        }
    };
    let one = |value: f64| {
        if value.is_nan() {
            return 0x7f;
        }
        let rounded = round_e4m3(value);
        // Magnitudes grow with the code.
        let (mut low, mut high) = (0, 0x7e);
        while low < high {
            let middle = (low + high) / 2;
            if magnitude(middle) < rounded.abs() { low = middle + 1 } else { high = middle }
        }
        low | u8::from(value.is_sign_negative()) << 7
    };
    values.iter().map(|&v| one(v)).collect()
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

#[cfg(test)]
mod tests {
    use super::{encode_e4m3, round_e4m3};

    #[test]
    fn e4m3_is_as_the_standard_says() {
        let pairs = [
            (0.0, 0x00),
            (1.0, 0x38),
            (-1.5, 0xbc),
            (448.0, 0x7e),
            (1e9, 0x7e),
            (1.0 / 512.0, 0x01),
            (1.0 / 64.0, 0x08),
            (17.0, 0x58),
        ];
        for (value, code) in pairs {
            assert_eq!(encode_e4m3(&[value]), [code], "{value}");
        }
        assert_eq!(encode_e4m3(&[f64::NAN]), [0x7f]);
        assert_eq!(
            (round_e4m3(17.0), round_e4m3(19.0), round_e4m3(1.0 / 1024.0)),
            (16.0, 20.0, 0.0)
        );
    }
}
