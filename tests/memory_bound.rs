//! Norms, softmax, rotary embeddings, reductions and what else is bound by memory, compiled for sm_90a: where shapes are aligned,
//! every access of the tensors is 16 bytes wide, each element is read once, and the emulator finds nothing, slow access included.
//!
//! Needs NVIDIA's compiler (`make test` installs it); without it the tests say that they are skipped.

use std::path::Path;

use zeroforge_artifact::container::SectionKind;
use zeroforge_artifact::manifest::ModuleEntry;
use zeroforge_artifact::{Artifact, Target};
use zeroforge_compiler::cache::Cache;
use zeroforge_compiler::cuda::{Nvrtc, find_nvrtc};
use zeroforge_compiler::pipeline::{CompileOptions, compile};
use zeroforge_emulator::Schedule;
use zeroforge_graph::text::parse;
use zeroforge_import::weights::WeightFiles;
use zeroforge_runtime::{Model, OpenOptions};

fn usable() -> bool {
    let usable = find_nvrtc().is_some_and(|found| Nvrtc::load(&found.path).is_ok());
    if !usable {
        eprintln!("skipped: no CUDA compiler; run `zeroforge toolchain install`");
    }
    usable
}

/// The artifact of a graph of which the lines between its braces are given.
fn artifact(lines: &str) -> Vec<u8> {
    let graph = parse(&format!("graph \"case\" {{\n{lines}\n}}\n")).expect("a graph");
    let options = CompileOptions {
        targets: vec![Target::SM_90A],
        model_hash: blake3::hash(lines.as_bytes()).to_hex().to_string(),
        external_weights: false,
        sms: None,
        cache: Cache::at(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels")),
    };
    compile(&graph, &WeightFiles::none(), &options, &|_| {}).expect("an artifact").to_bytes()
}

/// The PTX of all kernels.
fn ptx(bytes: &[u8]) -> String {
    let artifact = Artifact::parse(bytes).expect("an artifact");
    let mut text = String::new();
    for module in &artifact.manifest().targets[0].modules {
        let ModuleEntry::Cuda { ptx, .. } = module else { continue };
        let section = artifact.section(*ptx, SectionKind::Ptx).expect("PTX");
        text.push_str(std::str::from_utf8(section).expect("text"));
    }
    text
}

/// Runs every kernel with all checkers, in several orders.
fn verified(lines: &str, bytes: &[u8], slow: bool, sizes: &[(&str, i64)]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("case.zfa");
    std::fs::write(&path, bytes).expect("a file");
    let model = Model::open(&path, &OpenOptions::default()).expect("a model");
    for schedule in [Schedule::Late, Schedule::Eager, Schedule::Random(5)] {
        let sizes = sizes.iter().map(|&(name, size)| (name.to_owned(), size)).collect();
        let options =
            zeroforge_verify::Options { schedule, threads: 1, sizes, ..Default::default() };
        let summary = zeroforge_verify::verify(&model, &options, &mut |_| {}).expect("a run");
        assert!(!summary.kernels.is_empty());
        for kernel in &summary.kernels {
            assert!(kernel.passed(), "{lines}\n{kernel:?}");
            let warnings: Vec<String> = kernel.findings.iter().map(|f| f.to_string()).collect();
            assert!(slow || warnings.is_empty(), "{lines}\n{}", warnings.join("\n"));
        }
    }
}

/// Instructions that access global memory, by mnemonic: `ld.global.v4.u32`.
fn accesses<'a>(ptx: &'a str, prefix: &str) -> Vec<&'a str> {
    let words = ptx.split_whitespace();
    words.filter(|w| w.starts_with(prefix)).collect()
}

/// One kernel whose loads and stores are these many accesses of 16 bytes, besides loads of single elements of the types
/// named `single`.
fn wide(lines: &str, loads: usize, stores: usize, single: &[&str]) {
    let bytes = artifact(lines);
    let text = ptx(&bytes);
    assert_eq!(text.matches(".visible .entry").count(), 1, "{lines}");
    for (prefix, count) in [("ld.global", loads), ("st.global", stores)] {
        let mut found = accesses(&text, prefix);
        found.retain(|m| !single.iter().any(|s| m.strip_prefix("ld.global.") == Some(s)));
        let wide = |m: &&str| m.ends_with(".v4.u32") || m.ends_with(".v2.u64");
        assert!(found.iter().all(wide) && found.len() == count, "{lines}\n{found:?}");
    }
    assert!(!text.contains(".local"), "{lines}");
    verified(lines, &bytes, false, &[]);
}

