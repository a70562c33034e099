//! The families of kernels, for tools that go through all of them.

use zeroforge_artifact::DType;
use zeroforge_kernels::{Instance, Plan};

use crate::case::Case;
use crate::{attention, decode, gemm, product, rows};

/// A family's cases and what is timed of it.
pub struct Family {
    /// Its name, as of its module.
    pub name: &'static str,
    /// The fixed list and the drawn cases.
    pub cases: fn() -> Vec<Box<dyn Case>>,
    /// Launches large enough to time.
    pub throughput: fn() -> Vec<Throughput>,
}

/// A launch to time: nothing is judged.
pub struct Throughput {
    /// `<family>/<variant>/<sizes>`, the same that other implementations are timed under.
    pub name: String,
    /// The kernel.
    pub instance: Instance,
    /// The launch.
    pub plan: Plan,
    /// What the plan's buffers hold, in their order.
    pub buffers: Vec<Contents>,
    /// Floating-point operations of the mathematics, not of the tiles.
    pub flops: f64,
    /// Bytes that must be read and written once.
    pub bytes: f64,
}

/// What a buffer holds before a timed launch. Clocks depend on the data, so its distribution is part of a result.
#[derive(Clone, Debug)]
pub enum Contents {
    /// So many normal numbers of a type, with this deviation.
    Normal(DType, usize, f64),
    /// As they are.
    Bytes(Vec<u8>),
    /// So many bytes that the launch writes.
    Output(usize),
}

fn boxed<C: Case + 'static>(cases: impl IntoIterator<Item = C>) -> Vec<Box<dyn Case>> {
    cases.into_iter().map(|c| Box::new(c) as Box<dyn Case>).collect()
}

/// All families.
pub fn families() -> Vec<Family> {
    vec![
        Family {
            name: "attention",
            cases: || boxed(attention::cases()),
            throughput: attention::throughput,
        },
        Family {
            name: "decode",
            cases: || boxed(decode::listed().into_iter().chain((0..240).map(decode::drawn))),
            throughput: Vec::new,
        },
        Family { name: "gemm", cases: || boxed(gemm::cases()), throughput: gemm::throughput },
        Family {
            name: "product",
            cases: || boxed(product::cases::listed().into_iter().chain(product::cases::drawn())),
            throughput: product::throughput,
        },
        Family { name: "rows", cases: rows::cases, throughput: rows::throughput },
    ]
}
