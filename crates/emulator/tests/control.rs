//! Control flow, barriers of a block, loads and stores.

mod harness;

use harness::Bench;
use zeroforge_emulator::{FindingKind, Schedule};

const HEAD: &str = ".version 8.0\n.target sm_90a\n.address_size 64\n";

/// A kernel `k(out)` whose body starts with `%rd1` at `out + 4 * tid` and `%r1 = tid`.
fn kernel(declare: &str, body: &str) -> String {
    format!(
        "{HEAD}{declare}
.visible .entry k(.param .u64 out) {{
    .reg .pred %p<9>; .reg .b32 %r<40>; .reg .b64 %rd<20>;
    ld.param.u64 %rd0, [out];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd1, %rd0, %rd2;
    {body}
    ret;
}}"
    )
}

fn run(ptx: &str, threads: u32) -> Vec<u32> {
    let mut bench = Bench::new(ptx);
    let out = bench.unwritten(threads as usize * 4);
    bench.param_u64(out).launch_clean("k", [1; 3], [threads, 1, 1]);
    bench.read_u32(out, threads as usize)
}

fn findings(ptx: &str, threads: u32) -> Vec<FindingKind> {
    let mut bench = Bench::new(ptx);
    bench.options.instruction_budget = 2_000_000;
    let out = bench.unwritten(threads as usize * 4);
    let report = bench.param_u64(out).launch("k", [1; 3], [threads, 1, 1]);
    report.errors().map(|f| f.kind).collect()
}

#[test]
fn lanes_take_their_own_branch_and_meet_again() {
    // Odd lanes add 100, even ones multiply by 3; then all vote, which needs all lanes together.
    let body = "
    and.b32 %r2, %r1, 1;
    setp.ne.s32 %p1, %r2, 0;
    @%p1 bra ODD;
    mul.lo.s32 %r3, %r1, 3;
    bra MEET;
ODD:
    add.s32 %r3, %r1, 100;
MEET:
    vote.sync.ballot.b32 %r4, %p1, 0xffffffff;
    add.s32 %r3, %r3, %r4;
    st.global.u32 [%rd1], %r3;";
    let got = run(&kernel("", body), 32);
    for (i, &v) in got.iter().enumerate() {
        let i = i as u32;
        let expected = if i % 2 == 1 { i + 100 } else { 3 * i };
        assert_eq!(v, expected.wrapping_add(0xaaaa_aaaa), "lane {i}");
    }
}

#[test]
fn loops_of_different_lengths_end_together() {
    let body = "
    mov.u32 %r2, 0;
    mov.u32 %r3, 0;
LOOP:
    setp.ge.u32 %p1, %r2, %r1;
    @%p1 bra DONE;
    add.u32 %r3, %r3, %r2;
    add.u32 %r2, %r2, 1;
    bra LOOP;
DONE:
    shfl.sync.idx.b32 %r4, %r3, 31, 31, 0xffffffff;
    add.u32 %r3, %r3, %r4;
    st.global.u32 [%rd1], %r3;";
    let got = run(&kernel("", body), 32);
    let sum = |n: u32| (0..n).sum::<u32>();
    for (i, &v) in got.iter().enumerate() {
        assert_eq!(v, sum(i as u32) + sum(31));
    }
}

#[test]
fn a_lane_that_spins_lets_the_lane_it_waits_for_run() {
    // A lock that the lanes of one warp take in turn: impossible on a machine that runs lanes in lockstep.
    let body = "
SPIN:
    atom.shared.cas.b32 %r2, [lock], 0, 1;
    setp.ne.s32 %p1, %r2, 0;
    @%p1 bra SPIN;
    ld.volatile.shared.u32 %r3, [count];
    add.u32 %r4, %r3, 1;
    st.volatile.shared.u32 [count], %r4;
    atom.shared.exch.b32 %r5, [lock], 0;
    st.global.u32 [%rd1], %r3;";
    let declare = ".shared .align 4 .b32 lock;\n.shared .align 4 .b32 count;";
    let start = "
    setp.ne.s32 %p2, %r1, 0;
    @%p2 bra GO;
    st.volatile.shared.u32 [lock], 0;
    st.volatile.shared.u32 [count], 0;
GO:
    bar.sync 0;";
    let ptx = kernel(declare, &format!("{start}{body}"));
    let mut got = run(&ptx, 32);
    got.sort_unstable();
    assert_eq!(got, (0..32).collect::<Vec<_>>());
}

