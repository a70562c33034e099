//! The static report of a kernel.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cubin::Entry;
use crate::flow::Flow;
use crate::instruction::Instruction;
use crate::occupancy::{Occupancy, occupancy};
use crate::path::hot_path;
use crate::pipe::{Pipe, busy_cycles, pipe, shared_bytes};
use crate::shadow::{Shadow, shadow};

/// A kernel of a cubin with its code.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What the loader knows.
    pub entry: Entry,
    /// Its instructions.
    pub code: Vec<Instruction>,
    /// Their control flow.
    pub flow: Flow,
}

impl Kernel {
    /// A kernel from its parts.
    pub fn new(entry: Entry, code: Vec<Instruction>) -> Kernel {
        let flow = Flow::new(&code);
        Kernel { entry, code, flow }
    }
}

/// How a kernel is launched, where it matters for the report and machine code does not say it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Launch {
    /// Threads per block; else what the source states, else 128.
    pub threads: Option<u32>,
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u64,
}

/// The static report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Kernel name.
    pub name: String,
    /// What the loader knows.
    pub entry: Entry,
    /// Threads per block that the figures below assume.
    pub threads: u32,
    /// Warpgroups that run the loops with matrix products.
    pub consumer_warpgroups: u32,
    /// Registers of warpgroups that change theirs (`setmaxnreg`), in the order of the code.
    pub setmaxnreg: Vec<u32>,
    /// Bytes of shared memory, declared and of the launch.
    pub shared: u64,
    /// Blocks per SM.
    pub occupancy: Occupancy,
    /// Instructions, without the padding behind the last.
    pub instructions: u32,
    /// Local memory stores and loads in the whole kernel.
    pub spills: Spills,
    /// Bulk copies in the whole kernel.
    pub bulk_copies: u32,
    /// Its loops, by address.
    pub loops: Vec<LoopReport>,
}

impl Report {
    /// The loops that matter.
    pub fn main_loops(&self) -> impl Iterator<Item = &LoopReport> {
        self.loops.iter().filter(|l| l.main)
    }
}

/// Local memory traffic: registers that did not fit, or arrays that are indexed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spills {
    /// `STL`.
    pub stores: u32,
    /// `LDL`.
    pub loads: u32,
}

/// A loop with work in it.
#[derive(Clone, Debug, Serialize)]
pub struct LoopReport {
    /// Address of its first instruction.
    pub from: u64,
    /// Address of its last.
    pub to: u64,
    /// No other loop with work lies in it.
    pub innermost: bool,
    /// A main loop: matrix products of warpgroups lie in it and in no loop inside it.
    pub main: bool,
    /// Instructions of its body in line; what the compiler moved out of line is not counted.
    pub instructions: u32,
    /// Instructions on the hot path.
    pub hot_instructions: u32,
    /// Instructions out of line.
    pub out_of_line: u32,
    /// Instructions in line by mnemonic without modifiers.
    pub mix: BTreeMap<String, u32>,
    /// Instructions in line by unit.
    pub pipes: BTreeMap<Pipe, u32>,
    /// Spills in it.
    pub spills: Spills,
    /// Barriers in it, in order.
    pub barriers: Vec<Barrier>,
    /// What is in flight when.
    pub shadow: Shadow,
    /// Least cycles of an iteration on an SM.
    pub bounds: Bounds,
}

/// A barrier instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Barrier {
    /// Its address.
    pub address: u64,
    /// What it does, for people.
    pub what: String,
    /// The instruction.
    pub text: String,
}

/// Cycles per iteration of one block's warps that run the loop, on one SM, if a unit did nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bounds {
    /// Warps that run the loop.
    pub warps: u32,
    /// Tensor cores.
    pub tensor: f64,
    /// Special functions.
    pub mufu: f64,
    /// Multiply and add.
    pub fma: f64,
    /// Integer, minimum, packing.
    pub alu: f64,
    /// Issue slots: an instruction a cycle and sub-partition.
    pub issue: f64,
    /// Shared memory at 128 bytes a cycle, operands of the tensor cores included.
    pub shared: f64,
}

impl Bounds {
    fn new<'a>(code: impl Iterator<Item = &'a Instruction>, warps: u32) -> Bounds {
        let mut b = Bounds { warps, ..Bounds::default() };
        let per_partition = f64::from(warps) / 4.0;
        for i in code {
            let busy = busy_cycles(i) * per_partition;
            match pipe(i) {
                Pipe::Tensor => b.tensor += busy,
                Pipe::Mufu => b.mufu += busy,
                Pipe::Fma => b.fma += busy,
                Pipe::Alu => b.alu += busy,
                _ => {}
            }
            b.issue += per_partition;
            b.shared += shared_bytes(i) as f64 * f64::from(warps) / 128.0;
        }
        b
    }

    /// The units with their cycles.
    pub fn named(&self) -> [(&'static str, f64); 6] {
        [
            ("tensor", self.tensor),
            ("mufu", self.mufu),
            ("fma", self.fma),
            ("alu", self.alu),
            ("issue", self.issue),
            ("shared memory", self.shared),
        ]
    }

    /// The unit that binds, and its cycles.
    pub fn binding(&self) -> (&'static str, f64) {
        self.named().into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("issue", 0.0))
    }
}

