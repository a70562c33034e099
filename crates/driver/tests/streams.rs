//! Streams, events, captures and graphs.

mod support;

use std::ffi::c_void;
use std::ptr::null_mut;

use cudarc::driver::sys::{self, CUresult as E};
use support::{Own, arg};

fn stream(flags: u32) -> sys::CUstream {
    let mut stream = null_mut();
    call!(cuStreamCreate(&mut stream, flags)).expect("a stream");
    stream
}

fn event() -> sys::CUevent {
    let mut event = null_mut();
    call!(cuEventCreate(&mut event, 0)).expect("an event");
    event
}

const NON_BLOCKING: u32 = 1;

#[test]
fn a_stream_that_waits_holds_back_what_depends_on_it() {
    let own = Own::new();
    let kernel = own.kernel("increment");
    let flag = own.buffer(&[0u32]);
    let mut p = own.buffer(&[0u32]);
    let (a, b) = (stream(NON_BLOCKING), stream(NON_BLOCKING));
    let done = event();
    call!(cuStreamWaitValue32_v2(a, flag, 1, 0)).expect("a wait");
    own.launch_one(kernel, a, &mut [arg(&mut p)]).expect("a launch");
    call!(cuEventRecord(done, a)).expect("a record");
    call!(cuStreamWaitEvent(b, done, 0)).expect("a wait");
    own.launch_one(kernel, b, &mut [arg(&mut p)]).expect("a launch");
    assert_eq!(call!(cuStreamQuery(b)), Err(E::CUDA_ERROR_NOT_READY));
    assert_eq!(call!(cuEventQuery(done)), Err(E::CUDA_ERROR_NOT_READY));
    // The same thread provides the value on a third stream: the order of calls is no deadlock.
    let c = stream(NON_BLOCKING);
    call!(cuStreamWriteValue32_v2(c, flag, 1, 0)).expect("a write");
    call!(cuStreamSynchronize(b)).expect("done");
    call!(cuEventQuery(done)).expect("done");
    assert_eq!(own.read(p, 1), Ok(vec![2]));
}

#[test]
fn what_a_pageable_copy_takes_is_what_was_there_at_the_call() {
    let own = Own::new();
    let flag = own.buffer(&[0u32]);
    let p = own.buffer(&[0u32]);
    let a = stream(NON_BLOCKING);
    call!(cuStreamWaitValue32_v2(a, flag, 1, 1)).expect("a wait");
    let mut source = 5u32;
    call!(cuMemcpyHtoDAsync_v2(p, std::ptr::from_ref(&source).cast(), 4, a)).expect("a copy");
    source = 6;
    assert_eq!(source, 6);
    let b = stream(NON_BLOCKING);
    call!(cuMemsetD32Async(flag, 1, 1, b)).expect("a fill");
    call!(cuStreamSynchronize(a)).expect("done");
    assert_eq!(own.read(p, 1), Ok(vec![5]));
}

#[test]
fn another_thread_can_release_a_stream() {
    let own = Own::new();
    let flag = own.buffer(&[0u32]);
    let a = stream(NON_BLOCKING);
    call!(cuStreamWaitValue32_v2(a, flag, 7, 0)).expect("a wait");
    let context = own.0 as usize;
    let other = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        call!(cuCtxSetCurrent(context as _)).expect("the context");
        let b = stream(NON_BLOCKING);
        call!(cuMemsetD32Async(flag, 7, 1, b)).expect("a fill");
    });
    call!(cuStreamSynchronize(a)).expect("done");
    other.join().expect("no panic");
}

#[test]
fn modelled_time_grows_with_work() {
    let own = Own::new();
    let (start, middle, end) = (event(), event(), event());
    let p = own.buffer(&vec![0u32; 1 << 20]);
    let s = stream(0);
    call!(cuEventRecord(start, s)).expect("a record");
    call!(cuMemsetD32Async(p, 1, 16, s)).expect("a fill");
    call!(cuEventRecord(middle, s)).expect("a record");
    for _ in 0..10 {
        call!(cuMemsetD32Async(p, 1, 1 << 20, s)).expect("a fill");
    }
    call!(cuEventRecord(end, s)).expect("a record");
    call!(cuEventSynchronize(end)).expect("done");
    let (mut short, mut long) = (0.0, 0.0);
    call!(cuEventElapsedTime_v2(&mut short, start, middle)).expect("a time");
    call!(cuEventElapsedTime_v2(&mut long, middle, end)).expect("a time");
    assert!(short > 0.0 && long > 2.0 * short, "{short} {long}");
    let never = event();
    let mut none = 0.0;
    assert_eq!(
        call!(cuEventElapsedTime_v2(&mut none, start, never)),
        Err(E::CUDA_ERROR_INVALID_HANDLE)
    );
}

