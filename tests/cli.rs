//! The command line as its users meet it: help, exit codes, events, errors, settings, interruptions.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use zeroforge_graph::ir::WeightData;
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportOptions, load_pt2};
use zeroforge_runtime::{Tensor, tensor_io};

#[path = "hostile/zip.rs"]
mod zip;

const BINARY: &str = env!("CARGO_BIN_EXE_zeroforge");

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// An artifact that is kept: a model `x: f32 [s77, 12]`, for the CPU and sm_90a.
fn artifact() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/artifacts/v1/mlp.zfa");
    path.to_string_lossy().into_owned()
}

fn mlp() -> String {
    fixture("mlp.pt2").to_string_lossy().into_owned()
}

/// A folder of its own, with a cache and no user's settings.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        let folder = path.parent().expect("a folder");
        std::fs::create_dir_all(folder).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// A command whose surroundings are this folder only.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ZEROFORGE_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("TMPDIR", self.folder.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(BINARY).args(arguments).output().expect("the binary"), arguments)
    }

    /// Files that are there, folders of the cache and the configuration aside.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).expect("the folder");
        let mut names: Vec<String> = entries
            .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|n| n != "cache" && n != "config")
            .collect();
        names.sort();
        names
    }
}

struct Ran {
    what: String,
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output, arguments: &[&str]) -> Ran {
        Ran {
            what: arguments.join(" "),
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Checks the exit code and that standard error holds every word.
    fn ends(self, code: i32, words: &[&str]) -> Ran {
        let Ran { what, out, err, .. } = &self;
        assert_eq!(self.code, Some(code), "zeroforge {what}\n{out}{err}");
        for word in words {
            assert!(err.contains(word), "zeroforge {what}: `{word}` is not in:\n{err}");
        }
        if code != 0 {
            assert!(err.starts_with("error: "), "zeroforge {what}: no error line in:\n{err}");
            assert!(!err.contains("panicked"), "zeroforge {what}:\n{err}");
        }
        self
    }

    fn events(&self) -> Vec<Value> {
        let parse = |l: &str| {
            let event: Value = serde_json::from_str(l)
                .unwrap_or_else(|e| panic!("zeroforge {}: {e}: {l}", self.what));
            assert!(event["event"].is_string(), "zeroforge {}: no event in {l}", self.what);
            event
        };
        self.out.lines().map(parse).collect()
    }

    fn event(&self, name: &str) -> Value {
        let events = self.events();
        let found = events.iter().find(|e| e["event"] == name);
        found
            .unwrap_or_else(|| panic!("zeroforge {}: no `{name}` in {events:?}", self.what))
            .clone()
    }
}

#[test]
fn every_help_has_examples() {
    let place = Place::new();
    let commands: [&[&str]; 16] = [
        &["compile"],
        &["run"],
        &["verify"],
        &["analyze"],
        &["emulate"],
        &["inspect"],
        &["bench"],
        &["toolchain"],
        &["toolchain", "install"],
        &["toolchain", "list"],
        &["toolchain", "remove"],
        &["doctor"],
        &["keygen"],
        &["sign"],
        &["verify-signature"],
        &["completions"],
    ];
    let overview = place.run(&["--help"]).ends(0, &[]);
    assert!(overview.out.contains("Examples:") && overview.out.contains("Exit codes:"));
    for command in commands {
        assert!(overview.out.contains(command[0]), "`{}` is not in the overview", command[0]);
        let help = place.run(&[command, &["--help"]].concat()).ends(0, &[]);
        let example = format!("\n  zeroforge {}", command.join(" "));
        let json = format!("\n  zeroforge --json {}", command.join(" "));
        assert!(help.out.contains("Examples:"), "{}: no examples", help.what);
        assert!(help.out.contains(&example) || help.out.contains(&json), "{}", help.what);
    }
    // None is missing from the list above.
    let names = overview.out.lines().skip_while(|l| *l != "Commands:").skip(1);
    let names = names.take_while(|l| !l.is_empty()).filter_map(|l| l.split_whitespace().next());
    for name in names.filter(|n| *n != "help") {
        assert!(commands.iter().any(|c| c[0] == name), "`{name}` is not tested");
    }
    let version = place.run(&["--version"]).ends(0, &[]).out;
    assert!(version.starts_with(concat!("zeroforge ", env!("CARGO_PKG_VERSION"))), "{version}");
    // Built from a repository, it names the commit.
    let head = Command::new("git").args(["rev-parse", "HEAD"]).output().ok();
    if let Some(head) = head.filter(|o| o.status.success()) {
        let head = String::from_utf8(head.stdout).expect("a commit");
        assert!(version.contains(&format!("({})", &head[..12])), "{version} is not at {head}");
    }
}

/// What an installed command does: from a model to a result, every event valid.
#[test]
fn a_model_is_compiled_signed_checked_inspected_and_run() {
    let place = Place::new();
    let compiled =
        place.run(&["--json", "compile", &mlp(), "-o", "m.zfa", "--target", "x86-64-v3"]);
    let event = compiled.ends(0, &[]).event("compiled");
    assert_eq!(event["targets"], serde_json::json!(["x86-64-v3"]));
    assert_eq!(event["bytes"], std::fs::metadata(place.path("m.zfa")).expect("it").len());
    place.run(&["--json", "keygen"]).ends(0, &[]).event("keys");
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(place.path("zeroforge.key")).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others can read the secret key");
    place.run(&["keygen"]).ends(1, &["zeroforge.key", "exists"]);
    place
        .run(&["run", "m.zfa", "--trust", "zeroforge.pub", "--input", "x=[[0]]"])
        .ends(6, &["not signed", "zeroforge sign"]);
    place.run(&["--json", "sign", "m.zfa"]).ends(0, &[]).event("signed");
    place.run(&["--json", "verify-signature", "m.zfa"]).ends(0, &[]).event("verified");
    let shown = place.run(&["--json", "inspect", "m.zfa"]).ends(0, &[]).event("artifact");
    assert_eq!((shown["name"].as_str(), shown["signed"].as_bool()), (Some("mlp"), Some(true)));
    let x = format!("x=[[{}]]", ["0.5"; 12].join(","));
    let ran = place.run(&[
        "--json",
        "run",
        "m.zfa",
        "--trust",
        "zeroforge.pub",
        "--input",
        &x,
        "--output",
        "y.safetensors",
        "--profile",
    ]);
    let ran = ran.ends(0, &[]);
    assert_eq!(ran.event("output")["shape"][0], 1);
    assert!(ran.event("phases")["compute"].is_number() && ran.event("step")["kernel"].is_string());
    assert!(place.path("y.safetensors").is_file());
    // The result feeds the next run, by file.
    let again = place.run(&["run", "m.zfa", "--input", "output_0=y.safetensors"]);
    again.ends(7, &["`x` is missing"]);
    let bench = place.run(&["--json", "bench", "m.zfa", "--runs", "2", "--size", "s77=3"]);
    assert_eq!(bench.ends(0, &[]).event("bench")["runs"], 2);
    assert_eq!(place.run(&["-q", "inspect", "m.zfa"]).ends(0, &[]).out, "");
    assert_eq!(
        place.names(),
        ["m.zfa", "y.safetensors", "zeroforge.key", "zeroforge.pub"],
        "something was left behind"
    );
}

#[test]
fn errors_have_their_exit_code_and_name_what_is_wrong() {
    let place = Place::new();
    let (zfa, pt2) = (artifact(), mlp());
    let x = format!("x=[[{}]]", ["0"; 12].join(","));
    let bad = place.write("bad.pt2", "this is no archive").to_string_lossy().into_owned();
    place.write("cut.zfa", "ZFORGE\r\n");
    place.write("bad.safetensors", "????????????");
    place.write("bad.npy", "????????????");
    let refused = fixture("refused/cond.pt2").to_string_lossy().into_owned();
    let external = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/models/minilm.pt2").to_owned();
    // PT2, ZFA and so on stand for paths; words are split at blanks.
    let cases: [(&str, i32, &[&str]); 38] = [
        // Models.
        ("compile gone.pt2", 8, &["gone.pt2", "No such file"]),
        ("compile BAD", 3, &["bad.pt2", "not a zip archive"]),
        ("compile REFUSED", 4, &["cond.pt2", "higher-order"]),
        ("compile MINILM", 4, &["weights are missing", "--weights"]),
        ("compile PT2 --weights gone.safetensors", 8, &["gone.safetensors"]),
        ("compile PT2 --weights bad.safetensors", 4, &["bad.safetensors"]),
        ("compile PT2 --target sm_9", 2, &["sm_9", "sm_90a"]),
        ("compile PT2 -o gone/m.zfa", 8, &["gone/m.zfa"]),
        ("compile PT2 -o /proc/m.zfa", 8, &["/proc/m.zfa"]),
        ("compile PT2 --sign gone.key", 8, &["gone.key"]),
        // Artifacts.
        ("run gone.zfa", 8, &["gone.zfa"]),
        ("run cut.zfa", 6, &["cut.zfa", "not a zeroforge artifact"]),
        ("run PT2", 6, &["mlp.pt2", "not a zeroforge artifact"]),
        ("inspect PT2", 6, &["mlp.pt2"]),
        ("bench cut.zfa", 6, &["cut.zfa"]),
        ("sign gone.zfa", 8, &["gone.zfa"]),
        ("verify-signature ZFA", 8, &["zeroforge.pub"]),
        // Inputs.
        ("run ZFA", 7, &["input `x` is missing", "f32 [s77, 12]"]),
        ("run ZFA --input y=[[1]] --input ROW", 7, &["no input `y`", "did you mean `x`"]),
        ("run ZFA --input x=[[1,2]]", 7, &["shape [1, 2]", "[s77, 12]", "axis 1 must be 12"]),
        ("run ZFA --input x=[1]", 7, &["1 axes instead of 2"]),
        ("run ZFA --input x=[[1],[2,3]]", 7, &["`x`", "ragged"]),
        ("run ZFA --input x=hello", 7, &["`x`", "malformed"]),
        ("run ZFA --input x=gone.npy", 8, &["gone.npy"]),
        ("run ZFA --input x=bad.npy", 7, &["bad.npy", "numpy.save"]),
        ("run ZFA --input bad.safetensors", 7, &["bad.safetensors"]),
        ("run ZFA --input ROW --output gone/y.safetensors", 8, &["gone/y.safetensors"]),
        ("run ZFA --input ROW --trust gone.pub", 8, &["gone.pub"]),
        ("bench ZFA --size s9=3", 7, &["no size `s9`", "s77"]),
        ("bench ZFA --size s77", 2, &["NAME=N"]),
        ("bench ZFA --size s77=many", 2, &["many", "whole number"]),
        // Usage, clap's own.
        ("run ZFA --device tpu", 2, &["tpu", "cpu", "cuda", "software"]),
        ("verify ZFA", 6, &["does not say what its kernels compute", "compile the model again"]),
        ("verify ZFA --schedule soon", 2, &["`late`, `eager` or `random:SEED`"]),
        ("emulate PT2", 2, &["neither with .cu nor with .ptx"]),
        ("emulate missing.ptx", 8, &["missing.ptx"]),
        ("compile", 2, &["<MODEL>"]),
        ("cmpile", 2, &["compile"]),
    ];
    let paths = [
        ("PT2", &pt2),
        ("ZFA", &zfa),
        ("ROW", &x),
        ("BAD", &bad),
        ("REFUSED", &refused),
        ("MINILM", &external),
    ];
    for (line, code, words) in cases {
        let expand = |word| {
            let found = paths.iter().find(|(name, _)| *name == word);
            found.map_or(word, |(_, path)| path.as_str())
        };
        let arguments: Vec<&str> = line.split(' ').map(expand).collect();
        place.run(&arguments).ends(code, words);
        if code != 2 {
            let json = place.run(&[&["--json"], &arguments[..]].concat()).ends(code, words);
            assert_eq!(json.event("error")["code"], code, "{}", json.what);
        }
    }
    assert_eq!(place.names(), ["bad.npy", "bad.pt2", "bad.safetensors", "cut.zfa"]);
}

#[test]
fn dtypes_must_match() {
    let place = Place::new();
    // [1, 12] of i64.
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    let header = "{'descr': '<i8', 'fortran_order': False, 'shape': (1, 12), }\n";
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.as_bytes());
    npy.extend([0; 96]);
    std::fs::write(place.path("x.npy"), npy).expect("a file");
    place.run(&["run", &artifact(), "--input", "x=x.npy"]).ends(7, &["`x`", "i64", "f32"]);
}

