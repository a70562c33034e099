//! Registers of wgmmas: who may touch them when (PTX ISA 9.7.15.4, 9.7.15.7).
//!
//! Registers are named by their place in the source, not by the slot that holds them, since slots are
//! shared. Only instructions that touch a register which some wgmma of the kernel uses are watched, so that
//! all others cost nothing.

use std::collections::HashMap;

use zeroforge_ptx::table::Role;
use zeroforge_ptx::{Instruction, Opcode, Operand, RegisterId};

use crate::machine::context::{Cx, Who};
use crate::machine::warp::Warp;
use crate::program::flatten::{Flat, FlatKernel};
use crate::report::FindingKind;

/// Numbers of the registers that wgmmas use, by frame and register.
pub(crate) type Numbers = HashMap<(u32, u32), u32>;

/// What an instruction does to watched registers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Touch {
    reads: Vec<u32>,
    writes: Vec<u32>,
    /// A plain copy of one watched register to another: slots of source and destination.
    copy: Option<[u32; 2]>,
}

/// A copy of a register that a wgmma will still write: the copy gets the result too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alias {
    source: u32,
    target: u32,
    slots: [u32; 2],
    /// Wgmmas that the warp had executed by then: later ones do not change the copy.
    executed: u64,
}

/// What a warp knows of its watched registers.
#[derive(Debug, Default)]
pub(crate) struct Registers {
    /// Touched by an ordinary instruction since the last `wgmma.fence`.
    touched: Vec<bool>,
    /// Used by a wgmma that was not waited for: as D by shape and place of the latest, or as A.
    flying: Vec<Option<Flight>>,
    /// Whether there was a `wgmma.fence` at all.
    fenced: bool,
    aliases: Vec<Alias>,
}

/// A use by a wgmma that was not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flight {
    accumulator: bool,
    /// Shape and types, as far as chains of accumulators must agree in them.
    shape: u32,
    pc: u32,
    group: u64,
}

/// Finds the registers of the wgmmas of a kernel, and copies of them.
pub(crate) fn watched(flat: &FlatKernel<'_>) -> Numbers {
    let mut all = Numbers::new();
    let add = |all: &mut Numbers, frame: u32, operand: &Operand| {
        if let Operand::Register(r) = operand {
            let next = all.len() as u32;
            all.entry((frame, r.0)).or_insert(next);
        }
    };
    for (frame, item) in &flat.code {
        let i = item.instruction();
        if i.opcode() == Opcode::WgmmaMmaAsync {
            for operand in i.operands.iter().take(2) {
                if let Operand::Vector(list) = operand {
                    list.iter().for_each(|o| add(&mut all, *frame, o));
                }
            }
        }
    }
    if all.is_empty() {
        return all;
    }
    // Copies of copies: until nothing is new.
    loop {
        let before = all.len();
        for (frame, item) in &flat.code {
            if let Some((from, to)) = plain_copy(item)
                && all.contains_key(&(*frame, from))
            {
                add(&mut all, *frame, &Operand::Register(RegisterId(to)));
            }
        }
        if all.len() == before {
            return all;
        }
    }
}

/// Source and destination of an unguarded `mov` between registers.
fn plain_copy(item: &Flat<'_>) -> Option<(u32, u32)> {
    let Flat::Instruction(i) = item else { return None };
    match (i.opcode(), i.guard, &i.operands[..]) {
        (Opcode::Mov, None, [Operand::Register(to), Operand::Register(from)]) => {
            Some((from.0, to.0))
        }
        _ => None,
    }
}

/// What an instruction does to watched registers; None if nothing, and for wgmmas, which see to it
/// themselves. `slot` gives a register's slot.
pub(crate) fn of_instruction(
    watched: &Numbers,
    frame: u32,
    item: &Flat<'_>,
    slot: impl Fn(u32) -> Option<u32>,
) -> Option<Box<Touch>> {
    let i: &Instruction = item.instruction();
    if watched.is_empty() || i.opcode() == Opcode::WgmmaMmaAsync {
        return None;
    }
    let mut touch = Touch::default();
    let writes = i.form.operand_specs().first().is_some_and(|s| s.role != Role::Read);
    for (at, operand) in i.operands.iter().enumerate() {
        let list = if at == 0 && writes { &mut touch.writes } else { &mut touch.reads };
        each_register(operand, &mut |r| list.extend(watched.get(&(frame, r))));
    }
    if touch.reads.is_empty() && touch.writes.is_empty() {
        return None;
    }
    if let Some((from, to)) = plain_copy(item).filter(|_| !touch.reads.is_empty()) {
        touch.copy = slot(from).zip(slot(to)).map(|(a, b)| [a, b]);
    }
    Some(Box::new(touch))
}

fn each_register(operand: &Operand, f: &mut impl FnMut(u32)) {
    let base = |a: &zeroforge_ptx::Address, f: &mut dyn FnMut(u32)| {
        if let zeroforge_ptx::Base::Register(r) = a.base {
            f(r.0);
        }
    };
    match operand {
        Operand::Register(r) | Operand::Not(r) => f(r.0),
        Operand::Vector(list) | Operand::List(list) => {
            list.iter().for_each(|o| each_register(o, f));
        }
        Operand::Pair(a, b) => {
            each_register(a, f);
            each_register(b, f);
        }
        Operand::Memory(a) => base(a, f),
        Operand::Tensor { map, coordinates } => {
            base(map, f);
            coordinates.iter().for_each(|o| each_register(o, f));
        }
        _ => {}
    }
}

