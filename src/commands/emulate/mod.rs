//! `zeroforge emulate`: one kernel on the emulator, with every checker on.

mod argument;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;
use zeroforge_artifact::Target;
use zeroforge_artifact::container::write_atomically;
use zeroforge_compiler::cuda::{CudaCompileError, Nvrtc, compile_source, find_nvrtc};
use zeroforge_emulator::{
    Checks, Device, DeviceMemory, Kernel, LaunchConfig, Options, Program, Report, launch,
};
use zeroforge_runtime::{Tensor, tensor_io};

use crate::args::{ChecksName, EmulateArgs};
use crate::exit::{CheckError, Exit, SourceError, UsageError};
use crate::findings::{Printer, Shown};
use crate::output::{Output, duration};
use argument::{Arguments, Region};

/// Memory of the emulated card: an H200's.
const CARD_BYTES: u64 = 141 << 30;

pub(crate) fn run(args: &EmulateArgs, output: &Output) -> Result<Exit> {
    let file = args.file.display().to_string();
    let (ptx, is_source) = ptx_of(args, output)?;
    let refuse = |reason: String| SourceError(format!("`{file}`: {reason}"));
    let module = zeroforge_ptx::parse(&ptx).map_err(|e| refuse(e.to_string()))?;
    zeroforge_ptx::verify(&module).map_err(|e| refuse(e.to_string()))?;
    let memory = DeviceMemory::new(CARD_BYTES);
    let program = Program::load(&module, &memory).map_err(|e| refuse(e.to_string()))?;
    let kernel = kernel_of(&program, args.entry.as_deref())?;

    let mut arguments = Arguments::new(&memory);
    let params = parameters(kernel, &args.arg, &mut arguments)?;
    let block = args.block.or(kernel.limits.required_threads).ok_or_else(|| {
        UsageError(format!("`{}` requires no block size; give one with --block", kernel.name))
    })?;
    let config = LaunchConfig {
        grid: args.grid,
        block,
        cluster: args.cluster.or(kernel.limits.required_cluster).unwrap_or([1, 1, 1]),
        dynamic_shared: args.shared,
        params,
    };
    let options = Options {
        checks: match args.checks {
            ChecksName::All => Checks::ALL,
            ChecksName::Errors => Checks { performance: false, ..Checks::ALL },
            ChecksName::None => Checks::NONE,
        },
        schedule: args.schedule,
        threads: args.threads.unwrap_or(0),
        instruction_budget: args.budget.max(1),
        ..Options::default()
    };
    let start = Instant::now();
    let report = launch(&program, &kernel.name, &config, &memory, &Device::default(), &options)
        .map_err(|e| UsageError(e.to_string()))?;
    let time = start.elapsed();

    if !report.printed.is_empty() {
        let printed = &report.printed;
        output.result(
            printed.trim_end_matches('\n'),
            || json!({"event": "printed", "text": printed}),
        );
    }
    let mut tensors = Vec::new();
    for (name, region) in arguments.regions.iter().filter(|(_, r)| r.kept) {
        tensors.push((name.clone(), contents(region, &memory)?));
    }
    super::run::show(&tensors, output);
    if let Some(path) = &args.output {
        save(path, &tensors)?;
    }
    // Without a source the lines of the PTX are shown.
    let (name, text) = if is_source { (None, "") } else { (Some(file.as_str()), ptx.as_str()) };
    let mut printer = Printer::with(name.unwrap_or_default(), text);
    for finding in &report.findings {
        let shown = Shown::from(finding);
        output.result(&printer.text(&shown, name), || shown.json());
    }
    summary(kernel, &report, time, output);
    match report.errors().count() {
        0 => Ok(Exit::Success),
        n => Err(CheckError(format!("the checkers found {n} errors in `{}`", kernel.name)).into()),
    }
}

/// Options for compiling a source: its own folder is searched for headers, after those given.
pub(crate) fn compiler_options(
    path: &Path,
    include: &[std::path::PathBuf],
    more: &[String],
) -> Vec<String> {
    let mut options = more.to_vec();
    let own = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for folder in include.iter().map(std::path::PathBuf::as_path).chain([own]) {
        options.push(format!("--include-path={}", folder.display()));
    }
    options
}

