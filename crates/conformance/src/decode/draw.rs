//! Cases: listed and drawn.

use zeroforge_artifact::DType;
use zeroforge_kernels::decode::{CacheType, Copies, DecodeSpec, Rotary};

use super::DecodeCase;
use crate::random::Random;

const PLAIN: DecodeSpec = DecodeSpec {
    dtype: DType::Bf16,
    cache: CacheType::Same,
    head_dim: 128,
    value_dim: 128,
    latent: false,
    paged: false,
    softcap: false,
    alibi: false,
    rotary: None,
    copies: Copies::Threads,
};

const fn heads(dtype: DType, head_dim: u32, value_dim: u32) -> DecodeSpec {
    DecodeSpec { dtype, head_dim, value_dim, ..PLAIN }
}

const LATENT: DecodeSpec =
    DecodeSpec { head_dim: 576, value_dim: 512, latent: true, paged: true, ..PLAIN };

/// Which of a single and of several splits a specification is drawn with: what is compiled for the cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splits {
    /// One.
    One,
    /// Several.
    Several,
    /// Either.
    Any,
}

/// The specifications that cases are drawn for.
pub const SPECS: &[(DecodeSpec, Splits)] = &[
    (PLAIN, Splits::Any),
    (DecodeSpec { paged: true, ..PLAIN }, Splits::Any),
    (heads(DType::F16, 64, 64), Splits::Any),
    (DecodeSpec { paged: true, alibi: true, ..heads(DType::Bf16, 80, 80) }, Splits::Several),
    (DecodeSpec { softcap: true, ..heads(DType::F16, 96, 96) }, Splits::One),
    (DecodeSpec { paged: true, ..heads(DType::Bf16, 192, 128) }, Splits::One),
    (DecodeSpec { softcap: true, ..heads(DType::Bf16, 256, 256) }, Splits::Several),
    (DecodeSpec { paged: true, ..heads(DType::F16, 192, 192) }, Splits::One),
    (DecodeSpec { cache: CacheType::E4m3, paged: true, ..PLAIN }, Splits::Several),
    (
        DecodeSpec { cache: CacheType::E4m3, softcap: true, ..heads(DType::F16, 64, 64) },
        Splits::Several,
    ),
    (LATENT, Splits::Any),
    (DecodeSpec { dtype: DType::F16, paged: false, ..LATENT }, Splits::One),
    (DecodeSpec { cache: CacheType::E4m3, ..LATENT }, Splits::One),
    (
        DecodeSpec { paged: true, rotary: Some(Rotary { dim: 128, interleaved: false }), ..PLAIN },
        Splits::Any,
    ),
    (
        DecodeSpec {
            alibi: true,
            rotary: Some(Rotary { dim: 32, interleaved: true }),
            ..heads(DType::F16, 64, 64)
        },
        Splits::Several,
    ),
    (
        DecodeSpec {
            cache: CacheType::E4m3,
            rotary: Some(Rotary { dim: 64, interleaved: false }),
            ..heads(DType::Bf16, 256, 256)
        },
        Splits::One,
    ),
    (DecodeSpec { copies: Copies::Tensor(64), ..PLAIN }, Splits::Any),
    (
        DecodeSpec {
            copies: Copies::Tensor(16),
            paged: true,
            alibi: true,
            ..heads(DType::F16, 80, 80)
        },
        Splits::One,
    ),
    (DecodeSpec { copies: Copies::Tensor(64), ..LATENT }, Splits::Several),
    (
        DecodeSpec { copies: Copies::Tensor(32), paged: true, ..heads(DType::Bf16, 256, 256) },
        Splits::One,
    ),
];

fn plain(spec: DecodeSpec, lengths: &[i64]) -> DecodeCase {
    let most = lengths.iter().copied().max().unwrap_or(0);
    DecodeCase {
        spec,
        heads: 4,
        kv_heads: if spec.latent { 1 } else { 2 },
        queries: 1,
        lengths: lengths.to_vec(),
        padding: Vec::new(),
        capacity: (most + 79) / 64 * 64,
        page_rows: 64,
        shuffled: false,
        new_rows: i64::from(spec.rotary.is_some()),
        left: None,
        right: Some(0),
        splits: 1,
        sinks: false,
        lse: true,
        magnitude: 1.0,
        softcap: 20.0,
        heads_inside: true,
        seed: 1,
    }
}

