//! What must end: kernels that never do, locks between lanes, huge grids, recursion.

mod harness;

use std::time::{Duration, Instant};

use harness::Bench;
use zeroforge_emulator::{DeviceMemory, Finding, FindingKind, Program, Report, Schedule};

fn kernel(body: &str) -> String {
    format!(
        ".version 8.0\n.target sm_90a\n.address_size 64\n\
         .visible .entry k(.param .u64 out)\n{{\n\
         .reg .b32 %r<20>;\n.reg .b64 %rd<8>;\n.reg .pred %p<8>;\n.shared .align 16 .b8 s[256];\n\
         mov.u32 %r0, %tid.x;\nmov.u32 %r1, %ctaid.x;\nld.param.u64 %rd0, [out];\n\
         setp.eq.u32 %p0, %r0, 0;\n{body}\nret;\n}}\n"
    )
}

fn run(body: &str, budget: u64, grid: [u32; 3], block: u32, schedule: Schedule) -> (Report, Vec<u32>) {
    let mut bench = Bench::new(&kernel(body));
    bench.options.instruction_budget = budget;
    bench.schedule(schedule);
    let out = bench.buffer(&[0; 256]);
    bench.param_u64(out);
    let report = bench.launch("k", grid, [block, 1, 1]);
    (report, bench.read_u32(out, 4))
}

fn only(report: &Report, kind: FindingKind) -> &Finding {
    let kinds: Vec<_> = report.errors().map(|f| f.kind).collect();
    assert_eq!(kinds, [kind]);
    report.errors().next().expect("one")
}

#[test]
fn endless_loops_use_the_budget_up() {
    let start = Instant::now();
    let (report, _) = run("LOOP:\nbra LOOP;", 300_000, [4, 1, 1], 64, Schedule::Late);
    let found = only(&report, FindingKind::Endless);
    assert!(found.message.contains("300000"), "{found}");
    // Also with blocks that wait for one another in turns.
    let wait = "LOOP:\nld.acquire.gpu.global.u32 %r2, [%rd0];\nsetp.eq.u32 %p1, %r2, 0;\n@%p1 bra LOOP;";
    let (report, _) = run(wait, 300_000, [500, 1, 1], 64, Schedule::Late);
    assert!(report.errors().any(|f| f.kind == FindingKind::Endless));
    assert!(report.warp_instructions < 20_000_000, "{}", report.warp_instructions);
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_lane_that_spins_lets_the_one_with_the_lock_go_on() {
    // Every lane takes the lock, adds to a word and gives the lock back.
    let body = "@%p0 st.shared.u32 [s], 0;\n@%p0 st.shared.u32 [s+4], 0;\nbar.sync 0;\n\
        AGAIN:\natom.acquire.cta.shared.cas.b32 %r2, [s], 0, 1;\nsetp.ne.u32 %p1, %r2, 0;\n\
        @%p1 bra AGAIN;\nld.shared.u32 %r3, [s+4];\nadd.u32 %r3, %r3, %r0;\n\
        st.shared.u32 [s+4], %r3;\natom.release.cta.shared.exch.b32 %r4, [s], 0;\n\
        bar.sync 0;\nld.shared.u32 %r3, [s+4];\n@%p0 st.global.u32 [%rd0], %r3;";
    let schedules = (0..5).map(Schedule::Random).chain([Schedule::Late, Schedule::Eager]);
    for schedule in schedules {
        let (report, out) = run(body, 50_000_000, [1, 1, 1], 64, schedule);
        let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{schedule:?}:\n{}", errors.join("\n"));
        assert_eq!(out[0], 64 * 63 / 2, "{schedule:?}");
    }
    // Without release and acquire the lock keeps nothing together.
    let relaxed = body.replace(".acquire", ".relaxed").replace(".release", ".relaxed");
    let (report, _) = run(&relaxed, 50_000_000, [1, 1, 1], 64, Schedule::Late);
    assert!(report.errors().any(|f| f.kind == FindingKind::Race));
}

#[test]
fn grids_of_two_billion_blocks_stop() {
    let start = Instant::now();
    let (report, _) = run("", 2_000_000, [i32::MAX as u32, 1, 1], 32, Schedule::Late);
    only(&report, FindingKind::Endless);
    let fence = "fence.acq_rel.gpu;";
    let (report, _) = run(fence, 2_000_000, [i32::MAX as u32, 1, 1], 32, Schedule::Late);
    assert!(report.errors().any(|f| f.kind == FindingKind::Endless));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn blocks_behind_a_deadlock_are_not_reported_whatever_the_number_of_threads() {
    // The fourth block waits for itself; later ones read what nobody wrote.
    let body = "setp.eq.u32 %p1, %r1, 3;\n@!%p1 bra OTHERS;\n@%p0 bar.sync 1, 64;\nbra DONE;\n\
        OTHERS:\nsetp.lt.u32 %p2, %r1, 3;\n@%p2 bra DONE;\nld.shared.u32 %r3, [s];\nDONE:";
    let mut reports = Vec::new();
    for threads in [1, 2, 7] {
        let mut bench = Bench::new(&kernel(body));
        bench.options.threads = threads;
        let out = bench.buffer(&[0; 256]);
        bench.param_u64(out);
        reports.push(bench.launch("k", [40, 1, 1], [32, 1, 1]).findings);
    }
    assert_eq!(reports[0], reports[1]);
    assert_eq!(reports[0], reports[2]);
    assert!(!reports[0].iter().any(|f| f.kind == FindingKind::UninitialisedShared));
}

#[test]
fn recursion_is_refused_by_name() {
    let ptx = ".version 8.0\n.target sm_90a\n.address_size 64\n\
        .func f(.param .b32 n)\n{\n.reg .b32 %r<2>;\nld.param.u32 %r0, [n];\n\
        {\n.param .b32 p;\nst.param.b32 [p], %r0;\ncall.uni f, (p);\n}\nret;\n}\n\
        .visible .entry k()\n{\n.reg .b32 %r<2>;\nmov.u32 %r0, 3;\n\
        {\n.param .b32 p;\nst.param.b32 [p], %r0;\ncall.uni f, (p);\n}\nret;\n}\n";
    let module = zeroforge_ptx::parse(ptx).expect("it parses");
    let error = Program::load(&module, &DeviceMemory::new(1 << 20)).expect_err("refused");
    assert!(error.to_string().contains("recursion"), "{error}");
}
