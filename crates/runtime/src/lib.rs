//! Opens artifacts and executes them.
//!
//! [`Model::open`] maps and checks a file and touches no device. A [`Session`] binds a program to a
//! device and runs it: [`Session::run`] binds the symbolic dimensions from the inputs' shapes, fills
//! the parameter blocks and launches the steps in order.
//!
//! The run side of the system: this crate never sees a graph or a compiler.

pub mod bind;
pub mod cpu;
mod cuda;
mod device;
pub mod direct;
mod error;
mod external;
mod model;
mod session;
pub mod tensor;
pub mod tensor_io;

pub use cuda::{gpu_count, load_software_driver, software_findings};
pub use device::{StepTime, Weights};
pub use error::RunError;
pub use model::{Model, OpenOptions, host_has};
pub use session::{Phases, Session, SessionOptions};
pub use tensor::Tensor;
