//! A cluster: its blocks' warps take turns until all have exited or nothing can go on.

use crate::check::clock::Clock;
use crate::machine::context::{ClusterState, Cx, Env, Findings, Random, Who};
use crate::machine::cta::Cta;
use crate::machine::warp::{Wait, Warp};
use crate::ops::registers::RegisterPool;
use crate::options::Schedule;
use crate::program::inst::{NO_GUARD, Step};
use crate::report::FindingKind;

/// Instructions that a warp runs before the next one's turn.
const QUANTUM: u32 = 4096;
/// Turns of all warps without any event after which pending asynchronous work completes although warps
/// can run: they may be polling for it.
const POLLING_ROUNDS: u32 = 4;

/// How a turn of all warps ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// All warps have exited and all work is complete.
    Done,
    /// Something ran.
    Progress,
    /// Nothing can run and nothing is under way.
    Stuck,
    /// A trap, or the budget is used up.
    Stopped,
}

/// A cluster that runs.
pub(crate) struct Cluster {
    pub(crate) state: ClusterState,
    pub(crate) warps: Vec<Warp>,
    /// Instructions that may still run.
    budget: u64,
    quiet_rounds: u32,
    last_events: u64,
}

impl Cluster {
    /// The cluster of an index, blocks in the order of their ranks.
    pub(crate) fn new(env: &Env<'_>, index: u64) -> Cluster {
        let [cx, cy, cz] = env.config.cluster;
        let grid = env.config.grid;
        let clusters = [grid[0] / cx, grid[1] / cy, grid[2] / cz];
        let id = unlinear(index, clusters);
        let size = cx * cy * cz;
        let threads = env.config.block.iter().product::<u32>();
        let warps_per_cta = threads.div_ceil(32);
        let shared = env.kernel.shared_bytes(env.config.dynamic_shared);
        let mut ctas = Vec::with_capacity(size as usize);
        let mut warps = Vec::with_capacity((size * warps_per_cta) as usize);
        for rank in 0..size {
            let within = unlinear(u64::from(rank), [cx, cy, cz]);
            let cta_id = std::array::from_fn(|i| id[i] * env.config.cluster[i] + within[i]);
            let mut cta = Cta::new(cta_id, rank, threads, shared);
            cta.registers = RegisterPool::new(env.kernel, env.config, env.device);
            ctas.push(cta);
            for w in 0..warps_per_cta {
                let actor = rank * warps_per_cta + w;
                warps.push(Warp::new(env.kernel, env.config.block, rank, w, actor));
            }
        }
        let seed = match env.options.schedule {
            Schedule::Random(seed) => seed ^ index.wrapping_mul(0x2545_f491_4f6c_dd1d),
            _ => index,
        };
        let state = ClusterState {
            id,
            barrier: Default::default(),
            pending: Default::default(),
            findings: Findings::default(),
            race: crate::check::race::RaceState::new(env, &ctas, warps.len() as u32),
            random: Random::new(seed),
            printed: String::new(),
            wgmmas: 0,
            events: 0,
            ctas,
        };
        let budget = env.options.instruction_budget;
        Cluster { state, warps, budget, quiet_rounds: 0, last_events: 0 }
    }

    /// Instructions that may still run.
    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    /// Runs to the end; how it ended.
    pub(crate) fn run(&mut self, env: &Env<'_>) -> Turn {
        loop {
            match self.turn(env) {
                Turn::Progress => {}
                Turn::Stuck => {
                    self.report_deadlock(env);
                    return Turn::Stuck;
                }
                end @ (Turn::Done | Turn::Stopped) => return end,
            }
        }
    }

    /// Gives every warp one turn.
    pub(crate) fn turn(&mut self, env: &Env<'_>) -> Turn {
        let random = matches!(env.options.schedule, Schedule::Random(_));
        let mut progress = false;
        let count = self.warps.len();
        let start = if random { self.state.random.below(count) } else { 0 };
        for i in 0..count {
            let warp = &mut self.warps[(start + i) % count];
            if warp.is_done() {
                continue;
            }
            wake(warp, &self.state);
            if (warp.active == 0 || warp.wait.is_some()) && !warp.switch(false) {
                continue;
            }
            let quantum = match random {
                true => 1 + self.state.random.below(64) as u32,
                false => QUANTUM,
            };
            progress = true;
            let before = warp.executed;
            let go_on = run_warp(warp, &mut self.state, env, quantum);
            self.budget = self.budget.saturating_sub(warp.executed - before);
            if !go_on {
                return Turn::Stopped;
            }
            if self.budget == 0 {
                self.report_budget(env);
                return Turn::Stopped;
            }
            if random && self.state.random.below(4) == 0 {
                crate::ops::pending::complete_one(&mut self.state, env);
            }
        }
        if progress {
            let events = self.state.events;
            self.quiet_rounds = if events == self.last_events { self.quiet_rounds + 1 } else { 0 };
            self.last_events = events;
            if self.quiet_rounds >= POLLING_ROUNDS {
                self.quiet_rounds = 0;
                crate::ops::pending::complete_one(&mut self.state, env);
            }
            return Turn::Progress;
        }
        if crate::ops::pending::complete_one(&mut self.state, env) {
            return Turn::Progress;
        }
        if self.warps.iter().all(Warp::is_done) {
            crate::ops::mbarrier_state::at_exit(&mut self.state, env);
            return Turn::Done;
        }
        Turn::Stuck
    }

