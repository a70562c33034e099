//! Conversions, against the `half` crate, Rust's casts and f64.

mod elementwise;
mod harness;

use elementwise::{Numbers, floats32, floats64, run, unary};

fn f(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

/// Values of an e4m3, by its definition (PTX ISA 5.2.3).
fn e4m3(bits: u64) -> f64 {
    let (e, m) = (bits >> 3 & 15, bits & 7);
    let value = match (e, m) {
        (15, 7) => f64::NAN,
        (0, m) => m as f64 * 2f64.powi(-9),
        (e, m) => (8 + m) as f64 * 2f64.powi(e as i32 - 10),
    };
    if bits & 0x80 != 0 { -value } else { value }
}

fn e5m2(bits: u64) -> f64 {
    half::f16::from_bits((bits << 8) as u16).to_f64()
}

/// The nearest of the finite values of a small format, ties to the even code; `last` is the largest code.
fn nearest(x: f64, value: fn(u64) -> f64, last: u64) -> u64 {
    let sign = if x.is_sign_negative() { (last + 1).next_power_of_two() } else { 0 };
    let x = x.abs().min(value(last));
    let mut best = 0;
    for code in 0..=last {
        let (d, b) = ((value(code) - x).abs(), (value(best) - x).abs());
        if d < b || (d == b && code % 2 == 0) {
            best = code;
        }
    }
    best | sign
}

#[test]
fn widening_every_16_bit_float() {
    let all: Vec<u64> = (0..0x10000).collect();
    let f16 = unary("cvt.f32.f16 {d}, {a};", 2, 4, &all);
    let bf16 = unary("cvt.f32.bf16 {d}, {a};", 2, 4, &all);
    let f64s = unary("cvt.f64.f16 {d}, {a};", 2, 8, &all);
    for h in 0..0x10000u64 {
        let want = half::f16::from_bits(h as u16).to_f32();
        let bits = |x: f32| if x.is_nan() { 0x7fff_ffff } else { u64::from(x.to_bits()) };
        assert_eq!(f16[h as usize], bits(want), "{h:#x}");
        assert_eq!(bf16[h as usize], bits(half::bf16::from_bits(h as u16).to_f32()), "{h:#x}");
        let wide = f64::from_bits(f64s[h as usize]);
        assert!(wide == f64::from(want) || wide.is_nan() && want.is_nan());
    }
}

#[test]
fn narrowing_to_nearest_agrees_with_half() {
    let a = floats32(1, 200_000);
    let b = floats32(2, 200_000);
    let f16 = unary("cvt.rn.f16.f32 {d}, {a};", 4, 2, &a);
    let bf16 = unary("cvt.rn.bf16.f32 {d}, {a};", 4, 2, &a);
    let packed = run("cvt.rn.f16x2.f32 {d}, {a}, {b};", 4, 4, &[a.clone(), b.clone()]);
    let packed_b = run("cvt.rn.bf16x2.f32 {d}, {a}, {b};", 4, 4, &[a.clone(), b.clone()]);
    let relu = run("cvt.rn.relu.bf16x2.f32 {d}, {a}, {b};", 4, 4, &[a.clone(), b.clone()]);
    let of16 = |x: u64| {
        if f(x).is_nan() { 0x7fff } else { u64::from(half::f16::from_f32(f(x)).to_bits()) }
    };
    let ofb = |x: u64| {
        if f(x).is_nan() { 0x7fff } else { u64::from(half::bf16::from_f32(f(x)).to_bits()) }
    };
    for i in 0..a.len() {
        assert_eq!(f16[i], of16(a[i]), "{:e}", f(a[i]));
        assert_eq!(bf16[i], ofb(a[i]), "{:e}", f(a[i]));
        // The first source is the upper half.
        assert_eq!(packed[i], of16(a[i]) << 16 | of16(b[i]));
        assert_eq!(packed_b[i], ofb(a[i]) << 16 | ofb(b[i]));
        let r = |x: u64| if f(x) <= 0.0 { 0 } else { ofb(x) };
        assert_eq!(relu[i], r(a[i]) << 16 | r(b[i]));
    }
}

#[test]
fn narrowing_in_every_direction() {
    let a = floats32(3, 50_000);
    for (name, value) in [("f16", half16 as fn(u64) -> f64), ("bf16", halfb)] {
        let at = |mode: &str| unary(&format!("cvt.{mode}.{name}.f32 {{d}}, {{a}};"), 4, 2, &a);
        let (down, up, zero) = (at("rm"), at("rp"), at("rz"));
        let finite = unary(&format!("cvt.rn.satfinite.{name}.f32 {{d}}, {{a}};"), 4, 2, &a);
        let rn = at("rn");
        for i in 0..a.len() {
            let x = f64::from(f(a[i]));
            if x.is_nan() {
                assert_eq!([down[i], up[i], zero[i], finite[i]], [0x7fff; 4]);
                continue;
            }
            let (l, h) = (value(down[i]), value(up[i]));
            assert!(l <= x && x <= h, "{x:e}: {l:e} {h:e}");
            // Nothing in between.
            let steps = (down[i] & 0x7fff).abs_diff(up[i] & 0x7fff);
            assert!(steps <= 1 || down[i] ^ up[i] == 0x8000, "{x:e}: {:#x} {:#x}", down[i], up[i]);
            assert_eq!(steps == 0, l == h);
            assert_eq!(zero[i], if x.is_sign_negative() { up[i] } else { down[i] });
            let infinite = value(rn[i]).is_infinite();
            assert_eq!(finite[i], if infinite { rn[i] - 1 } else { rn[i] });
        }
    }
    let d = floats64(4, 50_000);
    let (down, up, near) = (
        unary("cvt.rm.f32.f64 {d}, {a};", 8, 4, &d),
        unary("cvt.rp.f32.f64 {d}, {a};", 8, 4, &d),
        unary("cvt.rn.f32.f64 {d}, {a};", 8, 4, &d),
    );
    for i in 0..d.len() {
        let x = f64::from_bits(d[i]);
        if x.is_nan() {
            assert_eq!(near[i], 0x7fff_ffff);
            continue;
        }
        assert_eq!(near[i], u64::from((x as f32).to_bits()));
        assert!(f64::from(f(down[i])) <= x && x <= f64::from(f(up[i])));
        assert!(f(down[i]) == f(up[i]) || f(down[i]).next_up() == f(up[i]));
    }
}

fn half16(h: u64) -> f64 {
    half::f16::from_bits(h as u16).to_f64()
}

fn halfb(h: u64) -> f64 {
    half::bf16::from_bits(h as u16).to_f64()
}

#[test]
fn eight_bit_floats() {
    let all: Vec<u64> = (0..0x10000).collect();
    for (name, value, last) in [("e4m3x2", e4m3 as fn(u64) -> f64, 0x7e), ("e5m2x2", e5m2, 0x7b)] {
        // Every pair of codes widens: the lower code is the lower half.
        let wide = unary(&format!("cvt.rn.f16x2.{name} {{d}}, {{a}};"), 2, 4, &all);
        for h in 0..0x10000u64 {
            for (part, code) in
                [(wide[h as usize] & 0xffff, h & 0xff), (wide[h as usize] >> 16, h >> 8)]
            {
                let want = value(code);
                if want.is_nan() {
                    assert_eq!(part, 0x7fff);
                } else {
                    assert_eq!(half16(part).to_bits(), want.to_bits(), "{code:#x}");
                }
            }
        }
        // Every f16 narrows.
        let pairs: Vec<u64> = (0..0x10000u64).map(|h| h << 16 | (h ^ 0x5a5a)).collect();
        let narrow = unary(&format!("cvt.rn.satfinite.{name}.f16x2 {{d}}, {{a}};"), 4, 2, &pairs);
        let code = |x: f64| if x.is_nan() { 0x7f } else { nearest(x, value, last) };
        for (h, &got) in narrow.iter().enumerate() {
            let h = h as u64;
            assert_eq!(got >> 8, code(half16(h)), "{:e}", half16(h));
            assert_eq!(got & 0xff, code(half16(h ^ 0x5a5a)));
        }
        let (a, b) = (floats32(5, 20_000), floats32(6, 20_000));
        let narrow = run(
            &format!("cvt.rn.satfinite.{name}.f32 {{d}}, {{a}}, {{b}};"),
            4,
            2,
            &[a.clone(), b.clone()],
        );
        let relu = run(
            &format!("cvt.rn.satfinite.relu.{name}.f32 {{d}}, {{a}}, {{b}};"),
            4,
            2,
            &[a.clone(), b.clone()],
        );
        for i in 0..a.len() {
            let (x, y) = (f64::from(f(a[i])), f64::from(f(b[i])));
            assert_eq!(narrow[i], code(x) << 8 | code(y), "{x:e} {y:e}");
            let r = |x: f64| if x <= 0.0 { 0 } else { code(x) };
            assert_eq!(relu[i], r(x) << 8 | r(y));
        }
    }
}

#[test]
fn tf32_keeps_ten_bits() {
    let a = floats32(7, 100_000);
    let away = unary("cvt.rna.tf32.f32 {d}, {a};", 4, 4, &a);
    let even = unary("cvt.rn.tf32.f32 {d}, {a};", 4, 4, &a);
    let zero = unary("cvt.rz.tf32.f32 {d}, {a};", 4, 4, &a);
    for i in 0..a.len() {
        if f(a[i]).is_nan() {
            assert_eq!([away[i], even[i], zero[i]], [0x7fff_ffff; 3]);
            continue;
        }
        assert_eq!(zero[i], a[i] & !0x1fff);
        assert_eq!(away[i], (a[i] + 0x1000) & !0x1fff, "{:#x}", a[i]);
        assert_eq!(even[i], (a[i] + 0xfff + (a[i] >> 13 & 1)) & !0x1fff);
    }
}

/// Float to integer: limits, NaN, each rounding.
#[test]
fn floats_to_integers() {
    let a = floats32(8, 60_000);
    let d = floats64(9, 60_000);
    type Rounding = (&'static str, fn(f64) -> f64);
    let rounds: [Rounding; 4] = [
        ("rni", f64::round_ties_even),
        ("rzi", f64::trunc),
        ("rmi", f64::floor),
        ("rpi", f64::ceil),
    ];
    for (mode, round) in rounds {
        for (ty, width, bits, signed) in [
            ("u8", 2, 8, false),
            ("s8", 4, 8, true),
            ("u16", 2, 16, false),
            ("s16", 2, 16, true),
            ("u32", 4, 32, false),
            ("s32", 4, 32, true),
            ("u64", 8, 64, false),
            ("s64", 8, 64, true),
        ] {
            let want = |x: f64, wide: bool| -> u64 {
                let mask = if width == 8 { u64::MAX } else { (1 << (width * 8)) - 1 };
                if x.is_nan() {
                    let special = wide || bits == 64;
                    let v = if special { 1u64 << (bits - 1) } else { 0 };
                    // A signed one is extended to its register.
                    let v =
                        if signed { ((v << (64 - bits)) as i64 >> (64 - bits)) as u64 } else { v };
                    return v & mask;
                }
                let x = round(x);
                (match (signed, bits) {
                    (false, 64) => x as u64,
                    (true, 64) => x as i64 as u64,
                    (false, n) => (x as u64).min((1 << n) - 1),
                    (true, n) => (x as i64).clamp(-(1 << (n - 1)), (1 << (n - 1)) - 1) as u64,
                }) & mask
            };
            let got = unary(&format!("cvt.{mode}.{ty}.f32 {{d}}, {{a}};"), 4, width, &a);
            let wide = unary(&format!("cvt.{mode}.{ty}.f64 {{d}}, {{a}};"), 8, width, &d);
            for i in 0..a.len() {
                let (x, y) = (f64::from(f(a[i])), f64::from_bits(d[i]));
                assert_eq!(got[i], want(x, false), "{mode}.{ty} of {x:e}");
                assert_eq!(wide[i], want(y, true), "{mode}.{ty} of {y:e}");
            }
        }
    }
    // Every f16.
    let all: Vec<u64> = (0..0x10000).collect();
    let got = unary("cvt.rni.s32.f16 {d}, {a};", 2, 4, &all);
    for (h, g) in got.into_iter().enumerate() {
        assert_eq!(g as u32 as i32, half16(h as u64).round_ties_even() as i32);
    }
}

#[test]
fn integers_to_floats() {
    let mut n = Numbers(10);
    let a: Vec<u64> = (0..100_000)
        .map(|i| n.next() >> (i % 64) ^ if i % 3 == 0 { u64::MAX } else { 0 })
        .collect();
    let a32: Vec<u64> = a.iter().map(|x| x & 0xffff_ffff).collect();
    let check = |op: &str, wide: bool, out: usize, want: &dyn Fn(u64) -> u64| {
        let input = if wide { &a } else { &a32 };
        let got = unary(&format!("{op} {{d}}, {{a}};"), if wide { 8 } else { 4 }, out, input);
        for (x, g) in input.iter().zip(got) {
            assert_eq!(g, want(*x), "{op} of {x:#x}: {g:#x}");
        }
    };
    check("cvt.rn.f32.s32", false, 4, &|x| u64::from((x as i32 as f32).to_bits()));
    check("cvt.rn.f32.u32", false, 4, &|x| u64::from((x as u32 as f32).to_bits()));
    check("cvt.rn.f32.s64", true, 4, &|x| u64::from((x as i64 as f32).to_bits()));
    check("cvt.rn.f32.u64", true, 4, &|x| u64::from((x as f32).to_bits()));
    check("cvt.rn.f64.s32", false, 8, &|x| f64::from(x as i32).to_bits());
    check("cvt.rn.f64.u64", true, 8, &|x| (x as f64).to_bits());
    check("cvt.rz.f32.u32", false, 4, &|x| {
        let near = x as u32 as f32;
        u64::from((if f64::from(near) > x as f64 { near.next_down() } else { near }).to_bits())
    });
    check("cvt.rp.f32.s32", false, 4, &|x| {
        let (near, exact) = (x as i32 as f32, f64::from(x as i32));
        u64::from((if f64::from(near) < exact { near.next_up() } else { near }).to_bits())
    });
    // Below 2^24 f32 is exact, so that rounding from it rounds once; beyond is infinity.
    check("cvt.rn.f16.u32", false, 2, &|x| {
        u64::from(half::f16::from_f32(x.min(1 << 20) as f32).to_bits())
    });
    check("cvt.rn.bf16.s32", false, 2, &|x| {
        // A sticky bit below f32's last keeps one rounding.
        let v = f64::from(x as i32);
        let near = v as f32;
        let odd = match f64::from(near) == v || near.to_bits() & 1 == 1 {
            true => near,
            false if f64::from(near).abs() < v.abs() => f32::from_bits(near.to_bits() + 1),
            false => f32::from_bits(near.to_bits() - 1),
        };
        u64::from(half::bf16::from_f32(odd).to_bits())
    });
}

#[test]
fn integers_to_integers() {
    let mut n = Numbers(11);
    let a: Vec<u64> =
        (0..20_000).map(|i| n.next() >> (i % 64) ^ if i % 3 == 0 { u64::MAX } else { 0 }).collect();
    let low = |bits: u32| -> Vec<u64> { a.iter().map(|x| x & (u64::MAX >> (64 - bits))).collect() };
    let check = |op: &str, win: usize, wout: usize, want: &dyn Fn(u64) -> u64| {
        let input = low(win as u32 * 8);
        let got = unary(&format!("{op} {{d}}, {{a}};"), win, wout, &input);
        for (x, g) in input.iter().zip(got) {
            assert_eq!(g, want(*x), "{op} of {x:#x}: {g:#x}");
        }
    };
    check("cvt.u64.u32", 4, 8, &|x| x);
    check("cvt.s64.s32", 4, 8, &|x| x as i32 as i64 as u64);
    check("cvt.u32.u64", 8, 4, &|x| x & 0xffff_ffff);
    check("cvt.u32.u16", 2, 4, &|x| x);
    check("cvt.s32.s16", 2, 4, &|x| u64::from(x as i16 as u32));
    check("cvt.s32.s8", 4, 4, &|x| u64::from(x as i8 as u32));
    check("cvt.u16.u32", 4, 2, &|x| x & 0xffff);
    check("cvt.u8.u32", 4, 2, &|x| x & 0xff);
    check("cvt.s8.s32", 4, 2, &|x| u64::from(x as i8 as u16));
    check("cvt.s8.s32", 4, 4, &|x| u64::from(x as i8 as u32));
    check("cvt.u32.s8", 4, 4, &|x| u64::from(x as i8 as u32));
    check("cvt.s64.u8", 2, 8, &|x| x & 0xff);
    check("cvt.sat.u8.s32", 4, 4, &|x| (x as i32).clamp(0, 255) as u64);
    check("cvt.sat.s16.u32", 4, 2, &|x| x.min(0x7fff));
    check(
        "cvt.sat.s32.s64",
        8,
        4,
        &|x| u64::from((x as i64).clamp(-1 << 31, (1 << 31) - 1) as u32),
    );
    check("cvt.sat.u64.s64", 8, 8, &|x| (x as i64).max(0) as u64);
}

#[test]
fn floats_to_integral_floats_and_limits() {
    let a = floats32(12, 50_000);
    let check = |op: &str, want: fn(f32) -> f32| {
        let got = unary(&format!("{op} {{d}}, {{a}};"), 4, 4, &a);
        for (&x, g) in a.iter().zip(got) {
            let w = want(f(x));
            let w = if w.is_nan() { 0x7fff_ffff } else { u64::from(w.to_bits()) };
            assert_eq!(g, w, "{op} of {:e}", f(x));
        }
    };
    check("cvt.rni.f32.f32", f32::round_ties_even);
    check("cvt.rzi.f32.f32", f32::trunc);
    check("cvt.rmi.f32.f32", f32::floor);
    check("cvt.rpi.ftz.f32.f32", |x| if x.is_subnormal() { 0f32.copysign(x) } else { x.ceil() });
    check("cvt.sat.f32.f32", |x| if x > 0.0 { x.min(1.0) } else { 0.0 });
    check("cvt.ftz.f32.f32", |x| if x.is_subnormal() { 0f32.copysign(x) } else { x });
}

#[test]
fn packing() {
    let mut n = Numbers(13);
    let mut list =
        || -> Vec<u64> { (0..5000).map(|i| (n.next() as i32 >> (i % 31)) as u32 as u64).collect() };
    let (a, b, c) = (list(), list(), list());
    let three = [a.clone(), b.clone(), c.clone()];
    let s16 = run("cvt.pack.sat.s16.s32 {d}, {a}, {b};", 4, 4, &three[..2]);
    let u8s = run("cvt.pack.sat.u8.s32.b32 {d}, {a}, {b}, {c};", 4, 4, &three);
    for i in 0..a.len() {
        let (x, y) = (a[i] as i32, b[i] as i32);
        let s = |x: i32| u64::from(x.clamp(-32768, 32767) as u16);
        let u = |x: i32| x.clamp(0, 255) as u64;
        assert_eq!(s16[i], s(x) << 16 | s(y));
        assert_eq!(u8s[i], c[i] << 16 & 0xffff_ffff | u(x) << 8 | u(y));
    }
}
