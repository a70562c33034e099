//! The modelled clock behind event times.
//!
//! It grows with the work done: instructions over the card's issue rate, bytes over its bandwidth, a fixed cost per
//! operation. It is monotone, deterministic and comparable between runs of this library, and it says nothing about
//! how long anything takes on hardware: no cache, no latency, no occupancy is in it.

use zeroforge_emulator::Report;

use crate::device::Spec;

/// Nanoseconds that the host takes to enqueue something.
pub const ENQUEUE: u64 = 1_000;
/// Nanoseconds from a launch to its first instruction.
const LAUNCH: u64 = 2_000;
/// Cycles of a tensor core for one wgmma of the largest shape.
const WGMMA_CYCLES: f64 = 128.0;
/// Warp instructions that an SM issues in a cycle.
const ISSUE: f64 = 4.0;

/// Time of a kernel.
pub fn kernel(report: &Report, spec: &Spec) -> u64 {
    let cycles = report.warp_instructions as f64 / ISSUE + report.wgmmas as f64 * WGMMA_CYCLES;
    let per_ns = f64::from(spec.sm_count) * spec.clock_khz as f64 / 1e6;
    LAUNCH + (cycles / per_ns) as u64
}

/// Time of a copy or a fill.
pub fn copy(bytes: u64, over_the_bus: bool, spec: &Spec) -> u64 {
    // PCIe 5.0 x16 moves some 50 bytes a nanosecond.
    let rate = if over_the_bus { 50 } else { spec.bytes_per_ns };
    LAUNCH / 2 + bytes / rate.max(1)
}
