//! Tensor maps: how a kernel's tensor copies see a buffer (`CUtensorMap`, CUDA driver API 6.33).
//!
//! A program says what `cuTensorMapEncodeTiled` is to be given, with symbolic sizes; the 128 bytes are
//! encoded when a call's sizes and addresses are known. NVIDIA's rules are checked here as far as they do
//! not depend on the values of symbols; what does is checked when they are bound.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Expr, SymbolRange};

/// Bytes of an encoded tensor map.
pub const TENSOR_MAP_BYTES: u32 = 128;
/// Alignment of a tensor map in a parameter block.
pub const TENSOR_MAP_ALIGN: u32 = 64;
/// Most dimensions.
pub const MAX_RANK: usize = 5;
/// What addresses and strides are multiples of, in bytes.
pub const STRIDE_ALIGN: u64 = 16;
/// Strides are smaller than this, in bytes.
pub const MAX_STRIDE: i64 = 1 << 40;
/// Most elements of a dimension.
pub const MAX_DIM: i64 = 1 << 32;
/// Most elements of a box along a dimension.
pub const MAX_BOX: u32 = 256;
/// Largest element stride.
pub const MAX_ELEMENT_STRIDE: u32 = 8;

/// What `cuTensorMapEncodeTiled` is to be given: a tensor of up to five dimensions in a buffer, and the box
/// that one copy moves. Not interleaved; elements outside of the tensor read as zeros and are not written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorMap {
    /// Index into [`crate::Program::buffers`].
    pub buffer: u32,
    /// Where element 0 is, in bytes from the buffer's start; a multiple of [`STRIDE_ALIGN`].
    pub offset: Expr,
    /// Element type.
    pub data_type: DataType,
    /// Elements per dimension, innermost first.
    pub dims: Vec<Expr>,
    /// Bytes between elements of dimension 1, 2, ...; one fewer than dimensions, multiples of
    /// [`STRIDE_ALIGN`].
    pub strides: Vec<Expr>,
    /// Elements that a box spans per dimension.
    #[serde(rename = "box")]
    pub box_dims: Vec<u32>,
    /// Every how many elements of a box are copied, per dimension; 1 for all.
    pub element_strides: Vec<u32>,
    /// How a box lies in shared memory.
    pub swizzle: Swizzle,
    /// How much the L2 cache fetches at a time: a hint.
    pub l2_promotion: L2Promotion,
}

/// The element type of a tensor map (`CUtensorMapDataType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum DataType {
    U8,
    U16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
    Bf16,
    /// 4 bytes, rounded to tf32 by the copy.
    Tf32,
}

/// How the rows of a box lie in shared memory (`CUtensorMapSwizzle`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Swizzle {
    /// One after the other.
    None,
    /// 16-byte units exchanged in 32 bytes.
    Bytes32,
    /// 16-byte units exchanged in 64 bytes.
    Bytes64,
    /// 16-byte units exchanged in 128 bytes.
    Bytes128,
}

/// How much the L2 cache fetches at a time (`CUtensorMapL2promotion`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum L2Promotion {
    None,
    Bytes64,
    Bytes128,
    Bytes256,
}

impl DataType {
    /// Bytes of an element.
    pub fn bytes(self) -> u32 {
        match self {
            DataType::U8 => 1,
            DataType::U16 | DataType::F16 | DataType::Bf16 => 2,
            DataType::U32 | DataType::I32 | DataType::F32 | DataType::Tf32 => 4,
            DataType::U64 | DataType::I64 | DataType::F64 => 8,
        }
    }

    /// The number of the CUDA driver API.
    pub fn raw(self) -> u32 {
        match self {
            DataType::U8 => 0,
            DataType::U16 => 1,
            DataType::U32 => 2,
            DataType::I32 => 3,
            DataType::U64 => 4,
            DataType::I64 => 5,
            DataType::F16 => 6,
            DataType::F32 => 7,
            DataType::F64 => 8,
            DataType::Bf16 => 9,
            DataType::Tf32 => 11,
        }
    }
}

impl Swizzle {
    /// Most bytes of a box's row; none without swizzle.
    pub fn span(self) -> Option<u32> {
        match self {
            Swizzle::None => None,
            Swizzle::Bytes32 => Some(32),
            Swizzle::Bytes64 => Some(64),
            Swizzle::Bytes128 => Some(128),
        }
    }

    /// The number of the CUDA driver API.
    pub fn raw(self) -> u32 {
        match self {
            Swizzle::None => 0,
            Swizzle::Bytes32 => 1,
            Swizzle::Bytes64 => 2,
            Swizzle::Bytes128 => 3,
        }
    }
}

