//! The kernels of the suite: how each is launched, and what must come out.

use half::bf16;
use zeroforge_emulator::tensor_map::{
    DataType, Interleave, L2Promotion, OobFill, Swizzle, TensorMap, TiledArguments,
};
use zeroforge_emulator::{Report, Schedule};

use crate::harness::Bench;

/// A mistake on the host's side, in the tensor map of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostBug {
    None,
    Swizzle(usize, Swizzle),
    /// The box has this many more elements in its slow dimension.
    Box(usize, i32),
    /// The tensor has this many fewer elements in its slow dimension.
    Rows(usize, u64),
}

/// What a launch came to.
pub(crate) struct Outcome {
    pub(crate) report: Report,
    /// What is wrong with the results.
    pub(crate) wrong: Option<String>,
}

/// A kernel of the suite.
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    pub(crate) source: &'static str,
    pub(crate) ptx: &'static str,
    run: fn(&mut Bench, &mut Maps) -> Outcome,
}

macro_rules! kernel {
    ($name:literal, $run:ident) => {
        Kernel {
            name: $name,
            source: include_str!(concat!("../kernels/", $name, ".cu")),
            ptx: include_str!(concat!("../kernels/", $name, ".ptx")),
            run: $run,
        }
    };
}

/// All of them.
pub(crate) const KERNELS: [Kernel; 6] = [
    kernel!("gemm", gemm),
    kernel!("gemm_mn_major", gemm_mn_major),
    kernel!("cluster", cluster),
    kernel!("attention", attention),
    kernel!("mma_gemm", mma_gemm),
    kernel!("reduce", reduce),
];

impl Kernel {
    /// Runs PTX that came from this kernel's.
    pub(crate) fn run(&self, ptx: &str, schedule: Schedule, bug: HostBug) -> Outcome {
        let mut bench = Bench::new(ptx);
        bench.schedule(schedule);
        bench.options.instruction_budget = 20_000_000;
        (self.run)(&mut bench, &mut Maps { next: 0, bug })
    }
}

/// Makes tensor maps, one of them perhaps wrong.
pub(crate) struct Maps {
    next: usize,
    bug: HostBug,
}

impl Maps {
    /// A matrix of `rows` rows of `columns` elements, in boxes.
    fn matrix(
        &mut self,
        dtype: DataType,
        address: u64,
        [columns, mut rows]: [u64; 2],
        [width, mut height]: [u32; 2],
        mut swizzle: Swizzle,
    ) -> [u8; 128] {
        match self.bug {
            HostBug::Swizzle(at, other) if at == self.next => swizzle = other,
            HostBug::Box(at, more) if at == self.next => {
                height = height.saturating_add_signed(more);
            }
            HostBug::Rows(at, fewer) if at == self.next => rows -= fewer,
            _ => {}
        }
        self.next += 1;
        let arguments = TiledArguments {
            dtype,
            address,
            dims: &[columns, rows],
            strides: &[columns * u64::from(dtype.bytes())],
            box_dims: &[width, height],
            element_strides: &[1, 1],
            interleave: Interleave::None,
            swizzle,
            l2_promotion: L2Promotion::None,
            oob_fill: OobFill::Zero,
        };
        TensorMap::tiled(&arguments).expect("a valid tensor map").encode()
    }
}

/// Small integers, so that sums of products are exact in every order.
fn integers(seed: u32, count: usize, most: i32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as i32
    };
    (0..count).map(|_| (next() % (2 * most + 1) - most) as f32).collect()
}

fn bf16_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect()
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn compare(got: &[f32], expected: &[f32], tolerance: f32) -> Option<String> {
    let wrong = |(g, e): (&f32, &f32)| (g - e).is_nan() || (g - e).abs() > tolerance;
    let count = got.iter().zip(expected).filter(|&(g, e)| wrong((g, e))).count();
    let at = got.iter().zip(expected).position(|(g, e)| wrong((g, e)))?;
    Some(format!("{count} values differ; [{at}] is {} and not {}", got[at], expected[at]))
}

