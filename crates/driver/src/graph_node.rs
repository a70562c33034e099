//! Nodes: adding them with their parameters, reading and changing those.

use std::collections::BTreeMap;

use crate::abi::{HostCall, In, Out};
use crate::copy::CopyPlan;
use crate::error::{Error, Res};
use crate::graph::{self, NodeKind};
use crate::launch::{self, Wanted};
use crate::set::FillPlan;
use crate::state::{State, lock};
use crate::stream_value;
use crate::types::{
    AllocNodeParams, AttributeValue, BatchMemOpParams, EdgeData, GraphNodeParams, Handle,
    HostNodeParams, KernelNodeParams, KernelNodeParamsV1, Memcpy3D, MemsetParams,
};
use crate::work::KernelCall;

impl From<KernelNodeParamsV1> for KernelNodeParams {
    fn from(p: KernelNodeParamsV1) -> KernelNodeParams {
        KernelNodeParams {
            function: p.function,
            grid: p.grid,
            block: p.block,
            shared: p.shared,
            params: p.params,
            extra: p.extra,
            kernel: 0,
            context: 0,
        }
    }
}

/// A kernel node of parameters.
pub fn kernel(
    s: &State,
    p: &KernelNodeParams,
    attributes: BTreeMap<u32, AttributeValue>,
) -> Res<NodeKind> {
    let function = if p.function != 0 { p.function } else { p.kernel };
    let context = if p.context != 0 { p.context } else { s.current()? };
    let wanted = Wanted {
        function,
        grid: p.grid,
        block: p.block,
        shared: p.shared,
        params: p.params,
        extra: p.extra,
        attributes,
    };
    Ok(NodeKind::Kernel(Box::new(launch::prepare(s, &wanted, context)?)))
}

/// A copy node.
pub fn copy(s: &State, d: Memcpy3D) -> Res<NodeKind> {
    Ok(NodeKind::Copy(Box::new(CopyPlan::new(s, d)?)))
}

/// A fill node.
pub fn fill(s: &State, p: MemsetParams) -> Res<NodeKind> {
    FillPlan::new(&s.memory, p).map(NodeKind::Fill)
}

/// A host node.
pub fn host(p: HostNodeParams) -> Res<NodeKind> {
    Ok(NodeKind::Host(HostCall { function: crate::abi::host_fn(p.function)?, data: p.data }))
}

/// A node of memory operations.
pub fn values(s: &State, p: &BatchMemOpParams) -> Res<NodeKind> {
    let ops = In::at(p.ops).list(p.count as usize)?;
    stream_value::check_all(s, &ops).map(NodeKind::Values)
}

fn event(s: &State, event: Handle, record: bool) -> Res<NodeKind> {
    crate::event::find(s, event)?;
    Ok(if record { NodeKind::Record(event) } else { NodeKind::Wait(event) })
}

fn add(
    to: Out<Handle>,
    graph: Handle,
    dependencies: In<Handle>,
    count: usize,
    make: impl FnOnce(&mut State) -> Res<NodeKind>,
) -> Res<()> {
    let dependencies = dependencies.list(count)?;
    if to.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let mut s = lock();
    graph::check_nodes(&s, graph, &dependencies)?;
    let kind = make(&mut s)?;
    to.set(graph::add(&mut s, graph, &dependencies, kind)?)
}

fn allocation(s: &mut State, graph: Handle, p: &mut AllocNodeParams) -> Res<NodeKind> {
    if p.pool.kind != 1 || p.pool.location.kind != 1 || p.bytes == 0 {
        return Err(Error::INVALID_VALUE);
    }
    let device = s.device(p.pool.location.id)?;
    let address = graph::allocate(s, graph, device, p.bytes as u64)?;
    p.address = address;
    Ok(NodeKind::Alloc { device, pool: 0, size: p.bytes as u64, address })
}

fn release(s: &State, address: u64) -> Res<NodeKind> {
    let found = s.allocations.get(&address).map(|a| a.kind);
    match found {
        Some(crate::state::MemoryKind::Graph { .. }) => Ok(NodeKind::Free(address)),
        _ => Err(Error::INVALID_VALUE),
    }
}

