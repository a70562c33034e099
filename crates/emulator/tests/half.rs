//! Arithmetic of f16 and bf16, against f64 rounded by the `half` crate's f32 conversions where those round
//! once, and against a search among neighbours elsewhere.

mod elementwise;
mod harness;

use elementwise::{Numbers, run, unary};

/// A 16-bit format.
#[derive(Clone, Copy, PartialEq)]
enum Ty {
    F16,
    Bf16,
}

impl Ty {
    fn name(self) -> &'static str {
        if self == Ty::F16 { "f16" } else { "bf16" }
    }

    fn value(self, h: u64) -> f64 {
        match self {
            Ty::F16 => half::f16::from_bits(h as u16).to_f64(),
            Ty::Bf16 => half::bf16::from_bits(h as u16).to_f64(),
        }
    }

    fn infinity(self) -> u64 {
        if self == Ty::F16 { 0x7c00 } else { 0x7f80 }
    }

    /// Whether `h` is the nearest to `x + y` (y: what is lost in x), ties to even: compared with the midpoints to its neighbours,
    /// which are exact in f64.
    fn is_nearest(self, h: u64, x: f64, y: f64) -> bool {
        if x.is_nan() {
            return h == 0x7fff;
        }
        if x == 0.0 && y == 0.0 {
            return h & 0x7fff == 0;
        }
        let negative = x < 0.0;
        if (h & 0x8000 != 0) != negative {
            return false;
        }
        let (x, y) = if negative { (-x, -y) } else { (x, y) };
        let m = h & 0x7fff;
        // Infinity stands where the next finite number would be.
        let value = |m: u64| match m {
            m if m == self.infinity() => {
                if self == Ty::F16 {
                    65536.0
                } else {
                    2f64.powi(128)
                }
            }
            m => self.value(m),
        };
        if m > self.infinity() {
            return false;
        }
        let less = |limit: f64| (x - limit) + y < 0.0;
        let equal = |limit: f64| (x - limit) + y == 0.0;
        if m > 0 {
            let low = (value(m - 1) + value(m)) / 2.0;
            if less(low) || (equal(low) && m & 1 == 1) {
                return false;
            }
        }
        if m < self.infinity() {
            let high = (value(m) + value(m + 1)) / 2.0;
            if !(less(high) || (equal(high) && m & 1 == 0)) {
                return false;
            }
        }
        true
    }
}

fn halves(seed: u64, ty: Ty, count: usize) -> Vec<u64> {
    let mut n = Numbers(seed);
    let special = [
        0,
        0x8000,
        1,
        0x8001,
        0x3ff,
        0x400,
        0x7f,
        0x80,
        ty.infinity(),
        ty.infinity() - 1,
        ty.infinity() | 0x8000,
        0x7fff,
        0xffff,
        0x3c00,
        0x3f80,
        0xbc00,
        0xbf80,
    ];
    (0..count)
        .map(|i| match i % 4 {
            0 => special[n.next() as usize % special.len()],
            // Exponents near each other.
            1 => n.next() & 0x8fff | 0x3000,
            _ => n.next() & 0xffff,
        })
        .collect()
}

const N: usize = 40_000;

#[test]
fn sums_products_and_fused_ones_are_rounded_once() {
    for ty in [Ty::F16, Ty::Bf16] {
        let (a, b, c) = (halves(1, ty, N), halves(2, ty, N), halves(3, ty, N));
        let three = [a.clone(), b.clone(), c.clone()];
        for op in ["add", "sub", "mul", "fma.rn"] {
            let sources = if op == "fma.rn" { 3 } else { 2 };
            let operands = if sources == 3 { "{a}, {b}, {c}" } else { "{a}, {b}" };
            let got =
                run(&format!("{op}.{} {{d}}, {operands};", ty.name()), 2, 2, &three[..sources]);
            for i in 0..N {
                let [x, y, z] = [a[i], b[i], c[i]].map(|h| ty.value(h));
                // Exact as a sum of two f64: the sum and its error.
                let (p, q) = match op {
                    "add" => (x, y),
                    "sub" => (x, -y),
                    "mul" => (x * y, 0.0),
                    _ => (x * y, z),
                };
                let s = p + q;
                let (big, small) = if p.abs() >= q.abs() { (p, q) } else { (q, p) };
                let lost = if s.is_finite() { small - (s - big) } else { 0.0 };
                assert!(
                    ty.is_nearest(got[i], s, lost),
                    "{op}.{}: {x:e} {y:e} {z:e} gives {:#x}",
                    ty.name(),
                    got[i]
                );
            }
            // Packed: the same, twice.
            let pack =
                |v: &Vec<u64>| -> Vec<u64> { v.chunks(2).map(|c| c[0] | c[1] << 16).collect() };
            let packed: Vec<Vec<u64>> = three[..sources].iter().map(pack).collect();
            let two = run(&format!("{op}.{}x2 {{d}}, {operands};", ty.name()), 4, 4, &packed);
            assert_eq!(two, pack(&got), "{op} packed");
        }
    }
}

