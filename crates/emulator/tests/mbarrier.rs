//! mbarriers: phases, states, transaction counts, remote arrivals, and every misuse.

mod harness;

use harness::Bench;
use zeroforge_emulator::{Checks, FindingKind, Report, Schedule};

/// A kernel `k` with a pointer parameter in `%out`, its thread in `%t`, the block's rank in `%rank`, and
/// mbarriers at `%bar`.
fn kernel(body: &str) -> Bench {
    Bench::new(&format!(
        ".version 8.6
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 p0)
{{
    .reg .pred %p<8>;
    .reg .b32 %r<32>, %t, %bar, %rank, %data;
    .reg .b64 %rd<16>, %out, %s<8>;
    .shared .align 8 .b64 bars[8];
    .shared .align 16 .b32 words[256];
    ld.param.u64 %out, [p0];
    mov.u32 %t, %tid.x;
    mov.u32 %rank, %cluster_ctarank;
    mov.u32 %bar, bars;
    mov.u32 %data, words;
    setp.eq.u32 %p7, %t, 0;
{body}
    ret;
}}"
    ))
}

fn run(body: &str, threads: u32) -> Report {
    let mut b = kernel(body);
    let out = b.buffer(&[0; 4096]);
    b.param_u64(out);
    b.launch("k", [1; 3], [threads, 1, 1])
}

