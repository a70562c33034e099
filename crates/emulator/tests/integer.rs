//! Integer arithmetic against arithmetic of more bits on the host.

mod harness;
#[path = "harness/scalar.rs"]
mod scalar;

use scalar::{Values, run};
use zeroforge_emulator::FindingKind;

const N: usize = 1024;

/// A PTX integer type.
#[derive(Clone, Copy)]
struct Ty {
    name: &'static str,
    bits: u32,
    signed: bool,
}

const TYPES: [Ty; 6] = [
    Ty { name: "u16", bits: 16, signed: false },
    Ty { name: "s16", bits: 16, signed: true },
    Ty { name: "u32", bits: 32, signed: false },
    Ty { name: "s32", bits: 32, signed: true },
    Ty { name: "u64", bits: 64, signed: false },
    Ty { name: "s64", bits: 64, signed: true },
];

impl Ty {
    fn class(self) -> &'static str {
        class(self.bits)
    }

    /// The value that bits stand for.
    fn value(self, bits: u64) -> i128 {
        let up = 64 - self.bits;
        match self.signed {
            true => i128::from((bits << up) as i64 >> up),
            false => i128::from((bits << up) >> up),
        }
    }

    fn cut(self, value: i128) -> u64 {
        cut(value, self.bits)
    }
}

fn class(bits: u32) -> &'static str {
    match bits {
        16 => "b16",
        32 => "b32",
        _ => "b64",
    }
}

fn cut(value: i128, bits: u32) -> u64 {
    value as u64 & u64::MAX >> (64 - bits)
}

/// Runs `text` with `%a`, `%b`, `%c` of a type and compares with `expected`; `TY` in the text is the type.
fn check(text: &str, ty: Ty, to_bits: u32, expected: impl Fn([i128; 3]) -> i128) {
    let mut values = Values(u64::from(ty.bits) + 7);
    let [a, b, c] = [(); 3].map(|()| values.integers(ty.bits, N));
    let class = ty.class();
    let text = text.replace("TY", ty.name);
    let out = run(&text, self::class(to_bits), &[(class, &a), (class, &b), (class, &c)]);
    for i in 0..N {
        let abc = [a[i], b[i], c[i]].map(|v| ty.value(v));
        let want = cut(expected(abc), to_bits);
        assert_eq!(out.d[i], want, "{text} of {abc:?}: {:#x}, should be {want:#x}", out.d[i]);
    }
}

#[test]
fn sums_products_and_quotients_are_those_of_wider_arithmetic() {
    for ty in TYPES {
        let bits = ty.bits;
        check("add.TY %d, %a, %b;", ty, bits, |[a, b, _]| a + b);
        check("sub.TY %d, %a, %b;", ty, bits, |[a, b, _]| a - b);
        check("mul.lo.TY %d, %a, %b;", ty, bits, |[a, b, _]| a.wrapping_mul(b));
        check("mul.hi.TY %d, %a, %b;", ty, bits, |[a, b, _]| high(a, b, ty));
        check("mad.lo.TY %d, %a, %b, %c;", ty, bits, |[a, b, c]| a.wrapping_mul(b).wrapping_add(c));
        check("mad.hi.TY %d, %a, %b, %c;", ty, bits, |[a, b, c]| high(a, b, ty) + c);
        check("min.TY %d, %a, %b;", ty, bits, |[a, b, _]| a.min(b));
        check("max.TY %d, %a, %b;", ty, bits, |[a, b, _]| a.max(b));
        check("sad.TY %d, %a, %b, %c;", ty, bits, |[a, b, c]| (a - b).abs() + c);
        if ty.signed {
            check("abs.TY %d, %a;", ty, bits, |[a, _, _]| a.abs());
            check("neg.TY %d, %a;", ty, bits, |[a, _, _]| -a);
        }
        if bits < 64 {
            check("mul.wide.TY %d, %a, %b;", ty, 2 * bits, |[a, b, _]| a * b);
        }
        // A divisor that is never zero.
        let divide = |op: &str| format!("or.{} %b, %b, 1; {op}.TY %d, %a, %b;", ty.class());
        let odd = move |b: i128| ty.value(ty.cut(b) | 1);
        check(&divide("div"), ty, bits, |[a, b, _]| a / odd(b));
        check(&divide("rem"), ty, bits, |[a, b, _]| a % odd(b));
    }
}

