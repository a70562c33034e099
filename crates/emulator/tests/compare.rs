//! Comparison and selection.

mod harness;
#[path = "harness/scalar.rs"]
mod scalar;

use half::{bf16, f16};
use scalar::{Values, run};
use std::cmp::Ordering;

const N: usize = 1024;

const SIGNED: [&str; 6] = ["eq", "ne", "lt", "le", "gt", "ge"];
const UNSIGNED: [&str; 10] = ["eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs"];
const FLOAT: [&str; 14] =
    ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];

/// Whether a comparison holds for an ordering; None where a value is not a number.
fn holds(op: &str, order: Option<Ordering>) -> bool {
    let Some(order) = order else {
        return op == "nan" || op.len() == 3 && op.ends_with('u');
    };
    match op.strip_suffix('u').unwrap_or(op) {
        "eq" => order.is_eq(),
        "ne" => order.is_ne(),
        "lt" | "lo" => order.is_lt(),
        "le" | "ls" => order.is_le(),
        "gt" | "hi" => order.is_gt(),
        "ge" | "hs" => order.is_ge(),
        "num" => true,
        _ => false,
    }
}

fn check_setp(
    ty: &str,
    bits: u32,
    ops: &[&str],
    [a, b]: [&[u64]; 2],
    order: impl Fn(u64, u64) -> Option<Ordering>,
) {
    let class = format!("b{bits}");
    let c: Vec<u64> = (0..a.len() as u64).map(|i| i / 3 % 2).collect();
    for op in ops {
        let text = format!("setp.{op}.{ty} %d|%q, %a, %b;");
        let out = run(&text, "pred", &[(&class, a), (&class, b)]);
        let one = run(&text.replace("|%q", ""), "pred", &[(&class, a), (&class, b)]);
        for i in 0..a.len() {
            let want = holds(op, order(a[i], b[i]));
            assert_eq!(out.d[i] != 0, want, "{text} of {:#x} {:#x}", a[i], b[i]);
            assert_eq!(out.q[i], !want, "{text} of {:#x} {:#x}", a[i], b[i]);
            assert_eq!(one.d[i], out.d[i], "{text} with one destination");
        }
        for (join, not) in [("and", false), ("or", true), ("xor", false)] {
            let c_text = if not { "!%c" } else { "%c" };
            let (mnemonic, ftz) = match ty.strip_prefix("ftz.") {
                Some(ty) => (format!("setp.{op}.{join}.ftz.{ty}"), true),
                None => (format!("setp.{op}.{join}.{ty}"), false),
            };
            let text = format!("{mnemonic} %d|%q, %a, %b, {c_text};");
            let sources: [(&str, &[u64]); 3] = [(&class, a), (&class, b), ("pred", &c)];
            let out = run(&text, "pred", &sources);
            for i in 0..a.len() {
                let with = (c[i] == 1) != not;
                let by = |t: bool| match join {
                    "and" => t && with,
                    "or" => t || with,
                    _ => t != with,
                };
                let want = holds(op, order(a[i], b[i]));
                assert_eq!(out.d[i] != 0, by(want), "{text} (ftz {ftz})");
                assert_eq!(out.q[i], by(!want), "{text} (ftz {ftz})");
            }
        }
    }
}

#[test]
fn integers() {
    for bits in [16u32, 32, 64] {
        let mut values = Values(u64::from(bits));
        let (a, mut b) = (values.integers(bits, N), values.integers(bits, N));
        for i in (0..N).step_by(5) {
            b[i] = a[i];
        }
        let up = 64 - bits;
        let unsigned = |a: u64, b: u64| Some(a.cmp(&b));
        let signed = |a: u64, b: u64| Some(((a << up) as i64).cmp(&((b << up) as i64)));
        check_setp(&format!("u{bits}"), bits, &UNSIGNED, [&a, &b], unsigned);
        check_setp(&format!("s{bits}"), bits, &SIGNED, [&a, &b], signed);
        check_setp(&format!("b{bits}"), bits, &SIGNED[..2], [&a, &b], unsigned);
    }
}

