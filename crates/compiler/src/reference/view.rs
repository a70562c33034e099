//! Typed elements of memory, and the parameter blocks of `abi.h`.

use half::{bf16, f16};
use zeroforge_artifact::DType;

use super::{Fault, Memory};

/// A parameter block.
#[derive(Clone, Copy)]
pub(super) struct Block<'a>(pub(super) &'a [u8]);

impl Block<'_> {
    fn word<const N: usize>(self, at: usize) -> Result<[u8; N], Fault> {
        let bytes = self.0.get(at..at + N).and_then(|b| b.try_into().ok());
        bytes.ok_or(Fault::Params(at + N))
    }

    pub(super) fn u64(self, at: usize) -> Result<u64, Fault> {
        self.word(at).map(u64::from_le_bytes)
    }

    pub(super) fn i64(self, at: usize) -> Result<i64, Fault> {
        self.word(at).map(i64::from_le_bytes)
    }

    pub(super) fn f32(self, at: usize) -> Result<f32, Fault> {
        self.word(at).map(f32::from_le_bytes)
    }

    /// The four strides of a `zf_operand` that lies at `at`.
    pub(super) fn strides(self, at: usize) -> Result<[i64; 4], Fault> {
        Ok([self.i64(at + 8)?, self.i64(at + 16)?, self.i64(at + 24)?, self.i64(at + 32)?])
    }
}

/// An operand's memory.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    operand: u32,
    pub(super) dtype: DType,
    address: u64,
    /// Bytes from the region's start to the operand's address.
    skew: i64,
    bytes: &'a [u8],
}

impl<'a> View<'a> {
    pub(super) fn new(
        memory: &'a dyn Memory,
        operand: u32,
        dtype: DType,
        address: u64,
    ) -> View<'a> {
        // An operand without elements may point behind its memory.
        let (start, bytes) = memory.region(address).unwrap_or((address, &[]));
        View { operand, dtype, address, skew: address.wrapping_sub(start) as i64, bytes }
    }

    fn offset(&self, index: i64) -> Result<usize, Fault> {
        let size = self.dtype.size();
        let at = index.checked_mul(size as i64).and_then(|at| at.checked_add(self.skew));
        at.and_then(|at| usize::try_from(at).ok())
            .filter(|&at| at <= self.bytes.len() && size <= self.bytes.len() - at)
            .ok_or(Fault::Outside {
                operand: self.operand,
                dtype: self.dtype,
                index,
                skew: self.skew,
                len: self.bytes.len(),
            })
    }

    /// The address of an element, which lies in the operand's memory.
    pub(super) fn address(&self, index: i64) -> Result<u64, Fault> {
        self.offset(index)?;
        Ok(self.address.wrapping_add((index as u64).wrapping_mul(self.dtype.size() as u64)))
    }

    pub(super) fn float(&self, index: i64) -> Result<f64, Fault> {
        let at = self.offset(index)?;
        Ok(float(self.dtype, &self.bytes[at..]))
    }

    pub(super) fn int(&self, index: i64) -> Result<i64, Fault> {
        let at = self.offset(index)?;
        Ok(int(self.dtype, &self.bytes[at..]))
    }
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

fn float(dtype: DType, bytes: &[u8]) -> f64 {
    match dtype {
        DType::F16 => f16::from_le_bytes(first(bytes)).to_f64(),
        DType::Bf16 => bf16::from_le_bytes(first(bytes)).to_f64(),
        DType::F32 => f32::from_le_bytes(first(bytes)).into(),
        _ => f64::from_le_bytes(first(bytes)),
    }
}

fn int(dtype: DType, bytes: &[u8]) -> i64 {
    match dtype {
        DType::Bool => i64::from(bytes.first().is_some_and(|&b| b != 0)),
        DType::U8 => i64::from(bytes.first().copied().unwrap_or(0)),
        DType::I8 => i8::from_le_bytes(first(bytes)).into(),
        DType::I16 => i16::from_le_bytes(first(bytes)).into(),
        DType::I32 => i32::from_le_bytes(first(bytes)).into(),
        _ => i64::from_le_bytes(first(bytes)),
    }
}

/// The element at the start of some bytes, for messages: any type as f64.
pub fn element(dtype: DType, bytes: &[u8]) -> f64 {
    match dtype.is_float() {
        true => float(dtype, bytes),
        false => int(dtype, bytes) as f64,
    }
}

/// The integer at the start of some bytes.
pub(super) fn integer(dtype: DType, bytes: &[u8]) -> i64 {
    int(dtype, bytes)
}
