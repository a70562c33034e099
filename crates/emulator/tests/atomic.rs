//! Atomics: every operation and type, in every space.

mod harness;
#[path = "harness/scalar.rs"]
mod scalar;

use half::{bf16, f16};
use harness::Bench;
use scalar::Values;
use zeroforge_emulator::{FindingKind, Report};

/// Where the word lies.
const SPACES: [&str; 4] = ["global", "shared", "generic-global", "generic-shared"];

/// Runs an atomic by `values.len()` lanes on one word that starts as `start`. Gives what each lane got, and
/// the word at the end.
fn atomics(
    op: &str,
    ty: &str,
    bits: u32,
    space: &str,
    start: u64,
    values: &[[u64; 2]],
) -> (Vec<u64>, u64) {
    let class = format!("b{bits}");
    let (shared, generic) = (space.ends_with("shared"), space.starts_with("generic"));
    let place = match (generic, shared) {
        (true, _) => "",
        (_, true) => ".shared",
        _ => ".global",
    };
    let cas = if op == "cas" { ", %c" } else { "" };
    let address = match (shared, generic) {
        (true, false) => "mov.u64 %at, word;",
        (true, true) => "mov.u64 %at, word; cvta.shared.u64 %at, %at;",
        _ => "ld.param.u64 %at, [pword];",
    };
    let ptx = format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n\
         .visible .entry k(.param .u64 out, .param .u64 pword, .param .u64 in)\n{{\n\
         .shared .align 8 .b8 word[8];\n.reg .pred %first;\n.reg .{class} %b, %c, %d;\n\
         .reg .b32 %l;\n.reg .b64 %o, %at, %w, %i, %g;\n\
         mov.u32 %l, %tid.x;\nmul.wide.u32 %w, %l, 16;\nld.param.u64 %i, [in];\nadd.u64 %i, %i, %w;\n\
         ld.global.{class} %b, [%i];\nld.global.{class} %c, [%i+8];\nld.param.u64 %g, [pword];\n\
         setp.eq.u32 %first, %l, 0;\n@%first ld.global.{class} %d, [%g];\n\
         @%first st.shared.{class} [word], %d;\nbar.sync 0;\n{address}\n\
         atom{place}.{op}.{ty} %d, [%at], %b{cas};\n\
         ld.param.u64 %o, [out];\nmul.wide.u32 %w, %l, 8;\nadd.u64 %o, %o, %w;\n\
         st.global.{class} [%o], %d;\nbar.sync 0;\n{}\nret;\n}}\n",
        if shared {
            format!("@%first ld.shared.{class} %d, [word]; @%first st.global.{class} [%g], %d;")
        } else {
            String::new()
        }
    );
    let mut bench = Bench::new(&ptx);
    let out = bench.buffer(&vec![0; values.len() * 8]);
    let word = bench.buffer(&start.to_le_bytes());
    let bytes: Vec<u8> = values.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
    let input = bench.buffer(&bytes);
    bench.param_u64(out).param_u64(word).param_u64(input);
    bench.launch_clean("k", [1, 1, 1], [values.len() as u32, 1, 1]);
    let words = |bytes: Vec<u8>| -> Vec<u64> {
        bytes.chunks(8).map(|c| u64::from_le_bytes(c.try_into().expect("eight"))).collect()
    };
    (words(bench.read(out, values.len() * 8)), words(bench.read(word, 8))[0])
}

/// Checks an operation against a function of old value and operands, lane after lane.
fn check(op: &str, ty: &str, bits: u32, apply: impl Fn(u64, u64, u64) -> u64) {
    let mut values = Values(u64::from(bits));
    let all = u64::MAX >> (64 - bits);
    for space in SPACES {
        let start = values.integers(bits, 1)[0];
        let operands: Vec<[u64; 2]> =
            values.integers(bits, 40).chunks(2).map(|c| [c[0], c[1]]).collect();
        let (got, end) = atomics(op, ty, bits, space, start, &operands);
        let mut word = start;
        for (i, [b, c]) in operands.iter().enumerate() {
            assert_eq!(got[i], word, "{op}.{ty} in {space}, lane {i}");
            word = apply(word, *b, *c) & all;
        }
        assert_eq!(end & all, word, "{op}.{ty} in {space}");
    }
}