#[test]
fn weights_may_stay_outside_and_are_then_needed() {
    let place = Place::new();
    // A fixture with its weights moved to a file.
    let file = std::fs::read(fixture("mlp.pt2")).expect("the fixture");
    let mut entries = zip::read(&file);
    entries.retain(|e| !String::from_utf8_lossy(&e.name).contains("/data/weights/"));
    std::fs::write(place.path("bare.pt2"), zip::write(&entries)).expect("a file");
    let none = WeightFiles::none();
    let imported = load_pt2(&fixture("mlp.pt2"), &none, &ImportOptions::default()).expect("it");
    let tensors = |factor: u8| -> Vec<u8> {
        let weights = imported.graph.weights.iter().map(|w| {
            let WeightData::Inline(bytes) = &w.data else { panic!("{} is outside", w.name) };
            let ty = imported.graph.ty(w.value);
            let mut bytes = bytes.as_slice().to_vec();
            bytes[0] ^= factor;
            let shape = ty.static_shape().expect("a static shape");
            (w.name.clone(), Tensor::from_bytes(ty.dtype, &shape, &bytes).expect("a tensor"))
        });
        tensor_io::to_safetensors(&weights.collect::<Vec<_>>()).expect("a file")
    };
    std::fs::write(place.path("w.safetensors"), tensors(0)).expect("a file");
    std::fs::write(place.path("changed.safetensors"), tensors(1)).expect("a file");
    let compile = ["compile", "bare.pt2", "-o", "m.zfa", "--target", "x86-64-v3"];
    place.run(&compile).ends(4, &["4 of the model's weights", "`up.weight`", "--weights"]);
    let outside = ["--weights", "w.safetensors", "--external-weights"];
    place.run(&[&compile[..], &outside].concat()).ends(0, &[]);
    let shown = place.run(&["--json", "inspect", "m.zfa"]).ends(0, &[]).event("artifact");
    assert_eq!(shown["external_weights"], 4);
    let x = format!("x=[[{}]]", ["0.5"; 12].join(","));
    let run = ["run", "m.zfa", "--input", &x];
    place.run(&run).ends(4, &["none of the given weight files", "--weights"]);
    let with = |file: &str| place.run(&[&run[..], &["--weights", file]].concat());
    with("gone.safetensors").ends(8, &["gone.safetensors"]);
    with("changed.safetensors").ends(4, &["changed.safetensors", "differs"]);
    let outside = with("w.safetensors").ends(0, &[]).out;
    // The same numbers as with weights inside.
    place.run(&[&compile[..], &["--weights", "w.safetensors"]].concat()).ends(0, &[]);
    let inside = place.run(&run).ends(0, &[]).out;
    assert_eq!(outside.lines().next(), inside.lines().next());
}

