//! Shuffles, votes and elections, with all lanes and with some, together and apart.

mod harness;
#[path = "harness/scalar.rs"]
mod scalar;

use harness::Bench;
use scalar::{Values, run};
use zeroforge_emulator::{FindingKind, Report};

/// Runs a body in which `%l` is the lane and `%d` what each of 32 lanes stores.
fn warp(body: &str, threads: u32) -> (Vec<u32>, Report) {
    let ptx = format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 out)\n{{\n\
         .reg .pred %p, %q;\n.reg .b32 %l, %d, %x, %y, %m;\n.reg .b64 %o, %w;\n\
         mov.u32 %l, %tid.x;\nmov.b32 %d, 1000;\n{body}\n\
         ld.param.u64 %o, [out];\nmul.wide.u32 %w, %l, 4;\nadd.u64 %o, %o, %w;\n\
         st.global.b32 [%o], %d;\nret;\n}}\n"
    );
    let mut bench = Bench::new(&ptx);
    let out = bench.buffer(&[0xff; 128]);
    bench.param_u64(out);
    let report = bench.launch("k", [1, 1, 1], [threads, 1, 1]);
    (bench.read_u32(out, 32), report)
}

fn clean(body: &str) -> Vec<u32> {
    let (out, report) = warp(body, 32);
    assert!(report.is_clean(), "{body}: {:?}", report.findings);
    out
}

/// The pseudo-code of PTX ISA 9.7.9.6: where a lane's value comes from, and whether that is in bounds.
fn source(mode: &str, lane: i32, b: i32, c: i32) -> (i32, bool) {
    let (bval, cval, segmask) = (b & 31, c & 31, c >> 8 & 31);
    let max = (lane & segmask) | (cval & !segmask);
    let min = lane & segmask;
    let (j, p) = match mode {
        "up" => (lane - bval, lane - bval >= max),
        "down" => (lane + bval, lane + bval <= max),
        "bfly" => (lane ^ bval, lane ^ bval <= max),
        _ => {
            let j = min | (bval & !segmask);
            (j, j <= max)
        }
    };
    (if p { j } else { lane }, p)
}

