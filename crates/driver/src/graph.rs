//! Graphs: nodes and the edges between them.

use crate::abi::{HostCall, In, Out};
use crate::copy::CopyPlan;
use crate::error::{Error, Res};
use crate::memory;
use crate::set::FillPlan;
use crate::state::{Kind, MemoryKind, State, lock};
use crate::types::{EdgeData, Handle};
use crate::work::{KernelCall, ValueOp};

/// What a node does.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// Runs a kernel.
    Kernel(Box<KernelCall>),
    /// Copies.
    Copy(Box<CopyPlan>),
    /// Fills.
    Fill(FillPlan),
    /// Calls a function.
    Host(HostCall),
    /// Another graph, the node's own.
    Child(Handle),
    /// Nothing.
    Empty,
    /// Waits for an event.
    Wait(Handle),
    /// Records an event.
    Record(Handle),
    /// Writes (true) values and waits for (false) values.
    Values(Vec<(ValueOp, bool)>),
    /// Takes memory.
    Alloc {
        /// Ordinal.
        device: usize,
        /// The pool asked for.
        pool: Handle,
        /// Bytes.
        size: u64,
        /// Where.
        address: u64,
    },
    /// Gives memory of a node back.
    Free(u64),
}

impl NodeKind {
    /// `CU_GRAPH_NODE_TYPE_*`.
    pub fn number(&self) -> u32 {
        match self {
            NodeKind::Kernel(_) => 0,
            NodeKind::Copy(_) => 1,
            NodeKind::Fill(_) => 2,
            NodeKind::Host(_) => 3,
            NodeKind::Child(_) => 4,
            NodeKind::Empty => 5,
            NodeKind::Wait(_) => 6,
            NodeKind::Record(_) => 7,
            NodeKind::Alloc { .. } => 10,
            NodeKind::Free(_) => 11,
            NodeKind::Values(_) => 12,
        }
    }
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its graph.
    pub graph: Handle,
    /// What it does.
    pub kind: NodeKind,
    /// Nodes before it.
    pub dependencies: Vec<(Handle, EdgeData)>,
    /// The node that it was cloned from.
    pub original: Option<Handle>,
    /// Number in its graph.
    pub local: u32,
    /// Parameters of a kernel as shown to the caller: the block and pointers into it.
    pub shown: Option<(Vec<u8>, Vec<usize>)>,
}

/// A graph.
#[derive(Debug, Default)]
pub struct Graph {
    /// In the order in which they were added.
    pub nodes: Vec<Handle>,
    /// Whether a node owns it.
    pub child: bool,
    /// Addresses of its allocation nodes.
    pub memory: Vec<u64>,
    next_local: u32,
}

/// An executable graph: its nodes in an order that keeps the edges, child graphs dissolved.
#[derive(Debug)]
pub struct Exec {
    /// What it runs.
    pub steps: Vec<Step>,
    /// `CUDA_GRAPH_INSTANTIATE_FLAG_*`.
    pub flags: u64,
    /// Addresses of allocation nodes.
    pub memory: Vec<u64>,
}

/// A node of an executable graph.
#[derive(Clone, Debug)]
pub struct Step {
    /// The node that it was made from.
    pub node: Handle,
    /// What it does.
    pub kind: NodeKind,
    /// Steps before it.
    pub dependencies: Vec<usize>,
    /// Whether it runs.
    pub enabled: bool,
}

/// Makes an empty graph.
pub fn create(s: &mut State) -> Handle {
    let handle = s.handle(Kind::Graph);
    s.graphs.insert(handle, Graph::default());
    handle
}

/// A graph.
pub fn find(s: &State, graph: Handle) -> Res<&Graph> {
    s.ready()?;
    s.graphs.get(&graph).ok_or(Error::INVALID_VALUE)
}

/// A node.
pub fn node(s: &State, node: Handle) -> Res<&Node> {
    s.ready()?;
    s.nodes.get(&node).ok_or(Error::INVALID_VALUE)
}

