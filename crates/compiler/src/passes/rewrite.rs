//! Building a graph out of another, node by node.

use std::collections::{BTreeSet, HashSet};

use zeroforge_artifact::{DType, Expr};
use zeroforge_graph::ir::{
    Bytes, Def, Input, Node, Origin, Output, OutputKind, TensorType, Value, Weight, WeightData,
};
use zeroforge_graph::{Graph, NodeId, Op, ValueId};

use super::{PassError, Result};

/// The graph that is being built. Ids given by it are of `new`.
pub(super) struct Rewriter<'g> {
    pass: &'static str,
    /// The graph that is read.
    pub(super) old: &'g Graph,
    /// The graph that is built.
    pub(super) new: Graph,
    map: Vec<Option<ValueId>>,
    names: HashSet<String>,
    fresh: usize,
    origin: Origin,
}

/// Rebuilds a graph: `visit` sees every live node and gives its replacement, one value of the new
/// graph per output, or `None` to keep the node. What nothing reads any more is dropped.
pub(super) fn rewrite(
    pass: &'static str,
    graph: &Graph,
    mut visit: impl FnMut(&mut Rewriter<'_>, NodeId, &Node) -> Result<Option<Vec<ValueId>>>,
) -> Result<Graph> {
    let mut r = Rewriter::new(pass, graph);
    let live = live_nodes(graph);
    for (i, node) in graph.nodes.iter().enumerate() {
        if !live[i] {
            continue;
        }
        r.origin = node.origin.clone();
        let first_new = r.new.values.len();
        match visit(&mut r, NodeId(i as u32), node)? {
            Some(values) => r.replace(node, &values, first_new)?,
            None => r.copy(node),
        }
    }
    Ok(r.finish())
}

/// How often each value is read, by nodes and outputs.
pub(super) fn use_counts(graph: &Graph) -> Vec<usize> {
    let mut uses = vec![0; graph.values.len()];
    let reads = graph.nodes.iter().flat_map(|n| &n.inputs);
    reads.chain(graph.outputs.iter().map(|o| &o.value)).for_each(|v| uses[v.0 as usize] += 1);
    uses
}

/// Which nodes an output depends on.
fn live_nodes(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.nodes.len()];
    let mark = |live: &mut Vec<bool>, v: ValueId| {
        if let Def::Node { node, .. } = graph.value(v).def {
            live[node.0 as usize] = true;
        }
    };
    graph.outputs.iter().for_each(|o| mark(&mut live, o.value));
    for i in (0..graph.nodes.len()).rev() {
        if live[i] {
            graph.nodes[i].inputs.iter().for_each(|&v| mark(&mut live, v));
        }
    }
    live
}

impl<'g> Rewriter<'g> {
    fn new(pass: &'static str, old: &'g Graph) -> Rewriter<'g> {
        let mut new = Graph {
            name: old.name.clone(),
            symbols: old.symbols.clone(),
            assumptions: old.assumptions.clone(),
            signature: old.signature.clone(),
            ..Graph::default()
        };
        let mut map = vec![None; old.values.len()];
        for (i, value) in old.values.iter().enumerate() {
            if !matches!(value.def, Def::Node { .. }) {
                map[i] = Some(ValueId(new.values.len() as u32));
                new.values.push(value.clone());
            }
        }
        // Inputs and weights keep their indices, so that definitions and outputs stay right.
        let mapped = |v: ValueId| map[v.0 as usize].unwrap_or(v);
        new.inputs =
            old.inputs.iter().map(|i| Input { value: mapped(i.value), ..i.clone() }).collect();
        new.weights =
            old.weights.iter().map(|w| Weight { value: mapped(w.value), ..w.clone() }).collect();
        let names = old.values.iter().map(|v| v.name.clone()).collect();
        Rewriter { pass, old, new, map, names, fresh: 0, origin: Origin::default() }
    }

    /// What a value of the old graph has become.
    ///
    /// # Panics
    /// If the value's node was not visited yet; operands of visited nodes were.
    pub(super) fn get(&self, old: ValueId) -> ValueId {
        self.map[old.0 as usize].expect("an operand is defined before its reader")
    }

    /// The type of a value of the new graph.
    pub(super) fn ty(&self, value: ValueId) -> &TensorType {
        self.new.ty(value)
    }

    /// The node that computes a value of the new graph.
    pub(super) fn producer(&self, value: ValueId) -> Option<&Node> {
        self.new.producer(value)
    }

    fn fresh_name(&mut self, hint: &str) -> String {
        loop {
            self.fresh += 1;
            let name = format!("{hint}_{}", self.fresh);
            if self.names.insert(name.clone()) {
                return name;
            }
        }
    }

    fn hint(&self) -> String {
        let hint: String = self.origin.node.split('+').next().unwrap_or_default().into();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if hint.is_empty() || !hint.chars().all(plain) { "v".to_owned() } else { hint }
    }

    /// Adds a node with one result, which belongs to the node that is visited.
    pub(super) fn emit(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId> {
        let origin = self.origin.clone();
        let name = self.hint();
        let name = self.fresh_name(&name);
        let pass = self.pass;
        let results = self
            .new
            .push(op, inputs, origin)
            .map_err(|source| PassError::Node { pass, source: Box::new(source) })?;
        // `push` takes time to find a free name where the hint is taken; this one is free.
        self.new.values[results[0].0 as usize].name = name;
        Ok(results[0])
    }

    /// A constant with its bytes.
    pub(super) fn constant(&mut self, ty: TensorType, bytes: Vec<u8>) -> ValueId {
        let name = self.hint();
        let name = self.fresh_name(&format!("{name}.constant"));
        let value = ValueId(self.new.values.len() as u32);
        let def = Def::Weight(self.new.weights.len() as u32);
        self.new.values.push(Value { name: name.clone(), ty, def });
        let data = WeightData::Inline(Bytes::new(bytes));
        self.new.weights.push(Weight { name, value, data, mutable: false });
        value
    }

    /// `x` under another shape; itself if it has that already.
    pub(super) fn reshape(&mut self, x: ValueId, shape: &[Expr]) -> Result<ValueId> {
        if self.ty(x).shape == shape {
            return Ok(x);
        }
        self.emit(Op::Reshape(shape.to_vec()), &[x])
    }

    /// `x` broadcast to a shape; itself if it has that already.
    pub(super) fn expand(&mut self, x: ValueId, shape: &[Expr]) -> Result<ValueId> {
        if self.ty(x).shape == shape {
            return Ok(x);
        }
        self.emit(Op::Expand(shape.to_vec()), &[x])
    }

    /// A tensor of one value; integers up to 2^53 are exact.
    pub(super) fn full(&mut self, dtype: DType, shape: &[Expr], value: f64) -> Result<ValueId> {
        let shape = shape.to_vec();
        self.emit(Op::Full { dtype, shape, value }, &[])
    }

    /// Keeps a node, its operands replaced.
    fn copy(&mut self, node: &Node) {
        let id = NodeId(self.new.nodes.len() as u32);
        let inputs = node.inputs.iter().map(|&v| self.get(v)).collect();
        let mut outputs = Vec::with_capacity(node.outputs.len());
        for (i, &old) in node.outputs.iter().enumerate() {
            let value = ValueId(self.new.values.len() as u32);
            let def = Def::Node { node: id, output: i as u32 };
            self.new.values.push(Value { def, ..self.old.value(old).clone() });
            self.map[old.0 as usize] = Some(value);
            outputs.push(value);
        }
        let (op, origin) = (node.op.clone(), node.origin.clone());
        self.new.nodes.push(Node { op, inputs, outputs, origin });
    }

    fn replace(&mut self, node: &Node, values: &[ValueId], first_new: usize) -> Result<()> {
        for (&old, &value) in node.outputs.iter().zip(values) {
            let old_value = self.old.value(old);
            if self.new.ty(value) != &old_value.ty {
                let value = old_value.name.clone();
                return Err(PassError::Type { pass: self.pass, value });
            }
            // What was made for this value takes its name.
            if value.0 as usize >= first_new {
                self.new.values[value.0 as usize].name = old_value.name.clone();
                if let Def::Weight(at) = self.new.value(value).def
                    && !self.new.weights.iter().any(|w| w.name == old_value.name)
                {
                    self.new.weights[at as usize].name = old_value.name.clone();
                }
            }
            self.map[old.0 as usize] = Some(value);
        }
        Ok(())
    }

    /// The new graph without what nothing reads, values numbered in order of definition.
    fn finish(mut self) -> Graph {
        for output in &self.old.outputs {
            let value = self.get(output.value);
            self.new.outputs.push(Output { value, ..output.clone() });
        }
        compact(self.new)
    }
}

