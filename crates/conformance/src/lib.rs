//! Whether kernels compute what they must: cases drawn by seed, results in f64, and devices to run them on.
//!
//! A family's module draws cases ([`random`]), computes each exactly (f64) and plainly (a naive implementation in the
//! kernel's own types), has the kernel instantiated and launched by `zeroforge-kernels`' plan on a [`card`], and
//! judges the result by [`verdict`]: the rule that FlashAttention's tests use, no constants per type.

#![forbid(unsafe_code)]

pub mod attention;
pub mod bench;
pub mod card;
pub mod case;
pub mod decode;
pub mod family;
pub mod gemm;
pub mod product;
pub mod random;
pub mod rows;
pub mod tensor;
pub mod verdict;
