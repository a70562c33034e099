//! Tensors as the interpreter holds them: every float as f64, everything else as i64.

use half::{bf16, f16};
use zeroforge_artifact::DType;

use super::{InterpretError, Precision};

/// Elements in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Of a float type.
    Float(Vec<f64>),
    /// Of an integer type or bool (0 or 1).
    Int(Vec<i64>),
}

/// A dense row-major tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Element type.
    pub dtype: DType,
    /// Size per axis.
    pub shape: Vec<usize>,
    /// Elements; as many as the product of `shape`.
    pub data: Data,
}

/// Number of elements; `None` on overflow.
pub(super) fn numel(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |p, &n| p.checked_mul(n))
}

/// Elements between neighbours along each axis.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1usize; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        out[i] = out[i + 1].saturating_mul(shape[i + 1].max(1));
    }
    out
}

/// Calls `f` with every index of a shape, in row-major order.
pub(super) fn each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        f(&index);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// Rounds a float to its type, unless every float is kept in f64.
pub(super) fn round(dtype: DType, precision: Precision, v: f64) -> f64 {
    match (precision, dtype) {
        (Precision::Rounded, DType::F16) => f16::from_f64(v).to_f64(),
        (Precision::Rounded, DType::Bf16) => bf16::from_f64(v).to_f64(),
        (Precision::Rounded, DType::F32) => f64::from(v as f32),
        _ => v,
    }
}

impl Tensor {
    /// A tensor of floats.
    pub(super) fn float(dtype: DType, shape: Vec<usize>, data: Vec<f64>) -> Tensor {
        Tensor { dtype, shape, data: Data::Float(data) }
    }

    /// A tensor of integers or bools.
    pub(super) fn int(dtype: DType, shape: Vec<usize>, data: Vec<i64>) -> Tensor {
        Tensor { dtype, shape, data: Data::Int(data) }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            Data::Float(v) => v.len(),
            Data::Int(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements as floats; integers are converted.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.data {
            Data::Float(v) => v.clone(),
            Data::Int(v) => v.iter().map(|&v| v as f64).collect(),
        }
    }

    pub(super) fn floats(&self) -> Result<&[f64], InterpretError> {
        match &self.data {
            Data::Float(v) => Ok(v),
            Data::Int(_) => Err(InterpretError::internal("floats were expected")),
        }
    }

    pub(super) fn ints(&self) -> Result<&[i64], InterpretError> {
        match &self.data {
            Data::Int(v) => Ok(v),
            Data::Float(_) => Err(InterpretError::internal("integers were expected")),
        }
    }

    /// The tensor whose element `i` is element `sources[i]` of this one, or `fill` where that is
    /// `None`.
    pub(super) fn pick(
        &self,
        shape: Vec<usize>,
        sources: &[Option<usize>],
        fill: f64,
    ) -> Result<Tensor, InterpretError> {
        let outside = || InterpretError::internal("an index is out of range");
        let data = match &self.data {
            Data::Float(v) => Data::Float(
                sources
                    .iter()
                    .map(|s| s.map_or(Some(fill), |s| v.get(s).copied()))
                    .collect::<Option<_>>()
                    .ok_or_else(outside)?,
            ),
            Data::Int(v) => Data::Int(
                sources
                    .iter()
                    .map(|s| s.map_or(Some(fill as i64), |s| v.get(s).copied()))
                    .collect::<Option<_>>()
                    .ok_or_else(outside)?,
            ),
        };
        Ok(Tensor { dtype: self.dtype, shape, data })
    }

    /// As [`Tensor::pick`] with a source for every index of the result.
    pub(super) fn pick_by(
        &self,
        shape: Vec<usize>,
        mut source: impl FnMut(&[usize]) -> Option<usize>,
    ) -> Result<Tensor, InterpretError> {
        let mut sources = Vec::with_capacity(numel(&shape).unwrap_or(0));
        each_index(&shape, |index| sources.push(source(index)));
        self.pick(shape, &sources, 0.0)
    }

    /// Broadcast to a shape.
    pub(super) fn expand(&self, shape: &[usize]) -> Result<Tensor, InterpretError> {
        if self.shape == shape {
            return Ok(self.clone());
        }
        let skip = shape.len().checked_sub(self.shape.len());
        let skip = skip.ok_or_else(|| InterpretError::internal("expand drops axes"))?;
        let steps: Vec<usize> = strides(&self.shape)
            .into_iter()
            .zip(&self.shape)
            .map(|(s, &n)| if n == 1 { 0 } else { s })
            .collect();
        self.pick_by(shape.to_vec(), |index| {
            Some(index[skip..].iter().zip(&steps).map(|(i, s)| i * s).sum())
        })
    }

    /// From row-major little-endian bytes; `None` if they are not exactly the tensor's.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Option<Tensor> {
        fn each<const N: usize, T>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
            bytes.as_chunks::<N>().0.iter().map(|c| f(*c)).collect()
        }
        if numel(shape)?.checked_mul(dtype.size())? != bytes.len() {
            return None;
        }
        let data = match dtype {
            DType::Bool => Data::Int(each(bytes, |[v]: [u8; 1]| i64::from(v != 0))),
            DType::U8 => Data::Int(each(bytes, |[v]: [u8; 1]| i64::from(v))),
            DType::I8 => Data::Int(each(bytes, |v| i8::from_le_bytes(v).into())),
            DType::I16 => Data::Int(each(bytes, |v| i16::from_le_bytes(v).into())),
            DType::I32 => Data::Int(each(bytes, |v| i32::from_le_bytes(v).into())),
            DType::I64 => Data::Int(each(bytes, i64::from_le_bytes)),
            DType::F16 => Data::Float(each(bytes, |v| f16::from_le_bytes(v).to_f64())),
            DType::Bf16 => Data::Float(each(bytes, |v| bf16::from_le_bytes(v).to_f64())),
            DType::F32 => Data::Float(each(bytes, |v| f32::from_le_bytes(v).into())),
            DType::F64 => Data::Float(each(bytes, f64::from_le_bytes)),
        };
        Some(Tensor { dtype, shape: shape.to_vec(), data })
    }

    /// Row-major little-endian bytes, floats rounded to the type.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() * self.dtype.size());
        match &self.data {
            Data::Float(values) => {
                for &v in values {
                    match self.dtype {
                        DType::F16 => out.extend(f16::from_f64(v).to_le_bytes()),
                        DType::Bf16 => out.extend(bf16::from_f64(v).to_le_bytes()),
                        DType::F32 => out.extend((v as f32).to_le_bytes()),
                        _ => out.extend(v.to_le_bytes()),
                    }
                }
            }
            Data::Int(values) => {
                for &v in values {
                    out.extend_from_slice(&v.to_le_bytes()[..self.dtype.size()]);
                }
            }
        }
        out
    }
}
