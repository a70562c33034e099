//! Where state spaces lie in the generic address space (PTX ISA 5.1, 6.4.1).
//!
//! Global and constant memory have their own addresses. The others are windows above every address that a
//! host or an allocation can have, so that the space of an address is read off its top byte.

/// Generic address of shared address 0.
pub(crate) const SHARED: u64 = 0x0100_0000_0000_0000;
/// Generic address of byte 0 of a thread's local memory.
pub(crate) const LOCAL: u64 = 0x0200_0000_0000_0000;
/// Generic address of byte 0 of the kernel's parameters.
pub(crate) const PARAM: u64 = 0x0300_0000_0000_0000;

/// Bits of a shared address that are the offset in one block; above them is the block's rank in its
/// cluster plus one, or zero for the block's own memory.
pub(crate) const SHARED_OFFSET_BITS: u32 = 24;
/// First usable offset: CUDA keeps 1 KiB at the start of shared memory for itself on sm_90.
pub(crate) const SHARED_START: u32 = 1024;

/// A state space and the address in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Global(u64),
    /// A shared address, in the block's own or the cluster's window.
    Shared(u32),
    Local(u32),
    Param(u32),
}

/// Which space a generic address is in.
pub(crate) fn place(address: u64) -> Place {
    let offset = address as u32;
    match address >> 56 {
        1 => Place::Shared(offset),
        2 => Place::Local(offset),
        3 => Place::Param(offset),
        _ => Place::Global(address),
    }
}

/// Shared address of an offset in the block of a rank.
pub(crate) fn cluster_address(rank: u32, offset: u32) -> u32 {
    ((rank + 1) << SHARED_OFFSET_BITS) | (offset & ((1 << SHARED_OFFSET_BITS) - 1))
}

/// Takes a shared address apart: rank (`own` where it names none) and offset.
pub(crate) fn split_shared(address: u32, own: u32) -> (u32, u32) {
    let rank = (address >> SHARED_OFFSET_BITS).checked_sub(1).unwrap_or(own);
    (rank, address & ((1 << SHARED_OFFSET_BITS) - 1))
}
