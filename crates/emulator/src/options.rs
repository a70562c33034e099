//! What a launch may be told: which checks, which order of asynchronous work, how many host threads.

/// The order in which asynchronous work completes. Every order is legal; a correct kernel gives the same
/// result under all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Schedule {
    /// Asynchronous work completes as late as it may: a missing wait shows.
    #[default]
    Late,
    /// Asynchronous work completes at once: a slot reused too early shows.
    Eager,
    /// Work completes and warps take turns in an order drawn from the seed.
    Random(u64),
}

/// Which checks run. All do by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Reads of registers, shared and global memory that nothing wrote.
    pub uninitialised: bool,
    /// Data races over the generic and the async proxy.
    pub races: bool,
    /// Rules of barriers, mbarriers, wgmma and TMA.
    pub protocol: bool,
    /// Bank conflicts and uncoalesced access, as counted warnings.
    pub performance: bool,
}

impl Checks {
    /// Every check.
    pub const ALL: Checks =
        Checks { uninitialised: true, races: true, protocol: true, performance: true };
    /// No check but those without which an access cannot be made: bounds, alignment, deadlock.
    pub const NONE: Checks =
        Checks { uninitialised: false, races: false, protocol: false, performance: false };
}

impl Default for Checks {
    fn default() -> Checks {
        Checks::ALL
    }
}

/// What a launch may be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which checks run.
    pub checks: Checks,
    /// The order of asynchronous work.
    pub schedule: Schedule,
    /// Host threads; 0 for all cores. The result does not depend on it.
    pub threads: usize,
    /// Warp instructions after which a launch is stopped as endless.
    pub instruction_budget: u64,
    /// Findings kept; more are counted.
    pub max_findings: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            checks: Checks::ALL,
            schedule: Schedule::Late,
            threads: 0,
            instruction_budget: 20_000_000_000,
            max_findings: 100,
        }
    }
}

/// What of the emulated card a kernel can see or run into (CUDA C++ Programming Guide, compute capability 9.0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Streaming multiprocessors: 132 on a full H200, 60 on MIG 3g.71gb.
    pub sm_count: u32,
    /// Shared memory that one block may have, in bytes.
    pub max_shared_per_block: u32,
    /// Shared memory of an SM, in bytes.
    pub shared_per_sm: u32,
    /// 32-bit registers of an SM.
    pub registers_per_sm: u32,
    /// Threads of an SM.
    pub threads_per_sm: u32,
    /// Blocks of an SM.
    pub blocks_per_sm: u32,
    /// Blocks of a cluster.
    pub max_cluster: u32,
}

impl Device {
    /// A Hopper card with this many SMs.
    pub const fn hopper(sm_count: u32) -> Device {
        Device {
            sm_count,
            max_shared_per_block: 227 * 1024,
            shared_per_sm: 228 * 1024,
            registers_per_sm: 65_536,
            threads_per_sm: 2048,
            blocks_per_sm: 32,
            max_cluster: 16,
        }
    }
}

impl Default for Device {
    fn default() -> Device {
        Device::hopper(132)
    }
}