/// The upper half of a product.
fn high(a: i128, b: i128, ty: Ty) -> i128 {
    match (ty.signed, ty.bits) {
        (false, 64) => ((a as u128).wrapping_mul(b as u128) >> 64) as i128,
        (_, bits) => a.wrapping_mul(b) >> bits,
    }
}

#[test]
fn wide_products_add_a_wide_value() {
    for ty in TYPES.into_iter().filter(|t| t.bits < 64) {
        let mut values = Values(3);
        let (a, b) = (values.integers(ty.bits, N), values.integers(ty.bits, N));
        let c = values.integers(2 * ty.bits, N);
        let text = format!("mad.wide.{} %d, %a, %b, %c;", ty.name);
        let wide = class(2 * ty.bits);
        let out = run(&text, wide, &[(ty.class(), &a), (ty.class(), &b), (wide, &c)]);
        for i in 0..N {
            let want = ty.value(a[i]) * ty.value(b[i]) + i128::from(c[i]);
            assert_eq!(out.d[i], cut(want, 2 * ty.bits), "{text} of {:#x} {:#x}", a[i], b[i]);
        }
    }
}

const S32: Ty = TYPES[3];
const U32: Ty = TYPES[2];

#[test]
fn saturation_and_24_bit_products() {
    let clamp = |v: i128| v.clamp(i128::from(i32::MIN), i128::from(i32::MAX));
    check("add.sat.s32 %d, %a, %b;", S32, 32, |[a, b, _]| clamp(a + b));
    check("sub.sat.s32 %d, %a, %b;", S32, 32, |[a, b, _]| clamp(a - b));
    check("mad.hi.sat.s32 %d, %a, %b, %c;", S32, 32, |[a, b, c]| clamp(((a * b) >> 32) + c));
    check("min.relu.s32 %d, %a, %b;", S32, 32, |[a, b, _]| a.min(b).max(0));
    check("max.relu.s32 %d, %a, %b;", S32, 32, |[a, b, _]| a.max(b).max(0));
    let unsigned = |v: i128| v & 0xff_ffff;
    let signed = |v: i128| (v << 104) >> 104;
    check("mul24.lo.u32 %d, %a, %b;", U32, 32, |[a, b, _]| unsigned(a) * unsigned(b));
    check("mul24.hi.u32 %d, %a, %b;", U32, 32, |[a, b, _]| (unsigned(a) * unsigned(b)) >> 16);
    check("mul24.lo.s32 %d, %a, %b;", S32, 32, |[a, b, _]| signed(a) * signed(b));
    check("mul24.hi.s32 %d, %a, %b;", S32, 32, |[a, b, _]| (signed(a) * signed(b)) >> 16);
    check("mad24.lo.s32 %d, %a, %b, %c;", S32, 32, |[a, b, c]| signed(a) * signed(b) + c);
    check("mad24.hi.u32 %d, %a, %b, %c;", U32, 32, |[a, b, c]| {
        ((unsigned(a) * unsigned(b)) >> 16) + c
    });
    check("mad24.hi.sat.s32 %d, %a, %b, %c;", S32, 32, |[a, b, c]| {
        clamp(((signed(a) * signed(b)) >> 16) + c)
    });
}

