//! Fused attention.

use zeroforge_artifact::{DType, Expr};
use zeroforge_graph::{NodeId, Op, ValueId};

use super::elementwise::copy;
use super::strided::StridedView;
use super::{Arg, LowerError, LoweredStep, Lowering, origin_of};
use crate::kernel_spec::{AttentionSpec, KernelSpec, LaunchSizes, MaskKind};

/// Byte offsets in `zf_attention_params`.
mod params {
    use std::mem::offset_of;
    use zeroforge_artifact::abi::zf_attention_params;

    pub(super) const Q: u32 = offset_of!(zf_attention_params, q) as u32;
    pub(super) const K: u32 = offset_of!(zf_attention_params, k) as u32;
    pub(super) const V: u32 = offset_of!(zf_attention_params, v) as u32;
    pub(super) const O: u32 = offset_of!(zf_attention_params, o) as u32;
    pub(super) const MASK: u32 = offset_of!(zf_attention_params, mask) as u32;
    pub(super) const BATCH: u32 = offset_of!(zf_attention_params, batch) as u32;
    pub(super) const HEADS: u32 = offset_of!(zf_attention_params, heads) as u32;
    pub(super) const KV_HEADS: u32 = offset_of!(zf_attention_params, kv_heads) as u32;
    pub(super) const QUERIES: u32 = offset_of!(zf_attention_params, queries) as u32;
    pub(super) const KEYS: u32 = offset_of!(zf_attention_params, keys) as u32;
    pub(super) const OFFSET: u32 = offset_of!(zf_attention_params, offset) as u32;
    pub(super) const WINDOW: u32 = offset_of!(zf_attention_params, window) as u32;
    pub(super) const SCALE: u32 = offset_of!(zf_attention_params, scale) as u32;
}

pub(crate) fn emit(lowering: &mut Lowering<'_>, chain: &[NodeId]) -> Result<bool, LowerError> {
    let graph = lowering.graph;
    let node = graph.node(chain[0]);
    let Op::Attention { scale, mask, position } = &node.op else { return Ok(false) };
    let (q, k, v, out) = (node.inputs[0], node.inputs[1], node.inputs[2], node.outputs[0]);
    let ty = graph.ty(out).clone();
    let (q_ty, k_ty) = (graph.ty(q).clone(), graph.ty(k).clone());
    let static_size = |e: &Expr, what: &str| {
        e.as_const().ok_or_else(|| {
            let reason = format!("the {what} `{e}` is symbolic; export it with a fixed size");
            lowering.unsupported(chain[0], reason)
        })
    };
    let head_dim = static_size(&q_ty.shape[3], "head dimension of q")?;
    let value_dim = static_size(&ty.shape[3], "head dimension of v")?;
    if !matches!(ty.dtype, DType::F16 | DType::Bf16 | DType::F32) {
        let reason = format!("attention in {} has no kernel; use f32, f16 or bf16", ty.dtype);
        return Err(lowering.unsupported(chain[0], reason));
    }

    let q_view = unit_last_stride(lowering, q)?;
    let k_view = unit_last_stride(lowering, k)?;
    let v_view = unit_last_stride(lowering, v)?;
    let mask_value = if *mask { node.inputs.get(3).copied() } else { None };
    let (mask_kind, mask_view) = match mask_value {
        Some(mask) => {
            let dtype = graph.ty(mask).dtype;
            let kind =
                if dtype == DType::Bool { MaskKind::Bool } else { MaskKind::Additive(dtype) };
            let scores = [
                ty.shape[0].clone(),
                ty.shape[1].clone(),
                q_ty.shape[2].clone(),
                k_ty.shape[2].clone(),
            ];
            let view = lowering.strided(mask)?;
            let view = view.broadcast(&scores).ok_or_else(|| LowerError::Inconsistent {
                value: graph.value(mask).name.clone(),
                reason: "the mask does not broadcast to the scores",
            })?;
            (kind, Some(view))
        }
        None => (MaskKind::None, None),
    };

    // Store heads next to each other: the output projection then reads [B, S, H*D] without a copy.
    let (h, s, d) = (ty.shape[1].clone(), ty.shape[2].clone(), ty.shape[3].clone());
    let row = h.clone() * d.clone();
    let strides = vec![s.clone() * row.clone(), d, row, Expr::constant(1)];
    let target = lowering.allocate(out, Some(strides));

    let mut block: Vec<(u32, Arg)> = Vec::new();
    let mut reads = vec![q_view.storage, k_view.storage, v_view.storage];
    let mut operand = |at: u32, view: &StridedView| {
        block.push((at, Arg::Address { storage: view.storage, offset: view.offset.clone() }));
        for (i, stride) in view.strides.iter().enumerate() {
            block.push((at + 8 + 8 * i as u32, Arg::I64(stride.clone())));
        }
    };
    operand(params::Q, &q_view);
    operand(params::K, &k_view);
    operand(params::V, &v_view);
    operand(params::O, &target);
    if let Some(view) = &mask_view {
        operand(params::MASK, view);
        reads.push(view.storage);
    }
    let (batch, heads, queries, keys) = (&ty.shape[0], &ty.shape[1], &ty.shape[2], &k_ty.shape[2]);
    let (mut offset, mut window) = (Expr::constant(0), Expr::constant(0));
    let (mut causal, mut windowed) = (false, false);
    if let Some(position) = position {
        offset = position.offset.clone();
        causal = position.causal;
        if let Some(width) = position.window {
            windowed = true;
            window = Expr::constant(width);
        }
    }
    for (at, size) in [
        (params::BATCH, batch),
        (params::HEADS, heads),
        (params::KV_HEADS, &k_ty.shape[1]),
        (params::QUERIES, queries),
        (params::KEYS, keys),
        (params::OFFSET, &offset),
        (params::WINDOW, &window),
    ] {
        block.push((at, Arg::I64(size.clone())));
    }
    block.push((params::SCALE, Arg::F32(*scale as f32)));

    let flops = Expr::product([batch, heads, queries, keys])
        * Expr::constant(2 * head_dim.saturating_add(value_dim));
    lowering.push_step(LoweredStep {
        spec: KernelSpec::Attention(AttentionSpec {
            dtype: ty.dtype,
            head_dim,
            value_dim,
            mask: mask_kind,
            causal,
            window: windowed,
        }),
        sizes: LaunchSizes::Attention {
            batch: batch.clone(),
            heads: heads.clone(),
            queries: queries.clone(),
            keys: keys.clone(),
        },
        params: block,
        reads,
        writes: vec![target.storage],
        origin: origin_of(graph, chain),
        flops,
    });
    lowering.placed.insert(out, target);
    Ok(true)
}

/// A view whose last axis is contiguous, copying if need be.
fn unit_last_stride(
    lowering: &mut Lowering<'_>,
    value: ValueId,
) -> Result<StridedView, LowerError> {
    let view = lowering.strided(value)?;
    let last = view.strides.len() - 1;
    if view.strides[last].is(1) || view.shape[last].is(1) {
        return Ok(view);
    }
    copy(lowering, value)
}
