//! Bulk copies without tensor maps, their groups and reductions; `st.async` and `red.async`.

mod harness;

use harness::Bench;
use zeroforge_emulator::{FindingKind, Report, Schedule};

/// A kernel with `%in`, `%out`, an mbarrier at `%bar` (initialised for one arrival and fenced), 4 KiB at
/// `%smem`, the thread in `%t` (`%p7`: it is 0) and the rank in `%rank`.
fn kernel(body: &str) -> String {
    format!(
        ".version 8.6
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 p0, .param .u64 p1)
{{
    .reg .pred %p<8>;
    .reg .b16 %h<4>;
    .reg .b32 %r<32>, %t, %bar, %rank, %smem, %own;
    .reg .f32 %f<8>;
    .reg .b64 %rd<16>, %in, %out;
    .shared .align 8 .b64 bars[2];
    .shared .align 128 .b32 words[1024];
    ld.param.u64 %in, [p0];
    ld.param.u64 %out, [p1];
    mov.u32 %t, %tid.x;
    mov.u32 %rank, %cluster_ctarank;
    mov.u32 %bar, bars;
    mov.u32 %smem, words;
    setp.eq.u32 %p7, %t, 0;
    @%p7 mbarrier.init.shared::cta.b64 [%bar], 1;
    @%p7 fence.mbarrier_init.release.cluster;
    shl.b32 %r31, %t, 2;
    add.u32 %own, %smem, %r31;
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;
{body}
    ret;
}}"
    )
}

const WAIT: &str = "
W:  mbarrier.try_wait.parity.shared::cta.b64 %p0, [%bar], 0;
    @!%p0 bra W;";
/// Thread `t` stores its word of shared memory to `%out` plus 4 KiB per block.
const DUMP: &str = "
    mul.wide.u32 %rd1, %rank, 4096;
    add.u64 %rd1, %out, %rd1;
    cvt.u64.u32 %rd2, %r31;
    add.u64 %rd1, %rd1, %rd2;
    ld.shared.u32 %r30, [%own];
    st.global.u32 [%rd1], %r30;";

struct Run {
    report: Report,
    /// 1024 words per block.
    out: Vec<u32>,
}

/// Input word i is 3 * i + 1; output words start as 1000 + i.
fn run(body: &str, blocks: u32, schedule: Schedule) -> Run {
    let mut b = Bench::new(&kernel(body));
    let input: Vec<u8> = (0..1024u32).flat_map(|i| (3 * i + 1).to_le_bytes()).collect();
    let output: Vec<u8> = (0..blocks * 1024).flat_map(|i| (1000 + i).to_le_bytes()).collect();
    let (from, to) = (b.buffer(&input), b.buffer(&output));
    b.param_u64(from).param_u64(to).cluster([blocks, 1, 1]).schedule(schedule);
    let report = b.launch("k", [blocks, 1, 1], [128, 1, 1]);
    let out = b.read_u32(to, blocks as usize * 1024);
    Run { report, out }
}

fn every_schedule() -> Vec<Schedule> {
    let mut all = vec![Schedule::Late, Schedule::Eager];
    all.extend((0..6).map(Schedule::Random));
    all
}

fn clean(body: &str, blocks: u32, check: impl Fn(&[u32])) {
    for schedule in every_schedule() {
        let run = run(body, blocks, schedule);
        let errors: Vec<String> = run.report.errors().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{schedule:?}:\n{}", errors.join("\n"));
        check(&run.out);
    }
}

fn kinds(body: &str, blocks: u32) -> Vec<FindingKind> {
    let report = run(body, blocks, Schedule::Late).report;
    let mut kinds: Vec<_> = report.errors().map(|f| f.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

fn load(source: &str, size: u32) -> String {
    format!(
        "
    @%p7 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%bar], {size};
    @%p7 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%smem], [{source}], {size}, [%bar];"
    )
}

#[test]
fn global_to_shared() {
    let body = load("%in+16", 512) + WAIT + DUMP;
    clean(&body, 1, |out| {
        let expected: Vec<u32> = (0..128).map(|i| 3 * (i + 4) + 1).collect();
        assert_eq!(out[..128], expected);
    });
}

const STORE: &str = "
    add.u32 %r1, %t, 50;
    st.shared.u32 [%own], %r1;
    fence.proxy.async.shared::cta;
    bar.sync 0;
    @%p7 OP [%out+64], [%smem], 512;
    @%p7 cp.async.bulk.commit_group;
    @%p7 cp.async.bulk.wait_group.read 0;";

fn store(op: &str) -> String {
    STORE.replace("OP", op)
}