#[test]
fn integers_in_every_space() {
    for bits in [32u32, 64] {
        let up = 64 - bits;
        let value = move |v: u64| (v << up) as i64 >> up;
        check("add", &format!("u{bits}"), bits, |a, b, _| a.wrapping_add(b));
        check("min", &format!("u{bits}"), bits, |a, b, _| a.min(b));
        check("max", &format!("u{bits}"), bits, |a, b, _| a.max(b));
        check("min", &format!("s{bits}"), bits, |a, b, _| value(a).min(value(b)) as u64);
        check("max", &format!("s{bits}"), bits, |a, b, _| value(a).max(value(b)) as u64);
        check("and", &format!("b{bits}"), bits, |a, b, _| a & b);
        check("or", &format!("b{bits}"), bits, |a, b, _| a | b);
        check("xor", &format!("b{bits}"), bits, |a, b, _| a ^ b);
        check("exch", &format!("b{bits}"), bits, |_, b, _| b);
    }
    check("add", "s32", 32, |a, b, _| a.wrapping_add(b));
    check("inc", "u32", 32, |a, b, _| if a >= b { 0 } else { a + 1 });
    check("dec", "u32", 32, |a, b, _| if a == 0 || a > b { b } else { a - 1 });
}

#[test]
fn compare_and_swap() {
    for bits in [16, 32, 64] {
        for space in SPACES {
            // Every lane expects what the one before it stored, but for one that does not.
            let operands: Vec<[u64; 2]> = (0..20u64)
                .map(|i| [if i == 7 { 99 } else { i - u64::from(i > 7) }, i + 1 - u64::from(i > 7)])
                .collect();
            let (got, end) = atomics("cas", &format!("b{bits}"), bits, space, 0, &operands);
            let mut word = 0;
            for (i, [b, c]) in operands.iter().enumerate() {
                assert_eq!(got[i], word, "b{bits} in {space}");
                word = if word == *b { *c } else { word };
            }
            assert_eq!((end, word), (19, 19), "b{bits} in {space}");
        }
    }
}

#[test]
fn sums_of_floats() {
    let bits = |v: f32| u64::from(v.to_bits());
    let add = |v: &[f32]| v.iter().map(|&v| [bits(v), 0]).collect::<Vec<_>>();
    for space in SPACES {
        let (_, end) = atomics("add", "f32", 32, space, bits(1.0), &add(&[0.1; 9]));
        assert_eq!(end, bits((0..9).fold(1.0f32, |a, _| a + 0.1)), "{space}");
        // Subnormals are lost in global memory and kept in shared memory (PTX ISA 9.7.13.5).
        let (_, end) = atomics("add", "f32", 32, space, bits(1e-40), &add(&[1e-40, 2e-40]));
        let want = if space.ends_with("shared") { 1e-40 + 1e-40 + 2e-40 } else { 0.0 };
        assert_eq!(end, bits(want), "{space}");
        let doubles: Vec<[u64; 2]> = (0..9).map(|_| [0.1f64.to_bits(), 0]).collect();
        let (_, end) = atomics("add", "f64", 64, space, 1f64.to_bits(), &doubles);
        assert_eq!(end, (0..9).fold(1.0f64, |a, _| a + 0.1).to_bits(), "{space}");
        let mut values = Values(4);
        let f16s: Vec<u64> = (0..30)
            .map(|_| u64::from(f16::from_f64(values.next() as f64 / 1e18).to_bits()))
            .collect();
        let operands: Vec<[u64; 2]> = f16s.iter().map(|&v| [v, 0]).collect();
        let (_, end) = atomics("add.noftz", "f16", 16, space, 0x0001, &operands);
        let sum = |a: u64, b: u64| {
            let exact = f16::from_bits(a as u16).to_f64() + f16::from_bits(b as u16).to_f64();
            u64::from(f16::from_f64(exact).to_bits())
        };
        assert_eq!(end, f16s.iter().fold(1, |a, &b| sum(a, b)), "{space}");
        // Both halves of a pair; a subnormal is kept.
        let (_, end) = atomics("add.noftz", "f16x2", 32, space, 0x0001_3c00, &[[0x0002_4000, 0]]);
        assert_eq!(end, 0x0003_4200, "{space}");
        let one = u64::from(bf16::from_f32(1.0).to_bits());
        let (_, end) =
            atomics("add.noftz", "bf16x2", 32, space, one << 16 | 1, &[[one << 16 | 1, 0]]);
        assert_eq!(end, 0x4000_0002, "{space}");
        let (_, end) = atomics("add.noftz", "bf16", 16, space, one, &[[one, 0], [one, 0]]);
        assert_eq!(end, u64::from(bf16::from_f32(3.0).to_bits()), "{space}");
    }
}