/// Checks and notes that an ordinary instruction touches watched registers.
pub(crate) fn touch(touch: &Touch, warp: &mut Warp, cx: &mut Cx<'_>) {
    if warp.mask == 0 {
        return;
    }
    for &r in &touch.reads {
        match warp.wgmma.registers.flight(r) {
            Some(flight) => {
                if let (Some(slots), [target]) = (touch.copy, &touch.writes[..]) {
                    if let Some(over) = warp.wgmma.registers.flight(*target) {
                        report(warp, cx, over, "overwritten");
                    }
                    let executed = warp.wgmma.executed;
                    let alias = Alias { source: r, target: *target, slots, executed };
                    warp.wgmma.registers.copy(alias, flight);
                    return;
                }
                report(warp, cx, flight, "read");
            }
            None => warp.wgmma.registers.note(r),
        }
    }
    for &w in &touch.writes {
        if let Some(flight) = warp.wgmma.registers.flight(w) {
            report(warp, cx, flight, "overwritten");
        }
        warp.wgmma.registers.note(w);
    }
}

fn report(warp: &Warp, cx: &mut Cx<'_>, flight: Flight, what: &str) {
    if !cx.env.options.checks.protocol {
        return;
    }
    let cta = cx.cta().id;
    let who = Who::of(warp, cta, warp.mask);
    let other = Who { pc: flight.pc, lanes: u32::MAX, ..who };
    let role = if flight.accumulator { "accumulator" } else { "A fragment" };
    cx.cluster.findings.add(FindingKind::InFlightAccumulator, who, Some(other), None, || {
        format!(
            "an {role} register is {what} while the wgmma that uses it may still run; wait for it first (wgmma.wait_group, PTX ISA 9.7.15.7)"
        )
    });
}

/// A wgmma's use of registers.
pub(crate) struct Use<'a> {
    pub(crate) d: &'a [u32],
    pub(crate) a: &'a [u32],
    pub(crate) shape: u32,
    pub(crate) group: u64,
}

impl Registers {
    fn flight(&self, r: u32) -> Option<Flight> {
        self.flying.get(r as usize).copied().flatten()
    }

    fn note(&mut self, r: u32) {
        let r = r as usize;
        if self.touched.len() <= r {
            self.touched.resize(r + 1, false);
        }
        self.touched[r] = true;
    }

    fn set_flight(&mut self, r: u32, flight: Flight) {
        let r = r as usize;
        if self.flying.len() <= r {
            self.flying.resize(r + 1, None);
        }
        self.flying[r] = Some(flight);
    }

    fn is_touched(&self, r: u32) -> bool {
        self.touched.get(r as usize).copied().unwrap_or(false)
    }

    /// A register that will be written is copied: the copy will be, too.
    fn copy(&mut self, alias: Alias, flight: Flight) {
        self.set_flight(alias.target, flight);
        if flight.accumulator {
            self.aliases.push(alias);
        }
    }

    /// `wgmma.fence`.
    pub(crate) fn fence(&mut self) {
        self.touched.fill(false);
        self.fenced = true;
    }

    /// Slots of the copies that get what wgmma number `number` makes of the registers `d`.
    pub(crate) fn copies(&self, d: &[u32], number: u64) -> Vec<[u32; 2]> {
        let gets = |a: &&Alias| number < a.executed && d.contains(&a.source);
        self.aliases.iter().filter(gets).map(|a| a.slots).collect()
    }

    /// Groups up to this one are complete.
    pub(crate) fn land(&mut self, group: u64) {
        let flying = &self.flying;
        let landed =
            |r: u32| flying.get(r as usize).copied().flatten().is_none_or(|f| f.group <= group);
        let aliases = std::mem::take(&mut self.aliases);
        self.aliases = aliases.into_iter().filter(|a| !landed(a.source)).collect();
        for f in &mut self.flying {
            *f = f.filter(|f| f.group > group);
        }
    }
}

/// Checks that a wgmma may use its registers, and notes that it does.
pub(crate) fn take(warp: &mut Warp, cx: &mut Cx<'_>, registers: &Use<'_>) {
    let pc = warp.pc;
    let state = &mut warp.wgmma.registers;
    let mut missing = None;
    if !state.fenced {
        missing = Some("no wgmma.fence was executed before the first wgmma".to_owned());
        state.fenced = true;
    }
    for (list, what) in [(registers.d, "accumulator"), (registers.a, "A fragment")] {
        if list.iter().any(|&r| state.is_touched(r)) {
            missing.get_or_insert_with(|| {
                format!("registers of its {what} were touched since the last wgmma.fence")
            });
        }
    }
    let other_shape = registers
        .d
        .iter()
        .find_map(|&r| state.flight(r).filter(|f| f.accumulator && f.shape != registers.shape));
    if other_shape.is_some() {
        missing.get_or_insert_with(|| {
            "its accumulator is that of a wgmma of another shape that may still run".to_owned()
        });
    }
    let used = registers.a.iter().find_map(|&r| state.flight(r).filter(|f| f.accumulator));
    let overwritten = registers.d.iter().find_map(|&r| state.flight(r).filter(|f| !f.accumulator));
    for (list, accumulator) in [(registers.a, false), (registers.d, true)] {
        for &r in list {
            let flight = Flight { accumulator, shape: registers.shape, pc, group: registers.group };
            state.set_flight(r, flight);
        }
    }
    if let Some(flight) = used {
        report(warp, cx, flight, "read as A");
    }
    if let Some(flight) = overwritten {
        report(warp, cx, flight, "an accumulator again");
    }
    if let Some(reason) = missing.filter(|_| cx.env.options.checks.protocol) {
        cx.find(warp, warp.mask, FindingKind::MissingWgmmaFence, None, || {
            format!("{reason}; put wgmma.fence.sync.aligned before it (PTX ISA 9.7.15.7.1)")
        });
    }
}