#[test]
fn aligned_rows_are_read_once_in_16_byte_accesses() {
    if !usable() {
        return;
    }
    // 96 packets of 8 elements: a warp takes them in three turns, each read once though the mean of the squares
    // comes first.
    wide(
        r#"input %x: bf16[6, 768]
  %y = rms_norm(%x, axes: 1, eps: 1e-6): bf16[6, 768]
  output "y" = %y"#,
        3,
        3,
        &[],
    );
    // The mean, the variance and the result: one read of x, one of weight and bias each.
    wide(
        r#"input %x: f32[6, 768]
  input %w: f32[768]
  input %b: f32[768]
  %y = layer_norm(%x, %w, %b, axes: 1, eps: 1e-6, weight, bias): f32[6, 768]
  output "y" = %y"#,
        18,
        6,
        &[],
    );
    // A block's row: 512 packets for 256 threads; two reads of two operands.
    wide(
        r#"input %x: bf16[3, 4096]
  input %r: bf16[3, 4096]
  %s = add(%x, %r): bf16[3, 4096]
  %y = rms_norm(%s, axes: 1, eps: 1e-6): bf16[3, 4096]
  output "y" = %y"#,
        4,
        2,
        &[],
    );
    // 16 packets of f32: two rows per warp, a packet per thread.
    wide(
        r#"input %x: f32[9, 64]
  %y = softmax(%x, axis: 1): f32[9, 64]
  output "y" = %y"#,
        1,
        1,
        &[],
    );
}

#[test]
fn few_long_rows_are_shared_by_the_blocks_of_clusters() {
    if !usable() {
        return;
    }
    // Groups of 40,960 elements: eight blocks of 256 threads hold one, three packets each.
    wide(
        r#"input %x: bf16[1, 40, 64, 64]
  %y = group_norm(%x, groups: 4, eps: 1e-5): bf16[1, 40, 64, 64]
  output "y" = %y"#,
        3,
        3,
        &[],
    );
    // Longer than the registers of eight blocks, and an index to find.
    let lines = r#"input %x: f32[2, 150003]
  %s = softmax(%x, axis: 1): f32[2, 150003]
  %a = arg_max(%x, axes: [1]): i64[2]
  output "s" = %s
  output "a" = %a"#;
    let bytes = artifact(lines);
    assert!(ptx(&bytes).contains("mapa.shared::cluster"), "{lines}");
    verified(lines, &bytes, false, &[]);
}

#[test]
fn aligned_points_are_accessed_16_bytes_at_a_time() {
    if !usable() {
        return;
    }
    // Bias and scale are broadcast: one load of either for 8 elements.
    wide(
        r#"input %x: bf16[6, 5, 256]
  input %b: bf16[256]
  input %s: bf16[6, 1, 1]
  %h = add(%x, %b): bf16[6, 5, 256]
  %g = gelu_tanh(%h): bf16[6, 5, 256]
  %y = mul(%g, %s): bf16[6, 5, 256]
  output "y" = %y"#,
        2,
        1,
        &["u16"],
    );
}

