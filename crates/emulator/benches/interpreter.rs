//! How fast the interpreter is on one core, with checks and without: lane-instructions per second of scalar code,
//! warpgroup products per second, and tiles of attention.

#![allow(missing_docs, reason = "criterion's macros make functions without documentation")]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use zeroforge_emulator::tensor_map::{
    DataType, Interleave, L2Promotion, OobFill, Swizzle, TensorMap, TiledArguments,
};
use zeroforge_emulator::{
    Checks, Device, DeviceMemory, LaunchConfig, Options, Program, Report, launch,
};

/// Time that this thread spent on a core: others may share the machine.
fn time_on_core() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = text.split_whitespace().next().expect("three numbers");
    Duration::from_nanos(nanoseconds.parse().expect("a number"))
}

/// A kernel of 8 warps whose lanes run `body` `rounds` times. `%l` is the lane, `%s` its shared address of a word,
/// `%v` of four, `%o` its global address of a word.
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
         ld.param.u64 %o, [out];\nmul.wide.u32 %w, %l, 4;\nadd.u64 %o, %o, %w;\nst.global.b32 [%o], %l;\n\
         LOOP:\n{body}\nadd.u32 %i, %i, 1;\nsetp.lt.u32 %p, %i, {rounds};\n@%p bra LOOP;\n\
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

/// What kernels are mostly made of: 4 of the 27 instructions of a round access memory, shared and global.
fn mixed() -> String {
    let (first, second) = ARITHMETIC.split_at(ARITHMETIC.find("fma").expect("a product of floats"));
    format!(
        "ld.global.b32 %r10, [%o];\n{first}\nld.shared.b32 %r11, [%s];\nadd.s32 %r12, %r10, %r11;\n{second}\n\
         st.shared.b32 [%s], %r12;\nshl.b32 %r13, %r12, 1;\nxor.b32 %r13, %r13, %r2;\nand.b32 %r14, %r13, 1023;\n\
         add.s32 %r4, %r4, %r14;\nsub.s32 %r15, %r14, %r12;\nmax.s32 %r15, %r15, %r3;\nst.global.b32 [%o], %r15;"
    )
}

/// A warpgroup that multiplies 64 rows of A with 128 of B, both in shared memory, by `steps` products of depth 16
/// for each group that it waits for.
fn products(steps: u64, rounds: u32) -> String {
    use std::fmt::Write;
    let d: Vec<String> = (0..64).map(|i| format!("%d{i}")).collect();
    let mut body = "wgmma.fence.sync.aligned;\n".to_owned();
    for step in 0..steps {
        let descriptor =
            |offset: u64| (1024 + offset + 32 * step) >> 4 | 1 << 16 | (1024 >> 4) << 32 | 1 << 62;
        writeln!(
            body,
            "mov.b64 %a, {:#x};\nmov.b64 %b, {:#x};\n\
             wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {{{}}}, %a, %b, %p, 1, 1, 0, 0;",
            descriptor(0),
            descriptor(8192),
            d.join(", ")
        )
        .expect("strings take all");
    }
    body.push_str("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;");
    let zero: String = d.iter().fold(String::new(), |all, d| all + &format!("mov.b32 {d}, 0;\n"));
    let mut fill = String::new();
    for i in 0..12 {
        let _ = writeln!(fill, "st.shared.v4.b32 [%s+{}], {{%x, %x, %x, %x}};", i * 2048);
    }
    format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 out)\n{{\n\
         .shared .align 1024 .b8 data[24576];\n.reg .pred %p;\n.reg .b32 %i, %s, %l, %x, %d<64>;\n\
         .reg .b64 %a, %b;\nmov.u32 %l, %tid.x;\nmov.u32 %s, data;\nshl.b32 %x, %l, 4;\n\
         add.u32 %s, %s, %x;\nmad.lo.u32 %x, %l, 65537, 0x3f803f80;\n{fill}fence.proxy.async.shared::cta;\n\
         bar.sync 0;\n{zero}mov.b32 %i, 0;\nsetp.eq.u32 %p, %i, 0;\n\
         LOOP:\n{body}\nadd.u32 %i, %i, 1;\nsetp.lt.u32 %p, %i, {rounds};\n@%p bra LOOP;\nret;\n}}\n"
    )
}

