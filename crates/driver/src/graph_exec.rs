//! Executable graphs.

use std::collections::BTreeMap;

use crate::abi::{In, Out};
use crate::error::{Error, Res};
use crate::graph::{self, Exec, NodeKind, Step};
use crate::graph_node;
use crate::log;
use crate::state::{Kind, State, lock};
use crate::stream;
use crate::types::{
    BatchMemOpParams, GraphNodeParams, Handle, HostNodeParams, InstantiateParams, KernelNodeParams,
    KernelNodeParamsV1, Memcpy3D, MemsetParams, UpdateResult,
};
use crate::work::Work;

/// `CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH`.
const AUTO_FREE: u64 = 1;
/// `CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH`.
const DEVICE_LAUNCH: u64 = 4;

/// Steps of a graph, child graphs dissolved. A step of a child comes after what is before the child, and what is after the
/// child comes after all of its steps.
fn flatten(s: &State, graph: Handle, before: &[usize], steps: &mut Vec<Step>) -> Res<Vec<usize>> {
    let order = graph::order(s, graph)?.ok_or(Error::INVALID_VALUE)?;
    let mut ends: BTreeMap<Handle, Vec<usize>> = BTreeMap::new();
    let mut all = Vec::new();
    for handle in order {
        let node = &s.nodes[&handle];
        let mut dependencies: Vec<usize> =
            node.dependencies.iter().flat_map(|d| ends[&d.0].iter().copied()).collect();
        if node.dependencies.is_empty() {
            dependencies.extend(before);
        }
        dependencies.sort_unstable();
        dependencies.dedup();
        let end = match &node.kind {
            NodeKind::Child(child) => {
                let inner = flatten(s, *child, &dependencies, steps)?;
                if inner.is_empty() { dependencies } else { inner }
            }
            kind => {
                let kind = kind.clone();
                steps.push(Step { node: handle, kind, dependencies, enabled: true });
                vec![steps.len() - 1]
            }
        };
        all.extend(&end);
        ends.insert(handle, end);
    }
    Ok(all)
}

/// All addresses of allocation nodes of a graph.
fn memory(s: &State, graph: Handle) -> Vec<u64> {
    let Some(g) = s.graphs.get(&graph) else { return Vec::new() };
    let inner = g.nodes.iter().filter_map(|n| match s.nodes[n].kind {
        NodeKind::Child(child) => Some(memory(s, child)),
        _ => None,
    });
    g.memory.iter().copied().chain(inner.flatten()).collect()
}

fn instantiate(to: Out<Handle>, graph: Handle, flags: u64) -> Res<()> {
    if to.is_null() || flags > 15 {
        return Err(Error::INVALID_VALUE);
    }
    // Freeing at a relaunch is the host's affair, so it excludes launches by kernels.
    if flags & DEVICE_LAUNCH != 0 && flags & AUTO_FREE != 0 {
        return Err(Error::INVALID_VALUE);
    }
    if flags & DEVICE_LAUNCH != 0 {
        log::once("device launch", || "graphs cannot be launched by kernels".to_owned());
        return Err(Error::NOT_SUPPORTED);
    }
    let mut s = lock();
    let mut steps = Vec::new();
    flatten(&s, graph, &[], &mut steps)?;
    let memory = memory(&s, graph);
    graph::hold(&mut s, &memory);
    let handle = s.handle(Kind::Exec);
    s.execs.insert(handle, Exec { steps, flags, memory });
    to.set(handle)
}

fn find(s: &mut State, exec: Handle) -> Res<&mut Exec> {
    s.ready()?;
    s.execs.get_mut(&exec).ok_or(Error::INVALID_VALUE)
}

/// What a stream does for a step.
fn work(s: &mut State, step: &Step) -> Vec<Work> {
    let one = match &step.kind {
        _ if !step.enabled => Work::Empty,
        NodeKind::Kernel(call) => Work::Kernel(call.clone()),
        NodeKind::Copy(plan) => Work::Copy(plan.clone()),
        NodeKind::Fill(plan) => Work::Fill(plan.clone()),
        NodeKind::Host(call) => Work::Host(*call),
        NodeKind::Wait(event) => match s.events.get(event) {
            Some(e) => Work::Wait { event: *event, version: e.submitted },
            None => Work::Empty,
        },
        NodeKind::Record(event) => match s.events.get_mut(event) {
            Some(e) => {
                e.submitted += 1;
                Work::Record { event: *event, version: e.submitted }
            }
            None => Work::Empty,
        },
        NodeKind::Values(ops) => {
            let each = ops.iter().map(|&(op, write)| match write {
                true => Work::WriteValue(op),
                false => Work::WaitValue(op),
            });
            return each.collect();
        }
        // Memory of graphs lives as long as the graph.
        NodeKind::Empty | NodeKind::Child(_) | NodeKind::Alloc { .. } | NodeKind::Free(_) => {
            Work::Empty
        }
    };
    vec![one]
}