/// A folder that cannot be written, a disk that is full, an output that is full.
#[test]
fn what_cannot_be_written_is_an_error_and_leaves_nothing() {
    let place = Place::new();
    let pt2 = mlp();
    std::fs::create_dir(place.path("locked")).expect("a folder");
    use std::os::unix::fs::PermissionsExt;
    let lock = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(place.path("locked"), permissions).expect("permissions");
    };
    lock(0o555);
    if std::fs::write(place.path("locked/probe"), "").is_ok() {
        eprintln!("skipped: this user writes into read-only folders (root); /proc stands in above");
        std::fs::remove_file(place.path("locked/probe")).expect("the probe");
    } else {
        let ran = place.run(&["compile", &pt2, "-o", "locked/m.zfa", "--target", "x86-64-v3"]);
        ran.ends(8, &["locked/m.zfa", "ermission"]);
    }
    lock(0o755);
    // A limit on the size of a file acts as a full disk does in the middle of a write. The artifact is above
    // it; with the largest limit the C compiler's files are not. Old contents must survive.
    let pt2 = fixture("tiny_llama.pt2").to_string_lossy().into_owned();
    place.run(&["compile", &pt2, "-o", "m.zfa", "--target", "x86-64-v3"]).ends(0, &[]);
    let whole = std::fs::read(place.path("m.zfa")).expect("the artifact");
    let probe = "trap '' XFSZ; ulimit -f 1; head -c 2000 /dev/zero > cache/probe";
    std::fs::create_dir_all(place.path("cache")).expect("a folder");
    place.command("sh").args(["-c", probe]).output().expect("sh");
    let unit = std::fs::metadata(place.path("cache/probe")).expect("the probe").len() as usize;
    let mut at_the_artifact = false;
    for percent in [20, 60, 97] {
        let blocks = whole.len() * percent / 100 / unit;
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let output = place
            .command("sh")
            .args(["-c", &script, BINARY, "compile", &pt2, "-o", "m.zfa", "--target", "x86-64-v3"])
            .output()
            .expect("sh");
        let ran = Ran::of(output, &["compile", "(full disk)"]).ends(8, &["writing", "too large"]);
        at_the_artifact |= ran.err.contains("m.zfa");
        assert!(std::fs::read(place.path("m.zfa")).expect("the artifact") == whole);
    }
    assert!(at_the_artifact, "no limit was met while writing the artifact");
    assert_eq!(place.names(), ["locked", "m.zfa"], "a temporary file was left");
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let output = place.command(BINARY).args(["inspect", "m.zfa"]).stdout(full).output();
    Ran::of(output.expect("the binary"), &["inspect", "> /dev/full"]).ends(8, &["standard output"]);
}

