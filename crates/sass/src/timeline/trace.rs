//! What a consumer warp executes for a tile of work: straight pieces and loops, in order.

use std::collections::{BTreeMap, BTreeSet};

use super::rates::Rates;
use crate::flow::Loop;
use crate::instruction::Instruction;
use crate::kernel::Kernel;
use crate::path::hot_path;
use crate::pipe::{Pipe, busy_cycles, pipe};
use crate::shadow::depbar;

/// What an instruction does to the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// Executes; its scoreboards, if any, clear after a latency.
    Plain { latency: u64 },
    /// A product of a warpgroup: cycles of the tensor cores, and whether it ends a group.
    Wgmma { cycles: u64, commits: bool },
    /// Waits until at most so many groups are pending.
    Depbar(usize),
    /// Waits for a load of a class.
    Load(usize),
    /// Waits for its turn among the warpgroups.
    TurnWait,
    /// Gives the turn to the next warpgroup.
    TurnPass,
    /// Waits for all consumer warpgroups.
    Rendezvous,
    /// The tile's products are issued; no instruction.
    LoopsEnd,
}

/// An instruction of the model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    pub address: u64,
    pub kind: Kind,
    pub pipe: Pipe,
    /// Cycles for which its unit is busy.
    pub busy: u64,
    pub stall: u64,
    pub wait_mask: u8,
    pub write: Option<u8>,
    pub read: Option<u8>,
}

/// A part of the way through a tile.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub ops: Vec<Op>,
    /// A main loop, else straight code.
    pub is_loop: bool,
    /// Operations of its products, for one warpgroup.
    pub flops: u64,
    /// Comparisons and selections: what a mask is made of.
    pub mask_weight: u64,
}

/// What a consumer executes.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    /// Before the first tile.
    pub prologue: Vec<Op>,
    /// One tile.
    pub tile: Vec<Piece>,
    /// Classes of loads by their barrier's offset in shared memory, in the order of their first wait.
    pub classes: Vec<Class>,
}

/// Loads that wait at the same barriers.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// Waited for in a main loop; else once a tile.
    pub in_loop: bool,
}

fn latency(i: &Instruction, rates: &Rates) -> u64 {
    match i.base() {
        "MUFU" => rates.mufu,
        "SHFL" => rates.shuffle,
        "LDS" | "LDSM" | "ATOMS" | "SYNCS" => rates.shared,
        "STS" | "STSM" => rates.shared,
        "LDG" | "LD" | "LDL" | "ATOM" | "ATOMG" => rates.global,
        _ => rates.other,
    }
}

/// The offset in `[UR18+0x28830]`, or the whole operand where there is none.
fn barrier_of(i: &Instruction) -> String {
    let address = i.operands.iter().find(|o| o.starts_with('[')).map_or("", String::as_str);
    let inner = address.trim_start_matches('[').trim_end_matches(']');
    match inner.rsplit_once('+') {
        Some((_, offset)) if offset.starts_with("0x") => offset.to_owned(),
        _ => inner.to_owned(),
    }
}

/// A register that is no constant names the barrier.
fn is_ring(i: &Instruction) -> bool {
    i.operands.first().is_some_and(|o| o.starts_with('R') && o != "RZ" || o.starts_with("UR"))
}

/// Threads that take part, if the instruction says so.
fn participants(i: &Instruction) -> Option<u32> {
    let text = i.operands.get(1)?;
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

pub(super) struct Tracer<'a> {
    kernel: &'a Kernel,
    rates: &'a Rates,
    classes: BTreeMap<String, usize>,
    list: Vec<Class>,
    in_loop: bool,
    /// Class of the last wait, if no product came after it.
    waited: Option<usize>,
}

