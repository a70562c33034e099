//! The CUDA device: modules, memory, copies and launches through the driver API.

mod device;
mod driver;
mod software;

pub(crate) use device::{CudaDevice, choose_target};
pub(crate) use driver::Gpu;
pub use software::{gpu_count, load_software_driver, software_findings};
