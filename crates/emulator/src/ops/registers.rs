//! Register hand-over: setmaxnreg (PTX ISA 9.7.19.5).
//!
//! PTX registers are virtual, so that only the counting is emulated: a block's warps give registers to a
//! pool and take them from it.

use zeroforge_ptx::{Instruction, Modifier};

use crate::launch::LaunchConfig;
use crate::machine::context::{Cx, Who};
use crate::machine::warp::{Wait, Warp};
use crate::options::Device;
use crate::program::Kernel;
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Inst, Step};
use crate::report::FindingKind;

/// The registers of a block.
#[derive(Debug, Default)]
pub(crate) struct RegisterPool {
    /// Registers that nobody has.
    pub(crate) free: u32,
    /// Registers per thread of each warp.
    current: Vec<u32>,
    /// What each warpgroup did, in order, and how far each warp is.
    history: Vec<Vec<(u32, u32, Who)>>,
    done: Vec<usize>,
}

impl RegisterPool {
    /// The pool of a block at its launch.
    pub(crate) fn new(kernel: &Kernel, config: &LaunchConfig, device: &Device) -> RegisterPool {
        let warps = config.block.iter().product::<u32>().div_ceil(32) as usize;
        let each = launch_registers(kernel, config, device);
        RegisterPool {
            free: 0,
            current: vec![each; warps],
            history: vec![Vec::new(); warps.div_ceil(4)],
            done: vec![0; warps],
        }
    }
}

/// Registers per thread at launch. ptxas gives a kernel that uses `setmaxnreg` all that `.maxnreg` allows,
/// or an equal part of the SM's file under `.maxntid` and `.minnctapersm`, in units of 8.
fn launch_registers(kernel: &Kernel, config: &LaunchConfig, device: &Device) -> u32 {
    let limits = &kernel.limits;
    if let Some(max) = limits.max_registers {
        return max.clamp(24, 255).next_multiple_of(8);
    }
    let threads = limits.required_threads.or(limits.max_threads).unwrap_or(config.block);
    let threads = threads.iter().product::<u32>().next_multiple_of(32).max(32);
    let blocks = limits.min_blocks.unwrap_or(1).max(1);
    let each = device.registers_per_sm / threads.saturating_mul(blocks).max(1) / 8 * 8;
    // A thread has at most 255; the hardware hands out 256 for them.
    each.clamp(24, 256)
}

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction) -> Result<Inst, Reason> {
    let mut inst = Inst::new(if i.has(Modifier::Inc) { increase } else { decrease });
    inst.imm = d.integer(d.operand(i, 0)?)? as u64;
    Ok(inst)
}

fn increase(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    set(inst.imm as u32, true, warp, cx)
}

fn decrease(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    set(inst.imm as u32, false, warp, cx)
}

fn set(count: u32, up: bool, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    if warp.mask != warp.live {
        if warp.mask == warp.active {
            warp.wait_for_lanes();
            return Step::Wait;
        }
        cx.find(warp, warp.mask, FindingKind::Divergence, None, || {
            "setmaxnreg.sync.aligned is reached by some lanes of the warp only".to_owned()
        });
    }
    let find = |cx: &mut Cx<'_>, warp: &Warp, message: String| {
        if cx.env.options.checks.protocol {
            cx.find(warp, warp.mask, FindingKind::SetMaxRegisters, None, || message);
        }
        Step::Next
    };
    if !count.is_multiple_of(8) || !(24..=256).contains(&count) {
        return find(
            cx,
            warp,
            format!("setmaxnreg of {count} registers; a multiple of 8 from 24 to 256 is allowed"),
        );
    }
    let index = warp.index as usize;
    let pool = &mut cx.cta().registers;
    let current = pool.current[index];
    if up && count < current {
        return find(
            cx,
            warp,
            format!("setmaxnreg.inc to {count} registers, but the warp has {current}: use .dec"),
        );
    }
    if !up && count > current {
        return find(
            cx,
            warp,
            format!(
                "setmaxnreg.dec to {count} registers, but the warp has only {current}: use .inc"
            ),
        );
    }
    if up {
        let needed = (count - current) * 32;
        if pool.free < needed {
            warp.wait = Some(Wait::Registers { count: needed });
            return Step::Wait;
        }
        pool.free -= needed;
    } else {
        pool.free += (current - count) * 32;
    }
    pool.current[index] = count;
    let step = pool.done[index];
    pool.done[index] += 1;
    let who = Who::of(warp, cx.cta().id, warp.mask);
    let history = &mut cx.cta().registers.history[index / 4];
    let before = history.get(step).copied();
    if before.is_none() {
        history.push((warp.pc, count, who));
    }
    cx.cluster.events += 1;
    if let Some((pc, other, by)) = before.filter(|&(pc, other, _)| (pc, other) != (warp.pc, count))
        && cx.env.options.checks.protocol
    {
        let place = if pc == warp.pc { "" } else { " at another instruction" };
        cx.cluster.findings.add(FindingKind::SetMaxRegisters, who, Some(by), None, || {
            format!("warps of a warpgroup execute different setmaxnreg: {count} registers here, {other}{place} by another warp")
        });
    }
    Step::Next
}

/// A block is over: every warp of a warpgroup must have executed the same setmaxnreg.
pub(crate) fn block_exited(cx: &mut Cx<'_>) {
    if !cx.env.options.checks.protocol {
        return;
    }
    let RegisterPool { history, done, .. } = std::mem::take(&mut cx.cta().registers);
    for (group, history) in history.iter().enumerate() {
        let warps = &done[group * 4..done.len().min(group * 4 + 4)];
        let least = warps.iter().copied().min().unwrap_or(0);
        if let Some(&(_, count, who)) = history.get(least) {
            cx.cluster.findings.add(FindingKind::SetMaxRegisters, who, None, None, || {
                format!("setmaxnreg to {count} registers is not executed by all warps of the warpgroup (PTX ISA 9.7.19.5)")
            });
        }
    }
}
