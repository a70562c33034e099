//! Registers: reads before any write are found, others are not; places are shared without harm.

mod harness;

use harness::Bench;
use zeroforge_emulator::{FindingKind, Report};

/// Runs a body of 32 lanes: `%l` is the lane, `%d` is stored to `out[lane]`.
fn run(body: &str) -> (Vec<u32>, Report, u32) {
    let ptx = format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 out)\n{{\n\
         .reg .pred %p<9>;\n.reg .b32 %l, %d, %r<40>;\n.reg .b64 %o, %w, %q<9>;\n\
         mov.u32 %l, %tid.x;\n{body}\n\
         ld.param.u64 %o, [out];\nmul.wide.u32 %w, %l, 4;\nadd.u64 %o, %o, %w;\n\
         st.global.b32 [%o], %d;\nret;\n}}\n"
    );
    let mut bench = Bench::new(&ptx);
    let out = bench.buffer(&[0; 128]);
    bench.param_u64(out);
    let report = bench.launch("k", [1, 1, 1], [32, 1, 1]);
    let registers = bench.program.kernel("k").expect("it is there").registers;
    (bench.read_u32(out, 32), report, registers)
}

/// Lanes and register of each finding.
fn found(body: &str) -> Vec<(u32, String)> {
    let (_, report, _) = run(body);
    let all = report.errors().map(|f| {
        assert_eq!(f.kind, FindingKind::UninitialisedRegister, "{f}");
        let name = f.message.split_whitespace().nth(1).expect("a name").to_owned();
        (f.party.lanes, name)
    });
    all.collect()
}

fn one(lanes: u32, name: &str) -> Vec<(u32, String)> {
    vec![(lanes, name.to_owned())]
}

#[test]
fn a_register_that_nothing_writes() {
    assert_eq!(found("add.u32 %d, %l, %r1;"), one(u32::MAX, "%r1"));
    assert_eq!(found("mov.b32 %r1, 0; add.u32 %d, %l, %r1;"), []);
    assert_eq!(found("cvt.u32.u64 %d, %q3;"), one(u32::MAX, "%q3"));
}

#[test]
fn guards_and_predicates() {
    assert_eq!(found("mov.b32 %d, 0; @%p1 mov.b32 %d, 1;"), one(u32::MAX, "%p1"));
    assert_eq!(found("selp.b32 %d, 1, 2, %p3;"), one(u32::MAX, "%p3"));
    assert_eq!(
        found("setp.eq.u32 %p1, %l, 0; and.pred %p2, %p1, !%p4; selp.b32 %d, 1, 2, %p2;"),
        one(u32::MAX, "%p4")
    );
    assert_eq!(
        found("setp.eq.u32 %p1, %l, 0; @%p1 bra A; mov.b32 %d, 1; bra B; A: mov.b32 %d, 2; B:"),
        []
    );
}

#[test]
fn a_register_written_on_one_path_only() {
    let one_path =
        "setp.lt.u32 %p1, %l, 4; @!%p1 bra SKIP; mov.b32 %r1, 7; SKIP: add.u32 %d, %r1, 1;";
    assert_eq!(found(one_path), one(0xffff_fff0, "%r1"));
    // All lanes take the path that writes.
    assert_eq!(found(&one_path.replace("%l, 4", "%l, 99")), []);
    // Written on the other path as well.
    assert_eq!(found(&one_path.replace("@!%p1 bra", "mov.b32 %r1, 0; @!%p1 bra")), []);
}

#[test]
fn a_guarded_write_and_a_read_under_the_same_guard() {
    let body =
        "setp.lt.u32 %p1, %l, 4; mov.b32 %d, 0; @%p1 add.u32 %r1, %l, 7; @%p1 add.u32 %d, %r1, 1;";
    assert_eq!(found(body), []);
    let (out, _, _) = run(body);
    assert_eq!(out[..6], [8, 9, 10, 11, 0, 0]);
    assert_eq!(found(&body.replace("@%p1 add.u32 %d", "add.u32 %d")), one(0xffff_fff0, "%r1"));
    assert_eq!(
        found(&body.replace("@%p1 add.u32 %d", "@!%p1 add.u32 %d")),
        one(0xffff_fff0, "%r1")
    );
}