/// Pairs of all of some values.
fn pairs(values: &[u64]) -> [Vec<u64>; 2] {
    let all = values.iter().flat_map(|&a| values.iter().map(move |&b| (a, b)));
    let (mut a, mut b): (Vec<u64>, Vec<u64>) = all.unzip();
    let n = a.len().next_multiple_of(64);
    a.resize(n, values[0]);
    b.resize(n, values[0]);
    [a, b]
}

const F32S: [f32; 12] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    1.5,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    1e-40,
    -1e-40,
    2e-40,
    f32::MIN_POSITIVE,
];

#[test]
fn floats_ordered_and_unordered() {
    let bits: Vec<u64> = F32S.iter().map(|v| u64::from(v.to_bits())).collect();
    let [a, b] = pairs(&bits);
    let value = |bits: u64| f32::from_bits(bits as u32);
    check_setp("f32", 32, &FLOAT, [&a, &b], |a, b| value(a).partial_cmp(&value(b)));
    let flushed = |bits: u64| {
        let v = value(bits);
        if v.is_subnormal() { 0.0 } else { v }
    };
    check_setp("ftz.f32", 32, &FLOAT, [&a, &b], |a, b| flushed(a).partial_cmp(&flushed(b)));
    let doubles: Vec<u64> = F32S.iter().map(|&v| f64::from(v).to_bits()).collect();
    let [a, b] = pairs(&doubles);
    check_setp("f64", 64, &FLOAT, [&a, &b], |a, b| {
        f64::from_bits(a).partial_cmp(&f64::from_bits(b))
    });
}

#[test]
fn halves_and_pairs_of_halves() {
    // A subnormal of each format is among them.
    let f16s = [0x0000u64, 0x8000, 0x3c00, 0xbc00, 0x7c00, 0xfc00, 0x7e00, 0x0001, 0x8001, 0x0400];
    let bf16s = [0x0000u64, 0x8000, 0x3f80, 0xbf80, 0x7f80, 0xff80, 0x7fc0, 0x0001, 0x8001, 0x0080];
    let as_f16 = |b: u64| f16::from_bits(b as u16).to_f64();
    let as_bf16 = |b: u64| bf16::from_bits(b as u16).to_f64();
    let flush16 = |b: u64| if b & 0x7c00 == 0 { 0.0 } else { as_f16(b) };
    let [a, b] = pairs(&f16s);
    check_setp("f16", 16, &FLOAT, [&a, &b], |a, b| as_f16(a).partial_cmp(&as_f16(b)));
    check_setp("ftz.f16", 16, &FLOAT, [&a, &b], |a, b| flush16(a).partial_cmp(&flush16(b)));
    // Two at once: the second predicate is that of the high halves.
    let high = |v: &[u64]| -> Vec<u64> { v.iter().map(|v| v << 16 | 0x3c00).collect() };
    let out =
        run("setp.lt.f16x2 %d|%q, %a, %b;", "pred", &[("b32", &high(&a)), ("b32", &high(&b))]);
    for i in 0..a.len() {
        assert_eq!(out.d[i], 0);
        assert_eq!(out.q[i], as_f16(a[i]) < as_f16(b[i]));
    }
    let [a, b] = pairs(&bf16s);
    check_setp("bf16", 16, &FLOAT, [&a, &b], |a, b| as_bf16(a).partial_cmp(&as_bf16(b)));
    let text = "setp.geu.bf16x2 %q|%d, %a, %b;";
    let high = |v: &[u64]| -> Vec<u64> { v.iter().map(|v| v << 16 | 0x7fc0).collect() };
    let out = run(text, "pred", &[("b32", &high(&a)), ("b32", &high(&b))]);
    for i in 0..a.len() {
        assert!(out.q[i], "a NaN is unordered");
        let less = as_bf16(a[i]) < as_bf16(b[i]);
        assert_eq!(out.d[i] != 0, !less, "{:#x} {:#x}", a[i], b[i]);
    }
}