/// `sum over k of a(i, k) * b(j, k)`.
fn product(
    [m, n, k]: [usize; 3],
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
) -> Vec<f32> {
    let mut c = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            c[i * n + j] = (0..k).map(|p| a(i, p) * b(j, p)).sum();
        }
    }
    c
}

fn gemm(bench: &mut Bench, maps: &mut Maps) -> Outcome {
    let [m, n, k] = [128, 128, 448];
    let (a, b) = (integers(1, m * k, 3), integers(2, n * k, 3));
    let (pa, pb) = (bench.buffer(&bf16_bytes(&a)), bench.buffer(&bf16_bytes(&b)));
    let pc = bench.unwritten(m * n * 4);
    let s = Swizzle::Bytes128;
    let ma = maps.matrix(DataType::Bfloat16, pa, [k as u64, m as u64], [64, 128], s);
    let mb = maps.matrix(DataType::Bfloat16, pb, [k as u64, n as u64], [64, 64], s);
    bench.param(&ma, 64).param(&mb, 64).param_u64(pc).param_u32(n as u32).param_u32(k as u32);
    bench.dynamic_shared(3 * (128 + 64) * 64 * 2 + 48);
    let report = bench.launch("gemm", [2, 1, 1], [384, 1, 1]);
    let expected = product([m, n, k], |i, p| a[i * k + p], |j, p| b[j * k + p]);
    let wrong = compare(&bench.read_f32(pc, m * n), &expected, 0.0);
    Outcome { report, wrong }
}

fn gemm_mn_major(bench: &mut Bench, maps: &mut Maps) -> Outcome {
    let [m, n, k] = [128, 128, 320];
    let (a, b) = (integers(3, m * k, 3), integers(4, n * k, 3));
    let (pa, pb) = (bench.buffer(&bf16_bytes(&a)), bench.buffer(&bf16_bytes(&b)));
    let pc = bench.unwritten(m * n * 4);
    let s = Swizzle::Bytes128;
    let ma = maps.matrix(DataType::Bfloat16, pa, [m as u64, k as u64], [64, 64], s);
    let mb = maps.matrix(DataType::Bfloat16, pb, [n as u64, k as u64], [64, 64], s);
    bench.param(&ma, 64).param(&mb, 64).param_u64(pc).param_u32(n as u32).param_u32(k as u32);
    bench.dynamic_shared(2 * (64 + 128) * 64 * 2 + 32);
    let report = bench.launch("gemm_mn_major", [1, 2, 1], [160, 1, 1]);
    let expected = product([m, n, k], |i, p| a[p * m + i], |j, p| b[p * n + j]);
    let wrong = compare(&bench.read_f32(pc, m * n), &expected, 0.0);
    Outcome { report, wrong }
}

fn cluster(bench: &mut Bench, maps: &mut Maps) -> Outcome {
    let [m, k] = [256, 320];
    let (a, x) = (integers(5, m * k, 3), integers(6, k, 3));
    let (pa, px) = (bench.buffer(&f32_bytes(&a)), bench.buffer(&f32_bytes(&x)));
    let (py, ps) = (bench.unwritten(m * 4), bench.unwritten(8));
    let f = DataType::Float32;
    let ma = maps.matrix(f, pa, [k as u64, m as u64], [32, 64], Swizzle::Bytes128);
    let mx = maps.matrix(f, px, [k as u64, 1], [32, 1], Swizzle::None);
    bench.param(&ma, 64).param(&mx, 64).param_u64(py).param_u64(ps).param_u32(k as u32);
    bench.dynamic_shared(33_324).cluster([2, 1, 1]);
    let report = bench.launch("cluster_sum", [4, 1, 1], [96, 1, 1]);
    let y = product([m, 1, k], |i, p| a[i * k + p], |_, p| x[p]);
    let sums: Vec<f32> = y.chunks(128).map(|c| c.iter().sum()).collect();
    let wrong = compare(&bench.read_f32(py, m), &y, 0.0)
        .or_else(|| compare(&bench.read_f32(ps, 2), &sums, 0.0));
    Outcome { report, wrong }
}

