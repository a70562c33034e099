//! `zeroforge compile`: a torch.export archive into an artifact.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;
use zeroforge_artifact::container::SectionKind;
use zeroforge_artifact::manifest::ModuleEntry;
use zeroforge_artifact::{Artifact, Target};
use zeroforge_compiler::cache::{Cache, DEFAULT_LIMIT};
use zeroforge_compiler::cpu::CpuBackend;
use zeroforge_compiler::cuda::CudaBackend;
use zeroforge_compiler::pipeline::{CompileOptions, Progress, compile, prepare, schedule_for};
use zeroforge_graph::{Graph, text, view};
use zeroforge_import::weights::{WeightFiles, WeightReport};
use zeroforge_import::{ImportOptions, load_pt2};

use crate::args::{CompileArgs, Emit};
use crate::exit::{Exit, UsageError, WeightsError};
use crate::interrupt::Interrupt;
use crate::output::{Output, bytes, duration};

pub(crate) fn run(args: &CompileArgs, output: &Output) -> Result<Exit> {
    let interrupt = Interrupt::listen().context("listening for Ctrl-C")?;
    interrupt.guard(|| work(args, output, &interrupt))
}

fn work(args: &CompileArgs, output: &Output, interrupt: &Interrupt) -> Result<Exit> {
    let start = Instant::now();
    let targets = targets(&args.target)?;
    let mut files = WeightFiles::none();
    for path in &args.weights {
        files.add(path)?;
    }
    let imported = load_pt2(&args.model, &files, &ImportOptions::default())?;
    check_weights(&imported.weights, output)?;
    let import_time = start.elapsed();

    let cache = if args.no_cache { Cache::none() } else { Cache::user() };
    let options = CompileOptions {
        targets: targets.clone(),
        model_hash: imported.hash.clone(),
        external_weights: args.external_weights,
        sms: args.sms,
        cache: cache.clone(),
    };
    if !args.emit.is_empty() {
        let graph = prepare(&imported.graph, &files)?;
        for (what, folder) in &args.emit {
            emit(*what, folder, &graph, &targets, args.sms)?;
        }
    }
    let compile_start = Instant::now();
    let mut artifact = compile(&imported.graph, &files, &options, &|event| {
        interrupt.check();
        match event {
            Progress::Lower(target) => output.progress(&format!("lower {target}"), 0, 1),
            Progress::Compile(target, done, total) => {
                output.progress(&target.to_string(), done, total)
            }
            Progress::Weights(done, total) => output.progress("weights", done, total),
        }
    })?;
    output.finish();
    for (what, folder) in &args.emit {
        if matches!(what, Emit::Ptx | Emit::Sass) {
            emit_device(*what, folder, &artifact.to_bytes(), output)?;
        }
    }
    if let Some(key) = &args.sign {
        artifact.sign(super::keys::signature_of(artifact.root_hash(), key)?);
    }
    let path = match &args.output {
        Some(path) => path.clone(),
        None => Path::new(args.model.file_stem().unwrap_or_default()).with_extension("zfa"),
    };
    interrupt.check();
    artifact.write_atomically(&path)?;
    cache.trim(DEFAULT_LIMIT);
    let (compile_time, total) = (compile_start.elapsed(), start.elapsed());
    output.result(
        &format!(
            "{}: {} for {} (import {}, compile {}, total {})",
            path.display(),
            bytes(artifact.len()),
            targets.iter().map(Target::to_string).collect::<Vec<_>>().join(", "),
            duration(import_time),
            duration(compile_time),
            duration(total),
        ),
        || {
            json!({
                "event": "compiled",
                "artifact": path,
                "bytes": artifact.len(),
                "targets": targets.iter().map(Target::to_string).collect::<Vec<_>>(),
                "import_seconds": import_time.as_secs_f64(),
                "compile_seconds": compile_time.as_secs_f64(),
                "total_seconds": total.as_secs_f64(),
            })
        },
    );
    Ok(Exit::Success)
}

