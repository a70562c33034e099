//! Graph passes on real exports: the graph after each pass computes what it computed before.
//!
//! Every fixture is imported and interpreted before and after the passes, one by one and as the whole
//! pipeline. `FIXTURE=name cargo test --test passes` runs those whose name contains `name`.

mod conversion;
mod expected;

use std::path::Path;

use conversion::{from_interpreter, into_interpreter};
use expected::{Expected, archives, compare, folder, read_expected};
use libtest_mimic::{Arguments, Failed, Trial};
use zeroforge_compiler::passes::PIPELINE;
use zeroforge_graph::interpret::{InterpretOptions, Interpreter, Tensor};
use zeroforge_graph::{Graph, verify};
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportOptions, load_pt2};

/// Passes that keep every bit.
const EXACT: [&str; 5] = ["simplify", "cse", "dce", "recognize_mask", "recognize_gqa"];

/// All outputs of all cases, in order.
fn interpret(graph: &Graph, expected: &Expected) -> Result<Vec<Tensor>, Failed> {
    let mut interpreter = Interpreter::new(graph, None, InterpretOptions::default());
    let mut out = Vec::new();
    for case in expected.cases.values() {
        let inputs = case
            .inputs
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), into_interpreter(tensor)?)))
            .collect::<Result<Vec<_>, Failed>>()?;
        out.extend(interpreter.run(&inputs)?.outputs.iter().map(|t| (**t).clone()));
    }
    Ok(out)
}

fn run(pt2: &Path) -> Result<(), Failed> {
    let files = WeightFiles::none();
    let mut graph = load_pt2(pt2, &files, &ImportOptions::default())?.graph;
    let expected = read_expected(&pt2.with_extension("safetensors"))?;
    let imported = interpret(&graph, &expected)?;
    let mut before = imported.clone();
    for pass in PIPELINE {
        graph = pass.run(&graph, Some(&files))?;
        verify(&graph).map_err(|e| format!("after {}: {e}", pass.name))?;
        let after = interpret(&graph, &expected)?;
        if EXACT.contains(&pass.name) {
            let bytes = |list: &[Tensor]| list.iter().map(Tensor::to_bytes).collect::<Vec<_>>();
            if bytes(&before) != bytes(&after) {
                return Err(format!("`{}` is not exact", pass.name).into());
            }
        }
        for (i, (found, tensor)) in after.iter().zip(&imported).enumerate() {
            let (found, tensor) = (from_interpreter(found)?, from_interpreter(tensor)?);
            compare(&format!("after {}, output {i}", pass.name), &found, &tensor, &expected)?;
        }
        before = after;
    }
    Ok(())
}

fn main() {
    let args = Arguments::from_args();
    let mut trials = Vec::new();
    for (name, path) in archives() {
        // These archives are refused; `fixtures` checks how.
        if !name.ends_with("_torch28") {
            trials.push(Trial::test(name, move || run(&path)));
        }
    }
    assert!(!trials.is_empty(), "no fixtures in {}", folder().display());
    libtest_mimic::run(&args, trials).exit();
}