#[test]
fn every_lane_takes_its_target_of_an_indexed_branch() {
    let body = "
    and.b32 %r2, %r1, 3;
TARGETS: .branchtargets A, B, C, D;
    brx.idx %r2, TARGETS;
A:  mov.u32 %r3, 10; bra MEET;
B:  mov.u32 %r3, 20; bra MEET;
C:  mov.u32 %r3, 30; bra MEET;
D:  mov.u32 %r3, 40;
MEET:
    bar.warp.sync 0xffffffff;
    st.global.u32 [%rd1], %r3;";
    let got = run(&kernel("", body), 32);
    for (i, &v) in got.iter().enumerate() {
        assert_eq!(v, 10 * (1 + i as u32 % 4));
    }
}

#[test]
fn barriers_order_shared_memory_under_every_schedule() {
    // Each thread passes its value to its neighbour in the next warp, twice.
    let body = "
    mov.u32 %r10, %ntid.x;
    shl.b32 %r2, %r1, 2;
    mov.u32 %r3, buffer;
    add.u32 %r4, %r3, %r2;
    st.shared.u32 [%r4], %r1;
    bar.sync 0;
    add.u32 %r5, %r1, 32;
    rem.u32 %r5, %r5, %r10;
    shl.b32 %r5, %r5, 2;
    add.u32 %r5, %r3, %r5;
    ld.shared.u32 %r6, [%r5];
    bar.sync 0;
    st.shared.u32 [%r4], %r6;
    bar.sync 0;
    ld.shared.u32 %r6, [%r5];
    st.global.u32 [%rd1], %r6;";
    let ptx = kernel(".shared .align 16 .b8 buffer[1024];", body);
    for schedule in
        [Schedule::Late, Schedule::Eager].into_iter().chain((0..20).map(Schedule::Random))
    {
        let mut bench = Bench::new(&ptx);
        bench.schedule(schedule);
        let out = bench.unwritten(1024);
        bench.param_u64(out).launch_clean("k", [1; 3], [256, 1, 1]);
        let got = bench.read_u32(out, 256);
        for (i, &v) in got.iter().enumerate() {
            assert_eq!(v, (i as u32 + 64) % 256, "{schedule:?}");
        }
    }
}

#[test]
fn producers_arrive_and_consumers_wait() {
    // Warp 0 writes and arrives at barrier 1, warp 1 waits there.
    let body = "
    setp.ge.u32 %p1, %r1, 32;
    shl.b32 %r2, %r1, 2;
    mov.u32 %r3, buffer;
    @%p1 bra CONSUME;
    add.u32 %r4, %r3, %r2;
    st.shared.u32 [%r4], %r1;
    bar.arrive 1, 64;
    st.global.u32 [%rd1], %r1;
    bra DONE;
CONSUME:
    bar.sync 1, 64;
    add.u32 %r4, %r3, %r2;
    ld.shared.u32 %r5, [%r4+-128];
    st.global.u32 [%rd1], %r5;
DONE:";
    let got = run(&kernel(".shared .align 16 .b8 buffer[128];", body), 64);
    assert!(got.iter().enumerate().all(|(i, &v)| v == i as u32 % 32));
}

