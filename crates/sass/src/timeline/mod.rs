//! A timeline model: replays a kernel's machine code on a model of an SM and predicts how busy the tensor cores are.
//!
//! It is a model. What it says is a prediction, with the error that docs/analyze.md states, and no measurement.

mod launch;
mod machine;
mod rates;
mod trace;

use std::collections::BTreeMap;

use serde::Serialize;

pub use launch::{DeviceName, LaunchFile, Problem, Tiling};
use machine::{Cause, Machine, Slots, Work};
pub use rates::{Device, Rates};
use trace::{Kind, Op, Piece, Tracer};

use crate::kernel::{Kernel, Report};
use crate::pipe::Pipe;

/// A prediction of the model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Multiprocessors.
    pub sms: u64,
    /// Cycles of the SM that has most to do.
    pub cycles: u64,
    /// Clock that the model assumes: what power leaves.
    pub clock_mhz: f64,
    /// Share of these in which the tensor cores work, 0 to 1; tiles that are only partly needed count as work.
    pub tensor_busy: f64,
    /// Operations that the problem needs, relative to what the tensor cores of all SMs could do in that time, 0 to 1.
    pub utilisation: f64,
    /// The same as 10^12 operations per second at the model's clock, with the launch. A prediction.
    pub tflops: f64,
    /// Tiles of the SM that has most to do.
    pub tiles: u64,
    /// Memory, not the SM, sets the time.
    pub memory_bound: bool,
    /// Share of the warps' time that they wait, by reason.
    pub waits: BTreeMap<&'static str, f64>,
}

fn cause(c: Cause) -> &'static str {
    match c {
        Cause::Stall => "stall counts",
        Cause::Scoreboard => "scoreboards",
        Cause::Unit => "a busy unit",
        Cause::Slot => "issue slots",
        Cause::Wgmma => "wgmma",
        Cause::Load => "loads",
        Cause::Turn => "another warpgroup's turn",
        Cause::Rendezvous => "barriers of all warpgroups",
    }
}

/// How often each piece of the trace runs for a tile.
fn repeats(pieces: &[Piece], tile: &launch::Tile) -> Vec<u64> {
    let peeled: u64 = pieces.iter().filter(|p| !p.is_loop).map(|p| p.flops).sum();
    let per_iteration = tile.flops / tile.iterations.max(1);
    let peeled_tiles = peeled / per_iteration.max(1);
    let loops: Vec<usize> = (0..pieces.len()).filter(|&n| pieces[n].is_loop).collect();
    // Of several loops the one with most comparisons is that of masked tiles; the last of the others does the rest.
    let masked =
        loops.iter().copied().max_by_key(|&n| pieces[n].mask_weight).filter(|_| loops.len() > 1);
    let plain = loops.iter().copied().rfind(|&n| Some(n) != masked);
    let mut list: Vec<u64> = pieces.iter().map(|p| u64::from(!p.is_loop)).collect();
    let mut left = tile.flops.saturating_sub(peeled);
    if let Some(m) = masked {
        let tiles = tile.masked.saturating_sub(peeled_tiles) * per_iteration;
        let n = tiles.min(left) / pieces[m].flops.max(1);
        list[m] = n;
        left -= n * pieces[m].flops;
    }
    if let Some(p) = plain {
        list[p] = (left + pieces[p].flops / 2) / pieces[p].flops.max(1);
    }
    list
}

/// What the model predicts of a main loop on its own, with loads that are always there in time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Steady {
    /// Which main loop, in the order of the report.
    pub main_loop: usize,
    /// Cycles of an iteration of all consumer warpgroups.
    pub cycles: f64,
    /// Share of these in which the tensor cores work, 0 to 1.
    pub tensor_busy: f64,
    /// Where a warp waits longest.
    pub waits: Vec<Wait>,
}

/// An instruction that has to wait.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Wait {
    /// Its address.
    pub address: u64,
    /// For what.
    pub cause: &'static str,
    /// Cycles of a warp in an iteration.
    pub cycles: f64,
}

/// Predicts each main loop of a kernel, long after its start.
///
/// # Errors
///
/// The kernel has no loop of matrix products, or synchronises in a way that the model does not know.
pub fn steady(kernel: &Kernel, report: &Report, rates: &Rates) -> Result<Vec<Steady>, String> {
    const SHORT: u64 = 8;
    const LONG: u64 = 40;
    let consumers = report.consumer_warpgroups as usize;
    let trace = Tracer::new(kernel, rates).trace()?;
    let slots = vec![Slots::free(); trace.classes.len()];
    let tiling = Tiling::default();
    let loops: Vec<usize> = (0..trace.tile.len()).filter(|&n| trace.tile[n].is_loop).collect();
    let mut list = Vec::new();
    for (main_loop, &l) in loops.iter().enumerate() {
        let run = |n: u64| {
            let mut repeats: Vec<u64> = trace.tile.iter().map(|p| u64::from(!p.is_loop)).collect();
            repeats[l] = n;
            let works = [Work { repeats }];
            Machine::new(rates, &trace, &works, &slots, consumers, &tiling, 0).run()
        };
        let (short, long) = (run(SHORT)?, run(LONG)?);
        let cycles = long.cycles.saturating_sub(short.cycles) as f64;
        let per_warp = ((LONG - SHORT) * consumers as u64) as f64;
        let mut waits: Vec<Wait> = long
            .waits
            .iter()
            .map(|(&(address, c), &n)| {
                let more = n - short.waits.get(&(address, c)).copied().unwrap_or(0).min(n);
                Wait { address, cause: cause(c), cycles: more as f64 / per_warp }
            })
            .collect();
        waits.sort_by(|a, b| b.cycles.total_cmp(&a.cycles));
        waits.truncate(8);
        waits.retain(|w| w.cycles >= 1.0);
        list.push(Steady {
            main_loop,
            cycles: cycles / (LONG - SHORT) as f64,
            tensor_busy: long.tensor.saturating_sub(short.tensor) as f64 / cycles.max(1.0),
            waits,
        });
    }
    Ok(list)
}

