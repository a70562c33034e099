//! The CUDA device: modules, memory, copies and launches through the driver API.

mod device;
mod driver;
mod software;

pub(crate) use device::{CudaDevice, choose_target};
pub(crate) use driver::{Gpu, Kernel, Memory, Stream, encode_tensor_map, launch_failed};
pub(crate) use software::register;
pub use software::{gpu_count, load_software_driver, software_findings};
