//! The CUDA device: modules, memory, copies and launches through the driver API.

mod device;
mod driver;

pub(crate) use device::{CudaDevice, choose_target};
pub(crate) use driver::Gpu;