/// The kind that a generic parameter structure describes. The place is the structure's, for results in it.
fn generic(s: &mut State, graph: Handle, place: Out<GraphNodeParams>) -> Res<NodeKind> {
    let kind = place.get()?.kind;
    let body = place.address() + 16;
    Ok(match kind {
        0 => kernel(s, &In::at(body).get()?, BTreeMap::new())?,
        1 => copy(s, In::at(body + 16).get()?)?,
        2 => fill(s, In::at(body).get()?)?,
        3 => host(In::at(body).get()?)?,
        4 => {
            let child = In::<Handle>::at(body).get()?;
            NodeKind::Child(graph::clone(s, child, true, 0)?)
        }
        5 => NodeKind::Empty,
        6 => event(s, In::at(body).get()?, false)?,
        7 => event(s, In::at(body).get()?, true)?,
        10 => {
            let mut p: AllocNodeParams = In::at(body).get()?;
            let kind = allocation(s, graph, &mut p)?;
            Out::at(body).set(p)?;
            kind
        }
        11 => release(s, In::at(body).get()?)?,
        12 => values(s, &In::at(body).get()?)?,
        8 | 9 | 13 => return Err(Error::NOT_SUPPORTED),
        _ => return Err(Error::INVALID_VALUE),
    })
}

/// Replaces what a node does by the same kind with other parameters.
fn replace(handle: Handle, make: impl FnOnce(&mut State, &NodeKind) -> Res<NodeKind>) -> Res<()> {
    let mut s = lock();
    let old = graph::node(&s, handle)?.kind.clone();
    let new = make(&mut s, &old)?;
    if old.number() != new.number() {
        return Err(Error::INVALID_VALUE);
    }
    if let Some(n) = s.nodes.get_mut(&handle) {
        n.kind = new;
    }
    Ok(())
}

/// A kernel with other parameters keeps its attributes.
pub fn replaced_kernel(s: &State, p: &KernelNodeParams, old: &NodeKind) -> Res<NodeKind> {
    match old {
        NodeKind::Kernel(call) => kernel(s, p, call.attributes.clone()),
        _ => Err(Error::INVALID_VALUE),
    }
}

/// Parameters of a kernel node, with pointers that hold until the node changes.
fn shown(s: &mut State, handle: Handle) -> Res<KernelNodeParams> {
    let NodeKind::Kernel(call) = &graph::node(s, handle)?.kind else {
        return Err(Error::INVALID_VALUE);
    };
    let call: KernelCall = (**call).clone();
    let kernel = call.program.kernel(&call.name).ok_or(Error::INVALID_HANDLE)?;
    let block = call.config.params.clone();
    let base = block.as_ptr() as usize;
    let pointers: Vec<usize> = kernel.params.iter().map(|p| base + p.offset as usize).collect();
    let params = if pointers.is_empty() { 0 } else { pointers.as_ptr() as usize };
    if let Some(n) = s.nodes.get_mut(&handle) {
        n.shown = Some((block, pointers));
    }
    Ok(KernelNodeParams {
        function: call.function,
        grid: call.config.grid,
        block: call.config.block,
        shared: call.config.dynamic_shared,
        params,
        extra: 0,
        kernel: 0,
        context: s.current().unwrap_or(0),
    })
}

fn node_event(handle: Handle, record: bool, to: Out<Handle>) -> Res<()> {
    let s = lock();
    match (&graph::node(&s, handle)?.kind, record) {
        (NodeKind::Record(e), true) | (NodeKind::Wait(e), false) => to.set(*e),
        _ => Err(Error::INVALID_VALUE),
    }
}

