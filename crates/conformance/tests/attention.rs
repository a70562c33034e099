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

/// Every instance that is run: each head dimension and type, and each feature alone and with what it meets in models.
fn specs() -> Vec<Forward> {
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
    let full = |d| Forward { lse: true, ..Forward::dense(Element::Bf16, d, d) };
    let hidden = |d| Forward { lse: true, ..causal(Element::Bf16, d, d) };
    let (used, ragged) = (Lengths::Used, Lengths::Ragged);
    specs.extend([
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
    ]);
    let fp8 = |d| Forward { lse: true, ..Forward::dense(Element::E4m3, d, d) };
    let fp8_hidden = |d| Forward { lse: true, ..causal(Element::E4m3, d, d) };
    specs.extend([
        fp8(64),
        fp8_hidden(64),
        fp8(128),
        fp8_hidden(128),
        fp8(256),
        Forward { keys: ragged, queries: ragged, ..fp8_hidden(128) },
        Forward { keys: used, ..fp8(64) },
        Forward { softcap: true, sinks: true, window_left: true, pack: 4, ..fp8_hidden(64) },
    ]);
    specs
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
    let bf16 = |d| Forward { lse: true, ..Forward::dense(Element::Bf16, d, d) };
    let hidden = |d| Forward { lse: true, ..causal(Element::Bf16, d, d) };
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
        cases.push(AttentionCase::fixed(bf16(64), 1, 2, 1, queries, keys, 1));
        cases.push(AttentionCase::fixed(hidden(64), 1, 2, 2, queries, keys, 2));
        cases.push(AttentionCase::fixed(hidden(128), 1, 1, 1, queries, keys, 3));
    }
    // Many tiles for few blocks: every slot of every ring is used again.
    let mut long = AttentionCase::fixed(hidden(64), 2, 2, 1, 520, 700, 4);
    long.values = Values::Growing;
    cases.push(long);
    assert_none(&run(&cases));
}

#[test]
fn drawn_cases() {
    let cases: Vec<AttentionCase> = specs()
        .iter()
        .enumerate()
        .flat_map(|(i, spec)| {
            (0..CASES).map(move |n| AttentionCase::drawn(spec, i as u64 * 1000 + n))
        })
        .collect();
    assert!(cases.len() >= 580, "{} cases", cases.len());
    assert_none(&run(&cases));
}