impl L2Promotion {
    /// The number of the CUDA driver API.
    pub fn raw(self) -> u32 {
        match self {
            L2Promotion::None => 0,
            L2Promotion::Bytes64 => 1,
            L2Promotion::Bytes128 => 2,
            L2Promotion::Bytes256 => 3,
        }
    }
}

impl TensorMap {
    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Bytes from the buffer's start to the end of the last element.
    pub fn end(&self) -> Expr {
        let one = || Expr::constant(1);
        let inner = i64::from(self.data_type.bytes());
        let strides = std::iter::once(Expr::constant(inner)).chain(self.strides.iter().cloned());
        let last =
            self.dims.iter().zip(strides).fold(self.offset.clone(), |sum, (dim, stride)| {
                sum + (dim.clone() - one()) * stride
            });
        last + Expr::constant(inner)
    }

    /// Every expression.
    pub fn expressions(&self) -> impl Iterator<Item = &Expr> {
        std::iter::once(&self.offset).chain(&self.dims).chain(&self.strides)
    }

    /// Checks the rules of `cuTensorMapEncodeTiled`, for symbols in `ranges` and a buffer of `bytes` bytes.
    /// What is not a multiple of 16 for every size is refused here; ranges and the buffer's end are refused
    /// if no size could keep them.
    pub fn check(&self, ranges: &[SymbolRange], bytes: &Expr) -> Result<(), String> {
        let rank = self.rank();
        if rank == 0 || rank > MAX_RANK {
            return Err(format!("has {rank} dimensions; 1 to {MAX_RANK} are allowed"));
        }
        for (what, len, wanted) in [
            ("strides", self.strides.len(), rank - 1),
            ("box sizes", self.box_dims.len(), rank),
            ("element strides", self.element_strides.len(), rank),
        ] {
            if len != wanted {
                return Err(format!("has {len} {what} for {rank} dimensions; it needs {wanted}"));
            }
        }
        if !self.offset.is_multiple_of(STRIDE_ALIGN) {
            return Err(format!(
                "starts at byte `{}`, which is not a multiple of {STRIDE_ALIGN} for every size",
                self.offset
            ));
        }
        if self.offset.bounds(ranges).max < 0 {
            return Err(format!("starts at byte `{}`, before its buffer", self.offset));
        }
        for (i, dim) in self.dims.iter().enumerate() {
            let range = dim.bounds(ranges);
            if range.max < 1 || range.min > MAX_DIM {
                return Err(format!("dimension {i} is `{dim}`; 1 to 2^32 elements are allowed"));
            }
        }
        for (i, stride) in self.strides.iter().enumerate() {
            let dim = i + 1;
            if !stride.is_multiple_of(STRIDE_ALIGN) {
                return Err(format!(
                    "the stride of dimension {dim} is `{stride}` bytes, which is not a multiple of {STRIDE_ALIGN} for every size"
                ));
            }
            let range = stride.bounds(ranges);
            if range.max < 0 || range.min >= MAX_STRIDE {
                return Err(format!(
                    "the stride of dimension {dim} is `{stride}` bytes; it must be less than 2^40 and not negative"
                ));
            }
        }
        for (i, &size) in self.box_dims.iter().enumerate() {
            if size == 0 || size > MAX_BOX {
                return Err(format!("box size {i} is {size}; 1 to {MAX_BOX} are allowed"));
            }
        }
        for (i, &stride) in self.element_strides.iter().enumerate() {
            if stride == 0 || stride > MAX_ELEMENT_STRIDE {
                return Err(format!(
                    "element stride {i} is {stride}; 1 to {MAX_ELEMENT_STRIDE} are allowed"
                ));
            }
        }
        let row = self.box_dims[0] * self.data_type.bytes();
        if !u64::from(row).is_multiple_of(STRIDE_ALIGN) {
            return Err(format!(
                "a row of its box has {row} bytes, which is not a multiple of {STRIDE_ALIGN}"
            ));
        }
        if let Some(span) = self.swizzle.span().filter(|&span| row > span) {
            return Err(format!("a row of its box has {row} bytes; its swizzle allows {span}"));
        }
        let behind = self.end() - bytes.clone();
        if behind.bounds(ranges).min > 0 {
            return Err(format!(
                "ends at byte `{}`, behind the `{bytes}` bytes of its buffer",
                self.end()
            ));
        }
        Ok(())
    }
}

fn list<T: fmt::Display>(values: &[T]) -> String {
    let values: Vec<String> = values.iter().map(T::to_string).collect();
    values.join(", ")
}

