//! Models whose contractions and attention the kernels of `zeroforge-kernels` compute: which of them is taken and why, and
//! that what it computes is right, in every order of asynchronous work and with few SMs, where persistent kernels go round.
//!
//! Models are written as graphs. Needs NVIDIA's compiler (`make test` installs it); without it the tests say that they
//! are skipped.

use std::path::Path;

use zeroforge_artifact::Target;
use zeroforge_artifact::program::ParamValue;
use zeroforge_compiler::cache::Cache;
use zeroforge_compiler::cuda::{CudaBackend, Nvrtc, find_nvrtc};

use zeroforge_compiler::pipeline::{CompileOptions, compile, prepare, schedule_for};
use zeroforge_compiler::schedule::Schedule;
use zeroforge_emulator::Schedule as Order;
use zeroforge_graph::ir::{Bytes, WeightStore};
use zeroforge_graph::{Graph, text};
use zeroforge_kernels::gemm::{Element, Spec, Store};
use zeroforge_kernels::selection::{Size, Table};
use zeroforge_runtime::{Model, OpenOptions};
use zeroforge_verify::{Options, verify};

/// Weights by their size: `source "65536"` is as many bytes of small numbers, bf16 and f16 alike.
struct Small;

impl WeightStore for Small {
    fn bytes(&self, key: &str) -> Result<Bytes, String> {
        let count: usize = key.parse().map_err(|_| format!("`{key}` is no size"))?;
        // 0.06 to 0.12 as bf16, 1.4 to 1.5 as f16, and pairs as f32.
        let word =
            |i: usize| [(i * 37 % 128) as u8 | 0x80, if i.is_multiple_of(3) { 0xbd } else { 0x3d }];
        Ok(Bytes::new((0..count / 2).flat_map(word).collect::<Vec<u8>>()))
    }
}

fn graph(body: &str) -> Graph {
    text::parse(&format!("graph \"test\" {{\n{body}\n}}\n")).expect("a graph")
}

/// The program for a slice, without code.
fn schedule(body: &str, sms: u32) -> Schedule {
    let graph = prepare(&graph(body), &Small).expect("a sound graph");
    let target = Target::SM_90A;
    schedule_for(&graph, &CudaBackend::new(target).for_sms(Some(sms)), target).expect("kernels")
}

/// Descriptions of the kernels, one per line.
fn kernels(body: &str) -> String {
    let docs: Vec<String> = schedule(body, 60).program.kernels.into_iter().map(|k| k.doc).collect();
    docs.join("\n")
}