#[test]
fn a_reduction_barrier_counts_votes() {
    let body = "
    setp.lt.u32 %p1, %r1, 37;
    barrier.red.popc.aligned.u32 %r2, 2, %p1;
    barrier.red.and.aligned.pred %p2, 3, %p1;
    selp.u32 %r3, 1000, 0, %p2;
    add.u32 %r2, %r2, %r3;
    st.global.u32 [%rd1], %r2;";
    assert_eq!(run(&kernel("", body), 64), vec![37; 64]);
}

#[test]
fn threads_that_left_are_not_waited_for() {
    let body = "
    st.global.u32 [%rd1], 7;
    setp.ge.u32 %p1, %r1, 32;
    @%p1 exit;
    bar.sync 0;
    st.global.u32 [%rd1], 8;";
    let got = run(&kernel("", body), 96);
    assert_eq!(got, [vec![8; 32], vec![7; 64]].concat());
}

#[test]
fn a_barrier_that_nobody_completes_is_a_deadlock_that_names_the_warps() {
    let ptx = kernel("", "bar.sync 1, 64;\n    st.global.u32 [%rd1], 1;");
    let mut bench = Bench::new(&ptx);
    let out = bench.unwritten(128);
    let report = bench.param_u64(out).launch("k", [1; 3], [32, 1, 1]);
    // 64 threads of a block of 32 cannot come.
    assert_eq!(report.findings[0].kind, FindingKind::BarrierMisuse);
    let ptx = kernel("", "setp.ge.u32 %p1, %r1, 32;\n @%p1 bra END;\n bar.sync 1, 64;\nEND:");
    let mut bench = Bench::new(&ptx);
    let out = bench.unwritten(256);
    let report = bench.param_u64(out).launch("k", [1; 3], [64, 1, 1]);
    let finding = &report.findings[0];
    assert_eq!(finding.kind, FindingKind::Deadlock);
    assert!(finding.message.contains("named barrier 1, which has 32 of 64 threads"), "{finding}");
}

#[test]
fn misuse_of_barriers_is_found() {
    let collision = "
    setp.ge.u32 %p1, %r1, 32;
    @%p1 bra OTHER;
    bar.sync 1, 64;
    bra END;
OTHER:
    bar.sync 1, 96;
END:";
    assert!(findings(&kernel("", collision), 96).contains(&FindingKind::BarrierMisuse));
    let divergent = "
    setp.ge.u32 %p1, %r1, 16;
    @%p1 bra END;
    bar.sync 0;
END:
    bar.warp.sync 0xffffffff;";
    assert!(findings(&kernel("", divergent), 32).contains(&FindingKind::Divergence));
    assert!(findings(&kernel("", "bar.sync 16;"), 32).contains(&FindingKind::BarrierMisuse));
}

#[test]
fn stray_and_misaligned_accesses_are_found() {
    use FindingKind as F;
    let cases = [
        ("ld.global.u32 %r2, [%rd1+4096];", F::OutOfBounds),
        ("st.global.u32 [%rd1+4096], %r1;", F::OutOfBounds),
        ("ld.global.u32 %r2, [%rd0+2];", F::Misaligned),
        ("ld.global.u32 %r2, [%rd1];", F::UninitialisedGlobal),
        ("st.shared.u32 [1048576], %r1;", F::OutOfBounds),
        ("ld.shared.u32 %r2, [0];", F::OutOfBounds),
        ("mov.u64 %rd3, 0; ld.u32 %r2, [%rd3];", F::OutOfBounds),
        ("trap;", F::Trap),
        ("LOOP: bra LOOP;", F::Endless),
    ];
    for (body, kind) in cases {
        let found = findings(&kernel("", body), 32);
        assert!(found.contains(&kind), "{body}: {found:?}");
    }
}

