//! What the parser says of texts that are wrong, and that none of them harms it.

use std::path::Path;

use zeroforge_ptx::{ParseError, parse};

fn error(text: &str) -> ParseError {
    match parse(text) {
        Ok(_) => panic!("this is no PTX:\n{}", text.chars().take(400).collect::<String>()),
        Err(error) => error,
    }
}

fn in_body(code: &str) -> ParseError {
    error(&format!(
        ".version 8.8\n.target sm_90a\n.address_size 64\n.entry k()\n{{\n.reg .b32 %r<9>;\n{code}\n}}\n"
    ))
}

#[test]
fn an_unknown_instruction_has_neighbours() {
    let e = in_body("\n\tadd.s23 %r1, %r2, %r3;");
    assert_eq!((e.line, e.column), (8, 2));
    assert_eq!(e.mnemonic.as_deref(), Some("add.s23"));
    assert_eq!(e.nearest.len(), 3);
    assert!(e.nearest[0].starts_with("add"), "{:?}", e.nearest);
    let text = e.to_string();
    assert!(text.starts_with("8:2: unknown instruction `add.s23`; the nearest known are `add"));
    let e = in_body("tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r1], 32;");
    assert!(e.message.contains("tcgen05.alloc"));
}

#[test]
fn errors_say_what_is_wrong() {
    for (code, expected) in [
        ("add.s32 %r1, %r2, %r77;", "`%r77` is not declared"),
        ("add.s32 %r1, %r2, %r09;", "`%r09` is not declared"),
        ("add.s32 %r1, %r2", "expected `;`"),
        ("add.s32 %r1, %r2, ;", "expected a constant"),
        ("add.s32 %r1, %r2, 0xZZ;", "`0xZZ` is not a number"),
        ("add.s32 %r1, %r2, 99999999999999999999;", "is not a number"),
        ("mov.f32 %r1, 0f3F8;", "`0f3F8` is not a number"),
        ("bra NOWHERE;", "no label `NOWHERE` in this scope"),
        ("{ INSIDE: } bra INSIDE;", "no label `INSIDE` in this scope"),
        ("L: L: ret;", "there twice"),
        (".reg .b32 %r<2>;", "declared twice in one scope"),
        (".reg .b32 %x<2000000>;", "the number of registers is 2000000"),
        (".reg .b32 %x<1048576>;", "more than 1048576 registers"),
        (".reg .v4 .f32 %x;", "vector registers are not supported"),
        (".shared .b8 x[99999999999999];", "a dimension is"),
        (".shared .align 3 .b8 x[4];", "not a power of two"),
        (".shared .b32 x = 1 / 0;", "division by zero"),
        (".shared .b32 x[2] = {1, 2, 3};", "more values than elements"),
        (".shared .b64 x = 0xFF(k);", "a mask over an address"),
        (".foo .b32 x;", "`.foo` is not known in a declaration"),
        ("brx.idx %r1, missing;", "no `.branchtargets`"),
        ("call nobody;", "`nobody` is not declared"),
        ("call (%r1), 5;", "a function or a register"),
        ("ld.global.u32 %r1, [nothing];", "`nothing` is not a variable or register"),
        ("@%q ret;", "`%q` is not a register"),
        ("add.s32 %r1, !5, 3;", "expected a register"),
        ("add.s32 %r1, {%r1, {%r2}}, 3;", "expected a constant"),
        (".loc 1 2;", "expected a constant"),
        ("?", "expected an instruction"),
        (".section .debug { ", "`.section` is not known"),
    ] {
        let e = in_body(code);
        assert!(e.message.contains(expected), "{code}: {e} does not say {expected}");
        assert!(e.line >= 6, "{code}: {e}");
    }
    for (text, expected) in [
        ("hello", "expected a directive"),
        (".version 8", "a version is like"),
        (".address_size 48", "32 or 64"),
        (".entry k() {", "not closed"),
        (".section .x {", "not closed"),
        (".entry k() { ret; } .entry k() { ret; }", "second body"),
        (".global .b32 a; .global .b32 a;", "declared twice"),
        (".global .pred p;", "only registers"),
        (".local .b32 p;", "`.local` at module scope"),
        (".entry k(.reg .b32 r) { ret; }", "a kernel's parameters are"),
        (".entry k() .unheard { ret; }", "`.unheard` is not known"),
        (".file 1 \"abc", "without its closing"),
        (".loc 1 1 1", "outside of a function"),
        (".alias a, b;", "`a` is not a function"),
        (".global .b64 a[4] = {{1}};", "more braces than dimensions"),
    ] {
        let e = error(text);
        assert!(e.message.contains(expected), "{text}: {e} does not say {expected}");
    }
}

