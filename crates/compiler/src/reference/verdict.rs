//! A kernel's results against the reference.

use zeroforge_artifact::DType;

use super::view::{element, integer};
use super::{Memory, Output, Values, plain};

/// Times the error of the plain computation that a kernel's may have.
const ALLOWANCE: f64 = 2.0;

/// How a kernel's results compare with the reference.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Elements compared.
    pub elements: u64,
    /// Largest error of the kernel.
    pub error: f64,
    /// Largest error of the plain computation in the kernel's types.
    pub plain_error: f64,
    /// Largest error that passes: twice the plain one, and a unit in the last place at the scale
    /// of the output or, of f32, at that of the sums of its products.
    pub allowed: f64,
    /// Elements that are wrong.
    pub wrong: u64,
    /// The worst of them, for people.
    pub worst: Option<String>,
}

impl Verdict {
    /// Whether every element is what it must be, within rounding.
    pub fn passed(&self) -> bool {
        self.wrong == 0
    }

    /// The kernel's error relative to what passes; above 1 it fails.
    pub fn ratio(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.allowed }
    }

    /// Takes another launch of the kernel into account.
    pub fn merge(&mut self, other: Verdict) {
        self.elements += other.elements;
        if other.ratio() >= self.ratio() {
            (self.error, self.plain_error) = (other.error, other.plain_error);
            self.allowed = other.allowed;
        }
        self.wrong += other.wrong;
        self.worst = self.worst.take().or(other.worst);
    }
}

/// Digits of a float type.
fn digits(dtype: DType) -> i32 {
    match dtype {
        DType::F16 => 10,
        DType::Bf16 => 7,
        DType::F32 => 23,
        // The reference has no more digits than a kernel in f64: a few of the last may differ.
        _ => 48,
    }
}

/// Distance of neighbouring numbers of a type at some size.
fn unit(dtype: DType, scale: f64) -> f64 {
    let least = match dtype {
        DType::F16 => -24,
        DType::Bf16 => -133,
        DType::F32 => -149,
        _ => -1074,
    };
    let exponent = if scale > 0.0 { scale.log2().floor() as i32 } else { least };
    2.0f64.powi((exponent - digits(dtype)).max(least))
}

/// The type in which contractions sum.
fn sum_type(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Compares what is in memory after a launch with what the reference says.
pub fn judge(outputs: &[Output], memory: &dyn Memory) -> Verdict {
    let mut verdict = Verdict::default();
    for output in outputs {
        verdict.merge(one(output, memory));
    }
    verdict
}

fn one(output: &Output, memory: &dyn Memory) -> Verdict {
    let mut verdict = Verdict { elements: output.addresses.len() as u64, ..Verdict::default() };
    let mut region: (u64, &[u8]) = (0, &[]);
    let mut bytes_of = |address: u64| -> &[u8] {
        let size = output.dtype.size();
        let inside = |r: &(u64, &[u8])| {
            address.checked_sub(r.0).is_some_and(|o| (o as usize).saturating_add(size) <= r.1.len())
        };
        if !inside(&region) {
            region = memory.region(address).unwrap_or((0, &[]));
        }
        match inside(&region) {
            true => &region.1[(address - region.0) as usize..],
            false => &[],
        }
    };
    match &output.values {
        Values::Int(values) => {
            for (i, (&address, &wanted)) in output.addresses.iter().zip(values).enumerate() {
                let bytes = bytes_of(address);
                // A byte of a bool must be 0 or 1, not only true.
                let found = match output.dtype {
                    DType::Bool => bytes.first().map_or(-1, |&b| i64::from(b)),
                    dtype => integer(dtype, bytes),
                };
                if found != wanted {
                    verdict.wrong += 1;
                    verdict.worst.get_or_insert_with(|| {
                        format!("element {i} written is {found} instead of {wanted}")
                    });
                }
            }
        }
        Values::Float { exact, plain, summed } => {
            // Where the types themselves overflow, only the same special value is right.
            let finite = |i: usize| exact[i].is_finite() && plain[i].is_finite();
            let scale = (0..exact.len()).filter(|&i| finite(i)).map(|i| exact[i].abs());
            let scale = scale.fold(0.0, f64::max);
            let errors =
                (0..exact.len()).filter(|&i| finite(i)).map(|i| (exact[i] - plain[i]).abs());
            verdict.plain_error = errors.fold(0.0, f64::max);
            verdict.allowed = ALLOWANCE * verdict.plain_error
                + unit(output.dtype, scale).max(unit(sum_type(output.dtype), *summed));
            let mut worst = 0.0;
            for (i, &address) in output.addresses.iter().enumerate() {
                let found = element(output.dtype, bytes_of(address));
                let (error, wrong) = if finite(i) {
                    let error = (found - exact[i]).abs();
                    (error, error.is_nan() || error > verdict.allowed)
                } else {
                    let same = |v: f64| found == v || found.is_nan() && v.is_nan();
                    let right = same(plain[i]) || same(plain::round(output.dtype, exact[i]));
                    (0.0, !right)
                };
                let error = if error.is_nan() { f64::INFINITY } else { error };
                verdict.error = verdict.error.max(error);
                if wrong {
                    verdict.wrong += 1;
                    if verdict.worst.is_none() || error > worst {
                        worst = error;
                        verdict.worst = Some(format!(
                            "element {i} written is {found} instead of {}, {} in the same types",
                            exact[i], plain[i]
                        ));
                    }
                }
            }
        }
    }
    verdict
}