#[test]
fn loops() {
    // Written in the first round, read in the second.
    let body = "mov.b32 %r2, 0; mov.b32 %d, 0;\nLOOP: setp.eq.u32 %p1, %r2, 0; @%p1 bra FIRST;\n\
        add.u32 %d, %d, %r1; bra NEXT;\nFIRST: mov.b32 %r1, 5;\nNEXT: add.u32 %r2, %r2, 1;\n\
        setp.lt.u32 %p2, %r2, 3; @%p2 bra LOOP;";
    assert_eq!(found(body), []);
    assert_eq!(run(body).0[9], 10);
    assert_eq!(found(&body.replace("%r2, 0; @%p1", "%r2, 1; @%p1")), one(u32::MAX, "%r1"));
}

#[test]
fn copies_pass_on_what_is_known() {
    // Moved about and never used: no finding. Used after two moves: found where it is used.
    assert_eq!(found("mov.b32 %r2, %r1; mov.b64 %q1, {%r2, %l}; mov.b32 %d, 1;"), []);
    assert_eq!(
        found("mov.b32 %r2, %r1; mov.b32 %r3, %r2; add.u32 %d, %r3, 1;"),
        one(u32::MAX, "%r3")
    );
    assert_eq!(
        found("mov.b64 %q1, {%l, %r1}; mov.b64 {%r2, %r3}, %q1; add.u32 %d, %r2, 1;"),
        one(u32::MAX, "%r2")
    );
    assert_eq!(found("mov.b32 %r2, %r1; mov.b32 %r2, %l; add.u32 %d, %r2, 1;"), []);
    // A value that is overwritten by an unknown one is unknown again.
    assert_eq!(
        found("mov.b32 %r2, 3; mov.b32 %r2, %r1; add.u32 %d, %r2, 1;"),
        one(u32::MAX, "%r2")
    );
}

#[test]
fn registers_are_those_that_are_live_at_once() {
    // A chain of forty registers, of which two are live at a time.
    let chain: String = (1..39).map(|i| format!("add.u32 %r{}, %r{i}, %l;\n", i + 1)).collect();
    let body = format!("mov.b32 %r1, 0;\n{chain}mov.b32 %d, %r39;");
    let (out, report, registers) = run(&body);
    assert!(report.is_clean());
    assert!((0..32).all(|l| out[l] == 38 * l as u32));
    // The lane and the sum; at the end an address and an offset of 64 bits beside value and lane.
    assert!((5..=6).contains(&registers), "{registers}");
    // All forty live at once.
    let set: String = (1..40).map(|i| format!("add.u32 %r{i}, %l, {i};\n")).collect();
    let sum: String = (1..40).map(|i| format!("add.u32 %d, %d, %r{i};\n")).collect();
    let (out, _, registers) = run(&format!("{set}mov.b32 %d, 0;\n{sum}"));
    assert!((0..32).all(|l| out[l] == 39 * l as u32 + 780));
    assert_eq!(registers, 41);
}

#[test]
fn divergent_lanes_do_not_touch_what_others_hold_in_a_shared_place() {
    // Temporaries of the two sides may share places; a value that is live across both may not.
    let side = |from: u32| -> String {
        (from..from + 10).map(|i| format!("add.u32 %r{}, %r{i}, 1;\n", i + 1)).collect()
    };
    let body = format!(
        "mul.lo.u32 %r30, %l, 100; and.b32 %r31, %l, 1; setp.eq.u32 %p1, %r31, 0;\n@%p1 bra EVEN;\n\
         mov.b32 %r1, 1000;\n{}mov.b32 %d, %r11; bra DONE;\n\
         EVEN: mov.b32 %r12, 2000;\n{}mov.b32 %d, %r22;\nDONE: add.u32 %d, %d, %r30;",
        side(1),
        side(12)
    );
    let (out, report, registers) = run(&body);
    assert!(report.is_clean());
    for lane in 0..32u32 {
        let base = if lane % 2 == 0 { 2010 } else { 1010 };
        assert_eq!(out[lane as usize], base + 100 * lane);
    }
    assert!(registers < 10, "{registers}");
}