#[test]
fn host_functions_run_in_order() {
    let own = Own::new();
    unsafe extern "C" fn push(data: *mut c_void) {
        // SAFETY: the test passes a list.
        let list = unsafe { &mut *data.cast::<Vec<u32>>() };
        list.push(list.len() as u32);
    }
    let mut list: Vec<u32> = Vec::new();
    let s = stream(0);
    for _ in 0..3 {
        call!(cuLaunchHostFunc(s, Some(push), arg(&mut list))).expect("enqueued");
    }
    call!(cuStreamSynchronize(s)).expect("done");
    assert_eq!(list, [0, 1, 2]);
    drop(own);
}

#[test]
fn a_host_function_may_wait_for_what_the_caller_does_next() {
    let own = Own::new();
    unsafe extern "C" fn wait(data: *mut c_void) {
        // SAFETY: the test passes a receiver that outlives the stream's work.
        let receiver = unsafe { &*data.cast::<std::sync::mpsc::Receiver<()>>() };
        receiver.recv().expect("the sender lives");
    }
    let (sender, mut receiver) = std::sync::mpsc::channel();
    let p = own.buffer(&[0u32]);
    let s = stream(NON_BLOCKING);
    let done = event();
    call!(cuLaunchHostFunc(s, Some(wait), arg(&mut receiver))).expect("enqueued");
    call!(cuMemsetD32Async(p, 9, 1, s)).expect("a fill");
    call!(cuEventRecord(done, s)).expect("a record");
    assert_eq!(call!(cuEventQuery(done)), Err(E::CUDA_ERROR_NOT_READY));
    sender.send(()).expect("the function waits");
    call!(cuEventSynchronize(done)).expect("done");
    assert_eq!(own.read(p, 1), Ok(vec![9]));
}

fn instantiate(graph: sys::CUgraph) -> sys::CUgraphExec {
    let mut exec = null_mut();
    call!(cuGraphInstantiateWithFlags(&mut exec, graph, 0)).expect("an executable");
    exec
}

#[test]
fn a_capture_over_two_streams_replays() {
    let own = Own::new();
    let kernel = own.kernel("increment");
    let mut p = own.buffer(&[0u32]);
    let mut q = own.buffer(&[0u32]);
    let (a, b) = (stream(NON_BLOCKING), stream(NON_BLOCKING));
    let (fork, join) = (event(), event());
    call!(cuStreamBeginCapture_v2(a, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL))
        .expect("begin");
    call!(cuMemsetD32Async(p, 10, 1, a)).expect("a fill");
    call!(cuEventRecord(fork, a)).expect("fork");
    call!(cuStreamWaitEvent(b, fork, 0)).expect("fork");
    own.launch_one(kernel, b, &mut [arg(&mut q)]).expect("a launch");
    own.launch_one(kernel, a, &mut [arg(&mut p)]).expect("a launch");
    call!(cuEventRecord(join, b)).expect("join");
    call!(cuStreamWaitEvent(a, join, 0)).expect("join");
    let mut sum = 0;
    call!(cuMemcpyDtoDAsync_v2(q, q, 4, a)).expect("a copy");
    let mut graph = null_mut();
    call!(cuStreamEndCapture(a, &mut graph)).expect("a graph");
    assert_eq!(own.read(p, 1), Ok(vec![0]), "nothing ran");
    call!(cuGraphGetNodes(graph, null_mut(), &mut sum)).expect("a count");
    assert_eq!(sum, 4);
    let mut edges = 0;
    call!(cuGraphGetEdges(graph, null_mut(), null_mut(), &mut edges)).expect("a count");
    assert_eq!(edges, 4);
    let exec = instantiate(graph);
    call!(cuGraphDestroy(graph)).expect("the graph is not needed any more");
    for _ in 0..3 {
        call!(cuGraphLaunch(exec, a)).expect("a launch");
    }
    call!(cuStreamSynchronize(a)).expect("done");
    assert_eq!((own.read(p, 1), own.read(q, 1)), (Ok(vec![11]), Ok(vec![3])));
    call!(cuGraphExecDestroy(exec)).expect("the end");
}

