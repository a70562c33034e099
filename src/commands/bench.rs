//! `zeroforge bench`: time from opening to first output, and latency of warm calls.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use zeroforge_artifact::program::Program;
use zeroforge_runtime::{Model, OpenOptions, RunError, SessionOptions, Tensor};

use crate::args::BenchArgs;
use crate::exit::{Exit, UsageError};
use crate::output::{Output, duration};

pub(crate) fn run(args: &BenchArgs, output: &Output) -> Result<Exit> {
    let start = Instant::now();
    let model = Model::open(&args.artifact, &OpenOptions::default())?;
    let options = SessionOptions { threads: args.threads, ..Default::default() };
    let mut session = crate::software::open(&model, args.device, options, output)?;
    let inputs = if args.input.is_empty() {
        random_inputs(session.program(), &args.size)?
    } else {
        let ports = &session.program().inputs;
        super::run::inputs(&args.input, &|name| {
            ports.iter().find(|p| p.name == name).map(|p| p.dtype)
        })?
    };
    if let Err(e) = session.run(inputs.clone()) {
        return crate::software::failed(e.into(), output);
    }
    let first = start.elapsed();
    let mut times = Vec::with_capacity(args.runs);
    for _ in 0..args.runs.max(1) {
        let inputs = inputs.clone();
        let start = Instant::now();
        session.run(inputs)?;
        times.push(start.elapsed());
    }
    times.sort();
    let (least, median) = (times[0], times[times.len() / 2]);
    output.result(
        &format!(
            "open to first output {}; {} calls: median {}, least {} ({})",
            duration(first),
            times.len(),
            duration(median),
            duration(least),
            session.device()
        ),
        || {
            let s = |d: Duration| d.as_secs_f64();
            json!({"event": "bench", "open_to_first_output": s(first), "median": s(median),
                "least": s(least), "runs": times.len(), "device": session.device()})
        },
    );
    crate::software::report(output)
}

/// Inputs of the chosen sizes: zeros and ones for integers, small numbers for floats.
fn random_inputs(program: &Program, sizes: &[String]) -> Result<Vec<(String, Tensor)>> {
    let mut values: Vec<i64> = program.symbols.iter().map(|s| s.range.min).collect();
    for text in sizes {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| UsageError(format!("size `{text}` is not of the form NAME=N")))?;
        let Some(at) = program.symbols.iter().position(|s| s.name == name) else {
            let known: Vec<&str> = program.symbols.iter().map(|s| s.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let reason = format!("the model has no size `{name}`; it has {known}");
            return Err(RunError::Guard(reason).into());
        };
        values[at] = value
            .parse()
            .map_err(|_| UsageError(format!("size `{text}`: `{value}` is no whole number")))?;
    }
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        // xorshift64: only the spread of values matters here.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut inputs = Vec::new();
    for port in &program.inputs {
        let shape: Vec<i64> =
            port.shape.iter().map(|e| e.eval(&values)).collect::<Result<_, _>>()?;
        let mut tensor = Tensor::zeros(port.dtype, &shape)?;
        let size = port.dtype.size();
        for element in tensor.bytes_mut().chunks_exact_mut(size) {
            let bits = next();
            if port.dtype.is_float() {
                let v = (bits >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
                match size {
                    4 => element.copy_from_slice(&v.to_le_bytes()),
                    8 => element.copy_from_slice(&f64::from(v).to_le_bytes()),
                    // The upper half of an f32 is a bf16; as f16 bits it is a small number too.
                    _ => element.copy_from_slice(&v.to_le_bytes()[2..]),
                }
            } else {
                element[0] = (bits & 1) as u8;
            }
        }
        inputs.push((port.name.clone(), tensor));
    }
    Ok(inputs)
}