/// Whether all nodes are of a graph, each once.
pub fn check_nodes(s: &State, graph: Handle, nodes: &[Handle]) -> Res<()> {
    find(s, graph)?;
    let unique: std::collections::BTreeSet<_> = nodes.iter().collect();
    let own = nodes.iter().all(|n| s.nodes.get(n).is_some_and(|n| n.graph == graph));
    (own && unique.len() == nodes.len()).then_some(()).ok_or(Error::INVALID_VALUE)
}

/// Adds a node.
pub fn add(s: &mut State, graph: Handle, dependencies: &[Handle], kind: NodeKind) -> Res<Handle> {
    check_nodes(s, graph, dependencies)?;
    let handle = s.handle(Kind::Node);
    let Some(g) = s.graphs.get_mut(&graph) else { return Err(Error::INVALID_VALUE) };
    g.nodes.push(handle);
    let local = g.next_local;
    g.next_local += 1;
    let dependencies = dependencies.iter().map(|&d| (d, EdgeData::default())).collect();
    s.nodes.insert(handle, Node { graph, kind, dependencies, original: None, local, shown: None });
    Ok(handle)
}

/// Takes memory for an allocation node: at once, for as long as the graph or something made of it lives.
pub fn allocate(s: &mut State, graph: Handle, device: usize, size: u64) -> Res<u64> {
    find(s, graph)?;
    let address = memory::allocate(s, device, 0, None, size)?;
    if let Some(a) = s.allocations.get_mut(&address) {
        a.kind = MemoryKind::Graph { holders: 1 };
    }
    if let Some(g) = s.graphs.get_mut(&graph) {
        g.memory.push(address);
    }
    Ok(address)
}

/// Counts another holder of graph memory.
pub fn hold(s: &mut State, addresses: &[u64]) {
    for address in addresses {
        if let Some(MemoryKind::Graph { holders }) =
            s.allocations.get_mut(address).map(|a| &mut a.kind)
        {
            *holders += 1;
        }
    }
}

/// Counts one holder less, and gives memory back that nobody holds.
pub fn let_go(s: &mut State, addresses: &[u64]) {
    for &address in addresses {
        let Some(a) = s.allocations.get_mut(&address) else { continue };
        if let MemoryKind::Graph { holders } = &mut a.kind {
            *holders -= 1;
            if *holders == 0 {
                memory::release(s, address);
            }
        }
    }
}

/// Destroys a graph, its nodes and their graphs.
pub fn destroy(s: &mut State, graph: Handle) {
    let Some(g) = s.graphs.remove(&graph) else { return };
    let_go(s, &g.memory);
    for node in g.nodes {
        if let Some(Node { kind: NodeKind::Child(child), .. }) = s.nodes.remove(&node) {
            destroy(s, child);
        }
    }
}

/// Depth to which graphs may hold graphs.
const MAX_DEPTH: u32 = 64;

/// Copies a graph; child graphs too.
pub fn clone(s: &mut State, graph: Handle, child: bool, depth: u32) -> Res<Handle> {
    let nodes = find(s, graph)?.nodes.clone();
    if depth > MAX_DEPTH {
        return Err(Error::INVALID_VALUE);
    }
    let held = s.graphs[&graph].memory.clone();
    hold(s, &held);
    let copy = create(s);
    let mut map = std::collections::BTreeMap::new();
    for &old in &nodes {
        let kind = match s.nodes[&old].kind.clone() {
            NodeKind::Child(inner) => NodeKind::Child(clone(s, inner, true, depth + 1)?),
            kind => kind,
        };
        let new = add(s, copy, &[], kind)?;
        map.insert(old, new);
        if let Some(n) = s.nodes.get_mut(&new) {
            n.original = Some(old);
        }
    }
    for (old, new) in &map {
        let edges: Vec<_> = s.nodes[old].dependencies.iter().map(|(d, e)| (map[d], *e)).collect();
        if let Some(n) = s.nodes.get_mut(new) {
            n.dependencies = edges;
        }
    }
    if let Some(g) = s.graphs.get_mut(&copy) {
        g.child = child;
        g.memory = held;
    }
    Ok(copy)
}

