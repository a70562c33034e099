//! Tensor maps: what `cuTensorMapEncodeTiled` makes and tensor copies read (PTX ISA 5.5.8, CUDA driver API).
//!
//! NVIDIA does not document the 128 bytes; ours hold the arguments, a magic number and a checksum, so that
//! a map survives being passed by value or copied through device memory, and anything else is recognised.

use std::ops::Range;

/// Bytes of an encoded tensor map.
pub const TENSOR_MAP_BYTES: usize = 128;
/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 5;

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant = $number,)*
        }

        impl $name {
            /// The value that the CUDA driver API gives this number.
            pub fn from_raw(number: u32) -> Option<$name> {
                match number {
                    $($number => Some($name::$variant),)*
                    _ => None,
                }
            }

            /// The number that the CUDA driver API gives it.
            pub fn raw(self) -> u32 {
                self as u32
            }
        }
    };
}

numbered! {
    /// `CUtensorMapDataType`.
    #[allow(missing_docs, reason = "the names are CUDA's own")]
    DataType {
        Uint8 = 0,
        Uint16 = 1,
        Uint32 = 2,
        Int32 = 3,
        Uint64 = 4,
        Int64 = 5,
        Float16 = 6,
        Float32 = 7,
        Float64 = 8,
        Bfloat16 = 9,
        Float32Ftz = 10,
        Tfloat32 = 11,
        Tfloat32Ftz = 12,
        /// Packed 4-bit values, for later cards.
        Packed16U4Align8B = 13,
        /// Packed 4-bit values, for later cards.
        Packed16U4Align16B = 14,
        /// Packed 6-bit values, for later cards.
        Packed16U6Align16B = 15,
    }
}

numbered! {
    /// `CUtensorMapInterleave`.
    Interleave {
        /// Elements in the order of dimension 0.
        None = 0,
        /// Slices of 16 bytes (NC/8HWC8).
        Bytes16 = 1,
        /// Slices of 32 bytes (NC/16HWC16).
        Bytes32 = 2,
    }
}

numbered! {
    /// `CUtensorMapSwizzle`.
    Swizzle {
        /// Rows lie one after the other.
        None = 0,
        /// 16-byte units exchanged in 32 bytes.
        Bytes32 = 1,
        /// 16-byte units exchanged in 64 bytes.
        Bytes64 = 2,
        /// 16-byte units exchanged in 128 bytes.
        Bytes128 = 3,
        /// 32-byte units exchanged in 128 bytes.
        Bytes128Atom32 = 4,
        /// The same, with 8-byte halves exchanged.
        Bytes128Atom32Flip8 = 5,
        /// 64-byte units exchanged in 128 bytes.
        Bytes128Atom64 = 6,
    }
}

numbered! {
    /// `CUtensorMapL2promotion`: a hint.
    #[allow(missing_docs, reason = "the names are CUDA's own")]
    L2Promotion {
        None = 0,
        Bytes64 = 1,
        Bytes128 = 2,
        Bytes256 = 3,
    }
}

numbered! {
    /// `CUtensorMapFloatOOBfill`: what loads give outside of the tensor.
    OobFill {
        /// Zero.
        Zero = 0,
        /// A NaN that multiplies and adds to zero.
        NanRequestZeroFma = 1,
    }
}

impl DataType {
    /// Bytes of an element; of the packed types, of the smallest unit that can be addressed.
    pub fn bytes(self) -> u32 {
        match self {
            DataType::Uint8
            | DataType::Packed16U4Align8B
            | DataType::Packed16U4Align16B
            | DataType::Packed16U6Align16B => 1,
            DataType::Uint16 | DataType::Float16 | DataType::Bfloat16 => 2,
            DataType::Uint32
            | DataType::Int32
            | DataType::Float32
            | DataType::Float32Ftz
            | DataType::Tfloat32
            | DataType::Tfloat32Ftz => 4,
            DataType::Uint64 | DataType::Int64 | DataType::Float64 => 8,
        }
    }

    /// Whether elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            DataType::Float16
                | DataType::Float32
                | DataType::Float64
                | DataType::Bfloat16
                | DataType::Float32Ftz
                | DataType::Tfloat32
                | DataType::Tfloat32Ftz
        )
    }

    fn is_packed(self) -> bool {
        matches!(
            self,
            DataType::Packed16U4Align8B
                | DataType::Packed16U4Align16B
                | DataType::Packed16U6Align16B
        )
    }
}

