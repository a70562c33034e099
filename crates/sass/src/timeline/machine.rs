//! A quarter of an SM, cycle by cycle: the warps of the consumer warpgroups that share a scheduler.
//!
//! A warpgroup has one warp on each of the four sub-partitions and they do the same, so one sub-partition stands for the SM.
//! A warp issues in order: after its stall count, when the scoreboards it waits for are clear, its unit is free and the
//! scheduler's slot is. The tensor cores take products from a queue, first come, first served. The producer is not replayed:
//! a load starts when its slot is free and arrives after the latency and the transfer.

use std::collections::{BTreeMap, VecDeque};

use super::launch::Tiling;
use super::rates::Rates;
use super::trace::{Kind, Op, Trace};
use crate::pipe::Pipe;

/// Why a warp could not issue earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    Stall,
    Scoreboard,
    Unit,
    Slot,
    Wgmma,
    Load,
    Turn,
    Rendezvous,
}

/// What the model found.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// From the first instruction to the last.
    pub cycles: u64,
    /// Cycles in which the tensor cores worked.
    pub tensor: u64,
    /// Instructions of all warps.
    pub issued: u64,
    /// Cycles that warps spent not issuing, by the instruction that had to wait and the cause.
    pub waits: BTreeMap<(u64, Cause), u64>,
}

/// How the loops of a tile are repeated, and what it loads.
#[derive(Clone, Debug)]
pub(super) struct Work {
    /// Repetitions of each piece of the trace.
    pub repeats: Vec<u64>,
}

/// Bytes and slots of a class of loads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    pub bytes: u64,
    pub slots: usize,
    /// Bytes that arrive in a cycle.
    pub rate: f64,
    /// Cycles from the issue of a load to its first bytes.
    pub latency: u64,
}

impl Slots {
    /// Always there in time.
    pub(super) fn free() -> Slots {
        Slots { bytes: 0, slots: usize::MAX, rate: f64::INFINITY, latency: 0 }
    }
}

struct Load {
    class: usize,
    /// Tile before it, whose result must be stored first.
    after: Option<usize>,
    /// Warpgroups that have still to release it.
    pending: usize,
    released: u64,
    arrival: Option<u64>,
}

struct Warp {
    /// Which warpgroup of the block it stands for.
    group: usize,
    tiles: Vec<usize>,
    tile: usize,
    piece: usize,
    repeat: u64,
    op: usize,
    in_prologue: bool,
    ready: u64,
    boards: [u64; 6],
    /// Ends of groups in flight, with the loads they read.
    flight: VecDeque<(u64, Vec<usize>)>,
    /// End of the last product that was issued.
    last_end: u64,
    /// Starts of products that may still be queued.
    queue: VecDeque<u64>,
    /// Loads waited for since the last group.
    held: Vec<usize>,
    /// A load of the tile itself, with the warpgroup until its loops end.
    tile_loads: Vec<usize>,
    waits_in_tile: usize,
    turns: u64,
    has_turn: bool,
    rendezvous: u64,
    done: bool,
}

pub(super) struct Machine<'a> {
    rates: &'a Rates,
    trace: &'a Trace,
    works: &'a [Work],
    slots: &'a [Slots],
    alternate: bool,
    /// Bytes that must be stored before the next tile's first values are loaded.
    output_bytes: Option<u64>,
    /// Warpgroups that finished each tile, and when the last did.
    finished: Vec<(usize, u64)>,
    consumers: usize,
    warps: Vec<Warp>,
    loads: Vec<Load>,
    /// First load of each tile.
    first_load: Vec<usize>,
    /// Loads of each class, in order.
    by_class: Vec<Vec<usize>>,
    class_rank: Vec<usize>,
    next_load: usize,
    producer: u64,
    engine: u64,
    units: BTreeMap<Pipe, u64>,
    tensor: u64,
    slot: u64,
    /// When each turn was given: turn n belongs to warpgroup n modulo their number.
    turns: Vec<u64>,
    /// Arrivals at each meeting of all warpgroups.
    meetings: Vec<(usize, u64)>,
    outcome: Outcome,
}

/// When an instruction can issue, and why not before; none while that depends on another warp.
type When = Option<(u64, Cause)>;

