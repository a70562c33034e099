//! The static report on machine code as `nvdisasm` prints it, with known answers; and bad bytes.

use std::fmt::Write;

use zeroforge_sass::disassemble::parse;
use zeroforge_sass::gate::Gate;
use zeroforge_sass::{Entry, Instruction, Kernel, Launch, Report, entries, report};

/// A listing as `nvdisasm -c -hex` prints it. A line is an instruction, or a label if it ends with a colon; `|stall` sets the
/// stall count.
fn listing(name: &str, lines: &[&str]) -> String {
    let mut text = format!("\t.section\t.text.{name},\"ax\",@progbits\n{name}:\n");
    let mut address = 0;
    for line in lines {
        if line.ends_with(':') {
            let _ = writeln!(text, "{line}");
            continue;
        }
        let (code, stall) = line.split_once('|').unwrap_or((line, "1"));
        let stall: u64 = stall.parse().expect("a stall count");
        // No scoreboards: both barriers are 7.
        let high = (stall | 7 << 5 | 7 << 8) << 41;
        let _ = writeln!(text, "        /*{address:04x}*/  {code} ;  /* 0x0000000000007918 */");
        let _ = writeln!(text, "                           /* {high:#018x} */");
        address += 16;
    }
    text
}

fn kernel(lines: &[&str]) -> Kernel {
    let mut code = parse(&listing("k", lines)).expect("a listing");
    let entry = Entry { name: "k".to_owned(), registers: 168, ..Entry::default() };
    Kernel::new(entry, code.remove("k").expect("the kernel"))
}

fn of(lines: &[&str]) -> Report {
    report(&kernel(lines), &Launch { threads: Some(384), dynamic_shared: 0 })
}

/// A loop in FA3's manner: QK, PV of the tile before, wait for QK, one exponential, wait for PV, three exponentials.
const ATTENTION: [&str; 20] = [
    "USETMAXREG.DEALLOC.CTAPOOL 0x18",
    "MOV R0, RZ",
    ".L_x_0:",
    "WARPGROUP.ARRIVE",
    "HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], RZ, !UPT",
    "HGMMA.64x128x16.F32.BF16 R24, gdesc[UR8], R24, gsb0",
    "HGMMA.64x64x16.F32.BF16 R88, R180, gdesc[UR16].tnspB, R88, gsb0",
    "IADD3 R1, R1, 0x1, RZ",
    "WARPGROUP.DEPBAR.LE gsb0, 0x1",
    "FMNMX.FTZ R3, R24, R25, !PT|5",
    "MUFU.EX2 R4, R24",
    "WARPGROUP.DEPBAR.LE gsb0, 0x0",
    "MUFU.EX2 R5, R25",
    "MUFU.EX2 R6, R26",
    "@P0 MUFU.EX2 R7, R27",
    "FADD.FTZ R8, R5, R6",
    "STL [R1], R8",
    "@P1 BRA `(.L_x_0)",
    "EXIT",
    "NOP",
];

#[test]
fn what_is_in_the_shadow_of_which_group() {
    let r = of(&ATTENTION);
    let main: Vec<_> = r.main_loops().collect();
    let [l] = main[..] else { panic!("one main loop, not {}", main.len()) };
    assert_eq!((l.from, l.to, l.instructions), (0x20, 0x100, 15));
    assert_eq!((r.setmaxnreg.as_slice(), r.consumer_warpgroups), (&[24][..], 2));
    let shadow = &l.shadow;
    let shapes: Vec<String> = shadow.groups.iter().map(|g| g.shapes()).collect();
    assert_eq!(shapes, ["2x 64x128x16 SS", "1x 64x64x16 RS"]);
    assert_eq!(shadow.groups[0].tensor_cycles, 128);
    assert_eq!((shadow.inside.ex2, shadow.outside.ex2), (1, 3));
    assert_eq!((shadow.inside.fmnmx, shadow.outside.fadd), (1, 1));
    // Between the waits only the second group is in flight.
    let flight: Vec<&[usize]> = shadow.stretches.iter().map(|s| s.in_flight.as_slice()).collect();
    assert_eq!(flight, [&[][..], &[1], &[]]);
    assert_eq!(shadow.stretches[1].counts.all, 2);
    assert_eq!((l.spills.stores, l.spills.loads), (1, 0));
    // Two warps a sub-partition: (2 * 64 + 32) * 2 cycles of products, 4 exponentials of 8.
    assert_eq!((l.bounds.tensor, l.bounds.mufu, l.bounds.warps), (320.0, 64.0, 8));
}

#[test]
fn groups_that_outlive_an_iteration() {
    let r = of(&[
        ".L_x_0:",
        "MUFU.EX2 R5, R25",
        "HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24, gsb0",
        "WARPGROUP.DEPBAR.LE gsb0, 0x1",
        "MUFU.EX2 R6, R25",
        "@P1 BRA `(.L_x_0)",
        "WARPGROUP.DEPBAR.LE gsb0, 0x0",
        "EXIT",
    ]);
    let l = r.main_loops().next().expect("a main loop");
    assert!(l.shadow.groups[0].carried);
    assert_eq!(
        (l.shadow.inside.ex2, l.shadow.outside.ex2),
        (2, 0),
        "one group is always in flight"
    );
}

