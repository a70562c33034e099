//! Every fixture of `tests/fixtures`, from archive to result on the CPU: imported, compiled, opened,
//! run, and compared with what eager torch computed.
//!
//! Each is also compiled for sm_90a and executed as `device/NAME`: on the emulator with every checker on, each
//! launch compared with what its kernel must compute, and the results with torch's. That needs NVIDIA's compiler
//! (`make test` installs it with `zeroforge toolchain install`); without it these tests are ignored and the reason
//! printed.
//!
//! `verify/NAME` is what `zeroforge verify` does with it: sizes and inputs of its own.
//!
//! `FIXTURE=name cargo test --test fixtures` runs those whose name contains `name`.

mod expected;

use std::ops::ControlFlow;
use std::path::Path;

use expected::{Case, Expected, archives, compare, folder, read_expected};
use libtest_mimic::{Arguments, Failed, Trial};
use zeroforge_artifact::{CpuIsa, Target};
use zeroforge_compiler::cache::Cache;
use zeroforge_compiler::cuda::{Nvrtc, find_nvrtc};
use zeroforge_compiler::pipeline::{CompileOptions, compile};
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportOptions, load_pt2};
use zeroforge_runtime::{Model, OpenOptions, Session, SessionOptions, Tensor, host_has};
use zeroforge_verify::{Machine, Outcome, StepChecks};

fn host() -> Target {
    if host_has(CpuIsa::X86_64V4) { Target::X86_64_V4 } else { Target::X86_64_V3 }
}

/// A fixture compiled and opened, and what torch computed.
fn open(pt2: &Path, target: Target, cache: Cache) -> Result<(Model, Expected), Failed> {
    let files = WeightFiles::none();
    let imported = load_pt2(pt2, &files, &ImportOptions::default())?;
    let options = CompileOptions {
        targets: vec![target],
        model_hash: imported.hash.clone(),
        external_weights: false,
        sms: None,
        cache,
    };
    let artifact = compile(&imported.graph, &files, &options, &|_| {})?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("fixture.zfa");
    artifact.write_atomically(&path)?;
    let model = Model::open(&path, &OpenOptions { verify_all: true, ..Default::default() })?;
    let expected = read_expected(&pt2.with_extension("safetensors"))?;
    if expected.cases.is_empty() {
        return Err("the fixture has no cases".into());
    }
    Ok((model, expected))
}

/// Contents of a buffer of a name after a call.
type StateOf<'a> = dyn Fn(&str) -> Result<Option<Vec<u8>>, Failed> + 'a;

/// Compares the outputs and the buffers of a call.
fn check(
    i: usize,
    case: &Case,
    outputs: &[(String, Tensor)],
    state: &StateOf<'_>,
    expected: &Expected,
) -> Result<(), Failed> {
    for (name, tensor) in &case.expected {
        let found = outputs.iter().find(|(n, _)| n == name);
        let (_, found) = found.ok_or_else(|| format!("case {i}: no output `{name}`"))?;
        compare(&format!("case {i}, {name}"), found, tensor, expected)?;
    }
    for (name, tensor) in &case.buffers {
        let found = state(name)?.ok_or_else(|| format!("no state `{name}`"))?;
        let found = Tensor::from_bytes(tensor.dtype(), tensor.shape(), &found)?;
        compare(&format!("case {i}, buffer {name}"), &found, tensor, expected)?;
    }
    Ok(())
}

fn on_the_cpu(pt2: &Path) -> Result<(), Failed> {
    let (model, expected) = open(pt2, host(), Cache::none())?;
    let mut session =
        Session::cpu(&model, SessionOptions { threads: Some(2), ..Default::default() })?;
    for (i, case) in &expected.cases {
        let outputs = session.run(case.inputs.clone())?;
        check(*i, case, &outputs, &|name| Ok(session.state(name)?), &expected)?;
    }
    Ok(())
}

/// Everything that is wrong with a step, as text.
fn problems(machine: &Machine, outcome: &Outcome, problems: &mut Vec<String>) {
    let program = machine.program();
    let (doc, origin) = (&program.kernels[outcome.kernel].doc, &program.steps[outcome.step].origin);
    for finding in outcome.report.errors() {
        problems.push(format!("{doc} for {origin}: {finding}"));
    }
    for stray in &outcome.strays {
        problems.push(format!("{doc} for {origin}: {stray:?}"));
    }
    if let Some(verdict) = outcome.verdict.as_ref().filter(|v| !v.passed()) {
        problems.push(format!("{doc} for {origin}: {verdict:?}"));
    }
}

