//! The graph: values in single static assignment, nodes in execution order.

use std::collections::BTreeMap;

use zeroforge_artifact::program::{Signature, SymbolDecl};
use zeroforge_artifact::{DType, Expr};

use crate::op::Op;

/// Index of a [`Value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// Index of a [`Node`] in execution order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// Element type and shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Size per axis, outermost first; empty for a scalar.
    pub shape: Vec<Expr>,
}

impl TensorType {
    /// A type from its parts.
    pub fn new(dtype: DType, shape: Vec<Expr>) -> TensorType {
        TensorType { dtype, shape }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn numel(&self) -> Expr {
        Expr::product(&self.shape)
    }

    /// The shape, if every axis is constant.
    pub fn static_shape(&self) -> Option<Vec<i64>> {
        self.shape.iter().map(Expr::as_const).collect()
    }
}

/// A tensor of the graph: defined once, by an input, a constant or a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// A readable name, unique in the graph.
    pub name: String,
    /// Element type and shape.
    pub ty: TensorType,
    /// What defines it.
    pub def: Def,
}

/// What defines a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Def {
    /// [`Graph::inputs`] at this index.
    Input(u32),
    /// [`Graph::weights`] at this index.
    Weight(u32),
    /// Output `output` of a node.
    Node {
        /// The node.
        node: NodeId,
        /// Which of its outputs.
        output: u32,
    },
}

/// One operation applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The operation.
    pub op: Op,
    /// Operands.
    pub inputs: Vec<ValueId>,
    /// Results; one except for [`Op::TopK`].
    pub outputs: Vec<ValueId>,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a node came from, for diagnostics and profiles. Folders of source files are stripped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The exporter's node name(s), joined by `+` when passes merge nodes.
    pub node: String,
    /// Module path such as `encoder.layer.0.attention`.
    pub module: String,
    /// `file.py:123`.
    pub source: String,
}

/// A runtime argument.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The argument's name.
    pub name: String,
    /// The value it defines.
    pub value: ValueId,
}

/// A tensor known at compile time or supplied with the artifact.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// The module's name for it (`encoder.layer.0.weight`); several may share one `data`.
    pub name: String,
    /// The value it defines.
    pub value: ValueId,
    /// Its bytes.
    pub data: WeightData,
    /// Whether the graph updates it (a module buffer named by an [`OutputKind::BufferMutation`]).
    pub mutable: bool,
}

/// Where the bytes of a weight are.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightData {
    /// Row-major little-endian bytes.
    Inline(Bytes),
    /// In an outside source that the importer bound (a safetensors file): looked up by this key in
    /// the [`WeightStore`] that accompanies the graph.
    Source(String),
    /// Not bound yet (a graph-only archive before weights are attached).
    Unbound,
}

/// Cheaply cloned immutable bytes; may be a view of a mapped file.
#[derive(Clone)]
pub struct Bytes(std::sync::Arc<dyn AsRef<[u8]> + Send + Sync>);

impl Bytes {
    /// Takes ownership of anything that can be seen as bytes.
    pub fn new(data: impl AsRef<[u8]> + Send + Sync + 'static) -> Bytes {
        Bytes(std::sync::Arc::new(data))
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Bytes) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({})", self.as_slice().len())
    }
}

/// Gives the bytes of [`WeightData::Source`] weights, row-major and contiguous.
pub trait WeightStore: Send + Sync {
    /// The bytes under `key`, or a message that names what is missing.
    fn bytes(&self, key: &str) -> Result<Bytes, String>;
}

/// What an output means to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// Returned.
    User,
    /// The new value of [`Graph::inputs`] at this index.
    InputMutation(u32),
    /// The new value of [`Graph::weights`] at this index (a mutable buffer), kept across calls.
    BufferMutation(u32),
}

/// A result of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name; unique among outputs.
    pub name: String,
    /// The value returned.
    pub value: ValueId,
    /// What becomes of it.
    pub kind: OutputKind,
}

/// A condition on symbols that every call must meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumption {
    /// Must be zero or more.
    pub non_negative: Expr,
    /// For the caller when it is not.
    pub message: String,
}