impl<'a> Machine<'a> {
    pub(super) fn new(
        rates: &'a Rates,
        trace: &'a Trace,
        works: &'a [Work],
        slots: &'a [Slots],
        consumers: usize,
        tiling: &Tiling,
        output_bytes: u64,
    ) -> Machine<'a> {
        let alternate = tiling.alternate;
        let mut machine = Machine {
            rates,
            trace,
            works,
            slots,
            alternate,
            output_bytes: tiling.output_in_values.then_some(output_bytes),
            finished: vec![(0, 0); works.len()],
            consumers,
            warps: Vec::new(),
            loads: Vec::new(),
            first_load: Vec::new(),
            by_class: vec![Vec::new(); slots.len()],
            class_rank: Vec::new(),
            next_load: 0,
            producer: 0,
            engine: 0,
            units: BTreeMap::new(),
            tensor: 0,
            slot: 0,
            turns: vec![0],
            meetings: Vec::new(),
            outcome: Outcome::default(),
        };
        let readers = if alternate { 1 } else { consumers };
        let values = trace.classes.iter().rposition(|c| c.in_loop);
        for (tile, work) in works.iter().enumerate() {
            let mut first = true;
            machine.first_load.push(machine.loads.len());
            for (piece, &n) in trace.tile.iter().zip(&work.repeats) {
                for _ in 0..n {
                    for op in &piece.ops {
                        if let Kind::Load(class) = op.kind {
                            let after = (Some(class) == values && std::mem::take(&mut first))
                                .then(|| tile.checked_sub(1))
                                .flatten();
                            machine.class_rank.push(machine.by_class[class].len());
                            machine.by_class[class].push(machine.loads.len());
                            machine.loads.push(Load {
                                class,
                                after,
                                pending: readers,
                                released: 0,
                                arrival: None,
                            });
                        }
                    }
                }
            }
        }
        for group in 0..consumers {
            let mine = |t: &usize| !alternate || t % consumers == group;
            let tiles: Vec<usize> = (0..works.len()).filter(mine).collect();
            machine.warps.push(Warp {
                group,
                done: tiles.is_empty(),
                tiles,
                tile: 0,
                piece: 0,
                repeat: 0,
                op: 0,
                in_prologue: !trace.prologue.is_empty(),
                ready: 0,
                boards: [0; 6],
                flight: VecDeque::new(),
                last_end: 0,
                queue: VecDeque::new(),
                held: Vec::new(),
                tile_loads: Vec::new(),
                waits_in_tile: 0,
                turns: 0,
                has_turn: false,
                rendezvous: 0,
            });
        }
        for w in 0..consumers {
            machine.settle(w);
        }
        machine
    }

    /// Arrival of a load, if the slots it needs are free at a known time.
    fn arrival(&mut self, load: usize) -> Option<u64> {
        while self.next_load <= load {
            let n = self.next_load;
            let class = self.loads[n].class;
            let Slots { bytes, slots, rate, latency } = self.slots[class];
            let mut start = self.producer;
            if let Some(before) = self.class_rank[n].checked_sub(slots) {
                let old = &self.loads[self.by_class[class][before]];
                if old.pending > 0 {
                    return None;
                }
                start = start.max(old.released + self.rates.barrier);
            }
            if let (Some(bytes), Some(tile)) = (self.output_bytes, self.loads[n].after) {
                let (done, time) = self.finished[tile];
                if done < self.consumers {
                    return None;
                }
                let store = (bytes as f64 / self.rates.l2_bytes) as u64 + self.rates.bulk_copy;
                start = start.max(time + store);
            }
            // The producer issues in order; a few cycles each.
            self.producer = start + 8;
            let transfer = (bytes as f64 / rate) as u64;
            self.engine = self.engine.max(start) + transfer;
            self.loads[n].arrival = Some(self.engine + latency);
            self.next_load += 1;
        }
        self.loads[load].arrival
    }

    fn current(&self, w: usize) -> Option<Op> {
        let warp = &self.warps[w];
        if warp.done {
            return None;
        }
        match warp.in_prologue {
            true => self.trace.prologue.get(warp.op).copied(),
            false => self.trace.tile.get(warp.piece)?.ops.get(warp.op).copied(),
        }
    }

    /// Moves a warp from past the end of a piece to its next instruction.
    fn settle(&mut self, w: usize) {
        loop {
            let warp = &mut self.warps[w];
            if warp.done {
                return;
            }
            if warp.in_prologue {
                if warp.op < self.trace.prologue.len() {
                    return;
                }
                warp.in_prologue = false;
                warp.op = 0;
                continue;
            }
            let Some(&tile) = warp.tiles.get(warp.tile) else {
                warp.done = true;
                return;
            };
            let Some(piece) = self.trace.tile.get(warp.piece) else {
                let (done, time) = &mut self.finished[tile];
                *done += 1;
                *time = (*time).max(warp.ready);
                warp.tile += 1;
                warp.piece = 0;
                warp.repeat = 0;
                warp.op = 0;
                warp.waits_in_tile = 0;
                continue;
            };
            if warp.repeat < self.works[tile].repeats[warp.piece] {
                if warp.op < piece.ops.len() {
                    return;
                }
                warp.op = 0;
                warp.repeat += 1;
                continue;
            }
            warp.piece += 1;
            warp.repeat = 0;
            warp.op = 0;
        }
    }

    fn when(&mut self, w: usize, op: &Op) -> When {
        let mut at = (self.warps[w].ready, Cause::Stall);
        let mut later = |t: u64, cause: Cause| {
            if t > at.0 {
                at = (t, cause);
            }
        };
        for b in 0..6 {
            if op.wait_mask & (1 << b) != 0 {
                later(self.warps[w].boards[b], Cause::Scoreboard);
            }
        }
        match op.kind {
            Kind::Plain { .. } | Kind::LoopsEnd => {}
            Kind::Wgmma { .. } => {
                let warp = &self.warps[w];
                let queue = &warp.queue;
                if let Some(n) = queue.len().checked_sub(self.rates.wgmma_queue) {
                    later(queue[n], Cause::Wgmma);
                }
            }
            Kind::Depbar(keep) => {
                let flight = &self.warps[w].flight;
                if let Some(gone) = flight.len().checked_sub(keep + 1) {
                    later(flight[gone].0, Cause::Wgmma);
                }
            }
            Kind::Load(_) => {
                let warp = &self.warps[w];
                let tile = warp.tiles.get(warp.tile).copied()?;
                let load = self.first_load[tile] + warp.waits_in_tile;
                later(self.arrival(load)?, Cause::Load);
            }
            Kind::TurnWait => {
                let warp = &self.warps[w];
                let turn = warp.turns as usize * self.consumers + warp.group;
                later(*self.turns.get(turn)?, Cause::Turn);
            }
            Kind::TurnPass => {}
            Kind::Rendezvous => {
                // Arrives at once, passes when all have; see `arrive`.
                let meeting = self.warps[w].rendezvous as usize;
                match self.meetings.get(meeting) {
                    Some(&(arrived, time)) if arrived >= self.consumers => {
                        later(time + self.rates.barrier, Cause::Rendezvous);
                    }
                    _ => return None,
                }
            }
        }
        if op.pipe != Pipe::Tensor
            && let Some(&free) = self.units.get(&op.pipe)
        {
            later(free, Cause::Unit);
        }
        later(self.slot, Cause::Slot);
        Some(at)
    }

    fn issue(&mut self, w: usize, op: &Op, t: u64, cause: Cause) {
        let rates = self.rates;
        let lost = t.saturating_sub(self.warps[w].ready);
        if lost > 0 {
            *self.outcome.waits.entry((op.address, cause)).or_insert(0) += lost;
        }
        self.slot = t + 1;
        self.outcome.issued += 1;
        if op.pipe != Pipe::Tensor && op.busy > 1 {
            self.units.insert(op.pipe, t + op.busy);
        }
        let mut latency = 0;
        match op.kind {
            Kind::Plain { latency: l } => latency = l,
            Kind::Wgmma { cycles, commits } => {
                let start = self.tensor.max(t);
                let end = start + cycles;
                self.tensor = end;
                self.outcome.tensor += cycles;
                let warp = &mut self.warps[w];
                warp.queue.push_back(start);
                while warp.queue.len() > rates.wgmma_queue {
                    warp.queue.pop_front();
                }
                warp.last_end = end;
                // Operands are read while the product runs.
                latency = end.saturating_sub(t);
                if commits {
                    let held = std::mem::take(&mut warp.held);
                    warp.flight.push_back((end + rates.wgmma_drain, held));
                }
            }
            Kind::Depbar(keep) => {
                while self.warps[w].flight.len() > keep {
                    let Some((_, loads)) = self.warps[w].flight.pop_front() else { break };
                    for load in loads {
                        self.release(load, t);
                    }
                }
            }
            Kind::Load(class) => {
                let in_loop = self.trace.classes[class].in_loop;
                let warp = &mut self.warps[w];
                if let Some(&tile) = warp.tiles.get(warp.tile) {
                    let load = self.first_load[tile] + warp.waits_in_tile;
                    if in_loop { warp.held.push(load) } else { warp.tile_loads.push(load) }
                }
                warp.waits_in_tile += 1;
            }
            Kind::TurnWait => {
                self.warps[w].turns += 1;
                self.warps[w].has_turn = true;
            }
            // The first turn is given away before there is one to give; the model starts with it.
            Kind::TurnPass if !self.warps[w].has_turn => {}
            Kind::TurnPass => {
                self.warps[w].has_turn = false;
                self.turns.push(t + rates.barrier);
            }
            Kind::Rendezvous => self.warps[w].rendezvous += 1,
            Kind::LoopsEnd => {
                for load in std::mem::take(&mut self.warps[w].tile_loads) {
                    self.release(load, t);
                }
            }
        }
        let warp = &mut self.warps[w];
        for board in [op.write, op.read].into_iter().flatten() {
            if let Some(b) = warp.boards.get_mut(usize::from(board)) {
                *b = (*b).max(t + latency);
            }
        }
        warp.ready = t + op.stall;
        warp.op += 1;
        self.outcome.cycles = self.outcome.cycles.max(t + op.stall);
        self.settle(w);
        self.arrive(w);
    }

    fn release(&mut self, load: usize, t: u64) {
        let load = &mut self.loads[load];
        load.pending = load.pending.saturating_sub(1);
        load.released = load.released.max(t);
    }

    /// A warp whose next instruction is a meeting has arrived at it.
    fn arrive(&mut self, w: usize) {
        let Some(Op { kind: Kind::Rendezvous, .. }) = self.current(w) else { return };
        let meeting = self.warps[w].rendezvous as usize;
        if self.meetings.len() <= meeting {
            self.meetings.resize(meeting + 1, (0, 0));
        }
        let (arrived, time) = self.meetings[meeting];
        self.meetings[meeting] = (arrived + 1, time.max(self.warps[w].ready));
    }

    /// Runs to the end.
    ///
    /// # Errors
    ///
    /// All warps wait for something that never comes: the kernel synchronises in a way that the model does not know.
    pub(super) fn run(mut self) -> Result<Outcome, String> {
        if self.alternate {
            // Warpgroups that take tiles in turn do not meet.
            self.meetings.clear();
        }
        for w in 0..self.warps.len() {
            self.arrive(w);
        }
        loop {
            let mut best: Option<(u64, usize, Op, Cause)> = None;
            let mut alive = false;
            for w in 0..self.warps.len() {
                let Some(op) = self.current(w) else { continue };
                alive = true;
                let Some((t, cause)) = self.when(w, &op) else { continue };
                if best.as_ref().is_none_or(|b| t < b.0) {
                    best = Some((t, w, op, cause));
                }
            }
            match best {
                Some((t, w, op, cause)) => self.issue(w, &op, t, cause),
                None if !alive => return Ok(self.outcome),
                None => {
                    let stuck: Vec<String> = (0..self.warps.len())
                        .filter_map(|w| Some((w, self.current(w)?)))
                        .map(|(w, op)| format!("warpgroup {w} at {:?}", op.kind))
                        .collect();
                    return Err(format!(
                        "all warps wait ({}): the kernel synchronises in a way that the model does not know",
                        stuck.join(", ")
                    ));
                }
            }
        }
    }
}
