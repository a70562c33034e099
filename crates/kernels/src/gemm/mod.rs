//! Matrix products and convolutions by tensor copies and wgmma: the host half of `kernels/gemm/tensor_gemm.cuh`.
//!
//! `C[b0, b1, m, n] = epilogue(sum_k A[b0, b1, m, k] * B[b0, b1, k, n])`. A [`Spec`] says what is computed, a
//! [`Variant`] how; [`instance`] makes the kernel's source of both, [`plan`] its launch for [`Arguments`] whose sizes
//! may be symbolic. [`select`] names a variant for a size.
//!
//! Forms of the product:
//! - batched: two batch axes, either shared by an operand whose stride is zero;
//! - grouped (mixture of experts): rows of A lie in groups one behind the other, their ends on the device; every
//!   group has its own B;
//! - gated: B's columns are two halves, `C = activation(A * B_first) * (A * B_second)`;
//! - block scales (e4m3): one f32 per row of A and 128 of K, one per 128 columns of B and 128 of K;
//! - f32, as tf32 products: [`tf32`]; few rows, bound by memory: [`skinny`];
//! - convolution of 1 to 3 dimensions: A is an image with contiguous channels, B filters `[filter, tap, channel]`, C
//!   `[image, z, y, x, filter]`; padding is what tensor copies read outside of the image.

mod contract;
mod epilogue;
mod plan;
mod product;
mod select;
pub mod skinny;
mod source;
pub mod tf32;
mod variant;

pub use epilogue::{Activation, Epilogue, Extra, Step};
pub use plan::{Arguments, Images, Operand, plan};
pub use product::{Product, Weights};
pub use select::select;
pub use source::instance;
pub use variant::{Schedule, Variant, variants};

/// Name of the family in refusals.
const FAMILY: &str = "gemm";
/// Bytes of counters that a kernel of a variant with `split` takes; zero before a launch and after it.
pub const COUNTER_BYTES: u64 = (MAX_SPLIT_BLOCKS * 2 * 4) as u64;
/// Most blocks that share tiles (`zf::MAX_SPLIT_BLOCKS`).
const MAX_SPLIT_BLOCKS: i64 = 144;
/// Least depth of a part of a tile in blocks of K (`zf::MIN_PART_BLOCKS`).
const MIN_PART_BLOCKS: i64 = 2;
/// Bytes of K that a slot holds of each row: one swizzled row of shared memory.
const SWIZZLE_BYTES: i64 = 128;
/// Rows of an accumulator (`zf::UNIT_ROWS`).
const UNIT_ROWS: i64 = 64;
/// K of a block scale.
pub const SCALE_BLOCK: i64 = 128;

/// The type of an operand or result in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// bfloat16.
    Bf16,
    /// IEEE 754 binary16.
    F16,
    /// 8-bit float with 4 bits of exponent, no infinities (OCP 8-bit floating point).
    E4m3,
    /// Signed 8-bit integer; sums are i32.
    I8,
    /// IEEE 754 binary32; results and extra operands only.
    F32,
    /// Signed 32-bit integer; results and extra operands only.
    I32,
}

impl std::fmt::Display for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Element::Bf16 => "bf16",
            Element::F16 => "f16",
            Element::E4m3 => "e4m3",
            Element::I8 => "i8",
            Element::F32 => "f32",
            Element::I32 => "i32",
        })
    }
}

impl Element {
    /// Bytes of an element.
    pub const fn bytes(self) -> i64 {
        match self {
            Element::Bf16 | Element::F16 => 2,
            Element::E4m3 | Element::I8 => 1,
            Element::F32 | Element::I32 => 4,
        }
    }

    /// Its C++ type.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Element::Bf16 => "zf_bf16",
            Element::F16 => "zf_f16",
            Element::E4m3 => "zf_e4m3",
            Element::I8 => "int8_t",
            Element::F32 => "float",
            Element::I32 => "int32_t",
        }
    }
}

/// The contiguous axis of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Major {
    /// K.
    K,
    /// M of A, N of B; 16-bit types only.
    Mn,
}

/// How results reach memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Store {
    /// By lanes, one column each: any strides.
    Lanes,
    /// By tensor copies of 128-byte rows: columns contiguous, other strides multiples of 16 bytes.
    Copies,
    /// By tensor copies, rows contiguous, other strides multiples of 16 bytes: the transposed result. 16-bit types.
    Transposed,
}

/// A convolution: sizes are (x, y, z), unused dimensions are 1 (padding 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv {
    /// Filter taps.
    pub taps: [u32; 3],
    /// Steps between outputs; at most 8.
    pub stride: [u32; 3],
    /// Zeros before the image; behind it as many as the output's size asks for.
    pub padding: [u32; 3],
    /// Distance of taps.
    pub dilation: [u32; 3],
    /// Output positions (x, y, z, images) that 64 rows of a tile are; their product is 64. See [`Conv::patch`].
    pub patch: [u32; 4],
}

impl Conv {
    /// The patch of 64 outputs that wastes least of an output of this size (x, y, z, images); the widest of equals.
    pub fn patch(output: [i64; 4]) -> [u32; 4] {
        let mut best = ([64, 1, 1, 1], i64::MAX);
        let sizes = [64, 32, 16, 8, 4, 2, 1];
        for x in sizes {
            for y in sizes.into_iter().filter(|y| x * y <= 64) {
                for z in sizes.into_iter().filter(|z| x * y * z <= 64) {
                    let patch = [x, y, z, 64 / (x * y * z)];
                    let positions = output.iter().zip(patch).fold(1i64, |n, (size, p)| {
                        n.saturating_mul((size.max(&1) + p - 1) / p * p)
                    });
                    if positions < best.1 {
                        best = (patch.map(|p| p as u32), positions);
                    }
                }
            }
        }
        best.0
    }
}

/// What a kernel computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Type of A and B: bf16, f16, e4m3 or i8.
    pub operands: Element,
    /// Type of C.
    pub out: Element,
    /// How A lies in memory.
    pub a_major: Major,
    /// How B lies in memory: [`Major::K`] is `[N, K]`, [`Major::Mn`] is `[K, N]`.
    pub b_major: Major,
    /// What becomes of the sums.
    pub epilogue: Epilogue,
    /// How C is written.
    pub store: Store,
    /// e4m3: f32 scales per block of K.
    pub block_scales: bool,
    /// Rows of A are groups.
    pub grouped: bool,
    /// The sums of squares of C's rows per tile of columns are written too, for a norm that follows: f32
    /// `[b0, b1, m, ceil(n / tile columns)]`.
    pub row_squares: bool,
    /// A is an image.
    pub conv: Option<Conv>,
}

impl Spec {
    /// A product of K-major operands whose result is stored as it is.
    pub fn new(operands: Element, out: Element) -> Spec {
        Spec {
            operands,
            out,
            a_major: Major::K,
            b_major: Major::K,
            epilogue: Epilogue::default(),
            store: Store::Lanes,
            block_scales: false,
            grouped: false,
            row_squares: false,
            conv: None,
        }
    }

    /// K of a slot.
    fn block_k(&self) -> i64 {
        SWIZZLE_BYTES / self.operands.bytes()
    }

    /// Columns of C that a tile of a variant covers.
    pub fn tile_columns(&self, variant: &Variant) -> i64 {
        i64::from(variant.columns) / if self.epilogue.gate.is_some() { 2 } else { 1 }
    }
}
