//! Tensor maps that kernels make themselves: a matrix product compiled by Triton, which builds its three maps with
//! `tensormap.replace`, and maps that come out wrong.

mod harness;

use half::f16;
use harness::Bench;
use zeroforge_emulator::{FindingKind, Report, Schedule};

const PTX: &str = include_str!("../../ptx/tests/corpus/triton_tma_matmul.ptx");
// Not multiples of the 128x128x64 tile.
const M: usize = 200;
const N: usize = 136;
const K: usize = 208;

fn run(ptx: &str, schedule: Schedule) -> (Report, f64) {
    let mut b = Bench::new(ptx);
    let matrix = |rows: usize, columns: usize, seed: usize| -> Vec<f16> {
        let value = |i: usize| f16::from_f32(((i * 7919 + seed) % 61) as f32 / 64.0 - 0.4);
        (0..rows * columns).map(value).collect()
    };
    let bytes = |m: &[f16]| m.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let (a, w) = (matrix(M, K, 5), matrix(N, K, 17));
    let (at, wt) = (b.buffer(&bytes(&a)), b.buffer(&bytes(&w)));
    let c = b.unwritten(M * N * 2);
    let grid = [M.div_ceil(128) as u32, N.div_ceil(128) as u32, 1];
    let scratch = b.unwritten(384 * (grid[0] * grid[1]) as usize);
    b.param_u64(at).param_u64(wt).param_u64(c);
    b.param_u32(M as u32).param_u32(N as u32).param_u32(K as u32);
    b.param_u64(scratch).param_u64(0).dynamic_shared(160 * 1024).schedule(schedule);
    let report = b.launch("tma_matmul", grid, [128, 1, 1]);
    let out = b.read(c, M * N * 2);
    let mut worst = 0f64;
    for m in 0..M {
        for n in 0..N {
            let dot = |k: usize| a[m * K + k].to_f64() * w[n * K + k].to_f64();
            let sum: f64 = (0..K).map(dot).sum();
            let at = (m * N + n) * 2;
            let got = f16::from_le_bytes([out[at], out[at + 1]]).to_f64();
            worst = worst.max((got - sum).abs());
        }
    }
    (report, worst)
}

#[test]
fn tritons_matrix_product_with_maps_of_its_own() {
    for schedule in [Schedule::Late, Schedule::Eager, Schedule::Random(1), Schedule::Random(2)] {
        let (report, error) = run(PTX, schedule);
        let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{schedule:?}:\n{}", errors.join("\n"));
        // Rounded to f16.
        assert!(error < 0.01, "{schedule:?}: error {error}");
    }
}

#[test]
fn a_map_that_comes_out_wrong_is_found_where_it_is_used() {
    let has = |from: &str, to: &str, kind| {
        assert!(PTX.contains(from));
        let (report, _) = run(&PTX.replacen(from, to, 1), Schedule::Late);
        let found = report.errors().find(|f| f.kind == kind);
        found.map(ToString::to_string).unwrap_or_else(|| panic!("no {kind:?}: {report:?}"))
    };
    // A box of rank 3.
    let rank = "rank.shared::cta.b1024.b32 [ %rd7 + 0 ], 0x1";
    let text = has(rank, &rank.replace("0x1", "0x2"), FindingKind::BadDescriptor);
    assert!(text.contains("3 dimensions"), "{text}");
    // Rows of 128 bytes do not fit a swizzle of 64.
    let swizzle = "swizzle_mode.shared::cta.b1024.b32 [ %rd7 + 0 ], 0x3";
    let text = has(swizzle, &swizzle.replace("0x3", "0x2"), FindingKind::BadDescriptor);
    assert!(text.contains("boxDim"), "{text}");
    let ty = "elemtype.shared::cta.b1024.b32 [ %rd7 + 0 ], 0x6";
    let text = has(ty, &ty.replace("0x6", "0xe"), FindingKind::BadDescriptor);
    assert!(text.contains("element type 14"), "{text}");
    // More rows than the allocation has.
    let rows = "global_dim.shared::cta.b1024.b32 [ %rd7 + 0 ], 0x1, %r24";
    has(rows, &rows.replace("%r24", "100000"), FindingKind::OutOfBounds);
}