api! {
    fn cuGraphAddKernelNode(
        to: Out<Handle>, graph: Handle, before: In<Handle>, count: usize, params: In<KernelNodeParamsV1>,
    ) {
        let p = params.get()?.into();
        add(to, graph, before, count, |s| kernel(s, &p, BTreeMap::new()))
    }

    fn cuGraphAddKernelNode_v2(
        to: Out<Handle>, graph: Handle, before: In<Handle>, count: usize, params: In<KernelNodeParams>,
    ) {
        let p = params.get()?;
        add(to, graph, before, count, |s| kernel(s, &p, BTreeMap::new()))
    }

    fn cuGraphAddMemcpyNode(
        to: Out<Handle>, graph: Handle, before: In<Handle>, count: usize, params: In<Memcpy3D>, context: Handle,
    ) {
        let p = params.get()?;
        lock().context(context)?;
        add(to, graph, before, count, |s| copy(s, p))
    }

    fn cuGraphAddMemsetNode(
        to: Out<Handle>, graph: Handle, before: In<Handle>, count: usize, params: In<MemsetParams>, context: Handle,
    ) {
        let p = params.get()?;
        lock().context(context)?;
        add(to, graph, before, count, |s| fill(s, p))
    }

    fn cuGraphAddHostNode(
        to: Out<Handle>, graph: Handle, before: In<Handle>, count: usize, params: In<HostNodeParams>,
    ) {
        let p = params.get()?;
        add(to, graph, before, count, |_| host(p))
    }

    fn cuGraphAddChildGraphNode(
        to: Out<Handle>, graph: Handle, before: In<Handle>, count: usize, child: Handle,
    ) {
        add(to, graph, before, count, |s| Ok(NodeKind::Child(graph::clone(s, child, true, 0)?)))
    }

    fn cuGraphChildGraphNodeGetGraph(handle: Handle, to: Out<Handle>) {
        match graph::node(&lock(), handle)?.kind {
            NodeKind::Child(graph) => to.set(graph),
            _ => Err(Error::INVALID_VALUE),
        }
    }

    fn cuGraphAddEmptyNode(to: Out<Handle>, graph: Handle, before: In<Handle>, count: usize) {
        add(to, graph, before, count, |_| Ok(NodeKind::Empty))
    }

    fn cuGraphAddEventRecordNode(
        to: Out<Handle>, graph: Handle, before: In<Handle>, count: usize, of: Handle,
    ) {
        add(to, graph, before, count, |s| event(s, of, true))
    }

    fn cuGraphAddEventWaitNode(
        to: Out<Handle>, graph: Handle, before: In<Handle>, count: usize, of: Handle,
    ) {
        add(to, graph, before, count, |s| event(s, of, false))
    }

    fn cuGraphEventRecordNodeGetEvent(handle: Handle, to: Out<Handle>) {
        node_event(handle, true, to)
    }

    fn cuGraphEventWaitNodeGetEvent(handle: Handle, to: Out<Handle>) {
        node_event(handle, false, to)
    }

    fn cuGraphEventRecordNodeSetEvent(handle: Handle, of: Handle) {
        replace(handle, |s, _| event(s, of, true))
    }

    fn cuGraphEventWaitNodeSetEvent(handle: Handle, of: Handle) {
        replace(handle, |s, _| event(s, of, false))
    }

    fn cuGraphAddBatchMemOpNode(
        to: Out<Handle>, graph: Handle, before: In<Handle>, count: usize, params: In<BatchMemOpParams>,
    ) {
        let p = params.get()?;
        add(to, graph, before, count, |s| values(s, &p))
    }

    fn cuGraphBatchMemOpNodeSetParams(handle: Handle, params: In<BatchMemOpParams>) {
        let p = params.get()?;
        replace(handle, |s, _| values(s, &p))
    }

    fn cuGraphAddMemAllocNode(
        to: Out<Handle>, graph: Handle, before: In<Handle>, count: usize, params: Out<AllocNodeParams>,
    ) {
        let mut p = params.get()?;
        add(to, graph, before, count, |s| allocation(s, graph, &mut p))?;
        params.set(p)
    }

    fn cuGraphAddMemFreeNode(
        to: Out<Handle>, graph: Handle, before: In<Handle>, count: usize, address: u64,
    ) {
        add(to, graph, before, count, |s| release(s, address))
    }

    fn cuGraphMemFreeNodeGetParams(handle: Handle, to: Out<u64>) {
        match graph::node(&lock(), handle)?.kind {
            NodeKind::Free(address) => to.set(address),
            _ => Err(Error::INVALID_VALUE),
        }
    }

    fn cuGraphAddNode(
        to: Out<Handle>, graph: Handle, before: In<Handle>, count: usize, params: Out<GraphNodeParams>,
    ) {
        add(to, graph, before, count, |s| generic(s, graph, params))
    }

    fn cuGraphAddNode_v2(
        to: Out<Handle>, graph: Handle, before: In<Handle>, _edges: In<EdgeData>, count: usize,
        params: Out<GraphNodeParams>,
    ) {
        add(to, graph, before, count, |s| generic(s, graph, params))
    }

    fn cuGraphNodeSetParams(handle: Handle, params: Out<GraphNodeParams>) {
        let graph = graph::node(&lock(), handle)?.graph;
        replace(handle, |s, old| match old {
            NodeKind::Kernel(_) if params.get()?.kind == 0 => {
                replaced_kernel(s, &In::at(params.address() + 16).get()?, old)
            }
            NodeKind::Alloc { .. } | NodeKind::Free(_) | NodeKind::Child(_) => Err(Error::NOT_SUPPORTED),
            _ => generic(s, graph, params),
        })
    }

    fn cuGraphKernelNodeGetParams(handle: Handle, to: Out<KernelNodeParamsV1>) {
        let p = shown(&mut lock(), handle)?;
        to.set(KernelNodeParamsV1 {
            function: p.function,
            grid: p.grid,
            block: p.block,
            shared: p.shared,
            params: p.params,
            extra: p.extra,
        })
    }

    fn cuGraphKernelNodeGetParams_v2(handle: Handle, to: Out<KernelNodeParams>) {
        to.set(shown(&mut lock(), handle)?)
    }

    fn cuGraphKernelNodeSetParams(handle: Handle, params: In<KernelNodeParamsV1>) {
        let p = params.get()?.into();
        replace(handle, |s, old| replaced_kernel(s, &p, old))
    }

    fn cuGraphKernelNodeSetParams_v2(handle: Handle, params: In<KernelNodeParams>) {
        let p = params.get()?;
        replace(handle, |s, old| replaced_kernel(s, &p, old))
    }

    fn cuGraphMemcpyNodeGetParams(handle: Handle, to: Out<Memcpy3D>) {
        match &graph::node(&lock(), handle)?.kind {
            NodeKind::Copy(plan) => to.set(plan.descriptor),
            _ => Err(Error::INVALID_VALUE),
        }
    }

    fn cuGraphMemcpyNodeSetParams(handle: Handle, params: In<Memcpy3D>) {
        let p = params.get()?;
        replace(handle, |s, _| copy(s, p))
    }

    fn cuGraphMemsetNodeGetParams(handle: Handle, to: Out<MemsetParams>) {
        match &graph::node(&lock(), handle)?.kind {
            NodeKind::Fill(plan) => to.set(plan.params),
            _ => Err(Error::INVALID_VALUE),
        }
    }

    fn cuGraphMemsetNodeSetParams(handle: Handle, params: In<MemsetParams>) {
        let p = params.get()?;
        replace(handle, |s, _| fill(s, p))
    }

    fn cuGraphHostNodeGetParams(handle: Handle, to: Out<HostNodeParams>) {
        match &graph::node(&lock(), handle)?.kind {
            NodeKind::Host(call) => {
                to.set(HostNodeParams { function: call.function as usize, data: call.data })
            }
            _ => Err(Error::INVALID_VALUE),
        }
    }

    fn cuGraphHostNodeSetParams(handle: Handle, params: In<HostNodeParams>) {
        let p = params.get()?;
        replace(handle, |_, _| host(p))
    }

    fn cuGraphKernelNodeGetAttribute(handle: Handle, which: u32, to: Out<AttributeValue>) {
        match &graph::node(&lock(), handle)?.kind {
            NodeKind::Kernel(call) => to.set(call.attributes.get(&which).copied().unwrap_or_default()),
            _ => Err(Error::INVALID_VALUE),
        }
    }

    fn cuGraphKernelNodeSetAttribute(handle: Handle, which: u32, value: In<AttributeValue>) {
        let value = value.get()?;
        if which == 0 || which > launch::attribute::LAST {
            return Err(Error::INVALID_VALUE);
        }
        replace(handle, |s, old| {
            let NodeKind::Kernel(call) = old else { return Err(Error::INVALID_VALUE) };
            let mut call = call.clone();
            call.attributes.insert(which, value);
            call.config.cluster = launch::cluster(s.function(call.function)?, &call.attributes)?;
            Ok(NodeKind::Kernel(call))
        })
    }

    fn cuGraphKernelNodeCopyAttributes(to: Handle, from: Handle) {
        let attributes = match &graph::node(&lock(), from)?.kind {
            NodeKind::Kernel(call) => call.attributes.clone(),
            _ => return Err(Error::INVALID_VALUE),
        };
        replace(to, |s, old| {
            let NodeKind::Kernel(call) = old else { return Err(Error::INVALID_VALUE) };
            let mut call = call.clone();
            call.config.cluster = launch::cluster(s.function(call.function)?, &attributes)?;
            call.attributes = attributes;
            Ok(NodeKind::Kernel(call))
        })
    }
}
