//! Element types: torch.export's codes and torch's promotion rules.

use zeroforge_artifact::DType;

/// The element type behind a code of torch.export's `ScalarType` (not c10's).
pub(crate) fn dtype_from_code(code: i64) -> Result<DType, String> {
    let other = match code {
        1 => return Ok(DType::U8),
        2 => return Ok(DType::I8),
        3 => return Ok(DType::I16),
        4 => return Ok(DType::I32),
        5 => return Ok(DType::I64),
        6 => return Ok(DType::F16),
        7 => return Ok(DType::F32),
        8 => return Ok(DType::F64),
        12 => return Ok(DType::Bool),
        13 => return Ok(DType::Bf16),
        9..=11 => "complex",
        28 | 34 | 35 => "an unsigned type wider than 8 bits",
        29..=33 => "an 8-bit float",
        _ => "unknown",
    };
    Err(format!(
        "element type {code} ({other}) is not supported; cast to a supported type before exporting"
    ))
}

fn category(d: DType) -> u8 {
    match d {
        DType::Bool => 0,
        d if d.is_int() => 1,
        _ => 2,
    }
}

/// torch.promote_types.
pub(crate) fn promote(a: DType, b: DType) -> DType {
    if a == b {
        return a;
    }
    let (ca, cb) = (category(a), category(b));
    if ca != cb {
        return if ca > cb { a } else { b };
    }
    match (a, b) {
        (DType::F16, DType::Bf16) | (DType::Bf16, DType::F16) => DType::F32,
        (DType::U8, DType::I8) | (DType::I8, DType::U8) => DType::I16,
        _ if a.size() > b.size() => a,
        _ => b,
    }
}

/// torch.result_type of two tensors: one without axes counts only if its category is higher.
pub(crate) fn result_type((a, rank_a): (DType, usize), (b, rank_b): (DType, usize)) -> DType {
    match (rank_a == 0, rank_b == 0) {
        (true, false) if category(a) <= category(b) => b,
        (false, true) if category(b) <= category(a) => a,
        _ => promote(a, b),
    }
}

/// The type of `tensor op number`.
pub(crate) fn with_scalar(tensor: DType, scalar: super::args::Scalar) -> DType {
    use super::args::Scalar;
    match scalar {
        Scalar::Float(_) if !tensor.is_float() => DType::F32,
        Scalar::Int(_) if tensor == DType::Bool => DType::I64,
        _ => tensor,
    }
}