/// The PTX of the file, and whether it was compiled from a source.
fn ptx_of(args: &EmulateArgs, output: &Output) -> Result<(String, bool)> {
    let path = &args.file;
    let extension = path.extension().and_then(|e| e.to_str());
    if !matches!(extension, Some("ptx" | "cu" | "cuh")) {
        let path = path.display();
        return Err(UsageError(format!("`{path}` ends neither with .cu nor with .ptx")).into());
    }
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading `{}`", path.display()))?;
    if extension == Some("ptx") {
        return Ok((text, false));
    }
    output.progress("compile", 0, 1);
    let found = find_nvrtc().ok_or(CudaCompileError::NoCompiler)?;
    let nvrtc = Nvrtc::load(&found.path)?;
    let options = compiler_options(path, &args.include, &args.nvrtc);
    let name = path.display().to_string();
    let compiled = compile_source(&nvrtc, &name, &text, Target::SM_90A, &options)?;
    output.finish();
    Ok((String::from_utf8(compiled.ptx).context("reading the PTX of NVRTC")?, true))
}

/// The kernel of a name, plain or mangled, or the only one.
fn kernel_of<'a>(program: &'a Program, name: Option<&str>) -> Result<&'a Kernel> {
    let kernels = program.kernels();
    let known = || {
        let names: Vec<&str> = kernels.iter().map(|k| k.name.as_str()).collect();
        names.join(", ")
    };
    let Some(name) = name else {
        return match kernels {
            [kernel] => Ok(kernel),
            [] => Err(UsageError("the file has no kernel".to_owned()).into()),
            _ => {
                Err(UsageError(format!("name one of the kernels with --entry: {}", known())).into())
            }
        };
    };
    if let Some(kernel) = program.kernel(name) {
        return Ok(kernel);
    }
    // Itanium C++ ABI 5.1.2: a name is preceded by its length.
    let mangled = format!("{}{name}", name.len());
    let matching: Vec<&Kernel> =
        kernels.iter().filter(|k| k.name.starts_with("_Z") && k.name.contains(&mangled)).collect();
    match matching[..] {
        [kernel] => Ok(kernel),
        [] => Err(UsageError(format!("there is no kernel `{name}`; there are {}", known())).into()),
        _ => Err(UsageError(format!("`{name}` names several kernels of {}", known())).into()),
    }
}

/// The parameter block.
fn parameters(kernel: &Kernel, given: &[String], arguments: &mut Arguments<'_>) -> Result<Vec<u8>> {
    if given.len() != kernel.params.len() {
        return Err(UsageError(format!(
            "`{}` takes {} parameters, {} arguments are given",
            kernel.name,
            kernel.params.len(),
            given.len()
        ))
        .into());
    }
    let mut block = vec![0; kernel.param_bytes as usize];
    for (i, (text, param)) in given.iter().zip(&kernel.params).enumerate() {
        let found = arguments.parse(text, i)?;
        if found.bytes.len() != param.size as usize {
            return Err(UsageError(format!(
                "parameter {i} (`{}`) has {} bytes, `{text}` has {}",
                param.name,
                param.size,
                found.bytes.len()
            ))
            .into());
        }
        let at = param.offset as usize;
        block[at..at + found.bytes.len()].copy_from_slice(&found.bytes);
    }
    Ok(block)
}

fn contents(region: &Region, memory: &DeviceMemory) -> Result<Tensor> {
    let mut tensor = Tensor::zeros(region.dtype, &region.shape)?;
    memory.read(region.address, tensor.bytes_mut())?;
    Ok(tensor)
}

fn save(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let bytes = match (path.extension().and_then(|e| e.to_str()), tensors) {
        (Some("npy"), [(_, tensor)]) => tensor_io::to_npy(tensor)?,
        (Some("npy"), _) => {
            let count = tensors.len();
            let reason =
                format!("a .npy file holds one tensor, there are {count}; use .safetensors");
            return Err(UsageError(reason).into());
        }
        _ => tensor_io::to_safetensors(tensors)?,
    };
    Ok(write_atomically(path, &bytes)?)
}

fn summary(kernel: &Kernel, report: &Report, time: std::time::Duration, output: &Output) {
    let errors = report.errors().count();
    let warnings = report.findings.len() - errors;
    let rate = report.lane_instructions as f64 / time.as_secs_f64().max(1e-9) / 1e6;
    let dropped = match report.dropped {
        0 => String::new(),
        n => format!(" ({n} more findings not shown)"),
    };
    output.result(
        &format!(
            "`{}`: {errors} errors, {warnings} warnings{dropped}; {} warp instructions, {} lane instructions, {} wgmma; {} ({rate:.0} M lane instructions/s)",
            kernel.name,
            report.warp_instructions,
            report.lane_instructions,
            report.wgmmas,
            duration(time)
        ),
        || {
            json!({"event": "emulated", "kernel": kernel.name, "errors": errors,
                "warnings": warnings, "dropped": report.dropped,
                "warp_instructions": report.warp_instructions,
                "lane_instructions": report.lane_instructions, "wgmmas": report.wgmmas,
                "registers": kernel.registers, "static_shared": kernel.static_shared,
                "seconds": time.as_secs_f64()})
        },
    );
}