fn barrier(i: &Instruction) -> Option<Barrier> {
    let what = match i.base() {
        "SYNCS" if i.has("PHASECHK") => "wait for an mbarrier's phase",
        "SYNCS" if i.has("ARRIVE") => "arrive at an mbarrier",
        "BAR" if i.has("ARV") => "arrive at a named barrier",
        "BAR" => "wait at a named barrier",
        "WARPGROUP" if i.has("ARRIVE") => "warpgroup's registers are ready for wgmma",
        "WARPGROUP" => "wait for wgmma groups",
        "UCGABAR_ARV" => "arrive at the cluster's barrier",
        "UCGABAR_WAIT" => "wait at the cluster's barrier",
        _ => return None,
    };
    let predicate = i.predicate.as_ref().map(|p| format!("@{p} ")).unwrap_or_default();
    let text = format!("{predicate}{} {}", i.opcode, i.operands.join(", "));
    Some(Barrier { address: i.address, what: what.to_owned(), text: text.trim().to_owned() })
}

fn spills<'a>(code: impl Iterator<Item = &'a Instruction>) -> Spills {
    let mut s = Spills::default();
    for i in code {
        match i.base() {
            "STL" => s.stores += 1,
            "LDL" => s.loads += 1,
            _ => {}
        }
    }
    s
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A loop that only waits, or serves the lanes of a warp one by one: a barrier or a change of registers is tried again, or a
/// bulk copy is issued by an elected lane.
fn is_helper(body: &[&Instruction]) -> bool {
    if body.len() <= 16 && body.iter().any(|i| i.base() == "BRA" && i.has("ANY")) {
        return true;
    }
    let waits = |i: &Instruction| matches!(i.base(), "SYNCS" | "NANOSLEEP" | "USETMAXREG");
    let idle = |i: &Instruction| {
        matches!(pipe(i), Pipe::Control | Pipe::Uniform | Pipe::Alu) || i.base() == "IMAD"
    };
    body.len() <= 16 && body.iter().any(|i| waits(i)) && body.iter().all(|i| waits(i) || idle(i))
}

/// The static report of a kernel.
pub fn report(kernel: &Kernel, launch: &Launch) -> Report {
    let Kernel { entry, code, flow } = kernel;
    let threads =
        launch.threads.or(entry.required_threads).or(entry.max_threads).unwrap_or(128).max(1);
    let setmaxnreg: Vec<u32> = code
        .iter()
        .filter(|i| i.base() == "USETMAXREG")
        .filter_map(|i| i.operands.iter().find_map(|o| number(o)))
        .collect();
    let warpgroups = (threads / 128).max(1);
    // Where warpgroups take different registers, the first one produces.
    let consumers =
        if setmaxnreg.is_empty() || warpgroups < 2 { warpgroups } else { warpgroups - 1 };
    let shared = entry.static_shared + launch.dynamic_shared;
    let instructions = match code.iter().rposition(|i| i.base() != "NOP") {
        Some(last) => last + 1,
        None => 0,
    };
    let mut loops = Vec::new();
    for (n, l) in flow.loops.iter().enumerate() {
        let (start, end) = flow.span(l);
        let body = &code[start..end];
        let all: Vec<&Instruction> = l
            .blocks
            .iter()
            .flat_map(|&b| &code[flow.blocks[b].start..flow.blocks[b].end])
            .collect();
        if is_helper(&all) {
            continue;
        }
        let has_work = |m: usize| {
            let inner = &flow.loops[m];
            let all: Vec<&Instruction> = inner
                .blocks
                .iter()
                .flat_map(|&b| &code[flow.blocks[b].start..flow.blocks[b].end])
                .collect();
            !is_helper(&all)
        };
        let innermost =
            !(0..flow.loops.len()).any(|m| flow.loops[m].parent == Some(n) && has_work(m));
        let has_products = |blocks: &std::collections::BTreeSet<usize>| {
            blocks.iter().any(|&b| {
                code[flow.blocks[b].start..flow.blocks[b].end].iter().any(|i| i.wgmma().is_some())
            })
        };
        let products = has_products(&l.blocks);
        let main =
            products && !flow.loops.iter().any(|m| m.parent == Some(n) && has_products(&m.blocks));
        let inside = |b: usize| flow.blocks[b].start >= start && flow.blocks[b].end <= end;
        let out_of_line: usize = l
            .blocks
            .iter()
            .filter(|&&b| !inside(b))
            .map(|&b| flow.blocks[b].end - flow.blocks[b].start)
            .sum();
        let hot = hot_path(code, flow, &l.blocks, l.header, &l.latches).unwrap_or_default();
        let hot_code = || hot.iter().flat_map(|&b| &code[flow.blocks[b].start..flow.blocks[b].end]);
        let mut mix = BTreeMap::new();
        let mut pipes = BTreeMap::new();
        for i in body {
            *mix.entry(i.base().to_owned()).or_insert(0) += 1;
            *pipes.entry(pipe(i)).or_insert(0) += 1;
        }
        // Loops without matrix products may run on any warps; one warpgroup is assumed.
        let warps = if products { consumers * 4 } else { threads.div_ceil(32).min(4) };
        loops.push(LoopReport {
            from: body.first().map_or(0, |i| i.address),
            to: body.last().map_or(0, |i| i.address),
            innermost,
            main,
            instructions: body.len() as u32,
            hot_instructions: hot_code().count() as u32,
            out_of_line: out_of_line as u32,
            mix,
            pipes,
            spills: spills(body.iter()),
            barriers: body.iter().filter_map(barrier).collect(),
            shadow: shadow(body),
            bounds: Bounds::new(hot_code(), warps),
        });
    }
    Report {
        name: entry.name.clone(),
        threads,
        consumer_warpgroups: consumers,
        setmaxnreg,
        shared,
        occupancy: occupancy(threads, entry.registers, shared),
        instructions: instructions as u32,
        spills: spills(code.iter()),
        bulk_copies: code.iter().filter(|i| i.base().starts_with("UTMALDG")).count() as u32,
        loops,
        entry: entry.clone(),
    }
}
