//! Error codes with their names and texts.

use crate::abi::{CStrPtr, Out};

/// A `CUresult` other than success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error(pub u32);

/// What the body of every function gives.
pub type Res<T> = Result<T, Error>;

/// `CUDA_SUCCESS`.
pub const SUCCESS: u32 = 0;

impl Error {
    /// `CUDA_ERROR_INVALID_VALUE`.
    pub const INVALID_VALUE: Error = Error(1);
    /// `CUDA_ERROR_OUT_OF_MEMORY`.
    pub const OUT_OF_MEMORY: Error = Error(2);
    /// `CUDA_ERROR_NOT_INITIALIZED`.
    pub const NOT_INITIALIZED: Error = Error(3);
    /// `CUDA_ERROR_DEINITIALIZED`.
    pub const DEINITIALIZED: Error = Error(4);
    /// `CUDA_ERROR_PROFILER_DISABLED`.
    pub const PROFILER_DISABLED: Error = Error(5);
    /// `CUDA_ERROR_PROFILER_NOT_INITIALIZED`.
    pub const PROFILER_NOT_INITIALIZED: Error = Error(6);
    /// `CUDA_ERROR_PROFILER_ALREADY_STARTED`.
    pub const PROFILER_ALREADY_STARTED: Error = Error(7);
    /// `CUDA_ERROR_PROFILER_ALREADY_STOPPED`.
    pub const PROFILER_ALREADY_STOPPED: Error = Error(8);
    /// `CUDA_ERROR_STUB_LIBRARY`.
    pub const STUB_LIBRARY: Error = Error(34);
    /// `CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER`.
    pub const CALL_REQUIRES_NEWER_DRIVER: Error = Error(36);
    /// `CUDA_ERROR_DEVICE_UNAVAILABLE`.
    pub const DEVICE_UNAVAILABLE: Error = Error(46);
    /// `CUDA_ERROR_NO_DEVICE`.
    pub const NO_DEVICE: Error = Error(100);
    /// `CUDA_ERROR_INVALID_DEVICE`.
    pub const INVALID_DEVICE: Error = Error(101);
    /// `CUDA_ERROR_DEVICE_NOT_LICENSED`.
    pub const DEVICE_NOT_LICENSED: Error = Error(102);
    /// `CUDA_ERROR_INVALID_IMAGE`.
    pub const INVALID_IMAGE: Error = Error(200);
    /// `CUDA_ERROR_INVALID_CONTEXT`.
    pub const INVALID_CONTEXT: Error = Error(201);
    /// `CUDA_ERROR_CONTEXT_ALREADY_CURRENT`.
    pub const CONTEXT_ALREADY_CURRENT: Error = Error(202);
    /// `CUDA_ERROR_MAP_FAILED`.
    pub const MAP_FAILED: Error = Error(205);
    /// `CUDA_ERROR_UNMAP_FAILED`.
    pub const UNMAP_FAILED: Error = Error(206);
    /// `CUDA_ERROR_ARRAY_IS_MAPPED`.
    pub const ARRAY_IS_MAPPED: Error = Error(207);
    /// `CUDA_ERROR_ALREADY_MAPPED`.
    pub const ALREADY_MAPPED: Error = Error(208);
    /// `CUDA_ERROR_NO_BINARY_FOR_GPU`.
    pub const NO_BINARY_FOR_GPU: Error = Error(209);
    /// `CUDA_ERROR_ALREADY_ACQUIRED`.
    pub const ALREADY_ACQUIRED: Error = Error(210);
    /// `CUDA_ERROR_NOT_MAPPED`.
    pub const NOT_MAPPED: Error = Error(211);
    /// `CUDA_ERROR_NOT_MAPPED_AS_ARRAY`.
    pub const NOT_MAPPED_AS_ARRAY: Error = Error(212);
    /// `CUDA_ERROR_NOT_MAPPED_AS_POINTER`.
    pub const NOT_MAPPED_AS_POINTER: Error = Error(213);
    /// `CUDA_ERROR_ECC_UNCORRECTABLE`.
    pub const ECC_UNCORRECTABLE: Error = Error(214);
    /// `CUDA_ERROR_UNSUPPORTED_LIMIT`.
    pub const UNSUPPORTED_LIMIT: Error = Error(215);
    /// `CUDA_ERROR_CONTEXT_ALREADY_IN_USE`.
    pub const CONTEXT_ALREADY_IN_USE: Error = Error(216);
    /// `CUDA_ERROR_PEER_ACCESS_UNSUPPORTED`.
    pub const PEER_ACCESS_UNSUPPORTED: Error = Error(217);
    /// `CUDA_ERROR_INVALID_PTX`.
    pub const INVALID_PTX: Error = Error(218);
    /// `CUDA_ERROR_INVALID_GRAPHICS_CONTEXT`.
    pub const INVALID_GRAPHICS_CONTEXT: Error = Error(219);
    /// `CUDA_ERROR_NVLINK_UNCORRECTABLE`.
    pub const NVLINK_UNCORRECTABLE: Error = Error(220);
    /// `CUDA_ERROR_JIT_COMPILER_NOT_FOUND`.
    pub const JIT_COMPILER_NOT_FOUND: Error = Error(221);
    /// `CUDA_ERROR_UNSUPPORTED_PTX_VERSION`.
    pub const UNSUPPORTED_PTX_VERSION: Error = Error(222);
    /// `CUDA_ERROR_JIT_COMPILATION_DISABLED`.
    pub const JIT_COMPILATION_DISABLED: Error = Error(223);
    /// `CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY`.
    pub const UNSUPPORTED_EXEC_AFFINITY: Error = Error(224);
    /// `CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC`.
    pub const UNSUPPORTED_DEVSIDE_SYNC: Error = Error(225);
    /// `CUDA_ERROR_CONTAINED`.
    pub const CONTAINED: Error = Error(226);
    /// `CUDA_ERROR_INVALID_SOURCE`.
    pub const INVALID_SOURCE: Error = Error(300);
    /// `CUDA_ERROR_FILE_NOT_FOUND`.
    pub const FILE_NOT_FOUND: Error = Error(301);
    /// `CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND`.
    pub const SHARED_OBJECT_SYMBOL_NOT_FOUND: Error = Error(302);
    /// `CUDA_ERROR_SHARED_OBJECT_INIT_FAILED`.
    pub const SHARED_OBJECT_INIT_FAILED: Error = Error(303);
    /// `CUDA_ERROR_OPERATING_SYSTEM`.
    pub const OPERATING_SYSTEM: Error = Error(304);
    /// `CUDA_ERROR_INVALID_HANDLE`.
    pub const INVALID_HANDLE: Error = Error(400);
    /// `CUDA_ERROR_ILLEGAL_STATE`.
    pub const ILLEGAL_STATE: Error = Error(401);
    /// `CUDA_ERROR_LOSSY_QUERY`.
    pub const LOSSY_QUERY: Error = Error(402);
    /// `CUDA_ERROR_NOT_FOUND`.
    pub const NOT_FOUND: Error = Error(500);
    /// `CUDA_ERROR_NOT_READY`.
    pub const NOT_READY: Error = Error(600);
    /// `CUDA_ERROR_ILLEGAL_ADDRESS`.
    pub const ILLEGAL_ADDRESS: Error = Error(700);
    /// `CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES`.
    pub const LAUNCH_OUT_OF_RESOURCES: Error = Error(701);
    /// `CUDA_ERROR_LAUNCH_TIMEOUT`.
    pub const LAUNCH_TIMEOUT: Error = Error(702);
    /// `CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING`.
    pub const LAUNCH_INCOMPATIBLE_TEXTURING: Error = Error(703);
    /// `CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED`.
    pub const PEER_ACCESS_ALREADY_ENABLED: Error = Error(704);
    /// `CUDA_ERROR_PEER_ACCESS_NOT_ENABLED`.
    pub const PEER_ACCESS_NOT_ENABLED: Error = Error(705);
    /// `CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE`.
    pub const PRIMARY_CONTEXT_ACTIVE: Error = Error(708);
    /// `CUDA_ERROR_CONTEXT_IS_DESTROYED`.
    pub const CONTEXT_IS_DESTROYED: Error = Error(709);
    /// `CUDA_ERROR_ASSERT`.
    pub const ASSERT: Error = Error(710);
    /// `CUDA_ERROR_TOO_MANY_PEERS`.
    pub const TOO_MANY_PEERS: Error = Error(711);
    /// `CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED`.
    pub const HOST_MEMORY_ALREADY_REGISTERED: Error = Error(712);
    /// `CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED`.
    pub const HOST_MEMORY_NOT_REGISTERED: Error = Error(713);
    /// `CUDA_ERROR_HARDWARE_STACK_ERROR`.
    pub const HARDWARE_STACK_ERROR: Error = Error(714);
    /// `CUDA_ERROR_ILLEGAL_INSTRUCTION`.
    pub const ILLEGAL_INSTRUCTION: Error = Error(715);
    /// `CUDA_ERROR_MISALIGNED_ADDRESS`.
    pub const MISALIGNED_ADDRESS: Error = Error(716);
    /// `CUDA_ERROR_INVALID_ADDRESS_SPACE`.
    pub const INVALID_ADDRESS_SPACE: Error = Error(717);
    /// `CUDA_ERROR_INVALID_PC`.
    pub const INVALID_PC: Error = Error(718);
    /// `CUDA_ERROR_LAUNCH_FAILED`.
    pub const LAUNCH_FAILED: Error = Error(719);
    /// `CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE`.
    pub const COOPERATIVE_LAUNCH_TOO_LARGE: Error = Error(720);
    /// `CUDA_ERROR_TENSOR_MEMORY_LEAK`.
    pub const TENSOR_MEMORY_LEAK: Error = Error(721);
    /// `CUDA_ERROR_NOT_PERMITTED`.
    pub const NOT_PERMITTED: Error = Error(800);
    /// `CUDA_ERROR_NOT_SUPPORTED`.
    pub const NOT_SUPPORTED: Error = Error(801);
    /// `CUDA_ERROR_SYSTEM_NOT_READY`.
    pub const SYSTEM_NOT_READY: Error = Error(802);
    /// `CUDA_ERROR_SYSTEM_DRIVER_MISMATCH`.
    pub const SYSTEM_DRIVER_MISMATCH: Error = Error(803);
    /// `CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE`.
    pub const COMPAT_NOT_SUPPORTED_ON_DEVICE: Error = Error(804);
    /// `CUDA_ERROR_MPS_CONNECTION_FAILED`.
    pub const MPS_CONNECTION_FAILED: Error = Error(805);
    /// `CUDA_ERROR_MPS_RPC_FAILURE`.
    pub const MPS_RPC_FAILURE: Error = Error(806);
    /// `CUDA_ERROR_MPS_SERVER_NOT_READY`.
    pub const MPS_SERVER_NOT_READY: Error = Error(807);
    /// `CUDA_ERROR_MPS_MAX_CLIENTS_REACHED`.
    pub const MPS_MAX_CLIENTS_REACHED: Error = Error(808);
    /// `CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED`.
    pub const MPS_MAX_CONNECTIONS_REACHED: Error = Error(809);
    /// `CUDA_ERROR_MPS_CLIENT_TERMINATED`.
    pub const MPS_CLIENT_TERMINATED: Error = Error(810);
    /// `CUDA_ERROR_CDP_NOT_SUPPORTED`.
    pub const CDP_NOT_SUPPORTED: Error = Error(811);
    /// `CUDA_ERROR_CDP_VERSION_MISMATCH`.
    pub const CDP_VERSION_MISMATCH: Error = Error(812);
    /// `CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED`.
    pub const STREAM_CAPTURE_UNSUPPORTED: Error = Error(900);
    /// `CUDA_ERROR_STREAM_CAPTURE_INVALIDATED`.
    pub const STREAM_CAPTURE_INVALIDATED: Error = Error(901);
    /// `CUDA_ERROR_STREAM_CAPTURE_MERGE`.
    pub const STREAM_CAPTURE_MERGE: Error = Error(902);
    /// `CUDA_ERROR_STREAM_CAPTURE_UNMATCHED`.
    pub const STREAM_CAPTURE_UNMATCHED: Error = Error(903);
    /// `CUDA_ERROR_STREAM_CAPTURE_UNJOINED`.
    pub const STREAM_CAPTURE_UNJOINED: Error = Error(904);
    /// `CUDA_ERROR_STREAM_CAPTURE_ISOLATION`.
    pub const STREAM_CAPTURE_ISOLATION: Error = Error(905);
    /// `CUDA_ERROR_STREAM_CAPTURE_IMPLICIT`.
    pub const STREAM_CAPTURE_IMPLICIT: Error = Error(906);
    /// `CUDA_ERROR_CAPTURED_EVENT`.
    pub const CAPTURED_EVENT: Error = Error(907);
    /// `CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD`.
    pub const STREAM_CAPTURE_WRONG_THREAD: Error = Error(908);
    /// `CUDA_ERROR_TIMEOUT`.
    pub const TIMEOUT: Error = Error(909);
    /// `CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE`.
    pub const GRAPH_EXEC_UPDATE_FAILURE: Error = Error(910);
    /// `CUDA_ERROR_EXTERNAL_DEVICE`.
    pub const EXTERNAL_DEVICE: Error = Error(911);
    /// `CUDA_ERROR_INVALID_CLUSTER_SIZE`.
    pub const INVALID_CLUSTER_SIZE: Error = Error(912);
    /// `CUDA_ERROR_FUNCTION_NOT_LOADED`.
    pub const FUNCTION_NOT_LOADED: Error = Error(913);
    /// `CUDA_ERROR_INVALID_RESOURCE_TYPE`.
    pub const INVALID_RESOURCE_TYPE: Error = Error(914);
    /// `CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION`.
    pub const INVALID_RESOURCE_CONFIGURATION: Error = Error(915);
    /// `CUDA_ERROR_KEY_ROTATION`.
    pub const KEY_ROTATION: Error = Error(916);
    /// `CUDA_ERROR_STREAM_DETACHED`.
    pub const STREAM_DETACHED: Error = Error(917);
    /// `CUDA_ERROR_UNKNOWN`.
    pub const UNKNOWN: Error = Error(999);
}

