//! `zeroforge inspect`: what is in an artifact or a model.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use zeroforge_artifact::manifest::WeightStorage;
use zeroforge_artifact::program::{Kernel, ParamValue, Port, Program, Step};
use zeroforge_artifact::tensor_map::TensorMap;
use zeroforge_compiler::pipeline::prepare;
use zeroforge_graph::{text, view};
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportOptions, load_pt2};
use zeroforge_runtime::{Model, OpenOptions};

use crate::args::{GraphForm, InspectArgs};
use crate::exit::Exit;
use crate::output::{Output, bytes};

fn describe(program: &Program, port: &Port) -> String {
    let sizes: Vec<String> = port
        .shape
        .iter()
        .map(|e| match e.as_symbol().and_then(|s| program.symbols.get(s.0 as usize)) {
            Some(decl) => decl.name.clone(),
            None => e.to_string(),
        })
        .collect();
    format!("{}: {} [{}]", port.name, port.dtype, sizes.join(", "))
}

/// What a launch of a kernel has beyond a plain grid: `persistent, 1 block per SM, clusters of 2`.
fn launch_shape(kernel: &Kernel) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(n) = kernel.blocks_per_sm {
        parts.push(format!("persistent, {n} block{} per SM", if n == 1 { "" } else { "s" }));
    }
    if kernel.cluster > 1 {
        parts.push(format!("clusters of {}", kernel.cluster));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The tensor maps of a step with their places in its parameter block.
fn tensor_maps(step: &Step) -> impl Iterator<Item = (u32, &TensorMap)> {
    step.params.iter().filter_map(|p| match &p.value {
        ParamValue::TensorMap(map) => Some((p.at, &**map)),
        _ => None,
    })
}

/// The graph of a model, to a file or to standard output.
fn graph(args: &InspectArgs, form: GraphForm, output: &Output) -> Result<Exit> {
    let path = &args.artifact;
    let files = WeightFiles::none();
    let mut graph = load_pt2(path, &files, &ImportOptions::default())?.graph;
    if args.passes {
        graph = prepare(&graph, &files)?;
    }
    let text = match form {
        GraphForm::Text => text::print(&graph),
        GraphForm::Html => view::html(&graph),
        GraphForm::Dot => view::dot(&graph),
    };
    let summary = |file: Option<&Path>| {
        json!({
            "event": "graph",
            "name": graph.name,
            "nodes": graph.nodes.len(),
            "weights": graph.weights.len(),
            "file": file,
            "text": file.is_none().then_some(&text),
        })
    };
    match &args.output {
        Some(file) => {
            std::fs::write(file, &text).with_context(|| format!("writing `{}`", file.display()))?;
            let line = format!("{}: {} nodes", file.display(), graph.nodes.len());
            output.result(&line, || summary(Some(file)));
        }
        None => output.result(text.trim_end(), || summary(None)),
    }
    Ok(Exit::Success)
}

pub(crate) fn run(args: &InspectArgs, output: &Output) -> Result<Exit> {
    if let Some(form) = args.graph {
        return graph(args, form, output);
    }
    let model = Model::open(&args.artifact, &OpenOptions::default())?;
    let manifest = model.manifest();
    let mut text = String::new();
    let mut targets = Vec::new();
    writeln!(text, "{} ({})", manifest.name, bytes(model.artifact().bytes().len() as u64))?;
    writeln!(text, "  by {}", manifest.provenance.generator)?;
    for compiler in &manifest.provenance.compilers {
        writeln!(text, "  with {compiler}")?;
    }
    writeln!(text, "  from model {}", manifest.provenance.model_hash)?;
    let signed = if model.artifact().signature().is_some() { "signed" } else { "not signed" };
    writeln!(text, "  {signed}")?;
    let external = manifest
        .weights
        .iter()
        .filter(|w| matches!(w.storage, WeightStorage::External { .. }))
        .count();
    let total: u64 = manifest.weights.iter().map(|w| w.bytes).sum();
    writeln!(text, "  {} weights, {}, {external} external", manifest.weights.len(), bytes(total))?;
    for (i, entry) in manifest.targets.iter().enumerate() {
        let program = model.artifact().program(i)?;
        if i == 0 {
            for s in &program.symbols {
                writeln!(text, "  size {}: {} to {}", s.name, s.range.min, s.range.max)?;
            }
            for port in &program.inputs {
                writeln!(text, "  input {}", describe(&program, port))?;
            }
            for port in &program.outputs {
                let mutates = if port.mutates.is_some() { " (updates the input)" } else { "" };
                writeln!(text, "  output {}{mutates}", describe(&program, port))?;
            }
        }
        writeln!(
            text,
            "  target {}: {} kernels, {} steps",
            entry.target,
            program.kernels.len(),
            program.steps.len()
        )?;
        if args.steps {
            for step in &program.steps {
                let kernel = &program.kernels[step.kernel as usize];
                writeln!(text, "    {}  {}", kernel.doc, step.origin)?;
                if let Some(shape) = launch_shape(kernel) {
                    writeln!(text, "      {shape}")?;
                }
                for (at, map) in tensor_maps(step) {
                    let buffer = &program.buffers[map.buffer as usize].name;
                    writeln!(text, "      tensor map at {at} of `{buffer}`: {map}")?;
                }
            }
        }
        targets.push(json!({
            "target": entry.target.to_string(),
            "kernels": program.kernels.iter().map(|k| json!({
                "entry": k.entry,
                "doc": k.doc,
                "block": k.block,
                "shared_bytes": k.shared_bytes,
                "cluster": k.cluster,
                "blocks_per_sm": k.blocks_per_sm,
            })).collect::<Vec<_>>(),
            "tensor_maps": program.steps.iter().enumerate().flat_map(|(i, step)| {
                tensor_maps(step).map(move |(at, map)| json!({"step": i, "at": at, "map": map}))
            }).collect::<Vec<_>>(),
            "steps": program.steps.len(),
            "inputs": program.inputs,
            "outputs": program.outputs,
            "symbols": program.symbols,
        }));
    }
    output.result(text.trim_end(), || {
        json!({
            "event": "artifact",
            "name": manifest.name,
            "provenance": manifest.provenance,
            "signed": model.artifact().signature().is_some(),
            "weights": manifest.weights.len(),
            "weight_bytes": total,
            "external_weights": external,
            "targets": targets,
        })
    });
    Ok(Exit::Success)
}
