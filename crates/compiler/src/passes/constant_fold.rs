//! Small values that depend on nothing are computed now, by the interpreter.
//!
//! Only results that are worth storing: below [`MAX_BYTES`], and not what is as cheap to make as to
//! load (a filled tensor, an arithmetic sequence, another view of a constant). A result with one
//! value everywhere becomes a filled tensor, whatever its shape. Floats are rounded once per node.

use std::collections::HashMap;

use zeroforge_artifact::DType;
use zeroforge_graph::interpret::{Data, Precision, Tensor, evaluate};
use zeroforge_graph::ir::{Node, TensorType, WeightData, WeightStore};
use zeroforge_graph::{Graph, Op, ValueId};

use super::Result;
use super::rewrite::{Rewriter, rewrite};

/// Largest constant that is made or looked at.
pub(super) const MAX_BYTES: usize = 64 << 10;

pub(super) fn run(graph: &Graph, store: Option<&dyn WeightStore>) -> Result<Graph> {
    let known = known(graph, store);
    rewrite("constant_fold", graph, |r, _, node| {
        let [output] = node.outputs[..] else { return Ok(None) };
        let ty = graph.ty(output);
        if let Some(value) = filled(graph, node) {
            return r.emit(fill(ty, value), &[]).map(|v| Some(vec![v]));
        }
        let Some(tensor) = known.get(&output).filter(|_| worth_storing(&node.op)) else {
            return Ok(None);
        };
        replacement(r, ty, tensor).map(|v| Some(vec![v]))
    })
}

/// Ops whose result is stored; the others are as cheap to make again.
fn worth_storing(op: &Op) -> bool {
    !matches!(
        op,
        Op::Full { .. }
            | Op::FullInt { .. }
            | Op::Iota { .. }
            | Op::Reshape(_)
            | Op::Permute(_)
            | Op::Expand(_)
            | Op::Slice { .. }
            | Op::Flip(_)
    )
}

fn replacement(r: &mut Rewriter<'_>, ty: &TensorType, tensor: &Tensor) -> Result<ValueId> {
    let bytes = tensor.to_bytes();
    let mut elements = bytes.chunks(ty.dtype.size());
    let first = elements.next();
    if first.is_some() && elements.all(|e| Some(e) == first) {
        let value = match &tensor.data {
            Data::Float(v) => Value::Float(v[0]),
            Data::Int(v) => Value::Int(v[0]),
        };
        return r.emit(fill(ty, value), &[]);
    }
    Ok(r.constant(ty.clone(), bytes))
}

/// One element.
enum Value {
    Float(f64),
    Int(i64),
}

fn fill(ty: &TensorType, value: Value) -> Op {
    let (dtype, shape) = (ty.dtype, ty.shape.clone());
    match value {
        Value::Int(value) if dtype != DType::Bool => {
            Op::FullInt { dtype, shape, value: value.into() }
        }
        Value::Int(value) => Op::Full { dtype, shape, value: value as f64 },
        Value::Float(value) => Op::Full { dtype, shape, value },
    }
}

/// An elementwise function of filled tensors is filled, also where sizes are symbolic.
fn filled(graph: &Graph, node: &Node) -> Option<Value> {
    if !matches!(node.op, Op::Unary(_) | Op::Binary(_) | Op::Where | Op::Cast(_)) {
        return None;
    }
    let operands: Vec<Tensor> = node
        .inputs
        .iter()
        .map(|&v| {
            let op = match &graph.producer(v)?.op {
                Op::Full { dtype, value, .. } => {
                    Op::Full { dtype: *dtype, shape: Vec::new(), value: *value }
                }
                Op::FullInt { dtype, value, .. } if value.as_const().is_some() => {
                    Op::FullInt { dtype: *dtype, shape: Vec::new(), value: value.clone() }
                }
                _ => return None,
            };
            evaluate(&op, &[], &[], Precision::Rounded, 1).ok()?.pop()
        })
        .collect::<Option<_>>()?;
    let operands: Vec<&Tensor> = operands.iter().collect();
    let result = evaluate(&node.op, &operands, &[], Precision::Rounded, 1).ok()?.pop()?;
    match &result.data {
        Data::Float(v) => v.first().map(|v| Value::Float(*v)),
        Data::Int(v) => v.first().map(|v| Value::Int(*v)),
    }
}

/// The small values that depend on constants only.
fn known(graph: &Graph, store: Option<&dyn WeightStore>) -> HashMap<ValueId, Tensor> {
    let mut known: HashMap<ValueId, Tensor> = HashMap::new();
    let fits = |ty: &TensorType| -> Option<Vec<usize>> {
        let shape: Vec<usize> = ty
            .static_shape()?
            .into_iter()
            .map(|n| usize::try_from(n).ok())
            .collect::<Option<_>>()?;
        let bytes = shape.iter().try_fold(ty.dtype.size(), |p, &n| p.checked_mul(n))?;
        (bytes <= MAX_BYTES).then_some(shape)
    };
    for weight in &graph.weights {
        let ty = graph.ty(weight.value);
        let Some(shape) = fits(ty).filter(|_| !weight.mutable) else { continue };
        let bytes = match &weight.data {
            WeightData::Inline(bytes) => Some(bytes.clone()),
            // A weight that cannot be read is reported when it is stored.
            WeightData::Source(key) => store.and_then(|s| s.bytes(key).ok()),
            WeightData::Unbound => None,
        };
        if let Some(tensor) = bytes.and_then(|b| Tensor::from_bytes(ty.dtype, &shape, b.as_slice()))
        {
            known.insert(weight.value, tensor);
        }
    }
    for node in &graph.nodes {
        let [output] = node.outputs[..] else { continue };
        if fits(graph.ty(output)).is_none() {
            continue;
        }
        let operands: Option<Vec<&Tensor>> = node.inputs.iter().map(|v| known.get(v)).collect();
        let Some(operands) = operands else { continue };
        // What cannot be computed on its constants stays as it is, and fails when it runs.
        let result = evaluate(&node.op, &operands, &[], Precision::Rounded, MAX_BYTES);
        if let Some(tensor) = result.ok().and_then(|mut r| r.pop()) {
            known.insert(output, tensor);
        }
    }
    known
}
