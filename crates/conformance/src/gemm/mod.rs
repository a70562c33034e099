//! Cases of matrix products and convolutions (`kernels/gemm/tensor_gemm.cuh`).

mod cases;
mod reference;
mod run;
mod throughput;

pub use cases::{cases, instances};
pub use run::{Filling, GemmCase, Sizes};
pub use throughput::throughput;