#[test]
fn packed_halves_do_not_touch() {
    let halves = |v: i128, f: &dyn Fn(i16) -> i16| [f(v as i16), f((v >> 16) as i16)];
    let both = |a: i128, b: i128, f: &dyn Fn(i16, i16) -> i16| {
        let (a, b) = (halves(a, &|v| v), halves(b, &|v| v));
        let word = |k: usize| u32::from(f(a[k], b[k]) as u16);
        i128::from(word(1) << 16 | word(0))
    };
    let t = U32;
    check("add.u16x2 %d, %a, %b;", t, 32, |[a, b, _]| both(a, b, &|a, b| a.wrapping_add(b)));
    check("add.s16x2 %d, %a, %b;", t, 32, |[a, b, _]| both(a, b, &|a, b| a.wrapping_add(b)));
    check("min.s16x2 %d, %a, %b;", t, 32, |[a, b, _]| both(a, b, &|a, b| a.min(b)));
    check("max.s16x2 %d, %a, %b;", t, 32, |[a, b, _]| both(a, b, &|a, b| a.max(b)));
    check("min.relu.s16x2 %d, %a, %b;", t, 32, |[a, b, _]| both(a, b, &|a, b| a.min(b).max(0)));
    check("max.relu.s16x2 %d, %a, %b;", t, 32, |[a, b, _]| both(a, b, &|a, b| a.max(b).max(0)));
    let unsigned = |f: fn(u16, u16) -> u16| move |a: i16, b: i16| f(a as u16, b as u16) as i16;
    check("min.u16x2 %d, %a, %b;", t, 32, |[a, b, _]| both(a, b, &unsigned(u16::min)));
    check("max.u16x2 %d, %a, %b;", t, 32, |[a, b, _]| both(a, b, &unsigned(u16::max)));
}

/// The pseudo-code of PTX ISA 9.7.1.19, bit by bit.
fn bfe(a: i128, b: i128, c: i128, bits: u32, signed: bool) -> i128 {
    let a = a as u64;
    let (msb, pos, len) = (bits - 1, b as u32 & 0xff, c as u32 & 0xff);
    let bit = |at: u32| u64::from(at <= msb && a >> at & 1 == 1);
    let sign = if signed && len > 0 { bit((pos + len - 1).min(msb)) } else { 0 };
    let word = (0..bits).map(|i| {
        let inside = i < len && pos + i <= msb;
        (if inside { bit(pos + i) } else { sign }) << i
    });
    i128::from(word.sum::<u64>())
}

#[test]
fn bit_fields() {
    for (name, bits, signed) in
        [("u32", 32, false), ("s32", 32, true), ("u64", 64, false), ("s64", 64, true)]
    {
        let mut values = Values(bits as u64);
        let a = values.integers(bits, N);
        let (pos, len) = (values.integers(8, N), values.integers(8, N));
        let out = run(
            &format!("bfe.{name} %d, %a, %b, %c;"),
            class(bits),
            &[(class(bits), &a), ("b32", &pos), ("b32", &len)],
        );
        for i in 0..N {
            let want = bfe(i128::from(a[i]), i128::from(pos[i]), i128::from(len[i]), bits, signed);
            assert_eq!(out.d[i], cut(want, bits), "bfe.{name} {:#x} {} {}", a[i], pos[i], len[i]);
        }
        if signed {
            continue;
        }
        // The pseudo-code of 9.7.1.20.
        let b = values.integers(bits, N);
        let out = run(
            &format!("bfi.b{bits} %d, %a, %b, %c, %e;"),
            class(bits),
            &[(class(bits), &a), (class(bits), &b), ("b32", &pos), ("b32", &len)],
        );
        for i in 0..N {
            let mut want = b[i];
            let mut k = 0;
            while k < len[i] & 0xff && (pos[i] & 0xff) + k < u64::from(bits) {
                let at = (pos[i] & 0xff) + k;
                want = want & !(1 << at) | (a[i] >> k & 1) << at;
                k += 1;
            }
            assert_eq!(out.d[i], want, "bfi.b{bits} {:#x} {:#x} {} {}", a[i], b[i], pos[i], len[i]);
        }
    }
}