#[test]
fn set_gives_all_ones_or_one() {
    let sources: [(&str, &[u64]); 2] = [("b32", &[1, 2]), ("b32", &[2, 2])];
    for (text, class, want) in [
        ("set.lt.u32.s32 %d, %a, %b;", "b32", [0xffff_ffff, 0]),
        ("set.eq.s32.u32 %d, %a, %b;", "b32", [0, 0xffff_ffff]),
        ("set.lt.f32.u32 %d, %a, %b;", "b32", [0x3f80_0000, 0]),
        ("set.eq.and.u32.u32 %d, %a, %b, !%q;", "b32", [0, 0xffff_ffff]),
        ("set.lt.f16x2.f16x2 %d, %a, %b;", "b32", [0x3c00, 0]),
        ("set.ge.bf16x2.bf16x2 %d, %a, %b;", "b32", [0x3f80_0000, 0x3f80_3f80]),
        ("set.lt.u32.f16x2 %d, %a, %b;", "b32", [0xffff, 0]),
    ] {
        assert_eq!(run(text, class, &sources).d, want, "{text}");
    }
    let halves: [(&str, &[u64]); 2] = [("b16", &[0x3c00, 0x4000]), ("b16", &[0x4000, 0x4000])];
    assert_eq!(run("set.lt.u16.f16 %d, %a, %b;", "b16", &halves).d, [0xffff, 0]);
    assert_eq!(run("set.lt.f16.f16 %d, %a, %b;", "b16", &halves).d, [0x3c00, 0]);
    assert_eq!(run("set.eq.bf16.bf16 %d, %a, %b;", "b16", &halves).d, [0, 0x3f80]);
    assert_eq!(run("set.ge.u32.f16 %d, %a, %b;", "b32", &halves).d, [0, 0xffff_ffff]);
}

#[test]
fn selection() {
    let p = [1u64, 0];
    for (ty, bits) in [("b16", 16), ("u32", 32), ("f32", 32), ("s64", 64), ("f64", 64)] {
        let class = format!("b{bits}");
        let sources: [(&str, &[u64]); 3] = [(&class, &[11]), (&class, &[22]), ("pred", &p)];
        assert_eq!(run(&format!("selp.{ty} %d, %a, %b, %c;"), &class, &sources).d, [11, 22]);
        // By a sign.
        let by: Vec<u64> = [1u32, 0, u32::MAX, 1 << 31].map(u64::from).to_vec();
        let sources: [(&str, &[u64]); 3] = [(&class, &[11]), (&class, &[22]), ("b32", &by)];
        let out = run(&format!("slct.{ty}.s32 %d, %a, %b, %c;"), &class, &sources);
        assert_eq!(out.d, [11, 11, 22, 22]);
        let by = [1.0f32, -0.0, -1.0, f32::NAN, -1e-40].map(|v| u64::from(v.to_bits()));
        let sources: [(&str, &[u64]); 3] = [(&class, &[11]), (&class, &[22]), ("b32", &by)];
        let out = run(&format!("slct.{ty}.f32 %d, %a, %b, %c;"), &class, &sources);
        assert_eq!(out.d, [11, 11, 22, 22, 22]);
        let out = run(&format!("slct.ftz.{ty}.f32 %d, %a, %b, %c;"), &class, &sources);
        assert_eq!(out.d, [11, 11, 22, 22, 11]);
    }
}

#[test]
fn comparisons_that_do_not_exist_are_refused() {
    let module = ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k()\n{\n.reg .pred %p;\n.reg .b32 %a;\nmov.b32 %a, 0;\nsetp.lt.b32 %p, %a, 1;\nret;\n}\n";
    let memory = zeroforge_emulator::DeviceMemory::new(1 << 20);
    let parsed = zeroforge_ptx::parse(module).expect("it can be written");
    let error =
        zeroforge_emulator::Program::load(&parsed, &memory).expect_err("no such comparison");
    assert!(error.to_string().contains(".lt does not exist for type .b32"), "{error}");
}
