//! The timeline model where the answer is known.

use std::fmt::Write;

use zeroforge_sass::disassemble::parse;
use zeroforge_sass::timeline::{Device, LaunchFile, Problem, Rates, Tiling, predict, steady};
use zeroforge_sass::{Entry, Kernel, Launch, Report, report};

/// A kernel of two consumer warpgroups; each line is an instruction, `|stall` its stall count, `|stall|write|wait` with
/// scoreboards, or a label.
fn kernel(lines: &[String]) -> (Kernel, Report) {
    let mut text = "\t.section\t.text.k,\"ax\"\n".to_owned();
    let mut address = 0;
    for line in lines {
        if line.ends_with(':') {
            let _ = writeln!(text, "{line}");
            continue;
        }
        let mut parts = line.split('|');
        let code = parts.next().unwrap_or_default();
        let mut number = |other: u64| parts.next().map_or(other, |p| p.parse().expect("a number"));
        let (stall, write, wait) = (number(1), number(7), number(0));
        let high = (stall | write << 5 | 7 << 8 | wait << 11) << 41;
        let _ = writeln!(
            text,
            "/*{address:04x}*/ {code} ; /* 0x0000000000007918 */\n/* {high:#018x} */"
        );
        address += 16;
    }
    let code = parse(&text).expect("a listing").remove("k").expect("the kernel");
    let entry = Entry { name: "k".into(), registers: 168, ..Entry::default() };
    let kernel = Kernel::new(entry, code);
    let report = report(&kernel, &Launch { threads: Some(384), dynamic_shared: 0 });
    (kernel, report)
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect()
}

/// Products, a wait for them, then `work`.
fn looped(wait: usize, work: &str, times: usize) -> (Kernel, Report) {
    let head = "USETMAXREG.TRY_ALLOC.CTAPOOL 0xf0\n.L_x_0:\nWARPGROUP.ARRIVE\n";
    let products = "HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24\n".repeat(7);
    let last = format!(
        "HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24, gsb0\nWARPGROUP.DEPBAR.LE gsb0, {wait:#x}\n"
    );
    let tail = "@P1 BRA `(.L_x_0)\nWARPGROUP.DEPBAR.LE gsb0, 0x0\nEXIT\n";
    kernel(&lines(&format!("{head}{products}{last}{}{tail}", work.repeat(times))))
}

fn only(k: &(Kernel, Report)) -> (f64, f64) {
    let list = steady(&k.0, &k.1, &Rates::default()).expect("a prediction");
    assert_eq!(list.len(), 1);
    (list[0].cycles, list[0].tensor_busy)
}

#[test]
fn products_alone_keep_the_tensor_cores_busy() {
    // Two warpgroups, 8 products of 64 cycles each.
    let (cycles, busy) = only(&looped(0, "", 0));
    assert!((cycles - 1024.0).abs() < 8.0, "{cycles}");
    assert!(busy > 0.99, "{busy}");
}

#[test]
fn a_unit_that_has_more_to_do_binds() {
    // 200 independent exponentials of 8 cycles for each of two warps of a sub-partition.
    let (cycles, busy) = only(&looped(0, "MUFU.EX2 R4, R5\n", 200));
    assert!((3200.0..3700.0).contains(&cycles), "{cycles}");
    assert!(busy < 0.33, "{busy}");
    // 1,200 instructions each: issue slots bind, and not all products run beside them.
    let (cycles, _) = only(&looped(0, "FFMA R4, R5, R6, R4\n", 1200));
    assert!((2400.0..3424.0).contains(&cycles), "{cycles}");
}

#[test]
fn work_in_the_shadow_is_free_and_stalls_behind_it_are_not() {
    // 700 cycles of stalls for each warp: with one warpgroup's products of 512 the other's stalls are not covered.
    let work = "FADD R4, R4, R5|7\n";
    let (behind, _) = only(&looped(0, work, 130));
    // The same, with the wait for the products of the iteration before.
    let (inside, busy) = only(&looped(1, work, 130));
    assert!(behind > 1300.0, "{behind}");
    assert!(inside < behind * 0.85, "{inside} {behind}");
    assert!(busy > 0.8, "{busy}");
}

#[test]
fn scoreboards_are_waited_for() {
    let (plain, _) = only(&looped(0, "MUFU.EX2 R4, R5\nFADD R4, R4, R5\n", 20));
    // Each addition waits for the exponential before it.
    let (waits, _) = only(&looped(0, "MUFU.EX2 R4, R5|1|0\nFADD R4, R4, R5|1|7|1\n", 20));
    assert!(waits > plain + 10.0 * Rates::default().mufu as f64, "{waits} {plain}");
}

