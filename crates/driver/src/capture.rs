//! Stream capture: operations become nodes of a graph instead of running.

use std::cell::Cell;
use std::thread::ThreadId;

use crate::abi::{In, Out};
use crate::error::{Error, Res};
use crate::graph::{self, NodeKind};
use crate::state::{State, lock};
use crate::stream;
use crate::types::{EdgeData, Handle};
use crate::work::Work;

/// `CU_STREAM_CAPTURE_MODE_*`.
const GLOBAL: u32 = 0;
const THREAD_LOCAL: u32 = 1;
const RELAXED: u32 = 2;

/// What a stream captures.
#[derive(Debug)]
pub struct Capture {
    /// Same in all streams of a capture.
    pub id: u64,
    /// What it captures to.
    pub graph: Handle,
    /// Nodes that the next one depends on.
    pub last: Vec<Handle>,
    /// Whether the capture began in this stream.
    origin: bool,
    mode: u32,
    thread: ThreadId,
    invalid: bool,
    /// Whether the graph was given by the caller.
    foreign: bool,
    /// What cuStreamGetCaptureInfo pointed to.
    shown: Vec<Handle>,
    edges: Vec<EdgeData>,
}

thread_local! {
    static MODE: Cell<u32> = const { Cell::new(GLOBAL) };
}

fn streams_of(s: &State, id: u64) -> Vec<Handle> {
    let in_it = |st: &stream::Stream| st.capture.as_ref().is_some_and(|c| c.id == id);
    s.streams.iter().filter(|(_, st)| in_it(st)).map(|(&h, _)| h).collect()
}

fn capture_of(s: &mut State, stream: Handle) -> Option<&mut Capture> {
    s.streams.get_mut(&stream)?.capture.as_mut()
}

/// Makes the capture of a stream useless: it can only be ended.
pub fn invalidate(s: &mut State, stream: Handle) {
    let Some(id) = capture_of(s, stream).map(|c| c.id) else { return };
    for stream in streams_of(s, id) {
        if let Some(capture) = capture_of(s, stream) {
            capture.invalid = true;
        }
    }
}

/// Invalidates what is left of a capture when one of its streams is destroyed.
pub fn abandon(s: &mut State, id: u64) {
    if let Some(&stream) = streams_of(s, id).first() {
        invalidate(s, stream);
    }
}

/// Refuses work on the default stream while a stream that orders itself with it captures.
pub fn check_legacy(s: &mut State, stream: Handle) -> Res<()> {
    let own = &s.streams[&stream];
    if !own.legacy {
        return Ok(());
    }
    let context = own.context;
    let capturing = s
        .streams
        .iter()
        .find(|(_, o)| o.context == context && o.capture.is_some() && o.flags & 1 == 0);
    let Some((&capturing, _)) = capturing else { return Ok(()) };
    invalidate(s, capturing);
    Err(Error::STREAM_CAPTURE_IMPLICIT)
}

/// Refuses a call that synchronises while a capture that forbids it is under way.
pub fn forbid(s: &mut State) -> Res<()> {
    if MODE.get() == RELAXED {
        return Ok(());
    }
    let here = std::thread::current().id();
    let found = s.streams.iter().find(|(_, st)| {
        st.capture.as_ref().is_some_and(|c| match c.mode {
            GLOBAL => MODE.get() == GLOBAL || c.thread == here,
            THREAD_LOCAL => c.thread == here,
            _ => false,
        })
    });
    let Some((&stream, _)) = found else { return Ok(()) };
    invalidate(s, stream);
    Err(Error::STREAM_CAPTURE_UNSUPPORTED)
}

/// Adds an operation to the graph that a stream captures.
pub fn add(s: &mut State, stream: Handle, work: Work) -> Res<()> {
    let kind = match work {
        Work::Kernel(call) => NodeKind::Kernel(call),
        Work::Copy(plan) => NodeKind::Copy(plan),
        Work::Fill(plan) => NodeKind::Fill(plan),
        Work::Host(call) => NodeKind::Host(call),
        Work::WriteValue(op) => NodeKind::Values(vec![(op, true)]),
        Work::WaitValue(op) => NodeKind::Values(vec![(op, false)]),
        Work::Free(address) => NodeKind::Free(address),
        Work::Empty => NodeKind::Empty,
        Work::Callback { .. } | Work::Record { .. } | Work::Wait { .. } => {
            invalidate(s, stream);
            return Err(Error::STREAM_CAPTURE_UNSUPPORTED);
        }
    };
    add_node(s, stream, kind).map(|_| ())
}

/// Adds a node behind what the stream captured last.
pub fn add_node(s: &mut State, stream: Handle, kind: NodeKind) -> Res<Handle> {
    let capture = capture_of(s, stream).ok_or(Error::ILLEGAL_STATE)?;
    if capture.invalid {
        return Err(Error::STREAM_CAPTURE_INVALIDATED);
    }
    let (graph, last) = (capture.graph, capture.last.clone());
    let node = graph::add(s, graph, &last, kind)?;
    if let Some(capture) = capture_of(s, stream) {
        capture.last = vec![node];
    }
    Ok(node)
}

