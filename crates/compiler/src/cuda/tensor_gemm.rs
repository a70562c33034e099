//! Contractions by tensor copies and wgmma: `kernels/gemm/tensor_gemm.cuh`, for products of 16-bit floats.

use std::fmt::Write;

use zeroforge_artifact::{DType, Expr, SymbolRange};
use zeroforge_kernels::gemm::{
    Arguments, COUNTER_BYTES, Element, Epilogue, Major, Operand, Spec, Store, Variant, instance,
    plan,
};
use zeroforge_kernels::selection::{Size, Table};
use zeroforge_kernels::{Instance, Plan};

use super::mma_gemm::{EpilogueNames, epilogue_body};
use super::{TensorKernel, at_least_one};
use crate::backend::PlanBuffer;
use crate::kernel_spec::{BLayout, GemmSpec};
use crate::launch::{GemmLaunch, View};

/// Numbers of buffers in arguments.
pub(super) const A: u32 = 0;
pub(super) const B: u32 = 1;
pub(super) const C: u32 = 2;
pub(super) const EXTRA: u32 = 3;

/// The kernel and its launch, or why there is none.
pub(super) fn plan_launch(
    spec: &GemmSpec,
    launch: &GemmLaunch,
    ranges: &[SymbolRange],
    sms: u32,
) -> Result<TensorKernel, String> {
    let operands = match (spec.a, spec.b) {
        (DType::Bf16, DType::Bf16) => Element::Bf16,
        (DType::F16, DType::F16) => Element::F16,
        (a, b) => return Err(format!("operands are {a} and {b}, not both bf16 or both f16")),
    };
    let b_major = match spec.b_layout {
        BLayout::RowMajorNk => Major::K,
        BLayout::RowMajorKn => Major::Mn,
        BLayout::Panels { .. } => return Err("`b` is stored in panels".to_owned()),
    };
    // Nothing is launched for no rows or columns; sums of nothing have no tensor map.
    if !at_least_one(&launch.k, ranges) {
        return Err(format!("k is `{}`, which may be zero", launch.k));
    }
    let out = element(spec.c).ok_or_else(|| format!("`c` is {}", spec.c))?;
    let kernel = Spec {
        operands,
        out,
        b_major,
        epilogue: epilogue(spec)?,
        store: if copies_reach(&launch.c, out) { Store::Copies } else { Store::Lanes },
        ..Spec::new(operands, out)
    };
    let variant = Table::of(sms).wgmma(&kernel, size_of_launch(spec, launch));
    let variant = variant.ok_or("no variant has its layouts and result")?;
    let kernel = fit(kernel, variant);
    let (instance, plan) = make(&kernel, variant, spec, launch)?;
    let extra = launch.extra.iter().map(|view| PlanBuffer::Storage(view.storage));
    let [a, b, c] = [&launch.a, &launch.b, &launch.c].map(|v| PlanBuffer::Storage(v.storage));
    let mut buffers = vec![a, b, c];
    buffers.extend(extra);
    if variant.split {
        buffers.extend([PlanBuffer::Workspace, PlanBuffer::Counters]);
    }
    let counters = if variant.split { COUNTER_BYTES as u32 } else { 0 };
    Ok(TensorKernel { instance, plan, buffers, counters })
}

/// The size by which a kernel is chosen.
pub(super) fn size_of_launch(spec: &GemmSpec, launch: &GemmLaunch) -> Size {
    let batch = Expr::product(&launch.batch).as_const();
    Size { batch, m: spec.m, n: spec.n, k: spec.k }
}

/// Copies store rows of 128 bytes; a narrow tile of a small type is stored by lanes.
fn fit(kernel: Spec, variant: &Variant) -> Spec {
    let row = kernel.tile_columns(variant) * kernel.out.bytes();
    let store = if row % 128 == 0 { kernel.store } else { Store::Lanes };
    Spec { store, ..kernel }
}

fn make(
    kernel: &Spec,
    variant: &Variant,
    spec: &GemmSpec,
    launch: &GemmLaunch,
) -> Result<(Instance, Plan), String> {
    let element = spec.b.size() as i64;
    let [b0, b1, row, one] = &launch.b.strides;
    let b = match kernel.b_major {
        Major::K => [b0.clone(), b1.clone(), row.clone(), one.clone()],
        Major::Mn => [b0.clone(), b1.clone(), one.clone(), row.clone()],
    };
    let extra = launch.extra.iter().zip(&spec.epilogue.extra).enumerate();
    let split = EXTRA + launch.extra.len() as u32;
    let arguments = Arguments {
        batch: launch.batch.clone(),
        m: launch.m.clone(),
        n: launch.n.clone(),
        k: launch.k.clone(),
        a: operand(A, &launch.a, spec.a),
        b: Operand { buffer: B, offset: bytes(&launch.b.offset, element), strides: b },
        c: operand(C, &launch.c, spec.c),
        extra: extra.map(|(i, (view, dtype))| operand(EXTRA + i as u32, view, *dtype)).collect(),
        scales: None,
        row_squares: None,
        groups: None,
        images: None,
        split: variant.split.then_some([split, split + 1]),
    };
    let plan = plan(kernel, variant, &arguments).map_err(|e| e.to_string())?;
    let instance = instance(kernel, variant).map_err(|e| e.to_string())?;
    Ok((instance, plan))
}

pub(super) fn bytes(elements: &Expr, size: i64) -> Expr {
    elements.clone() * Expr::constant(size)
}

pub(super) fn operand(buffer: u32, view: &View, dtype: DType) -> Operand {
    let offset = bytes(&view.offset, dtype.size() as i64);
    Operand { buffer, offset, strides: view.strides.clone() }
}

/// The kernels' name of a type.
pub(super) fn element(dtype: DType) -> Option<Element> {
    match dtype {
        DType::Bf16 => Some(Element::Bf16),
        DType::F16 => Some(Element::F16),
        DType::F32 => Some(Element::F32),
        DType::I32 => Some(Element::I32),
        DType::I8 => Some(Element::I8),
        _ => None,
    }
}

/// Whether tensor copies can write C: its rows are multiples of 16 bytes, from a multiple of 16.
fn copies_reach(c: &View, out: Element) -> bool {
    let per_unit = 16 / out.bytes() as u64;
    c.strides[3].is(1)
        && c.offset.is_multiple_of(per_unit)
        && c.strides[..3].iter().all(|stride| stride.is_multiple_of(per_unit))
}

/// What happens to sums, as statements.
pub(super) fn epilogue(spec: &GemmSpec) -> Result<Epilogue, String> {
    if spec.epilogue.body.insts.is_empty() {
        return Ok(Epilogue::default());
    }
    let mut elements = Vec::with_capacity(spec.epilogue.extra.len());
    for (i, &dtype) in spec.epilogue.extra.iter().enumerate() {
        let known = element(dtype);
        elements.push(known.ok_or_else(|| format!("operand {i} of the epilogue is {dtype}"))?);
    }
    let mut text = String::new();
    let value = epilogue_body(&mut text, spec, DType::F32, &EpilogueNames(spec))
        .map_err(|e| e.to_string())?;
    writeln!(text, "        return {value};").map_err(|e| e.to_string())?;
    Ok(Epilogue { text: Some((elements, text)), ..Epilogue::default() })
}
