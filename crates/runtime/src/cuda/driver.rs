//! The CUDA driver behind types that own what they hold.
//!
//! The library is loaded when first used, so programs without a GPU start and say what is missing.

use std::ffi::{CString, c_void};
use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

use zeroforge_artifact::tensor_map::{self, STRIDE_ALIGN};

use crate::RunError;
use crate::bind::BoundMap;

/// Dynamic shared memory that a kernel may use without asking (CUDA C++ Programming Guide, 20.1).
const DEFAULT_SHARED_BYTES: u32 = 48 * 1024;

fn failed(what: impl Into<String>) -> impl FnOnce(DriverError) -> RunError {
    let what = what.into();
    move |e| {
        let text = e.error_string().ok().map(|s| s.to_string_lossy().into_owned());
        let reason = match e.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                "the GPU has no more memory; use smaller inputs or a larger slice".to_owned()
            }
            code => text.unwrap_or_else(|| format!("{code:?}")),
        };
        RunError::Device { device: "cuda".to_owned(), reason: format!("{what} failed: {reason}") }
    }
}

fn refuse(reason: impl Into<String>) -> RunError {
    RunError::Device { device: "cuda".to_owned(), reason: reason.into() }
}

/// A GPU with its primary context retained.
#[derive(Debug)]
pub(crate) struct Gpu {
    device: sys::CUdevice,
    context: sys::CUcontext,
    pub(crate) name: String,
    /// Major and minor compute capability.
    pub(crate) capability: (u32, u32),
    /// Streaming multiprocessors, of a slice its own.
    pub(crate) sm_count: u32,
}

// SAFETY: a context may be used from any thread that makes it current, which every call here does
// first (`make_current`).
unsafe impl Send for Gpu {}
// SAFETY: as above; the driver locks the context itself.
unsafe impl Sync for Gpu {}

impl Gpu {
    /// Opens the GPU of an index.
    pub(crate) fn open(ordinal: u32) -> Result<Arc<Gpu>, RunError> {
        // SAFETY: loads libcuda.so.1 if the system has it; its initialisers are the driver's.
        if !unsafe { sys::is_culib_present() } {
            return Err(refuse(
                "no NVIDIA driver was found (libcuda.so.1); run on a machine with a GPU, on ZeroGPU inside a function under @spaces.GPU, or with --device software or --device cpu",
            ));
        }
        result::init().map_err(failed("starting the driver"))?;
        let count = result::device::get_count().map_err(failed("counting GPUs"))?;
        let index = i32::try_from(ordinal).unwrap_or(i32::MAX);
        if index >= count {
            return Err(refuse(format!("there is no GPU {ordinal}; the driver sees {count}")));
        }
        let device = result::device::get(index).map_err(failed("opening the GPU"))?;
        let attribute = |a| {
            // SAFETY: `device` is a handle that the driver just gave.
            unsafe { result::device::get_attribute(device, a) }
                .map(|v| v.unsigned_abs())
                .map_err(failed("asking for the GPU's kind"))
        };
        use sys::CUdevice_attribute as A;
        let major = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let sm_count = attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let name = result::device::get_name(device).map_err(failed("asking for the GPU's name"))?;
        // SAFETY: as above; released when the value is dropped.
        let context = unsafe { result::primary_ctx::retain(device) }
            .map_err(failed("making a context on the GPU"))?;
        Ok(Arc::new(Gpu { device, context, name, capability: (major, minor), sm_count }))
    }

    /// Makes the context current on this thread; everything below needs that.
    pub(crate) fn make_current(&self) -> Result<(), RunError> {
        // SAFETY: the context is retained as long as `self` lives.
        unsafe { result::ctx::set_current(self.context) }.map_err(failed("using the GPU"))
    }