#[test]
fn counting_and_finding_bits() {
    let u64s = TYPES[4];
    let s64s = TYPES[5];
    check("popc.b32 %d, %a;", U32, 32, |[a, _, _]| i128::from((a as u32).count_ones()));
    check("clz.b32 %d, %a;", U32, 32, |[a, _, _]| i128::from((a as u32).leading_zeros()));
    check("brev.b32 %d, %a;", U32, 32, |[a, _, _]| i128::from((a as u32).reverse_bits()));
    check("popc.b64 %d, %a;", u64s, 32, |[a, _, _]| i128::from((a as u64).count_ones()));
    check("clz.b64 %d, %a;", u64s, 32, |[a, _, _]| i128::from((a as u64).leading_zeros()));
    check("brev.b64 %d, %a;", u64s, 64, |[a, _, _]| i128::from((a as u64).reverse_bits()));
    for ty in [U32, S32, u64s, s64s] {
        let find = move |a: i128| {
            let bits = ty.cut(if a < 0 { !a } else { a });
            (0..ty.bits).rev().find(|&i| bits >> i & 1 == 1)
        };
        check("bfind.TY %d, %a;", ty, 32, |[a, _, _]| find(a).map_or(-1, i128::from));
        check("bfind.shiftamt.TY %d, %a;", ty, 32, |[a, _, _]| {
            find(a).map_or(-1, |at| i128::from(ty.bits - 1 - at))
        });
    }
}

#[test]
fn extension_masks_and_nth_bits() {
    let mut values = Values(99);
    let (a, b) = (values.integers(32, N), values.integers(7, N));
    for (mode, clamp) in [("wrap", false), ("clamp", true)] {
        for (ty, signed) in [("u32", false), ("s32", true)] {
            let out =
                run(&format!("szext.{mode}.{ty} %d, %a, %b;"), "b32", &[("b32", &a), ("b32", &b)]);
            for i in 0..N {
                // PTX ISA 9.7.1.21.
                let b1 = b[i] as u32 & 31;
                let too_large = b[i] >= 32 && clamp;
                let mask = if too_large { 0 } else { u32::MAX << b1 };
                let sign = !(b1 == 0 || too_large || !signed)
                    && a[i] as u32 >> (b1.wrapping_sub(1) & 31) & 1 == 1;
                let want = a[i] as u32 & !mask | if sign { mask } else { 0 };
                assert_eq!(out.d[i], u64::from(want), "szext.{mode}.{ty} {:#x} {}", a[i], b[i]);
            }
        }
        let pos = values.integers(7, N);
        let out =
            run(&format!("bmsk.{mode}.b32 %d, %a, %b;"), "b32", &[("b32", &pos), ("b32", &b)]);
        for i in 0..N {
            let (pos, width) = match clamp {
                true => (pos[i], b[i]),
                false => (pos[i] & 31, b[i] & 31),
            };
            let want: u64 =
                (0..32).filter(|&k| k >= pos && k < pos + width).map(|k| 1u64 << k).sum();
            assert_eq!(out.d[i], want, "bmsk.{mode} {pos} {width}");
        }
    }
    let (mask, base) = (values.integers(32, N), values.integers(5, N));
    let offset: Vec<u64> = (0..N).map(|_| (values.next() % 11) as u32 as u64).collect();
    let out = run(
        "sub.s32 %c, %c, 5; fns.b32 %d, %a, %b, %c;",
        "b32",
        &[("b32", &mask), ("b32", &base), ("b32", &offset)],
    );
    for i in 0..N {
        let set = |k: &i64| mask[i] >> k & 1 == 1;
        let (base, offset) = (base[i] as i64, offset[i] as i64 - 5);
        let want = match offset {
            0 => Some(base).filter(set),
            n if n > 0 => (base..32).filter(set).nth(n as usize - 1),
            n => (0..=base).rev().filter(set).nth(-n as usize - 1),
        };
        assert_eq!(out.d[i], want.map_or(0xffff_ffff, |k| k as u64), "fns {base} {offset}");
    }
}

