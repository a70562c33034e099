//! Kernels over rows of matrices (`kernels/rows/`): selection, sampling, rotary embedding, lookup, norms.
//!
//! All are bound by memory: they read and write 16 bytes at a time where offsets and strides allow it, and each element
//! once where a row fits. Which packets an instance uses follows from the operands: an operand whose alignment is not
//! known gives the instance for single elements, not a refusal.

mod embedding;
mod norm;
mod rotary;
mod sample;
mod select;
mod variant;

use zeroforge_artifact::program::{BUFFER_ALIGN, Param, ParamValue};
use zeroforge_artifact::{DType, Expr};

use crate::{Instance, Plan, Refusal};

pub use embedding::{Embedding, EmbeddingArgs, embedding};
pub use norm::{Norm, NormArgs, NormKind, Quantise, norm};
pub use rotary::{Rotary, RotaryArgs, rotary};
pub use sample::{Sample, SampleArgs, sample};
pub use select::{ArgMaxArgs, TopK, TopKArgs, arg_max, top_k};
pub use variant::{Variant, variants};

/// A matrix whose rows are contiguous.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// Number of its buffer.
    pub buffer: u32,
    /// Bytes from the buffer's start, which is a multiple of 256, to the first element.
    pub offset: Expr,
    /// Elements from one row to the next; 0 gives every row the same elements.
    pub stride: Expr,
}

/// A dense array, or its first element.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Number of its buffer.
    pub buffer: u32,
    /// Bytes from the buffer's start to the first element.
    pub offset: Expr,
}

/// C++ name of an element type.
fn type_name(dtype: DType) -> &'static str {
    match dtype {
        DType::Bf16 => "zf_bf16",
        DType::F16 => "zf_f16",
        DType::I32 => "int32_t",
        DType::I64 => "int64_t",
        _ => "float",
    }
}

/// The rules that operands share.
struct Contract {
    kernel: &'static str,
}

impl Contract {
    fn rule(
        &self,
        holds: bool,
        argument: &str,
        rule: impl FnOnce() -> String,
    ) -> Result<(), Refusal> {
        if holds { Ok(()) } else { Err(Refusal::new(self.kernel, argument, rule())) }
    }

    /// A size, if it is known, lies within bounds.
    fn size(&self, argument: &str, size: &Expr, low: i64, high: i64) -> Result<(), Refusal> {
        let within = size.as_const().is_none_or(|n| (low..=high).contains(&n));
        self.rule(within, argument, || format!("is {size}; it must be between {low} and {high}"))
    }

    /// Elements lie at multiples of their size.
    fn elements(&self, argument: &str, offset: &Expr, size: usize) -> Result<(), Refusal> {
        let whole = offset.power_of_two_divisor(BUFFER_ALIGN as u32) as usize >= size;
        self.rule(whole && offset.as_const().is_none_or(|n| n >= 0), argument, || {
            format!(
                "begins {offset} bytes into its buffer, which is not known to be a multiple of the {size} bytes of an element; align it"
            )
        })
    }

    /// Rows of `length` elements.
    fn rows(
        &self,
        argument: &str,
        m: &Rows,
        size: usize,
        (rows, length): (&Expr, &Expr),
        written: bool,
    ) -> Result<(), Refusal> {
        self.elements(argument, &m.offset, size)?;
        let stride = m.stride.as_const();
        self.rule(stride.is_none_or(|s| s >= 0), argument, || {
            format!("has rows {} elements apart; the distance must not be negative", m.stride)
        })?;
        let several = rows.as_const().is_none_or(|n| n > 1);
        let apart = match (stride, length.as_const()) {
            (Some(stride), Some(length)) => stride >= length,
            _ => true,
        };
        self.rule(!(written && several) || apart, argument, || {
            format!(
                "is written and its rows of {length} elements are {} apart; rows must not overlap",
                m.stride
            )
        })
    }
}

/// Elements by which an offset in bytes and a distance in elements are known to be divisible.
fn multiple(size: usize, offset: &Expr, stride: Option<&Expr>) -> i64 {
    let offset = i64::from(offset.power_of_two_divisor(BUFFER_ALIGN as u32)) / size as i64;
    let stride = stride.map_or(256, |s| i64::from(s.power_of_two_divisor(256)));
    offset.min(stride)
}

/// What a matrix's elements are divisible by; the stride of a single row is never used.
fn rows_multiple(size: usize, m: &Rows, rows: &Expr) -> i64 {
    multiple(size, &m.offset, (!rows.is(1)).then_some(&m.stride))
}

/// The elements of a packet: 16 bytes of the type of `size`, or less as the multiples allow.
fn packet(size: usize, multiples: &[i64]) -> i64 {
    multiples.iter().fold(16 / size as i64, |points, &m| points.min(m)).max(1)
}

/// A parameter block being laid out, every field in the order of the device's structure.
#[derive(Default)]
struct Block {
    params: Vec<Param>,
    bytes: u32,
}

impl Block {
    fn push(&mut self, value: ParamValue, bytes: u32) {
        self.params.push(Param { at: self.bytes, value });
        self.bytes += bytes;
    }

    fn address(&mut self, buffer: u32, offset: &Expr) {
        self.push(ParamValue::Address { buffer, offset: offset.clone() }, 8);
    }

    fn array(&mut self, array: &Array) {
        self.address(array.buffer, &array.offset);
    }

    fn rows(&mut self, rows: &Rows) {
        self.address(rows.buffer, &rows.offset);
        self.int(&rows.stride);
    }

    /// An operand that the instance does not use: zeros.
    fn nothing(&mut self, bytes: u32) {
        self.bytes += bytes;
    }

    fn optional_rows(&mut self, rows: Option<&Rows>) {
        match rows {
            Some(rows) => self.rows(rows),
            None => self.nothing(16),
        }
    }

    fn optional_array(&mut self, array: Option<&Array>) {
        match array {
            Some(array) => self.array(array),
            None => self.nothing(8),
        }
    }

    fn int(&mut self, value: &Expr) {
        self.push(ParamValue::I64(value.clone()), 8);
    }

    fn float(&mut self, value: f32) {
        self.push(ParamValue::F32Bits(value.to_bits()), 4);
    }

    /// Ends the block at a multiple of 8 bytes.
    fn finish(mut self, grid: Expr) -> (u32, Plan) {
        self.bytes = self.bytes.next_multiple_of(8);
        let grid = [grid, Expr::constant(1), Expr::constant(1)];
        (self.bytes, Plan { grid, params: self.params, workspace: Expr::constant(0) })
    }
}

/// The source of an instance that calls `call` with its parameters.
fn instance(
    variant: &Variant,
    (header, params, call): (&str, &str, String),
    threads: i64,
    param_bytes: u32,
    doc: String,
) -> Instance {
    let entry = Instance::ENTRY;
    let source = format!(
        "#include \"rows/{header}.cuh\"\n\nZF_KERNEL({entry}, zf::{params}, params, {threads}, 0) {{\n    {call}(params);\n}}\n"
    );
    Instance {
        entry: String::new(),
        source,
        block: threads as u32,
        cluster: 1,
        blocks_per_sm: None,
        shared_bytes: 0,
        param_bytes,
        doc,
    }
    .named(&variant.kernel)
}
