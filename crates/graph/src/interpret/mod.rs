//! The reference interpreter: what a graph means, computed plainly.
//!
//! Floats are computed in f64. With [`Precision::Rounded`] the result of every node is rounded to
//! its element type, which is what an ideal implementation of the types gives; with
//! [`Precision::Exact`] nothing is rounded, which is what errors are measured against. Loops follow
//! the definitions in [`crate::op`]; nothing here is fast.

mod bind;
mod contraction;
mod elementwise;
mod indexing;
mod layout;
mod reduction;
pub mod scalar;
mod tensor;

use std::collections::BTreeMap;
use std::sync::Arc;

use zeroforge_artifact::{DType, Expr, ExprError};

use crate::infer::{InferError, infer, op_name};
use crate::ir::{Def, Graph, OutputKind, TensorType, WeightData, WeightStore};
use crate::op::Op;
pub use tensor::{Data, Tensor};

/// How floats are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Rounded to their element type after every node.
    #[default]
    Rounded,
    /// In f64 throughout, also where the graph converts to a narrower float.
    Exact,
}

/// Most elements that all live values together may have, unless an option says otherwise.
pub const DEFAULT_MAX_ELEMENTS: usize = 1 << 28;

/// How to interpret.
#[derive(Clone, Copy, Debug)]
pub struct InterpretOptions {
    /// How floats are kept.
    pub precision: Precision,
    /// Whether [`Run::values`] keeps every value of the graph.
    pub keep_values: bool,
    /// Most elements that all live values together may have.
    pub max_elements: usize,
}

impl Default for InterpretOptions {
    fn default() -> InterpretOptions {
        InterpretOptions {
            precision: Precision::Rounded,
            keep_values: false,
            max_elements: DEFAULT_MAX_ELEMENTS,
        }
    }
}