impl Swizzle {
    /// Bytes in which units are exchanged; rows of a box may not be longer. None without swizzle.
    pub fn span(self) -> Option<u32> {
        match self {
            Swizzle::None => None,
            Swizzle::Bytes32 => Some(32),
            Swizzle::Bytes64 => Some(64),
            _ => Some(128),
        }
    }

    /// The address bits that are exchanged: `a ^ ((a >> 3) & mask)` on shared addresses (PTX ISA 5.5.7).
    pub fn mask(self) -> u32 {
        match self {
            Swizzle::Bytes32 => 0x10,
            Swizzle::Bytes64 => 0x30,
            Swizzle::Bytes128 => 0x70,
            _ => 0,
        }
    }
}

/// What is wrong with the arguments of a tensor map. The names are those of `cuTensorMapEncodeTiled`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorMapError {
    /// An argument breaks a rule of the driver API.
    #[error("{argument}: {reason}")]
    Invalid {
        /// The argument: `boxDim`.
        argument: &'static str,
        /// Its index, of array arguments.
        index: Option<usize>,
        /// The value, and the rule.
        reason: String,
    },
    /// The driver would take it, the emulator has not got it.
    #[error("{argument}: {reason}")]
    Unsupported {
        /// The argument.
        argument: &'static str,
        /// What is not emulated.
        reason: String,
    },
    /// 128 bytes that are no tensor map.
    #[error("{0}")]
    NotATensorMap(&'static str),
}

/// The arguments of `cuTensorMapEncodeTiled`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TiledArguments<'a> {
    /// `tensorDataType`.
    pub dtype: DataType,
    /// `globalAddress`.
    pub address: u64,
    /// `globalDim`: elements per dimension, innermost first; its length is `tensorRank`.
    pub dims: &'a [u64],
    /// `globalStrides`: bytes between elements of dimension 1, 2, ...; one fewer than dimensions.
    pub strides: &'a [u64],
    /// `boxDim`: elements that a box spans.
    pub box_dims: &'a [u32],
    /// `elementStrides`: every how many elements are copied.
    pub element_strides: &'a [u32],
    /// `interleave`.
    pub interleave: Interleave,
    /// `swizzle`.
    pub swizzle: Swizzle,
    /// `l2Promotion`.
    pub l2_promotion: L2Promotion,
    /// `oobFill`.
    pub oob_fill: OobFill,
}

/// A valid tiled tensor map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorMap {
    dtype: DataType,
    rank: u32,
    address: u64,
    dims: [u64; MAX_RANK],
    strides: [u64; MAX_RANK - 1],
    box_dims: [u32; MAX_RANK],
    element_strides: [u32; MAX_RANK],
    interleave: Interleave,
    swizzle: Swizzle,
    l2_promotion: L2Promotion,
    oob_fill: OobFill,
}

fn invalid(argument: &'static str, reason: String) -> TensorMapError {
    TensorMapError::Invalid { argument, index: None, reason }
}

fn invalid_at(argument: &'static str, index: usize, reason: String) -> TensorMapError {
    let reason = format!("[{index}] = {reason}");
    TensorMapError::Invalid { argument, index: Some(index), reason }
}