/// Nodes in an order that keeps the edges, first added first. None if there is a cycle.
pub fn order(s: &State, graph: Handle) -> Res<Option<Vec<Handle>>> {
    let nodes = &find(s, graph)?.nodes;
    let mut done = std::collections::BTreeSet::new();
    let mut sorted = Vec::with_capacity(nodes.len());
    let mut left: Vec<Handle> = nodes.clone();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|n| {
            let ready = s.nodes[n].dependencies.iter().all(|d| done.contains(&d.0));
            if ready {
                done.insert(*n);
                sorted.push(*n);
            }
            !ready
        });
        if left.len() == before {
            return Ok(None);
        }
    }
    Ok(Some(sorted))
}

/// Stores a list for a caller who first asks for its length.
pub fn give<T: Copy>(list: &[T], to: Out<T>, count: Out<usize>) -> Res<()> {
    if to.is_null() {
        return count.set(list.len());
    }
    let room = count.get()?;
    list.iter().take(room).enumerate().try_for_each(|(i, &v)| to.set_at(i, v))?;
    count.set(list.len().min(room))
}

fn edges(s: &State, graph: Handle) -> Res<Vec<(Handle, Handle, EdgeData)>> {
    let nodes = &find(s, graph)?.nodes;
    let edges =
        nodes.iter().flat_map(|&n| s.nodes[&n].dependencies.iter().map(move |d| (d.0, n, d.1)));
    Ok(edges.collect())
}

fn get_edges(
    graph: Handle,
    from: Out<Handle>,
    to: Out<Handle>,
    data: Option<Out<EdgeData>>,
    count: Out<usize>,
) -> Res<()> {
    let list = edges(&lock(), graph)?;
    if from.is_null() != to.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let room = if from.is_null() { list.len() } else { count.get()? };
    if let Some(data) = data.filter(|d| !d.is_null()) {
        list.iter().take(room).enumerate().try_for_each(|(i, e)| data.set_at(i, e.2))?;
    }
    if !to.is_null() {
        list.iter().take(room).enumerate().try_for_each(|(i, e)| to.set_at(i, e.1))?;
    }
    let from_list: Vec<Handle> = list.iter().map(|e| e.0).collect();
    give(&from_list, from, count)
}

fn neighbours(handle: Handle, after: bool) -> Res<Vec<(Handle, EdgeData)>> {
    let s = lock();
    let n = node(&s, handle)?;
    if !after {
        return Ok(n.dependencies.clone());
    }
    let all = edges(&s, n.graph)?;
    Ok(all.into_iter().filter(|e| e.0 == handle).map(|e| (e.1, e.2)).collect())
}

fn give_neighbours(
    list: Vec<(Handle, EdgeData)>,
    to: Out<Handle>,
    data: Option<Out<EdgeData>>,
    count: Out<usize>,
) -> Res<()> {
    let room = if to.is_null() { list.len() } else { count.get()? };
    if let Some(data) = data.filter(|d| !d.is_null()) {
        list.iter().take(room).enumerate().try_for_each(|(i, e)| data.set_at(i, e.1))?;
    }
    let handles: Vec<Handle> = list.iter().map(|e| e.0).collect();
    give(&handles, to, count)
}

