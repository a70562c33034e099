//! Clusters: other blocks' shared memory, the cluster barrier, blocks that leave too early; setmaxnreg.

mod harness;

use harness::Bench;
use zeroforge_emulator::{FindingKind, Report, Schedule};

fn kernel(directives: &str, body: &str) -> String {
    format!(
        ".version 8.6
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 p0)
{directives}
{{
    .reg .pred %p<8>;
    .reg .b32 %r<32>, %t, %rank, %own, %blocks;
    .reg .b64 %rd<16>, %to;
    .shared .align 16 .b32 words[64];
    ld.param.u64 %to, [p0];
    mov.u32 %t, %tid.x;
    mov.u32 %rank, %cluster_ctarank;
    mov.u32 %blocks, %cluster_nctarank;
    shl.b32 %r31, %t, 2;
    mov.u32 %own, words;
    add.u32 %own, %own, %r31;
    mad.lo.u32 %r30, %rank, 64, %t;
    mul.wide.u32 %rd15, %r30, 4;
    add.u64 %to, %to, %rd15;
    setp.eq.u32 %p7, %t, 0;
    setp.eq.u32 %p6, %rank, 0;
{body}
    ret;
}}"
    )
}

fn run(body: &str, blocks: u32, schedule: Schedule) -> (Report, Vec<u32>) {
    let mut b = Bench::new(&kernel("", body));
    let to = b.buffer(&vec![0; blocks as usize * 256]);
    b.param_u64(to).cluster([blocks, 1, 1]).schedule(schedule);
    let report = b.launch("k", [blocks, 1, 1], [64, 1, 1]);
    (report, b.read_u32(to, blocks as usize * 64))
}

fn every_schedule() -> Vec<Schedule> {
    let mut all = vec![Schedule::Late, Schedule::Eager];
    all.extend((0..10).map(Schedule::Random));
    all
}

fn clean(body: &str, blocks: u32, check: impl Fn(&[u32])) {
    for schedule in every_schedule() {
        let (report, out) = run(body, blocks, schedule);
        let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{schedule:?}:\n{}", errors.join("\n"));
        check(&out);
    }
}