/// Replaces what a step does by the same kind with other parameters.
fn replace(
    exec: Handle,
    node: Handle,
    make: impl FnOnce(&State, &NodeKind) -> Res<NodeKind>,
) -> Res<()> {
    let mut s = lock();
    let steps = &find(&mut s, exec)?.steps;
    let at = steps.iter().position(|st| st.node == node).ok_or(Error::INVALID_VALUE)?;
    let old = steps[at].kind.clone();
    let new = make(&s, &old)?;
    if new.number() != old.number() {
        return Err(Error::INVALID_VALUE);
    }
    find(&mut s, exec)?.steps[at].kind = new;
    Ok(())
}

/// Takes parameters over from a graph of the same shape.
fn update(exec: Handle, graph: Handle) -> Res<UpdateResult> {
    let mut s = lock();
    let mut steps = Vec::new();
    flatten(&s, graph, &[], &mut steps)?;
    let old = &mut find(&mut s, exec)?.steps;
    let failed = |result, node| Ok(UpdateResult { result, error_node: node, error_from: 0 });
    if old.len() != steps.len() {
        return failed(2, 0);
    }
    for (o, n) in old.iter().zip(&steps) {
        if o.kind.number() != n.kind.number() {
            return failed(3, n.node);
        }
        if o.dependencies != n.dependencies {
            return failed(2, n.node);
        }
        if let (NodeKind::Alloc { .. } | NodeKind::Free(_), _) = (&n.kind, ()) {
            return failed(6, n.node);
        }
    }
    for (o, n) in old.iter_mut().zip(steps) {
        o.kind = n.kind;
    }
    Ok(UpdateResult::default())
}

fn launch(exec: Handle, handle: Handle) -> Res<()> {
    let mut s = lock();
    let stream = stream::usable(&mut s, handle)?;
    let steps = find(&mut s, exec)?.steps.clone();
    if s.streams[&stream].capture.is_some() {
        crate::capture::invalidate(&mut s, stream);
        return Err(Error::STREAM_CAPTURE_UNSUPPORTED);
    }
    crate::capture::check_legacy(&mut s, stream)?;
    let mut works = Vec::new();
    for step in &steps {
        works.extend(work(&mut s, step));
    }
    stream::enqueue(s, stream, works);
    Ok(())
}

