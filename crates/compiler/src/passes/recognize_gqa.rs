//! Grouped-query attention whose keys and values were copied to every query head.
//!
//! Exporters repeat each key head by `[B, Hkv, S, D] -> [B, Hkv, 1, S, D] -> [B, Hkv, n, S, D] ->
//! [B, Hkv * n, S, D]`. Attention reads head `h / n` by itself, so the copies go. Exact.

use zeroforge_graph::ir::WeightStore;
use zeroforge_graph::{Graph, Op, ValueId};

use super::Result;
use super::rewrite::rewrite;

pub(super) fn run(graph: &Graph, _: Option<&dyn WeightStore>) -> Result<Graph> {
    rewrite("recognize_gqa", graph, |r, _, node| {
        let Op::Attention { .. } = node.op else { return Ok(None) };
        let (Some(k), Some(v)) = (repeated(graph, node.inputs[1]), repeated(graph, node.inputs[2]))
        else {
            return Ok(None);
        };
        // The same heads of both, which must divide those of the queries.
        let heads = &graph.ty(k).shape[1];
        let queries = &graph.ty(node.inputs[0]).shape[1];
        if graph.ty(v).shape[1] != *heads || !queries.modulo(heads).is(0) {
            return Ok(None);
        }
        let mut inputs: Vec<ValueId> = node.inputs.iter().map(|&v| r.get(v)).collect();
        (inputs[1], inputs[2]) = (r.get(k), r.get(v));
        r.emit(node.op.clone(), &inputs).map(|v| Some(vec![v]))
    })
}

/// What a value repeats for each group of heads.
fn repeated(graph: &Graph, value: ValueId) -> Option<ValueId> {
    let merge = graph.producer(value)?;
    let Op::Reshape(merged) = &merge.op else { return None };
    let expand = graph.producer(*merge.inputs.first()?)?;
    let Op::Expand(wide) = &expand.op else { return None };
    let split = *expand.inputs.first()?;
    let narrow = &graph.ty(split).shape;
    // [B, H, 1, S, D] to [B, H, n, S, D] to [B, H * n, S, D]
    let ([b, h, one, s, d], [wb, wh, n, ws, wd]) = (&narrow[..], &wide[..]) else { return None };
    let same = (b, h, s, d) == (wb, wh, ws, wd) && one.is(1);
    let together = [b.clone(), h.clone() * n.clone(), s.clone(), d.clone()];
    if !same || *merged != together {
        return None;
    }
    let source = graph.producer(split)?;
    let Op::Reshape(_) = source.op else { return None };
    let source = *source.inputs.first()?;
    (graph.ty(source).shape == [b.clone(), h.clone(), s.clone(), d.clone()]).then_some(source)
}
