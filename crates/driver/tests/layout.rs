//! Our C structures have the layout that cudarc's bindings have.

use cuda::types as ours;
use cudarc::driver::sys;

macro_rules! same {
    ($($our:ident = $their:ident),* $(,)?) => {
        $(
            assert_eq!(size_of::<ours::$our>(), size_of::<sys::$their>(), "{}", stringify!($our));
            assert!(align_of::<ours::$our>() <= align_of::<sys::$their>(), "{}", stringify!($our));
        )*
    };
}

#[test]
fn sizes_agree() {
    same! {
        Memcpy2D = CUDA_MEMCPY2D,
        Memcpy3D = CUDA_MEMCPY3D,
        Memcpy3D = CUDA_MEMCPY3D_PEER,
        ArrayDescriptor = CUDA_ARRAY_DESCRIPTOR,
        Array3DDescriptor = CUDA_ARRAY3D_DESCRIPTOR,
        MemLocation = CUmemLocation,
        AllocationProp = CUmemAllocationProp,
        AccessDesc = CUmemAccessDesc,
        PoolProps = CUmemPoolProps,
        KernelNodeParams = CUDA_KERNEL_NODE_PARAMS_v2,
        KernelNodeParamsV1 = CUDA_KERNEL_NODE_PARAMS_v1,
        MemsetParams = CUDA_MEMSET_NODE_PARAMS,
        HostNodeParams = CUDA_HOST_NODE_PARAMS,
        AllocNodeParams = CUDA_MEM_ALLOC_NODE_PARAMS,
        BatchMemOpParams = CUDA_BATCH_MEM_OP_NODE_PARAMS,
        GraphNodeParams = CUgraphNodeParams,
        EdgeData = CUgraphEdgeData,
        InstantiateParams = CUDA_GRAPH_INSTANTIATE_PARAMS,
        UpdateResult = CUgraphExecUpdateResultInfo,
        LaunchAttribute = CUlaunchAttribute,
        AttributeValue = CUlaunchAttributeValue,
        LaunchConfigC = CUlaunchConfig,
        MemOp = CUstreamBatchMemOpParams,
        MemcpyAttributes = CUmemcpyAttributes,
        Operand3D = CUmemcpy3DOperand,
        BatchOp3D = CUDA_MEMCPY3D_BATCH_OP,
        DevProp = CUdevprop,
        AffinityParam = CUexecAffinityParam,
        CtxCreateParams = CUctxCreateParams,
    }
}

#[test]
fn fields_are_where_they_should_be() {
    use std::mem::offset_of;
    assert_eq!(offset_of!(ours::Memcpy3D, width), offset_of!(sys::CUDA_MEMCPY3D, WidthInBytes));
    assert_eq!(offset_of!(ours::Memcpy3D, dst_type), offset_of!(sys::CUDA_MEMCPY3D, dstMemoryType));
    assert_eq!(offset_of!(ours::Memcpy2D, dst_pitch), offset_of!(sys::CUDA_MEMCPY2D, dstPitch));
    assert_eq!(offset_of!(ours::LaunchConfigC, stream), offset_of!(sys::CUlaunchConfig, hStream));
    assert_eq!(offset_of!(ours::LaunchAttribute, value), offset_of!(sys::CUlaunchAttribute, value));
    assert_eq!(
        offset_of!(ours::KernelNodeParams, params),
        offset_of!(sys::CUDA_KERNEL_NODE_PARAMS_v2, kernelParams)
    );
    assert_eq!(offset_of!(ours::PoolProps, max_size), offset_of!(sys::CUmemPoolProps, maxSize));
    assert_eq!(
        offset_of!(ours::AllocationProp, location),
        offset_of!(sys::CUmemAllocationProp, location)
    );
    assert_eq!(
        offset_of!(ours::InstantiateParams, result),
        offset_of!(sys::CUDA_GRAPH_INSTANTIATE_PARAMS, result_out)
    );
}
