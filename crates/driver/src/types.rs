//! Structures of the C API, laid out as in `cuda.h` of CUDA 13.1. Enumerations are integers, since a caller may
//! pass any value; unions are bytes. A test compares the sizes with cudarc's bindings.

#![allow(missing_docs, reason = "NVIDIA's CUDA Driver API reference documents the fields")]

/// An address on the device or of host memory.
pub type DevicePtr = u64;
/// A handle: a number in one of the tables of `state`.
pub type Handle = u64;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memcpy2D {
    pub src_x: usize,
    pub src_y: usize,
    pub src_type: u32,
    pub src_host: usize,
    pub src_device: DevicePtr,
    pub src_array: Handle,
    pub src_pitch: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_type: u32,
    pub dst_host: usize,
    pub dst_device: DevicePtr,
    pub dst_array: Handle,
    pub dst_pitch: usize,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_MEMCPY3D`, and `CUDA_MEMCPY3D_PEER` where the reserved fields are contexts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memcpy3D {
    pub src_x: usize,
    pub src_y: usize,
    pub src_z: usize,
    pub src_lod: usize,
    pub src_type: u32,
    pub src_host: usize,
    pub src_device: DevicePtr,
    pub src_array: Handle,
    pub src_context: Handle,
    pub src_pitch: usize,
    pub src_height: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_z: usize,
    pub dst_lod: usize,
    pub dst_type: u32,
    pub dst_host: usize,
    pub dst_device: DevicePtr,
    pub dst_array: Handle,
    pub dst_context: Handle,
    pub dst_pitch: usize,
    pub dst_height: usize,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArrayDescriptor {
    pub width: usize,
    pub height: usize,
    pub format: u32,
    pub channels: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Array3DDescriptor {
    pub width: usize,
    pub height: usize,
    pub depth: usize,
    pub format: u32,
    pub channels: u32,
    pub flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemLocation {
    pub kind: u32,
    pub id: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocationProp {
    pub kind: u32,
    pub handle_types: u32,
    pub location: MemLocation,
    pub win32: usize,
    pub flags: [u8; 8],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessDesc {
    pub location: MemLocation,
    pub flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PoolProps {
    pub kind: u32,
    pub handle_types: u32,
    pub location: MemLocation,
    pub win32: usize,
    pub max_size: usize,
    pub usage: u16,
    pub reserved: [u8; 54],
}

/// `CUDA_KERNEL_NODE_PARAMS` of version 2 and 3; version 1 ends before `kernel`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelNodeParams {
    pub function: Handle,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub params: usize,
    pub extra: usize,
    pub kernel: Handle,
    pub context: Handle,
}

/// `CUDA_KERNEL_NODE_PARAMS_v1`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelNodeParamsV1 {
    pub function: Handle,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub params: usize,
    pub extra: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemsetParams {
    pub dst: DevicePtr,
    pub pitch: usize,
    pub value: u32,
    pub element: u32,
    pub width: usize,
    pub height: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct HostNodeParams {
    pub function: usize,
    pub data: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct AllocNodeParams {
    pub pool: PoolProps,
    pub access: usize,
    pub access_count: usize,
    pub bytes: usize,
    pub address: DevicePtr,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchMemOpParams {
    pub context: Handle,
    pub count: u32,
    pub ops: usize,
    pub flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct GraphNodeParams {
    pub kind: u32,
    pub reserved0: [i32; 3],
    pub body: [u64; 29],
    pub reserved2: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeData {
    pub from_port: u8,
    pub to_port: u8,
    pub kind: u8,
    pub reserved: [u8; 5],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct InstantiateParams {
    pub flags: u64,
    pub upload_stream: Handle,
    pub error_node: Handle,
    pub result: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct UpdateResult {
    pub result: u32,
    pub error_node: Handle,
    pub error_from: Handle,
}

/// The value is a union of 64 bytes, here as words; it is aligned to 8.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LaunchAttribute {
    pub id: u32,
    pub pad: u32,
    pub value: AttributeValue,
}

#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttributeValue {
    pub words: [u32; 16],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LaunchConfigC {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub stream: Handle,
    pub attributes: usize,
    pub count: u32,
}

/// `CUstreamBatchMemOpParams`: a union of 48 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MemOp {
    pub operation: u32,
    pub pad: u32,
    pub address: DevicePtr,
    pub value: u64,
    pub flags: u32,
    pub pad2: u32,
    pub alias: DevicePtr,
    pub pad3: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MemcpyAttributes {
    pub order: u32,
    pub src_hint: MemLocation,
    pub dst_hint: MemLocation,
    pub flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Operand3D {
    pub kind: u32,
    /// Pointer, row length, layer height, location; or array and offset.
    pub op: [u64; 4],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchOp3D {
    pub src: Operand3D,
    pub dst: Operand3D,
    pub extent: [usize; 3],
    pub order: u32,
    pub flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct DevProp {
    pub max_threads_per_block: i32,
    pub max_threads_dim: [i32; 3],
    pub max_grid_size: [i32; 3],
    pub shared_per_block: i32,
    pub constant: i32,
    pub warp: i32,
    pub pitch: i32,
    pub registers: i32,
    pub clock_khz: i32,
    pub texture_align: i32,
}

/// A device to give to a context with an affinity, as cuCtxCreate_v3 takes it: type and number of SMs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct AffinityParam {
    pub kind: u32,
    pub sm_count: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CtxCreateParams {
    pub affinity: usize,
    pub affinity_count: i32,
    pub cig: usize,
}
