//! What executes: warps, blocks, clusters.

pub(crate) mod cluster;
pub(crate) mod context;
pub(crate) mod cta;
pub(crate) mod lanes;
pub(crate) mod warp;
