//! Fused attention.

use zeroforge_artifact::{DType, Expr};
use zeroforge_graph::{NodeId, Op, ValueId};

use super::elementwise::copy;
use super::strided::StridedView;
use super::{LowerError, LoweredStep, Lowering, origin_of};
use crate::kernel_spec::{AttentionSpec, KernelSpec, MaskKind};
use crate::launch::{AttentionLaunch, Launch, View};

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

    let mut reads = vec![q_view.storage, k_view.storage, v_view.storage];
    reads.extend(mask_view.as_ref().map(|view| view.storage));
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
        launch: Launch::Attention(Box::new(AttentionLaunch {
            q: view_of(&q_view),
            k: view_of(&k_view),
            v: view_of(&v_view),
            o: view_of(&target),
            mask: mask_view.as_ref().map(view_of),
            batch: batch.clone(),
            heads: heads.clone(),
            kv_heads: k_ty.shape[1].clone(),
            queries: queries.clone(),
            keys: keys.clone(),
            offset,
            window,
            scale: *scale as f32,
        })),
        reads,
        writes: vec![target.storage],
        workspace: None,
        origin: origin_of(graph, chain),
        flops,
    });
    lowering.placed.insert(out, target);
    Ok(true)
}

/// A view of four axes as kernels take it.
fn view_of(view: &StridedView) -> View {
    let stride = |i: usize| view.strides.get(i).cloned().unwrap_or(Expr::constant(0));
    View {
        storage: view.storage,
        offset: view.offset.clone(),
        strides: std::array::from_fn(stride),
    }
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
