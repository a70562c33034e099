//! Attention by tensor copies and wgmma: `kernels/attention/forward.cuh`, for 16-bit floats.

use zeroforge_artifact::{DType, Expr, SymbolRange};
use zeroforge_kernels::attention::{Element, Forward, Mask, Operands, Sizes, View};

use super::tensor_gemm::bytes;
use super::{TensorKernel, at_least_one};
use crate::backend::PlanBuffer;
use crate::kernel_spec::{AttentionSpec, MaskKind};
use crate::launch::{self, AttentionLaunch};

/// The kernel and its launch, or why there is none.
pub(super) fn plan_launch(
    spec: &AttentionSpec,
    launch: &AttentionLaunch,
    ranges: &[SymbolRange],
) -> Result<TensorKernel, String> {
    let element = match spec.dtype {
        DType::Bf16 => Element::Bf16,
        DType::F16 => Element::F16,
        other => return Err(format!("operands are {other}, not bf16 or f16")),
    };
    for (name, size) in [("keys", &launch.keys), ("kv_heads", &launch.kv_heads)] {
        if !at_least_one(size, ranges) {
            return Err(format!("{name} is `{size}`, which may be zero"));
        }
    }
    let dim = |name: &str, dim: i64| {
        u32::try_from(dim).map_err(|_| format!("{name} is {dim}, which no head has"))
    };
    let group = match (launch.heads.as_const(), launch.kv_heads.as_const()) {
        (Some(heads), Some(kv)) if kv > 0 => heads / kv,
        _ => 1,
    };
    let queries = launch.queries.as_const().unwrap_or(i64::MAX);
    let kernel = Forward {
        window_left: spec.window,
        window_right: spec.causal,
        mask: match spec.mask {
            MaskKind::None => Mask::None,
            MaskKind::Bool => Mask::Bool,
            MaskKind::Additive(dtype) => Mask::Additive(dtype),
        },
        pack: Forward::packing(group, queries),
        ..Forward::dense(
            element,
            dim("head_dim", spec.head_dim)?,
            dim("value_dim", spec.value_dim)?,
        )
    };
    let sizes = Sizes {
        offset: launch.offset.clone(),
        // Of `window` keys, the last is the query's own position.
        window_left: launch.window.clone() - Expr::constant(1),
        ..Sizes::dense(
            launch.batch.clone(),
            launch.heads.clone(),
            launch.kv_heads.clone(),
            launch.queries.clone(),
            launch.keys.clone(),
            launch.scale,
        )
    };
    let view = |buffer: u32, view: &launch::View, dtype: DType| View {
        buffer,
        offset: bytes(&view.offset, dtype.size() as i64),
        strides: view.strides.clone(),
    };
    let mask_dtype = match spec.mask {
        MaskKind::Additive(dtype) => dtype,
        _ => DType::Bool,
    };
    let operands = Operands {
        q: view(0, &launch.q, spec.dtype),
        k: view(1, &launch.k, spec.dtype),
        v: view(2, &launch.v, spec.dtype),
        o: view(3, &launch.o, spec.dtype),
        lse: None,
        mask: launch.mask.as_ref().map(|mask| view(4, mask, mask_dtype)),
        slopes: None,
        sinks: None,
        descales: None,
        queries: None,
        keys: None,
    };
    let instance = kernel.instance().map_err(|e| e.to_string())?;
    let plan = kernel.plan(&sizes, &operands).map_err(|e| e.to_string())?;
    let views = [&launch.q, &launch.k, &launch.v, &launch.o].into_iter().chain(&launch.mask);
    let buffers = views.map(|view| PlanBuffer::Storage(view.storage)).collect();
    Ok(TensorKernel { instance, plan, buffers, counters: 0 })
}