/// Findings of a body must be exactly these kinds.
fn kinds(body: &str, threads: u32) -> Vec<FindingKind> {
    let report = run(body, threads);
    let mut kinds: Vec<_> = report.errors().map(|f| f.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

const INIT: &str = "    @%p7 mbarrier.init.shared::cta.b64 [%bar], 64;
    bar.sync 0;
";

#[test]
fn phases_order_memory_under_every_schedule() {
    // Every thread writes its word, arrives, waits, and reads its neighbour's; twice.
    let body = format!(
        "{INIT}
    shl.b32 %r1, %t, 2;
    add.u32 %r1, %data, %r1;
    st.shared.u32 [%r1], %t;
    mbarrier.arrive.shared::cta.b64 %s0, [%bar];
W0: mbarrier.try_wait.parity.shared::cta.b64 %p0, [%bar], 0;
    @!%p0 bra W0;
    xor.b32 %r2, %t, 63;
    shl.b32 %r3, %r2, 2;
    add.u32 %r3, %data, %r3;
    ld.shared.u32 %r4, [%r3];
    mbarrier.arrive.shared::cta.b64 %s1, [%bar];
W1: mbarrier.test_wait.shared::cta.b64 %p0, [%bar], %s1;
    @!%p0 bra W1;
    st.shared.u32 [%r1], %r4;
    mbarrier.arrive.shared::cta.b64 _, [%bar];
W2: mbarrier.try_wait.parity.shared::cta.b64 %p0, [%bar], 0, 1000;
    @!%p0 bra W2;
    ld.shared.u32 %r5, [%r3];
    mul.wide.u32 %rd1, %t, 4;
    add.u64 %rd1, %out, %rd1;
    st.global.u32 [%rd1], %r5;"
    );
    let mut schedules = vec![Schedule::Late, Schedule::Eager];
    schedules.extend((0..20).map(Schedule::Random));
    for schedule in schedules {
        let mut b = kernel(&body);
        let out = b.buffer(&[0; 256]);
        b.param_u64(out);
        b.schedule(schedule);
        b.launch_clean("k", [1; 3], [64, 1, 1]);
        // Twice mirrored.
        assert_eq!(b.read_u32(out, 64), (0..64).collect::<Vec<u32>>(), "{schedule:?}");
    }
}

#[test]
fn a_dropped_wait_is_a_race() {
    let body = format!(
        "{INIT}
    shl.b32 %r1, %t, 2;
    add.u32 %r1, %data, %r1;
    st.shared.u32 [%r1], %t;
    mbarrier.arrive.shared::cta.b64 _, [%bar];
    xor.b32 %r2, %r1, 252;
    ld.shared.u32 %r4, [%r2];"
    );
    let report = run(&body, 64);
    assert!(report.errors().any(|f| f.kind == FindingKind::Race), "{report:?}");
}

#[test]
fn states_tell_pending_arrivals() {
    // One thread, 10 arrivals expected.
    let body = "
    mbarrier.init.shared::cta.b64 [%bar], 10;
    mbarrier.arrive.shared::cta.b64 %s0, [%bar];
    mbarrier.arrive.shared::cta.b64 %s1, [%bar], 3;
    mbarrier.arrive.noComplete.shared::cta.b64 %s2, [%bar], 2;
    mbarrier.arrive_drop.shared::cta.b64 %s3, [%bar], 3;
    mbarrier.test_wait.shared::cta.b64 %p0, [%bar], %s3;
    selp.u32 %r9, 1, 0, %p0;
    mbarrier.arrive.shared::cta.b64 %s4, [%bar];
    mbarrier.test_wait.shared::cta.b64 %p0, [%bar], %s4;
    selp.u32 %r10, 1, 0, %p0;
    mbarrier.arrive.shared::cta.b64 %s5, [%bar];
    mbarrier.pending_count.b64 %r0, %s0;
    mbarrier.pending_count.b64 %r1, %s1;
    mbarrier.pending_count.b64 %r2, %s2;
    mbarrier.pending_count.b64 %r3, %s3;
    mbarrier.pending_count.b64 %r4, %s4;
    mbarrier.pending_count.b64 %r5, %s5;
    st.global.v4.u32 [%out], {%r0, %r1, %r2, %r3};
    st.global.v4.u32 [%out+16], {%r4, %r5, %r9, %r10};";
    let mut b = kernel(body);
    let out = b.buffer(&[0; 256]);
    b.param_u64(out);
    b.launch_clean("k", [1; 3], [1, 1, 1]);
    // After the phase 10 - 3 = 7 arrivals are expected.
    assert_eq!(b.read_u32(out, 8), [10, 9, 6, 4, 1, 7, 0, 1]);
}

#[test]
fn bytes_hold_a_phase_open() {
    let body = "
    mbarrier.init.shared::cta.b64 [%bar], 1;
    mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%bar], 100;
    mbarrier.arrive.expect_tx.shared::cta.b64 %s0, [%bar], 28;
    mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%bar], 64;
    mbarrier.test_wait.parity.shared::cta.b64 %p0, [%bar], 0;
    selp.u32 %r1, 1, 0, %p0;
    mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%bar], 64;
    mbarrier.test_wait.parity.shared::cta.b64 %p0, [%bar], 0;
    selp.u32 %r2, 1, 0, %p0;
    mbarrier.test_wait.parity.shared::cta.b64 %p0, [%bar], 1;
    selp.u32 %r3, 1, 0, %p0;
    st.global.v2.u32 [%out], {%r1, %r2};
    st.global.u32 [%out+8], %r3;";
    let mut b = kernel(body);
    let out = b.buffer(&[0; 256]);
    b.param_u64(out);
    b.launch_clean("k", [1; 3], [1, 1, 1]);
    assert_eq!(b.read_u32(out, 3), [0, 1, 0]);
}

#[test]
fn a_fresh_barrier_lets_waiters_of_parity_1_through() {
    let body = "
    mbarrier.init.shared::cta.b64 [%bar], 1;
W:  mbarrier.try_wait.parity.shared::cta.b64 %p0, [%bar], 1;
    @!%p0 bra W;";
    assert_eq!(kinds(body, 1), []);
}

const REMOTE: &str = "
    @%p7 mbarrier.init.shared::cta.b64 [%bar], 2;
    FENCE
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;
    // Each block arrives once at both blocks' mbarriers.
    mapa.shared::cluster.u32 %r1, %bar, 0;
    mapa.shared::cluster.u32 %r2, %bar, 1;
    @%p7 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r1];
    @%p7 mbarrier.arrive.shared::cluster.b64 _, [%r2];
W:  mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p0, [%bar], 0;
    @!%p0 bra W;
    mul.wide.u32 %rd1, %rank, 4;
    add.u64 %rd1, %out, %rd1;
    @%p7 st.global.u32 [%rd1], 7;
    EXIT";

fn remote(fence: &str, exit: &str, schedule: Schedule) -> (Report, Vec<u32>) {
    let mut b = kernel(&REMOTE.replace("FENCE", fence).replace("EXIT", exit));
    let out = b.buffer(&[0; 64]);
    b.param_u64(out).cluster([2, 1, 1]).schedule(schedule);
    (b.launch("k", [2, 1, 1], [64, 1, 1]), b.read_u32(out, 2))
}

