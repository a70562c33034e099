//! The model's constants, each with its source. Nothing here was measured by this project.
//!
//! Sources: [G] CUDA C++ Programming Guide, compute capability 9.0; [A] Luo et al., Benchmarking and Dissecting the Nvidia
//! Hopper GPU Architecture, arXiv 2402.13499; [B] arXiv 2501.12084; [V] Jia et al., Dissecting the NVIDIA Volta GPU
//! Architecture via Microbenchmarking, arXiv 1804.06826, for what is not published of Hopper.

use serde::Serialize;

/// Cycles, bytes per cycle and clocks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// From the end of the last product to the wait that sees it: a product with N = 8 takes 18 to 32 cycles in all \[A\].
    pub wgmma_drain: u64,
    /// Products of a warpgroup that are queued at the tensor cores; the next one waits to be issued. An assumption.
    pub wgmma_queue: usize,
    /// Bytes of shared memory that an SM reads in a cycle \[G\].
    pub shared_bytes: f64,
    /// From the issue of a special function to its result, under load. Calibrated: an idle unit takes about 20 \[V\]; what is
    /// more stands for what the model does not know, such as register ports that running products share.
    pub mufu: u64,
    /// Latency of a shuffle \[V\].
    pub shuffle: u64,
    /// Latency of shared memory \[A\].
    pub shared: u64,
    /// Latency of the constant cache, of special registers, and of what else is not named \[V\].
    pub other: u64,
    /// Latency of global memory, in the L2 \[A\].
    pub global: u64,
    /// From the issue of a bulk copy to its bytes in shared memory, from the L2: 170 cycles more by the TMA \[A, B\].
    pub bulk_copy: u64,
    /// The same from memory: 550 and 170 cycles \[A, B\].
    pub bulk_copy_memory: u64,
    /// Bytes that an SM takes from the L2 in a cycle \[G: a 64-byte port\].
    pub l2_bytes: f64,
    /// A barrier's release to a warp that waits for it. An assumption, near shared memory's latency.
    pub barrier: u64,
    /// From the launch to the first instruction and from the last to the end, in nanoseconds. An assumption.
    pub launch_ns: f64,
    /// Largest clock of the SMs in MHz: that of the dense peak, 989 TFLOP/s on 132 SMs.
    pub clock_mhz: f64,
    /// Largest product of the clock in MHz and the share of cycles in which the tensor cores work: power. Calibrated.
    pub tensor_mhz: f64,
    /// Share of the memory's nominal rate that is reached. Calibrated.
    pub memory_share: f64,
}

impl Default for Rates {
    fn default() -> Rates {
        Rates {
            wgmma_drain: 32,
            wgmma_queue: 2,
            shared_bytes: 128.0,
            mufu: 80,
            shuffle: 25,
            shared: 29,
            other: 30,
            global: 270,
            bulk_copy: 440,
            bulk_copy_memory: 720,
            l2_bytes: 64.0,
            barrier: 20,
            launch_ns: 3000.0,
            clock_mhz: 1830.0,
            tensor_mhz: 1440.0,
            memory_share: 0.80,
        }
    }
}

impl Rates {
    /// With the published latency of special functions in an idle unit: how far a prediction hangs on that calibration.
    pub fn idle() -> Rates {
        Rates { mufu: 20, ..Rates::default() }
    }
}

/// A GPU, or a slice of one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Device {
    /// Multiprocessors.
    pub sms: u64,
    /// Nominal rate of the memory in bytes a nanosecond.
    pub memory: f64,
}

impl Device {
    /// An H100 SXM5: 132 SMs, 3.35 TB/s.
    pub const H100: Device = Device { sms: 132, memory: 3350.0 };
    /// A slice 3g.71gb of an H200, as ZeroGPU has them: 60 SMs, half of 4.8 TB/s.
    pub const H200_SLICE: Device = Device { sms: 60, memory: 2400.0 };
}