/// Code, name and text with the NUL that C wants.
const ALL: &[(u32, &str, &str)] = &[
    (0, "CUDA_SUCCESS\0", "no error\0"),
    (1, "CUDA_ERROR_INVALID_VALUE\0", "invalid argument\0"),
    (2, "CUDA_ERROR_OUT_OF_MEMORY\0", "out of memory\0"),
    (3, "CUDA_ERROR_NOT_INITIALIZED\0", "initialization error\0"),
    (4, "CUDA_ERROR_DEINITIALIZED\0", "driver shutting down\0"),
    (5, "CUDA_ERROR_PROFILER_DISABLED\0", "profiler disabled\0"),
    (6, "CUDA_ERROR_PROFILER_NOT_INITIALIZED\0", "profiler not initialized\0"),
    (7, "CUDA_ERROR_PROFILER_ALREADY_STARTED\0", "profiler already started\0"),
    (8, "CUDA_ERROR_PROFILER_ALREADY_STOPPED\0", "profiler already stopped\0"),
    (34, "CUDA_ERROR_STUB_LIBRARY\0", "stub library\0"),
    (36, "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER\0", "call requires newer driver\0"),
    (46, "CUDA_ERROR_DEVICE_UNAVAILABLE\0", "device unavailable\0"),
    (100, "CUDA_ERROR_NO_DEVICE\0", "no CUDA-capable device is detected\0"),
    (101, "CUDA_ERROR_INVALID_DEVICE\0", "invalid device ordinal\0"),
    (102, "CUDA_ERROR_DEVICE_NOT_LICENSED\0", "device not licensed\0"),
    (200, "CUDA_ERROR_INVALID_IMAGE\0", "device kernel image is invalid\0"),
    (201, "CUDA_ERROR_INVALID_CONTEXT\0", "invalid device context\0"),
    (202, "CUDA_ERROR_CONTEXT_ALREADY_CURRENT\0", "context already current\0"),
    (205, "CUDA_ERROR_MAP_FAILED\0", "map failed\0"),
    (206, "CUDA_ERROR_UNMAP_FAILED\0", "unmap failed\0"),
    (207, "CUDA_ERROR_ARRAY_IS_MAPPED\0", "array is mapped\0"),
    (208, "CUDA_ERROR_ALREADY_MAPPED\0", "already mapped\0"),
    (
        209,
        "CUDA_ERROR_NO_BINARY_FOR_GPU\0",
        "no kernel image is available for execution on the device\0",
    ),
    (210, "CUDA_ERROR_ALREADY_ACQUIRED\0", "already acquired\0"),
    (211, "CUDA_ERROR_NOT_MAPPED\0", "not mapped\0"),
    (212, "CUDA_ERROR_NOT_MAPPED_AS_ARRAY\0", "not mapped as array\0"),
    (213, "CUDA_ERROR_NOT_MAPPED_AS_POINTER\0", "not mapped as pointer\0"),
    (214, "CUDA_ERROR_ECC_UNCORRECTABLE\0", "ecc uncorrectable\0"),
    (215, "CUDA_ERROR_UNSUPPORTED_LIMIT\0", "limit is not supported on this architecture\0"),
    (216, "CUDA_ERROR_CONTEXT_ALREADY_IN_USE\0", "context already in use\0"),
    (
        217,
        "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED\0",
        "peer access is not supported between these two devices\0",
    ),
    (218, "CUDA_ERROR_INVALID_PTX\0", "a PTX JIT compilation failed\0"),
    (219, "CUDA_ERROR_INVALID_GRAPHICS_CONTEXT\0", "invalid graphics context\0"),
    (220, "CUDA_ERROR_NVLINK_UNCORRECTABLE\0", "nvlink uncorrectable\0"),
    (221, "CUDA_ERROR_JIT_COMPILER_NOT_FOUND\0", "jit compiler not found\0"),
    (
        222,
        "CUDA_ERROR_UNSUPPORTED_PTX_VERSION\0",
        "the provided PTX was compiled with an unsupported toolchain.\0",
    ),
    (223, "CUDA_ERROR_JIT_COMPILATION_DISABLED\0", "jit compilation disabled\0"),
    (224, "CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY\0", "unsupported exec affinity\0"),
    (225, "CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC\0", "unsupported devside sync\0"),
    (226, "CUDA_ERROR_CONTAINED\0", "contained\0"),
    (300, "CUDA_ERROR_INVALID_SOURCE\0", "device kernel image is invalid\0"),
    (301, "CUDA_ERROR_FILE_NOT_FOUND\0", "file not found\0"),
    (302, "CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND\0", "shared object symbol not found\0"),
    (303, "CUDA_ERROR_SHARED_OBJECT_INIT_FAILED\0", "shared object init failed\0"),
    (304, "CUDA_ERROR_OPERATING_SYSTEM\0", "operating system\0"),
    (400, "CUDA_ERROR_INVALID_HANDLE\0", "invalid resource handle\0"),
    (401, "CUDA_ERROR_ILLEGAL_STATE\0", "the operation cannot be performed in the present state\0"),
    (402, "CUDA_ERROR_LOSSY_QUERY\0", "lossy query\0"),
    (500, "CUDA_ERROR_NOT_FOUND\0", "named symbol not found\0"),
    (600, "CUDA_ERROR_NOT_READY\0", "device not ready\0"),
    (700, "CUDA_ERROR_ILLEGAL_ADDRESS\0", "an illegal memory access was encountered\0"),
    (701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES\0", "too many resources requested for launch\0"),
    (702, "CUDA_ERROR_LAUNCH_TIMEOUT\0", "the launch timed out and was terminated\0"),
    (703, "CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING\0", "launch incompatible texturing\0"),
    (704, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED\0", "peer access is already enabled\0"),
    (705, "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED\0", "peer access has not been enabled\0"),
    (
        708,
        "CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE\0",
        "cannot set while device is active in this process\0",
    ),
    (709, "CUDA_ERROR_CONTEXT_IS_DESTROYED\0", "context is destroyed\0"),
    (710, "CUDA_ERROR_ASSERT\0", "device-side assert triggered\0"),
    (711, "CUDA_ERROR_TOO_MANY_PEERS\0", "too many peers\0"),
    (
        712,
        "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED\0",
        "part or all of the requested memory range is already mapped\0",
    ),
    (
        713,
        "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED\0",
        "pointer does not correspond to a registered memory region\0",
    ),
    (714, "CUDA_ERROR_HARDWARE_STACK_ERROR\0", "hardware stack error\0"),
    (715, "CUDA_ERROR_ILLEGAL_INSTRUCTION\0", "illegal instruction\0"),
    (716, "CUDA_ERROR_MISALIGNED_ADDRESS\0", "misaligned address\0"),
    (717, "CUDA_ERROR_INVALID_ADDRESS_SPACE\0", "invalid address space\0"),
    (718, "CUDA_ERROR_INVALID_PC\0", "invalid pc\0"),
    (719, "CUDA_ERROR_LAUNCH_FAILED\0", "unspecified launch failure\0"),
    (720, "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE\0", "too many blocks in cooperative launch\0"),
    (721, "CUDA_ERROR_TENSOR_MEMORY_LEAK\0", "tensor memory leak\0"),
    (800, "CUDA_ERROR_NOT_PERMITTED\0", "operation not permitted\0"),
    (801, "CUDA_ERROR_NOT_SUPPORTED\0", "operation not supported\0"),
    (802, "CUDA_ERROR_SYSTEM_NOT_READY\0", "system not ready\0"),
    (803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH\0", "system driver mismatch\0"),
    (804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE\0", "compat not supported on device\0"),
    (805, "CUDA_ERROR_MPS_CONNECTION_FAILED\0", "mps connection failed\0"),
    (806, "CUDA_ERROR_MPS_RPC_FAILURE\0", "mps rpc failure\0"),
    (807, "CUDA_ERROR_MPS_SERVER_NOT_READY\0", "mps server not ready\0"),
    (808, "CUDA_ERROR_MPS_MAX_CLIENTS_REACHED\0", "mps max clients reached\0"),
    (809, "CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED\0", "mps max connections reached\0"),
    (810, "CUDA_ERROR_MPS_CLIENT_TERMINATED\0", "mps client terminated\0"),
    (811, "CUDA_ERROR_CDP_NOT_SUPPORTED\0", "cdp not supported\0"),
    (812, "CUDA_ERROR_CDP_VERSION_MISMATCH\0", "cdp version mismatch\0"),
    (
        900,
        "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED\0",
        "operation not permitted when stream is capturing\0",
    ),
    (
        901,
        "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED\0",
        "operation failed due to a previous error during capture\0",
    ),
    (
        902,
        "CUDA_ERROR_STREAM_CAPTURE_MERGE\0",
        "operation would result in a merge of separate capture sequences\0",
    ),
    (
        903,
        "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED\0",
        "capture was not ended in the same stream as it began\0",
    ),
    (904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED\0", "capturing stream has unjoined work\0"),
    (
        905,
        "CUDA_ERROR_STREAM_CAPTURE_ISOLATION\0",
        "dependency created on uncaptured work in another stream\0",
    ),
    (
        906,
        "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT\0",
        "operation would make the legacy stream depend on a capturing blocking stream\0",
    ),
    (
        907,
        "CUDA_ERROR_CAPTURED_EVENT\0",
        "operation not permitted on an event last recorded in a capturing stream\0",
    ),
    (
        908,
        "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD\0",
        "attempt to terminate a thread-local capture sequence from another thread\0",
    ),
    (909, "CUDA_ERROR_TIMEOUT\0", "wait operation timed out\0"),
    (
        910,
        "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE\0",
        "the graph update was not performed because it included changes which violated constraints specific to instantiated graph update\0",
    ),
    (911, "CUDA_ERROR_EXTERNAL_DEVICE\0", "external device\0"),
    (912, "CUDA_ERROR_INVALID_CLUSTER_SIZE\0", "invalid cluster size\0"),
    (913, "CUDA_ERROR_FUNCTION_NOT_LOADED\0", "function not loaded\0"),
    (914, "CUDA_ERROR_INVALID_RESOURCE_TYPE\0", "invalid resource type\0"),
    (915, "CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION\0", "invalid resource configuration\0"),
    (916, "CUDA_ERROR_KEY_ROTATION\0", "key rotation\0"),
    (917, "CUDA_ERROR_STREAM_DETACHED\0", "stream detached\0"),
    (999, "CUDA_ERROR_UNKNOWN\0", "unknown error\0"),
];

/// Name of a code without its NUL.
pub fn name(code: u32) -> &'static str {
    ALL.iter().find(|e| e.0 == code).map_or("unknown code", |e| e.1.trim_end_matches('\0'))
}

api! {
    fn cuGetErrorName(error: u32, text: Out<CStrPtr>) {
        let found = ALL.iter().find(|e| e.0 == error);
        text.set(found.map_or(CStrPtr::NULL, |e| CStrPtr::of(e.1)))?;
        found.map(|_| ()).ok_or(Error::INVALID_VALUE)
    }

    fn cuGetErrorString(error: u32, text: Out<CStrPtr>) {
        let found = ALL.iter().find(|e| e.0 == error);
        text.set(found.map_or(CStrPtr::NULL, |e| CStrPtr::of(e.2)))?;
        found.map(|_| ()).ok_or(Error::INVALID_VALUE)
    }
}
