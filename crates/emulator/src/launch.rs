//! Launches: a grid of clusters dealt to host threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::machine::cluster::{Cluster, Turn};
use crate::machine::context::{Env, RawFinding};
use crate::memory::DeviceMemory;
use crate::options::{Device, Options};
use crate::program::{Kernel, Program};
use crate::report::{Finding, FindingKind, Report};

/// The shape of a launch and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchConfig {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads per block.
    pub block: [u32; 3],
    /// Blocks per cluster; `[1, 1, 1]` for none.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// The parameter block, laid out as [`Kernel::params`] says.
    pub params: Vec<u8>,
}

/// Why a launch was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The program has no such kernel.
    #[error("the module has no kernel `{0}`")]
    NoKernel(String),
    /// The shape breaks a limit of the card or of the kernel.
    #[error("launching `{kernel}`: {reason}")]
    Shape {
        /// The kernel.
        kernel: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// The parameter block has another size.
    #[error("launching `{kernel}`: its parameters take {expected} bytes, {got} were given")]
    Params {
        /// The kernel.
        kernel: String,
        /// Bytes that the kernel declares.
        expected: u32,
        /// Bytes given.
        got: usize,
    },
}

/// Whether a launch would be made: parameters and shape against the limits of the kernel and the card.
pub fn check(kernel: &Kernel, config: &LaunchConfig, device: &Device) -> Result<(), LaunchError> {
    let refuse = |reason: String| Err(LaunchError::Shape { kernel: kernel.name.clone(), reason });
    if config.params.len() != kernel.param_bytes as usize {
        return Err(LaunchError::Params {
            kernel: kernel.name.clone(),
            expected: kernel.param_bytes,
            got: config.params.len(),
        });
    }
    // CUDA C++ Programming Guide, technical specifications per compute capability.
    let grid_limits = [i32::MAX as u32, 65_535, 65_535];
    let block_limits = [1024, 1024, 64];
    for axis in 0..3 {
        let name = ["x", "y", "z"][axis];
        let (grid, block, cluster) = (config.grid[axis], config.block[axis], config.cluster[axis]);
        if grid == 0 || grid > grid_limits[axis] {
            return refuse(format!(
                "{grid} blocks in {name}; allowed are 1 to {}",
                grid_limits[axis]
            ));
        }
        if block == 0 || block > block_limits[axis] {
            return refuse(format!(
                "{block} threads in {name}; allowed are 1 to {}",
                block_limits[axis]
            ));
        }
        if cluster == 0 || !grid.is_multiple_of(cluster) {
            return refuse(format!(
                "{grid} blocks in {name} are no multiple of the cluster's {cluster}"
            ));
        }
    }
    let threads = config.block.iter().map(|&b| u64::from(b)).product::<u64>();
    if threads > 1024 {
        return refuse(format!("{threads} threads per block; at most 1024 are allowed"));
    }
    let blocks = config.cluster.iter().map(|&c| u64::from(c)).product::<u64>();
    if blocks > u64::from(device.max_cluster) {
        return refuse(format!(
            "{blocks} blocks per cluster; at most {} are allowed",
            device.max_cluster
        ));
    }
    let limits = &kernel.limits;
    if let Some(required) = limits.required_threads.filter(|&r| r != config.block) {
        return refuse(format!(
            "blocks of {:?} threads; the kernel requires {required:?}",
            config.block
        ));
    }
    if let Some(max) = limits.max_threads {
        let max = max.iter().map(|&m| u64::from(m)).product::<u64>();
        if threads > max {
            return refuse(format!("{threads} threads per block; the kernel allows {max}"));
        }
    }
    if let Some(required) = limits.required_cluster.filter(|&r| r != config.cluster) {
        return refuse(format!(
            "clusters of {:?}; the kernel requires {required:?}",
            config.cluster
        ));
    }
    let shared = u64::from(kernel.static_shared) + u64::from(config.dynamic_shared);
    if shared > u64::from(device.max_shared_per_block) {
        return refuse(format!(
            "{shared} bytes of shared memory; a block has at most {}",
            device.max_shared_per_block
        ));
    }
    Ok(())
}

/// What clusters leave behind, by their index so that the report is in order.
#[derive(Default)]
struct Results {
    findings: BTreeMap<u64, Vec<RawFinding>>,
    printed: BTreeMap<u64, String>,
    warp_instructions: u64,
    lane_instructions: u64,
    wgmmas: u64,
}

impl Results {
    fn take(&mut self, index: u64, cluster: Cluster) {
        if !cluster.state.findings.list.is_empty() {
            self.findings.insert(index, cluster.state.findings.list);
        }
        if !cluster.state.printed.is_empty() {
            self.printed.insert(index, cluster.state.printed);
        }
        self.wgmmas += cluster.state.wgmmas;
        for warp in &cluster.warps {
            self.warp_instructions += warp.executed;
            self.lane_instructions += warp.lanes_executed;
        }
    }
}