#[test]
fn compiles_can_share_a_cache() {
    let place = Place::new();
    let pt2 = fixture("tiny_bert.pt2").to_string_lossy().into_owned();
    let start = |name: &str| {
        let arguments = ["compile", &pt2, "-o", name, "--target", "x86-64-v3"];
        let mut command = place.command(BINARY);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary")
    };
    let running: Vec<_> = ["a.zfa", "b.zfa"].map(start).into_iter().collect();
    for child in running {
        let output = child.wait_with_output().expect("an end");
        Ran::of(output, &["compile", "(two at once)"]).ends(0, &[]);
    }
    // From the cache, and without one.
    place.run(&["compile", &pt2, "-o", "c.zfa", "--target", "x86-64-v3"]).ends(0, &[]);
    place
        .run(&["compile", &pt2, "-o", "d.zfa", "--target", "x86-64-v3", "--no-cache"])
        .ends(0, &[]);
    let bytes = |name: &str| std::fs::read(place.path(name)).expect("an artifact");
    for name in ["b.zfa", "c.zfa", "d.zfa"] {
        assert!(bytes("a.zfa") == bytes(name), "{name} differs from a.zfa");
    }
    // Whatever is in the cache is whole: damage is noticed and made good.
    let kernels = place.path("cache/zeroforge/kernels");
    let entries: Vec<PathBuf> = std::fs::read_dir(&kernels)
        .expect("a cache")
        .map(|e| e.expect("an entry").path())
        .collect();
    assert!(!entries.is_empty());
    for path in &entries {
        assert!(
            !path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')),
            "{}",
            path.display()
        );
        let mut bytes = std::fs::read(path).expect("an entry");
        bytes[0] ^= 1;
        std::fs::write(path, bytes).expect("an entry");
    }
    let ran = place.run(&["compile", &pt2, "-o", "e.zfa", "--target", "x86-64-v3"]);
    ran.ends(0, &["damaged; it is made again"]);
    assert!(bytes("a.zfa") == bytes("e.zfa"));
}