#[test]
fn registers_of_a_wgmma_in_flight_are_not_given_away() {
    // Nobody reads the accumulators; they are written when the wait ends, late as it is.
    let set: String = (1..9).map(|i| format!("add.u32 %r{i}, %l, {i};\n")).collect();
    let sum: String = (1..9).map(|i| format!("add.u32 %r20, %r20, %r{i};\n")).collect();
    let ptx = format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 out)\n{{\n\
         .shared .align 128 .b8 data[4096];\n.reg .pred %p;\n.reg .b32 %l, %s, %r<40>;\n\
         .reg .f32 %f<4>;\n.reg .b64 %o, %w, %da;\n\
         mov.u32 %l, %tid.x;\nmov.b32 %s, data;\nshl.b32 %r20, %l, 4;\nadd.u32 %s, %s, %r20;\n\
         st.shared.v4.b32 [%s], {{0, 0, 0, 0}};\nst.shared.v4.b32 [%s+2048], {{0, 0, 0, 0}};\n\
         fence.proxy.async.shared::cta;\nbar.sync 0;\nmov.b64 %da, 0x0000000800080040;\n\
         setp.ne.u32 %p, 0, 0;\nwgmma.fence.sync.aligned;\n\
         wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {{%f0, %f1, %f2, %f3}}, %da, %da, %p, 1, 1, 0, 0;\n\
         wgmma.commit_group.sync.aligned;\n{set}wgmma.wait_group.sync.aligned 0;\n\
         mov.b32 %r20, 0;\n{sum}ld.param.u64 %o, [out];\nmul.wide.u32 %w, %l, 4;\n\
         add.u64 %o, %o, %w;\nst.global.b32 [%o], %r20;\nret;\n}}\n"
    );
    let mut bench = Bench::new(&ptx);
    let out = bench.buffer(&[0; 512]);
    bench.param_u64(out);
    let report = bench.launch_clean("k", [1, 1, 1], [128, 1, 1]);
    assert_eq!(report.wgmmas, 1);
    let got = bench.read_u32(out, 128);
    assert!((0..128).all(|l| got[l] == 8 * l as u32 + 36), "{got:?}");
}

#[test]
fn random_programs_compute_what_a_register_for_each_value_would() {
    // Straight code and loops over forty registers, against an interpreter on the host.
    let mut state = 7u64;
    let mut random = |n: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % n
    };
    for _ in 0..30 {
        let mut body: String = (1..40).map(|i| format!("add.u32 %r{i}, %l, {i};\n")).collect();
        let mut want: Vec<[u32; 40]> =
            (0..32u32).map(|l| std::array::from_fn(|i| l.wrapping_add(i as u32))).collect();
        let mut ops = Vec::new();
        for _ in 0..60 {
            let (d, a, b) =
                (1 + random(38) as usize, 1 + random(38) as usize, 1 + random(38) as usize);
            // Some only in lanes of a kind.
            let guard = random(3) == 0;
            ops.push((d, a, b, guard, random(2) == 0));
        }
        let mut inner = String::new();
        for &(d, a, b, guard, add) in &ops {
            let guard = if guard { "@%p1 " } else { "" };
            let op = if add { "add.u32" } else { "mul.lo.u32" };
            inner += &format!("{guard}{op} %r{d}, %r{a}, %r{b};\n");
        }
        body += "setp.gt.u32 %p1, %l, 11; mov.b32 %r0, 0;\nLOOP:\n";
        body += &inner;
        body += "add.u32 %r0, %r0, 1; setp.lt.u32 %p2, %r0, 3; @%p2 bra LOOP;\nmov.b32 %d, 0;\n";
        for i in (1..40).step_by(3) {
            body += &format!("xor.b32 %d, %d, %r{i};\n");
        }
        for (lane, r) in want.iter_mut().enumerate() {
            for _ in 0..3 {
                for &(d, a, b, guard, add) in &ops {
                    if !guard || lane > 11 {
                        r[d] = if add { r[a].wrapping_add(r[b]) } else { r[a].wrapping_mul(r[b]) };
                    }
                }
            }
        }
        let (out, report, _) = run(&body);
        assert!(report.is_clean(), "{:?}", report.findings);
        for lane in 0..32 {
            let sum = (1..40).step_by(3).fold(0, |s, i| s ^ want[lane][i]);
            assert_eq!(out[lane], sum, "lane {lane} of\n{body}");
        }
    }
}