#[test]
fn blocks_arrive_at_each_others_mbarriers() {
    let fence = "@%p7 fence.mbarrier_init.release.cluster;";
    for schedule in [Schedule::Late, Schedule::Eager, Schedule::Random(1), Schedule::Random(2)] {
        // Whoever waits for all remote arrivals may leave.
        let (report, out) = remote(fence, "", schedule);
        assert!(report.is_clean(), "{schedule:?}: {report:?}");
        assert_eq!(out, [7, 7]);
    }
}

#[test]
fn remote_arrivals_need_the_fence_after_init() {
    let (report, _) = remote("", "", Schedule::Late);
    let kinds: Vec<_> = report.errors().map(|f| f.kind).collect();
    assert!(kinds.contains(&FindingKind::MissingProxyFence), "{report:?}");
    assert!(kinds.iter().all(|&k| k == FindingKind::MissingProxyFence), "{report:?}");
}

#[test]
fn uses_of_what_is_no_mbarrier() {
    use FindingKind::*;
    let uninitialised = "    mbarrier.arrive.shared::cta.b64 _, [%bar];";
    assert_eq!(kinds(uninitialised, 1), [MbarrierMisuse]);
    let twice = "    mbarrier.init.shared::cta.b64 [%bar], 1;
    mbarrier.init.shared::cta.b64 [%bar], 1;";
    assert_eq!(kinds(twice, 1), [MbarrierMisuse]);
    let after_inval = "    mbarrier.init.shared::cta.b64 [%bar], 1;
    mbarrier.inval.shared::cta.b64 [%bar];
    mbarrier.test_wait.parity.shared::cta.b64 %p0, [%bar], 0;";
    assert_eq!(kinds(after_inval, 1), [MbarrierMisuse]);
    let again = "    mbarrier.init.shared::cta.b64 [%bar], 1;
    mbarrier.inval.shared::cta.b64 [%bar];
    st.shared.u32 [%bar], 5;
    mbarrier.init.shared::cta.b64 [%bar], 1;";
    assert_eq!(kinds(again, 1), []);
    let misaligned = "    add.u32 %r1, %bar, 4;
    mbarrier.init.shared::cta.b64 [%r1], 1;";
    assert_eq!(kinds(misaligned, 1), [Misaligned]);
    let outside = "    mbarrier.init.shared::cta.b64 [%bar+1000000], 1;";
    assert_eq!(kinds(outside, 1), [OutOfBounds]);
    let global = "    mbarrier.init.b64 [%out], 1;";
    assert_eq!(kinds(global, 1), [MbarrierMisuse]);
    let zero = "    mbarrier.init.shared::cta.b64 [%bar], 0;";
    assert_eq!(kinds(zero, 1), [MbarrierMisuse]);
    let store = "    mbarrier.init.shared::cta.b64 [%bar], 1;
    st.shared.u32 [%bar+4], 0;";
    assert_eq!(kinds(store, 1), [MbarrierMisuse]);
    let load = "    mbarrier.init.shared::cta.b64 [%bar], 1;
    ld.shared.u8 %r1, [%bar+7];";
    assert_eq!(kinds(load, 1), [MbarrierMisuse]);
    let beside = "    mbarrier.init.shared::cta.b64 [%bar], 1;
    st.shared.u32 [%bar+8], 0;";
    assert_eq!(kinds(beside, 1), []);
}

#[test]
fn an_init_that_nothing_orders_before_the_use_is_a_race() {
    let body = "    @%p7 mbarrier.init.shared::cta.b64 [%bar], 64;
    mbarrier.arrive.shared::cta.b64 _, [%bar];";
    assert!(kinds(body, 64).contains(&FindingKind::Race));
}