/// Why a graph could not be interpreted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InterpretError {
    /// The arguments do not fit the graph.
    #[error("input `{name}`: {reason}")]
    Input {
        /// Name of the input.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The sizes of a call break a rule of the model.
    #[error("{0}")]
    Size(String),
    /// A size could not be computed.
    #[error(transparent)]
    Expr(#[from] ExprError),
    /// A weight has no data.
    #[error("weight `{name}`: {reason}")]
    Weight {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// An op is not valid on the sizes of this call.
    #[error(transparent)]
    Op(#[from] InferError),
    /// An op reads or writes outside a tensor.
    #[error("{0}")]
    Range(String),
    /// More memory is needed than is allowed.
    #[error("{needed} elements are needed, {limit} are allowed")]
    TooLarge {
        /// Elements.
        needed: usize,
        /// The limit.
        limit: usize,
    },
    /// Something failed in a node.
    #[error("node {index} `{node}` ({op}): {source}")]
    Node {
        /// Index of the node.
        index: usize,
        /// Its name.
        node: String,
        /// Its op.
        op: &'static str,
        /// What failed.
        source: Box<InterpretError>,
    },
    /// A graph that was not verified, or a fault of the interpreter.
    #[error("the graph is inconsistent: {0}")]
    Internal(&'static str),
}

impl InterpretError {
    fn internal(what: &'static str) -> InterpretError {
        InterpretError::Internal(what)
    }
}

type Result<T> = std::result::Result<T, InterpretError>;

/// The results of one call.
#[derive(Clone, Debug)]
pub struct Run {
    /// One tensor per output of the graph.
    pub outputs: Vec<Arc<Tensor>>,
    /// With [`InterpretOptions::keep_values`], one per value of the graph; empty otherwise.
    pub values: Vec<Option<Arc<Tensor>>>,
    /// What the call's symbols are.
    pub symbols: Vec<i64>,
}

/// A graph with the state that its mutable buffers have between calls.
pub struct Interpreter<'a> {
    graph: &'a Graph,
    store: Option<&'a dyn WeightStore>,
    options: InterpretOptions,
    state: BTreeMap<u32, Arc<Tensor>>,
    weights: BTreeMap<u32, Arc<Tensor>>,
}

impl<'a> Interpreter<'a> {
    /// An interpreter of a verified graph; `store` holds the weights that are not inline.
    pub fn new(
        graph: &'a Graph,
        store: Option<&'a dyn WeightStore>,
        options: InterpretOptions,
    ) -> Interpreter<'a> {
        let (state, weights) = (BTreeMap::new(), BTreeMap::new());
        Interpreter { graph, store, options, state, weights }
    }

    /// The value that a mutable buffer has now, by the name of the weight.
    pub fn state(&self, name: &str) -> Option<&Tensor> {
        let at = self.graph.weights.iter().position(|w| w.name == name)?;
        self.state.get(&(at as u32)).map(|t| &**t)
    }

    fn weight(&mut self, at: u32) -> Result<Arc<Tensor>> {
        if let Some(tensor) = self.state.get(&at).or_else(|| self.weights.get(&at)) {
            return Ok(tensor.clone());
        }
        let graph = self.graph;
        let weight = graph.weights.get(at as usize);
        let weight = weight.ok_or_else(|| InterpretError::internal("no such weight"))?;
        let fail = |reason: String| InterpretError::Weight { name: weight.name.clone(), reason };
        let bytes = match (&weight.data, self.store) {
            (WeightData::Inline(bytes), _) => bytes.clone(),
            (WeightData::Source(key), Some(store)) => store.bytes(key).map_err(fail)?,
            (WeightData::Source(key), None) => {
                return Err(fail(format!("its data `{key}` was not given")));
            }
            (WeightData::Unbound, _) => return Err(fail("it has no data".to_owned())),
        };
        let ty = graph.ty(weight.value);
        let shape = bind::evaluate(&ty.shape, &[])?;
        let tensor = Tensor::from_bytes(ty.dtype, &shape, bytes.as_slice());
        let tensor = Arc::new(tensor.ok_or_else(|| fail("its data has another size".into()))?);
        self.weights.insert(at, tensor.clone());
        Ok(tensor)
    }

    /// Runs the graph on inputs by name and keeps the new values of buffers for the next call.
    pub fn run(&mut self, inputs: &[(String, Tensor)]) -> Result<Run> {
        let graph = self.graph;
        let arguments = bind::arguments(graph, inputs)?;
        let symbols = bind::symbols(graph, &arguments)?;
        // Values are dropped after their last reader.
        let mut last_use = vec![0usize; graph.values.len()];
        for (i, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|v| last_use[v.0 as usize] = i);
        }
        graph.outputs.iter().for_each(|o| last_use[o.value.0 as usize] = usize::MAX);
        let mut values: Vec<Option<Arc<Tensor>>> = vec![None; graph.values.len()];
        let mut live = 0usize;
        for (input, tensor) in graph.inputs.iter().zip(arguments) {
            live = live.saturating_add(tensor.len());
            values[input.value.0 as usize] = Some(Arc::new(tensor.clone()));
        }
        for (index, node) in graph.nodes.iter().enumerate() {
            let at = |source: InterpretError| InterpretError::Node {
                index,
                node: node.origin.node.clone(),
                op: op_name(&node.op),
                source: Box::new(source),
            };
            let mut operands = Vec::with_capacity(node.inputs.len());
            for &v in &node.inputs {
                let tensor = match (&values[v.0 as usize], graph.value(v).def) {
                    (Some(tensor), _) => tensor.clone(),
                    (None, Def::Weight(w)) => {
                        let tensor = self.weight(w).map_err(at)?;
                        if self.options.keep_values {
                            values[v.0 as usize] = Some(tensor.clone());
                        }
                        tensor
                    }
                    _ => return Err(at(InterpretError::internal("a value is not computed"))),
                };
                operands.push(tensor);
            }
            let operands: Vec<&Tensor> = operands.iter().map(|t| &**t).collect();
            let room = self.options.max_elements.saturating_sub(live);
            let results = evaluate(&node.op, &operands, &symbols, self.options.precision, room)
                .map_err(at)?;
            for (&v, tensor) in node.outputs.iter().zip(results) {
                let ty = graph.ty(v);
                let expected = bind::evaluate(&ty.shape, &symbols).map_err(at)?;
                if tensor.dtype != ty.dtype || tensor.shape != expected {
                    return Err(at(InterpretError::internal("a result has not its type")));
                }
                live = live.saturating_add(tensor.len());
                values[v.0 as usize] = Some(Arc::new(tensor));
            }
            if !self.options.keep_values {
                for &v in node.inputs.iter().chain(&node.outputs) {
                    if last_use[v.0 as usize] <= index
                        && let Some(dead) = values[v.0 as usize].take()
                    {
                        live = live.saturating_sub(dead.len());
                    }
                }
            }
        }
        let mut outputs = Vec::with_capacity(graph.outputs.len());
        for output in &graph.outputs {
            let tensor = match (&values[output.value.0 as usize], graph.value(output.value).def) {
                (Some(tensor), _) => tensor.clone(),
                (None, Def::Weight(w)) => self.weight(w)?,
                _ => return Err(InterpretError::internal("an output is not computed")),
            };
            outputs.push(tensor);
        }
        for (output, tensor) in graph.outputs.iter().zip(&outputs) {
            if let OutputKind::BufferMutation(at) = output.kind {
                self.state.insert(at, tensor.clone());
            }
        }
        if !self.options.keep_values {
            values.clear();
        }
        Ok(Run { outputs, values, symbols })
    }
}

/// What a result is, with its sizes known.
struct ResultType {
    dtype: DType,
    shape: Vec<usize>,
}

/// Computes one op, its symbolic attributes bound to `symbols`. No result may have more than
/// `max_elements` elements.
pub fn evaluate(
    op: &Op,
    inputs: &[&Tensor],
    symbols: &[i64],
    precision: Precision,
    max_elements: usize,
) -> Result<Vec<Tensor>> {
    let op = bind::concrete(op, symbols)?;
    let types: Vec<TensorType> = inputs
        .iter()
        .map(|t| {
            let shape = t.shape.iter().map(|&n| Expr::constant(n as i64)).collect();
            TensorType::new(t.dtype, shape)
        })
        .collect();
    let types: Vec<&TensorType> = types.iter().collect();
    let mut results = Vec::new();
    let mut needed = 0usize;
    for ty in infer(&op, &types)? {
        let shape = bind::evaluate(&ty.shape, &[])?;
        needed = needed.saturating_add(tensor::numel(&shape).unwrap_or(usize::MAX));
        results.push(ResultType { dtype: ty.dtype, shape });
    }
    if needed > max_elements {
        return Err(InterpretError::TooLarge { needed, limit: max_elements });
    }
    let Some(result) = results.first() else {
        return Err(InterpretError::internal("an op without result"));
    };
    let family = [
        elementwise::evaluate,
        reduction::evaluate,
        contraction::evaluate,
        indexing::evaluate,
        layout::evaluate,
    ];
    let found = family.iter().find_map(|f| f(&op, inputs, result, precision).transpose());
    let mut tensors = match found {
        Some(tensors) => tensors?,
        None => return Err(InterpretError::internal("an op that no family knows")),
    };
    for (tensor, ty) in tensors.iter_mut().zip(&results) {
        match &mut tensor.data {
            Data::Float(values) => {
                values.iter_mut().for_each(|v| *v = tensor::round(ty.dtype, precision, *v));
            }
            Data::Int(values) => {
                values.iter_mut().for_each(|v| *v = scalar::wrap(ty.dtype, *v));
            }
        }
        let complete = tensor::numel(&ty.shape) == Some(tensor.len());
        let of_kind = matches!(tensor.data, Data::Float(_)) == ty.dtype.is_float();
        if tensor.dtype != ty.dtype || tensor.shape != ty.shape || !complete || !of_kind {
            return Err(InterpretError::internal("a result is not what the op gives"));
        }
    }
    Ok(tensors)
}
