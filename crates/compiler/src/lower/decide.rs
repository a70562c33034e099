//! What is stored and what is recomputed inside its readers.

use zeroforge_artifact::Expr;
use zeroforge_graph::ir::Def;
use zeroforge_graph::op::{ReduceOp, UnaryOp};
use zeroforge_graph::{NodeId, Op, ValueId};

use super::Lowering;

/// Longest run of pointwise nodes fused behind an anchor.
const MAX_CHAIN: usize = 24;
/// Above this many instructions per element a value is stored even for one reader, which bounds the
/// size of a kernel.
const MAX_INLINE_COST: u32 = 64;
/// Above this many instructions per element a value with several readers is stored.
const MAX_SHARED_COST: u32 = 6;
/// Above this many instructions per element a value is stored if its reader evaluates it more often
/// than once per element of its own.
const MAX_REPEATED_COST: u32 = 8;

/// Layout ops that keep a strided view strided.
pub(crate) fn is_layout(op: &Op) -> bool {
    matches!(op, Op::Reshape(_) | Op::Permute(_) | Op::Expand(_) | Op::Slice { .. })
}

/// Elementwise ops.
pub(crate) fn is_pointwise(op: &Op) -> bool {
    matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Where | Op::Cast(_))
}

/// Whether a node becomes a kernel of its own at its place.
pub(crate) fn is_anchor(lowering: &Lowering<'_>, id: NodeId) -> bool {
    let node = lowering.graph.node(id);
    match &node.op {
        Op::SliceScatter { .. } => lowering.in_place.contains_key(&node.outputs[0]),
        Op::Reduce { .. }
        | Op::CumSum { .. }
        | Op::Softmax { .. }
        | Op::LogSoftmax { .. }
        | Op::TopK { .. }
        | Op::LayerNorm { .. }
        | Op::RmsNorm { .. }
        | Op::GroupNorm { .. }
        | Op::MatMul { .. }
        | Op::Conv { .. }
        | Op::ConvTranspose { .. }
        | Op::Attention { .. }
        | Op::Pool { .. }
        | Op::AdaptiveAvgPool { .. }
        | Op::IndexCopy { .. }
        | Op::IndexPut { .. }
        | Op::Scatter { .. } => true,
        Op::Full { .. }
        | Op::FullInt { .. }
        | Op::Iota { .. }
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Where
        | Op::Cast(_)
        | Op::Upsample { .. }
        | Op::IndexSelect { .. }
        | Op::Gather { .. }
        | Op::IndexMulti { .. }
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Expand(_)
        | Op::Slice { .. }
        | Op::Flip(_)
        | Op::Concat { .. }
        | Op::Pad { .. } => false,
    }
}

/// The anchor followed by the pointwise nodes that only it feeds, in order.
pub(crate) fn claim_chain(lowering: &Lowering<'_>, anchor: NodeId) -> Vec<NodeId> {
    let graph = lowering.graph;
    let mut chain = vec![anchor];
    let fuses = match &graph.node(anchor).op {
        Op::MatMul { .. }
        | Op::Conv { .. }
        | Op::Softmax { .. }
        | Op::LogSoftmax { .. }
        | Op::LayerNorm { .. }
        | Op::RmsNorm { .. }
        | Op::GroupNorm { .. }
        | Op::Pool { .. } => true,
        Op::Reduce { op, .. } => !matches!(op, ReduceOp::ArgMax | ReduceOp::ArgMin),
        _ => false,
    };
    while fuses && chain.len() < MAX_CHAIN {
        let value = graph.node(chain[chain.len() - 1]).outputs[0];
        if lowering.uses[value.0 as usize] != 1 || lowering.is_output(value) {
            break;
        }
        let [user] = lowering.users[value.0 as usize][..] else { break };
        let next = graph.node(user);
        let same_shape = graph.ty(next.outputs[0]).shape == graph.ty(value).shape;
        if !is_pointwise(&next.op) || !same_shape || lowering.claimed.contains_key(&user) {
            break;
        }
        chain.push(user);
    }
    chain
}

