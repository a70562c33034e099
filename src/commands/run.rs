//! `zeroforge run`: an artifact on named inputs.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;
use zeroforge_artifact::DType;
use zeroforge_artifact::container::write_atomically;
use zeroforge_runtime::{Model, OpenOptions, RunError, SessionOptions, Tensor, tensor_io};

use crate::args::RunArgs;
use crate::exit::Exit;
use crate::output::{Output, duration};

pub(crate) fn run(args: &RunArgs, output: &Output) -> Result<Exit> {
    if args.graph {
        return super::interpret::run(args, output);
    }
    let start = Instant::now();
    let options =
        OpenOptions { trusted_keys: super::keys::read_public(&args.trust)?, ..Default::default() };
    let model = Model::open(&args.artifact, &options)?;
    let open = start.elapsed();
    let load_start = Instant::now();
    let options = SessionOptions {
        threads: args.threads,
        external_weights: args.weights.clone(),
        profile: args.profile,
    };
    let mut session = crate::software::open(&model, args.device, options, output)?;
    let load = load_start.elapsed();
    let dtypes =
        |name: &str| session.program().inputs.iter().find(|p| p.name == name).map(|p| p.dtype);
    let inputs = inputs(&args.input, &dtypes)?;
    let outputs = match session.run(inputs) {
        Ok(outputs) => outputs,
        // What the checkers found is why a kernel failed.
        Err(e) => return crate::software::failed(e.into(), output),
    };
    let phases = session.phases().clone();
    if let Some(path) = &args.output {
        write_atomically(path, &tensor_io::to_safetensors(&outputs)?)?;
    }
    show(&outputs, output);
    if args.profile {
        for step in session.profile() {
            let rate = step.flops as f64 / step.time.as_secs_f64() / 1e9;
            output.result(
                &format!("{:>10}  {rate:7.1} GFLOP/s  {}  {}", duration(step.time), step.kernel, step.origin),
                || json!({"event": "step", "seconds": step.time.as_secs_f64(), "kernel": step.kernel, "origin": step.origin}),
            );
        }
    }
    output.result(
        &format!(
            "open {}, load {}, bind {}, compute {}",
            duration(open),
            duration(load),
            duration(phases.bind),
            duration(phases.compute)
        ),
        || {
            json!({"event": "phases", "open": open.as_secs_f64(), "load": load.as_secs_f64(),
                "bind": phases.bind.as_secs_f64(), "compute": phases.compute.as_secs_f64()})
        },
    );
    crate::software::report(output)
}

/// Inputs from the command line; `dtype_of` knows the model's inputs.
pub(crate) fn inputs(
    given: &[String],
    dtype_of: &dyn Fn(&str) -> Option<DType>,
) -> Result<Vec<(String, Tensor)>> {
    let mut inputs = Vec::new();
    for text in given {
        let Some((name, value)) = text.split_once('=') else {
            inputs.extend(tensor_io::read_safetensors(Path::new(text))?);
            continue;
        };
        let path = Path::new(value);
        let tensor = match path.extension().and_then(|e| e.to_str()) {
            Some("npy") => tensor_io::read_npy(path)?,
            Some("safetensors") => {
                let tensors = tensor_io::read_safetensors(path)?;
                let found = tensors.into_iter().find(|(n, _)| n == name);
                let missing = || RunError::Tensor(format!("`{value}` holds no tensor `{name}`"));
                found.ok_or_else(missing)?.1
            }
            _ => {
                let dtype = dtype_of(name).unwrap_or(DType::F32);
                tensor_io::from_json(value, dtype).with_context(|| format!("input `{name}`"))?
            }
        };
        inputs.push((name.to_owned(), tensor));
    }
    Ok(inputs)
}

/// Prints outputs.
pub(crate) fn show(outputs: &[(String, Tensor)], output: &Output) {
    for (name, tensor) in outputs {
        output.result(&format!("{name}: {} {:?} {}", tensor.dtype(), tensor.shape(), preview(tensor)), || {
            json!({"event": "output", "name": name, "dtype": tensor.dtype().name(), "shape": tensor.shape()})
        });
    }
}

/// The first few values.
fn preview(tensor: &Tensor) -> String {
    let values: Vec<String> = tensor.to_f64().iter().take(6).map(|v| format!("{v:.6}")).collect();
    let more = if values.len() == 6 { ", ..." } else { "" };
    format!("[{}{more}]", values.join(", "))
}