/// For people: `bf16 [64, s0], strides [128], box [64, 128], swizzle 128`.
impl fmt::Display for TensorMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.data_type {
            DataType::U8 => "u8",
            DataType::U16 => "u16",
            DataType::U32 => "u32",
            DataType::I32 => "i32",
            DataType::U64 => "u64",
            DataType::I64 => "i64",
            DataType::F16 => "f16",
            DataType::F32 => "f32",
            DataType::F64 => "f64",
            DataType::Bf16 => "bf16",
            DataType::Tf32 => "tf32",
        };
        write!(f, "{name} [{}]", list(&self.dims))?;
        if !self.strides.is_empty() {
            write!(f, ", strides [{}]", list(&self.strides))?;
        }
        write!(f, ", box [{}]", list(&self.box_dims))?;
        if self.element_strides.iter().any(|&s| s != 1) {
            write!(f, ", every [{}]", list(&self.element_strides))?;
        }
        match self.swizzle.span() {
            Some(span) => write!(f, ", swizzle {span}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Symbol;

    const RANGES: [SymbolRange; 1] = [SymbolRange { min: 1, max: 4096 }];

    fn symbol() -> Expr {
        Expr::symbol(Symbol(0))
    }

    /// `bf16 [s0, 64]`, contiguous, in boxes of 128 rows.
    fn map() -> TensorMap {
        TensorMap {
            buffer: 0,
            offset: Expr::constant(0),
            data_type: DataType::Bf16,
            dims: vec![Expr::constant(64), symbol()],
            strides: vec![Expr::constant(128)],
            box_dims: vec![64, 128],
            element_strides: vec![1, 1],
            swizzle: Swizzle::Bytes128,
            l2_promotion: L2Promotion::Bytes256,
        }
    }

    fn check(map: &TensorMap) -> Result<(), String> {
        map.check(&RANGES, &(symbol() * Expr::constant(128)))
    }

    #[test]
    fn a_matrix_of_any_number_of_rows_is_sound() {
        check(&map()).unwrap();
        assert_eq!(map().end(), symbol() * Expr::constant(128));
        assert_eq!(map().to_string(), "bf16 [64, s0], strides [128], box [64, 128], swizzle 128");
    }

    #[test]
    fn each_rule_is_named() {
        type Change<'a> = &'a dyn Fn(&mut TensorMap);
        let c = Expr::constant;
        let cases: [(&str, Change<'_>); 16] = [
            ("has 0 dimensions", &|m| m.dims.clear()),
            ("has 6 dimensions", &|m| m.dims = vec![c(1); 6]),
            ("has 0 strides for 2 dimensions", &|m| m.strides.clear()),
            ("has 1 box sizes", &|m| m.box_dims.truncate(1)),
            ("has 3 element strides", &|m| m.element_strides.push(1)),
            ("starts at byte `2*s0`", &|m| m.offset = symbol() * c(2)),
            ("before its buffer", &|m| m.offset = c(-16)),
            ("dimension 0 is `0`", &|m| m.dims[0] = c(0)),
            ("dimension 1 is `4294967297`", &|m| m.dims[1] = c((1 << 32) + 1)),
            ("stride of dimension 1 is `2*s0` bytes", &|m| m.strides[0] = symbol() * c(2)),
            ("less than 2^40", &|m| m.strides[0] = c(1 << 40)),
            ("box size 1 is 257", &|m| m.box_dims[1] = 257),
            ("element stride 0 is 9", &|m| m.element_strides[0] = 9),
            ("a row of its box has 24 bytes", &|m| m.box_dims[0] = 12),
            ("its swizzle allows 64", &|m| m.swizzle = Swizzle::Bytes64),
            ("behind the `128*s0` bytes of its buffer", &|m| m.offset = c(16)),
        ];
        for (words, change) in cases {
            let mut wrong = map();
            change(&mut wrong);
            let reason = check(&wrong).unwrap_err();
            assert!(reason.contains(words), "`{reason}` does not say `{words}`");
        }
    }

    #[test]
    fn the_text_form_has_the_names_of_the_specification() {
        let text = serde_json::to_string(&map()).unwrap();
        assert_eq!(
            text,
            r#"{"buffer":0,"offset":0,"data_type":"bf16","dims":[64,"s0"],"strides":[128],"box":[64,128],"element_strides":[1,1],"swizzle":"bytes128","l2_promotion":"bytes256"}"#
        );
        assert_eq!(serde_json::from_str::<TensorMap>(&text).unwrap(), map());
    }
}