fn connect(
    graph: Handle,
    from: In<Handle>,
    to: In<Handle>,
    data: In<EdgeData>,
    count: usize,
) -> Res<()> {
    let (from, to) = (from.list(count)?, to.list(count)?);
    let data = if data.is_null() { vec![EdgeData::default(); count] } else { data.list(count)? };
    let mut s = lock();
    find(&s, graph)?;
    for i in 0..count {
        check_nodes(&s, graph, &[from[i], to[i]])?;
        if s.nodes[&to[i]].dependencies.iter().any(|d| d.0 == from[i]) {
            return Err(Error::INVALID_VALUE);
        }
        if let Some(n) = s.nodes.get_mut(&to[i]) {
            n.dependencies.push((from[i], data[i]));
        }
    }
    Ok(())
}

fn disconnect(graph: Handle, from: In<Handle>, to: In<Handle>, count: usize) -> Res<()> {
    let (from, to) = (from.list(count)?, to.list(count)?);
    let mut s = lock();
    find(&s, graph)?;
    for i in 0..count {
        check_nodes(&s, graph, &[from[i], to[i]])?;
        let Some(n) = s.nodes.get_mut(&to[i]) else { return Err(Error::INVALID_VALUE) };
        let before = n.dependencies.len();
        n.dependencies.retain(|d| d.0 != from[i]);
        if n.dependencies.len() == before {
            return Err(Error::INVALID_VALUE);
        }
    }
    Ok(())
}

