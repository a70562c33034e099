//! One run of a model, a verdict per kernel.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use zeroforge_compiler::reference::Verdict;
use zeroforge_emulator::{Checks, Finding, Schedule};
use zeroforge_runtime::{Model, Tensor};

use crate::machine::{Machine, Outcome, StepChecks, Stray};
use crate::{VerifyError, inputs};

/// Findings of a kernel that are kept; more are counted.
const MAX_FINDINGS: usize = 20;

/// Which steps of a kernel are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Steps {
    /// All of them.
    #[default]
    All,
    /// The first of each kernel.
    First,
}

/// What to verify and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Sizes by name; others are near 16.
    pub sizes: Vec<(String, i64)>,
    /// Inputs by name; others are random.
    pub inputs: Vec<(String, Tensor)>,
    /// Of random inputs.
    pub seed: u64,
    /// The order of asynchronous work.
    pub schedule: Schedule,
    /// Only kernels whose entry or description contains this.
    pub kernel: Option<String>,
    /// Which steps of a kernel are checked.
    pub steps: Steps,
    /// SMs of the emulated card; 132 if not given. Blocks of persistent kernels take more tiles each, the
    /// fewer there are.
    pub sms: Option<u32>,
    /// Host threads; 0 for all cores.
    pub threads: usize,
    /// Files with weights that the artifact does not hold.
    pub weights: Vec<PathBuf>,
}

/// What was found out about a kernel.
#[derive(Clone, Debug, Default)]
pub struct KernelResult {
    /// Its entry.
    pub entry: String,
    /// What it computes, for people.
    pub doc: String,
    /// Steps of this run that launch it.
    pub steps: usize,
    /// Those that were checked.
    pub checked: usize,
    /// What the checkers found; the first of each step.
    pub findings: Vec<Finding>,
    /// Findings that are not kept.
    pub dropped: u64,
    /// Error findings, kept or not.
    pub errors: u64,
    /// What its results are worth.
    pub verdict: Verdict,
    /// Bytes that it changed and must not.
    pub strays: Vec<Stray>,
    /// Warp instructions executed.
    pub warp_instructions: u64,
    /// Lane instructions executed.
    pub lane_instructions: u64,
    /// Time on the host, reference included.
    pub time: Duration,
}

impl KernelResult {
    /// Whether nothing is wrong with it.
    pub fn passed(&self) -> bool {
        self.errors == 0 && self.verdict.passed() && self.strays.is_empty()
    }
}

/// What was found out about an artifact.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Kernels that were checked, in the order of the program.
    pub kernels: Vec<KernelResult>,
    /// Sizes of the run, by name.
    pub sizes: Vec<(String, i64)>,
    /// Steps executed.
    pub steps: usize,
    /// Time in all.
    pub time: Duration,
}

impl Summary {
    /// Whether nothing is wrong.
    pub fn passed(&self) -> bool {
        self.kernels.iter().all(KernelResult::passed)
    }
}

/// Progress of a run.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// Modules and weights are on the emulated card.
    Loaded,
    /// A step is done: steps done, and all.
    Step(usize, usize),
}

/// Runs a model once on the emulator and compares every kernel with its reference.
pub fn verify(
    model: &Model,
    options: &Options,
    progress: &mut dyn FnMut(Event),
) -> Result<Summary, VerifyError> {
    let start = Instant::now();
    let mut machine = Machine::emulator(model, &options.weights)?;
    if let Some(sms) = options.sms {
        machine.set_sms(sms);
    }
    let program = machine.program();
    let mut results: Vec<KernelResult> = program
        .kernels
        .iter()
        .map(|k| KernelResult {
            entry: k.entry.clone(),
            doc: k.doc.clone(),
            ..KernelResult::default()
        })
        .collect();
    let wanted: Vec<bool> = program
        .kernels
        .iter()
        .map(|k| match &options.kernel {
            Some(name) => k.entry.contains(name) || k.doc.contains(name),
            None => true,
        })
        .collect();
    if let (Some(name), false) = (&options.kernel, wanted.contains(&true)) {
        let known: Vec<&str> = program.kernels.iter().map(|k| k.entry.as_str()).collect();
        return Err(VerifyError::NoKernel { name: name.clone(), known: known.join(", ") });
    }
    let names: Vec<String> = program.symbols.iter().map(|s| s.name.clone()).collect();
    let (sizes, inputs) = inputs::choose(&machine, &options.sizes, &options.inputs, options.seed)?;
    progress(Event::Loaded);

    // The steps that are checked; nothing after the last of them is executed.
    let (_, bound) = machine.bind(inputs.clone())?;
    let mut seen = vec![false; wanted.len()];
    let mut checked = vec![false; machine.program().steps.len()];
    let mut last = 0;
    for step in &bound.steps {
        results[step.kernel].steps += 1;
        let first = !std::mem::replace(&mut seen[step.kernel], true);
        if wanted[step.kernel] && (first || options.steps == Steps::All) {
            checked[step.step] = true;
            last = step.step;
        }
    }
    let total = bound.steps.iter().filter(|s| s.step <= last).count();

    let mut done = 0;
    let mut clock = Instant::now();
    let mut checks = |step: usize, _: usize| {
        let reference = checked[step];
        StepChecks {
            reference,
            options: zeroforge_emulator::Options {
                checks: if reference { Checks::ALL } else { Checks::NONE },
                schedule: options.schedule,
                threads: options.threads,
                ..zeroforge_emulator::Options::default()
            },
        }
    };
    let mut after = |outcome: Outcome| {
        done += 1;
        let end = outcome.step >= last;
        results[outcome.kernel].time += clock.elapsed();
        clock = Instant::now();
        take(&mut results[outcome.kernel], outcome);
        progress(Event::Step(done, total));
        if end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    machine.call(inputs, &mut checks, &mut after)?;
    results.retain(|r| r.checked > 0);
    Ok(Summary {
        kernels: results,
        sizes: names.into_iter().zip(sizes).collect(),
        steps: done,
        time: start.elapsed(),
    })
}

fn take(result: &mut KernelResult, outcome: Outcome) {
    let errors = outcome.report.errors().count() as u64;
    result.errors += errors;
    result.dropped += outcome.report.dropped;
    result.warp_instructions += outcome.report.warp_instructions;
    result.lane_instructions += outcome.report.lane_instructions;
    for finding in outcome.report.findings {
        let same = |f: &&mut Finding| f.kind == finding.kind && f.party.at == finding.party.at;
        if let Some(known) = result.findings.iter_mut().find(same) {
            known.count += finding.count;
        } else if result.findings.len() < MAX_FINDINGS {
            result.findings.push(finding);
        } else {
            result.dropped += 1;
        }
    }
    if let Some(verdict) = outcome.verdict {
        result.checked += 1;
        result.verdict.merge(verdict);
    }
    result.strays.extend(outcome.strays);
}