#[test]
fn rare_blocks_and_retries_are_not_on_the_hot_path() {
    let r = of(&[
        ".L_x_0:",
        "SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR5+0x10], R9",
        "@P0 BRA `(.L_x_1)",
        ".L_x_2:",
        "SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR5+0x10], R9",
        "@!P0 BRA `(.L_x_2)",
        ".L_x_1:",
        "HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24, gsb0",
        "WARPGROUP.DEPBAR.LE gsb0, 0x0",
        "@P2 BRA `(.L_x_3)",
        "FMUL R1, R1, R2",
        "FMUL R3, R3, R2",
        ".L_x_3:",
        "@P1 BRA `(.L_x_0)",
        "EXIT",
    ]);
    let l = r.main_loops().next().expect("a main loop");
    assert!(l.main && l.innermost, "a retry is no loop with work");
    assert_eq!((l.instructions, l.hot_instructions), (10, 6));
}

#[test]
fn control_codes_of_known_instructions() {
    // FA3's bf16 128 causal kernel begins with these.
    let text = "\t.section\t.text.k,\"ax\"
        /*0000*/                   S2R R0, SR_TID.X ;     /* 0x0000000000007919 */
                                                          /* 0x000e620000002100 */
        /*0010*/              @!P0 SHF.R.U32.HI R7, RZ, 0x5, R0 ;  /* 0x00000005ff077819 */
                                                          /* 0x002fca0000011600 */
        /*0020*/                   FMUL.FTZ R184, R18.reuse, R9 ;  /* 0x0000000912b87220 */
                                                          /* 0x044fe20000410000 */
";
    let code = parse(text).expect("a listing").remove("k").expect("the kernel");
    let c = |n: usize| code[n].control;
    assert_eq!((c(0).stall, c(0).write_barrier, c(0).read_barrier), (1, Some(1), None));
    assert_eq!((c(1).stall, c(1).wait_mask, c(1).write_barrier), (5, 0b10, None));
    assert_eq!((c(2).reuse, c(2).wait_mask, c(2).stall), (1, 0b100, 1));
    assert_eq!(code[1].predicate.as_deref(), Some("!P0"));
    assert_eq!(code[1].operands, ["R7", "RZ", "0x5", "R0"]);
}

#[test]
fn gates_find_what_they_forbid() {
    let r = of(&ATTENTION);
    let broken = |text: &str, predicted: Option<f64>| -> Vec<&'static str> {
        let gate = Gate::parse(text).expect("a gate");
        gate.check(&r, predicted).iter().map(|v| v.rule).collect()
    };
    let kept = "[[gate]]\nmax_registers = 168\nmax_loop_instructions = 15\nmin_ex2_in_shadow = 0.25\nmin_main_loops = 1\nmin_predicted_utilisation = 0.5";
    assert_eq!(broken(kept, Some(0.5)), [] as [&str; 0]);
    for (rule, text) in [
        ("max_registers", "max_registers = 167"),
        ("max_spills_in_loops", "max_spills_in_loops = 0"),
        ("max_spills", "max_spills = 0"),
        ("max_loop_instructions", "max_loop_instructions = 14"),
        ("max_hot_instructions", "max_hot_instructions = 14"),
        ("min_ex2_in_shadow", "min_ex2_in_shadow = 0.26"),
        ("min_fadd_in_shadow", "min_fadd_in_shadow = 0.1"),
        ("min_main_loops", "min_main_loops = 2"),
        ("min_blocks_per_sm", "min_blocks_per_sm = 2"),
        ("max_instructions", "max_instructions = 17"),
        ("min_predicted_utilisation", "min_predicted_utilisation = 0.51"),
    ] {
        assert_eq!(broken(&format!("[[gate]]\n{text}"), Some(0.5)), [rule], "{text}");
    }
    // What could not be predicted keeps no promise.
    assert_eq!(
        broken("[[gate]]\nmin_predicted_utilisation = 0.1", None),
        ["min_predicted_utilisation"]
    );
    assert!(
        Gate::parse("[[gate]]\nmax_register = 1").expect_err("a typo").contains("max_register")
    );
    assert!(Gate::parse("").is_err());
    let gate = Gate::parse("[[gate]]\nkernel = \"other\"\nmax_spills = 0").expect("a gate");
    assert_eq!(gate.unused(&[&r]), ["other"]);
}