/// Every use by a thread that a kernel's init is not ordered before is found, in every order of execution:
/// as a race where the init was first, as no mbarrier where it was not.
#[test]
fn uses_that_an_init_is_not_ordered_before_are_found_under_every_schedule() {
    let uses = [
        "mbarrier.arrive.shared::cta.b64 _, [%bar];",
        "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%bar], 16;",
        "mbarrier.test_wait.parity.shared::cta.b64 %p0, [%bar], 1;",
        "mbarrier.try_wait.parity.shared::cta.b64 %p0, [%bar], 1;",
        "@%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%data], [%out], 16, [%bar];",
    ];
    let mut schedules = vec![Schedule::Late, Schedule::Eager];
    schedules.extend((0..10).map(Schedule::Random));
    // The user: another warp, or another lane of the initialiser's.
    for (user, barrier) in [(32, "bar.sync 0;"), (1, "bar.warp.sync -1;")] {
        for (used, sync, bad) in uses.iter().flat_map(|&u| [(u, barrier, false), (u, "", true)]) {
            let body = format!(
                "    @!%p7 bra L0;
    mbarrier.init.shared::cta.b64 [%bar], 64;
    fence.mbarrier_init.release.cluster;
L0: {sync}
    setp.eq.u32 %p0, %t, {user};
    @!%p0 bra L1;
    {used}
L1:"
            );
            for &schedule in &schedules {
                let mut b = kernel(&body);
                let out = b.buffer(&[0; 64]);
                b.param_u64(out).schedule(schedule);
                let report = b.launch("k", [1; 3], [64, 1, 1]);
                let of_init = |f: &&zeroforge_emulator::Finding| match f.kind {
                    FindingKind::Race => f.other.is_some() && f.message.contains("mbarrier.init"),
                    FindingKind::MbarrierMisuse => f.message.ends_with("is not initialised"),
                    _ => false,
                };
                let found = report.errors().any(|f| of_init(&f));
                assert_eq!(found, bad, "{used} by {user}, {schedule:?}: {report:?}");
            }
        }
    }
}

#[test]
fn an_init_may_be_ordered_in_many_ways() {
    // The initialiser itself; lanes after a barrier of the warp; an init again, after all have left.
    let warp = "    @!%p7 bra L0;
    mbarrier.init.shared::cta.b64 [%bar], 32;
    mbarrier.arrive.shared::cta.b64 _, [%bar];
L0: bar.warp.sync -1;
    @!%p7 mbarrier.arrive.shared::cta.b64 _, [%bar];
W0: mbarrier.try_wait.parity.shared::cta.b64 %p0, [%bar], 0;
    @!%p0 bra W0;
    bar.warp.sync -1;
    @!%p7 bra L1;
    mbarrier.inval.shared::cta.b64 [%bar];
    mbarrier.init.shared::cta.b64 [%bar], 32;
L1: bar.warp.sync -1;
    mbarrier.arrive.shared::cta.b64 _, [%bar];
W1: mbarrier.try_wait.parity.shared::cta.b64 %p0, [%bar], 0;
    @!%p0 bra W1;";
    assert_eq!(kinds(warp, 32), []);
    // A thread alone initialises a barrier and hands it on through another, to its own warp and the others.
    let handed = "    @%p7 mbarrier.init.shared::cta.b64 [%bar], 1;
    bar.sync 0;
    @!%p7 bra W0;
    mbarrier.init.shared::cta.b64 [%bar+8], 64;
    mbarrier.arrive.shared::cta.b64 _, [%bar];
W0: mbarrier.try_wait.parity.shared::cta.b64 %p0, [%bar], 0;
    @!%p0 bra W0;
    mbarrier.arrive.shared::cta.b64 _, [%bar+8];
W1: mbarrier.try_wait.parity.shared::cta.b64 %p0, [%bar+8], 0;
    @!%p0 bra W1;";
    for schedule in [Schedule::Late, Schedule::Eager, Schedule::Random(1), Schedule::Random(2)] {
        let mut b = kernel(handed);
        let out = b.buffer(&[0; 64]);
        b.param_u64(out).schedule(schedule);
        b.launch_clean("k", [1; 3], [64, 1, 1]);
    }
}