/// Captures a stream-ordered allocation; its address.
pub fn allocate(s: &mut State, stream: Handle, device: usize, pool: Handle, size: u64) -> Res<u64> {
    let graph = capture_of(s, stream).ok_or(Error::ILLEGAL_STATE)?.graph;
    let address = graph::allocate(s, graph, device, size)?;
    add_node(s, stream, NodeKind::Alloc { device, pool, size, address })?;
    Ok(address)
}

/// Makes a stream depend on what another captured when it recorded an event.
pub fn join(s: &mut State, stream: Handle, id: u64, nodes: &[Handle]) -> Res<()> {
    let Some(&origin) = streams_of(s, id).first() else { return Err(Error::CAPTURED_EVENT) };
    if s.streams[&stream].legacy {
        invalidate(s, origin);
        return Err(Error::STREAM_CAPTURE_IMPLICIT);
    }
    match capture_of(s, stream) {
        Some(own) if own.id != id => {
            invalidate(s, stream);
            invalidate(s, origin);
            return Err(Error::STREAM_CAPTURE_MERGE);
        }
        Some(own) => {
            for &node in nodes {
                if !own.last.contains(&node) {
                    own.last.push(node);
                }
            }
        }
        None => {
            let Some(from) = capture_of(s, origin) else { return Err(Error::CAPTURED_EVENT) };
            let capture = Capture {
                id,
                graph: from.graph,
                last: nodes.to_vec(),
                origin: false,
                mode: from.mode,
                thread: from.thread,
                invalid: from.invalid,
                foreign: from.foreign,
                shown: Vec::new(),
                edges: Vec::new(),
            };
            if let Some(st) = s.streams.get_mut(&stream) {
                st.capture = Some(capture);
            }
        }
    }
    Ok(())
}

fn begin(handle: Handle, mode: u32, graph: Option<(Handle, Vec<Handle>)>) -> Res<()> {
    if mode > RELAXED {
        return Err(Error::INVALID_VALUE);
    }
    let mut s = lock();
    let stream = stream::usable(&mut s, handle)?;
    if s.streams[&stream].legacy {
        return Err(Error::STREAM_CAPTURE_UNSUPPORTED);
    }
    if s.streams[&stream].capture.is_some() {
        return Err(Error::ILLEGAL_STATE);
    }
    let foreign = graph.is_some();
    let (graph, last) = match graph {
        Some((graph, last)) => {
            graph::check_nodes(&s, graph, &last)?;
            (graph, last)
        }
        None => (graph::create(&mut s), Vec::new()),
    };
    let id = s.buffer_id();
    let capture = Capture {
        id,
        graph,
        last,
        origin: true,
        mode,
        thread: std::thread::current().id(),
        invalid: false,
        foreign,
        shown: Vec::new(),
        edges: Vec::new(),
    };
    if let Some(st) = s.streams.get_mut(&stream) {
        st.capture = Some(capture);
    }
    Ok(())
}

/// Whether a node is among others or before one of them.
fn is_before(s: &State, node: Handle, ends: &[Handle]) -> bool {
    let mut open = ends.to_vec();
    let mut seen = std::collections::BTreeSet::new();
    while let Some(next) = open.pop() {
        if next == node {
            return true;
        }
        if seen.insert(next) {
            open.extend(
                s.nodes.get(&next).into_iter().flat_map(|n| n.dependencies.iter().map(|d| d.0)),
            );
        }
    }
    false
}

/// Status, id and the rest of what a stream captures.
fn info(
    handle: Handle,
    status: Out<u32>,
    id: Out<u64>,
    graph: Out<Handle>,
    nodes: Out<usize>,
    edges: Option<Out<usize>>,
    count: Out<usize>,
) -> Res<()> {
    let mut s = lock();
    let stream = stream::resolve(&mut s, handle)?;
    check_legacy(&mut s, stream)?;
    let Some(capture) = capture_of(&mut s, stream) else { return status.set(0) };
    if capture.invalid {
        return status.set(2);
    }
    status.set(1)?;
    id.set_if(capture.id);
    graph.set_if(capture.graph);
    capture.shown = capture.last.clone();
    capture.edges = vec![EdgeData::default(); capture.shown.len()];
    nodes.set_if(capture.shown.as_ptr() as usize);
    count.set_if(capture.shown.len());
    if let Some(edges) = edges {
        edges.set_if(capture.edges.as_ptr() as usize);
    }
    Ok(())
}