/// Every intermediate form, as files that say what they are.
#[test]
fn intermediate_forms_are_emitted() {
    let place = Place::new();
    let pt2 = mlp();
    let compile = ["compile", &pt2, "-o", "m.zfa", "--target", "x86-64-v3"];
    let emit = ["--emit", "graph=out", "--emit", "kernels=out", "--emit", "schedule=out"];
    place.run(&[&compile[..], &emit].concat()).ends(0, &[]);
    let read = |folder: &str, end: &str| -> String {
        let files = std::fs::read_dir(place.path(folder)).expect("a folder").flatten();
        let mut found = files.filter(|f| f.file_name().to_string_lossy().ends_with(end));
        let file = found.next().unwrap_or_else(|| panic!("no {end} in {folder}"));
        std::fs::read_to_string(file.path()).expect("text")
    };
    assert!(read("out", ".graph.txt").starts_with("graph "), "no graph");
    assert!(read("out", ".graph.html").contains("<html"), "no page");
    assert!(read("out", ".graph.dot").contains("digraph"), "no Graphviz");
    assert!(read("out", ".x86-64-v3.c").contains("ZF_ENTRY"), "no kernel");
    let schedule: Value = serde_json::from_str(&read("out", ".x86-64-v3.json")).expect("JSON");
    assert!(schedule["steps"].as_array().is_some_and(|s| !s.is_empty()), "no steps");
    // Device code needs NVIDIA's compiler, which another folder has if any.
    let Some(nvrtc) = zeroforge_compiler::cuda::find_nvrtc() else {
        eprintln!("PTX is not checked: no CUDA compiler; run `zeroforge toolchain install`");
        return;
    };
    let arguments = ["compile", &pt2, "-o", "d.zfa", "--target", "sm_90a", "--emit", "ptx=device"];
    let output = place.command(BINARY).args(arguments).env("ZEROFORGE_NVRTC", nvrtc.path).output();
    Ran::of(output.expect("the binary"), &arguments).ends(0, &[]);
    assert!(read("device", ".sm_90a.ptx").contains(".target sm_90a"), "no PTX");
}

