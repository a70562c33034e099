//! Host memory that the driver gives out: pinned and managed memory, and what cuMemCreate stands for.

use std::ptr::{NonNull, null_mut};

use zeroforge_emulator::{DeviceMemory, MemoryError};

/// Zeroed host memory, given back when dropped.
#[derive(Debug)]
pub struct HostBlock {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the block is plain memory without an owner thread; who may touch it when is the API's contract.
unsafe impl Send for HostBlock {}
// SAFETY: as above; the methods only read the address.
unsafe impl Sync for HostBlock {}

impl HostBlock {
    /// Zeroed memory in pages of its own, which the system provides as they are touched; None if there is not enough.
    pub fn new(len: usize) -> Option<HostBlock> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the system's choice touches no other memory.
        let start = unsafe { mmap_anonymous(null_mut(), len.max(1), access, flags) }.ok()?;
        Some(HostBlock { start: NonNull::new(start.cast())?, len: len.max(1) })
    }

    /// Its address.
    pub fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }
}

impl Drop for HostBlock {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; who still uses it broke the API's contract.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Makes host memory visible to kernels at its own address.
pub fn map(memory: &DeviceMemory, address: u64, len: usize) -> Result<u64, MemoryError> {
    let start = NonNull::new(address as *mut u8);
    let start = start.ok_or(MemoryError::NotAnAllocation { address })?;
    // SAFETY: the block is the driver's own, freed after the mapping, or registered by a caller who promises with
    // cuMemHostRegister that it stays valid until it is unregistered.
    unsafe { memory.map_host(start, len) }
}

/// Makes host memory visible to kernels at another address.
pub fn map_at(
    memory: &DeviceMemory,
    address: u64,
    block: &HostBlock,
    offset: usize,
    len: usize,
    read_only: bool,
) -> Result<(), MemoryError> {
    let inside = offset <= block.len && len <= block.len - offset;
    let start = NonNull::new(block.start.as_ptr().wrapping_add(offset));
    let start = start.filter(|_| inside).ok_or(MemoryError::NotAnAllocation { address })?;
    // SAFETY: inside of the block by the check above; the driver keeps the block until the mapping is gone.
    unsafe { memory.map_host_at(address, start, len, read_only) }
}
