//! `cp.async`: sizes, zero fill, groups, arrivals at mbarriers.

mod harness;

use harness::Bench;
use zeroforge_emulator::{FindingKind, Report, Schedule};

/// A kernel of 64 threads: `%from` is 16 bytes of input per thread, `%own` 16 bytes of shared memory,
/// `%other` those of the mirrored thread.
fn kernel(body: &str) -> String {
    format!(
        ".version 8.6
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 p0, .param .u64 p1)
{{
    .reg .pred %p<8>;
    .reg .b32 %r<32>, %t, %bar, %own, %other;
    .reg .b64 %rd<16>, %from, %to, %s<2>;
    .shared .align 8 .b64 bars[2];
    .shared .align 16 .b8 smem[4096];
    ld.param.u64 %from, [p0];
    ld.param.u64 %to, [p1];
    mov.u32 %t, %tid.x;
    mov.u32 %bar, bars;
    mov.u32 %own, smem;
    shl.b32 %r31, %t, 4;
    xor.b32 %r30, %r31, 1008;
    add.u32 %other, %own, %r30;
    add.u32 %own, %own, %r31;
    cvt.u64.u32 %rd15, %r31;
    add.u64 %from, %from, %rd15;
    add.u64 %to, %to, %rd15;
    setp.eq.u32 %p7, %t, 0;
{body}
    ret;
}}"
    )
}

const DUMP_OTHER: &str = "
    ld.shared.v4.u32 {%r10, %r11, %r12, %r13}, [%other];
    st.global.v4.u32 [%to], {%r10, %r11, %r12, %r13};";
const DUMP_OWN: &str = "
    ld.shared.v4.u32 {%r10, %r11, %r12, %r13}, [%own];
    st.global.v4.u32 [%to], {%r10, %r11, %r12, %r13};";

fn run(body: &str, schedule: Schedule) -> (Report, Vec<u32>) {
    let mut b = Bench::new(&kernel(body));
    let input: Vec<u8> = (0..512u32).flat_map(|i| (i + 1).to_le_bytes()).collect();
    let (from, to) = (b.buffer(&input), b.buffer(&[0; 1024]));
    b.param_u64(from).param_u64(to).schedule(schedule);
    let report = b.launch("k", [1; 3], [64, 1, 1]);
    (report, b.read_u32(to, 256))
}

fn clean(body: &str, check: impl Fn(usize, [u32; 4])) {
    let mut schedules = vec![Schedule::Late, Schedule::Eager];
    schedules.extend((0..8).map(Schedule::Random));
    for schedule in schedules {
        let (report, out) = run(body, schedule);
        let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{schedule:?}:\n{}", errors.join("\n"));
        for (t, words) in out.chunks_exact(4).enumerate() {
            check(t, words.try_into().expect("four"));
        }
    }
}

