//! Memory: bytes that threads share (`bytes`), the card's allocations ([`device`]), and where the other
//! state spaces lie in the generic address space (`window`).

pub(crate) mod bytes;
pub mod device;
pub(crate) mod window;

pub use device::{DeviceMemory, MemoryError};
