//! From graph to kernels: which values are stored, which are recomputed inside their readers, and
//! the ordered kernel launches.
//!
//! Lowering is demand driven. Nodes are visited in order; contractions, attention, reductions and
//! scatters ("anchors") become kernels, after pulling in the pointwise nodes that only they feed.
//! Everything else stays unevaluated until a reader needs it, and is then either computed inside
//! the reader (an index lambda, see `expression`) or stored by a kernel of its own, whichever
//! `decide` says. Layout ops never become kernels unless a reader needs memory in that order.

mod attention;
mod conv;
mod decide;
mod elementwise;
mod expression;
mod gemm;
mod row;
mod scatter;
mod storage;
mod strided;

use std::collections::HashMap;

use zeroforge_artifact::{DType, Expr};
use zeroforge_graph::ir::{Def, OutputKind};
use zeroforge_graph::{Graph, NodeId, Op, ValueId};

pub use storage::{Storage, StorageId, StorageKind, WeightLayout};

use crate::backend::Backend;
use crate::kernel_spec::KernelSpec;
use crate::launch::Launch;
use strided::StridedView;

/// Why a graph could not be lowered.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// An operation with operands that no kernel covers.
    #[error("node `{node}`{at} ({op}) cannot be compiled: {reason}")]
    Unsupported {
        /// The exporter's node name.
        node: String,
        /// ` at file.py:12`, or nothing.
        at: String,
        /// The operation.
        op: String,
        /// What is missing, and what to do.
        reason: String,
    },
    /// The graph breaks an invariant that the verifier should have caught.
    #[error("the graph is inconsistent at value `{value}`: {reason}; this is a bug in zeroforge")]
    Inconsistent {
        /// The value.
        value: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// One kernel launch.
#[derive(Clone, Debug)]
pub struct LoweredStep {
    /// The kernel.
    pub spec: KernelSpec,
    /// Its operands and sizes.
    pub launch: Launch,
    /// Storages read.
    pub reads: Vec<StorageId>,
    /// Storages written.
    pub writes: Vec<StorageId>,
    /// Memory of this step alone, which its kernel asks for.
    pub workspace: Option<StorageId>,
    /// The exporter's nodes that it computes.
    pub origin: String,
    /// Floating-point operations.
    pub flops: Expr,
}

/// A graph as an ordered list of launches over storages.
#[derive(Clone, Debug, Default)]
pub struct Lowered {
    /// The memory.
    pub storages: Vec<Storage>,
    /// The launches in order.
    pub steps: Vec<LoweredStep>,
    /// For each output of the graph: the storage that holds it after the last step; row-major.
    pub outputs: Vec<StorageId>,
    /// For each input of the graph: its storage.
    pub inputs: Vec<StorageId>,
}

/// The state of one lowering.
pub(crate) struct Lowering<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) backend: &'a dyn Backend,
    pub(crate) out: Lowered,
    /// Values that are in memory.
    pub(crate) placed: HashMap<ValueId, StridedView>,
    /// Packed copies of weights.
    packed: HashMap<(u32, WeightLayout), StorageId>,
    /// How often each value is read, outputs included.
    pub(crate) uses: Vec<u32>,
    /// Nodes that read each value, in order.
    pub(crate) users: Vec<Vec<NodeId>>,
    /// Output index of values that the graph returns from their own storage.
    output_of: HashMap<ValueId, u32>,
    /// Values whose storage is the one of the input or state that they replace.
    pub(crate) in_place: HashMap<ValueId, StorageId>,
    /// For pointwise nodes claimed by an anchor: nothing to do until the anchor's chain ends.
    pub(crate) claimed: HashMap<NodeId, NodeId>,
    /// Chains to emit when their last node is visited.
    pub(crate) chains: HashMap<NodeId, Vec<NodeId>>,
}

