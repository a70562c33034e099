//! How fast the interpreter runs scalar code, with checks and without: lane-instructions per second of one
//! core.

#![allow(missing_docs, reason = "criterion's macros make functions without documentation")]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use zeroforge_emulator::{Checks, Device, DeviceMemory, LaunchConfig, Options, Program, launch};

/// Time that this thread spent on a core: others may share the machine.
fn time_on_core() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = text.split_whitespace().next().expect("three numbers");
    Duration::from_nanos(nanoseconds.parse().expect("a number"))
}

/// A kernel of 8 warps whose lanes run `body` `rounds` times. `%l` is the lane, `%s` its shared address of a word, `%v` of four.
fn module(body: &str, rounds: u32) -> String {
    format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 out)\n{{\n\
         .shared .align 16 .b8 data[8192];\n.reg .pred %p;\n.reg .b32 %l, %i, %s, %v, %r<16>;\n\
         .reg .f32 %f<16>;\n.reg .b64 %o, %w, %q<8>;\n\
         mov.u32 %l, %tid.x;\nmov.u32 %s, data;\nshl.b32 %r1, %l, 4;\nadd.u32 %v, %s, %r1;\nshl.b32 %r1, %l, 2;\n\
         add.u32 %s, %s, %r1;\n\
         mov.b32 %i, 0;\nsetp.eq.u32 %p, %i, 0;\nmov.b32 %r2, %l;\nmov.b32 %r3, 17;\nmov.b32 %r4, 0;\nmov.f32 %f1, 0f3F800000;\n\
         mov.f32 %f2, 0f3F000000;\nmov.f32 %f3, 0f00000000;\ncvt.u64.u32 %q1, %l;\nmov.b64 %q2, 5;\n\
         st.shared.b32 [%s], %l;\nst.shared.v4.b32 [%v+1024], {{%l, %l, %l, %l}};\nbar.sync 0;\n\
         LOOP:\n{body}\nadd.u32 %i, %i, 1;\nsetp.lt.u32 %p, %i, {rounds};\n@%p bra LOOP;\n\
         ld.param.u64 %o, [out];\nmul.wide.u32 %w, %l, 4;\nadd.u64 %o, %o, %w;\n\
         xor.b32 %r4, %r4, %r2;\nst.global.b32 [%o], %r4;\nret;\n}}\n"
    )
}

/// What an inner loop of index arithmetic and floats is made of.
const ARITHMETIC: &str = "add.s32 %r2, %r2, %r3;\nmul.lo.s32 %r5, %r2, %r3;\nand.b32 %r6, %r5, 255;\n\
    shl.b32 %r7, %r6, 3;\nadd.s32 %r4, %r4, %r7;\nfma.rn.ftz.f32 %f3, %f1, %f2, %f3;\n\
    mul.ftz.f32 %f4, %f3, %f2;\nmax.ftz.f32 %f5, %f4, %f1;\nadd.ftz.f32 %f3, %f5, %f4;\n\
    add.s64 %q1, %q1, %q2;\nxor.b32 %r2, %r2, %r4;\nselp.b32 %r8, %r2, %r3, %p;\nmov.b32 %r9, %r8;";

/// Loads and stores of shared memory with some arithmetic, as in staging code.
const SHARED: &str = "ld.shared.b32 %r5, [%s];\nadd.s32 %r6, %r5, %r3;\nst.shared.b32 [%s], %r6;\n\
    ld.shared.v4.b32 {%r7, %r8, %r9, %r10}, [%v+1024];\nadd.s32 %r4, %r4, %r7;\nxor.b32 %r4, %r4, %r8;\n\
    add.s32 %r11, %r9, %r10;\nst.shared.v2.b32 [%v+1032], {%r11, %r4};";

fn bench(c: &mut Criterion) {
    for (name, body) in [("arithmetic", ARITHMETIC), ("shared", SHARED)] {
        let text = module(body, 2000);
        let module = zeroforge_ptx::parse(&text).expect("the kernel is well-formed");
        let memory = DeviceMemory::new(1 << 24);
        let program = Program::load(&module, &memory).expect("the kernel can run");
        let out = memory.alloc(1024).expect("room");
        let config = LaunchConfig {
            grid: [1, 1, 1],
            block: [256, 1, 1],
            cluster: [1, 1, 1],
            dynamic_shared: 0,
            params: out.to_le_bytes().to_vec(),
        };
        let mut group = c.benchmark_group(name);
        for (label, checks) in [("checks on", Checks::ALL), ("checks off", Checks::NONE)] {
            let options = Options { checks, threads: 1, ..Options::default() };
            let run = || {
                launch(&program, "k", &config, &memory, &Device::default(), &options)
                    .expect("the shape is allowed")
            };
            let report = run();
            assert!(report.is_clean(), "{:?}", report.findings);
            group.throughput(Throughput::Elements(report.lane_instructions));
            group.bench_function(label, |b| {
                b.iter_custom(|n| {
                    let start = time_on_core();
                    for _ in 0..n {
                        std::hint::black_box(run());
                    }
                    time_on_core() - start
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).sample_size(10);
    targets = bench
}
criterion_main!(benches);