/// What is in the cache is neither compiled nor linked again.
#[test]
fn a_second_compile_runs_no_compiler() {
    let place = Place::new();
    let pt2 = mlp();
    let real = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let refuse = place.path("refuse");
    // A C compiler that refuses units and links once a file is there, but tells its version.
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *unit0*) [ -e '{}' ] && exit 1;; esac\nexec {real} \"$@\"\n",
        refuse.display()
    );
    let cc = place.write("cc", &script);
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&cc, std::fs::Permissions::from_mode(0o755)).expect("a script");
    let compile = |name: &str, more: &[&str]| {
        let arguments = [&["compile", &pt2, "-o", name, "--target", "cpu"], more].concat();
        let output = place.command(BINARY).args(&arguments).env("CC", &cc).output();
        Ran::of(output.expect("the binary"), &arguments)
    };
    compile("a.zfa", &[]).ends(0, &[]);
    std::fs::write(&refuse, "").expect("a file");
    compile("b.zfa", &[]).ends(0, &[]);
    let bytes = |name: &str| std::fs::read(place.path(name)).expect("an artifact");
    assert!(bytes("a.zfa") == bytes("b.zfa"));
    compile("c.zfa", &["--no-cache"]).ends(5, &["failed on"]);
}

/// A signal in the middle of the C compiler's work: the old artifact stays, and nothing else.
#[test]
fn interruption_leaves_nothing_half_done() {
    for signal in ["INT", "TERM"] {
        let place = Place::new();
        place.write("m.zfa", "what was there before");
        // A C compiler that says when it starts and takes its time.
        let real = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let started = place.path("cache/started");
        std::fs::create_dir_all(place.path("cache")).expect("a folder");
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *unit0.c*) : > '{}'; sleep 1;; esac\nexec {real} \"$@\"\n",
            started.display()
        );
        let cc = place.write("cache/slow-cc", &script);
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&cc, std::fs::Permissions::from_mode(0o755)).expect("a script");
        let pt2 = mlp();
        let mut command = place.command(BINARY);
        command.args([
            "--json",
            "compile",
            &pt2,
            "-o",
            "m.zfa",
            "--target",
            "x86-64-v3",
            "--no-cache",
        ]);
        command.env("CC", &cc).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary");
        while !started.exists() {
            if let Some(status) = child.try_wait().expect("a status") {
                let output = child.wait_with_output().expect("its output");
                panic!(
                    "it ended before the signal: {status}\n{}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let id = child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status().expect("kill");
        assert!(sent.success());
        let output = child.wait_with_output().expect("an end");
        let ran = Ran::of(output, &["compile", signal]).ends(130, &["interrupted"]);
        assert_eq!(ran.event("error")["code"], 130);
        assert_eq!(place.names(), ["m.zfa"], "something was left");
        let kept = std::fs::read_to_string(place.path("m.zfa")).expect("the old file");
        assert_eq!(kept, "what was there before");
    }
}

#[test]
fn settings_come_from_flag_variable_project_user_default() {
    let place = Place::new();
    let origin = |command: &mut Command, name: &str| -> (String, String) {
        let output = command.args(["--json", "doctor"]).output().expect("the binary");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let events = text.lines().map(|l| serde_json::from_str::<Value>(l).expect("an event"));
        let found = events.into_iter().find(|e| e["event"] == "setting" && e["name"] == name);
        let found = found.unwrap_or_else(|| panic!("no setting {name} in {text}"));
        let part = |key: &str| found[key].as_str().expect("text").to_owned();
        (part("value"), part("origin"))
    };
    let threads = |place: &Place| origin(&mut place.command(BINARY), "threads");
    assert_eq!(threads(&place), ("all cores".into(), "default".into()));
    let user = place.write("config/zeroforge/config.toml", "log = \"info\"\nthreads = 3\n");
    assert_eq!(threads(&place), ("3".into(), format!("{}:2", user.display())));
    let project = place.write("zeroforge.toml", "# ours\n\nthreads = 2\ncache_dir = \"kernels\"\n");
    // The nearest parent folder: a folder below has none of its own.
    std::fs::create_dir_all(place.path("a/b")).expect("folders");
    let mut below = place.command(BINARY);
    below.current_dir(place.path("a/b"));
    let (value, from) = origin(&mut below, "threads");
    let project = project.canonicalize().expect("the file");
    assert_eq!((value.as_str(), from), ("2", format!("{}:3", project.display())));
    let variable = origin(place.command(BINARY).env("ZEROFORGE_THREADS", "5"), "threads");
    assert_eq!(variable, ("5".into(), "variable ZEROFORGE_THREADS".into()));
    assert_eq!(origin(&mut place.command(BINARY), "log").0, "info");

    // They have effect, in that order.
    let zfa = artifact();
    let used = |variable: Option<&str>, flag: &[&str]| {
        let mut command = place.command(BINARY);
        command.args(["--json", "bench", &zfa, "--runs", "1"]).args(flag);
        command.envs(variable.map(|v| ("ZEROFORGE_THREADS", v)));
        let ran = Ran::of(command.output().expect("the binary"), &["bench"]).ends(0, &[]);
        ran.event("bench")["device"].as_str().map(str::to_owned)
    };
    let on = |n: u32| Some(format!("cpu, {n} threads"));
    assert_eq!(used(None, &[]), on(2));
    assert_eq!(used(Some("3"), &[]), on(3));
    assert_eq!(used(Some("3"), &["--threads", "4"]), on(4));
    // The cache of the file, relative to it.
    place.run(&["compile", &mlp(), "-o", "m.zfa", "--target", "x86-64-v3"]).ends(0, &[]);
    assert!(place.path("kernels/kernels").is_dir() && !place.path("cache").exists());
    // Trusted keys of the file hold without a flag.
    place.run(&["keygen"]).ends(0, &[]);
    place.write("zeroforge.toml", "trust = [\"zeroforge.pub\"]\n");
    place.run(&["run", "m.zfa", "--input", "x=[[0]]"]).ends(6, &["not signed"]);
}

#[test]
fn configuration_errors_name_file_line_and_remedy() {
    let place = Place::new();
    for (text, words) in [
        ("treads = 3", &["zeroforge.toml", "line 1", "`treads`", "did you mean `threads`?"][..]),
        ("\nthreads = \"many\"", &["line 2", "whole number"]),
        ("device = \"gpu\"", &["\"cpu\", \"cuda\", \"software\""]),
        ("threads = ", &["line 1"]),
        ("log = 3", &["`log` takes text"]),
    ] {
        place.write("zeroforge.toml", text);
        let json = place.run(&["--json", "doctor"]).ends(2, words);
        assert_eq!(json.event("error")["code"], 2);
        place.run(&["inspect", &artifact()]).ends(2, words);
        // What needs no settings works.
        place.run(&["--help"]).ends(0, &[]);
        place.run(&["completions", "bash"]).ends(0, &[]);
    }
    std::fs::remove_file(place.path("zeroforge.toml")).expect("the file");
    std::fs::write(place.path("zeroforge.toml"), [0xff; 9]).expect("a file");
    place.run(&["doctor"]).ends(2, &["zeroforge.toml", "UTF-8"]);
}

#[test]
fn completions_exist_for_every_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = place.run(&["completions", shell]).ends(0, &[]).out;
        for word in ["compile", "verify-signature", "external-weights"] {
            assert!(script.contains(word), "{shell}: no `{word}`");
        }
    }
}

