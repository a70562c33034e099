//! `zeroforge analyze`: what the machine code of kernels shows.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use zeroforge_artifact::Target;
use zeroforge_artifact::container::SectionKind;
use zeroforge_artifact::manifest::ModuleEntry;
use zeroforge_compiler::cuda::{
    CudaCompileError, Nvrtc, compile_source, find_nvdisasm, find_nvrtc,
};
use zeroforge_runtime::{Model, OpenOptions};
use zeroforge_sass::gate::Gate;
use zeroforge_sass::timeline::{self, LaunchFile, Prediction, Rates, Steady};
use zeroforge_sass::{Disassembler, Kernel, Launch, Report, kernels, matches, report, text};

use crate::args::AnalyzeArgs;
use crate::exit::{CheckError, Exit, ToolchainError, UsageError};
use crate::output::Output;

/// A kernel with how it is launched.
struct Subject {
    kernel: Kernel,
    launch: Launch,
}

pub(crate) fn run(args: &AnalyzeArgs, output: &Output) -> Result<Exit> {
    // Read first: a wrong gate file should not wait for a compiler.
    let gate = match &args.gate {
        Some(path) => Some(gate(path)?),
        None => None,
    };
    let files = args.launch.iter().map(|p| launch_file(p)).collect::<Result<Vec<LaunchFile>>>()?;
    let found = find_nvdisasm().ok_or_else(|| {
        ToolchainError("no disassembler was found; run `zeroforge toolchain install --sass`".into())
    })?;
    let disassembler = Disassembler::new(&found.path);
    if args.compare {
        return compare(args, &files, &disassembler, output);
    }
    if args.files.len() > 1 {
        let reason = "two files are given; --compare puts them side by side";
        return Err(UsageError(reason.to_owned()).into());
    }
    if args.kernel.len() > 1 {
        return Err(UsageError("--kernel is given twice; only --compare takes two".into()).into());
    }
    let name = args.kernel.first().map_or("", String::as_str);
    let subjects = subjects(&args.files[0], name, args, &files, &disassembler, output)?;
    let found: Vec<Found> = subjects.iter().map(|s| Found::new(s, &files)).collect();
    for (n, f) in found.iter().enumerate() {
        let gap = if n > 0 { "\n" } else { "" };
        output.result(&format!("{gap}{}", f.text()), || f.json());
    }
    match gate {
        Some(gate) => check(&gate, &found, output),
        None => Ok(Exit::Success),
    }
}

/// What is known of a kernel.
struct Found {
    report: Report,
    /// None where the kernel has no matrix products of warpgroups.
    steady: Option<Result<Vec<Steady>, String>>,
    /// One for each launch that is given.
    predictions: Vec<Result<Prediction, String>>,
}

impl Found {
    fn new(subject: &Subject, files: &[LaunchFile]) -> Found {
        let rates = Rates::default();
        let report = report(&subject.kernel, &subject.launch);
        let steady = (report.main_loops().count() > 0)
            .then(|| timeline::steady(&subject.kernel, &report, &rates));
        let predict = |f: &LaunchFile| {
            let device = f.device.device();
            let rates = f.rates();
            timeline::predict(&subject.kernel, &report, &f.problem, &f.tiling, device, &rates)
        };
        let predictions = files.iter().map(predict).collect();
        Found { report, steady, predictions }
    }

    fn text(&self) -> String {
        let mut parts = vec![text::report(&self.report)];
        parts.extend(self.steady.as_ref().map(|s| text::steady(&self.report, s)));
        parts.extend(self.predictions.iter().map(text::prediction));
        parts.join("\n")
    }

    fn json(&self) -> Value {
        let none = |reason: &String| json!({"none": reason});
        let steady = |s: &Result<Vec<Steady>, String>| s.as_ref().map_or_else(none, |s| json!(s));
        let launch = |p: &Result<Prediction, String>| p.as_ref().map_or_else(none, |p| json!(p));
        json!({
            "event": "kernel",
            "report": self.report,
            "steady": self.steady.as_ref().map(steady),
            "predictions": self.predictions.iter().map(launch).collect::<Vec<_>>(),
        })
    }