/// Cases at the edges of the contract.
pub fn listed() -> Vec<DecodeCase> {
    let paged = DecodeSpec { paged: true, ..PLAIN };
    let rotary = SPECS[13].0;
    let case = |spec, lengths: &[i64]| plain(spec, lengths);
    vec![
        // Empty caches, with and without a sink; nothing to add up.
        case(PLAIN, &[0]),
        DecodeCase { sinks: true, ..case(PLAIN, &[0, 1]) },
        DecodeCase { splits: 4, ..case(PLAIN, &[0, 1]) },
        DecodeCase { splits: 4, sinks: true, ..case(PLAIN, &[0, 70]) },
        // Fewer keys than queries: the first queries see nothing.
        DecodeCase { queries: 4, ..case(PLAIN, &[2, 65]) },
        DecodeCase { queries: 4, splits: 3, ..case(PLAIN, &[2, 200]) },
        // One head each, and more rows than a block has.
        DecodeCase { heads: 2, ..case(PLAIN, &[63, 64, 65]) },
        DecodeCase { heads: 32, kv_heads: 2, queries: 5, ..case(PLAIN, &[130]) },
        // More splits than tiles.
        DecodeCase { splits: 128, ..case(PLAIN, &[1, 64, 300]) },
        // A window that leaves whole splits out.
        DecodeCase { splits: 5, left: Some(70), queries: 2, ..case(PLAIN, &[400]) },
        DecodeCase { left: Some(0), queries: 3, ..case(PLAIN, &[129]) },
        DecodeCase { left: Some(9), right: Some(3), queries: 7, ..case(PLAIN, &[100]) },
        DecodeCase { right: None, queries: 3, ..case(PLAIN, &[100]) },
        // Padding on the left, up to all of the sequence.
        DecodeCase { padding: vec![0, 17, 80], ..case(PLAIN, &[40, 90, 80]) },
        DecodeCase { padding: vec![5, 190], splits: 3, ..case(PLAIN, &[200, 200]) },
        // Pages of every size, sequences that end with a page and behind it.
        DecodeCase { page_rows: 16, capacity: 160, ..case(paged, &[15, 16, 17, 150]) },
        DecodeCase { page_rows: 48, capacity: 192, ..case(paged, &[47, 48, 49]) },
        DecodeCase { page_rows: 128, capacity: 256, splits: 2, ..case(paged, &[127, 128, 129]) },
        DecodeCase { page_rows: 256, capacity: 256, ..case(paged, &[200, 0]) },
        // Logits that only a maximum keeps finite.
        DecodeCase { magnitude: 300.0, ..case(PLAIN, &[90]) },
        DecodeCase { magnitude: 300.0, splits: 4, sinks: true, ..case(PLAIN, &[300]) },
        DecodeCase { magnitude: 100.0, ..case(SPECS[4].0, &[77]) },
        // New rows across a page's end, into an empty cache, and more than fit.
        DecodeCase {
            new_rows: 5,
            queries: 5,
            page_rows: 16,
            capacity: 96,
            ..case(rotary, &[0, 14, 62])
        },
        DecodeCase { new_rows: 3, queries: 3, capacity: 64, ..case(rotary, &[62]) },
        DecodeCase { new_rows: 2, queries: 2, right: None, splits: 2, ..case(rotary, &[100]) },
        DecodeCase { new_rows: 4, queries: 1, shuffled: true, ..case(PLAIN, &[10, 20]) },
        // Tensor copies of tiles that begin and end in the middle.
        DecodeCase { padding: vec![17, 70], capacity: 130, ..case(SPECS[16].0, &[63, 129]) },
        DecodeCase { splits: 3, left: Some(100), ..case(SPECS[16].0, &[300, 0, 64]) },
        // Latent caches with every head count of the contract.
        DecodeCase { heads: 16, ..case(LATENT, &[65]) },
        DecodeCase { heads: 128, splits: 2, ..case(LATENT, &[130]) },
        DecodeCase { heads: 16, queries: 2, new_rows: 2, ..case(LATENT, &[63]) },
    ]
}

