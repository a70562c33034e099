//! Tensors in host memory.

use zeroforge_artifact::DType;

use crate::RunError;

/// A dense row-major tensor, its bytes little-endian and aligned for any vector load.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<i64>,
    data: AlignedBytes,
}

/// Bytes aligned to 64.
#[derive(Clone, Debug, PartialEq)]
struct AlignedBytes {
    blocks: Vec<Block>,
    len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
struct Block([u8; 64]);

impl AlignedBytes {
    /// `None` if the machine has not that much memory.
    fn zeros(len: usize) -> Option<AlignedBytes> {
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(len.div_ceil(64)).ok()?;
        blocks.resize(len.div_ceil(64), Block([0; 64]));
        Some(AlignedBytes { blocks, len })
    }

    fn as_ptr(&self) -> *const u8 {
        self.blocks.as_ptr().cast()
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.blocks.as_mut_ptr().cast()
    }
}

impl Tensor {
    /// A tensor of zeros; an error if its size overflows or is negative.
    pub fn zeros(dtype: DType, shape: &[i64]) -> Result<Tensor, RunError> {
        let len = byte_len(dtype, shape).ok_or_else(|| {
            RunError::Tensor(format!("a tensor of {dtype} and shape {shape:?} cannot exist"))
        })?;
        let data = AlignedBytes::zeros(len).ok_or_else(|| {
            RunError::Tensor(format!(
                "a tensor of {dtype} and shape {shape:?} needs {len} bytes, more memory than there is"
            ))
        })?;
        Ok(Tensor { dtype, shape: shape.to_vec(), data })
    }

    /// A tensor from row-major bytes.
    pub fn from_bytes(dtype: DType, shape: &[i64], bytes: &[u8]) -> Result<Tensor, RunError> {
        if byte_len(dtype, shape) != Some(bytes.len()) {
            return Err(RunError::Tensor(format!(
                "{} bytes do not make a tensor of {dtype} and shape {shape:?}",
                bytes.len()
            )));
        }
        // Kernels rely on it.
        if dtype == DType::Bool
            && let Some(at) = bytes.iter().position(|b| *b > 1)
        {
            let found = bytes[at];
            return Err(RunError::Tensor(format!("element {at} is {found}; a bool is 0 or 1")));
        }
        let mut tensor = Tensor::zeros(dtype, shape)?;
        tensor.bytes_mut().copy_from_slice(bytes);
        Ok(tensor)
    }

    /// A tensor of f32 values.
    pub fn from_f32(shape: &[i64], values: &[f32]) -> Result<Tensor, RunError> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::from_bytes(DType::F32, shape, &bytes)
    }

    /// A tensor of i64 values.
    pub fn from_i64(shape: &[i64], values: &[i64]) -> Result<Tensor, RunError> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::from_bytes(DType::I64, shape, &bytes)
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape.
    pub fn shape(&self) -> &[i64] {
        &self.shape
    }

    /// Row-major bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `blocks` owns at least `len` initialised bytes.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.data.len) }
    }

    /// Row-major bytes, for writing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.data.len;
        // SAFETY: as in `bytes`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_mut_ptr(), len) }
    }

    /// Every element as f64, whatever the type; exact for all but large 64-bit integers.
    pub fn to_f64(&self) -> Vec<f64> {
        fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            bytes.as_chunks::<N>().0.iter().map(|c| f(*c)).collect()
        }
        let b = self.bytes();
        match self.dtype {
            DType::Bool | DType::U8 => each(b, |[v]: [u8; 1]| v.into()),
            DType::I8 => each(b, |v| i8::from_le_bytes(v).into()),
            DType::I16 => each(b, |v| i16::from_le_bytes(v).into()),
            DType::I32 => each(b, |v| i32::from_le_bytes(v).into()),
            DType::I64 => each(b, |v| i64::from_le_bytes(v) as f64),
            DType::F16 => each(b, |v| half::f16::from_le_bytes(v).to_f64()),
            DType::Bf16 => each(b, |v| half::bf16::from_le_bytes(v).to_f64()),
            DType::F32 => each(b, |v| f32::from_le_bytes(v).into()),
            DType::F64 => each(b, f64::from_le_bytes),
        }
    }
}

/// Bytes of a tensor; `None` if a size is negative or the product overflows.
pub fn byte_len(dtype: DType, shape: &[i64]) -> Option<usize> {
    shape
        .iter()
        .try_fold(dtype.size(), |product, &n| product.checked_mul(usize::try_from(n).ok()?))
        .filter(|&n| n <= isize::MAX as usize)
}