    /// What a gate compares: the least utilisation of the launches, else of the main loops; none if one has no prediction.
    fn utilisation(&self) -> Option<f64> {
        let least = |list: Vec<f64>| list.into_iter().min_by(f64::total_cmp);
        if !self.predictions.is_empty() {
            let all: Result<Vec<f64>, _> =
                self.predictions.iter().map(|p| p.as_ref().map(|p| p.utilisation)).collect();
            return all.ok().and_then(least);
        }
        let steady = self.steady.as_ref()?.as_ref().ok()?;
        least(steady.iter().map(|s| s.tensor_busy).collect())
    }
}

fn launch_file(path: &Path) -> Result<LaunchFile> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading `{}`", path.display()))?;
    let refuse = |reason| UsageError(format!("launch file `{}`: {reason}", path.display()));
    Ok(LaunchFile::parse(&text).map_err(refuse)?)
}

fn gate(path: &Path) -> Result<Gate> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading `{}`", path.display()))?;
    let refuse = |reason| UsageError(format!("gate file `{}`: {reason}", path.display()));
    Ok(Gate::parse(&text).map_err(refuse)?)
}

fn check(gate: &Gate, found: &[Found], output: &Output) -> Result<Exit> {
    let all: Vec<&Report> = found.iter().map(|f| &f.report).collect();
    if let Some(name) = gate.unused(&all).first() {
        let reason = format!("the gate file has limits for `{name}`, but no kernel is named so");
        return Err(UsageError(reason).into());
    }
    let mut broken = 0;
    for f in found {
        for violation in gate.check(&f.report, f.utilisation()) {
            broken += 1;
            output.result(
                &format!("gate: {violation}"),
                || json!({"event": "violation", "violation": violation}),
            );
        }
    }
    match broken {
        0 => {
            output.result("gate: every limit is kept", || json!({"event": "gate", "broken": 0}));
            Ok(Exit::Success)
        }
        n => Err(CheckError(format!("{n} limits of the gate file are not kept")).into()),
    }
}

fn compare(
    args: &AnalyzeArgs,
    files: &[LaunchFile],
    disassembler: &Disassembler,
    output: &Output,
) -> Result<Exit> {
    let side = |n: usize| -> Result<Found> {
        let path = args.files.get(n).or(args.files.first()).expect("clap requires a file");
        let name = args.kernel.get(n).or(args.kernel.first()).map_or("", String::as_str);
        let mut found = subjects(path, name, args, files, disassembler, output)?;
        if found.len() > 1 {
            let names: Vec<String> =
                found.iter().map(|s| text::short(&s.kernel.entry.name)).collect();
            return Err(UsageError(format!(
                "`{}` has {} kernels with `{name}` in their name, --compare wants one a side; choose with --kernel: {}",
                path.display(),
                found.len(),
                names.join(", ")
            ))
            .into());
        }
        Ok(Found::new(&found.remove(0), files))
    };
    let (a, b) = (side(0)?, side(1)?);
    let mut rows = text::compare(&a.report, &b.report);
    let main = a.report.main_loops().count().max(b.report.main_loops().count());
    for n in 0..main {
        let of = |f: &Found| match f.steady.as_ref().and_then(|s| s.as_ref().ok()?.get(n)) {
            Some(s) => format!("{:.0} cycles, {:.1}% busy", s.cycles, s.tensor_busy * 100.0),
            None => "-".to_owned(),
        };
        rows.push((format!("loop {n}: predicted"), of(&a), of(&b)));
    }
    for n in 0..files.len() {
        let of = |f: &Found| match f.predictions.get(n) {
            Some(Ok(p)) => format!("{:.1}%", p.utilisation * 100.0),
            _ => "-".to_owned(),
        };
        rows.push((format!("launch {n}: predicted utilisation"), of(&a), of(&b)));
    }
    let width = |f: &dyn Fn(&text::Row) -> usize| rows.iter().map(f).max().unwrap_or(0);
    let (w0, w1) = (width(&|r| r.0.len()), width(&|r| r.1.len()).min(48));
    let mut lines =
        vec![format!("A: {}\nB: {}", text::short(&a.report.name), text::short(&b.report.name))];
    lines.extend(rows.iter().map(|r| format!("  {:w0$}  {:w1$}  {}", r.0, r.1, r.2)));
    output
        .result(&lines.join("\n"), || json!({"event": "comparison", "a": a.json(), "b": b.json()}));
    Ok(Exit::Success)
}

