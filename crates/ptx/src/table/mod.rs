//! The instruction table: every instruction that is known, as rows ([`Form`]).
//!
//! A row's `pattern` is its mnemonic with alternatives: `[.a|.b]` is optional, `(.a|.b)` a choice, and
//! `<name>` a choice that has a name ([`pattern`]). A mnemonic matches exactly one row. A row's
//! `operands` says what follows ([`operands`]).

mod modifier;
mod opcode;
pub mod operands;
pub mod pattern;
mod rows;
pub mod sample;

use std::collections::HashMap;
use std::sync::LazyLock;

pub use modifier::Modifier;
pub use opcode::Opcode;
pub use operands::{Count, Kind, OperandSpec, Presence, Role, Ty};

use pattern::Pattern;

/// The oldest target that has an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    /// `sm_80` and older.
    Sm80,
    /// `sm_90`.
    Sm90,
    /// `sm_90a` only: not carried on to later targets.
    Sm90a,
}

/// A row of the table.
#[derive(Debug, PartialEq)]
pub struct Form {
    /// The opcode.
    pub opcode: Opcode,
    /// The mnemonic with its alternatives: `add[.rn|.rz|.rm|.rp][.ftz][.sat].f32`.
    pub pattern: &'static str,
    /// Operand signature: `d:T, a:T, b:T`.
    pub operands: &'static str,
    /// Section of the PTX ISA.
    pub section: &'static str,
    /// The oldest target that has it.
    pub arch: Arch,
}

const fn row(
    opcode: Opcode,
    pattern: &'static str,
    operands: &'static str,
    section: &'static str,
) -> Form {
    Form { opcode, pattern, operands, section, arch: Arch::Sm80 }
}

impl Form {
    const fn since(self, arch: Arch) -> Form {
        Form { arch, ..self }
    }

    /// What its operands are.
    pub fn operand_specs(&'static self) -> &'static [OperandSpec] {
        TABLE.by_pattern.get(self.pattern).map_or(&[], |&i| &TABLE.rows[i].operands)
    }

    /// Its pattern, compiled.
    pub fn compiled(&'static self) -> Option<&'static Pattern> {
        TABLE.by_pattern.get(self.pattern).map(|&i| &TABLE.rows[i].pattern)
    }
}

struct Row {
    form: &'static Form,
    pattern: Pattern,
    operands: Vec<OperandSpec>,
}

struct Table {
    rows: Vec<Row>,
    by_pattern: HashMap<&'static str, usize>,
    by_head: HashMap<String, Vec<usize>>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table { rows: Vec::new(), by_pattern: HashMap::new(), by_head: HashMap::new() };
    for form in rows::ALL.iter().flat_map(|part| part.iter()) {
        // The rows are constants: a test compiles each of them.
        let pattern = Pattern::compile(form.pattern)
            .unwrap_or_else(|e| panic!("the table's row `{}`: {e}", form.pattern));
        let operands = operands::compile(form.operands)
            .unwrap_or_else(|e| panic!("operands of `{}`: {e}", form.pattern));
        let index = table.rows.len();
        table.by_pattern.insert(form.pattern, index);
        table.by_head.entry(pattern.head().to_owned()).or_default().push(index);
        table.rows.push(Row { form, pattern, operands });
    }
    table
});

/// All rows, by section.
pub fn forms() -> impl Iterator<Item = &'static Form> {
    TABLE.rows.iter().map(|row| row.form)
}

/// All rows that a mnemonic matches: one, unless it is unknown.
pub fn matching(mnemonic: &str) -> Vec<&'static Form> {
    let tokens: Vec<&str> = mnemonic.split('.').collect();
    let rows = TABLE.by_head.get(tokens[0]).map_or(&[][..], Vec::as_slice);
    let hits = rows.iter().map(|&i| &TABLE.rows[i]).filter(|row| row.pattern.matches(&tokens));
    hits.map(|row| row.form).collect()
}

/// The row of a mnemonic and its modifiers in order.
pub fn find(mnemonic: &str) -> Option<(&'static Form, Vec<Modifier>)> {
    let form = *matching(mnemonic).first()?;
    let rest = mnemonic.strip_prefix(form.opcode.text())?;
    let modifiers: Option<Vec<Modifier>> =
        rest.split('.').skip(1).map(Modifier::from_text).collect();
    Some((form, modifiers?))
}

/// The rows nearest to an unknown mnemonic, best first: `(edit distance, row)`.
pub fn nearest(mnemonic: &str, count: usize) -> Vec<&'static Form> {
    let tokens: Vec<&str> = mnemonic.split('.').take(24).collect();
    let mut scored: Vec<(usize, usize)> =
        TABLE.rows.iter().enumerate().map(|(i, row)| (row.pattern.distance(&tokens), i)).collect();
    scored.sort_unstable();
    scored.into_iter().take(count).map(|(_, i)| TABLE.rows[i].form).collect()
}