    /// Says that the instruction budget is used up, and where a warp stands.
    pub(crate) fn report_budget(&mut self, env: &Env<'_>) {
        let Some(warp) = self.warps.iter().find(|w| !w.is_done()).or(self.warps.first()) else {
            return;
        };
        let who = Who::of(warp, self.state.ctas[warp.rank as usize].id, warp.active);
        let budget = env.options.instruction_budget;
        self.state.findings.add(FindingKind::Endless, who, None, None, || {
            format!(
                "the launch ran {budget} warp instructions and did not end; raise the instruction budget if it is meant to run longer"
            )
        });
    }

    /// Says where every warp stands and what it waits for, and in what state the barriers are.
    pub(crate) fn report_deadlock(&mut self, env: &Env<'_>) {
        crate::ops::mbarrier_state::report_stuck(&mut self.state, env);
        // Warps of a block that wait for the same at the same place are told together.
        let mut places: Vec<(Who, Option<Wait>, Vec<u32>)> = Vec::new();
        for warp in self.warps.iter().filter(|w| !w.is_done()) {
            let cta = &self.state.ctas[warp.rank as usize];
            for f in warp.all_fragments() {
                // A warp that waits at a named barrier stands behind it already, except for `red`.
                let behind = matches!(f.wait, Some(Wait::Named { .. })) && warp.reducing.is_none();
                let pc = f.pc - u32::from(behind && f.pc > 0);
                let who = Who { cta: cta.id, warp: warp.index, lanes: f.mask, pc };
                let known = places.iter_mut().find(|(w, wait, _)| {
                    (w.cta, w.lanes, w.pc) == (who.cta, who.lanes, who.pc) && *wait == f.wait
                });
                match known {
                    Some((_, _, warps)) => warps.push(warp.index),
                    None => places.push((who, f.wait, vec![warp.index])),
                }
            }
        }
        let Some(&(who, ..)) = places.first() else { return };
        let other = places.iter().map(|(w, ..)| *w).find(|w| w.pc != who.pc);
        let lanes_only = places.iter().all(|(_, wait, _)| *wait == Some(Wait::Lanes));
        let kind = if lanes_only { FindingKind::Divergence } else { FindingKind::Deadlock };
        let mut lines: Vec<String> = Vec::new();
        for (who, wait, warps) in &places {
            let cta = self.state.ctas.iter().find(|c| c.id == who.cta);
            let wait = wait.zip(cta).map_or_else(|| "can run".to_owned(), |(w, c)| describe(w, c));
            let more = match &warps[1..] {
                [] => String::new(),
                rest => format!(" (and warps {})", list(rest.iter().copied())),
            };
            lines.push(format!("{}{more} waits for {wait}", env.kernel.party(*who)));
        }
        for cta in &self.state.ctas {
            for (number, b) in cta.named.iter().enumerate().filter(|(_, b)| b.arrived > 0) {
                let [x, y, z] = cta.id;
                lines.push(format!(
                    "named barrier {number} of block ({x}, {y}, {z}): {} of {} threads came, of warps {}",
                    b.arrived,
                    b.expected,
                    list((0..64).filter(|w| b.warps >> w & 1 != 0))
                ));
            }
        }
        let barriers = crate::ops::mbarrier::describe_all(&self.state, env);
        self.state.findings.add(kind, who, other, None, || {
            let head = match kind {
                FindingKind::Divergence => "lanes of a warp wait for others that will never come",
                _ => "every warp waits for what nobody will do",
            };
            format!("{head}:\n    {}{barriers}", lines.join("\n    "))
        });
    }
}

/// Numbers for people.
fn list(numbers: impl Iterator<Item = u32>) -> String {
    numbers.map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
}

