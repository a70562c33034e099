//! Matrix products with TMA loads and wgmma, compiled from CUDA C++: right against sums in double precision and
//! clean under every schedule; mistakes in tensor maps and byte counts are found.

mod harness;

use half::bf16;
use harness::Bench;
use zeroforge_emulator::tensor_map::{
    DataType, Interleave, L2Promotion, OobFill, Swizzle, TensorMap, TiledArguments,
};
use zeroforge_emulator::{FindingKind, Report, Schedule};

const M: usize = 128;
const N: usize = 256;
const K: usize = 384;

fn map(address: u64, dims: [usize; 2], box_dims: [u32; 2], swizzle: Swizzle) -> [u8; 128] {
    let map = TensorMap::tiled(&TiledArguments {
        dtype: DataType::Bfloat16,
        address,
        dims: &dims.map(|d| d as u64),
        strides: &[dims[0] as u64 * 2],
        box_dims: &box_dims,
        element_strides: &[1, 1],
        interleave: Interleave::None,
        swizzle,
        l2_promotion: L2Promotion::Bytes256,
        oob_fill: OobFill::Zero,
    });
    map.expect("valid").encode()
}

/// Small numbers, different everywhere.
fn matrix(rows: usize, columns: usize, seed: usize) -> Vec<bf16> {
    (0..rows * columns)
        .map(|i| bf16::from_f32(((i * 7919 + seed) % 61) as f32 / 16.0 - 1.9))
        .collect()
}

fn bytes(values: &[bf16]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

struct Gemm {
    ptx: String,
    kernel: &'static str,
    n_major: bool,
    swizzle: Swizzle,
    box_rows: u32,
}

impl Gemm {
    fn k_major() -> Gemm {
        Gemm {
            ptx: include_str!("kernels/gemm_tma_wgmma.ptx").to_owned(),
            kernel: "gemm_tma_wgmma",
            n_major: false,
            swizzle: Swizzle::Bytes128,
            box_rows: 64,
        }
    }

    fn n_major() -> Gemm {
        Gemm {
            ptx: include_str!("kernels/gemm_tma_wgmma_mn_major.ptx").to_owned(),
            kernel: "gemm_tma_wgmma_mn_major",
            n_major: true,
            ..Gemm::k_major()
        }
    }

    /// The report, and the largest error relative to the sum of magnitudes.
    fn run(&self, schedule: Schedule) -> (Report, f64) {
        let mut b = Bench::new(&self.ptx);
        let a = matrix(M, K, 3);
        let w = if self.n_major { matrix(K, N, 11) } else { matrix(N, K, 11) };
        let (at, wt) = (b.buffer(&bytes(&a)), b.buffer(&bytes(&w)));
        let c = b.unwritten(M * N * 4);
        b.param(&map(at, [K, M], [64, self.box_rows], self.swizzle), 64);
        match self.n_major {
            true => b.param(&map(wt, [N, K], [64, 64], self.swizzle), 64),
            false => b.param(&map(wt, [K, N], [64, 128], self.swizzle), 64),
        };
        b.param_u64(c).param_u32(M as u32).param_u32(N as u32).param_u32(K as u32);
        b.dynamic_shared(4 * (64 + 128) * 64 * 2 + 1024).schedule(schedule);
        let report = b.launch(self.kernel, [(N / 128) as u32, (M / 64) as u32, 1], [128, 1, 1]);
        let out = b.read_f32(c, M * N);
        let mut worst = 0f64;
        for m in 0..M {
            for n in 0..N {
                let (mut sum, mut size) = (0f64, 0f64);
                for k in 0..K {
                    let w = if self.n_major { w[k * N + n] } else { w[n * K + k] };
                    let product = a[m * K + k].to_f64() * w.to_f64();
                    sum += product;
                    size += product.abs();
                }
                worst = worst.max((f64::from(out[m * N + n]) - sum).abs() / size);
            }
        }
        (report, worst)
    }
}

#[test]
fn right_and_clean_under_every_schedule() {
    for gemm in [Gemm::k_major(), Gemm::n_major()] {
        let mut schedules = vec![Schedule::Late, Schedule::Eager];
        schedules.extend((0..6).map(Schedule::Random));
        for schedule in schedules {
            let (report, error) = gemm.run(schedule);
            let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
            assert!(errors.is_empty(), "{} {schedule:?}:\n{}", gemm.kernel, errors.join("\n"));
            assert!(error < 1e-6, "{} {schedule:?}: error {error}", gemm.kernel);
        }
    }
}

#[test]
fn a_wrong_swizzle_gives_wrong_results() {
    let gemm = Gemm { swizzle: Swizzle::None, ..Gemm::k_major() };
    let (report, error) = gemm.run(Schedule::Late);
    assert!(report.is_clean());
    assert!(error > 1e-3, "error {error}");
}

fn kinds(gemm: &Gemm) -> Vec<FindingKind> {
    gemm.run(Schedule::Late).0.errors().map(|f| f.kind).collect()
}

#[test]
fn a_box_of_another_size_is_a_wrong_byte_count() {
    let gemm = Gemm { box_rows: 63, ..Gemm::k_major() };
    assert!(kinds(&gemm).contains(&FindingKind::TransactionCount));
}

#[test]
fn an_mbarrier_that_is_not_waited_for_is_a_race() {
    let mut gemm = Gemm::k_major();
    let wait = "@P1 bra DONE;\nbra LAB_WAIT;";
    assert!(gemm.ptx.contains(wait));
    gemm.ptx =
        gemm.ptx.replace("mbarrier.try_wait", "mbarrier.test_wait").replace(wait, "bra DONE;");
    let found = kinds(&gemm);
    assert!(found.contains(&FindingKind::Race), "{found:?}");
}

#[test]
fn a_slot_that_is_loaded_before_it_is_read_is_a_race() {
    let mut gemm = Gemm::k_major();
    assert!(gemm.ptx.contains("wgmma.wait_group.sync.aligned 0;"));
    gemm.ptx =
        gemm.ptx.replace("wgmma.wait_group.sync.aligned 0;", "wgmma.wait_group.sync.aligned 4;");
    let found = kinds(&gemm);
    assert!(found.contains(&FindingKind::Race), "{found:?}");
}
