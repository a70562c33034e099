//! The instances that are run, and their cases.

use zeroforge_artifact::DType;
use zeroforge_kernels::attention::{Element, Forward, Lengths, Mask};

use super::{AttentionCase, Values};

/// Drawn cases per instance.
const DRAWN: u64 = 11;

fn causal(element: Element, head_dim: u32, value_dim: u32) -> Forward {
    Forward { window_right: true, ..Forward::dense(element, head_dim, value_dim) }
}

/// bf16 without a mask, with sums.
pub fn full(d: u32) -> Forward {
    Forward { lse: true, ..Forward::dense(Element::Bf16, d, d) }
}

/// The same, causal.
pub fn hidden(d: u32) -> Forward {
    Forward { lse: true, ..causal(Element::Bf16, d, d) }
}

/// Head dimensions and types.
pub fn dimensions() -> Vec<Forward> {
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
    specs
}

/// What hides keys, and what changes scores.
pub fn scores() -> Vec<Forward> {
    vec![
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
    ]
}

/// Lengths in memory, and heads that share a tile.
pub fn lengths() -> Vec<Forward> {
    let (used, ragged) = (Lengths::Used, Lengths::Ragged);
    vec![
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
    ]
}

/// 8-bit floats.
pub fn fp8() -> Vec<Forward> {
    let full = |d| Forward { lse: true, ..Forward::dense(Element::E4m3, d, d) };
    let hidden = |d| Forward { lse: true, ..causal(Element::E4m3, d, d) };
    let (used, ragged) = (Lengths::Used, Lengths::Ragged);
    vec![
        full(64),
        hidden(64),
        full(128),
        hidden(128),
        full(256),
        Forward { keys: ragged, queries: ragged, ..hidden(128) },
        Forward { keys: used, ..full(64) },
        Forward { softcap: true, sinks: true, window_left: true, pack: 4, ..hidden(64) },
    ]
}

/// Lengths at the edges of tiles, by hand.
pub fn listed() -> Vec<AttentionCase> {
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
    cases
}

/// Draws for every instance, from a seed on.
pub fn draw(from: u64, specs: &[Forward]) -> Vec<AttentionCase> {
    let numbered = specs.iter().enumerate();
    numbered
        .flat_map(|(i, spec)| (0..DRAWN).map(move |n| (spec, from + i as u64 * DRAWN + n)))
        .map(|(spec, seed)| AttentionCase::drawn(spec, seed))
        .collect()
}

/// All of them. Seeds start at different numbers in every group.
pub fn cases() -> Vec<AttentionCase> {
    let groups = [dimensions(), scores(), lengths(), fp8()];
    let drawn = groups.iter().zip(1..).flat_map(|(specs, i)| draw(i * 1_000_000, specs));
    listed().into_iter().chain(drawn).collect()
}
