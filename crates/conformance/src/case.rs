//! A case, what running it gave, and running many.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use zeroforge_emulator::{Options, Report, Schedule};

use crate::bench::{Bench, BenchError};
use crate::card::Card;
use crate::verdict::Verdict;

/// One computation with its inputs: drawn or listed.
pub trait Case: Sync {
    /// What it is, with what a reader needs to find it again.
    fn name(&self) -> String;

    /// Puts the inputs on a card that is empty, launches, judges. `options` are the emulator's.
    ///
    /// # Errors
    /// If it cannot be run at all.
    fn run(&self, bench: &Bench, card: &mut Card, options: &Options)
    -> Result<Outcome, BenchError>;
}

/// What running a case gave.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What the emulator's checkers found, one report a launch; none from a GPU.
    pub reports: Vec<Report>,
    /// Every result that was judged.
    pub results: Vec<Judged>,
    /// What else is wrong: bytes changed that must not be.
    pub faults: Vec<String>,
}

/// One result of a case.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Its name: `o`, `lse`.
    pub name: String,
    /// Against the exact and the naive result.
    pub verdict: Verdict,
    /// The bytes that the card gave.
    pub bytes: Vec<u8>,
}

impl Outcome {
    /// Why the case fails, one line each; empty if it passes.
    pub fn failures(&self) -> Vec<String> {
        let findings = self.reports.iter().flat_map(Report::errors).map(ToString::to_string);
        let wrong = self.results.iter().filter(|r| !r.verdict.passes());
        let wrong = wrong.map(|r| format!("`{}`: {:?}", r.name, r.verdict));
        findings.chain(self.faults.iter().cloned()).chain(wrong).collect()
    }
}

/// The schedule of a case by its number: late, eager and random ones in turn.
pub fn schedule(index: usize) -> Schedule {
    match index % 3 {
        0 => Schedule::Late,
        1 => Schedule::Eager,
        _ => Schedule::Random(index as u64),
    }
}

/// Runs cases on emulated cards, two at a time, each under its [`schedule`]; `sms` by case number. Returns the
/// failures, in the cases' order.
pub fn run_on_emulator(
    bench: &Bench,
    cases: &[&dyn Case],
    sms: &(dyn Fn(usize) -> u32 + Sync),
) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let failures: Mutex<Vec<(usize, String)>> = Mutex::default();
    let worker = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(i) else { return };
            let options = Options { schedule: schedule(i), threads: 1, ..Options::default() };
            let found = match case.run(bench, &mut Card::new(sms(i)), &options) {
                Ok(outcome) => outcome.failures(),
                Err(e) => vec![e.to_string()],
            };
            if !found.is_empty() {
                let text = format!(
                    "case {i}, {:?}, {} SMs: {}\n  {}",
                    options.schedule,
                    sms(i),
                    case.name(),
                    found.join("\n  ")
                );
                failures.lock().unwrap_or_else(PoisonError::into_inner).push((i, text));
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(worker);
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort();
    failures.into_iter().map(|f| f.1).collect()
}
