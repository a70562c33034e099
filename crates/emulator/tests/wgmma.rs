//! Warpgroup products: numbers against f64 for every type, order, swizzle and several N; what is forbidden
//! is found.

mod elementwise;
mod harness;

use std::fmt::Write;

use elementwise::Numbers;
use harness::Bench;
use zeroforge_emulator::{FindingKind, Report, Schedule};

/// One element type.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ty {
    F16,
    Bf16,
    Tf32,
    E4m3,
    E5m2,
    S8,
    U8,
}

impl Ty {
    fn name(self) -> &'static str {
        match self {
            Ty::F16 => "f16",
            Ty::Bf16 => "bf16",
            Ty::Tf32 => "tf32",
            Ty::E4m3 => "e4m3",
            Ty::E5m2 => "e5m2",
            Ty::S8 => "s8",
            Ty::U8 => "u8",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Ty::F16 | Ty::Bf16 => 2,
            Ty::Tf32 => 4,
            _ => 1,
        }
    }

    /// A random element: its bytes and its value.
    fn random(self, n: &mut Numbers) -> (u32, f64) {
        let x = n.next();
        let f = (x as i32) as f32 / (1u32 << 31) as f32 * 2.0;
        match self {
            Ty::F16 => {
                let h = half::f16::from_f32(f);
                (u32::from(h.to_bits()), h.to_f64())
            }
            Ty::Bf16 => {
                let h = half::bf16::from_f32(f);
                (u32::from(h.to_bits()), h.to_f64())
            }
            // All 32 bits are there; the low 13 do not count.
            Ty::Tf32 => (f.to_bits(), f64::from(f32::from_bits(f.to_bits() & !0x1fff))),
            Ty::E4m3 => {
                let c = (x >> 40) as u32 & 0xff;
                let c = if c & 0x7f == 0x7f { c ^ 1 } else { c };
                let (e, m) = (c >> 3 & 15, f64::from(c & 7));
                let v = if e == 0 { m / 512.0 } else { (8.0 + m) * 2f64.powi(e as i32 - 10) };
                (c, if c & 0x80 != 0 { -v } else { v })
            }
            Ty::E5m2 => {
                let c = (x >> 40) as u32 & 0xbf;
                (c, half::f16::from_bits((c << 8) as u16).to_f64())
            }
            Ty::S8 => ((x >> 40) as u32 & 0xff, f64::from((x >> 40) as i8)),
            Ty::U8 => ((x >> 40) as u32 & 0xff, f64::from((x >> 40) as u8)),
        }
    }
}

/// A product.
#[derive(Clone, Debug)]
struct Case {
    n: usize,
    a: Ty,
    b: Ty,
    /// `f32`, `f16` or `s32`.
    sum: &'static str,
    a_in_registers: bool,
    a_mn: bool,
    b_mn: bool,
    /// Units of 16 bytes in a swizzled row: 8, 4, 2, or 1 without swizzle.
    a_units: usize,
    b_units: usize,
    steps: usize,
    /// Whether the first step adds to what D held.
    accumulate: bool,
    scale_a: i32,
    scale_b: i32,
    saturate: bool,
}

impl Case {
    fn new(n: usize, a: Ty, b: Ty) -> Case {
        let integer = matches!(a, Ty::S8 | Ty::U8);
        Case {
            n,
            a,
            b,
            sum: if integer { "s32" } else { "f32" },
            a_in_registers: false,
            a_mn: false,
            b_mn: false,
            a_units: 8,
            b_units: 8,
            steps: 2,
            accumulate: true,
            scale_a: 1,
            scale_b: 1,
            saturate: false,
        }
    }

    /// K of one instruction.
    fn k(&self) -> usize {
        32 / self.a.bytes()
    }

    fn d_registers(&self) -> usize {
        if self.sum == "f16" { self.n / 4 } else { self.n / 2 }
    }
}

/// An operand's bytes in shared memory and how a step's descriptor says where they are.
struct Tile {
    bytes: Vec<u8>,
    leading: usize,
    stride: usize,
    step: usize,
    swizzle: u64,
}