/// Predicts a launch of a kernel.
///
/// # Errors
///
/// The kernel has no loop of matrix products, synchronises in a way that the model does not know, or the problem or tiling has
/// a size that makes no sense.
pub fn predict(
    kernel: &Kernel,
    report: &Report,
    problem: &Problem,
    tiling: &Tiling,
    device: Device,
    rates: &Rates,
) -> Result<Prediction, String> {
    problem.check(tiling)?;
    let consumers = report.consumer_warpgroups as usize;
    let mut trace = Tracer::new(kernel, rates).trace()?;
    let rows = match tiling.alternate {
        true => tiling.tile_m,
        false => tiling.tile_m / consumers as u64,
    };
    // A tile's own loads are released when its loops end.
    let last = trace.tile.iter().rposition(|p| p.is_loop).unwrap_or(0);
    let end = Op {
        address: 0,
        kind: Kind::LoopsEnd,
        pipe: Pipe::Control,
        busy: 0,
        stall: 0,
        wait_mask: 0,
        write: None,
        read: None,
    };
    let mark = Piece { ops: vec![end], is_loop: false, flops: 0, mask_weight: 0 };
    trace.tile.insert(last + 1, mark);

    let tiles = problem.busiest(tiling, rows, device.sms);
    let works: Vec<Work> =
        tiles.iter().map(|t| Work { repeats: repeats(&trace.tile, t) }).collect();
    let in_loop = trace.classes.iter().filter(|c| c.in_loop).count();
    let (loop_bytes, tile_bytes) = problem.load_bytes(tiling, in_loop);
    let mut seen = 0;
    // All SMs share memory's rate, as far as their loads miss the L2: a tile's own operands always, what tiles share once.
    let sms = device.sms;
    let memory = device.memory * rates.memory_share;
    let share = memory / (rates.clock_mhz / 1e3) / sms as f64;
    let shared_loads = problem.shared_loads(tiling);
    let rate =
        |in_loop: bool| rates.l2_bytes.min(if in_loop { share * shared_loads } else { share });
    let slots: Vec<Slots> = trace
        .classes
        .iter()
        .map(|c| match c.in_loop {
            true => {
                seen += 1;
                let bytes = loop_bytes.get(seen - 1).copied().unwrap_or(0);
                Slots {
                    bytes,
                    slots: tiling.stages.max(1),
                    rate: rate(true),
                    latency: rates.bulk_copy,
                }
            }
            // A product has no operand of a tile as a whole: what is waited for once a tile there is another barrier.
            false if tile_bytes == 0 => Slots::free(),
            false => Slots {
                bytes: tile_bytes,
                slots: tiling.query_stages.max(1),
                rate: rate(false),
                latency: rates.bulk_copy_memory,
            },
        })
        .collect();
    let outcome = Machine::new(
        rates,
        &trace,
        &works,
        &slots,
        consumers,
        tiling,
        problem.output_bytes(tiling),
    )
    .run()?;

    let busy = outcome.tensor as f64 / outcome.cycles.max(1) as f64;
    let clock = rates.clock_mhz.min(rates.tensor_mhz / busy) / 1e3;
    let sm_ns = outcome.cycles as f64 / clock;
    let memory_ns = problem.bytes(tiling.element_bytes) / memory;
    let memory_bound = memory_ns > sm_ns;
    let ns = sm_ns.max(memory_ns) + rates.launch_ns;
    // 4096 operations a cycle and SM of 16-bit elements, 8192 of 8-bit ones.
    let peak = 8192.0 / tiling.element_bytes as f64;
    let flops = problem.flops();
    let all = (outcome.cycles * consumers as u64).max(1) as f64;
    let mut waits = BTreeMap::new();
    for ((_, c), n) in &outcome.waits {
        *waits.entry(cause(*c)).or_insert(0.0) += *n as f64 / all;
    }
    Ok(Prediction {
        sms,
        cycles: outcome.cycles,
        tensor_busy: busy,
        clock_mhz: clock * 1e3,
        utilisation: flops / (sms as f64 * peak * sm_ns.max(memory_ns) * clock),
        tflops: flops / ns / 1e3,
        tiles: tiles.len() as u64,
        memory_bound,
        waits,
    })
}