    /// Loads machine code and looks up one entry.
    pub(crate) fn load(
        self: &Arc<Gpu>,
        code: &[u8],
        entry: &str,
        shared_bytes: u32,
    ) -> Result<Kernel, RunError> {
        self.make_current()?;
        let name = CString::new(entry)
            .map_err(|_| refuse(format!("entry `{entry}` has a zero byte in its name")))?;
        // SAFETY: the caller checked the code's hash; the driver reads the ELF by its own headers.
        let module = unsafe { result::module::load_data(code.as_ptr().cast()) }
            .map_err(failed(format!("loading `{entry}`")))?;
        let mut kernel = Kernel { gpu: Arc::clone(self), module, function: std::ptr::null_mut() };
        // SAFETY: the module was just loaded.
        kernel.function = unsafe { result::module::get_function(module, name) }
            .map_err(failed(format!("looking up `{entry}`")))?;
        if shared_bytes > DEFAULT_SHARED_BYTES {
            use sys::CUfunction_attribute as A;
            let attribute = A::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function belongs to the live module.
            unsafe {
                result::function::set_function_attribute(
                    kernel.function,
                    attribute,
                    i32::try_from(shared_bytes).unwrap_or(i32::MAX),
                )
            }
            .map_err(failed(format!("reserving shared memory for `{entry}`")))?;
        }
        Ok(kernel)
    }

    /// A stream on which work runs in order.
    pub(crate) fn stream(self: &Arc<Gpu>) -> Result<Stream, RunError> {
        self.make_current()?;
        let handle = result::stream::create(result::stream::StreamKind::NonBlocking)
            .map_err(failed("making a stream"))?;
        Ok(Stream { gpu: Arc::clone(self), handle })
    }

    /// Memory on the GPU, not initialised.
    pub(crate) fn alloc(self: &Arc<Gpu>, bytes: usize) -> Result<Memory, RunError> {
        self.make_current()?;
        let size = bytes.max(1);
        // SAFETY: nothing reads the memory before something was written: inputs and weights are copied
        // in, states are copied or cleared, and the rest is written by the steps that come first.
        let address = unsafe { result::malloc_sync(size) }
            .map_err(failed(format!("taking {size} bytes of GPU memory")))?;
        Ok(Memory { gpu: Arc::clone(self), address, bytes })
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: retained once in `open`.
        if let Err(e) = unsafe { result::primary_ctx::release(self.device) } {
            tracing::warn!("releasing the GPU's context failed: {e}");
        }
    }
}

/// A loaded kernel; unloads its module when dropped.
#[derive(Debug)]
pub(crate) struct Kernel {
    gpu: Arc<Gpu>,
    module: sys::CUmodule,
    function: sys::CUfunction,
}

// SAFETY: module and function handles may be used from any thread with the context current.
unsafe impl Send for Kernel {}

impl Drop for Kernel {
    fn drop(&mut self) {
        if self.gpu.make_current().is_ok() {
            // SAFETY: loaded by `Gpu::load` and not unloaded before.
            let _ = unsafe { result::module::unload(self.module) };
        }
    }
}

/// A stream; destroyed when dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    gpu: Arc<Gpu>,
    handle: sys::CUstream,
}

// SAFETY: stream handles may be used from any thread with the context current.
unsafe impl Send for Stream {}

impl Stream {
    /// Queues a kernel.
    ///
    /// # Safety
    /// `params` is the kernel's whole parameter block, and every address in it is of GPU memory that
    /// lives until the stream has been waited for and is as large as the kernel takes it to be.
    pub(crate) unsafe fn launch(
        &self,
        kernel: &Kernel,
        grid: u32,
        block: u32,
        shared_bytes: u32,
        params: &[u64],
    ) -> Result<(), DriverError> {
        // The driver copies the block before it returns.
        let mut pointers = [params.as_ptr() as *mut c_void];
        // SAFETY: the caller's promise.
        unsafe {
            result::launch_kernel(
                kernel.function,
                (grid, 1, 1),
                (block, 1, 1),
                shared_bytes,
                self.handle,
                &mut pointers,
            )
        }
    }

