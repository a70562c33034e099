//! Races in shared memory: what is ordered is not reported, what is not ordered is.

mod harness;

use harness::Bench;
use zeroforge_emulator::{FindingKind, Report};

/// A kernel of 64 threads with 1 KiB of shared memory: `%r0` is the thread, `%r1` four times the thread,
/// `%p0` whether it is in the first warp.
fn kernel(body: &str) -> String {
    format!(
        ".version 8.0\n.target sm_90a\n.address_size 64\n\
         .visible .entry k(.param .u64 out)\n{{\n\
         .reg .b32 %r<20>;\n.reg .b16 %h<8>;\n.reg .b64 %rd<8>;\n.reg .pred %p<8>;\n\
         .shared .align 16 .b8 s[1024];\n\
         mov.u32 %r0, %tid.x;\nshl.b32 %r1, %r0, 2;\nmov.u32 %r9, s;\nadd.u32 %r1, %r1, %r9;\n\
         setp.lt.u32 %p0, %r0, 32;\nld.param.u64 %rd0, [out];\n{body}\nret;\n}}\n"
    )
}

fn run(body: &str) -> Report {
    let mut bench = Bench::new(&kernel(body));
    let out = bench.buffer(&[0; 1024]);
    bench.param_u64(out);
    bench.launch("k", [1; 3], [64, 1, 1])
}

#[track_caller]
fn clean(body: &str) {
    let report = run(body);
    let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
    assert!(errors.is_empty(), "findings:\n{}", errors.join("\n"));
}

/// Exactly one finding, a race with this in its message, both parties at these instructions.
#[track_caller]
fn race(body: &str, message: &str, first: &str, second: &str) {
    let report = run(body);
    let errors: Vec<_> = report.errors().collect();
    let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 1, "findings:\n{}", text.join("\n"));
    let found = errors[0];
    assert_eq!(found.kind, FindingKind::Race, "{found}");
    assert!(found.message.contains(message), "{found}");
    assert!(found.party.at.instruction.contains(second), "{found}");
    let other = found.other.as_ref().expect("two parties");
    assert!(other.at.instruction.contains(first), "{found}");
    assert!(found.address.is_some());
}

#[test]
fn a_barrier_orders_warps() {
    let exchange = |barrier: &str| {
        format!(
            "st.shared.u32 [%r1], %r0;\n{barrier}\nxor.b32 %r2, %r0, 32;\nshl.b32 %r2, %r2, 2;\n\
             add.u32 %r2, %r2, %r9;\nld.shared.u32 %r3, [%r2];"
        )
    };
    clean(&exchange("bar.sync 0;"));
    let report = run(&exchange(""));
    // The first warp reads what was not written at all, the second what the first wrote meanwhile.
    let kinds: Vec<_> = report.errors().map(|f| f.kind).collect();
    assert!(kinds.contains(&FindingKind::Race), "{kinds:?}");
}

#[test]
fn lanes_of_a_warp_need_a_barrier_of_the_warp() {
    let exchange = |barrier: &str| {
        format!(
            "st.shared.u32 [%r1], %r0;\n{barrier}\nxor.b32 %r2, %r0, 1;\nshl.b32 %r2, %r2, 2;\n\
             add.u32 %r2, %r2, %r9;\nld.shared.u32 %r3, [%r2];"
        )
    };
    clean(&exchange("bar.sync 0;"));
    race(&exchange(""), "bar.warp.sync", "st.shared.u32", "ld.shared.u32");
    // A lane's own bytes are in its program's order.
    clean("st.shared.u32 [%r1], %r0;\nld.shared.u32 %r3, [%r1];\nst.shared.u32 [%r1], %r3;");
}

