//! Arithmetic of f32 and f64.

mod elementwise;
mod harness;

use elementwise::{Numbers, floats32, floats64, run, unary};

const N: usize = 20_000;
const NAN: u64 = 0x7fff_ffff;

fn f(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

fn bits(x: f32) -> u64 {
    if x.is_nan() { NAN } else { u64::from(x.to_bits()) }
}

#[track_caller]
fn same(op: &str, got: &[u64], inputs: &[&[u64]], want: impl Fn(&[u64]) -> u64) {
    for (i, &g) in got.iter().enumerate() {
        let x: Vec<u64> = inputs.iter().map(|v| v[i]).collect();
        let w = want(&x);
        assert_eq!(g, w, "{op} of {x:#x?}: {g:#x}, not {w:#x}");
    }
}

#[test]
fn f32_rounds_to_nearest() {
    let (a, b, c) = (floats32(1, N), floats32(2, N), floats32(3, N));
    let three = [a.clone(), b.clone(), c.clone()];
    let two = [a.clone(), b.clone()];
    type Case = (&'static str, fn(f32, f32) -> f32);
    let cases: [Case; 5] = [
        ("add.f32", |a, b| a + b),
        ("sub.rn.f32", |a, b| a - b),
        ("mul.f32", |a, b| a * b),
        ("div.rn.f32", |a, b| a / b),
        ("div.full.f32", |a, b| a / b),
    ];
    for (op, want) in cases {
        let got = run(&format!("{op} {{d}}, {{a}}, {{b}};"), 4, 4, &two);
        same(op, &got, &[&a, &b], |x| bits(want(f(x[0]), f(x[1]))));
        let op = op.replace(".f32", ".ftz.f32");
        let got = run(&format!("{op} {{d}}, {{a}}, {{b}};"), 4, 4, &two);
        same(&op, &got, &[&a, &b], |x| bits(flush(want(flush(f(x[0])), flush(f(x[1]))))));
    }
    let got = run("fma.rn.f32 {d}, {a}, {b}, {c};", 4, 4, &three);
    same("fma", &got, &[&a, &b, &c], |x| bits(f(x[0]).mul_add(f(x[1]), f(x[2]))));
    let got = run("fma.rn.ftz.sat.f32 {d}, {a}, {b}, {c};", 4, 4, &three);
    same("fma.ftz.sat", &got, &[&a, &b, &c], |x| {
        let [p, q, r] = [0, 1, 2].map(|k| flush(f(x[k])));
        let v = flush(p.mul_add(q, r));
        u64::from((if v > 0.0 { v.min(1.0) } else { 0.0 }).to_bits())
    });
    let got = unary("sqrt.rn.f32 {d}, {a};", 4, 4, &a);
    same("sqrt", &got, &[&a], |x| bits(f(x[0]).sqrt()));
    let got = unary("rcp.rn.f32 {d}, {a};", 4, 4, &a);
    same("rcp", &got, &[&a], |x| bits(1.0 / f(x[0])));
    let got = unary("neg.ftz.f32 {d}, {a};", 4, 4, &a);
    same("neg", &got, &[&a], |x| u64::from((-flush(f(x[0]))).to_bits()));
    let got = unary("abs.f32 {d}, {a};", 4, 4, &a);
    same("abs", &got, &[&a], |x| x[0] & 0x7fff_ffff);
    let got = run("copysign.f32 {d}, {a}, {b};", 4, 4, &two);
    same("copysign", &got, &[&a, &b], |x| x[0] & 0x8000_0000 | x[1] & 0x7fff_ffff);
}

/// Directed results of f32 operations against f64 with its error: the operation in f64 has at most one
/// rounding, of known sign.
#[test]
fn f32_rounds_in_every_direction() {
    let (a, b) = (floats32(4, N), floats32(5, N));
    let two = [a.clone(), b.clone()];
    for mode in ["rz", "rm", "rp"] {
        // Products of f32 are exact in f64, and so are sums unless the exponents are far apart.
        for op in ["mul", "add"] {
            let got = run(&format!("{op}.{mode}.f32 {{d}}, {{a}}, {{b}};"), 4, 4, &two);
            for (i, &g) in got.iter().enumerate() {
                let (x, y) = (f64::from(f(a[i])), f64::from(f(b[i])));
                let exact = if op == "mul" { x * y } else { x + y };
                let error_free = op == "mul" || (exact - x == y && exact - y == x);
                if !error_free {
                    continue;
                }
                let g = f(g);
                if exact.is_nan() {
                    assert!(g.is_nan());
                    continue;
                }
                let (down, up) = neighbours(exact);
                let want = match mode {
                    "rm" => down,
                    "rp" => up,
                    _ if exact > 0.0 => down,
                    _ => up,
                };
                assert_eq!(g, want, "{op}.{mode} of {x:e} {y:e}");
                if exact == 0.0 && op == "add" && x != 0.0 {
                    assert_eq!(g.is_sign_negative(), mode == "rm", "{x:e} {y:e}");
                }
            }
        }
    }
    // Quotients and roots: multiplied back, in f64, they must enclose.
    for op in ["div", "rcp", "sqrt"] {
        let run = |mode: &str| match op {
            "div" => run(&format!("div.{mode}.f32 {{d}}, {{a}}, {{b}};"), 4, 4, &two),
            _ => unary(&format!("{op}.{mode}.f32 {{d}}, {{a}};"), 4, 4, &a),
        };
        let (down, up, near) = (run("rm"), run("rp"), run("rn"));
        let mut tight = 0;
        for i in 0..N {
            let (l, h) = (f(down[i]), f(up[i]));
            if l.is_nan() || !l.is_finite() || !h.is_finite() {
                continue;
            }
            assert!(l == h || l.next_up() == h, "{op}: {l:e} {h:e}");
            assert!(near[i] == down[i] || near[i] == up[i]);
            let (x, y) = (f64::from(f(a[i])), f64::from(f(b[i])));
            if !x.is_finite() || !y.is_finite() || (op == "div" && x * y == 0.0) {
                continue;
            }
            // x / y - l >= 0 and the like, exactly: products of two f32 are exact in f64.
            let inside = |v: f32, sign: f64| match op {
                "div" => sign * (x - f64::from(v) * y) * y.signum() >= 0.0,
                "rcp" => sign * (1.0 - f64::from(v) * x) * x.signum() >= 0.0,
                _ => sign * (x - f64::from(v) * f64::from(v)) >= 0.0,
            };
            assert!(inside(l, 1.0) && inside(h, -1.0), "{op} of {x:e} {y:e}: {l:e} {h:e}");
            tight += 1;
        }
        assert!(tight > N / 4);
    }
}

/// The f32 below and above an f64 (equal if it is one).
fn neighbours(x: f64) -> (f32, f32) {
    let near = x as f32;
    match f64::from(near).total_cmp(&x) {
        _ if f64::from(near) == x => (near, near),
        std::cmp::Ordering::Less => (near, near.next_up()),
        _ => (near.next_down(), near),
    }
}

#[test]
fn f64_rounds_in_every_direction() {
    let (a, b, c) = (floats64(6, N), floats64(7, N), floats64(8, N));
    let three = [a.clone(), b.clone(), c.clone()];
    let d = f64::from_bits;
    let near = run("fma.rn.f64 {d}, {a}, {b}, {c};", 8, 8, &three);
    same("fma.f64", &near, &[&a, &b, &c], |x| {
        let v = d(x[0]).mul_add(d(x[1]), d(x[2]));
        if v.is_nan() { 0x7ff8 << 48 } else { v.to_bits() }
    });
    let at = |mode| run(&format!("fma.{mode}.f64 {{d}}, {{a}}, {{b}}, {{c}};"), 8, 8, &three);
    let (down, up, zero) = (at("rm"), at("rp"), at("rz"));
    let mut inexact = 0;
    for i in 0..N {
        let (l, h, z) = (d(down[i]), d(up[i]), d(zero[i]));
        if l.is_nan() {
            continue;
        }
        assert!(l == h || l.next_up() == h, "{l:e} {h:e}");
        assert!(d(near[i]) == l || d(near[i]) == h);
        assert_eq!(z, if l >= 0.0 { l } else { h });
        inexact += usize::from(l != h);
    }
    assert!(inexact > N / 4);
    for (op, want) in [
        ("add.f64", (|a, b| a + b) as fn(f64, f64) -> f64),
        ("sub.f64", |a, b| a - b),
        ("mul.rn.f64", |a, b| a * b),
        ("div.rn.f64", |a, b| a / b),
    ] {
        let got = run(&format!("{op} {{d}}, {{a}}, {{b}};"), 8, 8, &three[..2]);
        same(op, &got, &[&a, &b], |x| {
            let v = want(d(x[0]), d(x[1]));
            if v.is_nan() { 0x7ff8 << 48 } else { v.to_bits() }
        });
    }
}

#[test]
fn extremes_order_zeros_and_nan() {
    let (a, b) = (floats32(9, N), floats32(10, N));
    let two = [a.clone(), b.clone()];
    let pick = |x: f32, y: f32, min: bool| match (x.is_nan(), y.is_nan()) {
        (true, true) => NAN,
        (true, false) => bits(y),
        (false, true) => bits(x),
        _ if (x.total_cmp(&y) == std::cmp::Ordering::Less) == min => bits(x),
        _ => bits(y),
    };
    for min in [true, false] {
        let op = if min { "min" } else { "max" };
        let got = run(&format!("{op}.f32 {{d}}, {{a}}, {{b}};"), 4, 4, &two);
        same(op, &got, &[&a, &b], |x| pick(f(x[0]), f(x[1]), min));
        let got = run(&format!("{op}.ftz.NaN.f32 {{d}}, {{a}}, {{b}};"), 4, 4, &two);
        same(op, &got, &[&a, &b], |x| {
            let (x, y) = (flush(f(x[0])), flush(f(x[1])));
            if x.is_nan() || y.is_nan() { NAN } else { pick(x, y, min) }
        });
        let got = run(&format!("{op}.xorsign.abs.f32 {{d}}, {{a}}, {{b}};"), 4, 4, &two);
        same(op, &got, &[&a, &b], |x| {
            let sign = (x[0] ^ x[1]) & 0x8000_0000;
            match pick(f(x[0]).abs(), f(x[1]).abs(), min) {
                NAN => NAN,
                v => v | sign,
            }
        });
    }
    let (a, b) = (floats64(11, N), floats64(12, N));
    let got = run("min.f64 {d}, {a}, {b};", 8, 8, &[a.clone(), b.clone()]);
    same("min.f64", &got, &[&a, &b], |x| {
        let (x, y) = (f64::from_bits(x[0]), f64::from_bits(x[1]));
        match (x.is_nan(), y.is_nan()) {
            (true, true) => 0x7ff8 << 48,
            (true, _) => y.to_bits(),
            (_, true) => x.to_bits(),
            _ if x == 0.0 && y == 0.0 => x.to_bits() | y.to_bits(),
            _ => x.min(y).to_bits(),
        }
    });
}

#[test]
fn tests_of_classes() {
    let a = floats32(13, N);
    type Case = (&'static str, fn(f32) -> bool);
    let cases: [Case; 6] = [
        ("finite", f32::is_finite),
        ("infinite", f32::is_infinite),
        ("number", |x| !x.is_nan()),
        ("notanumber", f32::is_nan),
        ("normal", f32::is_normal),
        ("subnormal", f32::is_subnormal),
    ];
    for (name, want) in cases {
        let op = format!("testp.{name}.f32 %p2, {{a}}; selp.u32 {{d}}, 1, 0, %p2;");
        same(name, &unary(&op, 4, 4, &a), &[&a], |x| u64::from(want(f(x[0]))));
    }
    let a = floats64(14, N);
    let op = "testp.subnormal.f64 %p2, {a}; selp.u32 {d}, 1, 0, %p2;";
    same("f64", &unary(op, 8, 4, &a), &[&a], |x| u64::from(f64::from_bits(x[0]).is_subnormal()));
}

/// Approximations are within the errors of PTX ISA 9.7.3.
#[test]
fn approximations_are_as_near_as_the_isa_says() {
    let a = floats32(15, 4 * N);
    let ulps = |x: f32, want: f64| {
        let unit = f64::from(f32::EPSILON) * 2f64.powf(want.abs().log2().floor());
        ((f64::from(x) - want) / unit.max(1.4e-45)).abs()
    };
    let check =
        |op: &str, want: fn(f64) -> f64, range: std::ops::RangeInclusive<f32>, most: f64| {
            let got = unary(&format!("{op} {{d}}, {{a}};"), 4, 4, &a);
            let mut seen = 0;
            for (&x, &g) in a.iter().zip(&got) {
                let exact = want(f64::from(f(x)));
                if !range.contains(&f(x)) || exact.abs() > f64::from(f32::MAX) || exact == 0.0 {
                    continue;
                }
                seen += 1;
                assert!(ulps(f(g), exact) <= most, "{op} of {:e}: {:e}, {exact:e}", f(x), f(g));
            }
            assert!(seen > 1000, "{op}: {seen}");
        };
    check("ex2.approx.f32", f64::exp2, -140.0..=127.9, 1.0);
    check("lg2.approx.f32", f64::log2, 1e-40..=3e38, 1.0);
    check("rsqrt.approx.f32", |x| 1.0 / x.sqrt(), 1e-44..=3e38, 1.0);
    check("rcp.approx.f32", |x| 1.0 / x, 1e-38..=3e38, 1.0);
    check("sqrt.approx.f32", f64::sqrt, 1e-44..=3e38, 1.0);
    check("sin.approx.f32", f64::sin, -300.0..=300.0, 4.0);
    check("cos.approx.f32", f64::cos, -300.0..=300.0, 4.0);
    check("tanh.approx.f32", f64::tanh, -50.0..=50.0, 1.0);
}

#[test]
fn special_values_of_approximations() {
    let inf = u64::from(f32::INFINITY.to_bits());
    let (ninf, zero, nzero, one) = (inf | 1 << 31, 0, 1 << 31, 0x3f80_0000);
    let nan = 0x7fc0_0001;
    let check = |op: &str, pairs: &[(u64, u64)]| {
        let x: Vec<u64> = pairs.iter().map(|p| p.0).collect();
        let got = unary(&format!("{op} {{d}}, {{a}};"), 4, 4, &x);
        for (&(x, want), g) in pairs.iter().zip(got) {
            assert_eq!(g, want, "{op} of {x:#x}: {g:#x}");
        }
    };
    check(
        "ex2.approx.f32",
        &[
            (ninf, zero),
            (zero, one),
            (nzero, one),
            (inf, inf),
            (nan, NAN),
            (0xc33f_0000, zero),
            (0x4300_0000, inf),
            (0xc315_0000, 1),
        ],
    );
    check("ex2.approx.ftz.f32", &[(1, one), (0xc2fe_0000, zero), (0xc2fc_0000, 0x0080_0000)]);
    check(
        "lg2.approx.f32",
        &[
            (zero, ninf),
            (nzero, ninf),
            (one, zero),
            (inf, inf),
            (ninf, NAN),
            (nan, NAN),
            (0xbf80_0000, NAN),
        ],
    );
    check("lg2.approx.ftz.f32", &[(1, ninf), (0x8000_0001, ninf)]);
    check(
        "rcp.approx.ftz.f32",
        &[(zero, inf), (nzero, ninf), (inf, zero), (ninf, nzero), (1, inf), (nan, NAN)],
    );
    check(
        "rsqrt.approx.ftz.f32",
        &[(zero, inf), (nzero, ninf), (inf, zero), (0xbf80_0000, NAN), (1, inf)],
    );
    check("sin.approx.f32", &[(zero, zero), (nzero, nzero), (inf, NAN), (nan, NAN)]);
    check("cos.approx.f32", &[(zero, one), (nzero, one), (ninf, NAN)]);
    check("tanh.approx.f32", &[(inf, one), (ninf, 0xbf80_0000), (nzero, nzero), (nan, NAN)]);
    // Divisors above 2^126 have no reciprocal (PTX ISA 9.7.3.8).
    let a = vec![one, inf, one, 0xbf80_0000];
    let b = vec![0x7e80_0001, 0x7f00_0000, 0x7e80_0000, 0x7f00_0000];
    let got = run("div.approx.f32 {d}, {a}, {b};", 4, 4, &[a, b]);
    assert_eq!(got, [zero, NAN, 0x0080_0000, nzero]);
    let gross = unary("rcp.approx.ftz.f64 {d}, {a};", 8, 8, &[3f64.to_bits(), 1, 0]);
    assert!((f64::from_bits(gross[0]) * 3.0 - 1.0).abs() < 2f64.powi(-20) && gross[0] as u32 == 0);
    assert_eq!(gross[1..], [0x7ff0 << 48, 0x7ff0 << 48]);
    let mut n = Numbers(3);
    let wide: Vec<u64> = (0..100).map(|_| f64::from(n.next() as u32).to_bits()).collect();
    for (x, y) in wide.iter().zip(unary("rsqrt.approx.f64 {d}, {a};", 8, 8, &wide)) {
        let want = 1.0 / f64::from_bits(*x).sqrt();
        assert!((f64::from_bits(y) / want - 1.0).abs() < 1e-15);
    }
}