#[test]
fn deep_and_large_texts_are_refused() {
    let e = in_body(&"{".repeat(100_000));
    assert!(e.message.contains("nest deeper"), "{e}");
    let e = in_body(&format!("mov.u32 %r1, {}1{};", "(".repeat(50_000), ")".repeat(50_000)));
    assert!(e.message.contains("nested too deeply"), "{e}");
    let e = in_body(&format!("mov.u32 %r1, {}1;", "-".repeat(50_000)));
    assert!(e.message.contains("nested too deeply"), "{e}");
    let e = in_body(&format!("add.s32 %r1, {{{}}}, 1;", vec!["%r1"; 5000].join(",")));
    assert!(e.message.contains("more than 256 elements"), "{e}");
    let e = error(".global .b8 a[1099511627776][1099511627776];");
    assert!(e.message.contains("larger than"), "{e}");
    let e = error(".global .b8 a[4][1073741824] = {{1}, {2}};");
    assert!(e.message.contains("initialisers of more than"), "{e}");
    let e = error(&format!(".global .b8 a{};", "[1]".repeat(40)));
    assert!(e.message.contains("16 dimensions"), "{e}");
    let e = error(&format!(".global .b8 a{} = {};", "[1]".repeat(16), "{".repeat(40_000)));
    assert!(e.message.contains("more braces"), "{e}");
    let long = "x".repeat(100_000);
    assert!(in_body(&format!("{long}.{long} %r1;")).message.len() < 5000);
    assert!(in_body(&format!("mov.u32 %r1, {long};")).message.len() < 5000);
    assert!(error(&" ".repeat((64 << 20) + 1)).message.contains("longer than"));
    let many = format!(".entry k() {{ {} }}", ".reg .b32 %r<1000000>;".repeat(40));
    assert!(parse(&many).is_err());
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}

const SIGNS: &[u8] = b"{}[]();,.:%@!|<>+-_0x\"/*\\";

/// Damaged corpus files never panic; what still parses comes back from print as it was.
#[test]
fn damaged_texts_do_no_harm() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "ptx"))
        .collect();
    files.sort();
    let texts: Vec<Vec<u8>> = files
        .iter()
        .map(|p| std::fs::read(p).expect("a file"))
        .filter(|text| text.len() < 8000)
        .collect();
    assert!(texts.len() >= 5);
    let mut random = Random(1);
    let mut parsed = 0;
    for round in 0..800 {
        let mut text = texts[round % texts.len()].clone();
        for _ in 0..1 + random.below(3) {
            if text.is_empty() {
                break;
            }
            let at = random.below(text.len());
            let other = &texts[random.below(texts.len())];
            let from = random.below(other.len());
            let piece = &other[from..(from + random.below(60)).min(other.len())];
            match random.below(6) {
                0 => text[at] = random.below(256) as u8,
                1 => text[at] = SIGNS[random.below(SIGNS.len())],
                2 => text.truncate(at.max(1)),
                3 => drop(text.splice(at..at, piece.iter().copied())),
                4 => drop(text.drain(at..(at + random.below(30)).min(text.len()))),
                _ => {
                    let end = (at + piece.len()).min(text.len());
                    drop(text.splice(at..end, piece.iter().copied()));
                }
            }
        }
        let text = String::from_utf8_lossy(&text);
        let Ok(module) = parse(&text) else { continue };
        parsed += 1;
        drop(zeroforge_ptx::verify(&module));
        let printed = zeroforge_ptx::print(&module);
        let again = parse(&printed).unwrap_or_else(|e| panic!("{e}\n{text}\n---\n{printed}"));
        assert!(zeroforge_ptx::print(&again) == printed, "no fixpoint:\n{text}\n---\n{printed}");
    }
    assert!(parsed > 50, "only {parsed} of the damaged texts parse");
}
