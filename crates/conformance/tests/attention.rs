//! Attention on the emulator: every variant and feature, all checkers on, late, eager and random schedules.

use zeroforge_artifact::DType;
use zeroforge_conformance::attention::{AttentionCase, Values};
use zeroforge_conformance::bench::Bench;
use zeroforge_conformance::case::{Case, run_on_emulator};
use zeroforge_kernels::attention::{Element, Forward, Lengths, Mask};

fn run(cases: &[AttentionCase]) -> Vec<String> {
    let bench = Bench::open().expect("a compiler: `zeroforge toolchain install`");
    let cases: Vec<&dyn Case> = cases.iter().map(|c| c as &dyn Case).collect();
    run_on_emulator(&bench, &cases, &|i| 1 + i as u32 % 4)
}

fn assert_none(failures: &[String]) {
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn listed_cases() {
    assert_none(&run(&cases::listed()));
}

/// Head dimensions and types.
#[test]
fn drawn_dimensions() {
    assert_none(&run(&cases::draw(1_000_000, &cases::dimensions())));
}

/// What hides keys, and what changes scores.
#[test]
fn drawn_scores() {
    assert_none(&run(&cases::draw(2_000_000, &cases::scores())));
}

/// Lengths in memory, and heads that share a tile.
#[test]
fn drawn_lengths() {
    assert_none(&run(&cases::draw(3_000_000, &cases::lengths())));
}

/// 8-bit floats.
#[test]
fn drawn_fp8() {
    assert_none(&run(&cases::draw(4_000_000, &cases::fp8())));
}