#[test]
fn captures_refuse_what_cannot_be_captured() {
    let own = Own::new();
    let p = own.buffer(&[0u32]);
    let global = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    let begin_legacy = call!(cuStreamBeginCapture_v2(null_mut(), global));
    assert_eq!(begin_legacy, Err(E::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED));
    let a = stream(0);
    let begin = || call!(cuStreamBeginCapture_v2(a, global)).expect("begin");
    let end = || {
        let mut graph = null_mut();
        call!(cuStreamEndCapture(a, &mut graph))
    };
    assert_eq!(end(), Err(E::CUDA_ERROR_ILLEGAL_STATE));
    begin();
    assert_eq!(call!(cuStreamSynchronize(a)), Err(E::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED));
    assert_eq!(end(), Err(E::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
    begin();
    assert_eq!(
        call!(cuMemsetD32Async(p, 1, 1, null_mut())),
        Err(E::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT)
    );
    assert_eq!(end(), Err(E::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
    // A stream that was drawn in and not joined again.
    begin();
    let b = stream(NON_BLOCKING);
    let fork = event();
    call!(cuEventRecord(fork, a)).expect("fork");
    call!(cuStreamWaitEvent(b, fork, 0)).expect("fork");
    call!(cuMemsetD32Async(p, 1, 1, b)).expect("captured");
    assert_eq!(end(), Err(E::CUDA_ERROR_STREAM_CAPTURE_UNJOINED));
}

#[test]
fn graphs_by_hand_run_in_the_order_of_their_edges() {
    let own = Own::new();
    let kernel = own.kernel("increment");
    let mut p = own.buffer(&[0u32]);
    let mut other = own.buffer(&[100u32]);
    let mut graph = null_mut();
    call!(cuGraphCreate(&mut graph, 0)).expect("a graph");
    let mut params = [arg(&mut p)];
    // SAFETY: integers and pointers may be zero.
    let mut node_params: sys::CUDA_KERNEL_NODE_PARAMS = unsafe { std::mem::zeroed() };
    node_params.func = kernel;
    (node_params.gridDimX, node_params.gridDimY, node_params.gridDimZ) = (1, 1, 1);
    (node_params.blockDimX, node_params.blockDimY, node_params.blockDimZ) = (1, 1, 1);
    node_params.kernelParams = params.as_mut_ptr();
    let mut run = null_mut();
    call!(cuGraphAddKernelNode_v2(&mut run, graph, null_mut(), 0, &node_params)).expect("a node");
    let fill = sys::CUDA_MEMSET_NODE_PARAMS {
        dst: p,
        pitch: 0,
        value: 40,
        elementSize: 4,
        width: 1,
        height: 1,
    };
    let mut set = null_mut();
    call!(cuGraphAddMemsetNode(&mut set, graph, null_mut(), 0, &fill, own.0)).expect("a node");
    call!(cuGraphAddDependencies(graph, &set, &run, 1)).expect("an edge");
    let exec = instantiate(graph);
    call!(cuGraphLaunch(exec, null_mut())).expect("a launch");
    assert_eq!(own.read(p, 1), Ok(vec![41]));
    // Other parameters for the executable graph only.
    params = [arg(&mut other)];
    node_params.kernelParams = params.as_mut_ptr();
    call!(cuGraphExecKernelNodeSetParams_v2(exec, run, &node_params)).expect("a change");
    call!(cuGraphLaunch(exec, null_mut())).expect("a launch");
    assert_eq!((own.read(p, 1), own.read(other, 1)), (Ok(vec![40]), Ok(vec![101])));
    // The parameters that the graph has are shown.
    // SAFETY: as above.
    let mut shown: sys::CUDA_KERNEL_NODE_PARAMS = unsafe { std::mem::zeroed() };
    call!(cuGraphKernelNodeGetParams_v2(run, &mut shown)).expect("parameters");
    // SAFETY: the node has one parameter of 8 bytes.
    assert_eq!(unsafe { (*shown.kernelParams).cast::<u64>().read_unaligned() }, p);
    // A clone has the same shape and can update the executable graph.
    let mut copy = null_mut();
    call!(cuGraphClone(&mut copy, graph)).expect("a clone");
    let mut found = null_mut();
    call!(cuGraphNodeFindInClone(&mut found, run, copy)).expect("its node");
    // SAFETY: as above.
    let mut result: sys::CUgraphExecUpdateResultInfo = unsafe { std::mem::zeroed() };
    call!(cuGraphExecUpdate_v2(exec, copy, &mut result)).expect("an update");
    call!(cuGraphLaunch(exec, null_mut())).expect("a launch");
    assert_eq!((own.read(p, 1), own.read(other, 1)), (Ok(vec![41]), Ok(vec![101])));
    let mut extra = null_mut();
    call!(cuGraphAddEmptyNode(&mut extra, copy, null_mut(), 0)).expect("a node");
    let changed = call!(cuGraphExecUpdate_v2(exec, copy, &mut result));
    assert_eq!(changed, Err(E::CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE));
    // A cycle cannot be instantiated.
    call!(cuGraphAddDependencies(graph, &run, &set, 1)).expect("an edge");
    let mut none = null_mut();
    assert!(call!(cuGraphInstantiateWithFlags(&mut none, graph, 0)).is_err());
}

#[test]
fn child_graphs_and_graph_memory() {
    let own = Own::new();
    let kernel = own.kernel("increment");
    let a = stream(NON_BLOCKING);
    let out = own.buffer(&[0u32]);
    call!(cuStreamBeginCapture_v2(a, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED))
        .expect("begin");
    let mut p = 0;
    call!(cuMemAllocAsync(&mut p, 4, a)).expect("memory of the graph");
    call!(cuMemsetD32Async(p, 8, 1, a)).expect("a fill");
    own.launch_one(kernel, a, &mut [arg(&mut p)]).expect("a launch");
    call!(cuMemcpyDtoDAsync_v2(out, p, 4, a)).expect("a copy");
    call!(cuMemFreeAsync(p, a)).expect("a free");
    let mut inner = null_mut();
    call!(cuStreamEndCapture(a, &mut inner)).expect("a graph");
    let (mut outer, mut child) = (null_mut(), null_mut());
    call!(cuGraphCreate(&mut outer, 0)).expect("a graph");
    call!(cuGraphAddChildGraphNode(&mut child, outer, null_mut(), 0, inner)).expect("a node");
    call!(cuGraphDestroy(inner)).expect("the child was copied");
    let exec = instantiate(outer);
    call!(cuGraphLaunch(exec, a)).expect("a launch");
    call!(cuStreamSynchronize(a)).expect("done");
    assert_eq!(own.read(out, 1), Ok(vec![9]));
    call!(cuGraphExecDestroy(exec)).expect("the end");
    call!(cuGraphDestroy(outer)).expect("the end");
    // Now nobody holds the memory of the graph.
    assert_eq!(own.read(p, 1), Err(E::CUDA_ERROR_INVALID_VALUE));
}

#[test]
fn cooperative_grids_must_fit() {
    let own = Own::new();
    let kernel = own.kernel("increment");
    let mut p = own.buffer(&[0u32]);
    let mut go = |blocks: u32| {
        let params = [arg(&mut p)].as_mut_ptr();
        call!(cuLaunchCooperativeKernel(kernel, blocks, 1, 1, 1024, 1, 1, 0, null_mut(), params))
    };
    assert_eq!(go(1_000_000), Err(E::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE));
    let mut per_sm = 0;
    call!(cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut per_sm, kernel, 1024, 0))
        .expect("a number");
    assert_eq!(per_sm, 2);
    assert_eq!(go(2 * 60 + 1), Err(E::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE));
}

#[test]
fn clusters_have_limits() {
    let own = Own::new();
    let kernel = own.kernel("forever");
    let mut attribute: sys::CUlaunchAttribute =
        // SAFETY: integers may be zero.
        unsafe { std::mem::zeroed() };
    attribute.id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    let mut go = |cluster: u32| {
        attribute.value.clusterDim.x = cluster;
        attribute.value.clusterDim.y = 1;
        attribute.value.clusterDim.z = 1;
        let config = sys::CUlaunchConfig {
            gridDimX: 32,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: 32,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            hStream: null_mut(),
            attrs: &mut attribute,
            numAttrs: 1,
        };
        let mut clusters = 0;
        call!(cuOccupancyMaxActiveClusters(&mut clusters, kernel, &config)).map(|()| clusters)
    };
    assert!(go(2).expect("a number") > 0);
    assert_eq!(go(16), Err(E::CUDA_ERROR_INVALID_CLUSTER_SIZE));
    assert_eq!(go(0), Err(E::CUDA_ERROR_INVALID_CLUSTER_SIZE));
    let wide = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
    call!(cuFuncSetAttribute(kernel, wide, 1)).expect("allowed");
    assert!(go(16).expect("a number") > 0);
    drop(own);
}