/// Whether an unevaluated value should be stored when its node is reached.
pub(crate) fn must_store(lowering: &Lowering<'_>, value: ValueId) -> bool {
    if lowering.is_output(value) {
        return true;
    }
    let Some(node) = lowering.graph.producer(value) else { return false };
    // A view is stored only where a reader needs it; its base has been judged with its readers.
    if is_layout(&node.op) {
        return false;
    }
    let cost = cost(lowering, value, MAX_INLINE_COST + 1);
    if cost > MAX_INLINE_COST {
        return true;
    }
    let readers = Readers::of(lowering, value);
    (readers.count > 1 && cost > MAX_SHARED_COST) || (readers.repeated && cost > MAX_REPEATED_COST)
}

/// Instructions per element to recompute a value inside a reader, counted up to `limit`.
fn cost(lowering: &Lowering<'_>, value: ValueId, limit: u32) -> u32 {
    if limit == 0 {
        return 0;
    }
    if lowering.placed.contains_key(&value) {
        return 1;
    }
    let graph = lowering.graph;
    let Def::Node { node, .. } = graph.value(value).def else { return 1 };
    if is_anchor(lowering, node) {
        return 1;
    }
    let node = graph.node(node);
    let own = match &node.op {
        Op::Unary(op) => match op {
            UnaryOp::Neg
            | UnaryOp::Abs
            | UnaryOp::Relu
            | UnaryOp::Floor
            | UnaryOp::Ceil
            | UnaryOp::Round
            | UnaryOp::Trunc
            | UnaryOp::LogicalNot
            | UnaryOp::BitNot
            | UnaryOp::IsNan
            | UnaryOp::IsInf
            | UnaryOp::Sign => 1,
            UnaryOp::Sqrt | UnaryOp::Rsqrt | UnaryOp::Recip => 4,
            _ => 12,
        },
        Op::Binary(zeroforge_graph::op::BinaryOp::Pow | zeroforge_graph::op::BinaryOp::Atan2) => 16,
        Op::Binary(_) | Op::Where | Op::Cast(_) => 1,
        Op::IndexSelect { .. } | Op::Gather { .. } | Op::IndexMulti { .. } => 4,
        Op::Concat { .. } | Op::Pad { .. } | Op::SliceScatter { .. } => 3,
        Op::Upsample { .. } => 12,
        _ => 0,
    };
    let mut total: u32 = own;
    for &input in &node.inputs {
        if total >= limit {
            return limit;
        }
        total += cost(lowering, input, limit - total);
    }
    total.min(limit)
}

/// How a value is read, looking through layout ops.
#[derive(Default)]
struct Readers {
    count: u32,
    /// Some reader evaluates an element more than once.
    repeated: bool,
}

impl Readers {
    fn of(lowering: &Lowering<'_>, value: ValueId) -> Readers {
        let mut readers = Readers::default();
        let numel = lowering.graph.ty(value).numel();
        readers.add(lowering, value, &numel, 0);
        readers
    }

    fn add(&mut self, lowering: &Lowering<'_>, value: ValueId, numel: &Expr, depth: u32) {
        if lowering.is_output(value) {
            self.count += 1;
        }
        for &user in &lowering.users[value.0 as usize] {
            let node = lowering.graph.node(user);
            let out = node.outputs[0];
            if is_layout(&node.op) && depth < 8 {
                if matches!(node.op, Op::Expand(_)) && lowering.graph.ty(out).numel() != *numel {
                    self.repeated = true;
                }
                self.add(lowering, out, numel, depth + 1);
                continue;
            }
            self.count += 1;
            let per_stage = matches!(
                node.op,
                Op::Softmax { .. }
                    | Op::LogSoftmax { .. }
                    | Op::LayerNorm { .. }
                    | Op::RmsNorm { .. }
                    | Op::GroupNorm { .. }
                    | Op::TopK { .. }
                    | Op::Pool { .. }
                    | Op::ConvTranspose { .. }
            );
            let stretched = !matches!(node.op, Op::Reduce { .. } | Op::Slice { .. })
                && !is_anchor(lowering, user)
                && lowering.graph.ty(out).numel() != *numel;
            self.repeated |= per_stage || stretched;
        }
    }
}
