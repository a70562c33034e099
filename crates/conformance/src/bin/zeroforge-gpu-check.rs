//! Every kernel on a GPU: right, in agreement with the emulator, and how fast. `make gpu-check`.
//!
//! Prints one JSON object a line (docs/benchmark-schema.md) to a file or standard output, and a summary.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::{Value, json};
use zeroforge_conformance::bench::Bench;
use zeroforge_conformance::card::Card;
use zeroforge_conformance::case::{Case, Outcome};
use zeroforge_conformance::family::{Contents, Throughput, families};
use zeroforge_conformance::random::Random;
use zeroforge_conformance::tensor::encode;
use zeroforge_emulator::Options;
use zeroforge_runtime::direct::DirectGpu;

/// Name of the format of the lines.
const SCHEMA: &str = "zeroforge.bench/1";
/// The code of a failed check, as of `zeroforge verify` (docs/exit-codes.md).
const CHECK_FAILED: u8 = 10;

/// Every kernel on a GPU: right, in agreement with the emulator, and how fast.
#[derive(Debug, Parser)]
#[command(after_help = "\
Examples:
  zeroforge-gpu-check --output gpu-check.ndjson
  zeroforge-gpu-check --family attention --limit 20 --no-timing
  zeroforge-gpu-check --software target/release/libcuda.so --limit 3 --no-timing

Exit codes: 0 all right, 1 a failure, 10 a kernel is wrong on the device.")]
struct Arguments {
    /// Index of the GPU.
    #[arg(long, default_value_t = 0)]
    device: u32,
    /// The software device in a GPU's place: a test of this tool.
    #[arg(long, value_name = "LIBRARY")]
    software: Option<PathBuf>,
    /// Only these families; repeat for more.
    #[arg(long)]
    family: Vec<String>,
    /// At most so many cases of a family.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Do not run the cases on the emulator too.
    #[arg(long)]
    no_emulator: bool,
    /// Do not time anything.
    #[arg(long)]
    no_timing: bool,
    /// Timed launches of each.
    #[arg(long, default_value_t = 20, value_name = "N")]
    samples: u32,
    /// Where the lines go; standard output if not given.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// List the cases and end.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(CHECK_FAILED),
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Lines of results, and what they add up to.
struct Results {
    to: Box<dyn Write>,
    device: Value,
    counts: BTreeMap<(String, &'static str), usize>,
}

impl Results {
    fn line(&mut self, kind: &'static str, name: &str, mut fields: Value) -> Result<()> {
        let common = json!({"schema": SCHEMA, "kind": kind, "name": name, "implementation": "zeroforge",
            "version": env!("CARGO_PKG_VERSION"), "device": self.device});
        if let (Some(all), Some(more)) = (fields.as_object_mut(), common.as_object()) {
            all.extend(more.clone());
        }
        writeln!(self.to, "{fields}").context("writing a result")
    }