fn kernel(body: &str, blocks: u32, threads: u32, memory: &[u8]) -> (Vec<u8>, Report) {
    let ptx = format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 p)\n{{\n\
         .shared .align 16 .b8 word[16];\n\
         .reg .pred %p;\n.reg .b16 %h<9>;\n.reg .b32 %l, %x, %y;\n.reg .f32 %f<5>;\n.reg .b64 %a;\n\
         mov.u32 %l, %tid.x;\nld.param.u64 %a, [p];\nmov.f32 %f1, 0f3F800000;\n{body}\nret;\n}}\n"
    );
    let mut bench = Bench::new(&ptx);
    let address = bench.buffer(memory);
    bench.param_u64(address);
    let report = bench.launch("k", [blocks, 1, 1], [threads, 1, 1]);
    (bench.read(address, memory.len()), report)
}

#[test]
fn vectors_add_element_by_element() {
    let start: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let body = "add.f32 %f2, %f1, %f1; red.global.add.v4.f32 [%a], {%f1, %f2, %f1, %f2};";
    let (end, report) = kernel(body, 2, 3, &start);
    assert!(report.is_clean(), "{:?}", report.findings);
    let floats: Vec<f32> =
        end.chunks(4).map(|c| f32::from_le_bytes(c.try_into().expect("four"))).collect();
    assert_eq!(floats, [7.0, 14.0, 9.0, 16.0]);
    let body = "atom.global.add.v2.f32 {%f2, %f3}, [%a], {%f1, %f1}; st.global.f32 [%a+8], %f3;";
    let (end, report) = kernel(body, 1, 1, &start);
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(end[8..12], 2.0f32.to_le_bytes());
    let body = "mov.b16 %h1, 0x3c00; mov.b16 %h2, 0xbc00;\n\
        red.global.max.v2.f16 [%a], {%h1, %h2}; red.global.min.v2.f16 [%a+4], {%h1, %h2};";
    let (end, report) = kernel(body, 1, 1, &[0; 16]);
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(end[..8], [0x00, 0x3c, 0, 0, 0, 0, 0x00, 0xbc]);
}

#[test]
fn every_thread_of_every_block_counts() {
    let body = "red.relaxed.gpu.global.add.u32 [%a], 1; atom.global.inc.u32 %x, [%a+4], 999;";
    let (end, report) = kernel(body, 50, 200, &[0; 16]);
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(end[..8], [0x10, 0x27, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_lock_of_compare_and_swap_lets_one_in_at_a_time() {
    // Lane 0 of each warp takes the lock, adds with plain accesses, and gives it back.
    let body = "and.b32 %x, %l, 31; setp.ne.u32 %p, %x, 0; @%p bra DONE;\n\
        SPIN: atom.acquire.gpu.global.cas.b32 %x, [%a], 0, 1; setp.ne.u32 %p, %x, 0; @%p bra SPIN;\n\
        ld.volatile.global.u32 %y, [%a+4]; add.u32 %y, %y, 1; st.volatile.global.u32 [%a+4], %y;\n\
        atom.release.gpu.global.exch.b32 %x, [%a], 0;\nDONE:";
    let (end, report) = kernel(body, 9, 128, &[0; 16]);
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(end[..8], [0, 0, 0, 0, 36, 0, 0, 0]);
}

#[test]
fn misuse_is_reported() {
    let kinds = |body: &str| -> Vec<FindingKind> {
        kernel(body, 1, 1, &[0; 16]).1.errors().map(|f| f.kind).collect()
    };
    assert_eq!(kinds("red.global.add.u32 [%a+16], 1;"), [FindingKind::OutOfBounds]);
    assert_eq!(kinds("red.global.add.u32 [%a+2], 1;"), [FindingKind::Misaligned]);
    assert_eq!(kinds("red.shared.add.u32 [word+16], 1;"), [FindingKind::OutOfBounds]);
    assert_eq!(kinds("atom.shared.exch.b32 %x, [word+4], 1;"), [FindingKind::UninitialisedShared]);
    assert_eq!(kinds("atom.shared.exch.b32 _, [word+4], 1;"), []);
    let refused = |instruction: &str| {
        let text = format!(
            ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k()\n{{\n.reg .b128 %q;\n.reg .b64 %a;\nmov.b64 %a, 0;\n{instruction}\nret;\n}}\n"
        );
        let module = zeroforge_ptx::parse(&text).expect("it can be written");
        let memory = zeroforge_emulator::DeviceMemory::new(1 << 20);
        zeroforge_emulator::Program::load(&module, &memory).expect_err("refused").to_string()
    };
    assert!(refused("atom.global.exch.b128 %q, [%a], %q;").contains("128-bit atomics"));
}
