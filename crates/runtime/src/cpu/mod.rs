//! The CPU device: native code mapped from memory, executed by a pool of threads.

mod device;
mod object;
mod pool;

pub(crate) use device::CpuDevice;
pub use object::Object;
pub use pool::Pool;

/// A kernel's entry point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryPoint(pub(crate) object::Entry);