    fn count(&mut self, family: &str, what: &'static str) {
        *self.counts.entry((family.to_owned(), what)).or_default() += 1;
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let mut all = families();
    for name in &arguments.family {
        if !all.iter().any(|f| f.name == name) {
            let known: Vec<&str> = all.iter().map(|f| f.name).collect();
            anyhow::bail!("there is no family `{name}`; there are {}", known.join(", "));
        }
    }
    all.retain(|f| arguments.family.is_empty() || arguments.family.iter().any(|n| n == f.name));
    let cases = |family: &zeroforge_conformance::family::Family| {
        let mut cases = (family.cases)();
        cases.truncate(arguments.limit.unwrap_or(usize::MAX));
        cases
    };
    if arguments.list {
        for family in &all {
            cases(family).iter().for_each(|case| println!("{}: {}", family.name, case.name()));
        }
        return Ok(true);
    }
    if let Some(library) = &arguments.software {
        zeroforge_runtime::load_software_driver(library)?;
    }
    let gpu = Rc::new(DirectGpu::open(arguments.device)?);
    let (major, minor) = gpu.capability();
    anyhow::ensure!(
        (major, minor) == (9, 0),
        "the kernels are for compute capability 9.0 (Hopper), `{}` has {major}.{minor}",
        gpu.name()
    );
    let bench = Bench::open()?;
    let to: Box<dyn Write> = match &arguments.output {
        Some(path) => Box::new(std::io::BufWriter::new(
            std::fs::File::create(path)
                .with_context(|| format!("creating `{}`", path.display()))?,
        )),
        None => Box::new(std::io::stdout().lock()),
    };
    let device = json!({"name": gpu.name(), "sms": gpu.sm_count(), "capability": format!("{major}.{minor}"),
        "software": arguments.software.is_some()});
    let mut results = Results { to, device, counts: BTreeMap::new() };
    for family in &all {
        for case in cases(family) {
            check(family.name, case.as_ref(), &bench, &gpu, arguments, &mut results)?;
        }
        if !arguments.no_timing {
            for launch in (family.throughput)() {
                time(&launch, &bench, &gpu, arguments.samples, &mut results)?;
                results.count(family.name, "timed");
            }
        }
    }
    results.to.flush().context("writing the results")?;
    for ((family, what), count) in &results.counts {
        eprintln!("{family}: {count} {what}");
    }
    Ok(!results.counts.keys().any(|(_, what)| *what == "wrong"))
}

/// A case on the GPU, judged, and beside the emulator.
fn check(
    family: &str,
    case: &dyn Case,
    bench: &Bench,
    gpu: &Rc<DirectGpu>,
    arguments: &Arguments,
    results: &mut Results,
) -> Result<()> {
    let name = format!("{family}/{}", case.name());
    let options = Options::default();
    let on_gpu = case.run(bench, &mut Card::gpu(gpu, 0), &options);
    let on_gpu = on_gpu.with_context(|| name.clone())?;
    let failures = on_gpu.failures();
    results.count(family, if failures.is_empty() { "right" } else { "wrong" });
    let judged: Vec<Value> = on_gpu
        .results
        .iter()
        .map(|r| json!({"result": r.name, "error": r.verdict.error, "naive_error": r.verdict.naive, "allowed": r.verdict.allowed}))
        .collect();
    results.line(
        "correctness",
        &name,
        json!({"passed": failures.is_empty(), "failures": failures, "results": judged}),
    )?;
    if arguments.no_emulator {
        return Ok(());
    }
    let emulated = case.run(bench, &mut Card::new(gpu.sm_count()), &options);
    let emulated = emulated.with_context(|| format!("{name} on the emulator"))?;
    for (result, different, bytes) in differences(&on_gpu, &emulated) {
        results.count(family, "results that differ from the emulator's");
        results.line(
            "disagreement",
            &name,
            json!({"result": result, "bytes": bytes, "different_bytes": different,
                "emulator_passes": emulated.failures().is_empty(), "device_passes": on_gpu.failures().is_empty()}),
        )?;
    }
    Ok(())
}

/// Results that are not the same bytes: name, bytes that differ, bytes in all.
fn differences(a: &Outcome, b: &Outcome) -> Vec<(String, usize, usize)> {
    let pairs = a.results.iter().zip(&b.results);
    pairs
        .map(|(a, b)| {
            let different = a.bytes.iter().zip(&b.bytes).filter(|(x, y)| x != y).count();
            let missing = a.bytes.len().abs_diff(b.bytes.len());
            (a.name.clone(), different + missing, a.bytes.len())
        })
        .filter(|(_, different, _)| *different > 0)
        .collect()
}

fn time(
    launch: &Throughput,
    bench: &Bench,
    gpu: &Rc<DirectGpu>,
    samples: u32,
    results: &mut Results,
) -> Result<()> {
    let mut card = Card::gpu(gpu, samples.max(1));
    let mut random = Random::new(1);
    for contents in &launch.buffers {
        match contents {
            Contents::Normal(dtype, count, deviation) => {
                let values: Vec<f64> = (0..*count).map(|_| random.normal() * deviation).collect();
                card.buffer(&encode(*dtype, &values))?
            }
            Contents::Bytes(bytes) => card.buffer(bytes)?,
            Contents::Output(bytes) => card.unwritten(*bytes)?,
        };
    }
    card.launch(bench, &launch.instance, &launch.plan, &Options::default())
        .with_context(|| launch.name.clone())?;
    let seconds = card.time().context("the device gave no time")?.as_secs_f64();
    results.line(
        "throughput",
        &launch.name,
        json!({"seconds": seconds, "statistic": "least", "samples": samples, "flops": launch.flops, "bytes": launch.bytes,
            "tflops": launch.flops / seconds / 1e12, "gigabytes_per_second": launch.bytes / seconds / 1e9,
            "inputs": "normal, seed 1", "kernel": launch.instance.doc}),
    )
}