#[test]
fn rotary_embeddings_gathers_and_casts_are_wide() {
    if !usable() {
        return;
    }
    // x * cos + rotate_half(x) * sin: the halves are chosen per packet, so x is read directly, as its other half
    // from one of two places, cos and sin once.
    wide(
        r#"input %x: f32[5, 4, 64]
  input %c: f32[5, 1, 64]
  input %s: f32[5, 1, 64]
  %a = slice(%x, axis: 2, start: 32, end: 64, step: 1): f32[5, 4, 32]
  %n = neg(%a): f32[5, 4, 32]
  %b = slice(%x, axis: 2, start: 0, end: 32, step: 1): f32[5, 4, 32]
  %h = concat(%n, %b, axis: 2): f32[5, 4, 64]
  %p = mul(%x, %c): f32[5, 4, 64]
  %q = mul(%h, %s): f32[5, 4, 64]
  %y = add(%p, %q): f32[5, 4, 64]
  output "y" = %y"#,
        10,
        2,
        &[],
    );
    // A row of the table per index.
    wide(
        r#"input %table: bf16[11, 64]
  input %ids: i64[7]
  %y = index_select(%table, %ids, axis: 0): bf16[7, 64]
  output "y" = %y"#,
        1,
        1,
        &["u64"],
    );
    // Two loads of f32 fill one store of bf16.
    wide(
        r#"input %x: f32[16, 64]
  %y = cast(%x): bf16[16, 64]
  output "y" = %y"#,
        2,
        1,
        &[],
    );
}

#[test]
fn columns_are_folded_side_by_side() {
    if !usable() {
        return;
    }
    for (lines, stores) in [
        (
            r#"input %x: f32[100, 64]
  %y = reduce_sum(%x, axes: [0]): f32[64]
  output "y" = %y"#,
            1,
        ),
        (
            r#"input %x: bf16[3, 20, 64]
  %y = softmax(%x, axis: 1): bf16[3, 20, 64]
  output "y" = %y"#,
            0,
        ),
        (
            r#"input %x: f32[100, 64]
  %y = arg_max(%x, axes: [0]): i64[64]
  output "y" = %y"#,
            2,
        ),
    ] {
        let bytes = artifact(lines);
        let text = ptx(&bytes);
        for (prefix, count) in [("ld.global", 0), ("st.global", stores)] {
            let found = accesses(&text, prefix);
            let wide = |m: &&str| m.ends_with(".v4.u32") || m.ends_with(".v2.u64");
            assert!(found.iter().all(wide) && !found.is_empty(), "{lines}\n{found:?}");
            assert!(count == 0 || found.len() == count, "{lines}\n{found:?}");
        }
        verified(lines, &bytes, false, &[]);
    }
}

#[test]
fn any_shape_is_right() {
    if !usable() {
        return;
    }
    let odd = r#"symbol s0 "rows": 1..5000
  symbol s1 "length": 1..5000
  input %x: f32[s0, s1]
  input %m: bool[s0, s1]
  input %h: f16[s0, 7, 12]
  input %k: i64[3, s1]
  %zero = full(value: 0.0): f32[]
  %w = where(%m, %x, %zero): f32[s0, s1]
  %sm = softmax(%x, axis: 1): f32[s0, s1]
  %down = softmax(%x, axis: 0): f32[s0, s1]
  %max = reduce_max(%x, axes: [0]): f32[s1]
  %top = arg_max(%x, axes: [1]): i64[s0]
  %n = rms_norm(%h, axes: 2, eps: 1e-5): f16[s0, 7, 12]
  %sum = reduce_sum(%k, axes: [0]): i64[s1]
  %square = mul(%x, %x): f32[s0, s1]
  %all = reduce_mean(%square, axes: [0, 1]): f32[]
  %cs = cumsum(%k, axis: 1): i64[3, s1]
  output "w" = %w
  output "sm" = %sm
  output "down" = %down
  output "max" = %max
  output "top" = %top
  output "n" = %n
  output "sum" = %sum
  output "all" = %all
  output "cs" = %cs"#;
    let bytes = artifact(odd);
    for (rows, length) in [(1, 1), (3, 31), (2, 33), (37, 257), (5, 4099)] {
        verified(odd, &bytes, true, &[("rows", rows), ("length", length)]);
    }
    for n in [1, 3, 12, 31, 64, 96, 1000, 3072, 8200, 33000] {
        let lines = format!(
            r#"input %x: bf16[3, {n}]
  input %f: f32[{n}, 2]
  %y = softmax(%x, axis: 1): bf16[3, {n}]
  %z = layer_norm(%f, axes: 2, eps: 1e-5): f32[{n}, 2]
  output "y" = %y
  output "z" = %z"#
        );
        verified(&lines, &artifact(&lines), true, &[]);
    }
}