/// `z[i] = x[i] + x[i + OFFSET]` for 64 elements.
fn kernel(offset: usize) -> String {
    format!(
        "\
.version 8.0
.target sm_90a
.address_size 64
.visible .entry add(.param .u64 x, .param .u64 z)
{{
    .reg .f32 %f<4>;
    .reg .b32 %r<2>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [z];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd3, %r1, 4;
    add.s64 %rd1, %rd1, %rd3;
    add.s64 %rd2, %rd2, %rd3;
    ld.global.f32 %f1, [%rd1];
    ld.global.f32 %f2, [%rd1+{}];
    add.f32 %f3, %f1, %f2;
    st.global.f32 [%rd2], %f3;
    ret;
}}
",
        4 * offset
    )
}

#[test]
fn a_kernel_runs_on_the_emulator() {
    let place = Place::new();
    place.write("add.ptx", &kernel(0));
    let x = Tensor::from_f32(&[64], &(0..64).map(|i| i as f32).collect::<Vec<_>>()).expect("x");
    std::fs::write(place.path("x.npy"), tensor_io::to_npy(&x).expect("x")).expect("a file");
    let add = |more: &[&str]| {
        let arguments =
            ["--json", "emulate", "add.ptx", "--arg", "in=x.npy", "--arg", "out=f32[64]"];
        place.run(&[&arguments, more].concat())
    };
    let ran = add(&["--block", "64", "--output", "z.npy"]).ends(0, &[]);
    let event = ran.event("emulated");
    assert_eq!((&event["errors"], &event["warp_instructions"]), (&0.into(), &22.into()), "{event}");
    let z = tensor_io::read_npy(&place.path("z.npy")).expect("z");
    assert!(z.to_f64().into_iter().enumerate().all(|(i, v)| v == 2.0 * i as f64), "{z:?}");
    // Half of the threads: the other elements stay unwritten, and are shown as they are.
    add(&["--block", "32", "--entry", "add"]).ends(0, &[]);

    add(&[]).ends(2, &["no block size", "--block"]);
    add(&["--block", "64", "--arg", "u32=1"]).ends(2, &["takes 2 parameters, 3 arguments"]);
    add(&["--block", "64", "--entry", "sub"]).ends(2, &["no kernel `sub`", "add"]);
    add(&["--block", "2048"]).ends(2, &["2048"]);
    place
        .run(&["emulate", "add.ptx", "--block", "1", "--arg", "u32=1", "--arg", "u64=0"])
        .ends(2, &["parameter 0 (`x`) has 8 bytes", "`u32=1` has 4"]);
    place.write("bad.ptx", &kernel(0).replace("add.f32", "addd.f32"));
    place.run(&["emulate", "bad.ptx", "--block", "1"]).ends(3, &["bad.ptx", "addd.f32"]);
}

