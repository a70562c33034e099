//! `zeroforge verify`: every device kernel of an artifact against what it must compute, on the emulator.

use std::fmt::Write;

use anyhow::Result;
use serde_json::json;
use zeroforge_runtime::{Model, OpenOptions};
use zeroforge_verify::{Event, KernelResult, Options, Steps, Summary, verify};

use crate::args::{StepsName, VerifyArgs};
use crate::exit::{CheckError, Exit, UsageError};
use crate::findings::{Printer, Shown};
use crate::output::{Output, duration};

/// Findings of a kernel that are printed.
const SHOWN: usize = 5;

pub(crate) fn run(args: &VerifyArgs, output: &Output) -> Result<Exit> {
    let options = OpenOptions { verify_all: true, ..OpenOptions::default() };
    let model = Model::open(&args.artifact, &options)?;
    let mut sizes = Vec::with_capacity(args.size.len());
    for text in &args.size {
        let size = text.split_once('=').and_then(|(n, v)| Some((n.to_owned(), v.parse().ok()?)));
        sizes.push(size.ok_or_else(|| {
            UsageError(format!("size `{text}` is not of the form NAME=N, N a whole number"))
        })?);
    }
    let dtypes = dtypes(&model);
    let options = Options {
        sizes,
        inputs: super::run::inputs(&args.input, &|name| {
            dtypes.iter().find(|(n, _)| n == name).map(|(_, dtype)| *dtype)
        })?,
        seed: args.seed,
        schedule: args.schedule,
        kernel: args.kernel.clone(),
        steps: match args.steps {
            StepsName::All => Steps::All,
            StepsName::First => Steps::First,
        },
        sms: args.sms,
        threads: args.threads.unwrap_or(0),
        weights: args.weights.clone(),
    };
    output.progress("loading", 0, 1);
    let summary = verify(&model, &options, &mut |event| match event {
        Event::Loaded => output.progress("steps", 0, 1),
        Event::Step(done, total) => output.progress("steps", done, total),
    })?;
    show(&summary, output);
    let failed: Vec<&str> =
        summary.kernels.iter().filter(|k| !k.passed()).map(|k| k.entry.as_str()).collect();
    if failed.is_empty() {
        return Ok(Exit::Success);
    }
    let (count, names) = (summary.kernels.len(), failed.join(", "));
    Err(CheckError(format!("{} of {count} kernels fail: {names}", failed.len())).into())
}

/// Types of the inputs, by name: the same for every target.
fn dtypes(model: &Model) -> Vec<(String, zeroforge_artifact::DType)> {
    let program = model.artifact().program(0);
    let inputs = program.map(|p| p.inputs).unwrap_or_default();
    inputs.into_iter().map(|p| (p.name, p.dtype)).collect()
}

/// The kernel's error relative to the plain one.
fn relative(kernel: &KernelResult) -> Option<f64> {
    let verdict = &kernel.verdict;
    (verdict.plain_error > 0.0).then(|| verdict.error / verdict.plain_error)
}

fn count(n: u64) -> String {
    let n = n as f64;
    match n {
        n if n >= 1e9 => format!("{:.1} G", n / 1e9),
        n if n >= 1e6 => format!("{:.1} M", n / 1e6),
        n if n >= 1e3 => format!("{:.1} k", n / 1e3),
        n => format!("{n}"),
    }
}

fn show(summary: &Summary, output: &Output) {
    let width = summary.kernels.iter().map(|k| k.entry.len()).max().unwrap_or(6).max(6);
    let header = format!(
        "      {:width$}  {:>7}  {:>8}  {:>9}  {:>11}  {:>5}  {:>12}  {:>9}  computes",
        "kernel", "steps", "findings", "max error", "plain error", "ratio", "instructions", "time"
    );
    let mut text = header;
    for k in &summary.kernels {
        let mark = if k.passed() { "ok" } else { "WRONG" };
        let steps = match k.checked == k.steps {
            true => k.steps.to_string(),
            false => format!("{}/{}", k.checked, k.steps),
        };
        let ratio = relative(k).map_or_else(|| "-".to_owned(), |r| format!("{r:.2}"));
        let _ = write!(
            text,
            "\n{mark:5} {:width$}  {steps:>7}  {:>8}  {:>9.1e}  {:>11.1e}  {ratio:>5}  {:>12}  {:>9}  {}",
            k.entry,
            k.errors,
            k.verdict.error,
            k.verdict.plain_error,
            count(k.lane_instructions),
            duration(k.time),
            k.doc
        );
    }
    output.table(&text);
    let mut printer = Printer::default();
    for k in &summary.kernels {
        output.event(|| {
            json!({"event": "kernel", "kernel": k.entry, "doc": k.doc, "passed": k.passed(),
                "steps": k.steps, "checked": k.checked, "errors": k.errors,
                "warnings": k.findings.iter().filter(|f| !Shown::from(*f).is_error).count(),
                "elements": k.verdict.elements, "wrong": k.verdict.wrong,
                "error": k.verdict.error, "plain_error": k.verdict.plain_error,
                "allowed": k.verdict.allowed, "ratio": relative(k), "worst": k.verdict.worst,
                "strays": k.strays.iter().map(|s| json!({"buffer": s.buffer, "offset": s.offset, "bytes": s.bytes})).collect::<Vec<_>>(),
                "warp_instructions": k.warp_instructions, "lane_instructions": k.lane_instructions,
                "seconds": k.time.as_secs_f64()})
        });
        let findings: Vec<Shown> =
            k.findings.iter().map(Shown::from).filter(|f| f.is_error).collect();
        for finding in findings.iter().take(SHOWN) {
            output.result(&printer.text(finding, None), || finding.json());
        }
        if findings.len() > SHOWN {
            output.table(&format!("  and {} more places in `{}`", findings.len() - SHOWN, k.entry));
        }
        if let Some(worst) = k.verdict.worst.as_ref().filter(|_| !k.verdict.passed()) {
            output.table(&format!(
                "wrong: {} of {} elements of `{}`; {worst}; at most {:.1e} off is allowed",
                k.verdict.wrong, k.verdict.elements, k.entry, k.verdict.allowed
            ));
        }
        for s in &k.strays {
            output.table(&format!(
                "wrong: `{}` changed {} bytes of `{}` that it must not, the first at {}",
                k.entry, s.bytes, s.buffer, s.offset
            ));
        }
    }
    let failed = summary.kernels.iter().filter(|k| !k.passed()).count();
    let sizes: Vec<String> = summary.sizes.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let sizes = if sizes.is_empty() { String::new() } else { format!(" at {}", sizes.join(", ")) };
    let verdict = match failed {
        0 => "all kernels pass".to_owned(),
        n => format!("{n} of {} kernels fail", summary.kernels.len()),
    };
    output.result(
        &format!(
            "{verdict}: {} kernels, {} steps{sizes}, {}",
            summary.kernels.len(),
            summary.steps,
            duration(summary.time)
        ),
        || {
            json!({"event": "verified", "passed": failed == 0, "kernels": summary.kernels.len(),
                "failed": failed, "steps": summary.steps,
                "sizes": summary.sizes.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
                "seconds": summary.time.as_secs_f64()})
        },
    );
}
