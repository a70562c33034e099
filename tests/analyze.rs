//! `zeroforge analyze` as its users meet it: reports, comparisons, and gates that must fail where something was planted.
//!
//! Needs NVRTC and the disassembler (`zeroforge toolchain install --sass`); without them the tests say so and pass.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use zeroforge_compiler::cuda::{Nvrtc, find_nvdisasm, find_nvrtc};

fn usable() -> bool {
    let usable = find_nvrtc().is_some_and(|found| Nvrtc::load(&found.path).is_ok())
        && find_nvdisasm().is_some();
    if !usable {
        eprintln!(
            "skipped: no CUDA compiler or disassembler; run `zeroforge toolchain install --sass`"
        );
    }
    usable
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

struct Ran {
    code: i32,
    out: String,
    error: String,
}

fn run(arguments: &[&str]) -> Ran {
    let done = Command::new(env!("CARGO_BIN_EXE_zeroforge"))
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("the binary");
    Ran {
        code: done.status.code().expect("an exit code"),
        out: String::from_utf8_lossy(&done.stdout).into_owned(),
        error: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

const LOOP: &str = "tests/analyze/loop.cu";

/// The kernel's report, with a define planted in its source.
fn planted(define: &str) -> Value {
    let ran = run(&["--json", "analyze", LOOP, &format!("--nvrtc=-D{define}")]);
    assert_eq!(ran.code, 0, "{}", ran.error);
    let events = ran.out.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
    events.into_iter().find(|e| e["event"] == "kernel").expect("a kernel")
}

fn main_loop(event: &Value) -> Value {
    let loops = event["report"]["loops"].as_array().expect("loops");
    let main: Vec<&Value> = loops.iter().filter(|l| l["main"] == true).collect();
    assert_eq!(main.len(), 1, "one main loop");
    main[0].clone()
}

fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a file");
    path
}

#[test]
fn a_gate_holds_until_something_is_planted() {
    if !usable() {
        return;
    }
    let clean = planted("CLEAN");
    let l = main_loop(&clean);
    let inside = l["shadow"]["inside"]["ex2"].as_u64().expect("a number");
    assert!(
        inside >= 7,
        "the exponentials run beside the product, but for one that is put before it: {l}"
    );
    let busy = clean["steady"][0]["tensor_busy"].as_f64().expect("a prediction");
    assert!(busy > 0.0 && busy <= 1.0);

    let folder = tempfile::tempdir().expect("a folder");
    let limits = format!(
        "[[gate]]\nkernel = \"looped\"\nmax_registers = {}\nmax_stack_bytes = 0\nmax_spills_in_loops = 0\nmin_main_loops = 1\nmax_loop_instructions = {}\nmin_ex2_in_shadow = 0.8\nmin_predicted_utilisation = {busy}\n",
        clean["report"]["entry"]["registers"], l["instructions"]
    );
    let gate = file(&folder, "limits.toml", &limits);
    let gate = gate.to_string_lossy();
    let check =
        |define: &str| run(&["analyze", LOOP, &format!("--nvrtc=-D{define}"), "--gate", &gate]);
    let ran = check("CLEAN");
    assert_eq!(
        (ran.code, ran.out.contains("gate: every limit is kept")),
        (0, true),
        "{}",
        ran.error
    );
    for (define, rules) in [
        ("SPILL", &["max_spills_in_loops", "max_stack_bytes", "max_loop_instructions"][..]),
        ("LATE", &["min_ex2_in_shadow"]),
        ("EXTRA", &["max_loop_instructions", "min_predicted_utilisation"]),
    ] {
        let ran = check(define);
        assert_eq!(ran.code, 10, "{define} is found: {}{}", ran.out, ran.error);
        for rule in rules {
            assert!(
                ran.out.contains(&format!("gate: `looped`: {rule} is ")),
                "{define}: {}",
                ran.out
            );
        }
    }
}

#[test]
fn spills_in_loops_are_seen() {
    if !usable() {
        return;
    }
    let l = main_loop(&planted("SPILL"));
    let spills = |what: &str| l["spills"][what].as_u64().expect("a number");
    assert!(spills("stores") > 0 && spills("loads") > 0, "{l}");
}

#[test]
fn kernels_side_by_side() {
    if !usable() {
        return;
    }
    let kernels = "crates/emulator/tests/kernels";
    let (a, b) = (format!("{kernels}/gemm.cu"), format!("{kernels}/gemm_mn_major.cu"));
    let ran = run(&["analyze", "--compare", &a, &b]);
    assert_eq!(ran.code, 0, "{}", ran.error);
    for row in ["registers", "loop 0: wgmma groups", "loop 0: tensor cycles", "loop 0: predicted"] {
        assert!(ran.out.contains(row), "{row}: {}", ran.out);
    }
    let ran = run(&["analyze", &a, &b]);
    assert_eq!((ran.code, ran.error.contains("--compare")), (2, true), "{}", ran.error);
}

#[test]
fn launches_are_predicted() {
    if !usable() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let text = "device = \"h200-slice\"\ndynamic_shared = 73728\n[problem.gemm]\nm = 3840\nn = 2048\nk = 4096\n[tiling]\ntile_m = 128\ntile_n = 64\ntile_k = 64\nstages = 3\nelement_bytes = 2\n";
    let launch = file(&folder, "launch.toml", text);
    let launch = launch.to_string_lossy();
    let ran =
        run(&["--json", "analyze", "crates/emulator/tests/kernels/gemm.cu", "--launch", &launch]);
    assert_eq!(ran.code, 0, "{}", ran.error);
    let event: Value = serde_json::from_str(ran.out.lines().last().expect("a line")).expect("JSON");
    let p = &event["predictions"][0];
    assert_eq!((&p["sms"], &p["tiles"]), (&60.into(), &16.into()), "{p}");
    let share = p["utilisation"].as_f64().expect("a share");
    assert!(share > 0.1 && share <= 1.0, "{p}");
    let bad = file(&folder, "bad.toml", &text.replace("tile_m", "tile_rows"));
    let ran = run(&["analyze", LOOP, "--launch", &bad.to_string_lossy()]);
    assert_eq!((ran.code, ran.error.contains("tile_rows")), (2, true), "{}", ran.error);
}

#[test]
fn kernels_of_an_artifact() {
    if !usable() {
        return;
    }
    let ran = run(&["analyze", "tests/artifacts/v1/mlp.zfa"]);
    assert_eq!(ran.code, 0, "{}", ran.error);
    assert_eq!(ran.out.matches("occupancy at").count(), 2, "two device kernels: {}", ran.out);
    let ran = run(&["analyze", "tests/artifacts/v1/mlp.zfa", "--kernel", "nothing"]);
    assert_eq!((ran.code, ran.error.contains("nothing")), (2, true), "{}", ran.error);
}

#[test]
fn what_cannot_be_analyzed_is_refused() {
    if !usable() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let bad = file(&folder, "bad.cubin", "\x7fELF and nothing more");
    let ran = run(&["analyze", &bad.to_string_lossy()]);
    assert_eq!((ran.code, ran.error.contains("bad.cubin")), (3, true), "{}", ran.error);
    let ran = run(&["analyze", "README.md"]);
    assert_eq!((ran.code, ran.error.contains(".cubin")), (2, true), "{}", ran.error);
    let ran = run(&["analyze", "missing.cubin"]);
    assert_eq!(ran.code, 8, "{}", ran.error);
    let broken = file(&folder, "broken.cu", "__global__ void k() { nothing; }");
    assert_eq!(run(&["analyze", &broken.to_string_lossy()]).code, 3);
    let typo = file(&folder, "typo.toml", "[[gate]]\nmax_spill = 0\n");
    let ran = run(&["analyze", LOOP, "--gate", &typo.to_string_lossy()]);
    assert_eq!((ran.code, ran.error.contains("max_spill")), (2, true), "{}", ran.error);
    let other = file(&folder, "other.toml", "[[gate]]\nkernel = \"renamed\"\nmax_spills = 0\n");
    let ran = run(&["analyze", LOOP, "--gate", &other.to_string_lossy()]);
    assert_eq!((ran.code, ran.error.contains("renamed")), (2, true), "{}", ran.error);
}
