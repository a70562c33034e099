//! Attention on the emulator: every variant and feature, all checkers on, late, eager and random schedules.

use zeroforge_artifact::DType;
use zeroforge_conformance::attention::{AttentionCase, Values};
use zeroforge_conformance::bench::Bench;
use zeroforge_conformance::case::{Case, run_on_emulator};
use zeroforge_kernels::attention::{Element, Forward, Lengths, Mask};

/// Drawn cases per instance.
const CASES: u64 = 11;

fn causal(element: Element, head_dim: u32, value_dim: u32) -> Forward {
    Forward { window_right: true, ..Forward::dense(element, head_dim, value_dim) }
}

fn full(d: u32) -> Forward {
    Forward { lse: true, ..Forward::dense(Element::Bf16, d, d) }
}

fn hidden(d: u32) -> Forward {
    Forward { lse: true, ..causal(Element::Bf16, d, d) }
}

fn run(cases: &[AttentionCase]) -> Vec<String> {
    let bench = Bench::open().expect("a compiler: `zeroforge toolchain install`");
    let cases: Vec<&dyn Case> = cases.iter().map(|c| c as &dyn Case).collect();
    run_on_emulator(&bench, &cases, &|i| 1 + i as u32 % 4)
}

fn assert_none(failures: &[String]) {
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Lengths at the edges of tiles, by hand.
#[test]
fn listed_cases() {
    let mut cases = Vec::new();
    for (queries, keys) in [
        (1, 1),
        (1, 129),
        (64, 128),
        (65, 127),
        (192, 128),
        (193, 129),
        (300, 1),
        (5, 0),
        (128, 400),
    ] {
        cases.push(AttentionCase::fixed(full(64), 1, 2, 1, queries, keys, 1));
        cases.push(AttentionCase::fixed(hidden(64), 1, 2, 2, queries, keys, 2));
        cases.push(AttentionCase::fixed(hidden(128), 1, 1, 1, queries, keys, 3));
    }
    // Many tiles for few blocks: every slot of every ring is used again.
    let mut long = AttentionCase::fixed(hidden(64), 2, 2, 1, 520, 700, 4);
    long.values = Values::Growing;
    cases.push(long);
    assert_none(&run(&cases));
}

/// Draws for every instance; seeds start at different numbers in every test.
fn draw(from: u64, specs: &[Forward]) {
    let cases: Vec<AttentionCase> = specs
        .iter()
        .enumerate()
        .flat_map(|(i, spec)| (0..CASES).map(move |n| (spec, from + i as u64 * CASES + n)))
        .map(|(spec, seed)| AttentionCase::drawn(spec, seed))
        .collect();
    assert_none(&run(&cases));
}

/// Head dimensions and types.
#[test]
fn drawn_dimensions() {
    let mut specs = Vec::new();
    for (head, value) in
        [(64, 64), (80, 80), (96, 96), (128, 128), (192, 192), (192, 128), (256, 256), (40, 72)]
    {
        specs.push(Forward { lse: true, ..Forward::dense(Element::Bf16, head, value) });
        specs.push(Forward { lse: true, ..causal(Element::Bf16, head, value) });
    }
    for head in [64, 128] {
        specs.push(Forward::dense(Element::F16, head, head));
        specs.push(causal(Element::F16, head, head));
    }
    draw(1_000_000, &specs);
}

/// What hides keys, and what changes scores.
#[test]
fn drawn_scores() {
    draw(
        2_000_000,
        &[
            Forward { window_left: true, window_right: true, ..full(64) },
            Forward { window_left: true, ..hidden(128) },
            Forward { window_left: true, ..full(128) },
            Forward { prefix: true, ..hidden(64) },
            Forward { chunk: true, ..hidden(64) },
            Forward { chunk: true, ..full(128) },
            Forward { chunk: true, window_left: true, ..hidden(64) },
            Forward { mask: Mask::Bool, ..full(64) },
            Forward { mask: Mask::Bool, ..hidden(128) },
            Forward { mask: Mask::Additive(DType::Bf16), ..full(128) },
            Forward { mask: Mask::Additive(DType::F32), ..hidden(64) },
            Forward { mask: Mask::Additive(DType::F16), ..Forward::dense(Element::F16, 64, 64) },
            Forward { slopes: true, ..hidden(64) },
            Forward { slopes: true, ..full(128) },
            Forward { softcap: true, ..full(64) },
            Forward { softcap: true, ..hidden(128) },
            Forward { softcap: true, window_left: true, ..hidden(256) },
            Forward { sinks: true, ..full(64) },
            Forward { sinks: true, window_left: true, ..hidden(64) },
            Forward { sinks: true, mask: Mask::Bool, softcap: true, slopes: true, ..hidden(64) },
        ],
    );
}

/// Lengths in memory, and heads that share a tile.
#[test]
fn drawn_lengths() {
    let (used, ragged) = (Lengths::Used, Lengths::Ragged);
    draw(
        3_000_000,
        &[
            Forward { keys: used, ..full(64) },
            Forward { keys: used, queries: used, ..hidden(128) },
            Forward { keys: ragged, queries: ragged, ..full(128) },
            Forward { keys: ragged, queries: ragged, ..hidden(64) },
            Forward { keys: ragged, queries: ragged, window_left: true, ..hidden(128) },
            Forward { keys: ragged, queries: ragged, slopes: true, sinks: true, ..hidden(64) },
            Forward { keys: used, queries: ragged, ..hidden(64) },
            Forward { keys: ragged, ..full(64) },
            Forward { pack: 4, ..full(128) },
            Forward { pack: 8, ..hidden(64) },
            Forward { pack: 2, keys: ragged, queries: ragged, ..hidden(64) },
            Forward { pack: 16, keys: used, mask: Mask::Bool, ..full(128) },
            Forward { pack: 8, sinks: true, window_left: true, slopes: true, ..hidden(64) },
        ],
    );
}

/// 8-bit floats.
#[test]
fn drawn_fp8() {
    let full = |d| Forward { lse: true, ..Forward::dense(Element::E4m3, d, d) };
    let hidden = |d| Forward { lse: true, ..causal(Element::E4m3, d, d) };
    let (used, ragged) = (Lengths::Used, Lengths::Ragged);
    draw(
        4_000_000,
        &[
            full(64),
            hidden(64),
            full(128),
            hidden(128),
            full(256),
            Forward { keys: ragged, queries: ragged, ..hidden(128) },
            Forward { keys: used, ..full(64) },
            Forward { softcap: true, sinks: true, window_left: true, pack: 4, ..hidden(64) },
        ],
    );
}