    /// Queues a copy to the GPU and waits for it.
    pub(crate) fn upload(&self, to: &Memory, offset: usize, from: &[u8]) -> Result<(), RunError> {
        to.check(offset, from.len())?;
        // SAFETY: the range lies in the memory, and the source lives until the wait below.
        unsafe { result::memcpy_htod_async(to.address + offset as u64, from, self.handle) }
            .map_err(failed("copying to the GPU"))?;
        self.wait()
    }

    /// Queues a copy from the GPU and waits for it.
    pub(crate) fn download(
        &self,
        to: &mut [u8],
        from: &Memory,
        offset: usize,
    ) -> Result<(), RunError> {
        from.check(offset, to.len())?;
        // SAFETY: the range lies in the memory, and the target lives until the wait below.
        unsafe { result::memcpy_dtoh_async(to, from.address + offset as u64, self.handle) }
            .map_err(failed("copying from the GPU"))?;
        self.wait()
    }

    /// Fills memory with zeros.
    pub(crate) fn clear(&self, memory: &Memory) -> Result<(), RunError> {
        // SAFETY: the range is the whole allocation.
        unsafe { result::memset_d8_async(memory.address, 0, memory.bytes, self.handle) }
            .map_err(failed("clearing GPU memory"))?;
        self.wait()
    }

    /// The time that the GPU takes for what `queue` puts on the stream, which is idle before and after.
    pub(crate) fn time(
        &self,
        queue: &dyn Fn() -> Result<(), RunError>,
    ) -> Result<Duration, RunError> {
        let (start, end) = (Event::new()?, Event::new()?);
        start.record(self)?;
        queue()?;
        end.record(self)?;
        self.wait()?;
        // SAFETY: both events were recorded and have happened.
        let milliseconds = unsafe { result::event::elapsed(start.0, end.0) }
            .map_err(failed("reading the GPU's clock"))?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3))
    }

    /// Waits until everything queued is done.
    pub(crate) fn wait(&self) -> Result<(), RunError> {
        // SAFETY: the stream is live.
        unsafe { result::stream::synchronize(self.handle) }.map_err(failed("waiting for the GPU"))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.gpu.make_current().is_ok() {
            // SAFETY: created by `Gpu::stream` and not destroyed before.
            let _ = unsafe { result::stream::destroy(self.handle) };
        }
    }
}

/// A moment on a stream; destroyed when dropped.
struct Event(sys::CUevent);

