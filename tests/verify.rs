//! `zeroforge verify` catches kernels that are wrong: artifacts whose PTX was changed after it was compiled, with hashes that
//! fit the change.
//!
//! Needs NVIDIA's compiler (`make test` installs it); without it the tests say that they are skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use zeroforge_artifact::container::SectionKind;
use zeroforge_artifact::{Artifact, Target};
use zeroforge_compiler::cache::Cache;
use zeroforge_compiler::cuda::{Nvrtc, find_nvrtc};
use zeroforge_compiler::pipeline::{CompileOptions, compile};
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportOptions, load_pt2};

/// The bytes of a fixture's artifact; `None` without a compiler.
fn artifact(name: &str) -> Option<Vec<u8>> {
    let usable = find_nvrtc().is_some_and(|found| Nvrtc::load(&found.path).is_ok());
    if !usable {
        eprintln!("skipped: no CUDA compiler; run `zeroforge toolchain install`");
        return None;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let files = WeightFiles::none();
    let imported = load_pt2(&path, &files, &ImportOptions::default()).expect("a model");
    let options = CompileOptions {
        targets: vec![Target::SM_90A],
        model_hash: imported.hash.clone(),
        external_weights: false,
        sms: None,
        cache: Cache::at(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels")),
    };
    Some(compile(&imported.graph, &files, &options, &|_| {}).expect("an artifact").to_bytes())
}

/// Changes the first PTX section that has a text, and the hashes over it (`docs/artifact-format.md`).
fn plant(artifact: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = artifact.to_vec();
    let parsed = Artifact::parse(artifact).expect("an artifact");
    for (i, section) in parsed.sections().iter().enumerate() {
        let range = section.offset as usize..(section.offset + section.len) as usize;
        let found = bytes[range.clone()].windows(from.len()).position(|w| w == from.as_bytes());
        let (SectionKind::Ptx, Some(at)) = (section.kind, found) else { continue };
        let at = range.start + at;
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        let hash = *blake3::hash(&bytes[range]).as_bytes();
        let entry = 128 + 64 * i;
        bytes[entry + 24..entry + 56].copy_from_slice(&hash);
        let table = 128..128 + 64 * parsed.sections().len();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes[..24]).update(&[0; 104]).update(&bytes[table]);
        bytes[24..56].copy_from_slice(hasher.finalize().as_bytes());
        return bytes;
    }
    panic!("no PTX has `{from}`");
}

/// The exit code and the events of `zeroforge verify`.
fn verify(bytes: &[u8], more: &[&str]) -> (Option<i32>, Vec<Value>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path: PathBuf = folder.path().join("model.zfa");
    std::fs::write(&path, bytes).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_zeroforge"))
        .args(["--json", "verify"])
        .arg(&path)
        .args(more)
        .output()
        .expect("the binary");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    (output.status.code(), text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect())
}

fn kernels(events: &[Value]) -> Vec<&Value> {
    events.iter().filter(|e| e["event"] == "kernel").collect()
}

#[test]
fn right_kernels_pass_in_every_order() {
    let Some(bytes) = artifact("mlp.pt2") else { return };
    for schedule in ["late", "eager", "random:3"] {
        let (code, events) = verify(&bytes, &["--schedule", schedule]);
        assert_eq!(code, Some(0), "{schedule}: {events:?}");
        let summary = events.iter().find(|e| e["event"] == "verified").expect("a summary");
        assert_eq!((&summary["passed"], &summary["kernels"]), (&true.into(), &2.into()));
    }
    let (code, events) = verify(&bytes, &["--kernel", "24x12", "--size", "s77=5"]);
    assert_eq!((code, kernels(&events).len()), (Some(0), 1), "{events:?}");
    let (code, _) = verify(&bytes, &["--kernel", "softmax"]);
    assert_eq!(code, Some(2));
    let (code, _) = verify(&bytes, &["--size", "s9=5"]);
    assert_eq!(code, Some(7));
}

#[test]
fn a_kernel_that_computes_something_else_fails() {
    let Some(bytes) = artifact("mlp.pt2") else { return };
    // In the activation behind the product.
    let (code, events) = verify(&plant(&bytes, "mul.f32", "add.f32"), &[]);
    assert_eq!(code, Some(10), "{events:?}");
    let wrong: Vec<&Value> =
        kernels(&events).into_iter().filter(|k| k["passed"] == false).collect();
    assert_eq!(wrong.len(), 1, "{events:?}");
    assert!(wrong[0]["wrong"].as_u64() > Some(0) && wrong[0]["worst"].is_string(), "{wrong:?}");
    assert!(wrong[0]["ratio"].as_f64() > Some(1000.0), "{wrong:?}");
}

#[test]
fn a_kernel_without_its_barrier_fails() {
    // Its first kernel is one by mma.sync, whose threads copy for each other.
    let Some(bytes) = artifact("bf16_weights.pt2") else { return };
    let (code, events) = verify(&plant(&bytes, "bar.sync \t0;", "            "), &[]);
    assert_eq!(code, Some(10), "{events:?}");
    // Threads read what others copy: before it arrives, or with nothing that orders the two.
    let finding = events.iter().find(|e| e["event"] == "finding").expect("a finding");
    let kinds = ["race", "uninitialised-shared"];
    assert!(kinds.iter().any(|k| finding["kind"] == *k), "{finding}");
    assert!(finding["at"]["line"].as_u64() > Some(0), "{finding}");
}

#[test]
fn a_kernel_without_its_fence_fails() {
    let Some(bytes) = artifact("mlp.pt2") else { return };
    let fence = "fence.proxy.async.shared::cta;";
    let (code, events) = verify(&plant(&bytes, fence, &" ".repeat(fence.len())), &[]);
    assert_eq!(code, Some(10), "{events:?}");
    // wgmma reads what threads wrote, by another way to memory.
    let finding = events.iter().find(|e| e["event"] == "finding").expect("a finding");
    assert!(finding["message"].as_str().is_some_and(|m| m.contains("proxy")), "{finding}");
    assert!(finding["at"]["line"].as_u64() > Some(0), "{finding}");
}

#[test]
fn ptx_that_was_replaced_without_its_hash_is_refused() {
    let Some(bytes) = artifact("mlp.pt2") else { return };
    let mut bytes = bytes;
    let at = bytes.windows(7).position(|w| w == b"add.f32").expect("PTX");
    bytes[at..at + 3].copy_from_slice(b"sub");
    let (code, _) = verify(&bytes, &[]);
    assert_eq!(code, Some(6));
}