/// Lays a matrix of `rows` rows (of M or N) and `columns` columns out, as PTX ISA 9.7.15.5.1.2 draws it. `base`
/// is a multiple of 1024.
fn lay_out(
    base: usize,
    rows: usize,
    columns: usize,
    size: usize,
    mn_major: bool,
    units: usize,
    element: impl Fn(usize, usize) -> u32,
) -> Tile {
    let (leading, stride, step) = match (mn_major, units) {
        // Groups of 8 rows one after the other.
        (false, 1) => (128, 128 * columns * size / 16, 256),
        (false, w) => (0, 128 * w * (columns * size).div_ceil(16 * w), 32),
        (true, 1) => (128, 128 * columns / 8, 256),
        (true, w) => (128 * w * columns / 8, 128 * w, 2 * 128 * w),
    };
    let mut bytes = Vec::new();
    for mn in 0..rows {
        for k in 0..columns {
            let offset = match (mn_major, units) {
                (false, 1) => {
                    mn % 8 * 16 + mn / 8 * stride + k * size / 16 * leading + k * size % 16
                }
                (false, w) => mn % 8 * 16 * w + mn / 8 * stride + k * size,
                (true, 1) => mn % 8 * 2 + mn / 8 * stride + k % 8 * 16 + k / 8 * leading,
                (true, w) => {
                    let t = 8 * w;
                    mn % t * 2 + mn / t * leading + k % 8 * 16 * w + k / 8 * stride
                }
            };
            let address = base + offset;
            let address = address ^ (address >> 7 & (units - 1)) << 4;
            let at = address - base;
            if bytes.len() < at + size {
                bytes.resize((at + size).next_multiple_of(1024), 0);
            }
            bytes[at..at + size].copy_from_slice(&element(mn, k).to_le_bytes()[..size]);
        }
    }
    let swizzle = match units {
        8 => 1,
        4 => 2,
        2 => 3,
        _ => 0,
    };
    Tile { bytes, leading, stride, step, swizzle }
}

/// A descriptor without its start address.
fn descriptor(t: &Tile) -> u64 {
    (t.leading as u64 >> 4) << 16 | (t.stride as u64 >> 4) << 32 | t.swizzle << 62
}

/// Text that goes into a kernel at certain points.
#[derive(Default)]
struct Extra<'a> {
    /// Instead of `wgmma.fence`.
    fence: Option<&'a str>,
    /// Before a wgmma of this number.
    before: Option<(usize, &'a str)>,
    /// Before `wait_group`.
    before_wait: &'a str,
    /// Instead of `fence.proxy.async`.
    proxy_fence: Option<&'a str>,
    /// Xor on the descriptors of B.
    b_descriptor: u64,
    /// Threads of the block.
    threads: Option<u32>,
}

const BASE: usize = 1024;

struct Problem {
    case: Case,
    /// Shared memory: A, then B.
    image: Vec<u8>,
    a_registers: Vec<u32>,
    d_start: Vec<u32>,
    a: Tile,
    b: Tile,
    b_base: usize,
    /// Expected D, and the sum of magnitudes.
    want: Vec<(f64, f64)>,
}