fn describe(wait: Wait, cta: &Cta) -> String {
    match wait {
        Wait::Lanes => "other lanes of its warp at this instruction".to_owned(),
        Wait::Named { barrier, .. } => {
            let b = &cta.named[barrier as usize];
            format!("named barrier {barrier}, which has {} of {} threads", b.arrived, b.expected)
        }
        Wait::Mbarrier { offset, parity } => {
            format!("the mbarrier at shared offset {offset:#x}, phase of parity {parity}")
        }
        Wait::Cluster { .. } => "the cluster barrier".to_owned(),
        Wait::Warpgroup { index, group } => format!(
            "the other warps of warpgroup {index} to start the wgmmas up to group {group} and wait for them"
        ),
        Wait::Registers { count } => format!("{count} registers that setmaxnreg asked for"),
    }
}

/// Index of a linear position in a box, x fastest.
pub(crate) fn unlinear(index: u64, size: [u32; 3]) -> [u32; 3] {
    let [x, y] = [u64::from(size[0]), u64::from(size[1])];
    [(index % x) as u32, (index / x % y) as u32, (index / (x * y)) as u32]
}

/// Whether what a fragment waits for has come.
fn is_over(wait: Wait, rank: u32, state: &ClusterState) -> bool {
    let cta = &state.ctas[rank as usize];
    match wait {
        Wait::Lanes => false,
        Wait::Named { barrier, generation } => cta.named[barrier as usize].generation != generation,
        Wait::Mbarrier { offset, parity } => {
            crate::ops::mbarrier::phase_is_over(cta, offset, parity)
        }
        Wait::Cluster { generation } => state.barrier.generation != generation,
        Wait::Warpgroup { index, group } => cta.warpgroups[index as usize].all_waited(group),
        Wait::Registers { count } => cta.registers.free >= count,
    }
}

/// Ends the waits of a warp's fragments that are over.
fn wake(warp: &mut Warp, state: &ClusterState) {
    if let Some(wait) = warp.wait.filter(|&w| is_over(w, warp.rank, state)) {
        finish(wait, warp.rank, &mut warp.clock, state);
        warp.wait = None;
    }
    for i in 0..warp.fragments.len() {
        if let Some(wait) = warp.fragments[i].wait.filter(|&w| is_over(w, warp.rank, state)) {
            finish(wait, warp.rank, &mut warp.clock, state);
            warp.fragments[i].wait = None;
        }
    }
}

/// What a warp learns when a wait ends. An mbarrier's wait is executed again and learns by itself.
fn finish(wait: Wait, rank: u32, clock: &mut Clock, state: &ClusterState) {
    match wait {
        Wait::Named { barrier, .. } => {
            clock.acquire(&state.ctas[rank as usize].named[barrier as usize].released);
        }
        Wait::Cluster { .. } => clock.acquire(&state.barrier.released),
        Wait::Lanes | Wait::Mbarrier { .. } | Wait::Warpgroup { .. } | Wait::Registers { .. } => {}
    }
}

/// Runs a warp until its turn ends. False if the launch must stop.
fn run_warp(warp: &mut Warp, state: &mut ClusterState, env: &Env<'_>, quantum: u32) -> bool {
    let rank = warp.rank;
    let mut cx = Cx { env, cluster: state, rank };
    let code = &env.kernel.code[..];
    let mut left = quantum;
    while left > 0 {
        if warp.must_reconverge() {
            warp.reconverge();
        }
        let Some(inst) = code.get(warp.pc as usize) else {
            // Behind the last instruction: as `exit` (a kernel without one at its end).
            crate::ops::control::exit_lanes(warp, &mut cx, warp.active);
            if !warp.switch(false) {
                return true;
            }
            continue;
        };
        left -= 1;
        let mut mask = warp.active;
        if inst.guard != NO_GUARD {
            let p = warp.p[inst.guard as usize];
            mask &= if inst.guard_negated { !p } else { p };
        }
        warp.mask = mask;
        warp.executed += 1;
        warp.lanes_executed += u64::from(mask.count_ones());
        if let Some(tracked) = &inst.tracked {
            crate::check::register::check(tracked, warp, &mut cx);
        }
        if mask == 0 && !inst.always {
            warp.pc += 1;
            continue;
        }
        if let Some(touch) = &inst.wgmma {
            crate::ops::wgmma::watch::touch(touch, warp, &mut cx);
        }
        match (inst.exec)(inst, warp, &mut cx) {
            Step::Next => warp.pc += 1,
            Step::Moved => {
                if warp.active == 0 && !warp.switch(false) {
                    return true;
                }
            }
            Step::Wait => {
                if !warp.switch(false) {
                    return true;
                }
            }
            Step::Stop => return false,
        }
    }
    if !warp.fragments.is_empty() {
        warp.switch(true);
    }
    true
}