fn attention(bench: &mut Bench, maps: &mut Maps) -> Outcome {
    let [queries, keys, head] = [128, 320, 64];
    let scaled = |seed, rows: usize| -> Vec<f32> {
        integers(seed, rows * head, 8).into_iter().map(|v| v / 8.0).collect()
    };
    let (q, k, v) = (scaled(7, queries), scaled(8, keys), scaled(9, keys));
    let address = |x: &[f32]| bench.buffer(&bf16_bytes(x));
    let (pq, pk, pv) = (address(&q), address(&k), address(&v));
    let po = bench.unwritten(queries * head * 2);
    for (address, rows) in [(pq, queries), (pk, keys), (pv, keys), (po, queries)] {
        let dims = [head as u64, rows as u64];
        let s = Swizzle::Bytes128;
        bench.param(&maps.matrix(DataType::Bfloat16, address, dims, [64, 64], s), 64);
    }
    // exp(x / 8) as a power of two.
    let scale = std::f32::consts::LOG2_E / 8.0;
    bench.param(&scale.to_le_bytes(), 4).param_u32(keys as u32 / 64);
    bench.dynamic_shared(6 * 64 * 64 * 2 + 56);
    let report = bench.launch("attention", [1, 1, 1], [384, 1, 1]);
    let mut expected = Vec::new();
    for i in 0..queries {
        let row = |x: &[f32], r: usize| x[r * head..(r + 1) * head].to_vec();
        let query = row(&q, i);
        let weights: Vec<f64> = (0..keys)
            .map(|j| {
                let dot: f32 = query.iter().zip(row(&k, j)).map(|(a, b)| a * b).sum();
                f64::from(dot / 8.0).exp()
            })
            .collect();
        let total: f64 = weights.iter().sum();
        expected.extend((0..head).map(|d| {
            let sum: f64 = (0..keys).map(|j| weights[j] * f64::from(v[j * head + d])).sum();
            (sum / total) as f32
        }));
    }
    let got: Vec<f32> = bench
        .read(po, queries * head * 2)
        .chunks(2)
        .map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())
        .collect();
    Outcome { report, wrong: compare(&got, &expected, 4e-3) }
}

fn mma_gemm(bench: &mut Bench, _: &mut Maps) -> Outcome {
    let [m, n, k] = [64, 128, 224];
    let (a, b) = (integers(10, m * k, 3), integers(11, n * k, 3));
    let (pa, pb) = (bench.buffer(&bf16_bytes(&a)), bench.buffer(&bf16_bytes(&b)));
    let pc = bench.unwritten(m * n * 4);
    bench.param_u64(pa).param_u64(pb).param_u64(pc).param_u32(n as u32).param_u32(k as u32);
    let report = bench.launch("mma_gemm", [2, 1, 1], [128, 1, 1]);
    let expected = product([m, n, k], |i, p| a[i * k + p], |j, p| b[j * k + p]);
    let wrong = compare(&bench.read_f32(pc, m * n), &expected, 0.0);
    Outcome { report, wrong }
}

fn reduce(bench: &mut Bench, _: &mut Maps) -> Outcome {
    let n = 4 * (256 * 7 + 100);
    let x = integers(12, n, 1000);
    let (px, parts) = (bench.buffer(&f32_bytes(&x)), bench.unwritten(5 * 8));
    let (counter, result) = (bench.buffer(&[0; 4]), bench.unwritten(8));
    bench.param_u64(px).param_u64(parts).param_u64(counter).param_u64(result);
    bench.param_u32(n as u32);
    let report = bench.launch("reduce", [5, 1, 1], [256, 1, 1]);
    let expected = [x.iter().sum(), x.iter().copied().fold(f32::NEG_INFINITY, f32::max)];
    let wrong = compare(&bench.read_f32(result, 2), &expected, 0.0);
    Outcome { report, wrong }
}