#[test]
fn shared_to_global_and_reductions() {
    let whole = |f: fn(u32, u32) -> u32| {
        move |out: &[u32]| {
            for (i, &value) in out.iter().enumerate() {
                let old = 1000 + i as u32;
                let expected = match i {
                    16..144 => f(old, i as u32 - 16 + 50),
                    _ => old,
                };
                assert_eq!(value, expected, "word {i}");
            }
        }
    };
    clean(&store("cp.async.bulk.global.shared::cta.bulk_group"), 1, whole(|_, new| new));
    let reduce =
        |op: &str| store(&format!("cp.reduce.async.bulk.global.shared::cta.bulk_group.{op}"));
    clean(&reduce("add.u32"), 1, whole(|a, b| a.wrapping_add(b)));
    clean(&reduce("min.s32"), 1, whole(u32::min));
    clean(&reduce("xor.b32"), 1, whole(|a, b| a ^ b));
    clean(&reduce("inc.u32"), 1, whole(|a, b| if a >= b { 0 } else { a + 1 }));
    clean(&reduce("add.u64"), 1, |out| {
        // Pairs of words: no carry arises.
        assert_eq!(out[16], 1016 + 50);
        assert_eq!(out[17], 1017 + 51);
    });
}

#[test]
fn float_reductions_flush_subnormals() {
    // Words as f32: -0 + subnormal gives +0, 1 + 1 gives 2.
    let body = "
    setp.lt.u32 %p1, %t, 2;
    selp.b32 %r1, 0x00000001, 0x3f800000, %p1;
    selp.b32 %r2, 0x00000002, 0x3f800000, %p1;
    st.shared.u32 [%own], %r1;
    cvt.u64.u32 %rd2, %r31;
    add.u64 %rd1, %out, %rd2;
    st.global.u32 [%rd1], %r2;
    fence.proxy.async;
    bar.sync 0;
    @%p7 cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%out], [%smem], 512;
    @%p7 cp.async.bulk.commit_group;
    @%p7 cp.async.bulk.wait_group 0;";
    clean(body, 1, |out| {
        assert_eq!(out[..4], [0, 0, 0x4000_0000, 0x4000_0000]);
    });
    let body = body.replace(".add.f32", ".add.noftz.bf16").replace("0x3f800000", "0x3f803f80");
    clean(&body, 1, |out| {
        // 2^-133 + 2^-132 is kept; packed halves add on their own.
        assert_eq!(out[..4], [3, 3, 0x4000_4000, 0x4000_4000]);
    });
}

#[test]
fn groups_are_per_thread_and_in_order() {
    // Two groups; the older one is waited for, then its source reused.
    let body = "
    st.shared.u32 [%own], %t;
    fence.proxy.async.shared::cta;
    bar.sync 0;
    @!%p7 bra E;
    cp.async.bulk.global.shared::cta.bulk_group [%out], [%smem], 256;
    cp.async.bulk.commit_group;
    cp.async.bulk.global.shared::cta.bulk_group [%out+256], [%smem+256], 256;
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group.read N;
    st.shared.u32 [%smem], 9999;
    cp.async.bulk.wait_group 0;
E:";
    clean(&body.replace(" N;", " 1;"), 1, |out| {
        assert_eq!(out[..128], (0..128).collect::<Vec<u32>>());
    });
    assert_eq!(kinds(&body.replace(" N;", " 2;"), 1), [FindingKind::Race]);
    let late = run(&body.replace(" N;", " 2;"), 1, Schedule::Late);
    assert_eq!(late.out[0], 9999, "a late copy reads what was put there too early");
}

#[test]
fn between_blocks() {
    // Each block sends its words to the next one's second KiB.
    let body = "
    mad.lo.u32 %r1, %rank, 1000, %t;
    st.shared.u32 [%own], %r1;
    fence.proxy.async.shared::cta;
    bar.sync 0;
    @%p7 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%bar], 512;
    xor.b32 %r2, %rank, 1;
    mapa.shared::cluster.u32 %r3, %smem, %r2;
    mapa.shared::cluster.u32 %r4, %bar, %r2;
    @%p7 cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r3+1024], [%smem], 512, [%r4];
W:  mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p0, [%bar], 0;
    @!%p0 bra W;
    add.u32 %own, %own, 1024;
    DUMP
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;"
        .replace("DUMP", DUMP);
    clean(&body, 2, |out| {
        for i in 0..128 {
            assert_eq!((out[i], out[1024 + i]), (1000 + i as u32, i as u32));
        }
    });
}