#[test]
fn modifiers_of_arithmetic() {
    let one = 0x3c00;
    let table: &[(&str, [u64; 3], u64)] = &[
        // Subnormal inputs and results are flushed with their sign.
        ("add.ftz.f16", [0x0001, 0x8000, 0], 0),
        ("mul.ftz.f16", [0x8400, 0x3800, 0], 0x8000),
        ("mul.f16", [0x8400, 0x3800, 0], 0x8200),
        ("add.sat.f16", [one, one, 0], one),
        ("sub.sat.f16", [0, one, 0], 0),
        ("add.sat.f16", [0x7fff, one, 0], 0),
        ("fma.rn.relu.f16", [one, 0xbc00, 0], 0),
        ("fma.rn.relu.f16", [0x7e01, one, 0], 0x7fff),
        ("fma.rn.relu.bf16", [0xbf80, 0x3f80, 0], 0),
        ("fma.rn.sat.f16", [0x4000, 0x4000, 0], one),
    ];
    for (op, x, want) in table {
        let fma = op.starts_with("fma");
        let operands = if fma { "{a}, {b}, {c}" } else { "{a}, {b}" };
        let inputs: Vec<Vec<u64>> = x.iter().take(2 + usize::from(fma)).map(|&v| vec![v]).collect();
        let got = run(&format!("{op} {{d}}, {operands};"), 2, 2, &inputs);
        assert_eq!(got[0], *want, "{op} of {x:#x?}: {:#x}", got[0]);
    }
}

#[test]
fn signs_and_extremes() {
    let all: Vec<u64> = (0..0x10000).collect();
    for ty in [Ty::F16, Ty::Bf16] {
        let name = ty.name();
        let neg = unary(&format!("neg.{name} {{d}}, {{a}};"), 2, 2, &all);
        let abs = unary(&format!("abs.{name} {{d}}, {{a}};"), 2, 2, &all);
        for &h in &all {
            assert_eq!(neg[h as usize], h ^ 0x8000);
            assert_eq!(abs[h as usize], h & 0x7fff);
        }
        let (a, b) = (halves(4, ty, N), halves(5, ty, N));
        for (op, min) in [("min", true), ("max", false)] {
            let plain =
                run(&format!("{op}.{name} {{d}}, {{a}}, {{b}};"), 2, 2, &[a.clone(), b.clone()]);
            let nan = run(
                &format!("{op}.NaN.{name} {{d}}, {{a}}, {{b}};"),
                2,
                2,
                &[a.clone(), b.clone()],
            );
            let xor = run(
                &format!("{op}.NaN.xorsign.abs.{name} {{d}}, {{a}}, {{b}};"),
                2,
                2,
                &[a.clone(), b.clone()],
            );
            for i in 0..N {
                let (x, y) = (ty.value(a[i]), ty.value(b[i]));
                let first = (x.total_cmp(&y) != std::cmp::Ordering::Greater) == min;
                let value = if first { a[i] } else { b[i] };
                let want = match (x.is_nan(), y.is_nan()) {
                    (true, true) => 0x7fff,
                    (true, _) => b[i],
                    (_, true) => a[i],
                    _ if a[i] == b[i] => a[i],
                    _ => value,
                };
                assert_eq!(plain[i], want, "{op} {:#x} {:#x}", a[i], b[i]);
                let either = x.is_nan() || y.is_nan();
                assert_eq!(nan[i], if either { 0x7fff } else { want });
                let magnitude = if (x.abs() <= y.abs()) == min { a[i] } else { b[i] } & 0x7fff;
                let want = if either { 0x7fff } else { magnitude | (a[i] ^ b[i]) & 0x8000 };
                assert_eq!(xor[i], want, "{op}.xorsign {:#x} {:#x}", a[i], b[i]);
            }
        }
    }
}

#[test]
fn exponentials_and_tangents_of_every_value() {
    let all: Vec<u64> = (0..0x10000).collect();
    for ty in [Ty::F16, Ty::Bf16] {
        let suffix = if ty == Ty::F16 { "f16" } else { "ftz.bf16" };
        let ex2 = unary(&format!("ex2.approx.{suffix} {{d}}, {{a}};"), 2, 2, &all);
        let tanh = unary(&format!("tanh.approx.{} {{d}}, {{a}};", ty.name()), 2, 2, &all);
        for &h in &all {
            let x = ty.value(h);
            let (e, t) = (ex2[h as usize], tanh[h as usize]);
            if x.is_nan() {
                assert_eq!((e, t), (0x7fff, 0x7fff));
                continue;
            }
            let tiny = ty == Ty::Bf16 && x.exp2() < f64::from(f32::MIN_POSITIVE);
            // Rounding twice may miss the nearest by a hair; the next one is near enough.
            let near = |got: u64, want: f64| {
                [got, got.wrapping_add(1), got.wrapping_sub(1)]
                    .iter()
                    .any(|&g| ty.is_nearest(g, want, 0.0))
            };
            assert!(if tiny { e == 0 || e == 0x80 } else { near(e, x.exp2()) }, "2^{x:e}: {e:#x}");
            assert!(near(t, x.tanh()), "tanh {x:e}: {t:#x}");
        }
    }
}
