//! Contractions on the kernels of `zeroforge-kernels`: few rows (`kernels/gemm/skinny_*.cuh`), f32 by wgmma
//! (`kernels/gemm/tf32_gemm.cuh`), 16-bit floats by wgmma (`tensor_gemm.rs`).

use zeroforge_artifact::{DType, SymbolRange};
use zeroforge_kernels::gemm::{Product, Weights, skinny, tf32};
use zeroforge_kernels::selection::Table;
use zeroforge_kernels::{Instance, Plan};

use super::tensor_gemm::{A, B, C, EXTRA, element, epilogue, operand, size_of_launch};
use super::{TensorKernel, at_least_one, tensor_gemm};
use crate::backend::PlanBuffer;
use crate::kernel_spec::{BLayout, GemmSpec};
use crate::launch::GemmLaunch;

/// The kernel for a contraction on a slice of so many SMs, or why there is none.
pub(super) fn choose(
    spec: &GemmSpec,
    launch: &GemmLaunch,
    ranges: &[SymbolRange],
    sms: u32,
) -> Result<TensorKernel, String> {
    let (table, size) = (Table::of(sms), size_of_launch(spec, launch));
    if let Some(m) = spec.m.filter(|m| (1..=skinny::MAX_ROWS).contains(m)) {
        let kernel = skinny_spec(spec)?;
        if let Some(tile) = table.skinny(&kernel, m, size)
            && let Ok(kernel) = few_rows(&kernel, spec, launch, &tile)
        {
            return Ok(kernel);
        }
        // Pieces of B that are not aligned are no matter of rows: the kernels below say it too.
    }
    match spec.a {
        DType::F32 => single(spec, launch, ranges, &table.tf32(size)),
        _ => tensor_gemm::plan_launch(spec, launch, ranges, sms),
    }
}

/// The kernel for f32 by a tile, or why there is none.
fn single(
    spec: &GemmSpec,
    launch: &GemmLaunch,
    ranges: &[SymbolRange],
    tile: &tf32::Tile,
) -> Result<TensorKernel, String> {
    if (spec.a, spec.b) != (DType::F32, DType::F32) {
        return Err(format!("operands are {} and {}, not both f32", spec.a, spec.b));
    }
    // Nothing is launched for no rows or columns; sums of nothing have no tensor map.
    if !at_least_one(&launch.k, ranges) {
        return Err(format!("k is `{}`, which may be zero", launch.k));
    }
    let kernel = tf32::Spec {
        weights: weights(spec.b_layout),
        precision: tf32::Precision::f32(spec.k),
        out: element(spec.c).ok_or_else(|| format!("`c` is {}", spec.c))?,
        epilogue: epilogue(spec)?,
    };
    let product = product(spec, launch);
    let instance = tf32::instance(&kernel, tile).map_err(|e| e.to_string())?;
    let plan = tf32::plan(&kernel, tile, &product).map_err(|e| e.to_string())?;
    Ok(kernel_of(instance, plan, launch))
}

/// The kernel for at most 16 rows by a tile, or why there is none.
fn few_rows(
    kernel: &skinny::Spec,
    spec: &GemmSpec,
    launch: &GemmLaunch,
    tile: &skinny::Tile,
) -> Result<TensorKernel, String> {
    let product = product(spec, launch);
    let instance = skinny::instance(kernel, tile).map_err(|e| e.to_string())?;
    let plan = skinny::plan(kernel, tile, &product).map_err(|e| e.to_string())?;
    Ok(kernel_of(instance, plan, launch))
}

/// What a kernel for few rows computes.
fn skinny_spec(spec: &GemmSpec) -> Result<skinny::Spec, String> {
    if spec.a != spec.b {
        return Err(format!("operands are {} and {}, not of one type", spec.a, spec.b));
    }
    Ok(skinny::Spec {
        operands: element(spec.a).ok_or_else(|| format!("operands are {}", spec.a))?,
        out: element(spec.c).ok_or_else(|| format!("`c` is {}", spec.c))?,
        weights: weights(spec.b_layout),
        epilogue: epilogue(spec)?,
    })
}

fn weights(layout: BLayout) -> Weights {
    match layout {
        BLayout::RowMajorNk => Weights::Nk,
        BLayout::RowMajorKn => Weights::Kn,
        BLayout::Panels { nr } => Weights::Panels { columns: nr },
    }
}

fn product(spec: &GemmSpec, launch: &GemmLaunch) -> Product {
    let extra = launch.extra.iter().zip(&spec.epilogue.extra).enumerate();
    Product {
        batch: launch.batch.clone(),
        m: launch.m.clone(),
        n: launch.n.clone(),
        k: launch.k.clone(),
        a: operand(A, &launch.a, spec.a),
        b: operand(B, &launch.b, spec.b),
        c: operand(C, &launch.c, spec.c),
        extra: extra.map(|(i, (view, dtype))| operand(EXTRA + i as u32, view, *dtype)).collect(),
    }
}

fn kernel_of(instance: Instance, plan: Plan, launch: &GemmLaunch) -> TensorKernel {
    let views = [&launch.a, &launch.b, &launch.c].into_iter().chain(&launch.extra);
    let buffers = views.map(|view| PlanBuffer::Storage(view.storage)).collect();
    TensorKernel { instance, plan, buffers, counters: 0 }
}