/// Drops nodes and weights that nothing reads and numbers values in order of definition.
fn compact(graph: Graph) -> Graph {
    let live = live_nodes(&graph);
    let nodes = || graph.nodes.iter().zip(&live).filter(|(_, live)| **live).map(|(n, _)| n);
    let mut read: BTreeSet<ValueId> = nodes().flat_map(|n| n.inputs.iter().copied()).collect();
    read.extend(graph.outputs.iter().map(|o| o.value));
    let mut out = Graph {
        name: graph.name.clone(),
        symbols: graph.symbols.clone(),
        assumptions: graph.assumptions.clone(),
        signature: graph.signature.clone(),
        ..Graph::default()
    };
    let mut map: Vec<ValueId> = vec![ValueId(u32::MAX); graph.values.len()];
    let mut define = |out: &mut Graph, old: ValueId, def: Def| -> ValueId {
        let id = ValueId(out.values.len() as u32);
        out.values.push(Value { def, ..graph.value(old).clone() });
        map[old.0 as usize] = id;
        id
    };
    let mut weight_map = vec![None; graph.weights.len()];
    for (i, value) in graph.values.iter().enumerate() {
        let old = ValueId(i as u32);
        match value.def {
            Def::Input(at) => {
                let input = &graph.inputs[at as usize];
                let def = Def::Input(out.inputs.len() as u32);
                let value = define(&mut out, old, def);
                out.inputs.push(Input { value, ..input.clone() });
            }
            Def::Weight(at) => {
                let weight = &graph.weights[at as usize];
                if !weight.mutable && !read.contains(&old) {
                    continue;
                }
                weight_map[at as usize] = Some(out.weights.len() as u32);
                let def = Def::Weight(out.weights.len() as u32);
                let value = define(&mut out, old, def);
                out.weights.push(Weight { value, ..weight.clone() });
            }
            Def::Node { .. } => {}
        }
    }
    for node in nodes() {
        let id = NodeId(out.nodes.len() as u32);
        let outputs = node
            .outputs
            .iter()
            .enumerate()
            .map(|(i, &v)| define(&mut out, v, Def::Node { node: id, output: i as u32 }))
            .collect();
        out.nodes.push(Node { outputs, ..node.clone() });
    }
    for node in &mut out.nodes {
        node.inputs.iter_mut().for_each(|v| *v = map[v.0 as usize]);
    }
    for output in &graph.outputs {
        let kind = match output.kind {
            // Mutable weights are all kept.
            OutputKind::BufferMutation(at) => {
                OutputKind::BufferMutation(weight_map[at as usize].unwrap_or(at))
            }
            ref other => other.clone(),
        };
        let value = map[output.value.0 as usize];
        out.outputs.push(Output { name: output.name.clone(), value, kind });
    }
    out
}
