//! Races in global memory: inside blocks, between blocks that cannot be ordered, and between blocks that order
//! themselves by release and acquire.

mod harness;

use harness::Bench;
use zeroforge_emulator::{FindingKind, Report, Schedule};

/// A kernel: `%r0` is the thread, `%r1` the block, `%rd0` the buffer, `%rd1` the word of the thread in it,
/// `%rd2` a word per block behind those, `%p0` whether the thread is the first, `%p1` whether it is of the
/// first block.
fn kernel(body: &str) -> String {
    format!(
        ".version 8.0\n.target sm_90a\n.address_size 64\n\
         .visible .entry k(.param .u64 out)\n{{\n\
         .reg .b32 %r<20>;\n.reg .b64 %rd<12>;\n.reg .pred %p<8>;\n\
         mov.u32 %r0, %tid.x;\nmov.u32 %r1, %ctaid.x;\nld.param.u64 %rd0, [out];\n\
         mul.wide.u32 %rd1, %r0, 4;\nadd.u64 %rd1, %rd1, %rd0;\n\
         mul.wide.u32 %rd2, %r1, 4;\nadd.u64 %rd2, %rd2, %rd0;\nadd.u64 %rd2, %rd2, 4096;\n\
         setp.eq.u32 %p0, %r0, 0;\nsetp.eq.u32 %p1, %r1, 0;\n{body}\nret;\n}}\n"
    )
}

fn run(body: &str, blocks: u32, threads: usize, schedule: Schedule) -> Report {
    let mut bench = Bench::new(&kernel(body));
    bench.options.threads = threads;
    bench.schedule(schedule);
    let out = bench.buffer(&[0; 8192]);
    bench.param_u64(out);
    bench.launch("k", [blocks, 1, 1], [64, 1, 1])
}

/// The report, which must be the same for any number of host threads.
fn report(body: &str, blocks: u32) -> Report {
    let one = run(body, blocks, 1, Schedule::Late);
    for threads in [2, 5] {
        assert_eq!(one, run(body, blocks, threads, Schedule::Late), "{threads} threads");
    }
    one
}

#[track_caller]
fn clean(body: &str, blocks: u32) {
    let report = report(body, blocks);
    let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
    assert!(errors.is_empty(), "findings:\n{}", errors.join("\n"));
    for seed in 0..20 {
        let report = run(body, blocks, 1, Schedule::Random(seed));
        let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "seed {seed}, findings:\n{}", errors.join("\n"));
    }
}

#[track_caller]
fn race(body: &str, blocks: u32, message: &str) {
    let report = report(body, blocks);
    let found = report.errors().next().unwrap_or_else(|| panic!("no finding"));
    assert_eq!(found.kind, FindingKind::Race, "{found}");
    assert!(found.message.contains(message), "{found}");
    assert!(found.other.is_some() && found.address.is_some(), "{found}");
}

#[test]
fn blocks_that_write_different_words_do_not_race() {
    clean("@%p0 st.global.u32 [%rd2], %r1;", 300);
    clean("@%p0 st.global.u32 [%rd2], %r1;\n@%p0 ld.global.u32 %r3, [%rd2];", 300);
    // Single bytes of neighbours, and words that all read.
    clean(
        "mul.wide.u32 %rd3, %r1, 1;\nadd.u64 %rd3, %rd3, %rd0;\nadd.u64 %rd3, %rd3, 4096;\n\
         @%p0 st.global.u8 [%rd3], %r1;\nld.global.u32 %r3, [%rd1];",
        300,
    );
}

#[test]
fn blocks_that_write_one_word_race() {
    race("@%p0 st.global.u32 [%rd0], %r1;", 300, "by another block");
    // One block is nobody's neighbour.
    clean("@%p0 st.global.u32 [%rd0], %r1;", 1);
}

#[test]
fn a_block_may_not_read_what_another_one_writes() {
    let body = "@%p1 st.global.u32 [%rd1], %r0;\n@!%p1 ld.global.u32 %r3, [%rd1];";
    race(body, 3, "a read at global address");
    let found = report(body, 3).findings.remove(0);
    assert_eq!(found.party.cta, [1, 0, 0], "{found}");
    assert_eq!(found.other.as_ref().map(|o| o.cta), Some([0; 3]), "{found}");
    assert!(found.party.at.instruction.contains("ld.global"), "{found}");
}

#[test]
fn inside_a_block_barriers_order() {
    let exchange = |barrier: &str| {
        format!(
            "st.global.u32 [%rd1], %r0;\n{barrier}\nxor.b32 %r2, %r0, 32;\n\
             mul.wide.u32 %rd3, %r2, 4;\nadd.u64 %rd3, %rd3, %rd0;\nld.global.u32 %r3, [%rd3];"
        )
    };
    clean(&exchange("bar.sync 0;"), 1);
    race(&exchange(""), 1, "bar.sync");
    let lanes = exchange("").replace("xor.b32 %r2, %r0, 32", "xor.b32 %r2, %r0, 1");
    race(&lanes, 1, "bar.warp.sync");
}

/// The first block writes 64 words and raises a flag; the second waits for it and reads them.
fn hand_over(write_flag: &str, read_flag: &str, after: &str) -> String {
    format!(
        "@!%p1 bra READER;\nst.global.u32 [%rd1], %r0;\nbar.sync 0;\nmov.u32 %r5, 1;\n\
         @!%p0 bra DONE;\n{write_flag}\nbra DONE;\n\
         READER:\n@!%p0 bra READ;\nSPIN:\n{read_flag}\nsetp.ne.u32 %p3, %r6, 1;\n@%p3 bra SPIN;\n{after}\n\
         READ:\nbar.sync 0;\nxor.b32 %r2, %r0, 33;\nmul.wide.u32 %rd3, %r2, 4;\n\
         add.u64 %rd3, %rd3, %rd0;\nld.global.u32 %r3, [%rd3];\nDONE:"
    )
}

#[test]
fn release_and_acquire_order_blocks() {
    let release = "st.release.gpu.global.u32 [%rd0+4096], %r5;";
    let acquire = "ld.acquire.gpu.global.u32 %r6, [%rd0+4096];";
    clean(&hand_over(release, acquire, ""), 2);
    // With fences and relaxed accesses, or volatile ones.
    let fenced = "fence.acq_rel.gpu;\nst.relaxed.gpu.global.u32 [%rd0+4096], %r5;";
    let relaxed = "ld.relaxed.gpu.global.u32 %r6, [%rd0+4096];";
    clean(&hand_over(fenced, relaxed, "fence.acq_rel.gpu;"), 2);
    clean(
        &hand_over(
            "membar.gl;\nst.volatile.global.u32 [%rd0+4096], %r5;",
            "ld.volatile.global.u32 %r6, [%rd0+4096];",
            "membar.gl;",
        ),
        2,
    );
    clean(&hand_over(fenced, acquire, ""), 2);
    clean(&hand_over(release, relaxed, "fence.acq_rel.gpu;"), 2);
    // Half of a pattern is none.
    let store = "st.relaxed.gpu.global.u32 [%rd0+4096], %r5;";
    race(&hand_over(store, acquire, ""), 2, "fence.acq_rel.gpu");
    race(&hand_over(release, relaxed, ""), 2, "fence.acq_rel.gpu");
    race(&hand_over(store, relaxed, ""), 2, "fence.acq_rel.gpu");
}
