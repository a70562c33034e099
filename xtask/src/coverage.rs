//! The instruction-coverage page: every row of the PTX table, whether the emulator executes it, and which
//! test files do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use zeroforge_emulator::{DeviceMemory, Program};
use zeroforge_ptx::table::{self, Form, sample};

/// Texts drawn per row.
const SAMPLES: usize = 12;
const PAGE: &str = "docs/ptx-coverage.md";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What the emulator says to a row.
enum Support {
    Executed,
    /// Some of its forms, with the reason that the others are refused.
    Partly(String),
    Refused(String),
}

fn support(form: &'static Form) -> Result<Support> {
    if matches!(form.opcode, table::Opcode::Call | table::Opcode::BrxIdx) {
        return Ok(Support::Executed);
    }
    let mut reasons = BTreeSet::new();
    let mut loaded = 0;
    for text in sample::samples(form, SAMPLES) {
        let module = format!(
            ".version 8.8\n.target sm_90a\n.address_size 64\n{}\n.entry k() {{ {}\n{text}\nEND: ret; }}",
            sample::VARIABLE,
            sample::REGISTERS
        );
        let module = zeroforge_ptx::parse(&module).with_context(|| text.clone())?;
        match Program::load(&module, &DeviceMemory::new(1 << 20)) {
            Ok(_) => loaded += 1,
            Err(zeroforge_emulator::LoadError::Instruction { reason, .. }) => {
                reasons.insert(reason);
            }
            Err(other) => bail!("{text}: {other}"),
        }
    }
    let why = || reasons.iter().cloned().collect::<Vec<_>>().join("; ");
    Ok(match (loaded, reasons.is_empty()) {
        (_, true) => Support::Executed,
        (0, false) => Support::Refused(why()),
        _ => Support::Partly(why()),
    })
}

/// Runs the emulator's tests and collects which of them execute which row.
fn exercised(folder: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder)?;
    let status = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--locked", "--package", "zeroforge-emulator", "--tests"])
        .env("ZEROFORGE_COVERAGE", folder)
        .current_dir(root())
        .status()?;
    if !status.success() {
        bail!("the emulator's tests fail; the page is made of their runs");
    }
    let mut rows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let test = path.file_stem().unwrap_or_default().to_string_lossy();
        let test = test.split('.').next().unwrap_or_default().to_owned();
        for pattern in std::fs::read_to_string(&path)?.lines() {
            rows.entry(pattern.to_owned()).or_default().insert(test.clone());
        }
    }
    Ok(rows)
}

/// Writes the page.
pub(crate) fn write() -> Result<()> {
    let ran = exercised(&root().join("target/coverage"))?;
    let mut page = String::from(
        "# PTX instructions\n\n\
        Every row of the instruction table (`crates/ptx/src/table`), what the emulator does with it, and the files of\n\
        `crates/emulator/tests` whose kernels execute it. Made by `make coverage`; do not edit.\n\n\
        A row is a mnemonic with its alternatives: `[.a|.b]` may be left out, `(.a|.b)` is a choice. \"Partly\" names\n\
        what is refused of a row when a module is loaded; nothing is refused later.\n\n",
    );
    let mut table = String::new();
    let (mut executed, mut refused, mut tested) = (0, 0, 0);
    for form in table::forms() {
        let support = support(form)?;
        let tests = ran.get(form.pattern).cloned().unwrap_or_default();
        let status = match &support {
            Support::Executed => "executed".to_owned(),
            Support::Partly(why) => format!("partly; refused: {why}"),
            Support::Refused(why) => format!("refused: {why}"),
        };
        match support {
            Support::Refused(_) => refused += 1,
            _ => executed += 1,
        }
        tested += usize::from(!tests.is_empty());
        let tests = tests.into_iter().collect::<Vec<_>>().join(", ");
        let cell = |text: &str| text.replace('|', "\\|");
        writeln!(
            table,
            "| `{}` | {} | {} | {} |",
            cell(form.pattern),
            form.section,
            cell(&status),
            tests
        )?;
    }
    writeln!(
        page,
        "{executed} rows are executed in whole or in part, {tested} of them by a test file; {refused} are refused.\n\n\
        | instruction | PTX ISA | emulator | executed by |\n|---|---|---|---|\n{table}"
    )?;
    let page = page.trim_end().to_owned() + "\n";
    std::fs::write(root().join(PAGE), page)?;
    println!("{PAGE}: {executed} executed, {tested} tested, {refused} refused");
    Ok(())
}
