//! Which kernel a contraction takes.

use zeroforge_artifact::Expr;
use zeroforge_kernels::gemm::{self, Spec, Variant};

use crate::kernel_spec::GemmSpec;
use crate::launch::GemmLaunch;

/// Stands for a size that is not known.
const UNKNOWN: i64 = 512;

/// What a contraction is computed by.
pub(super) enum Choice {
    /// A variant of the family.
    Variant(&'static Variant),
    /// mma.sync, and why.
    Mma(String),
}

/// The kernel for a launch on a slice of so many SMs.
pub(super) fn gemm(kernel: &Spec, spec: &GemmSpec, launch: &GemmLaunch, sms: u32) -> Choice {
    let size = |size: Option<i64>| size.unwrap_or(UNKNOWN);
    let batch = Expr::product(&launch.batch).as_const().unwrap_or(1);
    let (m, n, k) = (size(spec.m), size(spec.n), size(spec.k));
    match gemm::select(kernel, batch, m, n, k, i64::from(sms)) {
        Some(variant) => Choice::Variant(variant),
        None => Choice::Mma("no variant stores this".to_owned()),
    }
}
