//! Tensors from and to files: safetensors, NumPy's `.npy`, and JSON literals.

use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use zeroforge_artifact::DType;

use crate::{RunError, Tensor};

fn fail(path: &Path, reason: impl std::fmt::Display) -> RunError {
    RunError::Tensor(format!("`{}`: {reason}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, RunError> {
    std::fs::read(path).map_err(|source| RunError::File {
        path: path.to_owned(),
        doing: "reading",
        source,
    })
}

fn from_dtype(d: Dtype) -> Option<DType> {
    Some(match d {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::U8,
        Dtype::I8 => DType::I8,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::Bf16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        _ => return None,
    })
}

fn to_dtype(d: DType) -> Dtype {
    match d {
        DType::Bool => Dtype::BOOL,
        DType::U8 => Dtype::U8,
        DType::I8 => Dtype::I8,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::F16 => Dtype::F16,
        DType::Bf16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
    }
}

/// Every tensor of a safetensors file.
pub fn read_safetensors(path: &Path) -> Result<Vec<(String, Tensor)>, RunError> {
    let bytes = read(path)?;
    let parsed = SafeTensors::deserialize(&bytes).map_err(|e| {
        fail(path, format!("not a safetensors file, or cut off: {e}; write it again"))
    })?;
    let mut out = Vec::new();
    for (name, view) in parsed.iter() {
        let dtype = from_dtype(view.dtype()).ok_or_else(|| {
            fail(path, format!("tensor `{name}` has the unsupported type {:?}", view.dtype()))
        })?;
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        let tensor = Tensor::from_bytes(dtype, &shape, view.data())
            .map_err(|e| fail(path, format!("tensor `{name}`: {e}")))?;
        out.push((name.to_owned(), tensor));
    }
    Ok(out)
}

/// The bytes of a safetensors file that holds the tensors.
pub fn to_safetensors(tensors: &[(String, Tensor)]) -> Result<Vec<u8>, RunError> {
    let views: Vec<(&str, TensorView<'_>)> = tensors
        .iter()
        .map(|(name, t)| {
            let shape = t.shape().iter().map(|&n| n as usize).collect();
            TensorView::new(to_dtype(t.dtype()), shape, t.bytes())
                .map(|view| (name.as_str(), view))
                .map_err(|e| RunError::Tensor(format!("output `{name}`: {e}")))
        })
        .collect::<Result<_, _>>()?;
    safetensors::serialize(views, None).map_err(|e| RunError::Tensor(format!("outputs: {e}")))
}

/// A NumPy array file, version 1 to 3, little-endian, C order.
pub fn read_npy(path: &Path) -> Result<Tensor, RunError> {
    let bytes = read(path)?;
    parse_npy(&bytes).map_err(|reason| fail(path, reason))
}

fn parse_npy(bytes: &[u8]) -> Result<Tensor, String> {
    if bytes.len() < 10 || &bytes[..6] != b"\x93NUMPY" {
        return Err("not a .npy file; numpy.save writes them".to_owned());
    }
    let (start, len): (usize, usize) = if bytes[6] == 1 {
        (10, usize::from(u16::from_le_bytes([bytes[8], bytes[9]])))
    } else {
        let field = bytes.get(8..12).ok_or("the header is cut off")?;
        (12, u32::from_le_bytes([field[0], field[1], field[2], field[3]]) as usize)
    };
    let header = bytes.get(start..start.saturating_add(len)).ok_or("the header is cut off")?;
    let header = std::str::from_utf8(header).map_err(|_| "the header is not text")?;
    let field =
        |key: &str| header.split(key).nth(1).map(|rest| rest.trim_start_matches([':', ' ']));
    let descr =
        field("'descr'").and_then(|r| r.split('\'').nth(1)).ok_or("the header has no `descr`")?;
    let dtype = match descr {
        "|b1" => DType::Bool,
        "|u1" => DType::U8,
        "|i1" => DType::I8,
        "<i2" => DType::I16,
        "<i4" => DType::I32,
        "<i8" => DType::I64,
        "<f2" => DType::F16,
        "<f4" => DType::F32,
        "<f8" => DType::F64,
        other => return Err(format!("element type `{other}` is not supported")),
    };
    if field("'fortran_order'").is_none_or(|r| !r.starts_with("False")) {
        return Err("Fortran order is not supported; save a C-contiguous array".to_owned());
    }
    let shape =
        field("'shape'").and_then(|r| r.strip_prefix('(')).and_then(|r| r.split(')').next());
    let shape: Vec<i64> = shape
        .ok_or("the header has no `shape`")?
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(|s| s.parse().map_err(|_| format!("`{s}` is no size")))
        .collect::<Result<_, _>>()?;
    Tensor::from_bytes(dtype, &shape, &bytes[start + len..]).map_err(|e| e.to_string())
}

/// A tensor as a NumPy array file, version 1.
pub fn to_npy(tensor: &Tensor) -> Result<Vec<u8>, RunError> {
    let descr = match tensor.dtype() {
        DType::Bool => "|b1",
        DType::U8 => "|u1",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::F16 => "<f2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::Bf16 => {
            let reason = "NumPy has no bf16; write a .safetensors file";
            return Err(RunError::Tensor(reason.to_owned()));
        }
    };
    let sizes: Vec<String> = tensor.shape().iter().map(|n| format!("{n},")).collect();
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", sizes.join(" "));
    // Data start at a multiple of 64, a line feed before them.
    let total = (10 + header.len() + 1).next_multiple_of(64);
    header.push_str(&" ".repeat(total - 10 - header.len() - 1));
    header.push('\n');
    let length = u16::try_from(header.len())
        .map_err(|_| RunError::Tensor("too many axes for a .npy file".to_owned()))?;
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(tensor.bytes());
    Ok(out)
}

/// A nested JSON array of numbers or bools as a tensor of the type that the model takes.
pub fn from_json(text: &str, dtype: DType) -> Result<Tensor, RunError> {
    let wrong = |reason: String| RunError::Tensor(format!("the JSON literal {reason}"));
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|e| wrong(format!("is malformed: {e}")))?;
    let mut shape = Vec::new();
    let mut inner = &value;
    while let serde_json::Value::Array(list) = inner {
        shape.push(list.len() as i64);
        match list.first() {
            Some(first) => inner = first,
            None => break,
        }
    }
    let mut bytes = Vec::new();
    flatten(&value, &shape, dtype, &mut bytes).map_err(wrong)?;
    Tensor::from_bytes(dtype, &shape, &bytes)
}

fn flatten(
    value: &serde_json::Value,
    shape: &[i64],
    dtype: DType,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    use serde_json::Value;
    match (value, shape) {
        (Value::Array(list), [n, rest @ ..]) if list.len() as i64 == *n => {
            list.iter().try_for_each(|v| flatten(v, rest, dtype, out))
        }
        (Value::Number(n), []) => {
            let float = n.as_f64().unwrap_or(f64::NAN);
            let int = || n.as_i64().ok_or_else(|| format!("holds {n}, which is no {dtype}"));
            let range = |_| format!("holds {n}, which is no {dtype}");
            match dtype {
                DType::Bool | DType::U8 => {
                    out.push(u8::try_from(int()?).map_err(range)?);
                }
                DType::I8 => out.extend(i8::try_from(int()?).map_err(range)?.to_le_bytes()),
                DType::I16 => out.extend(i16::try_from(int()?).map_err(range)?.to_le_bytes()),
                DType::I32 => out.extend(i32::try_from(int()?).map_err(range)?.to_le_bytes()),
                DType::I64 => out.extend(int()?.to_le_bytes()),
                DType::F16 => out.extend(half::f16::from_f64(float).to_le_bytes()),
                DType::Bf16 => out.extend(half::bf16::from_f64(float).to_le_bytes()),
                DType::F32 => out.extend((float as f32).to_le_bytes()),
                DType::F64 => out.extend(float.to_le_bytes()),
            }
            Ok(())
        }
        (Value::Bool(b), []) => {
            let one = Value::from(u8::from(*b));
            flatten(&one, &[], dtype, out)
        }
        (Value::Array(_), _) | (Value::Number(_) | Value::Bool(_), _) => {
            Err("is ragged: its arrays differ in length or depth".to_owned())
        }
        (other, _) => Err(format!("holds {other}, which is no number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_literals_keep_their_shape() {
        let t = from_json("[[1, 2, 3], [4, 5, 6]]", DType::I64).unwrap();
        assert_eq!((t.shape(), t.to_f64()), (&[2, 3][..], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        assert_eq!(from_json("true", DType::Bool).unwrap().shape(), &[] as &[i64]);
        for bad in ["[[1], [2, 3]]", "[1.5]", "[\"a\"]", "[", "[1, [2]]"] {
            assert!(from_json(bad, DType::I64).is_err(), "{bad}");
        }
    }

    #[test]
    fn npy_headers_are_checked() {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }          \n";
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend([0, 0, 128, 63, 0, 0, 0, 64]);
        let t = parse_npy(&file).unwrap();
        assert_eq!((t.shape(), t.to_f64()), (&[2, 1][..], vec![1.0, 2.0]));
        for cut in 0..file.len() {
            assert!(parse_npy(&file[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn npy_files_come_back() {
        for (dtype, shape) in [(DType::F32, &[2i64, 3][..]), (DType::I64, &[5]), (DType::Bool, &[])]
        {
            let mut tensor = Tensor::zeros(dtype, shape).unwrap();
            tensor.bytes_mut()[0] = 1;
            let file = to_npy(&tensor).unwrap();
            assert_eq!((file.len() - tensor.bytes().len()) % 64, 0);
            assert_eq!(parse_npy(&file), Ok(tensor));
        }
        assert!(to_npy(&Tensor::zeros(DType::Bf16, &[1]).unwrap()).is_err());
    }
}