/// Compiles a model and checks every kernel at these sizes.
fn check(name: &str, body: &str, sizes: &[(&str, i64)]) {
    if find_nvrtc().is_none_or(|found| Nvrtc::load(&found.path).is_err()) {
        eprintln!("skipped: no CUDA compiler; run `zeroforge toolchain install`");
        return;
    }
    let options = CompileOptions {
        targets: vec![Target::SM_90A],
        model_hash: "0".repeat(64),
        external_weights: false,
        sms: None,
        cache: Cache::at(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels")),
    };
    let artifact = compile(&graph(body), &Small, &options, &|_| {}).expect("an artifact");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.zfa");
    std::fs::write(&path, artifact.to_bytes()).expect("a file");
    let model = Model::open(&path, &OpenOptions::default()).expect("an artifact");
    for (order, sms) in [(Order::Late, 132), (Order::Eager, 1), (Order::Random(5), 2)] {
        let options = Options {
            sizes: sizes.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect(),
            schedule: order,
            sms: Some(sms),
            ..Options::default()
        };
        let summary = verify(&model, &options, &mut |_| {}).expect("a launch");
        for kernel in &summary.kernels {
            assert!(kernel.passed(), "{name}, {order:?}, {sms} SMs: {kernel:#?}");
        }
    }
}

const MLP_BF16: &str = r#"
    symbol s0 "rows": 1..4096
    weight %up: bf16[256, 128] = source "65536"
    weight %bias: bf16[256] = source "512"
    weight %down: bf16[128, 256] = source "65536"
    input %x: bf16[s0, 128]
    %h = matmul(%x, %up, transpose_b): bf16[s0, 256]
    %b = add(%h, %bias): bf16[s0, 256]
    %g = gelu(%b): bf16[s0, 256]
    %y = matmul(%g, %down, transpose_b): bf16[s0, 128]
    %r = add(%y, %x): bf16[s0, 128]
    output "y" = %r
"#;

#[test]
fn products_of_16_bit_floats_are_by_wgmma() {
    let docs = kernels(MLP_BF16);
    assert_eq!(docs.matches(" of bf16, bf16 out").count(), 2, "{docs}");
    assert!(!docs.contains("mma.sync"), "{docs}");
    check("mlp", MLP_BF16, &[("rows", 200)]);
    check("mlp", MLP_BF16, &[("rows", 1)]);
}

#[test]
fn weights_of_16_bits_stay_as_the_model_has_them() {
    let schedule = schedule(MLP_BF16, 60);
    for weight in &schedule.weights {
        assert_eq!(weight.layout, zeroforge_compiler::lower::WeightLayout::RowMajor);
    }
}

#[test]
fn batched_products_of_either_layout() {
    let body = r#"
        symbol s0 "rows": 1..512
        input %a: f16[3, s0, 64]
        input %b: f16[3, 64, 72]
        input %c: f16[3, 40, 72]
        %x = matmul(%a, %b): f16[3, s0, 72]
        %y = matmul(%x, %c, transpose_b): f16[3, s0, 40]
        output "y" = %y
    "#;
    let docs = kernels(body);
    assert_eq!(docs.matches(" of f16, f16 out").count(), 2, "{docs}");
    check("batched", body, &[("rows", 70)]);
}

const LINEAR_F32: &str = r#"
    symbol s0 "rows": 1..4096
    weight %w: f32[100, 68] = source "27200"
    weight %bias: f32[100] = source "400"
    input %x: f32[s0, 68]
    %h = matmul(%x, %w, transpose_b): f32[s0, 100]
    %b = add(%h, %bias): f32[s0, 100]
    %g = silu(%b): f32[s0, 100]
    output "y" = %g
"#;

#[test]
fn products_of_f32_are_tf32_products_by_wgmma() {
    let docs = kernels(LINEAR_F32);
    assert!(docs.contains("tf32 gemm") && docs.contains("in panels of"), "{docs}");
    check("f32", LINEAR_F32, &[("rows", 150)]);
}

#[test]
fn few_rows_have_kernels_of_their_own() {
    for dtype in ["f32", "bf16"] {
        let bytes = if dtype == "f32" { 16384 } else { 8192 };
        let body = format!(
            r#"
            weight %w: {dtype}[64, 64] = source "{bytes}"
            input %x: {dtype}[3, 64]
            %y = matmul(%x, %w, transpose_b): {dtype}[3, 64]
            output "y" = %y
            "#
        );
        let docs = kernels(&body);
        assert!(docs.contains("skinny gemm"), "{docs}");
        check(dtype, &body, &[]);
    }
}

#[test]
fn what_tensor_copies_cannot_read_is_by_mma_and_says_why() {
    for (rule, body) in [
        (
            // Rows of 24 bytes.
            "mma.sync: gemm: `a` has a stride of `24` bytes",
            r#"
            symbol s0 "rows": 1..64
            input %x: bf16[s0, 12]
            input %w: bf16[16, 12]
            %y = matmul(%x, %w, transpose_b): bf16[s0, 16]
            output "y" = %y
            "#,
        ),
        (
            // Aligned for some sizes only.
            "mma.sync: gemm: `a` has a stride of `2*s0` bytes",
            r#"
            symbol s0 "k": 1..64
            input %x: bf16[32, s0]
            input %w: bf16[16, s0]
            %y = matmul(%x, %w, transpose_b): bf16[32, 16]
            output "y" = %y
            "#,
        ),
        (
            "mma.sync: operands are f64 and f64",
            r#"
            input %x: f64[32, 16]
            input %w: f64[16, 16]
            %y = matmul(%x, %w): f64[32, 16]
            output "y" = %y
            "#,
        ),
        (
            "mma.sync: operands are f32, not bf16 or f16",
            r#"
            input %q: f32[1, 2, 8, 16]
            %o = attention(%q, %q, %q, scale: 0.25): f32[1, 2, 8, 16]
            output "o" = %o
            "#,
        ),
    ] {
        let docs = kernels(body);
        assert!(docs.contains(rule), "`{rule}` is not in\n{docs}");
        check(rule, body, &[]);
    }
}

#[test]
fn a_sum_that_may_be_empty_is_by_mma() {
    let docs = kernels(
        r#"
        symbol s0 "k": 0..64
        input %x: bf16[32, 8*s0]
        input %w: bf16[16, 8*s0]
        %y = matmul(%x, %w, transpose_b): bf16[32, 16]
        output "y" = %y
        "#,
    );
    assert!(docs.contains("mma.sync: k is `8*s0`, which may be zero"), "{docs}");
}

#[test]
fn attention_of_16_bit_floats_is_by_wgmma() {
    let body = r#"
        symbol s0 "keys": 1..512
        input %q: bf16[2, 4, s0, 64]
        input %k: bf16[2, 2, s0, 64]
        input %v: bf16[2, 2, s0, 64]
        %o = attention(%q, %k, %v, scale: 0.125, causal, offset: 0): bf16[2, 4, s0, 64]
        output "o" = %o
    "#;
    let docs = kernels(body);
    assert!(docs.contains("attention forward bf16 d64") && !docs.contains("mma.sync"), "{docs}");
    check("causal", body, &[("keys", 150)]);
}

#[test]
fn attention_with_windows_and_masks() {
    let window = r#"
        input %q: f16[1, 2, 100, 32]
        input %k: f16[1, 2, 130, 32]
        input %v: f16[1, 2, 130, 40]
        %o = attention(%q, %k, %v, scale: 0.2, causal, window: 17, offset: 30): f16[1, 2, 100, 40]
        output "o" = %o
    "#;
    let docs = kernels(window);
    assert!(docs.contains("left window, right window"), "{docs}");
    check("window", window, &[]);
    let mask = r#"
        input %q: bf16[1, 2, 65, 64]
        input %k: bf16[1, 2, 33, 64]
        input %mask: bool[1, 1, 65, 33]
        %o = attention(%q, %k, %k, %mask, scale: 0.125, mask): bf16[1, 2, 65, 64]
        output "o" = %o
    "#;
    let docs = kernels(mask);
    assert!(docs.contains("bool mask") && docs.contains("attention forward"), "{docs}");
    check("mask", mask, &[]);
}

/// Every argument of a kernel with a block of its own is there for the reference, and its maps are of the operands.
#[test]
fn kernels_with_blocks_of_their_own_state_their_arguments() {
    let Schedule { program, specs, .. } = schedule(MLP_BF16, 132);
    for (i, step) in program.steps.iter().enumerate() {
        let maps = step.params.iter().filter_map(|p| match &p.value {
            ParamValue::TensorMap(map) => Some(map.buffer),
            _ => None,
        });
        for buffer in maps {
            assert!(step.reads.contains(&buffer) || step.writes.contains(&buffer), "step {i}");
        }
        assert!(specs.arguments(i).is_some(), "step {i}");
    }
    program.validate(program.kernels.len(), 8).expect("a sound program");
}

/// As `kernels/selection/` has it for a slice.
#[test]
fn kernels_are_chosen_for_a_slice() {
    let body = r#"
        input %x: bf16[512, 512]
        input %w: bf16[1024, 512]
        %y = matmul(%x, %w, transpose_b): bf16[512, 1024]
        output "y" = %y
    "#;
    let spec = Spec { store: Store::Copies, ..Spec::new(Element::Bf16, Element::Bf16) };
    let size = Size { batch: Some(1), m: Some(512), n: Some(1024), k: Some(512) };
    let mut names = Vec::new();
    for sms in [60, 132] {
        let doc = schedule(body, sms).program.kernels[0].doc.clone();
        let variant = Table::of(sms).wgmma(&spec, size).expect("a variant");
        assert!(doc.contains(&variant.name), "{sms} SMs: `{}` is not in `{doc}`", variant.name);
        names.push(&variant.name);
    }
    assert_ne!(names[0], names[1], "a size at which slices differ");
}