#[test]
fn turns_order_the_warpgroups() {
    // Ping-pong: the products of one run while the other does its work; both fit exactly.
    let body = |sync: &str, arrive: &str| {
        format!(
            "USETMAXREG.TRY_ALLOC.CTAPOOL 0xf0\n.L_x_0:\n{sync}\n{}HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24, gsb0\n{arrive}\nWARPGROUP.DEPBAR.LE gsb0, 0x0\n{}@P1 BRA `(.L_x_0)\nEXIT",
            "HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24\n".repeat(7),
            "FADD R4, R4, R5|4\n".repeat(100)
        )
    };
    let text = body("BAR.SYNC.DEFER_BLOCKING R18, 0x100", "BAR.ARV R20, 0x100");
    let (cycles, busy) = only(&kernel(&lines(&text)));
    assert!((1024.0..1110.0).contains(&cycles), "{cycles}");
    assert!(busy > 0.92, "{busy}");
    // A turn that is never given is an error, not a wrong number.
    let k = kernel(&lines(&body("BAR.SYNC.DEFER_BLOCKING R18, 0x100", "NOP")));
    let reason = steady(&k.0, &k.1, &Rates::default()).expect_err("a deadlock");
    assert!(reason.contains("all warps wait"), "{reason}");
}

fn tiled() -> (Kernel, Report) {
    kernel(&lines(&format!(
        "USETMAXREG.TRY_ALLOC.CTAPOOL 0xf0
         .L_x_1:
         .L_x_0:
         SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR5+0x10], R9
         WARPGROUP.ARRIVE
         {}HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24, gsb0
         WARPGROUP.DEPBAR.LE gsb0, 0x0
         SYNCS.ARRIVE.TRANS64.RED.A1T0 RZ, [R81+URZ], RZ
         @P1 BRA `(.L_x_0)
         {}@P2 BRA `(.L_x_1)
         EXIT",
        "HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24\n".repeat(3),
        "STG.E [R2], R4|8\n".repeat(40)
    )))
}

fn tiling(stages: usize) -> Tiling {
    Tiling {
        tile_m: 128,
        tile_n: 128,
        tile_k: 64,
        stages,
        query_stages: 1,
        element_bytes: 2,
        ..Tiling::default()
    }
}

#[test]
fn waves_stages_and_devices() {
    let k = tiled();
    let run = |rows: u64, columns: u64, k_size: u64, stages: usize, device: Device| {
        let problem = Problem::Gemm { m: rows * 128, n: columns * 128, k: k_size };
        predict(&k.0, &k.1, &problem, &tiling(stages), device, &Rates::default())
            .expect("a prediction")
    };
    // 132 tiles on 132 SMs are one wave, 133 are two, and on 60 SMs three.
    let one = run(11, 12, 1024, 4, Device::H100);
    let two = run(19, 7, 1024, 4, Device::H100);
    assert_eq!((one.tiles, two.tiles), (1, 2));
    assert!(two.utilisation < 0.6 * one.utilisation, "{one:?} {two:?}");
    assert_eq!(run(11, 12, 1024, 4, Device::H200_SLICE).tiles, 3);
    // Long sums hide what is before and after them; utilisation is below one always.
    let long = run(11, 12, 16384, 4, Device::H100);
    assert!(long.utilisation > one.utilisation && long.utilisation <= 1.0);
    assert!(long.tensor_busy <= 1.0 && !long.memory_bound);
    // One slot cannot hide the latency of a load.
    let starved = run(11, 12, 16384, 1, Device::H100);
    assert!(starved.utilisation < 0.6 * long.utilisation, "{starved:?} {long:?}");
    assert!(starved.waits["loads"] > 0.2, "{starved:?}");
}

#[test]
fn causal_attention_does_half_the_work() {
    let file = LaunchFile::parse(
        "device = \"h100\"
         [problem.attention]
         batch = 1
         heads = 16
         length = 4096
         head_dim = 64
         value_dim = 64
         causal = true
         [tiling]
         tile_m = 128
         tile_n = 128
         stages = 2
         element_bytes = 2",
    )
    .expect("a launch");
    let k = tiled();
    let run = |p: &Problem| {
        let d = file.device.device();
        predict(&k.0, &k.1, p, &file.tiling, d, &Rates::default()).expect("a prediction")
    };
    let causal = run(&file.problem);
    let Problem::Attention { batch, heads, length, head_dim, value_dim, .. } = file.problem else {
        unreachable!("the file says attention")
    };
    let full =
        run(&Problem::Attention { batch, heads, length, head_dim, value_dim, causal: false });
    let ratio = full.cycles as f64 / causal.cycles as f64;
    assert!((1.6..2.1).contains(&ratio), "{ratio}");
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    let k = tiled();
    for (m, n, kk) in [(0, 1, 1), (1, 1, u64::MAX), (u64::MAX, u64::MAX, 2), (1 << 31, 1 << 31, 64)]
    {
        let p = Problem::Gemm { m, n, k: kk };
        assert!(predict(&k.0, &k.1, &p, &tiling(2), Device::H100, &Rates::default()).is_err());
    }
    let zero = Tiling { tile_m: 0, ..tiling(2) };
    let p = Problem::Gemm { m: 128, n: 128, k: 128 };
    assert!(predict(&k.0, &k.1, &p, &zero, Device::H100, &Rates::default()).is_err());
    assert!(LaunchFile::parse("device = \"v100\"").is_err());
    // A kernel without products has no prediction, and says so.
    let plain = kernel(&lines("MOV R0, RZ\nEXIT"));
    let reason = steady(&plain.0, &plain.1, &Rates::default()).expect_err("no loops");
    assert!(reason.contains("no loop has matrix products"), "{reason}");
}