#[test]
fn small_neighbours_do_not_conflict() {
    let halves = "shl.b32 %r2, %r0, 1;\nadd.u32 %r2, %r2, %r9;\n\
                  st.shared.u16 [%r2], %r0;\nld.shared.u16 %h1, [%r2];\nst.shared.u16 [%r2], %h1;\n";
    clean(halves);
    // Two lanes' halves in one load.
    race(
        &format!(
            "{halves}add.u32 %r3, %r2, %r2;\nand.b32 %r4, %r2, -4;\nld.shared.u32 %r5, [%r4];"
        ),
        "bar.warp.sync",
        "st.shared.u16",
        "ld.shared.u32",
    );
    clean(&format!("{halves}bar.sync 0;\nand.b32 %r4, %r2, -4;\nld.shared.u32 %r5, [%r4];"));
    clean("add.u32 %r2, %r0, %r9;\nst.shared.u8 [%r2], %r0;\nld.shared.u8 %r3, [%r2];");
}

#[test]
fn a_slot_may_be_written_again_after_its_readers_came_to_a_barrier() {
    let reuse = |barrier: &str| {
        format!(
            "@%p0 st.shared.u32 [%r1], %r0;\nbar.sync 0;\nand.b32 %r2, %r0, 31;\n\
             shl.b32 %r2, %r2, 2;\nadd.u32 %r2, %r2, %r9;\nld.shared.u32 %r3, [%r2];\n{barrier}\n\
             setp.ge.u32 %p1, %r0, 32;\n@%p1 st.shared.u32 [%r2], %r3;"
        )
    };
    clean(&reuse("bar.sync 0;"));
    race(&reuse(""), "not ordered after an earlier read", "ld.shared.u32", "st.shared.u32");
}

#[test]
fn one_store_of_equal_values_is_no_race() {
    clean("mov.u32 %r4, 7;\n@%p0 st.shared.u32 [s], %r4;");
    let report = run("@%p0 st.shared.u32 [s], %r0;");
    let found = report.errors().next().expect("a finding");
    assert_eq!(found.kind, FindingKind::Race);
    assert!(found.message.contains("lanes 0 and 1 store different values"), "{found}");
    // The same instruction again, by another lane: two executions are not one.
    race(
        "mov.u32 %r4, 0;\nLOOP:\nsetp.eq.u32 %p1, %r0, %r4;\n@%p1 st.shared.u32 [s], %r0;\n\
         add.u32 %r4, %r4, 1;\nsetp.lt.u32 %p2, %r4, 2;\n@%p2 bra LOOP;",
        "bar.warp.sync",
        "st.shared.u32",
        "st.shared.u32",
    );
}

#[test]
fn volatile_accesses_may_race_among_themselves() {
    clean("st.volatile.shared.u32 [s], %r0;\nld.volatile.shared.u32 %r3, [s];");
    let mixed = "@%p0 st.volatile.shared.u32 [s], %r0;\n@!%p0 st.shared.u32 [s+4], %r9;\n\
                 @!%p0 ld.shared.u32 %r3, [s];";
    let report = run(mixed);
    assert!(report.errors().any(|f| f.kind == FindingKind::Race));
}

#[test]
fn bytes_that_nothing_wrote_are_reported_by_lane() {
    let report = run(
        "setp.ne.u32 %p1, %r0, 5;\n@%p1 st.shared.u32 [%r1], %r0;\nbar.sync 0;\nld.shared.u32 %r3, [%r1];",
    );
    let errors: Vec<_> = report.errors().collect();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].kind, FindingKind::UninitialisedShared);
    assert_eq!(errors[0].party.lanes, 1 << 5, "{}", errors[0]);
    assert!(errors[0].message.contains("nothing wrote"), "{}", errors[0]);
}

#[test]
fn checks_can_be_turned_off() {
    let body = "st.shared.u32 [s], %r0;\nld.shared.u32 %r3, [s+512];";
    let mut bench = Bench::new(&kernel(body));
    let out = bench.buffer(&[0; 1024]);
    bench.param_u64(out);
    assert!(!bench.launch("k", [1; 3], [64, 1, 1]).is_clean());
    bench.options.checks = zeroforge_emulator::Checks::NONE;
    assert!(bench.launch("k", [1; 3], [64, 1, 1]).findings.is_empty());
}
