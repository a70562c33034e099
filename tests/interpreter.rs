//! Every fixture of `tests/fixtures`, imported and interpreted, compared with what eager torch
//! computed. Checks importer and interpreter without a compiler in between.
//!
//! `FIXTURE=name cargo test --test interpreter` runs those whose name contains `name`.

mod conversion;
mod expected;

use std::path::Path;

use conversion::{from_interpreter, into_interpreter};
use expected::{archives, compare, folder, read_expected};
use libtest_mimic::{Arguments, Failed, Trial};
use zeroforge_graph::interpret::{InterpretOptions, Interpreter};
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportOptions, load_pt2};

fn run(pt2: &Path) -> Result<(), Failed> {
    let files = WeightFiles::none();
    let graph = load_pt2(pt2, &files, &ImportOptions::default())?.graph;
    let expected = read_expected(&pt2.with_extension("safetensors"))?;
    if expected.cases.is_empty() {
        return Err("the fixture has no cases".into());
    }
    let mut interpreter = Interpreter::new(&graph, Some(&files), InterpretOptions::default());
    for (i, case) in &expected.cases {
        let inputs = case
            .inputs
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), into_interpreter(tensor)?)))
            .collect::<Result<Vec<_>, Failed>>()?;
        let run = interpreter.run(&inputs)?;
        for (name, tensor) in &case.expected {
            let at = graph.outputs.iter().position(|o| o.name == *name);
            let at = at.ok_or_else(|| format!("case {i}: no output `{name}`"))?;
            let found = from_interpreter(&run.outputs[at])?;
            compare(&format!("case {i}, {name}"), &found, tensor, &expected)?;
        }
        for (name, tensor) in &case.buffers {
            let found = interpreter.state(name).ok_or_else(|| format!("no state `{name}`"))?;
            let found = from_interpreter(found)?;
            compare(&format!("case {i}, buffer {name}"), &found, tensor, &expected)?;
        }
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