/// A model as a pure function of its inputs, weights and buffers.
///
/// Invariants, checked by the verifier: names are unique; every operand is defined before its use;
/// every value's `def` points back to it; types are what inference gives for the ops.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The model's name.
    pub name: String,
    /// Symbolic dimensions, in [`zeroforge_artifact::Symbol`] order.
    pub symbols: Vec<SymbolDecl>,
    /// Conditions on the symbols.
    pub assumptions: Vec<Assumption>,
    /// All values.
    pub values: Vec<Value>,
    /// Arguments in signature order.
    pub inputs: Vec<Input>,
    /// Parameters, buffers and constants.
    pub weights: Vec<Weight>,
    /// Operations in execution order.
    pub nodes: Vec<Node>,
    /// Results: mutations first, then user outputs in signature order.
    pub outputs: Vec<Output>,
    /// The caller's nested calling convention.
    pub signature: Signature,
}

impl Graph {
    /// The value behind an id.
    ///
    /// # Panics
    /// If the id is of another graph.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// The type of a value.
    pub fn ty(&self, id: ValueId) -> &TensorType {
        &self.value(id).ty
    }

    /// The node behind an id.
    ///
    /// # Panics
    /// If the id is of another graph.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The node that computes a value, if a node does.
    pub fn producer(&self, id: ValueId) -> Option<&Node> {
        match self.value(id).def {
            Def::Node { node, .. } => Some(self.node(node)),
            _ => None,
        }
    }

    fn fresh_name(&self, hint: &str) -> String {
        // Names are identifiers of the text form: keep letters, digits, `_` and `.`.
        let clean: String = hint
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '_' })
            .collect();
        let clean = if clean.is_empty() { "v".to_owned() } else { clean };
        if !self.values.iter().rev().any(|v| v.name == clean) {
            return clean;
        }
        (self.values.len()..)
            .map(|n| format!("{clean}_{n}"))
            .find(|n| !self.values.iter().any(|v| v.name == *n))
            .unwrap_or(clean)
    }

    fn add_value(&mut self, name: &str, ty: TensorType, def: Def) -> ValueId {
        let id = ValueId(self.values.len() as u32);
        let name = self.fresh_name(name);
        self.values.push(Value { name, ty, def });
        id
    }

    /// Appends an argument.
    pub fn add_input(&mut self, name: &str, ty: TensorType) -> ValueId {
        let value = self.add_value(name, ty, Def::Input(self.inputs.len() as u32));
        self.inputs.push(Input { name: name.to_owned(), value });
        value
    }

    /// Appends a weight.
    pub fn add_weight(&mut self, name: &str, ty: TensorType, data: WeightData) -> ValueId {
        let value = self.add_value(name, ty, Def::Weight(self.weights.len() as u32));
        self.weights.push(Weight { name: name.to_owned(), value, data, mutable: false });
        value
    }

    /// Appends a node whose output types are already known; see `infer` for the checked form.
    pub fn add_node(
        &mut self,
        op: Op,
        inputs: &[ValueId],
        types: Vec<TensorType>,
        origin: Origin,
    ) -> Vec<ValueId> {
        let node = NodeId(self.nodes.len() as u32);
        let hint = if origin.node.is_empty() { "v".to_owned() } else { origin.node.clone() };
        let outputs: Vec<ValueId> = types
            .into_iter()
            .enumerate()
            .map(|(output, ty)| {
                self.add_value(&hint, ty, Def::Node { node, output: output as u32 })
            })
            .collect();
        self.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: outputs.clone(), origin });
        outputs
    }

    /// For each value, the nodes that read it (with repeats), in execution order. Outputs of the
    /// graph are not counted.
    pub fn users(&self) -> BTreeMap<ValueId, Vec<NodeId>> {
        let mut users: BTreeMap<ValueId, Vec<NodeId>> = BTreeMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            for v in &node.inputs {
                users.entry(*v).or_default().push(NodeId(i as u32));
            }
        }
        users
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// Part of shared bytes.
struct BytesView {
    whole: Bytes,
    range: std::ops::Range<usize>,
}

impl AsRef<[u8]> for BytesView {
    fn as_ref(&self) -> &[u8] {
        &self.whole.as_slice()[self.range.clone()]
    }
}

impl Bytes {
    /// A part that shares the memory.
    ///
    /// # Panics
    /// If the range leaves the bytes.
    pub fn view(&self, range: std::ops::Range<usize>) -> Bytes {
        assert!(range.start <= range.end && range.end <= self.as_slice().len());
        Bytes::new(BytesView { whole: self.clone(), range })
    }
}