#[test]
fn arrivals_beyond_the_phase() {
    use FindingKind::*;
    // Two phases end with no wait between.
    let unwaited = "    mbarrier.init.shared::cta.b64 [%bar], 1;
    mbarrier.arrive.shared::cta.b64 _, [%bar];
    mbarrier.arrive.shared::cta.b64 _, [%bar];";
    assert_eq!(kinds(unwaited, 1), [PhaseOverrun]);
    // More than are expected while bytes are missing.
    let more = "    mbarrier.init.shared::cta.b64 [%bar], 1;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [%bar], 16;
    mbarrier.arrive.shared::cta.b64 _, [%bar];
    mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%bar], 16;";
    assert_eq!(kinds(more, 1), [PhaseOverrun]);
    let count = "    mbarrier.init.shared::cta.b64 [%bar], 2;
    mbarrier.arrive.shared::cta.b64 _, [%bar], 3;";
    assert_eq!(kinds(count, 1), [PhaseOverrun]);
    let no_complete = "    mbarrier.init.shared::cta.b64 [%bar], 2;
    mbarrier.arrive.noComplete.shared::cta.b64 %s0, [%bar], 2;";
    assert_eq!(kinds(no_complete, 1), [MbarrierMisuse]);
}

#[test]
fn old_states_and_wrong_parities() {
    use FindingKind::*;
    let old = "    mbarrier.init.shared::cta.b64 [%bar], 1;
    mbarrier.arrive.shared::cta.b64 %s0, [%bar];
    mbarrier.test_wait.shared::cta.b64 %p0, [%bar], %s0;
    mbarrier.arrive.shared::cta.b64 %s1, [%bar];
    mbarrier.test_wait.shared::cta.b64 %p0, [%bar], %s0;";
    assert_eq!(kinds(old, 1), [MbarrierMisuse]);
    let parity = "    mbarrier.init.shared::cta.b64 [%bar], 1;
    mbarrier.test_wait.parity.shared::cta.b64 %p0, [%bar], 2;";
    assert_eq!(kinds(parity, 1), [MbarrierMisuse]);
    let never = "    mbarrier.init.shared::cta.b64 [%bar], 1;
    mbarrier.arrive.shared::cta.b64 _, [%bar];
W:  mbarrier.try_wait.parity.shared::cta.b64 %p0, [%bar], 1;
    @!%p0 bra W;";
    let report = run(never, 1);
    let found: Vec<_> = report.errors().collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, Deadlock);
    let text = found[0].to_string();
    assert!(text.contains("phase of parity 1"), "{text}");
    assert!(text.contains("phase 1, waits for 1 of 1 arrivals and 0 bytes"), "{text}");
}

#[test]
fn announced_and_arrived_bytes_disagree() {
    use FindingKind::*;
    let wait = "
W:  mbarrier.try_wait.parity.shared::cta.b64 %p0, [%bar], 0;
    @!%p0 bra W;";
    let too_many = format!(
        "    mbarrier.init.shared::cta.b64 [%bar], 1;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [%bar], 48;
    mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%bar], 32;{wait}"
    );
    let report = run(&too_many, 1);
    let kinds_found: Vec<_> = report.errors().map(|f| f.kind).collect();
    assert_eq!(kinds_found, [TransactionCount, Deadlock]);
    let text = report.findings[0].to_string();
    assert!(text.contains("expect 48 bytes and got 32"), "{text}");
    assert!(text.contains("mbarrier.arrive.expect_tx"), "the announcer's line: {text}");
    // Not waited for: reported when the kernel ends.
    let at_end = "    mbarrier.init.shared::cta.b64 [%bar], 1;
    mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%bar], 48;";
    assert_eq!(kinds(at_end, 1), [TransactionCount]);
    let overflow = "    mbarrier.init.shared::cta.b64 [%bar], 1;
    mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%bar], 1048575;
    mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%bar], 16;";
    assert_eq!(kinds(overflow, 1), [TransactionCount]);
    let large = "    mbarrier.init.shared::cta.b64 [%bar], 1;
    mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%bar], 1048576;";
    assert_eq!(kinds(large, 1), [TransactionCount]);
}

#[test]
fn protocol_checks_can_be_turned_off() {
    let body = "    mbarrier.init.shared::cta.b64 [%bar], 1;
    mbarrier.arrive.shared::cta.b64 _, [%bar];
    mbarrier.arrive.shared::cta.b64 _, [%bar];
    st.shared.u32 [%bar], 0;";
    let mut b = kernel(body);
    let out = b.buffer(&[0; 64]);
    b.param_u64(out);
    b.options.checks = Checks::NONE;
    b.launch_clean("k", [1; 3], [1, 1, 1]);
}