api! {
    fn cuGraphCreate(to: Out<Handle>, flags: u32) {
        if flags != 0 || to.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        let mut s = lock();
        s.ready()?;
        to.set(create(&mut s))
    }

    fn cuGraphDestroy(graph: Handle) {
        let mut s = lock();
        if find(&s, graph)?.child {
            return Err(Error::INVALID_VALUE);
        }
        destroy(&mut s, graph);
        Ok(())
    }

    fn cuGraphClone(to: Out<Handle>, graph: Handle) {
        if to.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        let copy = clone(&mut lock(), graph, false, 0)?;
        to.set(copy)
    }

    fn cuGraphNodeFindInClone(to: Out<Handle>, original: Handle, graph: Handle) {
        let s = lock();
        let nodes = &find(&s, graph)?.nodes;
        let found = nodes.iter().find(|n| s.nodes[n].original == Some(original));
        to.set(*found.ok_or(Error::INVALID_VALUE)?)
    }

    fn cuGraphNodeGetType(handle: Handle, to: Out<u32>) {
        to.set(node(&lock(), handle)?.kind.number())
    }

    fn cuGraphNodeGetContainingGraph(handle: Handle, to: Out<Handle>) {
        to.set(node(&lock(), handle)?.graph)
    }

    fn cuGraphNodeGetLocalId(handle: Handle, to: Out<u32>) {
        to.set(node(&lock(), handle)?.local)
    }

    fn cuGraphNodeGetToolsId(handle: Handle, to: Out<u64>) {
        node(&lock(), handle)?;
        to.set(handle)
    }

    fn cuGraphGetId(graph: Handle, to: Out<u32>) {
        find(&lock(), graph)?;
        to.set((graph >> 4) as u32)
    }

    fn cuGraphGetNodes(graph: Handle, to: Out<Handle>, count: Out<usize>) {
        give(&find(&lock(), graph)?.nodes, to, count)
    }

    fn cuGraphGetRootNodes(graph: Handle, to: Out<Handle>, count: Out<usize>) {
        let s = lock();
        let nodes = find(&s, graph)?.nodes.iter().copied();
        let roots: Vec<Handle> = nodes.filter(|n| s.nodes[n].dependencies.is_empty()).collect();
        give(&roots, to, count)
    }

    fn cuGraphGetEdges(graph: Handle, from: Out<Handle>, to: Out<Handle>, count: Out<usize>) {
        get_edges(graph, from, to, None, count)
    }

    fn cuGraphGetEdges_v2(
        graph: Handle, from: Out<Handle>, to: Out<Handle>, data: Out<EdgeData>, count: Out<usize>,
    ) {
        get_edges(graph, from, to, Some(data), count)
    }

    fn cuGraphNodeGetDependencies(handle: Handle, to: Out<Handle>, count: Out<usize>) {
        give_neighbours(neighbours(handle, false)?, to, None, count)
    }

    fn cuGraphNodeGetDependencies_v2(
        handle: Handle, to: Out<Handle>, data: Out<EdgeData>, count: Out<usize>,
    ) {
        give_neighbours(neighbours(handle, false)?, to, Some(data), count)
    }

    fn cuGraphNodeGetDependentNodes(handle: Handle, to: Out<Handle>, count: Out<usize>) {
        give_neighbours(neighbours(handle, true)?, to, None, count)
    }

    fn cuGraphNodeGetDependentNodes_v2(
        handle: Handle, to: Out<Handle>, data: Out<EdgeData>, count: Out<usize>,
    ) {
        give_neighbours(neighbours(handle, true)?, to, Some(data), count)
    }

    fn cuGraphAddDependencies(graph: Handle, from: In<Handle>, to: In<Handle>, count: usize) {
        connect(graph, from, to, In::at(0), count)
    }

    fn cuGraphAddDependencies_v2(
        graph: Handle, from: In<Handle>, to: In<Handle>, data: In<EdgeData>, count: usize,
    ) {
        connect(graph, from, to, data, count)
    }

    fn cuGraphRemoveDependencies(graph: Handle, from: In<Handle>, to: In<Handle>, count: usize) {
        disconnect(graph, from, to, count)
    }

    fn cuGraphRemoveDependencies_v2(
        graph: Handle, from: In<Handle>, to: In<Handle>, _data: In<EdgeData>, count: usize,
    ) {
        disconnect(graph, from, to, count)
    }

    fn cuGraphDestroyNode(handle: Handle) {
        let mut s = lock();
        let graph = node(&s, handle)?.graph;
        if matches!(s.nodes[&handle].kind, NodeKind::Alloc { .. } | NodeKind::Free(_)) {
            return Err(Error::NOT_SUPPORTED);
        }
        if let Some(Node { kind: NodeKind::Child(child), .. }) = s.nodes.remove(&handle) {
            destroy(&mut s, child);
        }
        if let Some(g) = s.graphs.get_mut(&graph) {
            g.nodes.retain(|&n| n != handle);
        }
        for n in s.nodes.values_mut().filter(|n| n.graph == graph) {
            n.dependencies.retain(|d| d.0 != handle);
        }
        Ok(())
    }

    fn cuGraphDebugDotPrint(graph: Handle, path: crate::abi::InStr, _flags: u32) {
        let path = path.get()?;
        let list = {
            let s = lock();
            let names: Vec<String> = find(&s, graph)?
                .nodes
                .iter()
                .map(|n| format!("  n{n:x} [label=\"{}\"];\n", label(&s.nodes[n].kind)))
                .collect();
            let edges = edges(&s, graph)?.into_iter().map(|e| format!("  n{:x} -> n{:x};\n", e.0, e.1));
            names.into_iter().chain(edges).collect::<String>()
        };
        std::fs::write(path, format!("digraph {{\n{list}}}\n")).map_err(|_| Error::OPERATING_SYSTEM)
    }
}

fn label(kind: &NodeKind) -> String {
    match kind {
        NodeKind::Kernel(call) => format!("kernel {}", call.name),
        NodeKind::Copy(plan) => format!("copy {} bytes", plan.bytes()),
        NodeKind::Fill(plan) => format!("fill {} bytes", plan.bytes()),
        NodeKind::Host(_) => "host function".to_owned(),
        NodeKind::Child(_) => "graph".to_owned(),
        NodeKind::Empty => "empty".to_owned(),
        NodeKind::Wait(_) => "wait for event".to_owned(),
        NodeKind::Record(_) => "record event".to_owned(),
        NodeKind::Values(_) => "memory operations".to_owned(),
        NodeKind::Alloc { size, .. } => format!("allocate {size} bytes"),
        NodeKind::Free(_) => "free".to_owned(),
    }
}