/// Lowers a verified graph for a backend.
pub fn lower(graph: &Graph, backend: &dyn Backend) -> Result<Lowered, LowerError> {
    let mut lowering = Lowering::new(graph, backend);
    lowering.place_inputs();
    lowering.donate_mutated_storage();
    for index in 0..graph.nodes.len() {
        lowering.visit(NodeId(index as u32))?;
    }
    lowering.finish_outputs()?;
    Ok(lowering.out)
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph, backend: &'a dyn Backend) -> Lowering<'a> {
        let mut users = vec![Vec::new(); graph.values.len()];
        let mut uses = vec![0; graph.values.len()];
        for (i, node) in graph.nodes.iter().enumerate() {
            for v in &node.inputs {
                uses[v.0 as usize] += 1;
                let list: &mut Vec<NodeId> = &mut users[v.0 as usize];
                if list.last() != Some(&NodeId(i as u32)) {
                    list.push(NodeId(i as u32));
                }
            }
        }
        let mut output_of = HashMap::new();
        for (i, output) in graph.outputs.iter().enumerate() {
            uses[output.value.0 as usize] += 1;
            if matches!(graph.value(output.value).def, Def::Node { .. })
                && !matches!(output.kind, OutputKind::BufferMutation(_))
            {
                output_of.entry(output.value).or_insert(i as u32);
            }
        }
        Lowering {
            graph,
            backend,
            out: Lowered::default(),
            placed: HashMap::new(),
            packed: HashMap::new(),
            uses,
            users,
            output_of,
            in_place: HashMap::new(),
            claimed: HashMap::new(),
            chains: HashMap::new(),
        }
    }

    fn add_storage(&mut self, storage: Storage) -> StorageId {
        self.out.storages.push(storage);
        StorageId(self.out.storages.len() as u32 - 1)
    }

    fn place_inputs(&mut self) {
        for (i, input) in self.graph.inputs.iter().enumerate() {
            let ty = self.graph.ty(input.value).clone();
            let storage = self.add_storage(Storage {
                name: input.name.clone(),
                dtype: ty.dtype,
                numel: ty.numel(),
                kind: StorageKind::Input(i as u32),
            });
            self.out.inputs.push(storage);
            self.placed.insert(input.value, StridedView::contiguous(storage, &ty.shape));
        }
    }

    /// Lets the new value of a mutated input or buffer take over its storage where nothing else
    /// still reads the old value.
    fn donate_mutated_storage(&mut self) {
        for output in &self.graph.outputs {
            let old = match output.kind {
                OutputKind::InputMutation(i) => self.graph.inputs[i as usize].value,
                OutputKind::BufferMutation(w) => self.graph.weights[w as usize].value,
                OutputKind::User => continue,
            };
            let Some(node) = self.graph.producer(output.value) else { continue };
            let updates = matches!(
                node.op,
                Op::IndexCopy { .. }
                    | Op::IndexPut { .. }
                    | Op::Scatter { .. }
                    | Op::SliceScatter { .. }
            );
            let sole_reader = self.uses[old.0 as usize] == 1 && node.inputs.first() == Some(&old);
            let accumulates = matches!(
                node.op,
                Op::IndexCopy { accumulate: true, .. }
                    | Op::IndexPut { accumulate: true, .. }
                    | Op::Scatter { accumulate: true, .. }
            );
            if updates && sole_reader && !accumulates && !self.in_place.contains_key(&output.value)
            {
                let storage = self.storage_of_base(old);
                self.in_place.insert(output.value, storage);
            }
        }
    }

    /// The storage of an input or weight value.
    fn storage_of_base(&mut self, value: ValueId) -> StorageId {
        match self.base_view(value) {
            Some(view) => view.storage,
            // Only inputs and weights are asked for here; both always have a base view.
            None => StorageId(0),
        }
    }

    /// The stored form of a value that is in memory already or is a weight.
    pub(crate) fn base_view(&mut self, value: ValueId) -> Option<StridedView> {
        if let Some(view) = self.placed.get(&value) {
            return Some(view.clone());
        }
        let Def::Weight(index) = self.graph.value(value).def else { return None };
        let weight = &self.graph.weights[index as usize];
        let ty = self.graph.ty(value);
        let kind = if weight.mutable {
            StorageKind::State(index)
        } else {
            StorageKind::Weight { weight: index, layout: WeightLayout::RowMajor }
        };
        let storage =
            Storage { name: weight.name.clone(), dtype: ty.dtype, numel: ty.numel(), kind };
        let storage = self.add_storage(storage);
        let view = StridedView::contiguous(storage, &self.graph.ty(value).shape);
        self.placed.insert(value, view.clone());
        Some(view)
    }

    /// A weight packed for contractions.
    pub(crate) fn packed_weight(
        &mut self,
        weight: u32,
        nr: u32,
        transposed: bool,
        (n, k): (i64, i64),
    ) -> StorageId {
        let layout = WeightLayout::Panels { nr, transposed };
        if let Some(&storage) = self.packed.get(&(weight, layout)) {
            return storage;
        }
        let source = &self.graph.weights[weight as usize];
        let padded = (n + i64::from(nr) - 1) / i64::from(nr) * i64::from(nr);
        let storage = Storage {
            name: format!("{}.panels{nr}", source.name),
            dtype: self.graph.ty(source.value).dtype,
            numel: Expr::constant(padded.saturating_mul(k)),
            kind: StorageKind::Weight { weight, layout },
        };
        let storage = self.add_storage(storage);
        self.packed.insert((weight, layout), storage);
        storage
    }

    /// Memory for a value that a kernel is about to compute, with the given strides (`None` for
    /// row-major). A graph output is always row-major, in the output's own storage.
    pub(crate) fn allocate(&mut self, value: ValueId, strides: Option<Vec<Expr>>) -> StridedView {
        let ty = self.graph.ty(value).clone();
        if let Some(&storage) = self.in_place.get(&value) {
            return StridedView::contiguous(storage, &ty.shape);
        }
        let (kind, strides) = match self.output_of.get(&value) {
            Some(&i) => (StorageKind::Output(i), None),
            None => (StorageKind::Temporary, strides),
        };
        let storage = Storage {
            name: self.graph.value(value).name.clone(),
            dtype: ty.dtype,
            numel: ty.numel(),
            kind,
        };
        let storage = self.add_storage(storage);
        let mut view = StridedView::contiguous(storage, &ty.shape);
        if let Some(strides) = strides {
            view.strides = strides;
        }
        view
    }

    /// Scratch memory that is no value of the graph.
    pub(crate) fn allocate_scratch(
        &mut self,
        name: String,
        dtype: DType,
        numel: Expr,
    ) -> StorageId {
        self.add_storage(Storage { name, dtype, numel, kind: StorageKind::Temporary })
    }

    pub(crate) fn is_output(&self, value: ValueId) -> bool {
        self.output_of.contains_key(&value)
    }

    pub(crate) fn unsupported(&self, node: NodeId, reason: impl Into<String>) -> LowerError {
        let node = self.graph.node(node);
        let op = format!("{:?}", node.op);
        LowerError::Unsupported {
            node: node.origin.node.clone(),
            at: match node.origin.source.as_str() {
                "" => String::new(),
                s => format!(" at {s}"),
            },
            op: op.split([' ', '(', '{']).next().unwrap_or_default().to_owned(),
            reason: reason.into(),
        }
    }

    /// The node of a node value.
    pub(crate) fn node_of(&self, value: ValueId) -> Option<NodeId> {
        match self.graph.value(value).def {
            Def::Node { node, .. } => Some(node),
            _ => None,
        }
    }

    /// A value as a strided view of memory, storing it first if it is not.
    pub(crate) fn strided(&mut self, value: ValueId) -> Result<StridedView, LowerError> {
        if let Some(view) = self.try_strided(value)? {
            return Ok(view);
        }
        self.store(value)?;
        self.base_view(value).ok_or_else(|| LowerError::Inconsistent {
            value: self.graph.value(value).name.clone(),
            reason: "no memory after its kernel",
        })
    }

    /// A value as a strided view, if it is in memory or a layout chain over a value that is, or
    /// over one that must be stored anyway.
    pub(crate) fn try_strided(
        &mut self,
        value: ValueId,
    ) -> Result<Option<StridedView>, LowerError> {
        if let Some(view) = self.base_view(value) {
            return Ok(Some(view));
        }
        let Some(node) = self.graph.producer(value) else { return Ok(None) };
        if !decide::is_layout(&node.op) {
            return Ok(None);
        }
        let (op, source) = (node.op.clone(), node.inputs[0]);
        // The chain's base: store it here when the chain over it is a view, so that one kernel
        // serves every reader instead of one per view.
        let source_view = match self.try_strided(source)? {
            Some(view) => view,
            None => {
                let probe = StridedView::contiguous(StorageId(0), &self.graph.ty(source).shape);
                if probe.apply(&op).is_none() {
                    return Ok(None);
                }
                self.store(source)?;
                match self.base_view(source) {
                    Some(view) => view,
                    None => return Ok(None),
                }
            }
        };
        Ok(source_view.apply(&op))
    }

    /// Like [`Lowering::try_strided`], but never emits a kernel.
    pub(crate) fn placed_view(&mut self, value: ValueId) -> Option<StridedView> {
        if let Some(view) = self.base_view(value) {
            return Some(view);
        }
        let node = self.graph.producer(value)?;
        if !decide::is_layout(&node.op) {
            return None;
        }
        self.placed_view(node.inputs[0])?.apply(&node.op)
    }

    /// Emits the kernel that stores an unevaluated pointwise value.
    fn store(&mut self, value: ValueId) -> Result<(), LowerError> {
        if self.placed.contains_key(&value) {
            return Ok(());
        }
        elementwise::emit(self, value)
    }

    fn visit(&mut self, id: NodeId) -> Result<(), LowerError> {
        if let Some(chain) = self.chains.remove(&id) {
            return self.emit_chain(&chain);
        }
        if self.claimed.contains_key(&id) {
            return Ok(());
        }
        let node = self.graph.node(id);
        if decide::is_anchor(self, id) {
            let chain = decide::claim_chain(self, id);
            let last = chain[chain.len() - 1];
            if last == id {
                return self.emit_chain(&chain);
            }
            for &claimed in &chain {
                self.claimed.insert(claimed, id);
            }
            self.chains.insert(last, chain);
            return Ok(());
        }
        for &value in &node.outputs {
            if decide::must_store(self, value) {
                self.store(value)?;
            }
        }
        Ok(())
    }

    /// Emits an anchor fused with as many of the pointwise nodes behind it as its kernel takes.
    fn emit_chain(&mut self, chain: &[NodeId]) -> Result<(), LowerError> {
        for &id in chain {
            self.claimed.remove(&id);
        }
        let mut taken = chain.len();
        while taken > 0 {
            if self.emit_anchor(&chain[..taken])? {
                break;
            }
            taken -= 1;
        }
        if taken == 0 {
            return Err(self.unsupported(chain[0], "no kernel covers these operands"));
        }
        for &id in &chain[taken..] {
            self.visit(id)?;
        }
        Ok(())
    }

    /// Emits one kernel for an anchor and the nodes fused behind it; false if it cannot take them
    /// all (nothing has been emitted then, except operands stored on the way).
    fn emit_anchor(&mut self, chain: &[NodeId]) -> Result<bool, LowerError> {
        match &self.graph.node(chain[0]).op {
            Op::MatMul { .. } => gemm::emit(self, chain),
            Op::Attention { .. } => attention::emit(self, chain),
            Op::Conv { .. } => conv::emit(self, chain),
            Op::IndexCopy { .. }
            | Op::IndexPut { .. }
            | Op::Scatter { .. }
            | Op::SliceScatter { .. } => scatter::emit(self, chain),
            _ => row::emit(self, chain),
        }
    }

    pub(crate) fn push_step(&mut self, step: LoweredStep) {
        self.out.steps.push(step);
    }

    /// Gives every output its own row-major memory, copying where the value lives elsewhere.
    fn finish_outputs(&mut self) -> Result<(), LowerError> {
        for (i, output) in self.graph.outputs.iter().enumerate() {
            let (i, value) = (i as u32, output.value);
            let target = match output.kind {
                OutputKind::BufferMutation(w) => {
                    let buffer = self.graph.weights[w as usize].value;
                    Some(self.storage_of_base(buffer))
                }
                _ => None,
            };
            if let Some(view) = self.base_view(value) {
                let storage = &self.out.storages[view.storage.0 as usize].kind;
                let own = match target {
                    Some(target) => view.storage == target,
                    None => {
                        *storage == StorageKind::Output(i) || self.in_place.contains_key(&value)
                    }
                };
                if own {
                    self.out.outputs.push(view.storage);
                    continue;
                }
            }
            let ty = self.graph.ty(value).clone();
            let storage = match target {
                Some(storage) => storage,
                None => self.add_storage(Storage {
                    name: output.name.clone(),
                    dtype: ty.dtype,
                    numel: ty.numel(),
                    kind: StorageKind::Output(i),
                }),
            };
            elementwise::emit_into(self, value, StridedView::contiguous(storage, &ty.shape))?;
            self.out.outputs.push(storage);
        }
        Ok(())
    }
}

/// Joins the exporter's node names of a chain.
pub(crate) fn origin_of(graph: &Graph, chain: &[NodeId]) -> String {
    let names: Vec<&str> = chain.iter().map(|&id| graph.node(id).origin.node.as_str()).collect();
    names.join("+")
}