#[test]
fn calls_pass_arguments_and_use_local_memory() {
    let declare = "
.func (.param .b32 result) twice_plus(.param .b32 a, .param .b64 b) {
    .reg .b32 %r<5>; .reg .b64 %rd<5>;
    .local .align 8 .b8 depot[16];
    ld.param.b32 %r1, [a];
    ld.param.b64 %rd1, [b];
    st.local.u32 [depot+8], %r1;
    cvt.u32.u64 %r2, %rd1;
    ld.local.u32 %r3, [depot+8];
    mad.lo.u32 %r4, %r3, 2, %r2;
    st.param.b32 [result], %r4;
    ret;
}";
    let body = "
    {
    .param .b32 p0; .param .b64 p1; .param .b32 r0;
    st.param.b32 [p0], %r1;
    st.param.b64 [p1], 5;
    call.uni (r0), twice_plus, (p0, p1);
    ld.param.b32 %r2, [r0];
    }
    {
    .param .b32 p0; .param .b64 p1; .param .b32 r0;
    st.param.b32 [p0], %r2;
    st.param.b64 [p1], 1;
    call.uni (r0), twice_plus, (p0, p1);
    ld.param.b32 %r2, [r0];
    }
    st.global.u32 [%rd1], %r2;";
    let got = run(&kernel(declare, body), 40);
    assert!(got.iter().enumerate().all(|(i, &v)| v == (2 * i as u32 + 5) * 2 + 1), "{got:?}");
}

#[test]
fn recursion_is_refused_by_name() {
    let ptx = format!(
        "{HEAD}.func f() {{ call.uni f; ret; }}\n.visible .entry k() {{ call.uni f; ret; }}"
    );
    let module = zeroforge_ptx::parse(&ptx).expect("valid text");
    let memory = zeroforge_emulator::DeviceMemory::new(1 << 20);
    let error = zeroforge_emulator::Program::load(&module, &memory).unwrap_err().to_string();
    assert!(error.contains("calls itself"), "{error}");
}

#[test]
fn vectors_and_narrow_types_keep_their_bits() {
    let declare = ".global .align 16 .b8 table[16] = {1, 2, 3, 255, 5, 6, 7, 128, 9, 10, 11, 12, 13, 14, 15, 16};";
    let body = "
    mov.u64 %rd4, table;
    ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd4];
    ld.global.s8 %r6, [%rd4+3];
    ld.global.u8 %r7, [%rd4+3];
    ld.global.s16 %r8, [%rd4+6];
    xor.b32 %r9, %r2, %r3;
    xor.b32 %r9, %r9, %r4;
    xor.b32 %r9, %r9, %r5;
    setp.eq.u32 %p1, %r1, 1;
    selp.b32 %r9, %r6, %r9, %p1;
    setp.eq.u32 %p1, %r1, 2;
    selp.b32 %r9, %r7, %r9, %p1;
    setp.eq.u32 %p1, %r1, 3;
    selp.b32 %r9, %r8, %r9, %p1;
    st.global.u32 [%rd1], %r9;";
    let got = run(&kernel(declare, body), 4);
    let words = [0xff03_0201u32, 0x8007_0605, 0x0c0b_0a09, 0x100f_0e0d];
    let xor = words.iter().fold(0, |a, b| a ^ b);
    assert_eq!(got, [xor, 0xffff_ffff, 0xff, 0xffff_8007]);
}

#[test]
fn the_report_does_not_depend_on_the_number_of_host_threads() {
    let body = "
    mov.u32 %r2, %ctaid.x;
    setp.eq.u32 %p1, %r2, 5;
    @%p1 ld.global.u32 %r3, [%rd1+65536];
    st.global.u32 [%rd1], %r1;";
    let ptx = kernel("", body);
    let report = |threads: usize| {
        let mut bench = Bench::new(&ptx);
        bench.options.threads = threads;
        let out = bench.unwritten(128);
        bench.param_u64(out).launch("k", [16, 1, 1], [32, 1, 1])
    };
    let one = report(1);
    assert!(one.findings.iter().any(|f| f.party.cta == [5, 0, 0]));
    for _ in 0..3 {
        assert_eq!(one, report(4));
    }
}