impl TensorMap {
    /// Validates arguments as the driver does. Interleaved layouts, the packed types and the swizzles of
    /// larger units are valid there and refused here as not emulated.
    pub fn tiled(a: &TiledArguments<'_>) -> Result<TensorMap, TensorMapError> {
        let rank = a.dims.len();
        if rank == 0 || rank > MAX_RANK {
            return Err(invalid("tensorRank", format!("{rank}; 1 to 5 are allowed")));
        }
        for (argument, len, wanted) in [
            ("globalStrides", a.strides.len(), rank - 1),
            ("boxDim", a.box_dims.len(), rank),
            ("elementStrides", a.element_strides.len(), rank),
        ] {
            if len != wanted {
                return Err(invalid(
                    argument,
                    format!("{len} values for rank {rank}; it needs {wanted}"),
                ));
            }
        }
        if a.interleave != Interleave::None && rank < 3 {
            return Err(invalid(
                "tensorRank",
                format!("{rank}; interleaved tensors have 3 or more dimensions"),
            ));
        }
        let wide = a.interleave == Interleave::Bytes32
            || matches!(a.dtype, DataType::Packed16U4Align16B | DataType::Packed16U6Align16B);
        let align = if wide { 32 } else { 16 };
        if a.address == 0 {
            return Err(invalid("globalAddress", "null".to_owned()));
        }
        if !a.address.is_multiple_of(align) {
            return Err(invalid(
                "globalAddress",
                format!("{:#x} is not a multiple of {align} bytes", a.address),
            ));
        }
        for (i, &dim) in a.dims.iter().enumerate() {
            if dim == 0 || dim > 1 << 32 {
                return Err(invalid_at("globalDim", i, format!("{dim}; 1 to 2^32 are allowed")));
            }
        }
        for (i, &stride) in a.strides.iter().enumerate() {
            if !stride.is_multiple_of(align) || stride >= 1 << 40 {
                return Err(invalid_at(
                    "globalStrides",
                    i,
                    format!("{stride} bytes; it must be a multiple of {align} and below 2^40"),
                ));
            }
        }
        for (i, &size) in a.box_dims.iter().enumerate() {
            if size == 0 || size > 256 {
                return Err(invalid_at("boxDim", i, format!("{size}; 1 to 256 are allowed")));
            }
        }
        for (i, &stride) in a.element_strides.iter().enumerate() {
            if stride == 0 || stride > 8 {
                return Err(invalid_at(
                    "elementStrides",
                    i,
                    format!("{stride}; 1 to 8 are allowed"),
                ));
            }
        }
        if a.interleave == Interleave::Bytes32 && a.swizzle != Swizzle::Bytes32 {
            return Err(invalid(
                "swizzle",
                "tensors interleaved by 32 bytes need the swizzle of 32 bytes".to_owned(),
            ));
        }
        let row = a.box_dims[0] * a.dtype.bytes();
        if a.interleave == Interleave::None {
            if !row.is_multiple_of(16) {
                return Err(invalid_at(
                    "boxDim",
                    0,
                    format!(
                        "{}: a row of the box takes {row} bytes; it must be a multiple of 16",
                        a.box_dims[0]
                    ),
                ));
            }
            if let Some(span) = a.swizzle.span().filter(|&span| row > span) {
                return Err(invalid_at(
                    "boxDim",
                    0,
                    format!(
                        "{}: a row of the box takes {row} bytes; this swizzle allows {span}",
                        a.box_dims[0]
                    ),
                ));
            }
        }
        if a.oob_fill == OobFill::NanRequestZeroFma && !a.dtype.is_float() {
            return Err(invalid("oobFill", format!("elements of type {:?} have no NaN", a.dtype)));
        }
        let unsupported = |argument, reason: &str| {
            Err(TensorMapError::Unsupported { argument, reason: reason.to_owned() })
        };
        if a.interleave != Interleave::None {
            return unsupported("interleave", "interleaved tensors are not emulated");
        }
        if a.dtype.is_packed() {
            return unsupported("tensorDataType", "packed 4- and 6-bit types are not on Hopper");
        }
        if matches!(
            a.swizzle,
            Swizzle::Bytes128Atom32 | Swizzle::Bytes128Atom32Flip8 | Swizzle::Bytes128Atom64
        ) {
            return unsupported("swizzle", "only swizzles of 16-byte units are emulated");
        }
        let mut map = TensorMap {
            dtype: a.dtype,
            rank: rank as u32,
            address: a.address,
            dims: [1; MAX_RANK],
            strides: [0; MAX_RANK - 1],
            box_dims: [1; MAX_RANK],
            element_strides: [1; MAX_RANK],
            interleave: a.interleave,
            swizzle: a.swizzle,
            l2_promotion: a.l2_promotion,
            oob_fill: a.oob_fill,
        };
        map.dims[..rank].copy_from_slice(a.dims);
        map.strides[..rank - 1].copy_from_slice(a.strides);
        map.box_dims[..rank].copy_from_slice(a.box_dims);
        map.element_strides[..rank].copy_from_slice(a.element_strides);
        // Without interleaving the stride of dimension 0 is ignored (CUDA driver API).
        map.element_strides[0] = 1;
        Ok(map)
    }

