//! What compilers emit: it parses, verifies, and comes back from print as it was.

use std::path::{Path, PathBuf};

/// The files of `tests/corpus`, and of the folder that `ZEROFORGE_PTX_CORPUS` names.
fn corpus() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let more = std::env::var_os("ZEROFORGE_PTX_CORPUS").map(PathBuf::from);
    let mut files: Vec<PathBuf> = [Some(own), more]
        .into_iter()
        .flatten()
        .flat_map(|folder| std::fs::read_dir(folder).expect("a folder of PTX"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "ptx"))
        .collect();
    files.sort();
    files
}

#[test]
fn it_parses() {
    let mut failures = Vec::new();
    for path in corpus() {
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        if let Err(error) = zeroforge_ptx::parse(&text) {
            failures.push(format!("{}:{error}", path.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A module without what printing may change: the lines of the text.
fn without_lines(mut module: zeroforge_ptx::Module) -> zeroforge_ptx::Module {
    for function in &mut module.functions {
        for instruction in function.body.iter_mut().flat_map(|b| &mut b.instructions) {
            instruction.line = 0;
        }
    }
    module
}

/// Names of registers, labels and variables, which printing makes distinct.
fn without_names(mut module: zeroforge_ptx::Module) -> zeroforge_ptx::Module {
    for body in module.functions.iter_mut().filter_map(|f| f.body.as_mut()) {
        body.registers.iter_mut().for_each(|r| r.name.clear());
        body.labels.iter_mut().for_each(|l| l.name.clear());
        body.variables.iter_mut().for_each(|v| v.name.clear());
    }
    module
}

#[test]
fn printing_is_a_fixpoint() {
    for path in corpus() {
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        let first = zeroforge_ptx::parse(&text).expect("PTX");
        let printed = zeroforge_ptx::print(&first);
        let again = zeroforge_ptx::parse(&printed)
            .unwrap_or_else(|e| panic!("{}: printed:{e}", path.display()));
        let same =
            without_names(without_lines(first)) == without_names(without_lines(again.clone()));
        assert!(same, "{}: the printed module is another", path.display());
        assert!(zeroforge_ptx::print(&again) == printed, "{}: no fixpoint", path.display());
        let third = zeroforge_ptx::parse(&printed).expect("PTX");
        assert!(third == again, "{}", path.display());
    }
}

#[test]
fn it_verifies() {
    let mut failures = Vec::new();
    for path in corpus() {
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        let module = zeroforge_ptx::parse(&text).expect("PTX");
        if let Err(error) = zeroforge_ptx::verify(&module) {
            failures.push(format!("{}: {}", path.display(), error.problems[0]));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
