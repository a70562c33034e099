//! How many blocks an SM holds.
//!
//! Limits of compute capability 9.0 (CUDA C++ Programming Guide, table of technical specifications): 65,536 registers
//! allocated per warp in units of 256, 2,048 threads, 32 blocks, 228 KiB of shared memory of which each block takes 1 KiB
//! more than it asks for, in units of 128 bytes.

use serde::Serialize;

/// Shared memory of an SM in bytes.
const SHARED: u64 = 228 * 1024;
/// Shared memory that the system takes per block.
const SHARED_RESERVED: u64 = 1024;

/// Blocks per SM, and what limits them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Occupancy {
    /// Blocks that fit.
    pub blocks: u32,
    /// Warps of these blocks, of 64.
    pub warps: u32,
    /// What would have to shrink for one more block.
    pub limit: &'static str,
}

/// Occupancy of blocks of so many threads, registers per thread and bytes of shared memory.
pub fn occupancy(threads: u32, registers: u32, shared: u64) -> Occupancy {
    let warps = threads.div_ceil(32).max(1);
    let per_warp = (registers.max(1) * 32).next_multiple_of(256);
    // Each of four schedulers has a quarter of the registers.
    let by_registers = (65536 / 4 / per_warp * 4) / warps;
    let by_shared = SHARED / (shared.next_multiple_of(128) + SHARED_RESERVED);
    let limits = [
        (by_registers, "registers"),
        (u32::try_from(by_shared).unwrap_or(u32::MAX), "shared memory"),
        (64 / warps, "threads"),
        (32, "blocks"),
    ];
    let (blocks, limit) = limits.into_iter().min_by_key(|l| l.0).unwrap_or((0, "blocks"));
    Occupancy { blocks, warps: blocks * warps, limit }
}