#[test]
fn every_shuffle_of_every_segment() {
    let mut values = Values(1);
    for mode in ["up", "down", "bfly", "idx"] {
        for width in [32, 16, 8, 4, 2, 1] {
            // What __shfl_sync and its kin pass for a width; and any clamp at all.
            let usual = (32 - width) << 8 | if mode == "up" { 0 } else { 31 };
            for c in [usual, (values.next() & 0x1f1f) as i32] {
                for b in 0..33 {
                    let body = format!(
                        "add.u32 %x, %l, 100; shfl.sync.{mode}.b32 %d|%p, %x, {b}, {c}, 0xffffffff;\n\
                         @%p add.u32 %d, %d, 1000;"
                    );
                    let got = clean(&body);
                    for lane in 0..32 {
                        let (j, p) = source(mode, lane, b, c);
                        let want = 100 + j + if p { 1000 } else { 0 };
                        assert_eq!(
                            got[lane as usize], want as u32,
                            "{mode} lane {lane} b {b} c {c:#x}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn source_and_destination_may_be_one_register() {
    let out = clean("shfl.sync.bfly.b32 %l, %l, 1, 31, -1; mov.b32 %d, %l; mov.u32 %l, %tid.x;");
    assert!((0..32).all(|l| out[l] == l as u32 ^ 1));
}

#[test]
fn votes_matches_and_reductions() {
    let any = "setp.eq.u32 %p, %l, 5;";
    let sum: u32 = (0..32u32).map(|l| l * 7).sum();
    let all = [
        (format!("{any} vote.sync.ballot.b32 %d, %p, -1;"), 1 << 5),
        (format!("{any} vote.sync.ballot.b32 %d, !%p, -1;"), !(1 << 5)),
        (format!("{any} vote.sync.any.pred %q, %p, -1; selp.b32 %d, 1, 0, %q;"), 1),
        (format!("{any} vote.sync.all.pred %q, %p, -1; selp.b32 %d, 1, 0, %q;"), 0),
        (format!("{any} vote.sync.uni.pred %q, %p, -1; selp.b32 %d, 1, 0, %q;"), 0),
        ("setp.lt.u32 %p, %l, 99; vote.sync.uni.pred %q, %p, -1; selp.b32 %d, 1, 0, %q;".into(), 1),
        ("setp.lt.u32 %p, %l, 99; vote.sync.all.pred %q, %p, -1; selp.b32 %d, 1, 0, %q;".into(), 1),
        ("activemask.b32 %d;".into(), u32::MAX),
        ("elect.sync %d|%p, -1;".into(), 0),
        ("mul.lo.u32 %x, %l, 7; redux.sync.add.u32 %d, %x, -1;".into(), sum),
        ("sub.s32 %x, %l, 20; redux.sync.min.s32 %d, %x, -1;".into(), -20i32 as u32),
        ("sub.s32 %x, %l, 20; redux.sync.max.s32 %d, %x, -1;".into(), 11),
        ("sub.s32 %x, %l, 20; redux.sync.max.u32 %d, %x, -1;".into(), u32::MAX),
        ("add.u32 %x, %l, 3; redux.sync.min.u32 %d, %x, -1;".into(), 3),
        ("or.b32 %x, %l, 64; redux.sync.and.b32 %d, %x, -1;".into(), 64),
        ("redux.sync.or.b32 %d, %l, -1;".into(), 31),
        ("redux.sync.xor.b32 %d, %l, -1;".into(), (0..32).fold(0, |a, b| a ^ b)),
        ("match.all.sync.b32 %d|%p, 7, -1; @!%p mov.b32 %d, 1;".into(), u32::MAX),
        ("match.all.sync.b32 %d|%p, %l, -1; @%p mov.b32 %d, 1;".into(), 0),
    ];
    for (body, want) in all {
        assert_eq!(clean(&body), vec![want; 32], "{body}");
    }
    let out = clean("rem.u32 %x, %l, 3; match.any.sync.b32 %d, %x, -1;");
    for lane in 0..32 {
        let want: u32 = (0..32).filter(|k| k % 3 == lane % 3).map(|k| 1 << k).sum();
        assert_eq!(out[lane as usize], want);
    }
    let out = clean("rem.u32 %x, %l, 2; cvt.u64.u32 %w, %x; match.any.sync.b64 %d, %w, -1;");
    assert!((0..32).all(|l| out[l] == 0x5555_5555 << (l % 2)));
    let out = clean("elect.sync %d|%p, -1; selp.b32 %d, 1, 0, %p;");
    assert_eq!(out.iter().sum::<u32>(), 1);
    assert_eq!(out[0], 1);
}

#[test]
fn half_warps_work_on_their_own_with_their_own_masks() {
    // Two branches, each with a reduction over its half.
    let body = "setp.lt.u32 %p, %l, 16; @!%p bra HIGH;\n\
        redux.sync.add.u32 %d, %l, 0x0000ffff; bra DONE;\n\
        HIGH: redux.sync.add.u32 %d, %l, 0xffff0000;\nDONE:";
    let (low, high) = ((0..16).sum::<u32>(), (16..32).sum::<u32>());
    let out = clean(body);
    assert!((0..32).all(|l| out[l] == if l < 16 { low } else { high }));
    // One instruction, masks that differ by lane: groups do not mix.
    let body = "and.b32 %x, %l, 3; mov.b32 %m, 0x11111111; shl.b32 %m, %m, %x;\n\
        redux.sync.add.u32 %d, %l, %m;";
    let out = clean(body);
    for lane in 0..32u32 {
        assert_eq!(out[lane as usize], (0..32).filter(|k| k % 4 == lane % 4).sum::<u32>());
    }
}

#[test]
fn lanes_wait_for_those_of_their_mask_that_come_later() {
    // The lower half loops on its own before it comes to the shuffle; the order of branches is both.
    for odd in ["lt", "ge"] {
        let body = format!(
            "mov.b32 %x, 0; setp.{odd}.u32 %p, %l, 16; @!%p bra MEET;\n\
             LOOP: add.u32 %x, %x, 1; setp.lt.u32 %q, %x, %l; @%q bra LOOP;\n\
             MEET: shfl.sync.idx.b32 %d, %l, 31, 31, -1;"
        );
        assert_eq!(clean(&body), vec![31; 32]);
    }
}

#[test]
fn lanes_that_exited_are_not_waited_for() {
    // The upper half leaves while the lower one may already wait.
    let body = "setp.ge.u32 %p, %l, 16; @%p bra LEAVE; redux.sync.add.u32 %d, %l, -1; bra GO;\n\
        LEAVE: exit;\nGO:";
    let (out, report) = warp(body, 32);
    assert!(report.is_clean(), "{:?}", report.findings);
    assert!((0..16).all(|l| out[l] == 120));
    // A block of fewer threads than a warp has.
    let (out, report) = warp("redux.sync.add.u32 %d, %l, -1;", 20);
    assert!(report.is_clean(), "{:?}", report.findings);
    assert!((0..20).all(|l| out[l] == 190));
}

#[test]
fn lanes_that_never_come_are_reported() {
    let body = "setp.lt.u32 %p, %l, 16; @!%p bra OTHER; shfl.sync.idx.b32 %d, %l, 0, 31, -1; bra DONE;\n\
        OTHER: WAIT: setp.lt.u32 %q, %l, 16; bar.sync 0;\nDONE:";
    let (_, report) = warp(body, 32);
    assert!(!report.is_clean());
    let body = "setp.lt.u32 %p, %l, 16; @%p shfl.sync.idx.b32 %d, %l, 0, 31, -1; bar.sync 0;";
    let (_, report) = warp(body, 32);
    let kinds: Vec<_> = report.errors().map(|f| f.kind).collect();
    assert_eq!(kinds, [FindingKind::Divergence], "{:?}", report.findings);
}

#[test]
fn misuse_is_reported() {
    // Lane 20 takes from lane 3, which is not there.
    let body = "setp.ge.u32 %p, %l, 16; @%p shfl.sync.idx.b32 %d, %l, 3, 31, 0xffff0000;";
    let (out, report) = warp(body, 32);
    let found: Vec<_> = report.errors().collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, FindingKind::Undefined);
    assert_eq!(found[0].party.lanes, 0xffff_0000);
    assert_eq!(out[20], 1000);
    // A mask without the lanes that execute.
    let (_, report) = warp("redux.sync.add.u32 %d, %l, 0x0000000f;", 32);
    let found: Vec<_> = report.errors().collect();
    assert_eq!(found[0].kind, FindingKind::Undefined);
    assert_eq!(found[0].party.lanes, 0xffff_fff0);
    // A shuffle out of bounds keeps the lane's own value and is legal.
    let (_, report) = warp("shfl.sync.down.b32 %d, %l, 1, 31, -1;", 32);
    assert!(report.is_clean());
}

#[test]
fn guards_and_partial_masks() {
    let out = run(
        "mov.b32 %d, 7; setp.ne.u32 %q, %a, 0; @%q activemask.b32 %d;",
        "b32",
        &[("b32", &[1, 0, 1, 1])],
    );
    assert_eq!(out.d, [0b1101, 7, 0b1101, 0b1101]);
    assert_eq!(clean("bar.warp.sync -1; mov.b32 %d, 3;"), vec![3; 32]);
}
