//! Logic, shifts and permutations against the ISA's pseudo-code.

mod harness;
#[path = "harness/scalar.rs"]
mod scalar;

use scalar::{Values, run};

const N: usize = 1024;

fn class(bits: u32) -> String {
    format!("b{bits}")
}

fn check(text: &str, bits: u32, expected: impl Fn(u64, u64, u64) -> u64) {
    let mut values = Values(u64::from(bits));
    let [a, b, c] = [(); 3].map(|()| values.integers(bits, N));
    let class = &class(bits);
    let out = run(text, class, &[(class, &a), (class, &b), (class, &c)]);
    for i in 0..N {
        let want = expected(a[i], b[i], c[i]) & u64::MAX >> (64 - bits);
        assert_eq!(out.d[i], want, "{text} of {:#x} {:#x} {:#x}", a[i], b[i], c[i]);
    }
}

#[test]
fn bitwise_logic() {
    for bits in [16, 32, 64] {
        check(&format!("and.b{bits} %d, %a, %b;"), bits, |a, b, _| a & b);
        check(&format!("or.b{bits} %d, %a, %b;"), bits, |a, b, _| a | b);
        check(&format!("xor.b{bits} %d, %a, %b;"), bits, |a, b, _| a ^ b);
        check(&format!("not.b{bits} %d, %a;"), bits, |a, _, _| !a);
        check(&format!("cnot.b{bits} %d, %a;"), bits, |a, _, _| u64::from(a == 0));
    }
}

#[test]
fn every_table_of_three_bits() {
    for table in 0..256u64 {
        check(&format!("lop3.b32 %d, %a, %b, %c, {table};"), 32, |a, b, c| {
            (0..32)
                .map(|i| {
                    let index = (a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1;
                    (table >> index & 1) << i
                })
                .sum()
        });
    }
}

#[test]
fn a_table_can_set_a_predicate_too() {
    let mut values = Values(11);
    let (a, b) = (values.integers(3, N), values.integers(3, N));
    let c: Vec<u64> = (0..N as u64).map(|i| i % 2).collect();
    let sources: [(&str, &[u64]); 3] = [("b32", &a), ("b32", &b), ("pred", &c)];
    for (op, not) in [("or", ""), ("and", ""), ("and", "!"), ("or", "!")] {
        let text = format!("lop3.{op}.b32 %d|%q, %a, %b, 0, 0xc0, {not}%c;");
        let out = run(&text, "b32", &sources);
        for i in 0..N {
            let with = (c[i] == 1) != (not == "!");
            let set = a[i] & b[i] != 0;
            assert_eq!(out.d[i], a[i] & b[i]);
            assert_eq!(out.q[i], if op == "or" { set || with } else { set && with }, "{text}");
        }
    }
}

#[test]
fn shift_amounts_are_clamped_and_not_wrapped() {
    for bits in [16u32, 32, 64] {
        let mut values = Values(u64::from(bits) + 1);
        let a = values.integers(bits, N);
        let by: Vec<u64> = (0..N)
            .map(|i| match i % 3 {
                0 => values.next() % 70,
                1 => values.next() & 0xffff_ffff,
                _ => [u64::from(bits), u64::from(bits) - 1, 0, 0xffff_ffff][i % 4],
            })
            .collect();
        let class = &class(bits);
        let sources: [(&str, &[u64]); 2] = [(class, &a), ("b32", &by)];
        let up = 64 - bits;
        let left = run(&format!("shl.b{bits} %d, %a, %b;"), class, &sources);
        let right = run(&format!("shr.u{bits} %d, %a, %b;"), class, &sources);
        let signed = run(&format!("shr.s{bits} %d, %a, %b;"), class, &sources);
        for i in 0..N {
            let n = by[i].min(u64::from(bits)) as u32;
            let all = u64::MAX >> up;
            assert_eq!(left.d[i], (u128::from(a[i]) << n) as u64 & all, "shl.b{bits} {n}");
            assert_eq!(right.d[i], (u128::from(a[i]) >> n) as u64, "shr.u{bits} {n}");
            let value = i128::from((a[i] << up) as i64 >> up);
            assert_eq!(signed.d[i], (value >> n) as u64 & all, "shr.s{bits} {:#x} {n}", a[i]);
        }
    }
}

#[test]
fn funnel_shifts() {
    let both = |a: u64, b: u64| b << 32 | a;
    check("shf.l.wrap.b32 %d, %a, %b, %c;", 32, |a, b, c| both(a, b) << (c & 31) >> 32);
    check("shf.r.wrap.b32 %d, %a, %b, %c;", 32, |a, b, c| both(a, b) >> (c & 31));
    check("shf.l.clamp.b32 %d, %a, %b, %c;", 32, |a, b, c| {
        ((u128::from(both(a, b)) << c.min(32)) >> 32) as u64
    });
    check("shf.r.clamp.b32 %d, %a, %b, %c;", 32, |a, b, c| both(a, b) >> c.min(32));
}

#[test]
fn byte_permutations() {
    let bytes = |a: u64, b: u64| (b << 32 | a).to_le_bytes();
    check("prmt.b32 %d, %a, %b, %c;", 32, |a, b, c| {
        (0..4)
            .map(|k| {
                let select = c >> (4 * k) & 15;
                let byte = bytes(a, b)[(select & 7) as usize];
                let sign = if byte & 0x80 != 0 { 0xff } else { 0 };
                u64::from(if select & 8 != 0 { sign } else { byte }) << (8 * k)
            })
            .sum()
    });
    // The table of PTX ISA 9.7.9.7, lowest byte first, as arithmetic.
    type Select = fn(u64, u64) -> u64;
    let modes: [(&str, Select); 6] = [
        ("f4e", |c, k| c + k),
        ("b4e", |c, k| (c + 8 - k) % 8),
        ("rc8", |c, _| c),
        ("ecl", |c, k| k.max(c)),
        ("ecr", |c, k| k.min(c)),
        ("rc16", |c, k| (c & 1) * 2 + k % 2),
    ];
    for (mode, select) in modes {
        check(&format!("prmt.b32.{mode} %d, %a, %b, %c;"), 32, |a, b, c| {
            (0..4).map(|k| u64::from(bytes(a, b)[select(c & 3, k) as usize]) << (8 * k)).sum()
        });
    }
}

#[test]
fn logic_of_predicates() {
    let (a, b) = ([0, 0, 1, 1], [0, 1, 0, 1]);
    let sources: [(&str, &[u64]); 2] = [("pred", &a), ("pred", &b)];
    for (text, want) in [
        ("and.pred %d, %a, %b;", [0, 0, 0, 1]),
        ("or.pred %d, %a, %b;", [0, 1, 1, 1]),
        ("xor.pred %d, %a, %b;", [0, 1, 1, 0]),
        ("and.pred %d, %a, !%b;", [0, 0, 1, 0]),
        ("or.pred %d, !%a, %b;", [1, 1, 0, 1]),
        ("not.pred %d, %a;", [1, 1, 0, 0]),
        ("mov.pred %d, %a;", [0, 0, 1, 1]),
        ("mov.pred %d, %b; @%a and.pred %d, %a, !%b;", [0, 1, 1, 0]),
        ("and.pred %d, %a, 1;", [0, 0, 1, 1]),
    ] {
        assert_eq!(run(text, "pred", &sources).d, want, "{text}");
    }
}