/// A small ELF file as ptxas lays it out: names, symbols, one kernel with attributes.
fn cubin() -> Vec<u8> {
    fn word(out: &mut Vec<u8>, v: u64, bytes: usize) {
        out.extend_from_slice(&v.to_le_bytes()[..bytes]);
    }
    let names = b"\0.shstrtab\0.strtab\0.symtab\0.nv.info\0.nv.info.k\0.text.k\0.nv.shared.k\0";
    let name = |n: &str| {
        let text = String::from_utf8_lossy(names);
        text.find(&format!("\0{n}\0")).expect("a name") as u64 + 1
    };
    let strings = b"\0k\0";
    let mut symbols = vec![0; 24];
    word(&mut symbols, 1, 4);
    symbols.extend([0x12, 0x10]);
    word(&mut symbols, 6, 2);
    word(&mut symbols, 0, 8);
    word(&mut symbols, 128, 8);
    // Registers and stack of symbol 1; then of the kernel: at most 384 threads, 40 bytes of parameters.
    let mut info = vec![4, 0x2f, 8, 0];
    info.extend([1, 0, 0, 0, 200, 0, 0, 0, 4, 0x11, 8, 0, 1, 0, 0, 0, 16, 0, 0, 0]);
    let own = [4, 5, 12, 0, 128, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 3, 0x19, 40, 0];
    let code = [0u8; 128];
    let sections: [(&str, u64, u64, &[u8], u64); 8] = [
        ("", 0, 0, &[], 0),
        (".shstrtab", 3, 0, names, names.len() as u64),
        (".strtab", 3, 0, strings, 3),
        (".symtab", 2, 0, &symbols, symbols.len() as u64),
        (".nv.info", 0x7000_0000, 0, &info, info.len() as u64),
        (".nv.info.k", 0x7000_0000, 0, &own, own.len() as u64),
        (".text.k", 1, 200 << 24, &code, 128),
        (".nv.shared.k", 8, 0, &[], 1024),
    ];
    let mut file = b"\x7fELF\x02\x01".to_vec();
    file.resize(16, 0);
    word(&mut file, 2, 2);
    word(&mut file, 190, 2);
    file.resize(64, 0);
    let mut table = Vec::new();
    for (n, kind, info, bytes, size) in sections {
        word(&mut table, if n.is_empty() { 0 } else { name(n) }, 4);
        word(&mut table, kind, 4);
        word(&mut table, 0, 8);
        word(&mut table, 0, 8);
        word(&mut table, file.len() as u64, 8);
        word(&mut table, size, 8);
        word(&mut table, 0, 4);
        word(&mut table, info, 4);
        word(&mut table, 0, 8);
        word(&mut table, 0, 8);
        file.extend_from_slice(bytes);
    }
    let at = file.len() as u64;
    file[40..48].copy_from_slice(&at.to_le_bytes());
    file[58..60].copy_from_slice(&64u16.to_le_bytes());
    file[60..62].copy_from_slice(&8u16.to_le_bytes());
    file[62..64].copy_from_slice(&1u16.to_le_bytes());
    file.extend(table);
    file
}

#[test]
fn what_the_loader_knows() {
    let list = entries(&cubin()).expect("a cubin");
    let [k] = &list[..] else { panic!("one kernel") };
    assert_eq!(
        *k,
        Entry {
            name: "k".to_owned(),
            symbol: 1,
            code_bytes: 128,
            registers: 200,
            stack_bytes: 16,
            static_shared: 1024,
            max_threads: Some(384),
            required_threads: None,
            param_bytes: 40,
        }
    );
}

/// Numbers that look random and are the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % below
    }
}

#[test]
fn bad_bytes_are_refused_without_a_panic() {
    let whole = cubin();
    for cut in 0..whole.len() {
        assert!(entries(&whole[..cut]).is_err(), "cut at {cut}");
    }
    let mut numbers = Numbers(1);
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + numbers.next(4) {
            let at = numbers.next(bytes.len());
            bytes[at] = [0, 1, 0x7f, 0x80, 0xff, numbers.next(256) as u8][numbers.next(6)];
        }
        // Whatever it says, it says it.
        let _ = entries(&bytes);
    }
}

#[test]
fn bad_listings_are_refused_without_a_panic() {
    let whole = listing("k", &ATTENTION);
    for cut in (0..whole.len()).filter(|&n| whole.is_char_boundary(n)) {
        let _ = parse(&whole[..cut]);
    }
    let mut numbers = Numbers(2);
    for _ in 0..3_000 {
        let mut lines: Vec<&str> = whole.lines().collect();
        for _ in 0..1 + numbers.next(3) {
            let (a, b) = (numbers.next(lines.len()), numbers.next(lines.len()));
            match numbers.next(3) {
                0 => lines.swap(a, b),
                1 => {
                    lines.remove(a);
                }
                _ => lines.insert(a, "/*zz*/ HGMMA.64xx R, [ ; /* 0x1 */"),
            }
        }
        let Ok(mut code) = parse(&lines.join("\n")) else { continue };
        let Some(code) = code.remove("k") else { continue };
        let _: &Vec<Instruction> = &code;
        let kernel = Kernel::new(Entry::default(), code);
        let r = report(&kernel, &Launch::default());
        let _ = zeroforge_sass::text::report(&r);
        let _ = zeroforge_sass::timeline::steady(&kernel, &r, &Default::default());
    }
}