fn problem(case: &Case, seed: u64) -> Problem {
    let mut n = Numbers(seed);
    let columns = case.k() * case.steps;
    // Sums of f16 must stay in its range.
    let mut element = |ty: Ty| loop {
        let (bits, value) = ty.random(&mut n);
        if case.sum != "f16" || value.abs() <= 4.0 {
            return (bits, value);
        }
    };
    let a: Vec<(u32, f64)> = (0..64 * columns).map(|_| element(case.a)).collect();
    let b: Vec<(u32, f64)> = (0..case.n * columns).map(|_| element(case.b)).collect();
    let at = |m: usize, k: usize| a[m * columns + k];
    let bt = |m: usize, k: usize| b[m * columns + k];
    let a_tile =
        lay_out(BASE, 64, columns, case.a.bytes(), case.a_mn, case.a_units, |m, k| at(m, k).0);
    let mut image = a_tile.bytes.clone();
    image.resize(image.len().next_multiple_of(1024), 0);
    let b_base = BASE + image.len();
    let b_tile =
        lay_out(b_base, case.n, columns, case.b.bytes(), case.b_mn, case.b_units, |m, k| {
            bt(m, k).0
        });
    image.extend(&b_tile.bytes);
    // A fragments: [step][register][thread].
    let size = case.a.bytes();
    let mut a_registers = vec![0u32; case.steps * 4 * 128];
    for step in 0..case.steps {
        for t in 0..128 {
            for e in 0..16 / size {
                let per = 4 / size;
                let (register, within) = (e / per, e % per);
                let row = 16 * (t / 32) + t % 32 / 4 + 8 * (register % 2);
                let k = per * (t % 4) + within + 4 * per * (register / 2) + step * case.k();
                a_registers[(step * 4 + register) * 128 + t] |= at(row, k).0 << (8 * size * within);
            }
        }
    }
    let place = |t: usize, j: usize| {
        (16 * (t / 32) + t % 32 / 4 + 8 * (j / 2 % 2), 8 * (j / 4) + 2 * (t % 4) + j % 2)
    };
    let mut start = vec![0.0; 64 * case.n];
    let mut d_start = vec![0u32; case.d_registers() * 128];
    for t in 0..128 {
        for j in 0..case.n / 2 {
            let (m, c) = place(t, j);
            let x = (n.next() as i8) as f64 / 4.0;
            let x = if case.sum == "s32" { (n.next() as i32 >> 1) as f64 } else { x };
            start[m * case.n + c] = x;
            match case.sum {
                "f16" => {
                    let h = u32::from(half::f16::from_f64(x).to_bits());
                    d_start[j / 2 * 128 + t] |= h << (16 * (j % 2));
                }
                "s32" => d_start[j * 128 + t] = x as i32 as u32,
                _ => d_start[j * 128 + t] = (x as f32).to_bits(),
            }
        }
    }
    let sign = f64::from(case.scale_a * case.scale_b);
    let mut want = Vec::new();
    for t in 0..128 {
        for j in 0..case.n / 2 {
            let (m, c) = place(t, j);
            let first = if case.accumulate { start[m * case.n + c] } else { 0.0 };
            let products = (0..columns).map(|k| at(m, k).1 * bt(c, k).1);
            let (sum, size) = products.fold((0.0, 0.0), |(s, z), p| (s + p, z + p.abs()));
            want.push((first + sign * sum, first.abs() + size));
        }
    }
    Problem { case: case.clone(), image, a_registers, d_start, a: a_tile, b: b_tile, b_base, want }
}

fn list(prefix: &str, count: usize, first: usize) -> String {
    let names: Vec<String> = (first..first + count).map(|i| format!("%{prefix}{i}")).collect();
    format!("{{{}}}", names.join(", "))
}