impl Event {
    fn new() -> Result<Event, RunError> {
        result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT)
            .map(Event)
            .map_err(failed("making an event"))
    }

    fn record(&self, stream: &Stream) -> Result<(), RunError> {
        // SAFETY: both handles are live.
        unsafe { result::event::record(self.0, stream.handle) }
            .map_err(failed("recording an event"))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created by `new` and not destroyed before.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

/// Memory on the GPU; freed when dropped.
#[derive(Debug)]
pub(crate) struct Memory {
    gpu: Arc<Gpu>,
    pub(crate) address: u64,
    pub(crate) bytes: usize,
}

impl Memory {
    fn check(&self, offset: usize, len: usize) -> Result<(), RunError> {
        if offset.checked_add(len).is_some_and(|end| end <= self.bytes) {
            return Ok(());
        }
        Err(refuse(format!(
            "a copy of {len} bytes at {offset} leaves an allocation of {} bytes",
            self.bytes
        )))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.gpu.make_current().is_ok() {
            // SAFETY: allocated by `Gpu::alloc` and not freed before; sessions wait for the stream
            // before they drop memory.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}

/// The 128 bytes of a tensor map whose element 0 is at `address`, as 8-byte words. The context is current.
///
/// # Errors
/// The argument that the driver will not have. It does not say which; [`BoundMap`] was checked against its
/// rules, so that what is left is the address.
pub(crate) fn encode_tensor_map(
    map: &BoundMap,
    address: u64,
    origin: &str,
) -> Result<[u64; 16], RunError> {
    if !address.is_multiple_of(STRIDE_ALIGN) {
        return Err(RunError::TensorMap {
            origin: origin.to_owned(),
            at: map.word * 8,
            argument: "the address".to_owned(),
            value: address.cast_signed(),
            rule: "it must be a multiple of 16",
        });
    }
    let mut encoded = sys::CUtensorMap_st { opaque: [0; 16] };
    // SAFETY: the lists have as many values as the driver reads, rank or rank - 1, which the program's
    // validation checked; `encoded` is where it writes. It reads no device memory.
    let result = unsafe {
        sys::cuTensorMapEncodeTiled(
            &mut encoded,
            data_type(map.data_type),
            map.dims.len() as u32,
            address as *mut c_void,
            map.dims.as_ptr(),
            map.strides.as_ptr(),
            map.box_dims.as_ptr(),
            map.element_strides.as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            swizzle(map.swizzle),
            l2_promotion(map.l2_promotion),
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    };
    let what = format!("encoding the tensor map at byte {} of `{origin}`", map.word * 8);
    result.result().map_err(failed(what))?;
    Ok(encoded.opaque)
}

fn data_type(dtype: tensor_map::DataType) -> sys::CUtensorMapDataType {
    use sys::CUtensorMapDataType as T;
    use tensor_map::DataType as D;
    match dtype {
        D::U8 => T::CU_TENSOR_MAP_DATA_TYPE_UINT8,
        D::U16 => T::CU_TENSOR_MAP_DATA_TYPE_UINT16,
        D::U32 => T::CU_TENSOR_MAP_DATA_TYPE_UINT32,
        D::I32 => T::CU_TENSOR_MAP_DATA_TYPE_INT32,
        D::U64 => T::CU_TENSOR_MAP_DATA_TYPE_UINT64,
        D::I64 => T::CU_TENSOR_MAP_DATA_TYPE_INT64,
        D::F16 => T::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        D::F32 => T::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
        D::F64 => T::CU_TENSOR_MAP_DATA_TYPE_FLOAT64,
        D::Bf16 => T::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        D::Tf32 => T::CU_TENSOR_MAP_DATA_TYPE_TFLOAT32,
    }
}

fn swizzle(swizzle: tensor_map::Swizzle) -> sys::CUtensorMapSwizzle {
    use sys::CUtensorMapSwizzle as T;
    match swizzle {
        tensor_map::Swizzle::None => T::CU_TENSOR_MAP_SWIZZLE_NONE,
        tensor_map::Swizzle::Bytes32 => T::CU_TENSOR_MAP_SWIZZLE_32B,
        tensor_map::Swizzle::Bytes64 => T::CU_TENSOR_MAP_SWIZZLE_64B,
        tensor_map::Swizzle::Bytes128 => T::CU_TENSOR_MAP_SWIZZLE_128B,
    }
}

fn l2_promotion(promotion: tensor_map::L2Promotion) -> sys::CUtensorMapL2promotion {
    use sys::CUtensorMapL2promotion as T;
    match promotion {
        tensor_map::L2Promotion::None => T::CU_TENSOR_MAP_L2_PROMOTION_NONE,
        tensor_map::L2Promotion::Bytes64 => T::CU_TENSOR_MAP_L2_PROMOTION_L2_64B,
        tensor_map::L2Promotion::Bytes128 => T::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
        tensor_map::L2Promotion::Bytes256 => T::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
    }
}

/// Turns a failed launch into an error that names the kernel.
pub(crate) fn launch_failed(doc: &str, origin: &str, e: DriverError) -> RunError {
    failed(format!("launching `{doc}` for `{origin}`"))(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_driver_the_error_says_what_to_do() {
        // SAFETY: as in `Gpu::open`.
        if unsafe { sys::is_culib_present() } {
            eprintln!("skipped: this machine has a CUDA driver");
            return;
        }
        let error = Gpu::open(0).unwrap_err().to_string();
        assert!(error.contains("libcuda.so.1") && error.contains("--device cpu"), "{error}");
    }
}