/// A kernel that can be launched.
struct Case {
    program: Program,
    memory: DeviceMemory,
    kernel: &'static str,
    config: LaunchConfig,
}

impl Case {
    /// One block of a kernel `k` that writes a word per thread.
    fn of(text: &str, threads: u32) -> Case {
        let module = zeroforge_ptx::parse(text).expect("the kernel is well-formed");
        let memory = DeviceMemory::new(1 << 24);
        let program = Program::load(&module, &memory).expect("the kernel can run");
        let out = memory.alloc(1024).expect("room");
        let params = out.to_le_bytes().to_vec();
        let (grid, cluster) = ([1, 1, 1], [1, 1, 1]);
        let block = [threads, 1, 1];
        let config = LaunchConfig { grid, block, cluster, dynamic_shared: 0, params };
        Case { program, memory, kernel: "k", config }
    }

    /// 128 queries over 320 keys of 64 elements: a producer warpgroup and two that compute, with TMA and wgmma.
    fn attention() -> Case {
        let text = include_str!("../tests/kernels/attention.ptx");
        let module = zeroforge_ptx::parse(text).expect("the kernel is well-formed");
        let memory = DeviceMemory::new(1 << 24);
        let program = Program::load(&module, &memory).expect("the kernel can run");
        let mut params = Vec::new();
        for (rows, given) in [(128u64, true), (320, true), (320, true), (128, false)] {
            let bytes: Vec<u8> = (0..rows * 64)
                .flat_map(|i| half::bf16::from_f32((i * 7 % 17) as f32 / 8.0 - 1.0).to_le_bytes())
                .collect();
            let address = memory.alloc(bytes.len() as u64).expect("room");
            if given {
                memory.write(address, &bytes).expect("inside");
            }
            let arguments = TiledArguments {
                dtype: DataType::Bfloat16,
                address,
                dims: &[64, rows],
                strides: &[128],
                box_dims: &[64, 64],
                element_strides: &[1, 1],
                interleave: Interleave::None,
                swizzle: Swizzle::Bytes128,
                l2_promotion: L2Promotion::None,
                oob_fill: OobFill::Zero,
            };
            params.extend(TensorMap::tiled(&arguments).expect("a valid tensor map").encode());
        }
        params.extend((std::f32::consts::LOG2_E / 8.0).to_le_bytes());
        params.extend((320u32 / 64).to_le_bytes());
        let config = LaunchConfig {
            grid: [1, 1, 1],
            block: [384, 1, 1],
            cluster: [1, 1, 1],
            dynamic_shared: 6 * 64 * 64 * 2 + 56,
            params,
        };
        Case { program, memory, kernel: "attention", config }
    }

    fn bench(&self, c: &mut Criterion, name: &str, elements: impl Fn(&Report) -> u64) {
        let mut group = c.benchmark_group(name);
        for (label, checks) in [("checks on", Checks::ALL), ("checks off", Checks::NONE)] {
            let options = Options { checks, threads: 1, ..Options::default() };
            let run = || {
                let device = Device::default();
                launch(&self.program, self.kernel, &self.config, &self.memory, &device, &options)
                    .expect("the shape is allowed")
            };
            let report = run();
            assert!(report.errors().next().is_none(), "{:?}", report.findings);
            group.throughput(Throughput::Elements(elements(&report)));
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

fn bench(c: &mut Criterion) {
    let mixed = mixed();
    for (name, body) in [("arithmetic", ARITHMETIC), ("shared", SHARED), ("mixed", &mixed)] {
        Case::of(&module(body, 2000), 256).bench(c, name, |r| r.lane_instructions);
    }
    for (name, steps) in [("wgmma, a product a group", 1), ("wgmma, four products a group", 4)] {
        Case::of(&products(steps, 100), 128).bench(c, name, |r| r.wgmmas);
    }
    Case::attention().bench(c, "attention tile", |_| 1);
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).sample_size(10);
    targets = bench
}
criterion_main!(benches);