#[test]
fn what_the_emulator_finds_is_shown_with_its_line() {
    let place = Place::new();
    place.write("add.ptx", &kernel(1));
    let arguments = ["emulate", "add.ptx", "--block", "64", "--arg", "random=f32[64]:1"];
    let arguments = [&arguments[..], &["--arg", "out=f32[64]"]].concat();
    let ran = place.run(&arguments).ends(10, &["errors in `add`"]);
    for part in
        ["error[out-of-bounds]", "add.ptx:16:", "16 |     ld.global.f32 %f2, [%rd1+4];", "^^^^^^"]
    {
        assert!(ran.out.contains(part), "`{part}` is not in:\n{}", ran.out);
    }
    let ran = place.run(&[&["--json"], &arguments[..]].concat()).ends(10, &[]);
    let finding = ran.event("finding");
    assert_eq!(
        (&finding["kind"], &finding["at"]["ptx_line"]),
        (&"out-of-bounds".into(), &16.into())
    );
    assert_eq!(finding["at"]["warp"], 1);
}

#[test]
fn without_a_gpu_the_software_device_is_used_and_said() {
    if zeroforge_runtime::gpu_count().is_some_and(|n| n > 0) {
        eprintln!("skipped: this machine has a GPU");
        return;
    }
    let place = Place::new();
    let input = format!("x=[[{}]]", ["0.5"; 12].join(","));
    let zfa = artifact();
    let ran = place.run(&[
        "--json",
        "run",
        &zfa,
        "--device",
        "cuda",
        "--input",
        &input,
        "--output",
        "z.safetensors",
    ]);
    let said: Vec<&str> = ran.err.lines().collect();
    assert_eq!(said.len(), 1, "{}", ran.err);
    assert!(said[0].contains("running on the software device"), "{}", ran.err);
    let ran = ran.ends(0, &[]);
    ran.event("output");
    let read = |name: &str| {
        tensor_io::read_safetensors(&place.path(name)).expect("outputs").remove(0).1.to_f64()
    };
    place
        .run(&["run", &zfa, "--device", "cpu", "--input", &input, "--output", "c.safetensors"])
        .ends(0, &[]);
    for (a, b) in read("z.safetensors").into_iter().zip(read("c.safetensors")) {
        assert!((a - b).abs() < 1e-5, "{a} instead of {b}");
    }
    let mut missing = place.command(BINARY);
    missing.args(["run", &zfa, "--device", "software", "--input", &input]);
    missing.env("ZEROFORGE_SOFTWARE_DRIVER", place.path("none.so"));
    Ran::of(missing.output().expect("it runs"), &["run"]).ends(8, &["none.so"]);
}
