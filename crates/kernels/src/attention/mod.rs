//! Attention: `O = softmax(score(Q K^T)) V`.
//!
//! [`Forward`] describes the kernel of `kernels/attention/forward.cuh` (tensor copies, warpgroup products): what it
//! accepts is checked by [`Forward::instance`] and [`Forward::plan`]. Arrays whose last axis is not contiguous or whose
//! strides are not multiples of 16 bytes cannot be read by tensor copies: `kernels/attention/mma_attention.cuh` is the
//! variant for these, and for f32.

mod forward;
mod launch;
mod tile;

pub use forward::{Element, Forward, Lengths, Mask};
pub use launch::{Array, Operands, Sizes, View};
pub use tile::Tile;
