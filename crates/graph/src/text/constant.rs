//! Inline data of weights in the text form.

use half::{bf16, f16};
use zeroforge_artifact::DType;

/// Most elements that are written out one by one.
const MAX_ELEMENTS: usize = 32;
/// Most bytes that are written out in hexadecimal.
const MAX_HEX: usize = 128;

/// How data is written after `=`.
pub(super) fn print(dtype: DType, bytes: &[u8]) -> String {
    if bytes.len() / dtype.size() <= MAX_ELEMENTS
        && let Some(values) = elements(dtype, bytes)
    {
        let text = format!("[{}]", values.join(", "));
        // Not every NaN has a name.
        if parse_elements(dtype, &values).as_deref() == Some(bytes) {
            return text;
        }
    }
    if bytes.len() <= MAX_HEX {
        let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        return format!("hex \"{digits}\"");
    }
    format!("source \"blake3:{}:{}\"", blake3::hash(bytes).to_hex(), bytes.len())
}

fn elements(dtype: DType, bytes: &[u8]) -> Option<Vec<String>> {
    fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> String) -> Option<Vec<String>> {
        let (chunks, rest) = bytes.as_chunks::<N>();
        rest.is_empty().then(|| chunks.iter().map(|c| f(*c)).collect())
    }
    match dtype {
        DType::Bool => each(bytes, |[v]: [u8; 1]| (v != 0).to_string()),
        DType::U8 => each(bytes, |[v]: [u8; 1]| v.to_string()),
        DType::I8 => each(bytes, |v| i8::from_le_bytes(v).to_string()),
        DType::I16 => each(bytes, |v| i16::from_le_bytes(v).to_string()),
        DType::I32 => each(bytes, |v| i32::from_le_bytes(v).to_string()),
        DType::I64 => each(bytes, |v| i64::from_le_bytes(v).to_string()),
        DType::F16 => each(bytes, |v| format!("{:?}", f16::from_le_bytes(v).to_f32())),
        DType::Bf16 => each(bytes, |v| format!("{:?}", bf16::from_le_bytes(v).to_f32())),
        DType::F32 => each(bytes, |v| format!("{:?}", f32::from_le_bytes(v))),
        DType::F64 => each(bytes, |v| format!("{:?}", f64::from_le_bytes(v))),
    }
}

/// Bytes of written elements; `None` if one is no value of the type.
pub(super) fn parse_elements<S: AsRef<str>>(dtype: DType, values: &[S]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(values.len() * dtype.size());
    for text in values {
        let text = text.as_ref().trim();
        match dtype {
            DType::Bool => out.push(u8::from(text.parse::<bool>().ok()?)),
            DType::U8 => out.push(text.parse().ok()?),
            DType::I8 => out.extend(text.parse::<i8>().ok()?.to_le_bytes()),
            DType::I16 => out.extend(text.parse::<i16>().ok()?.to_le_bytes()),
            DType::I32 => out.extend(text.parse::<i32>().ok()?.to_le_bytes()),
            DType::I64 => out.extend(text.parse::<i64>().ok()?.to_le_bytes()),
            DType::F16 => out.extend(f16::from_f32(text.parse().ok()?).to_le_bytes()),
            DType::Bf16 => out.extend(bf16::from_f32(text.parse().ok()?).to_le_bytes()),
            DType::F32 => out.extend(text.parse::<f32>().ok()?.to_le_bytes()),
            DType::F64 => out.extend(text.parse::<f64>().ok()?.to_le_bytes()),
        }
    }
    Some(out)
}

/// Bytes of hexadecimal digits; `None` if they are none.
pub(super) fn parse_hex(digits: &str) -> Option<Vec<u8>> {
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).ok()).collect()
}