api! {
    fn cuGraphInstantiateWithFlags(to: Out<Handle>, graph: Handle, flags: u64) {
        instantiate(to, graph, flags)
    }

    fn cuGraphInstantiate(
        to: Out<Handle>, graph: Handle, error: Out<Handle>, log: Out<std::ffi::c_char>, len: usize,
    ) [cuGraphInstantiate_v2] {
        error.set_if(0);
        if len > 0 && !log.is_null() {
            log.set(0)?;
        }
        instantiate(to, graph, 0)
    }

    fn cuGraphInstantiateWithParams(
        to: Out<Handle>, graph: Handle, params: Out<InstantiateParams>,
    ) [cuGraphInstantiateWithParams_ptsz] {
        let mut p = params.get()?;
        let done = instantiate(to, graph, p.flags);
        p.error_node = 0;
        // CUDA_GRAPH_INSTANTIATE_SUCCESS, _ERROR.
        p.result = u32::from(done.is_err());
        params.set(p)?;
        done
    }

    fn cuGraphExecDestroy(exec: Handle) {
        stream::pump();
        let mut s = lock();
        s.ready()?;
        let gone = s.execs.remove(&exec).ok_or(Error::INVALID_VALUE)?;
        graph::let_go(&mut s, &gone.memory);
        Ok(())
    }

    fn cuGraphExecGetFlags(exec: Handle, to: Out<u64>) {
        to.set(find(&mut lock(), exec)?.flags)
    }

    fn cuGraphExecGetId(exec: Handle, to: Out<u32>) {
        find(&mut lock(), exec)?;
        to.set((exec >> 4) as u32)
    }

    fn cuGraphUpload(exec: Handle, handle: Handle) [cuGraphUpload_ptsz] {
        let mut s = lock();
        stream::usable(&mut s, handle)?;
        find(&mut s, exec).map(|_| ())
    }

    fn cuGraphLaunch(exec: Handle, handle: Handle) [cuGraphLaunch_ptsz] {
        launch(exec, handle)
    }

    fn cuGraphExecUpdate(exec: Handle, graph: Handle, node: Out<Handle>, result: Out<u32>) {
        let done = update(exec, graph)?;
        node.set_if(done.error_node);
        result.set_if(done.result);
        if done.result == 0 { Ok(()) } else { Err(Error::GRAPH_EXEC_UPDATE_FAILURE) }
    }

    fn cuGraphExecUpdate_v2(exec: Handle, graph: Handle, to: Out<UpdateResult>) {
        let done = update(exec, graph)?;
        to.set(done)?;
        if done.result == 0 { Ok(()) } else { Err(Error::GRAPH_EXEC_UPDATE_FAILURE) }
    }

    fn cuGraphNodeSetEnabled(exec: Handle, node: Handle, enabled: u32) {
        let mut s = lock();
        let steps = &mut find(&mut s, exec)?.steps;
        let step = steps.iter_mut().find(|st| st.node == node).ok_or(Error::INVALID_VALUE)?;
        if !matches!(step.kind, NodeKind::Kernel(_) | NodeKind::Copy(_) | NodeKind::Fill(_)) {
            return Err(Error::INVALID_VALUE);
        }
        step.enabled = enabled != 0;
        Ok(())
    }

    fn cuGraphNodeGetEnabled(exec: Handle, node: Handle, to: Out<u32>) {
        let mut s = lock();
        let steps = &find(&mut s, exec)?.steps;
        let step = steps.iter().find(|st| st.node == node).ok_or(Error::INVALID_VALUE)?;
        to.set(u32::from(step.enabled))
    }

    fn cuGraphExecKernelNodeSetParams(exec: Handle, node: Handle, params: In<KernelNodeParamsV1>) {
        let p: KernelNodeParams = params.get()?.into();
        replace(exec, node, |s, old| graph_node::replaced_kernel(s, &p, old))
    }

    fn cuGraphExecKernelNodeSetParams_v2(exec: Handle, node: Handle, params: In<KernelNodeParams>) {
        let p = params.get()?;
        replace(exec, node, |s, old| graph_node::replaced_kernel(s, &p, old))
    }

    fn cuGraphExecMemcpyNodeSetParams(exec: Handle, node: Handle, params: In<Memcpy3D>, context: Handle) {
        let p = params.get()?;
        lock().context(context)?;
        replace(exec, node, |s, _| graph_node::copy(s, p))
    }

    fn cuGraphExecMemsetNodeSetParams(exec: Handle, node: Handle, params: In<MemsetParams>, context: Handle) {
        let p = params.get()?;
        lock().context(context)?;
        replace(exec, node, |s, _| graph_node::fill(s, p))
    }

    fn cuGraphExecHostNodeSetParams(exec: Handle, node: Handle, params: In<HostNodeParams>) {
        let p = params.get()?;
        replace(exec, node, |_, _| graph_node::host(p))
    }

    fn cuGraphExecEventRecordNodeSetEvent(exec: Handle, node: Handle, event: Handle) {
        replace(exec, node, |s, _| crate::event::find(s, event).map(|_| NodeKind::Record(event)))
    }

    fn cuGraphExecEventWaitNodeSetEvent(exec: Handle, node: Handle, event: Handle) {
        replace(exec, node, |s, _| crate::event::find(s, event).map(|_| NodeKind::Wait(event)))
    }

    fn cuGraphExecBatchMemOpNodeSetParams(exec: Handle, node: Handle, params: In<BatchMemOpParams>) {
        let p = params.get()?;
        replace(exec, node, |s, _| graph_node::values(s, &p))
    }

    fn cuGraphExecNodeSetParams(exec: Handle, node: Handle, params: In<GraphNodeParams>) {
        let body = params.address() + 16;
        match params.get()?.kind {
            0 => {
                let p: KernelNodeParams = In::at(body).get()?;
                replace(exec, node, |s, old| graph_node::replaced_kernel(s, &p, old))
            }
            1 => {
                let p: Memcpy3D = In::at(body + 16).get()?;
                replace(exec, node, |s, _| graph_node::copy(s, p))
            }
            2 => {
                let p: MemsetParams = In::at(body).get()?;
                replace(exec, node, |s, _| graph_node::fill(s, p))
            }
            3 => {
                let p: HostNodeParams = In::at(body).get()?;
                replace(exec, node, |_, _| graph_node::host(p))
            }
            _ => Err(Error::NOT_SUPPORTED),
        }
    }
}