fn kinds(body: &str) -> Vec<FindingKind> {
    let (report, _) = run(body, Schedule::Late);
    let mut kinds: Vec<_> = report.errors().map(|f| f.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

fn words(t: usize) -> [u32; 4] {
    std::array::from_fn(|i| (t * 4 + i + 1) as u32)
}

#[test]
fn a_waited_copy_of_another_thread_is_seen_after_a_barrier() {
    let body = format!(
        "
    cp.async.cg.shared.global [%own], [%from], 16;
    cp.async.commit_group;
    cp.async.wait_group 0;
    bar.sync 0;{DUMP_OTHER}"
    );
    clean(&body, |t, out| assert_eq!(out, words(t ^ 63)));
    clean(
        &body.replace("cp.async.commit_group;\n    cp.async.wait_group 0", "cp.async.wait_all"),
        |t, out| {
            assert_eq!(out, words(t ^ 63));
        },
    );
    let unwaited = body.replace("    cp.async.wait_group 0;\n", "");
    assert_eq!(kinds(&unwaited), [FindingKind::Race]);
    let unordered = body.replace("    bar.sync 0;", "");
    assert!(kinds(&unordered).contains(&FindingKind::Race));
}

#[test]
fn sizes_and_zero_fill() {
    let pieces = format!(
        "
    cp.async.ca.shared.global [%own], [%from], 4;
    cp.async.ca.shared.global [%own+4], [%from+12], 4, 0;
    cp.async.ca.shared.global [%own+8], [%from+8], 8, 4;
    cp.async.wait_all;{DUMP_OWN}"
    );
    clean(&pieces, |t, out| {
        let w = words(t);
        assert_eq!(out, [w[0], 0, w[2], 0]);
    });
    let by_register = format!(
        "
    and.b32 %r1, %t, 15;
    cp.async.cg.shared.global [%own], [%from], 16, %r1;
    cp.async.wait_all;{DUMP_OWN}"
    );
    clean(&by_register, |t, out| {
        let bytes: Vec<u8> = words(t).iter().flat_map(|w| w.to_le_bytes()).collect();
        let mut expected = [0; 16];
        expected[..t & 15].copy_from_slice(&bytes[..t & 15]);
        let got: Vec<u8> = out.iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(got, expected);
    });
    // With nothing to read the address may be anything.
    let ignored = format!(
        "
    and.b32 %r1, %t, 1;
    setp.ne.u32 %p1, %r1, 0;
    selp.b64 %rd1, 0, %from, %p1;
    cp.async.cg.shared.global [%own], [%rd1], 16, %p1;
    cp.async.wait_all;{DUMP_OWN}"
    );
    clean(&ignored, |t, out| {
        assert_eq!(out, if t & 1 != 0 { [0; 4] } else { words(t) });
    });
}

#[test]
fn older_groups_are_waited_for() {
    let body = format!(
        "
    cp.async.cg.shared.global [%own], [%from], 16;
    cp.async.commit_group;
    cp.async.cg.shared.global [%own+1024], [%from], 16;
    cp.async.commit_group;
    cp.async.wait_group 1;{DUMP_OWN}
    cp.async.wait_group 0;"
    );
    clean(&body, |t, out| assert_eq!(out, words(t)));
    let one_late = body.replace("wait_group 1", "wait_group 2");
    assert_eq!(kinds(&one_late), [FindingKind::Race]);
    // And the newest is not there yet.
    let newest = body.replacen("[%own];\n", "[%own+1024];\n", 1);
    assert_eq!(kinds(&newest), [FindingKind::Race]);
    assert_eq!(run(&newest, Schedule::Late).1[..4], [0; 4]);
}

#[test]
fn diverged_lanes_have_their_own_groups() {
    // Odd lanes commit once more: for them `wait_group 1` covers the copy.
    let body = format!(
        "
    cp.async.cg.shared.global [%own], [%from], 16;
    cp.async.commit_group;
    and.b32 %r1, %t, 1;
    setp.ne.u32 %p1, %r1, 0;
    @%p1 cp.async.commit_group;
    cp.async.wait_group 1;
    @!%p1 cp.async.wait_group 0;{DUMP_OWN}"
    );
    clean(&body, |t, out| assert_eq!(out, words(t)));
}

const ARRIVE: &str = "
    @%p7 mbarrier.init.shared::cta.b64 [%bar], COUNT;
    bar.sync 0;
    cp.async.cg.shared.global [%own], [%from], 16;
    cp.async.mbarrier.arriveNOINC.shared::cta.b64 [%bar];
    OWN
W:  mbarrier.try_wait.parity.shared::cta.b64 %p0, [%bar], 0;
    @!%p0 bra W;";

#[test]
fn copies_arrive_at_mbarriers() {
    let body = ARRIVE.to_owned() + DUMP_OTHER;
    let noinc = body.replace("COUNT", "64").replace("NOINC", ".noinc").replace("OWN", "");
    clean(&noinc, |t, out| assert_eq!(out, words(t ^ 63)));
    // Without .noinc the arrivals count nothing in sum: the threads arrive themselves as well.
    let own = "mbarrier.arrive.shared::cta.b64 %s0, [%bar];";
    let inc = body.replace("COUNT", "64").replace("NOINC", "").replace("OWN", own);
    clean(&inc, |t, out| assert_eq!(out, words(t ^ 63)));
    // Waiting for groups completes what is on the way to an mbarrier, too.
    let both = noinc.replace("W:  mb", "cp.async.wait_all;\nW:  mb");
    clean(&both, |t, out| assert_eq!(out, words(t ^ 63)));
    let short = body.replace("COUNT", "65").replace("NOINC", ".noinc").replace("OWN", "");
    assert_eq!(kinds(&short), [FindingKind::Deadlock]);
}

#[test]
fn misuse() {
    use FindingKind::*;
    let copy = |text: &str| format!("\n    {text}\n    cp.async.wait_all;");
    assert_eq!(kinds(&copy("cp.async.cg.shared.global [%own], [%from+8], 16;")), [Misaligned]);
    assert_eq!(kinds(&copy("cp.async.cg.shared.global [%own+8], [%from], 16;")), [Misaligned]);
    assert_eq!(kinds(&copy("cp.async.cg.shared.global [%own+8192], [%from], 16;")), [OutOfBounds]);
    assert_eq!(kinds(&copy("cp.async.cg.shared.global [%own], [%from+4096], 16;")), [OutOfBounds]);
    let long = "mov.u32 %r1, 17;\n    cp.async.cg.shared.global [%own], [%from], 16, %r1;";
    assert_eq!(kinds(&copy(long)), [Undefined]);
    let uninitialised = "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%bar];";
    assert_eq!(kinds(&copy(uninitialised)), [MbarrierMisuse]);
    // Of the generic proxy: a bulk copy of the bytes needs a fence, though the copy was waited for.
    let body = "
    cp.async.cg.shared.global [%own], [%from], 16;
    cp.async.wait_all;
    FENCE
    bar.sync 0;
    @%p7 cp.async.bulk.global.shared::cta.bulk_group [%to], [%own], 1024;
    @%p7 cp.async.bulk.commit_group;
    @%p7 cp.async.bulk.wait_group 0;";
    assert_eq!(kinds(&body.replace("FENCE", "")), [MissingProxyFence]);
    clean(&body.replace("FENCE", "fence.proxy.async;"), |t, out| assert_eq!(out, words(t)));
}
