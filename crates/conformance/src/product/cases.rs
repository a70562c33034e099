//! The instances that are run, and their cases.

use zeroforge_artifact::DType;
use zeroforge_kernels::gemm::tf32::Precision::{self, Tf32, ThreeTerms, TwoTerms};
use zeroforge_kernels::gemm::{Element, Weights, skinny, tf32};

use super::{After, Kernel, ProductCase};
use crate::random::Random;

/// Panels of 48 columns, as weights are packed where that divides N.
pub const PANELS_48: Weights = Weights::Panels { columns: 48 };
/// Panels of 32 columns, as other weights are packed.
pub const PANELS_32: Weights = Weights::Panels { columns: 32 };

/// A kernel by its tile.
pub fn tf32_kernel(precision: Precision, rows: u32, warpgroups: u32, split: u32) -> Kernel {
    Kernel::Tf32(precision, tf32::Tile { rows, warpgroups, split })
}

/// A kernel by its tile.
pub fn skinny_kernel(operands: Element, rows: u32, chunk: u32, split: u32) -> Kernel {
    Kernel::Skinny(operands, skinny::Tile { rows, chunk, split })
}

/// Every instance that is run, with its type of C and epilogue.
pub fn instances() -> Vec<(Kernel, Weights, DType, After)> {
    use DType::{Bf16, F16, F32};
    let f32 = Element::F32;
    vec![
        (tf32_kernel(TwoTerms, 128, 2, 1), PANELS_48, F32, After::Nothing),
        (tf32_kernel(TwoTerms, 64, 2, 2), PANELS_32, F32, After::BiasGelu),
        (tf32_kernel(TwoTerms, 128, 2, 1), Weights::Nk, F32, After::ScaleResidual),
        (tf32_kernel(TwoTerms, 64, 1, 4), Weights::Kn, F32, After::Nothing),
        (tf32_kernel(ThreeTerms, 32, 1, 1), Weights::Nk, F32, After::Nothing),
        (tf32_kernel(ThreeTerms, 40, 2, 1), PANELS_48, Bf16, After::Nothing),
        (tf32_kernel(ThreeTerms, 64, 2, 1), Weights::Kn, F32, After::Text),
        (tf32_kernel(ThreeTerms, 8, 1, 8), PANELS_32, F16, After::BiasGelu),
        (tf32_kernel(ThreeTerms, 104, 2, 2), Weights::Nk, F32, After::Nothing),
        (tf32_kernel(Tf32, 64, 2, 1), Weights::Nk, F32, After::Nothing),
        (tf32_kernel(Tf32, 24, 1, 2), PANELS_32, F32, After::Nothing),
        (skinny_kernel(f32, 1, 128, 1), PANELS_48, F32, After::Nothing),
        (skinny_kernel(f32, 1, 64, 8), PANELS_48, F32, After::ScaleResidual),
        (skinny_kernel(f32, 4, 256, 2), PANELS_32, F32, After::BiasGelu),
        (skinny_kernel(f32, 16, 192, 1), PANELS_48, F32, After::Nothing),
        (skinny_kernel(f32, 2, 64, 4), Weights::Kn, F32, After::Nothing),
        (skinny_kernel(f32, 8, 128, 1), Weights::Kn, Bf16, After::Nothing),
        (skinny_kernel(f32, 1, 320, 2), Weights::Nk, F32, After::Text),
        (skinny_kernel(f32, 4, 64, 1), Weights::Nk, F32, After::Nothing),
        (skinny_kernel(f32, 16, 128, 4), Weights::Nk, F32, After::BiasGelu),
        (skinny_kernel(Element::Bf16, 8, 192, 1), Weights::Nk, Bf16, After::Nothing),
        (skinny_kernel(Element::Bf16, 16, 64, 4), Weights::Nk, F32, After::BiasGelu),
        (skinny_kernel(Element::F16, 8, 128, 2), PANELS_48, F16, After::Nothing),
        (skinny_kernel(Element::Bf16, 16, 256, 1), PANELS_32, F32, After::ScaleResidual),
        (skinny_kernel(Element::F16, 16, 128, 1), Weights::Kn, F32, After::Nothing),
        (skinny_kernel(Element::Bf16, 8, 128, 8), Weights::Kn, Bf16, After::BiasGelu),
    ]
}

/// Drawn cases per instance.
const CASES: u64 = 6;

/// A case of one of [`instances`].
pub fn case(instance: (Kernel, Weights, DType, After), size: [usize; 3], seed: u64) -> ProductCase {
    let (kernel, weights, out, after) = instance;
    ProductCase { out, after, ..ProductCase::new(kernel, weights, size, seed) }
}

/// Drawn sizes, batches, strides and values of every instance.
pub fn drawn() -> Vec<ProductCase> {
    let mut cases = Vec::new();
    for (i, instance) in instances().into_iter().enumerate() {
        for j in 0..CASES {
            let seed = 1000 * i as u64 + j;
            let mut random = Random::new(seed);
            let (rows, columns, k) = match instance.0 {
                // Sums that two terms are chosen for.
                Kernel::Tf32(TwoTerms, tile) => (tile.rows * 3 / 2, 220, random.range(256, 420)),
                Kernel::Tf32(_, tile) => (tile.rows * 2, 300, random.range(1, 200)),
                Kernel::Skinny(_, tile) => (tile.rows, 200, random.range(1, 500)),
            };
            let size = [random.range(1, i64::from(rows)), random.range(33, columns), k];
            cases.push(case(instance, size.map(|n| n as usize), seed).drawn());
        }
    }
    cases
}

/// Sizes at the edges of tiles, panels, chunks and pieces.
pub fn listed() -> Vec<ProductCase> {
    let mut cases = Vec::new();
    for (i, instance) in instances().into_iter().enumerate() {
        let (rows, long) = match instance.0 {
            Kernel::Tf32(TwoTerms, tile) => (tile.rows as usize, 256),
            Kernel::Tf32(_, tile) => (tile.rows as usize, 64),
            Kernel::Skinny(_, tile) => (tile.rows as usize, 2 * tile.chunk as usize),
        };
        let seed = 70_000 + i as u64;
        cases.push(case(instance, [rows, 96, long], seed));
        // Enough elements that the naive version's largest error is no accident.
        cases.push(case(instance, [1, 67, if long == 256 { 257 } else { 1 }], seed));
    }
    cases
}
