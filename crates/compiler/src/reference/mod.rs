//! What a kernel must compute, from its spec alone: given the parameter block of a launch and memory, the
//! values of everything that it writes.
//!
//! Floats are computed twice. *Exact* in f64 throughout, which is what errors are measured against; and
//! *plain* in the kernel's own types, in order and rounded to memory types wherever an implementation
//! without fusion would store, which says how much error the types alone cost. Contractions of f32 are what
//! tensor cores offer: three products of tf32 parts. Integers and truth values
//! have one value, that of the plain computation: what depends on a comparison of floats must not depend
//! on which of the two it is. [`judge`] compares a kernel's results with both.

mod attention;
mod evaluate;
mod gemm;
mod loops;
mod plain;
mod verdict;
mod view;

use zeroforge_artifact::DType;

use crate::kernel_spec::KernelSpec;
pub use verdict::{Verdict, judge};
use view::Block;
pub use view::element;

/// Memory as a launch finds it.
pub trait Memory: Sync {
    /// Start and contents of the region that holds an address.
    fn region(&self, address: u64) -> Option<(u64, &[u8])>;
}

/// Why a reference cannot be computed. The launch is at fault, not the kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An element outside of the memory that an operand points into.
    #[error(
        "element {index} of operand {operand} ({dtype}) is outside of its memory, which has {len} bytes and starts {skew} bytes before the operand"
    )]
    Outside {
        /// Which operand.
        operand: u32,
        /// Its type.
        dtype: DType,
        /// Elements from the operand's address.
        index: i64,
        /// Bytes from the start of the region to the operand's address.
        skew: i64,
        /// Bytes of the region.
        len: usize,
    },
    /// A parameter block that is too short.
    #[error("the parameter block ends before byte {0}")]
    Params(usize),
    /// Sizes that nothing can compute.
    #[error("a launch with {0} cannot be computed")]
    Sizes(String),
}

/// Values of one written operand, in the order of writing.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Element type in memory.
    pub dtype: DType,
    /// Address of each element.
    pub addresses: Vec<u64>,
    /// What each must be.
    pub values: Values,
}

/// What elements must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Of a float type.
    Float {
        /// Without any rounding.
        exact: Vec<f64>,
        /// Of a plain implementation in the kernel's own types.
        plain: Vec<f64>,
        /// Largest sum of the magnitudes of products that one element is made of; 0 where nothing is
        /// contracted. Sums of this size are rounded to f32 on the way, whatever is left of them.
        summed: f64,
    },
    /// Of an integer type or bool.
    Int(Vec<i64>),
}

impl Output {
    fn new(dtype: DType) -> Output {
        let values = match dtype.is_float() {
            true => Values::Float { exact: Vec::new(), plain: Vec::new(), summed: 0.0 },
            false => Values::Int(Vec::new()),
        };
        Output { dtype, addresses: Vec::new(), values }
    }

    fn push_float(&mut self, address: u64, exact_value: f64, plain_value: f64) {
        if let Values::Float { exact, plain, .. } = &mut self.values {
            self.addresses.push(address);
            exact.push(exact_value);
            plain.push(plain::round(self.dtype, plain_value));
        }
    }

    /// Notes the size of what was summed for an element.
    fn note_sum(&mut self, magnitude: f64) {
        if let Values::Float { summed, .. } = &mut self.values
            && magnitude.is_finite()
        {
            *summed = summed.max(magnitude);
        }
    }

    fn append(&mut self, mut other: Output) {
        self.addresses.append(&mut other.addresses);
        match (&mut self.values, &mut other.values) {
            (Values::Int(a), Values::Int(b)) => a.append(b),
            (
                Values::Float { exact, plain, summed },
                Values::Float { exact: e, plain: p, summed: s },
            ) => {
                exact.append(e);
                plain.append(p);
                *summed = summed.max(*s);
            }
            // Both are of this operand.
            _ => {}
        }
    }
}

/// Most elements that one launch may write.
const MAX_ELEMENTS: u64 = 1 << 27;
/// Most instructions that one launch of a loop nest may take; a few minutes.
const MAX_WORK: u64 = 1 << 35;
/// Longest axis of a contraction, of rows that are held.
const MAX_LENGTH: i64 = 1 << 18;

/// What a launch of a kernel with these parameters writes.
pub fn compute(
    spec: &KernelSpec,
    params: &[u8],
    memory: &dyn Memory,
) -> Result<Vec<Output>, Fault> {
    let block = Block(params);
    match spec {
        KernelSpec::Loop(kernel) => loops::compute(kernel, block, memory),
        KernelSpec::Gemm(gemm) => gemm::compute(gemm, block, memory),
        KernelSpec::Attention(attention) => attention::compute(attention, block, memory),
    }
}

/// Product of sizes, each at least 0.
fn count(sizes: &[i64]) -> Result<u64, Fault> {
    let product = sizes.iter().try_fold(1u64, |p, &n| p.checked_mul(u64::try_from(n).ok()?));
    product.filter(|&n| n <= 1 << 48).ok_or_else(|| Fault::Sizes(format!("sizes of {sizes:?}")))
}

/// Like [`count`], for elements that are stored.
fn stored(sizes: &[i64]) -> Result<u64, Fault> {
    count(sizes).and_then(|n| match n <= MAX_ELEMENTS {
        true => Ok(n),
        false => Err(Fault::Sizes(format!("{n} elements to write"))),
    })
}

/// Splits `0..total` over the cores where there is enough work; parts in order.
fn parallel<T: Send>(
    total: u64,
    work: u64,
    part: impl Fn(std::ops::Range<u64>) -> Result<T, Fault> + Sync,
) -> Result<Vec<T>, Fault> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    // Below, starting threads takes longer than the work.
    let parts = if work < 200_000 { 1 } else { cores.min(total).max(1) };
    if parts == 1 {
        return Ok(vec![part(0..total)?]);
    }
    let part = &part;
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..parts)
            .map(|i| scope.spawn(move || part(total * i / parts..total * (i + 1) / parts)))
            .collect();
        let join = |h: std::thread::ScopedJoinHandle<'_, _>| match h.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        handles.into_iter().map(join).collect()
    })
}