/// Targets by name; `cpu` stands for every level, and is the default.
fn targets(names: &[String]) -> Result<Vec<Target>> {
    let mut out = Vec::new();
    let default = ["cpu".to_owned()];
    for name in if names.is_empty() { &default[..] } else { names } {
        let list = match name.as_str() {
            "cpu" => vec![Target::X86_64_V3, Target::X86_64_V4],
            name => vec![name.parse::<Target>().map_err(|e| UsageError(e.to_string()))?],
        };
        out.extend(list.into_iter().filter(|t| !out.contains(t)).collect::<Vec<_>>());
    }
    Ok(out)
}

fn check_weights(report: &WeightReport, output: &Output) -> Result<()> {
    let mut problems = Vec::new();
    for name in &report.missing {
        problems.push(format!("  `{name}` is in no weight file"));
    }
    for (name, reason) in &report.mistyped {
        problems.push(format!("  `{name}`: {reason}"));
    }
    if !problems.is_empty() {
        return Err(WeightsError(format!(
            "{} of the model's weights are missing or do not fit; name their file with --weights:\n{}",
            problems.len(),
            problems.join("\n")
        ))
        .into());
    }
    if !report.unexpected.is_empty() {
        let some: Vec<&str> = report.unexpected.iter().take(4).map(String::as_str).collect();
        let more = report.unexpected.len() - some.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        output.note(&format!("note: not used by the model: {}{more}", some.join(", ")));
    }
    Ok(())
}

fn write(folder: &Path, name: &str, text: &[u8]) -> Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, text).with_context(|| format!("writing `{}`", path.display()))
}

/// Writes what is known before code is compiled.
fn emit(
    what: Emit,
    folder: &Path,
    graph: &Graph,
    targets: &[Target],
    sms: Option<u32>,
) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("creating `{}`", folder.display()))?;
    if what == Emit::Graph {
        write(folder, &format!("{}.graph.txt", graph.name), text::print(graph).as_bytes())?;
        write(folder, &format!("{}.graph.html", graph.name), view::html(graph).as_bytes())?;
        write(folder, &format!("{}.graph.dot", graph.name), view::dot(graph).as_bytes())?;
    }
    if !matches!(what, Emit::Kernels | Emit::Schedule) {
        return Ok(());
    }
    for &target in targets {
        let (schedule, extension) = match target {
            Target::Cpu { isa } => (schedule_for(graph, &CpuBackend::new(isa), target)?, "c"),
            Target::Cuda { .. } => {
                let backend = CudaBackend::new(target).for_sms(sms);
                (schedule_for(graph, &backend, target)?, "cu")
            }
        };
        if what == Emit::Schedule {
            let text = serde_json::to_string_pretty(&schedule.program)?;
            write(folder, &format!("{}.{target}.json", graph.name), text.as_bytes())?;
        } else {
            for source in &schedule.sources {
                let name = format!("{}.{target}.{extension}", source.entry);
                write(folder, &name, source.text.as_bytes())?;
            }
        }
    }
    Ok(())
}

/// Writes PTX or disassembled machine code of every device kernel of an artifact.
fn emit_device(what: Emit, folder: &Path, artifact: &[u8], output: &Output) -> Result<()> {
    let artifact = Artifact::parse(artifact)?;
    let mut written = 0;
    for (i, entry) in artifact.manifest().targets.iter().enumerate() {
        let program = artifact.program(i)?;
        for kernel in &program.kernels {
            let module = entry.modules.get(kernel.module as usize);
            let Some(ModuleEntry::Cuda { cubin, ptx }) = module else { continue };
            let name = format!("{}.{}", kernel.entry, entry.target);
            if what == Emit::Ptx {
                let text = artifact.section(*ptx, SectionKind::Ptx)?;
                write(folder, &format!("{name}.ptx"), text)?;
            } else {
                let code = artifact.section(*cubin, SectionKind::Cubin)?;
                let text = super::toolchain::disassemble(code)?;
                write(folder, &format!("{name}.sass"), &text)?;
            }
            written += 1;
        }
    }
    if written == 0 {
        output.note("note: no target has device code; add --target sm_90a to emit PTX or SASS");
    }
    Ok(())
}