#[test]
fn stores_and_reductions_of_registers() {
    // Every thread of block 0 stores to block 1, which adds nothing itself.
    let body = "
    st.shared.u32 [%own+1024], 5;
    @%p7 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%bar], BYTES;
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;
    xor.b32 %r2, %rank, 1;
    mapa.shared::cluster.u32 %r3, %own, %r2;
    mapa.shared::cluster.u32 %r4, %bar, %r2;
    mad.lo.u32 %r1, %rank, 1000, %t;
    OP
W:  mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p0, [%bar], 0;
    @!%p0 bra W;
    add.u32 %own, %own, 1024;
    DUMP
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;"
        .replace("DUMP", DUMP);
    let with = |op: &str, bytes: &str| body.replace("OP", op).replace("BYTES", bytes);
    let st =
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r3+1024], %r1, [%r4];";
    clean(&with(st, "512"), 2, |out| {
        for i in 0..128 {
            assert_eq!((out[i], out[1024 + i]), (1000 + i as u32, i as u32));
        }
    });
    let red = "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r3+1024], %r1, [%r4];";
    clean(&with(red, "512"), 2, |out| {
        for i in 0..128 {
            assert_eq!((out[i], out[1024 + i]), (1005 + i as u32, 5 + i as u32));
        }
    });
    let vector = "and.b32 %r5, %t, 3;
    setp.eq.u32 %p1, %r5, 0;
    @%p1 st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%r3+1024], {%r1, %r5, %t, %r1}, [%r4];";
    clean(&with(vector, "512"), 2, |out| {
        assert_eq!(out[4..8], [1004, 0, 4, 1004]);
    });
}

#[test]
fn misuse() {
    use FindingKind::*;
    let good = |source, size| load(source, size) + WAIT;
    assert_eq!(kinds(&good("%in", 512), 1), []);
    assert_eq!(kinds(&good("%in+4", 512), 1), [Misaligned]);
    assert_eq!(kinds(&good("%in+4000", 512), 1), [OutOfBounds]);
    assert_eq!(kinds(&good("%in", 512).replace("[%smem]", "[%smem+8]"), 1), [Misaligned]);
    let outside = good("%in", 1024).replace("[%smem]", "[%smem+4000]");
    assert_eq!(kinds(&outside, 1), [OutOfBounds]);
    // 520 bytes: nothing is copied, so that the bytes are missing besides.
    assert!(kinds(&good("%in", 520), 1).contains(&Misaligned));
    let onto = good("%in", 512).replace("[%smem], [%in]", "[%bar], [%in]");
    assert!(kinds(&onto, 1).contains(&MbarrierMisuse));
    let unfenced = store("cp.async.bulk.global.shared::cta.bulk_group")
        .replace("fence.proxy.async.shared::cta;", "");
    assert_eq!(kinds(&unfenced, 1), [MissingProxyFence]);
    let wrong_space = store("cp.async.bulk.global.shared::cta.bulk_group")
        .replace("fence.proxy.async.shared::cta;", "fence.proxy.async.global;");
    assert_eq!(kinds(&wrong_space, 1), [MissingProxyFence]);
    let unwaited = store("cp.async.bulk.global.shared::cta.bulk_group")
        .replace("    @%p7 cp.async.bulk.wait_group.read 0;", "");
    assert_eq!(kinds(&unwaited, 1), [ClusterExit]);
    let prefetch = "    @%p7 cp.async.bulk.prefetch.L2.global [%in+4080], 32;";
    assert_eq!(kinds(prefetch, 1), [OutOfBounds]);
    // The mbarrier of another block than the data's.
    let body = "
    @%p7 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%bar], 512;
    xor.b32 %r2, %rank, 1;
    mapa.shared::cluster.u32 %r4, %bar, %r2;
    @%p7 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%smem], [%in], 512, [%r4];
    WAIT
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;"
        .replace("WAIT", WAIT);
    assert_eq!(kinds(&body, 2), [MbarrierMisuse]);
    let multicast = load("%in", 512)
        .replace("complete_tx::bytes [%smem]", "complete_tx::bytes.multicast::cluster [%smem]")
        .replace("512, [%bar];", "512, [%bar], %h0;")
        .replace("    @%p7 cp.async.bulk", "    mov.u16 %h0, 5;\n    @%p7 cp.async.bulk")
        + WAIT;
    assert_eq!(kinds(&multicast, 1), [OutOfBounds]);
}

#[test]
fn an_unread_destination_is_reported_when_the_block_ends() {
    let body = load("%in", 512);
    assert_eq!(kinds(&body, 1), [FindingKind::ClusterExit]);
}
