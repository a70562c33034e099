//! Whether a result is right: its error against f64 at most twice that of a naive version in the same types.
//!
//! The rule of FlashAttention's tests (Dao-AILab/flash-attention, `hopper/test_flash_attn.py`): no constant per type;
//! what the type costs is measured on a plain implementation of the same sums. A small absolute term allows for what
//! a naive version may hit by luck: one unit in the last place of the type at the output's scale.

use zeroforge_artifact::DType;

/// Unit in the last place at 1.
fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::Bf16 => 2f64.powi(-8),
        DType::F16 => 2f64.powi(-11),
        DType::F64 => f64::EPSILON,
        _ => 2f64.powi(-24),
    }
}

/// What was found about one result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Largest error of the kernel.
    pub error: f64,
    /// Largest error of the naive version.
    pub naive: f64,
    /// Largest magnitude of the exact result.
    pub scale: f64,
    /// Largest error that passes.
    pub allowed: f64,
    /// Index of an element that is wrong in kind (NaN or infinite where the exact value is not, or the other way
    /// round).
    pub wrong_kind: Option<usize>,
}

impl Verdict {
    /// Whether the result is right.
    pub fn passes(&self) -> bool {
        self.wrong_kind.is_none() && self.error <= self.allowed
    }
}

/// Compares a kernel's result with the exact one and a naive one. Where the naive version is NaN or infinite the
/// kernel may be the same.
pub fn judge(dtype: DType, exact: &[f64], naive: &[f64], got: &[f64]) -> Verdict {
    assert!(exact.len() == naive.len() && exact.len() == got.len(), "one value each");
    let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0f64, f64::max);
    let finite = |i: &usize| exact[*i].is_finite();
    let indices = || (0..exact.len()).filter(finite);
    let error = |of: &[f64]| {
        largest(&mut indices().filter(|&i| of[i].is_finite()).map(|i| (of[i] - exact[i]).abs()))
    };
    let scale = largest(&mut indices().map(|i| exact[i].abs()));
    let same_kind = |a: f64, b: f64| {
        a.is_nan() == b.is_nan() && (!a.is_infinite() || a == b) && a.is_finite() == b.is_finite()
    };
    let wrong_kind =
        (0..exact.len()).find(|&i| !same_kind(exact[i], got[i]) && !same_kind(naive[i], got[i]));
    let naive_error = error(naive);
    Verdict {
        error: error(got),
        naive: naive_error,
        scale,
        allowed: 2.0 * naive_error + scale * epsilon(dtype),
        wrong_kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_naive_error_passes_and_more_does_not() {
        let exact = [1.0, 2.0];
        let judged = |got: [f64; 2]| judge(DType::F32, &exact, &[1.0, 2.001], &got).passes();
        assert!(judged([1.0, 2.002]) && judged([1.0, 1.998]));
        assert!(!judged([1.0, 2.0022]));
    }

    #[test]
    fn a_nan_is_only_right_where_one_belongs() {
        let judged = |exact: f64, got: f64| judge(DType::F32, &[exact], &[exact], &[got]).passes();
        assert!(judged(f64::NAN, f64::NAN) && judged(f64::INFINITY, f64::INFINITY));
        assert!(!judged(1.0, f64::NAN) && !judged(f64::NAN, 1.0));
        assert!(!judged(f64::INFINITY, f64::NEG_INFINITY) && !judged(f64::INFINITY, f64::NAN));
    }
}