fn kinds(body: &str, blocks: u32) -> Vec<FindingKind> {
    let (report, _) = run(body, blocks, Schedule::Late);
    let mut kinds: Vec<_> = report.errors().map(|f| f.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

const BARRIER: &str = "
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;";

/// Each block reads its right neighbour's words.
const READ: &str = "
    mad.lo.u32 %r1, %rank, 1000, %t;
    st.shared.u32 [%own], %r1;
    FIRST
    add.u32 %r2, %rank, 1;
    rem.u32 %r2, %r2, %blocks;
    mapa.shared::cluster.u32 %r3, %own, %r2;
    getctarank.shared::cluster.u32 %r5, %r3;
    ld.shared::cluster.u32 %r4, [%r3];
    add.u32 %r4, %r4, %r5;
    st.global.u32 [%to], %r4;
    LAST";

fn read(first: &str, last: &str) -> String {
    READ.replace("FIRST", first).replace("LAST", last)
}

#[test]
fn blocks_read_each_others_memory() {
    for blocks in [1, 2, 4, 8] {
        clean(&read(BARRIER, BARRIER), blocks, |out| {
            for (i, &value) in out.iter().enumerate() {
                let next = (i as u32 / 64 + 1) % blocks;
                assert_eq!(value, next * 1001 + i as u32 % 64);
            }
        });
    }
}

#[test]
fn generic_addresses_are_mapped_too() {
    let body = read(BARRIER, BARRIER)
        .replace("mapa.shared::cluster.u32 %r3, %own, %r2;", "cvt.u64.u32 %rd1, %own;\n    cvta.shared.u64 %rd1, %rd1;\n    mapa.u64 %rd2, %rd1, %r2;")
        .replace("getctarank.shared::cluster.u32 %r5, %r3;", "getctarank.u64 %r5, %rd2;")
        .replace("ld.shared::cluster.u32 %r4, [%r3];", "ld.u32 %r4, [%rd2];");
    clean(&body, 2, |out| assert_eq!((out[3], out[67]), (1004, 3)));
}

#[test]
fn threads_that_exited_are_not_waited_for() {
    // Half of each warp leaves first, in block 0 also a whole warp.
    let body = "
    and.b32 %r1, %t, 1;
    setp.ne.u32 %p1, %r1, 0;
    @%p1 exit;
    setp.gt.u32 %p2, %t, 31;
    and.pred %p2, %p2, %p6;
    @%p2 exit;
    barrier.cluster.arrive;
    barrier.cluster.wait;
    st.global.u32 [%to], 1;";
    clean(body, 2, |out| {
        assert_eq!(out.iter().sum::<u32>(), 16 + 32);
    });
}

#[test]
fn a_missing_barrier_is_a_race() {
    assert!(kinds(&read("", BARRIER), 2).contains(&FindingKind::Race));
    // A relaxed arrival orders no memory.
    let relaxed = BARRIER.replace(".release", ".relaxed");
    assert!(kinds(&read(&relaxed, BARRIER), 2).contains(&FindingKind::Race));
}

#[test]
fn a_block_must_not_leave_while_others_use_its_memory() {
    for schedule in every_schedule() {
        let (report, _) = run(&read(BARRIER, ""), 2, schedule);
        assert!(report.errors().any(|f| f.kind == FindingKind::ClusterExit), "{schedule:?}");
        assert!(report.errors().all(|f| f.kind == FindingKind::ClusterExit), "{schedule:?}");
    }
    // For that a relaxed arrival will do.
    let relaxed = BARRIER.replace(".release", ".relaxed");
    assert_eq!(kinds(&read(BARRIER, &relaxed), 2), []);
}

#[test]
fn misuse_of_the_barrier() {
    use FindingKind::*;
    let twice = "
    barrier.cluster.arrive.aligned;
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;";
    assert_eq!(kinds(twice, 1), [BarrierMisuse]);
    assert_eq!(kinds("    barrier.cluster.wait.aligned;", 1), [BarrierMisuse]);
    let half = "    @%p7 barrier.cluster.arrive.aligned;
    @%p7 barrier.cluster.wait.aligned;";
    assert!(kinds(half, 1).contains(&Divergence));
    let one_block = "    @!%p6 bra E;
    barrier.cluster.arrive;
    barrier.cluster.wait;
E:  @%p6 bra X;
W:  ld.volatile.shared.u32 %r1, [%own];
    bar.sync 1, 128;
X:";
    // Block 1 waits for a named barrier that nobody completes, block 0 for block 1.
    let report = run(one_block, 2, Schedule::Late).0;
    let text: Vec<String> = report.errors().map(ToString::to_string).collect();
    assert!(text.iter().any(|t| t.contains("128 threads")), "{text:?}");
    let outside = "    mapa.shared::cluster.u32 %r1, %own, 2;";
    assert_eq!(kinds(outside, 2), [OutOfBounds]);
    let outside = "    mov.u32 %r1, 0x5000400;
    ld.shared::cluster.u32 %r2, [%r1];";
    assert_eq!(kinds(outside, 2), [OutOfBounds]);
}

/// A kernel of 3 warpgroups: group 0 gives registers, the others take them.
fn registers(directives: &str, give: &str, take: &str) -> Report {
    let body = format!(
        "
    shr.u32 %r1, %t, 7;
    setp.eq.u32 %p1, %r1, 0;
    @%p1 bra G;
    {take}
    bra.uni E;
G:  {give}
E:"
    );
    let mut b = Bench::new(&kernel(directives, &body));
    let to = b.buffer(&[0; 4096]);
    b.param_u64(to);
    b.launch("k", [1; 3], [384, 1, 1])
}

#[test]
fn warpgroups_hand_registers_over() {
    // 65,536 / 384 is 170, so 168 each: 64,512 = 24 * 128 + 240 * 256.
    let kinds = |report: &Report| report.errors().map(|f| f.kind).collect::<Vec<_>>();
    let limit = ".maxntid 384, 1, 1\n.minnctapersm 1";
    let dec = "setmaxnreg.dec.sync.aligned.u32 24;";
    let inc = "setmaxnreg.inc.sync.aligned.u32 240;";
    assert_eq!(kinds(&registers(limit, dec, inc)), []);
    assert_eq!(kinds(&registers("", dec, inc)), []);
    assert_eq!(kinds(&registers(".maxnreg 168", dec, inc)), []);
    // Too much: somebody waits for ever.
    let more = "setmaxnreg.inc.sync.aligned.u32 248;";
    assert_eq!(kinds(&registers(limit, dec, more)), [FindingKind::Deadlock]);
    assert_eq!(kinds(&registers(".maxnreg 160", dec, inc)), [FindingKind::Deadlock]);
    assert_eq!(kinds(&registers(limit, "", inc)), [FindingKind::Deadlock]);
    let wrong = registers(limit, "setmaxnreg.inc.sync.aligned.u32 40;", "");
    assert_eq!(kinds(&wrong), [FindingKind::SetMaxRegisters]);
    let wrong = registers(limit, "setmaxnreg.dec.sync.aligned.u32 176;", "");
    assert_eq!(kinds(&wrong), [FindingKind::SetMaxRegisters]);
    let odd = registers(limit, "setmaxnreg.dec.sync.aligned.u32 100;", "");
    assert_eq!(kinds(&odd), [FindingKind::SetMaxRegisters]);
    // One warp of the group only.
    let some = registers(
        limit,
        "setp.gt.u32 %p2, %t, 31;\n    @%p2 bra E;\n    setmaxnreg.dec.sync.aligned.u32 24;",
        "",
    );
    assert_eq!(kinds(&some), [FindingKind::SetMaxRegisters]);
}
