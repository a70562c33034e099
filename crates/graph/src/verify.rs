//! The rules that every graph keeps, checked.
//!
//! One pass over the graph, cheap next to everything else that is done with it: importers end with
//! it, the compiler starts with it, and every pass is followed by it.

use std::collections::HashSet;

use zeroforge_artifact::{Expr, Symbol};

use crate::infer::{InferError, MAX_RANK, format_shape, infer, op_name};
use crate::ir::{Def, Graph, Node, NodeId, OutputKind, TensorType, ValueId, WeightData};
use crate::op::{Op, PositionMask};

/// The first rule that a graph breaks.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VerifyError {
    /// A node reads a value that does not exist.
    #[error("{node}: operand {operand} is value {value}, but the graph has {count} values")]
    NoSuchOperand {
        /// The node.
        node: String,
        /// Which operand.
        operand: usize,
        /// The id.
        value: u32,
        /// How many values there are.
        count: usize,
    },
    /// A node reads a value that it or a later node computes.
    #[error("{node}: operand {operand} `%{value}` is not defined before it")]
    UseBeforeDefinition {
        /// The node.
        node: String,
        /// Which operand.
        operand: usize,
        /// Name of the value.
        value: String,
    },
    /// A value and what defines it do not point to each other.
    #[error("value `%{value}`: {reason}")]
    Definition {
        /// Name of the value.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// A name is taken twice or is not an identifier of the text form.
    #[error("{what} name `{name}` {reason}")]
    Name {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// An op is not valid on its operands.
    #[error("{node}: {source}")]
    Op {
        /// The node.
        node: String,
        /// What is wrong.
        source: InferError,
    },
    /// The recorded type of a result is not what the op gives.
    #[error("{node}: `%{value}` is recorded as {recorded}, but the op gives {inferred}")]
    ResultType {
        /// The node.
        node: String,
        /// Name of the result.
        value: String,
        /// The type in the graph.
        recorded: String,
        /// The type that follows from the operands.
        inferred: String,
    },
    /// A node has another number of results than its op.
    #[error("{node}: {found} results are recorded, the op gives {expected}")]
    ResultCount {
        /// The node.
        node: String,
        /// How many the op gives.
        expected: usize,
        /// How many are recorded.
        found: usize,
    },
    /// An expression uses a symbol that the graph does not declare.
    #[error("{at}: size `{expr}` uses s{symbol}, but the graph declares {count} symbols")]
    UndeclaredSymbol {
        /// The node, value or assumption.
        at: String,
        /// The expression.
        expr: String,
        /// The symbol.
        symbol: u32,
        /// How many are declared.
        count: usize,
    },
    /// A symbol's range is empty or negative.
    #[error("symbol s{symbol} `{name}`: the range {min} to {max} holds no size")]
    SymbolRange {
        /// Index of the symbol.
        symbol: usize,
        /// Its name.
        name: String,
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// A weight's shape or data is wrong.
    #[error("weight `{name}`: {reason}")]
    Weight {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// An output is wrong.
    #[error("output `{name}`: {reason}")]
    Output {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

type Result<T> = std::result::Result<T, VerifyError>;

/// Whether a value may be called so: letters, digits, `_` and `.`, not empty.
pub fn is_identifier(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
}

/// Every size expression among an op's attributes.
pub fn op_exprs(op: &Op) -> Vec<&Expr> {
    match op {
        Op::Full { shape, .. } | Op::Reshape(shape) | Op::Expand(shape) => shape.iter().collect(),
        Op::FullInt { shape, value, .. } => shape.iter().chain([value]).collect(),
        Op::Iota { len, start, .. } => vec![len, start],
        Op::TopK { k } => vec![k],
        Op::Attention { position: Some(PositionMask { offset, .. }), .. } => vec![offset],
        Op::AdaptiveAvgPool { out } | Op::Upsample { out, .. } => out.iter().collect(),
        Op::Slice { start, end, .. } => vec![start, end],
        Op::SliceScatter { start, .. } => vec![start],
        Op::Pad { pads, .. } => pads.iter().flat_map(|(a, b)| [a, b]).collect(),
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Where
        | Op::Cast(_)
        | Op::Reduce { .. }
        | Op::CumSum { .. }
        | Op::Softmax { .. }
        | Op::LogSoftmax { .. }
        | Op::LayerNorm { .. }
        | Op::RmsNorm { .. }
        | Op::GroupNorm { .. }
        | Op::MatMul { .. }
        | Op::Conv { .. }
        | Op::ConvTranspose { .. }
        | Op::Attention { position: None, .. }
        | Op::Pool { .. }
        | Op::IndexSelect { .. }
        | Op::Gather { .. }
        | Op::IndexMulti { .. }
        | Op::IndexCopy { .. }
        | Op::IndexPut { .. }
        | Op::Scatter { .. }
        | Op::Permute(_)
        | Op::Flip(_)
        | Op::Concat { .. } => Vec::new(),
    }
}

/// `node 12 `add_3` (add) at model.py:7`.
fn describe(id: usize, node: &Node) -> String {
    let mut text = format!("node {id} `{}` ({})", node.origin.node, op_name(&node.op));
    if !node.origin.source.is_empty() {
        text.push_str(&format!(" at {}", node.origin.source));
    }
    text
}

fn format_type(ty: &TensorType) -> String {
    format!("{} {}", ty.dtype, format_shape(&ty.shape))
}

/// Checks every rule; the first that is broken is the error.
pub fn verify(graph: &Graph) -> Result<()> {
    symbols(graph)?;
    values(graph)?;
    nodes(graph)?;
    weights(graph)?;
    outputs(graph)
}

fn declared<'a>(
    graph: &Graph,
    exprs: impl IntoIterator<Item = &'a Expr>,
    at: &dyn Fn() -> String,
) -> Result<()> {
    let count = graph.symbols.len();
    let mut used: Vec<Symbol> = Vec::new();
    for expr in exprs {
        used.clear();
        expr.collect_symbols(&mut used);
        if let Some(s) = used.iter().find(|s| s.0 as usize >= count) {
            let (expr, symbol) = (expr.to_string(), s.0);
            return Err(VerifyError::UndeclaredSymbol { at: at(), expr, symbol, count });
        }
    }
    Ok(())
}

fn symbols(graph: &Graph) -> Result<()> {
    for (symbol, decl) in graph.symbols.iter().enumerate() {
        let (min, max) = (decl.range.min, decl.range.max);
        if min < 0 || min > max {
            let name = decl.name.clone();
            return Err(VerifyError::SymbolRange { symbol, name, min, max });
        }
    }
    graph.assumptions.iter().try_for_each(|a| {
        declared(graph, [&a.non_negative], &|| format!("assumption `{}`", a.message))
    })
}

/// Names, and that values and definitions point to each other.
fn values(graph: &Graph) -> Result<()> {
    let mut names = HashSet::with_capacity(graph.values.len());
    for (i, value) in graph.values.iter().enumerate() {
        let name = || value.name.clone();
        let id = ValueId(i as u32);
        if !is_identifier(&value.name) {
            let reason = "has other characters than letters, digits, `_` and `.`";
            return Err(VerifyError::Name { what: "value", name: name(), reason });
        }
        if !names.insert(value.name.as_str()) {
            let reason = "is taken twice";
            return Err(VerifyError::Name { what: "value", name: name(), reason });
        }
        let fail = |reason: String| Err(VerifyError::Definition { value: name(), reason });
        if value.ty.rank() > MAX_RANK {
            return fail(format!("{} axes are more than the limit of {MAX_RANK}", value.ty.rank()));
        }
        if let Some(n) = value.ty.shape.iter().find(|n| n.as_const().is_some_and(|n| n < 0)) {
            return fail(format!("a size of its shape is {n}"));
        }
        declared(graph, &value.ty.shape, &|| format!("value `%{}`", value.name))?;
        let (kind, index, back) = match value.def {
            Def::Input(at) => {
                ("input", at as usize, graph.inputs.get(at as usize).map(|d| d.value))
            }
            Def::Weight(at) => {
                ("weight", at as usize, graph.weights.get(at as usize).map(|d| d.value))
            }
            Def::Node { node, output } => {
                let result = graph.nodes.get(node.0 as usize);
                let result = result.and_then(|n| n.outputs.get(output as usize)).copied();
                ("result of node", node.0 as usize, result)
            }
        };
        match back {
            Some(back) if back == id => {}
            Some(back) => {
                return fail(format!(
                    "it says {kind} {index} defines it, which defines {}",
                    back.0
                ));
            }
            None => {
                return fail(format!("it says {kind} {index} defines it, which does not exist"));
            }
        }
    }
    // With the check above this makes definitions and values one to one.
    let defined = graph
        .inputs
        .iter()
        .map(|i| (i.name.as_str(), i.value))
        .chain(graph.weights.iter().map(|w| (w.name.as_str(), w.value)))
        .chain(
            graph.nodes.iter().flat_map(|n| n.outputs.iter().map(|&v| (n.origin.node.as_str(), v))),
        );
    let mut seen = vec![false; graph.values.len()];
    for (name, value) in defined {
        match seen.get_mut(value.0 as usize) {
            Some(seen) if !*seen => *seen = true,
            found => {
                let reason = if found.is_some() { "is defined twice" } else { "does not exist" };
                let reason = format!("{reason} (value {} of {})", value.0, graph.values.len());
                return Err(VerifyError::Definition { value: name.to_owned(), reason });
            }
        }
    }
    unique("input", graph.inputs.iter().map(|i| i.name.as_str()))?;
    unique("weight", graph.weights.iter().map(|w| w.name.as_str()))
}

fn unique<'a>(what: &'static str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            let name = name.to_owned();
            return Err(VerifyError::Name { what, name, reason: "is taken twice" });
        }
    }
    Ok(())
}

fn nodes(graph: &Graph) -> Result<()> {
    for (i, node) in graph.nodes.iter().enumerate() {
        let at = || describe(i, node);
        for (operand, &v) in node.inputs.iter().enumerate() {
            let Some(value) = graph.values.get(v.0 as usize) else {
                let count = graph.values.len();
                return Err(VerifyError::NoSuchOperand { node: at(), operand, value: v.0, count });
            };
            if matches!(value.def, Def::Node { node: NodeId(def), .. } if def as usize >= i) {
                let value = value.name.clone();
                return Err(VerifyError::UseBeforeDefinition { node: at(), operand, value });
            }
        }
        declared(graph, op_exprs(&node.op), &at)?;
        let types: Vec<&TensorType> = node.inputs.iter().map(|&v| graph.ty(v)).collect();
        let inferred =
            infer(&node.op, &types).map_err(|source| VerifyError::Op { node: at(), source })?;
        if inferred.len() != node.outputs.len() {
            let (expected, found) = (inferred.len(), node.outputs.len());
            return Err(VerifyError::ResultCount { node: at(), expected, found });
        }
        for (&v, ty) in node.outputs.iter().zip(&inferred) {
            if graph.ty(v) != ty {
                return Err(VerifyError::ResultType {
                    node: at(),
                    value: graph.value(v).name.clone(),
                    recorded: format_type(graph.ty(v)),
                    inferred: format_type(ty),
                });
            }
        }
    }
    Ok(())
}

fn weights(graph: &Graph) -> Result<()> {
    for weight in &graph.weights {
        let fail = |reason: String| Err(VerifyError::Weight { name: weight.name.clone(), reason });
        let ty = graph.ty(weight.value);
        let Some(shape) = ty.static_shape() else {
            return fail(format!("its shape {} is symbolic", format_shape(&ty.shape)));
        };
        let bytes = shape
            .iter()
            .try_fold(ty.dtype.size(), |product, &n| product.checked_mul(usize::try_from(n).ok()?));
        let Some(bytes) = bytes else {
            return fail(format!("its shape {} overflows", format_shape(&ty.shape)));
        };
        if let WeightData::Inline(data) = &weight.data
            && data.as_slice().len() != bytes
        {
            return fail(format!(
                "it holds {} bytes, but {} needs {bytes}",
                data.as_slice().len(),
                format_type(ty)
            ));
        }
    }
    Ok(())
}

fn outputs(graph: &Graph) -> Result<()> {
    unique("output", graph.outputs.iter().map(|o| o.name.as_str()))?;
    let mut targets = HashSet::new();
    for output in &graph.outputs {
        let fail = |reason: String| Err(VerifyError::Output { name: output.name.clone(), reason });
        let Some(value) = graph.values.get(output.value.0 as usize) else {
            return fail(format!("value {} does not exist", output.value.0));
        };
        let target = match output.kind {
            OutputKind::User => continue,
            OutputKind::InputMutation(at) => match graph.inputs.get(at as usize) {
                Some(input) => input.value,
                None => return fail(format!("it updates input {at}, which does not exist")),
            },
            OutputKind::BufferMutation(at) => match graph.weights.get(at as usize) {
                Some(weight) if weight.mutable => weight.value,
                Some(weight) => {
                    return fail(format!("it updates `{}`, which is not mutable", weight.name));
                }
                None => return fail(format!("it updates weight {at}, which does not exist")),
            },
        };
        if !targets.insert(target) {
            return fail(format!("`%{}` is updated twice", graph.value(target).name));
        }
        if graph.ty(target) != &value.ty {
            return fail(format!(
                "it updates `%{}`, which is {}, with {}",
                graph.value(target).name,
                format_type(graph.ty(target)),
                format_type(&value.ty)
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Assumption, Bytes, Origin, Output};
    use crate::op::{BinaryOp, UnaryOp};
    use zeroforge_artifact::program::SymbolDecl;
    use zeroforge_artifact::{DType, SymbolRange};

    fn size(i: u32) -> Expr {
        Expr::symbol(Symbol(i))
    }

    fn origin(node: &str) -> Origin {
        Origin { node: node.into(), module: "net".into(), source: "net.py:3".into() }
    }

    /// `relu(x + w)` with an updated buffer.
    fn sound() -> Graph {
        let mut g = Graph { name: "g".into(), ..Graph::default() };
        let range = SymbolRange { min: 1, max: 8 };
        g.symbols.push(SymbolDecl { name: "batch".into(), range });
        let ty = TensorType::new(DType::F32, vec![size(0), 2.into()]);
        let x = g.add_input("x", ty);
        let ty = TensorType::new(DType::F32, vec![2.into()]);
        let w = g.add_weight("w", ty.clone(), WeightData::Inline(Bytes::new(vec![0u8; 8])));
        let b = g.add_weight("count", ty, WeightData::Unbound);
        g.weights[1].mutable = true;
        let sum = g.push(Op::Binary(BinaryOp::Add), &[x, w], origin("add")).unwrap()[0];
        let out = g.push(Op::Unary(UnaryOp::Relu), &[sum], origin("relu")).unwrap()[0];
        let next = g.push(Op::Binary(BinaryOp::Add), &[b, w], origin("step")).unwrap()[0];
        g.outputs.push(Output {
            name: "count".into(),
            value: next,
            kind: OutputKind::BufferMutation(1),
        });
        g.outputs.push(Output { name: "y".into(), value: out, kind: OutputKind::User });
        g
    }

    /// The error of the graph after `bug` was planted.
    fn broken(bug: impl FnOnce(&mut Graph)) -> String {
        let mut g = sound();
        assert_eq!(verify(&g), Ok(()));
        bug(&mut g);
        verify(&g).expect_err("the bug was not found").to_string()
    }

    fn assert_has(message: &str, parts: &[&str]) {
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }

    #[test]
    fn operands_are_checked() {
        let m = broken(|g| g.nodes[1].inputs[0] = ValueId(99));
        assert_has(&m, &["node 1 `relu` (relu) at net.py:3", "operand 0", "99", "6 values"]);
        let m = broken(|g| g.nodes[0].inputs[1] = g.nodes[1].outputs[0]);
        assert_has(&m, &["node 0 `add`", "operand 1 `%relu` is not defined before it"]);
        let m = broken(|g| g.nodes[1].inputs[0] = g.nodes[1].outputs[0]);
        assert_has(&m, &["node 1 `relu`", "not defined before"]);
        let m = broken(|g| g.nodes[0].inputs.truncate(1));
        assert_has(&m, &["node 0 `add`", "takes 2 operands, found 1"]);
    }

    #[test]
    fn definitions_are_checked() {
        let m = broken(|g| g.values[3].def = Def::Input(0));
        assert_has(&m, &["`%add`", "input 0"]);
        let m = broken(|g| g.values[0].def = Def::Weight(7));
        assert_has(&m, &["`%x`", "weight 7", "does not exist"]);
        let m = broken(|g| g.nodes[1].outputs[0] = ValueId(3));
        assert_has(&m, &["`%relu`", "which defines 3"]);
        let m = broken(|g| g.nodes[1].outputs.push(ValueId(3)));
        assert_has(&m, &["defined twice"]);
        let m = broken(|g| g.nodes[1].outputs.push(ValueId(77)));
        assert_has(&m, &["`%relu`", "value 77 of 6"]);
        let m = broken(|g| g.nodes[2].outputs.clear());
        assert_has(&m, &["`%step`", "does not exist"]);
    }

    #[test]
    fn names_are_checked() {
        let m = broken(|g| g.values[4].name = "x".into());
        assert_has(&m, &["value name `x` is taken twice"]);
        let m = broken(|g| g.values[4].name = "a b".into());
        assert_has(&m, &["value name `a b`", "characters"]);
        let m = broken(|g| g.weights[1].name = "w".into());
        assert_has(&m, &["weight name `w` is taken twice"]);
        let m = broken(|g| g.outputs[0].name = "y".into());
        assert_has(&m, &["output name `y` is taken twice"]);
    }

    #[test]
    fn types_are_checked() {
        let m = broken(|g| g.values[3].ty.dtype = DType::F16);
        assert_has(&m, &["node 0 `add`", "`%add` is recorded as f16 [s0, 2]", "gives f32 [s0, 2]"]);
        let m = broken(|g| g.values[4].ty.shape[0] = size(0) + 1.into());
        assert_has(&m, &["node 1 `relu`", "[s0 + 1, 2]"]);
        let m = broken(|g| g.values[1].ty.shape[0] = 3.into());
        assert_has(&m, &["node 0 `add`", "broadcast"]);
        let m = broken(|g| g.values[1].ty.shape[0] = (-2).into());
        assert_has(&m, &["`%w`", "is -2"]);
        let m = broken(|g| g.values[0].ty.shape = vec![1.into(); MAX_RANK + 1]);
        assert_has(&m, &["`%x`", "limit"]);
        let m = broken(|g| g.nodes[1].op = Op::Permute(vec![0, 0]));
        assert_has(&m, &["node 1 `relu` (permute)", "no permutation"]);
        let k = Op::TopK { k: 1.into() };
        let m = broken(|g| g.nodes[1].op = k);
        assert_has(&m, &["node 1", "1 results", "gives 2"]);
    }

    #[test]
    fn symbols_are_checked() {
        let m = broken(|g| g.values[0].ty.shape[0] = size(1));
        assert_has(&m, &["`%x`", "uses s1", "declares 1"]);
        let end = size(4);
        let slice = Op::Slice { axis: 0, start: 0.into(), end, step: 1 };
        let m = broken(|g| g.nodes[1].op = slice);
        assert_has(&m, &["node 1", "uses s4"]);
        let m = broken(|g| {
            let message = "even".into();
            g.assumptions.push(Assumption { non_negative: size(2), message });
        });
        assert_has(&m, &["assumption `even`", "s2"]);
        let m = broken(|g| g.symbols[0].range = SymbolRange { min: 5, max: 4 });
        assert_has(&m, &["s0 `batch`", "5 to 4"]);
    }

    #[test]
    fn weights_are_checked() {
        let m = broken(|g| g.weights[0].data = WeightData::Inline(Bytes::new(vec![0u8; 7])));
        assert_has(&m, &["weight `w`", "7 bytes", "needs 8"]);
        let m = broken(|g| {
            let ty = TensorType::new(DType::F32, vec![size(0)]);
            g.add_weight("late", ty, WeightData::Unbound);
        });
        assert_has(&m, &["weight `late`", "symbolic"]);
        let m = broken(|g| {
            let ty = TensorType::new(DType::F32, vec![i64::MAX.into(), 9.into()]);
            g.add_weight("vast", ty, WeightData::Unbound);
        });
        assert_has(&m, &["weight `vast`", "overflows"]);
    }

    #[test]
    fn outputs_are_checked() {
        let m = broken(|g| g.outputs[1].value = ValueId(40));
        assert_has(&m, &["output `y`", "40 does not exist"]);
        let m = broken(|g| g.outputs[0].kind = OutputKind::BufferMutation(0));
        assert_has(&m, &["output `count`", "`w`, which is not mutable"]);
        let m = broken(|g| g.outputs[0].kind = OutputKind::BufferMutation(9));
        assert_has(&m, &["weight 9, which does not exist"]);
        let m = broken(|g| g.outputs[0].kind = OutputKind::InputMutation(3));
        assert_has(&m, &["input 3, which does not exist"]);
        let m = broken(|g| g.outputs[0].kind = OutputKind::InputMutation(0));
        assert_has(&m, &["`%x`, which is f32 [s0, 2], with f32 [2]"]);
        let m = broken(|g| g.outputs[1] = Output { name: "z".into(), ..g.outputs[0].clone() });
        assert_has(&m, &["output `z`", "`%count` is updated twice"]);
    }
}
