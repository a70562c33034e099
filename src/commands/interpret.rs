//! `zeroforge run --graph`: a model by the reference interpreter, without compiling it.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;
use zeroforge_artifact::container::write_atomically;
use zeroforge_graph::interpret::{self, InterpretOptions, Interpreter};
use zeroforge_graph::ir::OutputKind;
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportOptions, load_pt2};
use zeroforge_runtime::{Tensor, tensor_io};

use crate::args::RunArgs;
use crate::exit::Exit;
use crate::output::{Output, duration};

fn to_runtime(tensor: &interpret::Tensor) -> Result<Tensor> {
    let shape: Vec<i64> = tensor.shape.iter().map(|&n| n as i64).collect();
    Ok(Tensor::from_bytes(tensor.dtype, &shape, &tensor.to_bytes())?)
}

fn from_runtime(name: &str, tensor: &Tensor) -> Result<interpret::Tensor> {
    let shape: Vec<usize> =
        tensor.shape().iter().map(|&n| usize::try_from(n)).collect::<Result<_, _>>()?;
    interpret::Tensor::from_bytes(tensor.dtype(), &shape, tensor.bytes())
        .with_context(|| format!("input `{name}` has not the bytes of its shape"))
}

pub(crate) fn run(args: &RunArgs, output: &Output) -> Result<Exit> {
    let mut files = WeightFiles::none();
    for path in &args.weights {
        files.add(path)?;
    }
    let imported = load_pt2(&args.artifact, &files, &ImportOptions::default())?;
    let graph = &imported.graph;
    let dtype_of =
        |name: &str| graph.inputs.iter().find(|i| i.name == name).map(|i| graph.ty(i.value).dtype);
    let inputs = super::run::inputs(&args.input, &dtype_of)?;
    let inputs: Vec<(String, interpret::Tensor)> = inputs
        .into_iter()
        .map(|(name, t)| from_runtime(&name, &t).map(|t| (name, t)))
        .collect::<Result<_>>()?;
    let options = InterpretOptions { keep_values: args.dump.is_some(), ..Default::default() };
    let start = Instant::now();
    let result = Interpreter::new(graph, Some(&files), options).run(&inputs)?;
    let time = start.elapsed();
    let mut outputs = Vec::new();
    for (port, tensor) in graph.outputs.iter().zip(&result.outputs) {
        if !matches!(port.kind, OutputKind::BufferMutation(_)) {
            outputs.push((port.name.clone(), to_runtime(tensor)?));
        }
    }
    if let Some(path) = &args.output {
        write_atomically(path, &tensor_io::to_safetensors(&outputs)?)?;
    }
    if let Some(path) = &args.dump {
        let mut values = Vec::new();
        for (name, value) in &imported.values {
            if let Some(tensor) = &result.values[value.0 as usize] {
                values.push((name.clone(), to_runtime(tensor)?));
            }
        }
        write_atomically(path, &tensor_io::to_safetensors(&values)?)?;
    }
    super::run::show(&outputs, output);
    output.result(
        &format!("{} nodes interpreted in {}", graph.nodes.len(), duration(time)),
        || json!({"event": "interpreted", "nodes": graph.nodes.len(), "seconds": time.as_secs_f64()}),
    );
    Ok(Exit::Success)
}