fn update(handle: Handle, nodes: In<Handle>, count: usize, flags: u32) -> Res<()> {
    let nodes = nodes.list(count)?;
    let mut s = lock();
    let stream = stream::resolve(&mut s, handle)?;
    let graph = capture_of(&mut s, stream).ok_or(Error::ILLEGAL_STATE)?.graph;
    graph::check_nodes(&s, graph, &nodes)?;
    let capture = capture_of(&mut s, stream).ok_or(Error::ILLEGAL_STATE)?;
    if capture.invalid {
        return Err(Error::STREAM_CAPTURE_INVALIDATED);
    }
    match flags {
        0 => capture.last.extend(nodes),
        1 => capture.last = nodes,
        _ => return Err(Error::INVALID_VALUE),
    }
    Ok(())
}

api! {
    fn cuStreamBeginCapture(handle: Handle) [cuStreamBeginCapture_ptsz] {
        begin(handle, GLOBAL, None)
    }

    fn cuStreamBeginCapture_v2(handle: Handle, mode: u32) [cuStreamBeginCapture_v2_ptsz] {
        begin(handle, mode, None)
    }

    fn cuStreamBeginCaptureToGraph(
        handle: Handle, graph: Handle, nodes: In<Handle>, _edges: In<EdgeData>, count: usize, mode: u32,
    ) [cuStreamBeginCaptureToGraph_ptsz] {
        begin(handle, mode, Some((graph, nodes.list(count)?)))
    }

    fn cuThreadExchangeStreamCaptureMode(mode: Out<u32>) {
        let new = mode.get()?;
        if new > RELAXED {
            return Err(Error::INVALID_VALUE);
        }
        mode.set(MODE.replace(new))
    }

    fn cuStreamEndCapture(handle: Handle, to: Out<Handle>) [cuStreamEndCapture_ptsz] {
        let mut s = lock();
        let stream = stream::resolve(&mut s, handle)?;
        let capture = capture_of(&mut s, stream).ok_or(Error::ILLEGAL_STATE)?;
        if !capture.origin {
            invalidate(&mut s, stream);
            return Err(Error::STREAM_CAPTURE_UNMATCHED);
        }
        if capture.mode == THREAD_LOCAL && capture.thread != std::thread::current().id() {
            return Err(Error::STREAM_CAPTURE_WRONG_THREAD);
        }
        let (id, graph, last) = (capture.id, capture.graph, capture.last.clone());
        let (mut invalid, foreign) = (capture.invalid, capture.foreign);
        let mut unjoined = false;
        for other in streams_of(&s, id) {
            let Some(capture) = s.streams.get_mut(&other).and_then(|st| st.capture.take()) else { continue };
            unjoined |= !capture.last.iter().all(|&n| is_before(&s, n, &last));
        }
        invalid |= unjoined;
        if invalid {
            if !foreign {
                graph::destroy(&mut s, graph);
            }
            to.set_if(0);
            return Err(if unjoined { Error::STREAM_CAPTURE_UNJOINED } else { Error::STREAM_CAPTURE_INVALIDATED });
        }
        to.set_if(graph);
        Ok(())
    }

    fn cuStreamIsCapturing(handle: Handle, to: Out<u32>) [cuStreamIsCapturing_ptsz] {
        let mut s = lock();
        let stream = stream::resolve(&mut s, handle)?;
        check_legacy(&mut s, stream)?;
        let capture = s.streams[&stream].capture.as_ref();
        to.set(capture.map_or(0, |c| if c.invalid { 2 } else { 1 }))
    }

    fn cuStreamGetCaptureInfo(handle: Handle, status: Out<u32>, id: Out<u64>)
        [cuStreamGetCaptureInfo_ptsz] {
        info(handle, status, id, Out::at(0), Out::at(0), None, Out::at(0))
    }

    fn cuStreamGetCaptureInfo_v2(
        handle: Handle, status: Out<u32>, id: Out<u64>, graph: Out<Handle>, nodes: Out<usize>,
        count: Out<usize>,
    ) [cuStreamGetCaptureInfo_v2_ptsz] {
        info(handle, status, id, graph, nodes, None, count)
    }

    fn cuStreamGetCaptureInfo_v3(
        handle: Handle, status: Out<u32>, id: Out<u64>, graph: Out<Handle>, nodes: Out<usize>,
        edges: Out<usize>, count: Out<usize>,
    ) [cuStreamGetCaptureInfo_v3_ptsz] {
        info(handle, status, id, graph, nodes, Some(edges), count)
    }

    fn cuStreamUpdateCaptureDependencies(
        handle: Handle, nodes: In<Handle>, count: usize, flags: u32,
    ) [cuStreamUpdateCaptureDependencies_ptsz] {
        update(handle, nodes, count, flags)
    }

    fn cuStreamUpdateCaptureDependencies_v2(
        handle: Handle, nodes: In<Handle>, _edges: In<EdgeData>, count: usize, flags: u32,
    ) [cuStreamUpdateCaptureDependencies_v2_ptsz] {
        update(handle, nodes, count, flags)
    }
}