    /// Element type.
    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// Address of element 0.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Elements per dimension, innermost first.
    pub fn dims(&self) -> &[u64] {
        &self.dims[..self.rank()]
    }

    /// Bytes between elements of dimension 1, 2, ...
    pub fn strides(&self) -> &[u64] {
        &self.strides[..self.rank() - 1]
    }

    /// Elements that a box spans.
    pub fn box_dims(&self) -> &[u32] {
        &self.box_dims[..self.rank()]
    }

    /// Every how many elements are copied.
    pub fn element_strides(&self) -> &[u32] {
        &self.element_strides[..self.rank()]
    }

    /// Swizzle of shared memory.
    pub fn swizzle(&self) -> Swizzle {
        self.swizzle
    }

    /// What loads give outside of the tensor.
    pub fn oob_fill(&self) -> OobFill {
        self.oob_fill
    }

    /// Elements of a box in shared memory: of what it spans, every `elementStrides`-th.
    pub fn box_elements(&self) -> [u32; MAX_RANK] {
        std::array::from_fn(|i| self.box_dims[i].div_ceil(self.element_strides[i]))
    }

    /// Bytes of a box in shared memory: what a load completes on its mbarrier, elements outside of the
    /// tensor included. More than 2^32 - 1 bytes, which no shared memory holds, count as that.
    pub fn box_bytes(&self) -> u32 {
        let elements = self.box_elements().iter().map(|&n| u64::from(n)).product::<u64>();
        u32::try_from(elements * u64::from(self.dtype.bytes())).unwrap_or(u32::MAX)
    }

    /// The 128 bytes.
    pub fn encode(&self) -> [u8; TENSOR_MAP_BYTES] {
        Fields {
            dtype: self.dtype.raw() as u8,
            rank: self.rank as u8,
            interleave: self.interleave.raw() as u8,
            swizzle: self.swizzle.raw() as u8,
            l2_promotion: self.l2_promotion.raw() as u8,
            oob_fill: self.oob_fill.raw() as u8,
            address: self.address,
            dims: self.dims,
            strides: self.strides,
            box_dims: self.box_dims,
            element_strides: self.element_strides,
        }
        .to_bytes()
    }

    /// Reads 128 bytes that [`encode`](Self::encode) made, or that a kernel made with `tensormap.replace`.
    pub fn decode(bytes: &[u8; TENSOR_MAP_BYTES]) -> Result<TensorMap, TensorMapError> {
        let f = Fields::from_bytes(bytes)?;
        let broken = TensorMapError::NotATensorMap("the tensor map has fields out of range");
        let rank = usize::from(f.rank);
        if rank == 0 || rank > MAX_RANK {
            return Err(broken);
        }
        let (Some(dtype), Some(interleave), Some(swizzle), Some(l2_promotion), Some(oob_fill)) = (
            DataType::from_raw(f.dtype.into()),
            Interleave::from_raw(f.interleave.into()),
            Swizzle::from_raw(f.swizzle.into()),
            L2Promotion::from_raw(f.l2_promotion.into()),
            OobFill::from_raw(f.oob_fill.into()),
        ) else {
            return Err(broken);
        };
        // The checksum keeps no one from making a map by hand: the rules hold all the same.
        TensorMap::tiled(&TiledArguments {
            dtype,
            address: f.address,
            dims: &f.dims[..rank],
            strides: &f.strides[..rank - 1],
            box_dims: &f.box_dims[..rank],
            element_strides: &f.element_strides[..rank],
            interleave,
            swizzle,
            l2_promotion,
            oob_fill,
        })
    }
}

/// The fields of the 128 bytes, valid or not: kernels change them one by one (PTX ISA 9.7.9.27).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    pub(crate) dtype: u8,
    pub(crate) rank: u8,
    pub(crate) interleave: u8,
    pub(crate) swizzle: u8,
    l2_promotion: u8,
    pub(crate) oob_fill: u8,
    pub(crate) address: u64,
    pub(crate) dims: [u64; MAX_RANK],
    pub(crate) strides: [u64; MAX_RANK - 1],
    pub(crate) box_dims: [u32; MAX_RANK],
    pub(crate) element_strides: [u32; MAX_RANK],
}