/// Runs a kernel to its end. Findings are in the report; an error means that nothing ran.
pub fn launch(
    program: &Program,
    kernel: &str,
    config: &LaunchConfig,
    memory: &DeviceMemory,
    device: &Device,
    options: &Options,
) -> Result<Report, LaunchError> {
    let kernel = program.kernel(kernel).ok_or_else(|| LaunchError::NoKernel(kernel.to_owned()))?;
    check(kernel, config, device)?;
    let snapshot = memory.snapshot();
    let env = Env {
        kernel,
        config,
        device,
        options,
        communicates: kernel.communicates,
        global_shadow: crate::check::global::GlobalShadow::new(snapshot.len()),
        memory: snapshot,
    };
    let blocks = config.grid.iter().map(|&g| u64::from(g)).product::<u64>();
    let clusters = blocks / config.cluster.iter().map(|&c| u64::from(c)).product::<u64>();
    let mut results = match kernel.communicates {
        true => run_in_turns(&env, clusters),
        false => run_in_parallel(&env, clusters),
    };
    let clashes = crate::check::global::clashes(&env);
    results.findings.entry(u64::MAX).or_default().extend(clashes);
    Ok(report(&env, results))
}

/// What starting a warp is worth in instructions: grids of millions of blocks that do nothing use the budget up
/// too.
const START_COST: u64 = 256;

/// Blocks that do not talk to each other, on all host threads.
///
/// A cluster that traps or deadlocks ends the launch. The report has what clusters before it found and nothing
/// of those behind it, as if they had run one after the other.
fn run_in_parallel(env: &Env<'_>, clusters: u64) -> Results {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if env.options.threads == 0 { cores() } else { env.options.threads };
    let threads = threads.min(usize::try_from(clusters).unwrap_or(usize::MAX));
    let next = AtomicU64::new(0);
    let executed = AtomicU64::new(0);
    // Clusters from here on do not run.
    let limit = AtomicU64::new(clusters);
    let results = Mutex::new(Results::default());
    let work = || {
        loop {
            let index = next.fetch_add(1, Relaxed);
            if index >= limit.load(Relaxed) {
                break;
            }
            let mut cluster = Cluster::new(env, index);
            let turn = cluster.run(env);
            let ran: u64 = cluster.warps.iter().map(|w| w.executed + START_COST).sum();
            let total = executed.fetch_add(ran, Relaxed) + ran;
            let fatal = cluster.state.findings.list.iter().any(|f| is_fatal(f.kind));
            if fatal || turn != Turn::Done {
                limit.fetch_min(index + 1, Relaxed);
            } else if total > env.options.instruction_budget && index + 1 < clusters {
                cluster.report_budget(env);
                limit.fetch_min(index + 1, Relaxed);
            }
            results.lock().unwrap_or_else(PoisonError::into_inner).take(index, cluster);
        }
    };
    if threads <= 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
    }
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let limit = limit.into_inner();
    results.findings.retain(|&index, _| index < limit);
    results.printed.retain(|&index, _| index < limit);
    results
}

/// Blocks that may talk to each other, in turns on one thread: as many at a time as the card would hold.
fn run_in_turns(env: &Env<'_>, clusters: u64) -> Results {
    let size = env.config.cluster.iter().product::<u32>();
    let per_sm = env.kernel.blocks_per_sm(env.config, env.device);
    let resident = (u64::from(env.device.sm_count * per_sm) / u64::from(size)).max(1);
    let mut results = Results::default();
    let mut next = 0;
    let mut running: Vec<(u64, Cluster)> = Vec::new();
    let mut executed = 0u64;
    while next < clusters || !running.is_empty() {
        while (running.len() as u64) < resident && next < clusters {
            let cluster = Cluster::new(env, next);
            executed += START_COST * cluster.warps.len() as u64;
            running.push((next, cluster));
            next += 1;
        }
        let mut progress = false;
        let mut at = 0;
        while at < running.len() {
            let before = running[at].1.budget();
            let turn = running[at].1.turn(env);
            executed += before - running[at].1.budget();
            match turn {
                Turn::Progress => progress = true,
                Turn::Stuck => {}
                Turn::Done => {
                    let (index, cluster) = running.remove(at);
                    results.take(index, cluster);
                    progress = true;
                    continue;
                }
                Turn::Stopped => {
                    for (index, cluster) in running {
                        results.take(index, cluster);
                    }
                    return results;
                }
            }
            at += 1;
        }
        let over = executed > env.options.instruction_budget;
        let unfinished = next < clusters || !running.is_empty();
        if unfinished && (!progress || over) {
            for (index, mut cluster) in running {
                match over {
                    true => cluster.report_budget(env),
                    false => cluster.report_deadlock(env),
                }
                results.take(index, cluster);
            }
            return results;
        }
    }
    results
}

fn is_fatal(kind: FindingKind) -> bool {
    matches!(kind, FindingKind::Deadlock | FindingKind::Endless | FindingKind::Trap)
}

/// Merges findings at one place, in the order of blocks.
fn report(env: &Env<'_>, results: Results) -> Report {
    let mut report = Report {
        warp_instructions: results.warp_instructions,
        lane_instructions: results.lane_instructions,
        wgmmas: results.wgmmas,
        printed: results.printed.into_values().collect(),
        ..Report::default()
    };
    let mut places = BTreeMap::new();
    for raw in results.findings.into_values().flatten() {
        let key = (raw.kind, raw.who.pc, raw.other.map(|o| o.pc));
        if let Some(&at) = places.get(&key) {
            let found: &mut Finding = &mut report.findings[at];
            found.count += raw.count;
            continue;
        }
        if report.findings.len() >= env.options.max_findings {
            report.dropped += raw.count;
            continue;
        }
        places.insert(key, report.findings.len());
        report.findings.push(Finding {
            kind: raw.kind,
            kernel: env.kernel.name.clone(),
            message: raw.message,
            party: env.kernel.party(raw.who),
            other: raw.other.map(|o| env.kernel.party(o)),
            address: raw.address,
            count: raw.count,
        });
    }
    report
}