fn ptx(p: &Problem, extra: &Extra<'_>) -> String {
    let case = &p.case;
    let d = case.d_registers();
    let mut s = String::new();
    let _ = write!(
        s,
        ".version 8.8
        .target sm_90a
        .address_size 64
        .extern .shared .align 1024 .b8 smem[];
        .visible .entry k(.param .u64 image, .param .u32 bytes, .param .u64 out, .param .u64 start, .param .u64 fragments)
        {{
        .reg .pred %p<6>;
        .reg .b32 %r<12>;
        .reg .b32 %v<5>;
        .reg .b64 %rd<20>;
        .reg .{} %d<{}>;
        .reg .b32 %a<{}>;
        mov.u32 %r1, %tid.x;
        ld.param.u64 %rd1, [image];
        ld.param.u32 %r2, [bytes];
        ld.param.u64 %rd2, [out];
        ld.param.u64 %rd3, [start];
        ld.param.u64 %rd4, [fragments];
        mov.u32 %r3, smem;
        shl.b32 %r4, %r1, 4;
        COPY:
        setp.ge.u32 %p1, %r4, %r2;
        @%p1 bra COPIED;
        cvt.u64.u32 %rd5, %r4;
        add.s64 %rd5, %rd1, %rd5;
        ld.global.v4.b32 {{%v1, %v2, %v3, %v4}}, [%rd5];
        add.u32 %r5, %r3, %r4;
        st.shared.v4.b32 [%r5], {{%v1, %v2, %v3, %v4}};
        mov.u32 %r6, %ntid.x;
        shl.b32 %r6, %r6, 4;
        add.u32 %r4, %r4, %r6;
        bra COPY;
        COPIED:
        {}
        bar.sync 0;
        and.b32 %r7, %r1, 127;
        ",
        if case.sum == "f32" { "f32" } else { "b32" },
        d + 1,
        4 * case.steps + 1,
        extra.proxy_fence.unwrap_or("fence.proxy.async;"),
    );
    for j in 0..d {
        let _ = writeln!(
            s,
            "mad.wide.u32 %rd5, %r7, 4, %rd3; ld.global.b32 %d{j}, [%rd5+{}];",
            j * 512
        );
    }
    if case.a_in_registers {
        for j in 0..4 * case.steps {
            let _ = writeln!(
                s,
                "mad.wide.u32 %rd5, %r7, 4, %rd4; ld.global.b32 %a{j}, [%rd5+{}];",
                j * 512
            );
        }
    }
    let _ = writeln!(s, "setp.ne.u32 %p2, 0, {};", u32::from(case.accumulate));
    let _ = writeln!(s, "setp.eq.u32 %p3, 0, 0;");
    s += extra.fence.unwrap_or("wgmma.fence.sync.aligned;");
    s.push('\n');
    for step in 0..case.steps {
        if let Some((_, text)) = extra.before.filter(|(at, _)| *at == step) {
            s += text;
            s.push('\n');
        }
        let start = |base: usize, tile: &Tile| {
            let address = (base + step * tile.step) as u64;
            descriptor(tile) | address >> 4 & 0x3fff
        };
        let b = start(p.b_base, &p.b) ^ extra.b_descriptor;
        let _ = writeln!(s, "mov.b64 %rd7, {b:#x};");
        let a = if case.a_in_registers {
            list("a", 4, 4 * step)
        } else {
            let _ = writeln!(s, "mov.b64 %rd6, {:#x};", start(BASE, &p.a));
            "%rd6".to_owned()
        };
        let half = case.a.bytes() == 2;
        let mut tail = String::new();
        if case.sum != "s32" {
            let _ = write!(tail, ", {}, {}", case.scale_a, case.scale_b);
        }
        if half {
            if !case.a_in_registers {
                let _ = write!(tail, ", {}", u32::from(case.a_mn));
            }
            let _ = write!(tail, ", {}", u32::from(case.b_mn));
        }
        let _ = writeln!(
            s,
            "wgmma.mma_async.sync.aligned.m64n{}k{}.{}.{}.{}{} {}, {a}, %rd7, %p{}{tail};",
            case.n,
            case.k(),
            case.sum,
            case.a.name(),
            case.b.name(),
            if case.saturate { ".satfinite" } else { "" },
            list("d", d, 0),
            if step == 0 { 2 } else { 3 },
        );
    }
    let _ = writeln!(s, "wgmma.commit_group.sync.aligned;");
    s += extra.before_wait;
    let _ = writeln!(s, "\nwgmma.wait_group.sync.aligned 0;");
    for j in 0..d {
        let _ = writeln!(
            s,
            "mad.wide.u32 %rd5, %r7, 4, %rd2; st.global.b32 [%rd5+{}], %d{j};",
            j * 512
        );
    }
    s += "ret;\n}\n";
    s
}

fn launch(p: &Problem, extra: &Extra<'_>, schedule: Schedule) -> (Report, Vec<u32>) {
    let mut bench = Bench::new(&ptx(p, extra));
    bench.schedule(schedule);
    bench.dynamic_shared(p.image.len() as u32);
    let bytes = |v: &[u32]| -> Vec<u8> { v.iter().flat_map(|x| x.to_le_bytes()).collect() };
    let image = bench.buffer(&p.image);
    let count = p.case.d_registers() * 128;
    let out = bench.buffer(&vec![0; count * 4]);
    let start = bench.buffer(&bytes(&p.d_start));
    let fragments = bench.buffer(&bytes(&p.a_registers));
    bench.param_u64(image).param_u32(p.image.len() as u32);
    bench.param_u64(out).param_u64(start).param_u64(fragments);
    let report = bench.launch("k", [1; 3], [extra.threads.unwrap_or(128), 1, 1]);
    let out = bench.read_u32(out, count);
    (report, out)
}

/// D as numbers, by thread and element.
fn values(p: &Problem, out: &[u32]) -> Vec<f64> {
    let mut all = Vec::new();
    for t in 0..128 {
        for j in 0..p.case.n / 2 {
            all.push(match p.case.sum {
                "f16" => {
                    let bits = out[j / 2 * 128 + t] >> (16 * (j % 2));
                    half::f16::from_bits(bits as u16).to_f64()
                }
                "s32" => f64::from(out[j * 128 + t] as i32),
                _ => f64::from(f32::from_bits(out[j * 128 + t])),
            });
        }
    }
    all
}

#[track_caller]
fn check(case: &Case) {
    let p = problem(case, 0x1234_5678 + case.n as u64);
    let mut results = Vec::new();
    for schedule in [Schedule::Late, Schedule::Eager, Schedule::Random(7)] {
        let (report, out) = launch(&p, &Extra::default(), schedule);
        let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{case:?}: {}", errors.join("\n"));
        for (got, (want, size)) in values(&p, &out).iter().zip(&p.want) {
            let error = match case.sum {
                "s32" => 0.0,
                // Rounded after each step.
                "f16" => size * 2f64.powi(-10) * (case.steps as f64),
                _ => size * 2f64.powi(-23) * 40.0,
            };
            assert!((got - want).abs() <= error, "{case:?}: {got} is not {want} ± {error}");
        }
        results.push(out);
    }
    assert!(results.windows(2).all(|w| w[0] == w[1]), "the schedule changes the result");
}

#[test]
fn every_type() {
    for (a, b) in [
        (Ty::F16, Ty::F16),
        (Ty::Bf16, Ty::Bf16),
        (Ty::Tf32, Ty::Tf32),
        (Ty::E4m3, Ty::E4m3),
        (Ty::E4m3, Ty::E5m2),
        (Ty::E5m2, Ty::E4m3),
        (Ty::E5m2, Ty::E5m2),
        (Ty::S8, Ty::S8),
        (Ty::S8, Ty::U8),
        (Ty::U8, Ty::S8),
        (Ty::U8, Ty::U8),
    ] {
        let case = Case::new(32, a, b);
        check(&case);
        check(&Case { a_in_registers: true, ..case });
    }
}

#[test]
fn accumulators_of_half_precision() {
    for ty in [Ty::F16, Ty::E4m3, Ty::E5m2] {
        let case = Case { sum: "f16", steps: 1, ..Case::new(24, ty, ty) };
        check(&case);
        check(&Case { accumulate: false, steps: 3, a_units: 1, b_units: 1, ..case.clone() });
        check(&Case { a_in_registers: true, ..case });
    }
}

#[test]
fn every_n() {
    for n in (8..=256).step_by(8) {
        check(&Case { steps: 1, ..Case::new(n, Ty::Bf16, Ty::Bf16) });
    }
    for n in [8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 208, 224, 240, 256] {
        check(&Case { steps: 1, ..Case::new(n, Ty::S8, Ty::U8) });
    }
}

#[test]
fn every_swizzle_and_order() {
    for a_units in [8, 4, 2, 1] {
        for b_units in [8, 4, 2, 1] {
            for order in 0..4 {
                let case = Case {
                    a_units,
                    b_units,
                    a_mn: order & 1 != 0,
                    b_mn: order & 2 != 0,
                    // As many steps as a swizzled row has room for.
                    steps: a_units.min(b_units).max(2) / 2,
                    ..Case::new(if b_units == 2 { 40 } else { 136 }, Ty::F16, Ty::F16)
                };
                check(&case);
            }
        }
        for ty in [Ty::Tf32, Ty::E5m2, Ty::U8] {
            let steps = a_units.max(2) / 2;
            check(&Case { a_units, b_units: a_units, steps, ..Case::new(48, ty, ty) });
        }
    }
    check(&Case { b_mn: true, a_in_registers: true, ..Case::new(128, Ty::Bf16, Ty::Bf16) });
}

#[test]
fn scales() {
    let case = Case::new(16, Ty::Bf16, Ty::Bf16);
    check(&Case { scale_a: -1, ..case.clone() });
    check(&Case { scale_b: -1, accumulate: false, ..case.clone() });
    check(&Case { scale_a: -1, scale_b: -1, a_in_registers: true, ..case });
}

#[test]
fn integers_saturate_if_told_to() {
    for saturate in [true, false] {
        let case = Case { saturate, ..Case::new(8, Ty::U8, Ty::U8) };
        let mut p = problem(&case, 5);
        p.d_start.fill(i32::MAX as u32 - 10);
        let (report, out) = launch(&p, &Extra::default(), Schedule::Late);
        assert_eq!(report.errors().count(), 0);
        let all = values(&p, &out);
        assert!(all.iter().all(|&x| if saturate { x == f64::from(i32::MAX) } else { x < 0.0 }));
    }
}

/// A launch whose only findings are of one kind; they name what is wrong.
#[track_caller]
fn finds(kind: FindingKind, text: &str, case: &Case, extra: &Extra<'_>) {
    let p = problem(case, 99);
    for schedule in [Schedule::Late, Schedule::Eager] {
        let (report, _) = launch(&p, extra, schedule);
        let all: Vec<String> = report.errors().map(ToString::to_string).collect();
        assert!(report.errors().all(|f| f.kind == kind), "{}", all.join("\n"));
        assert!(all.iter().any(|f| f.contains(text)), "`{text}` is not in: {}", all.join("\n"));
    }
}

fn small() -> Case {
    Case::new(16, Ty::Bf16, Ty::Bf16)
}

#[test]
fn an_accumulator_is_read_too_early() {
    let extra = Extra { before_wait: "add.f32 %d0, %d1, %d2;", ..Extra::default() };
    finds(FindingKind::InFlightAccumulator, "is read", &small(), &extra);
    let extra = Extra { before_wait: "mov.f32 %d3, 0f00000000;", ..Extra::default() };
    finds(FindingKind::InFlightAccumulator, "is overwritten", &small(), &extra);
    // A store reads, too.
    let extra = Extra {
        before_wait: "mad.wide.u32 %rd8, %r7, 4, %rd2; st.global.f32 [%rd8], %d0;",
        ..Extra::default()
    };
    finds(FindingKind::InFlightAccumulator, "is read", &small(), &extra);
    let registers = Case { a_in_registers: true, ..small() };
    let extra = Extra { before_wait: "mov.b32 %a1, 0;", ..Extra::default() };
    finds(FindingKind::InFlightAccumulator, "A fragment", &registers, &extra);
}

#[test]
fn waiting_for_older_groups_does_not_release_newer_ones() {
    let split = "wgmma.commit_group.sync.aligned;";
    let p = problem(&small(), 3);
    let early = Extra {
        before: Some((1, split)),
        before_wait: "wgmma.wait_group.sync.aligned 1; add.f32 %d0, %d0, 0f00000000;",
        ..Extra::default()
    };
    let (report, _) = launch(&p, &early, Schedule::Late);
    assert!(report.errors().any(|f| f.kind == FindingKind::InFlightAccumulator));
    let late = Extra {
        before: Some((1, split)),
        before_wait: "wgmma.wait_group.sync.aligned 0; add.f32 %d0, %d0, 0f00000000;",
        ..Extra::default()
    };
    let (report, _) = launch(&p, &late, Schedule::Late);
    assert_eq!(report.errors().count(), 0);
}

/// A copy of an accumulator that is in flight is another name for it, until it is used.
#[test]
fn a_copy_in_flight_gets_the_result() {
    let p = problem(&small(), 4);
    let body = "mov.f32 %d8, %d1; wgmma.wait_group.sync.aligned 0; mov.f32 %d0, %d8;";
    for schedule in [Schedule::Late, Schedule::Eager] {
        let extra = Extra { before_wait: body, ..Extra::default() };
        let (report, out) = launch(&p, &extra, schedule);
        let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{}", errors.join("\n"));
        assert_eq!(out[..128], out[128..256]);
    }
    let extra =
        Extra { before_wait: "mov.f32 %d8, %d1; add.f32 %d8, %d8, %d8;", ..Extra::default() };
    finds(FindingKind::InFlightAccumulator, "is read", &small(), &extra);
}

#[test]
fn a_fence_is_missing() {
    let none = Extra { fence: Some(""), ..Extra::default() };
    finds(FindingKind::MissingWgmmaFence, "", &small(), &none);
    // The accumulators are set after the fence.
    let early = Extra { before: Some((0, "mov.f32 %d5, 0f3f800000;")), ..Extra::default() };
    finds(FindingKind::MissingWgmmaFence, "accumulator", &small(), &early);
    let registers = Case { a_in_registers: true, ..small() };
    let late = Extra { before: Some((1, "mov.b32 %a5, 0;")), ..Extra::default() };
    finds(FindingKind::MissingWgmmaFence, "A fragment", &registers, &late);
}

#[test]
fn warps_disagree() {
    let extra = Extra { before: Some((1, "setp.lt.u32 %p3, %r1, 32;")), ..Extra::default() };
    finds(FindingKind::WgmmaMismatch, "scale-d", &small(), &extra);
    // Half of the lanes of each warp.
    let extra = Extra {
        before: Some((1, "and.b32 %r8, %r1, 1; setp.eq.u32 %p3, %r8, 1;")),
        ..Extra::default()
    };
    finds(FindingKind::WgmmaMismatch, "between the lanes", &small(), &extra);
    let extra = Extra { threads: Some(96), ..Extra::default() };
    finds(FindingKind::WgmmaMismatch, "128 threads", &small(), &extra);
}

#[test]
fn lanes_of_a_warp_stay_away() {
    let p = problem(&small(), 6);
    let extra = Extra {
        before: Some((0, "and.b32 %r8, %r1, 31; setp.eq.u32 %p4, %r8, 7; @%p4 exit;")),
        ..Extra::default()
    };
    let (report, _) = launch(&p, &extra, Schedule::Late);
    assert!(report.errors().any(|f| f.kind == FindingKind::WgmmaMismatch));
    let extra = Extra {
        before: Some((
            0,
            "and.b32 %r8, %r1, 31; setp.ne.u32 %p4, %r8, 7;\n @%p4 wgmma.fence.sync.aligned;",
        )),
        ..Extra::default()
    };
    let (report, _) = launch(&p, &extra, Schedule::Late);
    assert!(report.errors().any(|f| f.kind == FindingKind::Divergence));
}

/// Shared memory is read through the async proxy, until the wait.
#[test]
fn shared_memory_is_read_until_the_wait() {
    let none = Extra { proxy_fence: Some(""), ..Extra::default() };
    finds(FindingKind::MissingProxyFence, "fence.proxy.async", &small(), &none);
    let p = problem(&small(), 99);
    let early = Extra { before_wait: "st.shared.b32 [%r3], %r1;", ..Extra::default() };
    let (report, _) = launch(&p, &early, Schedule::Late);
    assert!(
        report
            .errors()
            .any(|f| { f.kind == FindingKind::Race && f.to_string().contains("wgmma.wait_group") })
    );
    let late = Extra {
        before_wait: "wgmma.wait_group.sync.aligned 0; bar.sync 0; setp.eq.u32 %p4, %r1, 0;\n @%p4 st.shared.b32 [%r3], %r1;",
        ..Extra::default()
    };
    let (report, _) = launch(&p, &late, Schedule::Late);
    assert_eq!(report.errors().count(), 0);
}

#[test]
fn descriptors_are_checked() {
    let base_offset = Extra { b_descriptor: 1 << 49, ..Extra::default() };
    finds(FindingKind::BadDescriptor, "base offset", &small(), &base_offset);
    let reserved = Extra { b_descriptor: 1 << 14, ..Extra::default() };
    finds(FindingKind::BadDescriptor, "reserved", &small(), &reserved);
    let p = problem(&small(), 99);
    let stride = Extra { b_descriptor: (p.b.stride as u64 >> 4) << 32, ..Extra::default() };
    finds(FindingKind::BadDescriptor, "stride", &small(), &stride);
    let outside = Extra { b_descriptor: 0x2000, ..Extra::default() };
    finds(FindingKind::OutOfBounds, "the block has", &small(), &outside);
}

/// Two warpgroups, each with its own order of things; the count of products is of warpgroups.
#[test]
fn two_warpgroups() {
    let p = problem(&small(), 8);
    let extra = Extra { threads: Some(256), ..Extra::default() };
    let (report, out) = launch(&p, &extra, Schedule::Late);
    // Both store the same results to the same place, which is a race of equal values.
    assert!(report.errors().all(|f| f.kind == FindingKind::Race));
    let all = values(&p, &out);
    assert!(all.iter().zip(&p.want).all(|(g, (w, s))| (g - w).abs() <= s * 1e-5));
    assert_eq!(report.wgmmas, 4);
}