impl Fields {
    /// What a kernel starts from: it fills the 128 bytes with zeros and sets all fields.
    const EMPTY: Fields = Fields {
        dtype: 0,
        rank: 0,
        interleave: 0,
        swizzle: 0,
        l2_promotion: 0,
        oob_fill: 0,
        address: 0,
        dims: [1; MAX_RANK],
        strides: [0; MAX_RANK - 1],
        box_dims: [1; MAX_RANK],
        element_strides: [1; MAX_RANK],
    };

    pub(crate) fn to_bytes(self) -> [u8; TENSOR_MAP_BYTES] {
        let mut out = [0; TENSOR_MAP_BYTES];
        out[MAGIC_AT].copy_from_slice(&MAGIC);
        out[8] = self.dtype;
        out[9] = self.rank;
        out[10] = self.interleave;
        out[11] = self.swizzle;
        out[12] = self.l2_promotion;
        out[13] = self.oob_fill;
        out[ADDRESS].copy_from_slice(&self.address.to_le_bytes());
        for (i, &dim) in self.dims.iter().enumerate() {
            // 2^32 is allowed, 0 is not.
            let less = dim.wrapping_sub(1) as u32;
            out[field(DIMS, 4, i)].copy_from_slice(&less.to_le_bytes());
        }
        for (i, &stride) in self.strides.iter().enumerate() {
            out[field(STRIDES, 5, i)].copy_from_slice(&stride.to_le_bytes()[..5]);
        }
        for (i, &size) in self.box_dims.iter().enumerate() {
            out[field(BOX, 2, i)].copy_from_slice(&(size as u16).to_le_bytes());
        }
        for (i, &stride) in self.element_strides.iter().enumerate() {
            out[ELEMENT_STRIDES + i] = stride as u8;
        }
        let sum = checksum(&out[..CHECKSUM.start]);
        out[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
        out
    }

    pub(crate) fn from_bytes(bytes: &[u8; TENSOR_MAP_BYTES]) -> Result<Fields, TensorMapError> {
        if bytes[MAGIC_AT] != MAGIC {
            return Err(TensorMapError::NotATensorMap(
                "the 128 bytes are not a tensor map that this driver encoded",
            ));
        }
        if number(&bytes[CHECKSUM]) != checksum(&bytes[..CHECKSUM.start]) {
            return Err(TensorMapError::NotATensorMap(
                "the tensor map was changed after it was encoded: its checksum is wrong",
            ));
        }
        Ok(Fields {
            dtype: bytes[8],
            rank: bytes[9],
            interleave: bytes[10],
            swizzle: bytes[11],
            l2_promotion: bytes[12],
            oob_fill: bytes[13],
            address: number(&bytes[ADDRESS]),
            dims: std::array::from_fn(|i| number(&bytes[field(DIMS, 4, i)]) + 1),
            strides: std::array::from_fn(|i| number(&bytes[field(STRIDES, 5, i)])),
            box_dims: std::array::from_fn(|i| number(&bytes[field(BOX, 2, i)]) as u32),
            element_strides: std::array::from_fn(|i| u32::from(bytes[ELEMENT_STRIDES + i])),
        })
    }

    /// As [`from_bytes`](Self::from_bytes); zeros are the start of a map that a kernel makes.
    pub(crate) fn to_change(bytes: &[u8; TENSOR_MAP_BYTES]) -> Result<Fields, TensorMapError> {
        match bytes.iter().all(|&b| b == 0) {
            true => Ok(Fields::EMPTY),
            false => Fields::from_bytes(bytes),
        }
    }
}

// Where the fields are. Bytes 8 to 13 are type, rank, interleave, swizzle, promotion and fill.
const MAGIC: [u8; 8] = *b"zf-tmap1";
const MAGIC_AT: Range<usize> = 0..8;
const ADDRESS: Range<usize> = 16..24;
const DIMS: usize = 24;
const STRIDES: usize = 44;
const BOX: usize = 64;
const ELEMENT_STRIDES: usize = 74;
const CHECKSUM: Range<usize> = 120..128;

fn field(start: usize, size: usize, index: usize) -> Range<usize> {
    start + size * index..start + size * (index + 1)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| {
        (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