#[test]
fn dot_products() {
    let byte = |word: i128, k: u32, signed: bool| match signed {
        true => i128::from((word >> (8 * k)) as i8),
        false => i128::from((word >> (8 * k)) as u8),
    };
    let half = |word: i128, k: u32, signed: bool| match signed {
        true => i128::from((word >> (16 * k)) as i16),
        false => i128::from((word >> (16 * k)) as u16),
    };
    for (at, asigned) in [("u32", false), ("s32", true)] {
        for (bt, bsigned) in [("u32", false), ("s32", true)] {
            check(&format!("dp4a.{at}.{bt} %d, %a, %b, %c;"), U32, 32, |[a, b, c]| {
                c + (0..4).map(|k| byte(a, k, asigned) * byte(b, k, bsigned)).sum::<i128>()
            });
            for (mode, first) in [("lo", 0), ("hi", 2)] {
                check(&format!("dp2a.{mode}.{at}.{bt} %d, %a, %b, %c;"), U32, 32, |[a, b, c]| {
                    c + (0..2)
                        .map(|k| half(a, k, asigned) * byte(b, first + k, bsigned))
                        .sum::<i128>()
                });
            }
        }
    }
}

#[test]
fn carries_make_numbers_of_128_bits() {
    let mut values = Values(5);
    let [al, ah, bl, bh] = [(); 4].map(|()| values.integers(64, N));
    let sources: [(&str, &[u64]); 4] = [("b64", &al), ("b64", &ah), ("b64", &bl), ("b64", &bh)];
    let wide = |l: u64, h: u64| u128::from(h) << 64 | u128::from(l);
    // %a, %b are the first number, %c, %e the second; the flag shows in a third sum.
    let sum =
        run("add.cc.u64 %d, %a, %c; addc.cc.u64 %d, %b, %e; addc.u64 %d, %d, 0;", "b64", &sources);
    let rest = run("sub.cc.u64 %d, %a, %c; subc.u64 %d, %b, %e;", "b64", &sources);
    let borrow =
        run("sub.cc.s64 %d, %a, %c; subc.cc.s64 %d, %b, %e; subc.s64 %d, 0, 0;", "b64", &sources);
    let product = run(
        "mul.lo.u64 %d, %a, %c; mad.lo.cc.u64 %d, %b, %e, %d; madc.hi.u64 %d, %b, %e, %a;",
        "b64",
        &sources,
    );
    for i in 0..N {
        let (a, b) = (wide(al[i], ah[i]), wide(bl[i], bh[i]));
        let (want, over) = a.overflowing_add(b);
        assert_eq!(sum.d[i], ((want >> 64) as u64).wrapping_add(u64::from(over)));
        let (want, under) = a.overflowing_sub(b);
        assert_eq!(rest.d[i], (want >> 64) as u64);
        assert_eq!(borrow.d[i], 0u64.wrapping_sub(u64::from(under)));
        let low = al[i].wrapping_mul(bl[i]);
        let cross = u128::from(ah[i]) * u128::from(bh[i]);
        let carry = u64::from((cross as u64).checked_add(low).is_none());
        let want = ((cross >> 64) as u64).wrapping_add(al[i]).wrapping_add(carry);
        assert_eq!(product.d[i], want);
    }
}

#[test]
fn a_division_by_zero_is_reported_where_it_is_executed() {
    let out = run("div.u32 %d, %a, %b;", "b32", &[("b32", &[7]), ("b32", &[2, 0, 1, 0])]);
    let kinds: Vec<_> = out.report.errors().map(|f| f.kind).collect();
    assert_eq!(kinds, [FindingKind::Undefined]);
    assert_eq!(out.report.findings[0].party.lanes, 0b1010);
    // Under a guard that leaves the zeros out, there is nothing to report.
    let out = run(
        "mov.b32 %d, 9; setp.ne.u32 %small, %b, 0; @%small div.u32 %d, %a, %b;",
        "b32",
        &[("b32", &[7]), ("b32", &[2, 0, 1, 0])],
    );
    assert!(out.report.is_clean());
    assert_eq!(out.d, [3, 9, 7, 9]);
}
