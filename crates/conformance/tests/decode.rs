//! Decode attention on the emulator: all checkers on, late, eager and random schedules in turn.

use zeroforge_conformance::bench::Bench;
use zeroforge_conformance::case::{Case, run_on_emulator};
use zeroforge_conformance::decode::{DecodeCase, drawn, listed};

fn bench() -> Bench {
    Bench::open().expect("a compiler: `zeroforge toolchain install`")
}

fn sms(case: usize) -> u32 {
    if case.is_multiple_of(2) { 132 } else { 60 }
}

fn run(cases: &[DecodeCase]) {
    let cases: Vec<&dyn Case> = cases.iter().map(|c| c as &dyn Case).collect();
    let failures = run_on_emulator(&bench(), &cases, &sms);
    assert!(
        failures.is_empty(),
        "{} of {} fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// `ZEROFORGE_DECODE_CASE` runs one drawn case alone.
#[test]
fn drawn_cases_are_right() {
    match std::env::var("ZEROFORGE_DECODE_CASE").ok().and_then(|s| s.parse().ok()) {
        Some(seed) => run(&[drawn(seed)]),
        None => run(&(0..240).map(drawn).collect::<Vec<_>>()),
    }
}

#[test]
fn listed_cases_are_right() {
    run(&listed());
}