fn on_the_emulator(pt2: &Path) -> Result<(), Failed> {
    // Kernels that several models share are compiled once.
    let cache = Cache::at(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels"));
    let (model, expected) = open(pt2, Target::SM_90A, cache)?;
    // What the kernels must compute is what torch computes.
    let mut reference = Machine::reference(&model, &[])?;
    let options = zeroforge_emulator::Options { threads: 1, ..Default::default() };
    for (i, case) in &expected.cases {
        let checks = StepChecks { reference: false, options: options.clone() };
        let outputs =
            reference.call(case.inputs.clone(), &mut |_, _| checks.clone(), &mut |_| {
                ControlFlow::Continue(())
            })?;
        let outputs = outputs.ok_or("the call ended early")?;
        check(*i, case, &outputs, &|name| Ok(reference.state(name)?), &expected)?;
    }
    // And they compute it.
    let mut machine = Machine::emulator(&model, &[])?;
    for (i, case) in &expected.cases {
        let checks = StepChecks { reference: true, options: options.clone() };
        let mut outcomes = Vec::new();
        let outputs =
            machine.call(case.inputs.clone(), &mut |_, _| checks.clone(), &mut |outcome| {
                outcomes.push(outcome);
                ControlFlow::Continue(())
            })?;
        let mut wrong = Vec::new();
        outcomes.iter().for_each(|o| problems(&machine, o, &mut wrong));
        if !wrong.is_empty() {
            return Err(format!("case {i}: {}", wrong.join("\n")).into());
        }
        let outputs = outputs.ok_or("the call ended early")?;
        check(*i, case, &outputs, &|name| Ok(machine.state(name)?), &expected)?;
    }
    Ok(())
}

/// What `zeroforge verify` does: sizes and inputs are its own.
fn verified(pt2: &Path) -> Result<(), Failed> {
    let cache = Cache::at(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels"));
    let (model, _) = open(pt2, Target::SM_90A, cache)?;
    let options = zeroforge_verify::Options { threads: 1, ..Default::default() };
    let summary = zeroforge_verify::verify(&model, &options, &mut |_| {})?;
    let failed: Vec<String> =
        summary.kernels.iter().filter(|k| !k.passed()).map(|k| format!("{k:?}")).collect();
    match failed.is_empty() {
        true => Ok(()),
        false => Err(failed.join("\n").into()),
    }
}

/// Why device code cannot be compiled here.
fn no_compiler() -> Option<String> {
    match find_nvrtc() {
        Some(found) => Nvrtc::load(&found.path).err().map(|e| e.to_string()),
        None => Some("no CUDA compiler; run `zeroforge toolchain install`".to_owned()),
    }
}

fn main() {
    let args = Arguments::from_args();
    let mut trials = Vec::new();
    let missing = no_compiler();
    if let Some(reason) = &missing {
        eprintln!("device kernels are not checked: {reason}");
    }
    for (name, path) in archives() {
        // torch 2.8 keeps weights in a pickle: refused with the way out.
        let pickled = name.ends_with("_torch28");
        if !pickled {
            let (path, verify_path) = (path.clone(), path.clone());
            let trial = Trial::test(format!("device/{name}"), move || on_the_emulator(&path));
            trials.push(trial.with_ignored_flag(missing.is_some()));
            let path = verify_path;
            let trial = Trial::test(format!("verify/{name}"), move || verified(&path));
            trials.push(trial.with_ignored_flag(missing.is_some()));
        }
        trials.push(Trial::test(name, move || {
            if pickled {
                return match load_pt2(&path, &WeightFiles::none(), &ImportOptions::default()) {
                    Ok(_) => Err("an archive of torch 2.8 was accepted".into()),
                    Err(e) if e.to_string().contains("save it again with torch 2.9") => Ok(()),
                    Err(e) => Err(format!("the error does not say what to do: {e}").into()),
                };
            }
            on_the_cpu(&path)
        }));
    }
    assert!(!trials.is_empty(), "no fixtures in {}", folder().display());
    libtest_mimic::run(&args, trials).exit();
}