impl<'a> Tracer<'a> {
    pub(super) fn new(kernel: &'a Kernel, rates: &'a Rates) -> Tracer<'a> {
        Tracer {
            kernel,
            rates,
            classes: BTreeMap::new(),
            list: Vec::new(),
            in_loop: false,
            waited: None,
        }
    }

    fn op(&mut self, i: &Instruction) -> Option<Op> {
        let rates = self.rates;
        let kind = match i.base() {
            _ if i.wgmma().is_some() => {
                let w = i.wgmma()?;
                self.waited = None;
                // Operands in shared memory may take longer than the product.
                let shared = w.shared_bytes() as f64 / rates.shared_bytes;
                let cycles = w.tensor_cycles().max(shared).ceil() as u64;
                Kind::Wgmma { cycles, commits: w.commits }
            }
            "WARPGROUP" => match depbar(i) {
                Some(n) => Kind::Depbar(n),
                None => Kind::Plain { latency: 0 },
            },
            "SYNCS" if i.has("PHASECHK") => {
                let barrier = barrier_of(i);
                let next = self.list.len();
                let class = *self.classes.entry(barrier).or_insert(next);
                match self.list.get_mut(class) {
                    Some(c) => c.in_loop |= self.in_loop,
                    None => self.list.push(Class { in_loop: self.in_loop }),
                }
                // The same wait once more is a retry.
                match self.waited.replace(class) == Some(class) {
                    true => Kind::Plain { latency: rates.shared },
                    false => Kind::Load(class),
                }
            }
            "BAR" => match (is_ring(i), i.has("ARV")) {
                (true, false) => Kind::TurnWait,
                (true, true) => Kind::TurnPass,
                // One warpgroup's own barrier: its four warps are alike.
                (false, false) if participants(i).is_none_or(|n| n > 128) => Kind::Rendezvous,
                _ => Kind::Plain { latency: rates.barrier },
            },
            _ => Kind::Plain { latency: latency(i, rates) },
        };
        let c = i.control;
        Some(Op {
            address: i.address,
            kind,
            pipe: pipe(i),
            busy: busy_cycles(i) as u64,
            stall: u64::from(c.stall.max(1)),
            wait_mask: c.wait_mask,
            write: c.write_barrier,
            read: c.read_barrier,
        })
    }

    fn code(&mut self, blocks: &[usize]) -> Vec<Op> {
        let kernel = self.kernel;
        let mut ops = Vec::new();
        for &b in blocks {
            let block = &kernel.flow.blocks[b];
            for i in &kernel.code[block.start..block.end] {
                ops.extend(self.op(i));
            }
        }
        ops
    }

    fn piece(&mut self, blocks: &[usize], is_loop: bool) -> Piece {
        self.in_loop = is_loop;
        let ops = self.code(blocks);
        self.in_loop = false;
        let (mut flops, mut mask_weight) = (0, 0);
        for &b in blocks {
            let block = &self.kernel.flow.blocks[b];
            for i in &self.kernel.code[block.start..block.end] {
                if let Some(w) = i.wgmma() {
                    flops += w.flops();
                }
                mask_weight += u64::from(matches!(i.base(), "ISETP" | "FSEL" | "SEL"));
            }
        }
        Piece { ops, is_loop, flops, mask_weight }
    }

    /// The way through the kernel, if it has loops of matrix products.
    pub(super) fn trace(mut self) -> Result<Trace, String> {
        let Kernel { code, flow, .. } = self.kernel;
        let products = |l: &Loop| {
            l.blocks.iter().any(|&b| {
                code[flow.blocks[b].start..flow.blocks[b].end].iter().any(|i| i.wgmma().is_some())
            })
        };
        let with: Vec<usize> =
            (0..flow.loops.len()).filter(|&n| products(&flow.loops[n])).collect();
        let main: Vec<usize> = with
            .iter()
            .copied()
            .filter(|&n| !with.iter().any(|&m| flow.loops[m].parent == Some(n)))
            .collect();
        if main.is_empty() {
            return Err("no loop has matrix products of warpgroups".to_owned());
        }
        // The loop over tiles: around the main loops.
        let outer = with.iter().copied().find(|&n| {
            !main.contains(&n) && flow.loops[n].parent.is_none_or(|p| !with.contains(&p))
        });
        let all: BTreeSet<usize> = flow.order.iter().copied().collect();
        let exits = || -> Vec<usize> {
            all.iter().copied().filter(|&b| flow.blocks[b].next.is_empty()).collect()
        };
        let no_way = || "no way leads through its loops".to_owned();
        let (before, way) = match outer {
            Some(o) => {
                let o = &flow.loops[o];
                let mut before = hot_path(code, flow, &all, 0, &[o.header]).ok_or_else(no_way)?;
                before.pop();
                let way =
                    hot_path(code, flow, &o.blocks, o.header, &o.latches).ok_or_else(no_way)?;
                (before, way)
            }
            None => (Vec::new(), hot_path(code, flow, &all, 0, &exits()).ok_or_else(no_way)?),
        };
        let prologue = self.code(&before);
        let mut tile = Vec::new();
        let mut straight: Vec<usize> = Vec::new();
        let mut at = 0;
        while let Some(&b) = way.get(at) {
            let Some(&l) = main.iter().find(|&&l| flow.loops[l].blocks.contains(&b)) else {
                straight.push(b);
                at += 1;
                continue;
            };
            let l = &flow.loops[l];
            if !straight.is_empty() {
                tile.push(self.piece(&std::mem::take(&mut straight), false));
            }
            let body = hot_path(code, flow, &l.blocks, l.header, &l.latches).ok_or_else(no_way)?;
            tile.push(self.piece(&body, true));
            while way.get(at).is_some_and(|b| l.blocks.contains(b)) {
                at += 1;
            }
        }
        if !straight.is_empty() {
            tile.push(self.piece(&straight, false));
        }
        // What is waited for in a loop is of one kind wherever it is waited for.
        if !tile.iter().any(|p| p.is_loop) {
            return Err(no_way());
        }
        Ok(Trace { prologue, tile, classes: self.list })
    }
}