/// The kernels of a file.
fn subjects(
    path: &Path,
    name: &str,
    args: &AnalyzeArgs,
    files: &[LaunchFile],
    disassembler: &Disassembler,
    output: &Output,
) -> Result<Vec<Subject>> {
    let launch = Launch {
        threads: args.threads.or(files.first().and_then(|f| f.threads)),
        dynamic_shared: args.shared.or(files.first().map(|f| f.dynamic_shared)).unwrap_or(0),
    };
    let of = |cubin: &[u8], name: &str| -> Result<Vec<Subject>> {
        let list = kernels(cubin, name, disassembler)
            .with_context(|| format!("reading the machine code of `{}`", path.display()))?;
        Ok(list.into_iter().map(|kernel| Subject { kernel, launch }).collect())
    };
    match path.extension().and_then(|e| e.to_str()) {
        Some("zfa") => artifact(path, name, args, disassembler),
        Some("cu" | "cuh") => of(&compiled(path, args, output)?, name),
        Some("cubin") => {
            let bytes =
                std::fs::read(path).with_context(|| format!("reading `{}`", path.display()))?;
            of(&bytes, name)
        }
        _ => {
            let path = path.display();
            let reason = format!("`{path}` ends neither with .cubin, .cu nor .zfa");
            Err(UsageError(reason).into())
        }
    }
}

fn compiled(path: &Path, args: &AnalyzeArgs, output: &Output) -> Result<Vec<u8>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading `{}`", path.display()))?;
    output.progress("compile", 0, 1);
    let found = find_nvrtc().ok_or(CudaCompileError::NoCompiler)?;
    let nvrtc = Nvrtc::load(&found.path)?;
    let options = super::emulate::compiler_options(path, &args.include, &args.nvrtc);
    let name = path.display().to_string();
    let module = compile_source(&nvrtc, &name, &text, Target::SM_90A, &options)?;
    output.finish();
    Ok(module.cubin)
}

/// The device kernels of an artifact, launched as its program says.
fn artifact(
    path: &Path,
    name: &str,
    args: &AnalyzeArgs,
    disassembler: &Disassembler,
) -> Result<Vec<Subject>> {
    let model = Model::open(path, &OpenOptions::default())?;
    let artifact = model.artifact();
    let mut list = Vec::new();
    for (i, entry) in artifact.manifest().targets.iter().enumerate() {
        let program = artifact.program(i)?;
        for kernel in &program.kernels {
            let module = entry.modules.get(kernel.module as usize);
            let Some(ModuleEntry::Cuda { cubin, .. }) = module else { continue };
            if !matches(&kernel.entry, name) && !matches(&kernel.doc, name) {
                continue;
            }
            let code = artifact.section(*cubin, SectionKind::Cubin)?;
            let launch = Launch {
                threads: args.threads.or(Some(kernel.block)),
                dynamic_shared: args.shared.unwrap_or(u64::from(kernel.shared_bytes)),
            };
            let found = kernels(code, &kernel.entry, disassembler)
                .with_context(|| format!("reading the machine code of `{}`", kernel.entry))?;
            list.extend(found.into_iter().map(|kernel| Subject { kernel, launch }));
        }
    }
    if list.is_empty() {
        let reason = match name {
            "" => "it has no device code; compile it with --target sm_90a".to_owned(),
            _ => format!("no device kernel has `{name}` in its name or description"),
        };
        return Err(UsageError(format!("`{}`: {reason}", path.display())).into());
    }
    Ok(list)
}