/// Small cases that between them reach every part of the kernels, by name; for planted bugs.
///
/// # Panics
/// If there is no such case.
pub fn example(name: &str) -> DecodeCase {
    let rotary = SPECS[13].0;
    match name {
        "plain" => DecodeCase { splits: 2, ..plain(PLAIN, &[330]) },
        "padded" => DecodeCase { padding: vec![70], splits: 3, ..plain(PLAIN, &[100]) },
        "windows" => {
            DecodeCase { left: Some(66), right: Some(2), queries: 3, ..plain(PLAIN, &[150]) }
        }
        "sinks" => DecodeCase { sinks: true, splits: 2, ..plain(PLAIN, &[130]) },
        "appended" => DecodeCase { new_rows: 3, queries: 3, page_rows: 16, ..plain(rotary, &[14]) },
        "tensor" => DecodeCase { padding: vec![9], ..plain(SPECS[16].0, &[330]) },
        "latent" => DecodeCase { heads: 16, ..plain(LATENT, &[130]) },
        _ => panic!("no example is called {name}"),
    }
}

/// A drawn case.
pub fn drawn(seed: u64) -> DecodeCase {
    let random = &mut Random::new(seed ^ 0x6465_636f_6465);
    let (spec, splits) = SPECS[(seed % SPECS.len() as u64) as usize];
    let kv_heads = if spec.latent { 1 } else { random.range(1, 2) };
    let group =
        if spec.latent { random.pick(&[16, 20, 32]) } else { random.pick(&[1, 1, 2, 3, 4, 8]) };
    let queries = random.pick(&[1, 1, 1, 2, 3, 4, 6]);
    let batch = random.range(1, 2) as usize;
    let longest = if spec.latent { 140 } else { random.pick(&[40, 150, 260]) };
    let lengths: Vec<i64> = (0..batch)
        .map(|_| match random.range(0, 9) {
            0 => 0,
            1 => 1,
            2 => random.range(1, longest / 16) * 16,
            _ => random.range(1, longest),
        })
        .collect();
    let new_rows = match spec.rotary {
        Some(_) => random.pick(&[queries, queries, 1]),
        None if random.one_in(4) => queries,
        None => 0,
    };
    let padding = if random.one_in(4) {
        lengths.iter().map(|&length| random.range(0, length)).collect()
    } else {
        Vec::new()
    };
    let page_rows = match spec.copies {
        Copies::Threads => random.pick(&[16, 32, 48, 64, 128, 256]),
        Copies::Tensor(rows) => i64::from(rows) * random.pick(&[1, 1, 2, 3]),
    };
    let most = lengths.iter().copied().max().unwrap_or(0) + new_rows + random.range(0, 40);
    let capacity = if spec.paged { (most + page_rows - 1) / page_rows * page_rows } else { most };
    let window = |random: &mut Random| random.one_in(5).then(|| random.range(0, 150));
    DecodeCase {
        spec,
        heads: kv_heads * group,
        kv_heads,
        queries,
        lengths,
        padding,
        capacity: capacity.max(1),
        page_rows,
        shuffled: !spec.paged && random.one_in(3),
        new_rows,
        left: window(random),
        right: if random.one_in(4) { window(random) } else { Some(0) },
        splits: match splits {
            Splits::One => 1,
            Splits::Several => random.pick(&[2, 3, 5, 9]),
            Splits::Any => random.pick(&[1, 2, 3, 7]),
        },
        sinks: random.one_in(4),
        lse: random.one_in(2),
        magnitude: random.pick(&[1.0, 1.0, 1.0, 4.0, 40.0]),
        softcap: random.pick(&[5.0, 30.0, 50.0]),
        heads_inside: random.one_in(2),
        seed,
    }
}
