//! Machine code to instructions, by NVIDIA's disassembler.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::instruction::{Control, Instruction};
use crate::{Entry, SassError};

/// `nvdisasm`.
#[derive(Clone, Debug)]
pub struct Disassembler {
    path: PathBuf,
}

impl Disassembler {
    /// With the tool at a path.
    pub fn new(path: &Path) -> Disassembler {
        Disassembler { path: path.to_owned() }
    }

    /// The instructions of kernels of a cubin, by kernel name.
    ///
    /// # Errors
    ///
    /// The tool cannot be run, refuses the cubin, or prints what is unknown.
    pub fn run(
        &self,
        cubin: &[u8],
        kernels: &[&Entry],
    ) -> Result<BTreeMap<String, Vec<Instruction>>, SassError> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(cubin)?;
        let symbols: Vec<String> = kernels.iter().map(|k| k.symbol.to_string()).collect();
        let result = Command::new(&self.path)
            .args(["-c", "-hex", "-ndf", "-fun", &symbols.join(",")])
            .arg(file.path())
            .stdin(Stdio::null())
            .output()
            .map_err(|source| SassError::Run { path: self.path.clone(), source })?;
        if !result.status.success() {
            let log = String::from_utf8_lossy(&result.stderr);
            return Err(SassError::Disassembler(log.trim().to_owned()));
        }
        parse(&String::from_utf8_lossy(&result.stdout))
    }
}

/// A line `/*0070*/ @!P0 BRA ... ; /* 0x... */`.
struct Line<'a> {
    address: u64,
    text: &'a str,
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

fn line(text: &str) -> Option<Line<'_>> {
    let rest = text.strip_prefix("/*")?;
    let (address, rest) = rest.split_once("*/")?;
    let (code, encoding) = rest.rsplit_once("/*")?;
    // The first word of the encoding; the second one has the control code.
    hex(encoding.strip_suffix("*/")?)?;
    let code = code.trim_end();
    Some(Line {
        address: u64::from_str_radix(address.trim(), 16).ok()?,
        text: code.strip_suffix(';').unwrap_or(code).trim(),
    })
}

/// The second word of an instruction: a line of its own.
fn second_word(text: &str) -> Option<u64> {
    hex(text.strip_prefix("/*")?.strip_suffix("*/")?)
}

/// The label in `` `(.L_x_1) ``.
fn label_of(operand: &str) -> Option<&str> {
    operand.strip_prefix("`(")?.strip_suffix(')')
}

/// Splits at commas outside of brackets.
fn operands(text: &str) -> Vec<String> {
    let mut list = Vec::new();
    let mut depth = 0u32;
    let mut start = 0;
    for (i, c) in text.char_indices() {
        match c {
            '[' | '(' | '{' => depth += 1,
            ']' | ')' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                list.push(text[start..i].trim().to_owned());
                start = i + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        list.push(last.to_owned());
    }
    list
}

fn instruction(line: &Line<'_>, high: u64) -> Instruction {
    let mut text = line.text;
    let mut predicate = None;
    if let Some((p, rest)) = text.strip_prefix('@').and_then(|t| t.split_once(' ')) {
        predicate = Some(p.to_owned());
        text = rest.trim_start();
    }
    let (opcode, rest) = text.split_once(' ').unwrap_or((text, ""));
    Instruction {
        address: line.address,
        predicate,
        opcode: opcode.to_owned(),
        operands: operands(rest),
        target: None,
        control: Control::decode(high),
    }
}

/// Reads what `nvdisasm -c -hex` prints.
///
/// # Errors
///
/// [`SassError::Text`] for a line that is not understood, or a branch to a label that does not exist.
pub fn parse(text: &str) -> Result<BTreeMap<String, Vec<Instruction>>, SassError> {
    let mut kernels: BTreeMap<String, Vec<Instruction>> = BTreeMap::new();
    let mut labels: BTreeMap<String, u64> = BTreeMap::new();
    let mut waiting: Vec<String> = Vec::new();
    let mut name: Option<String> = None;
    let mut code: Vec<Instruction> = Vec::new();
    let mut first: Option<(usize, Line<'_>)> = None;
    let mut finish = |name: &mut Option<String>,
                      code: &mut Vec<Instruction>,
                      labels: &mut BTreeMap<String, u64>|
     -> Result<(), SassError> {
        for i in code.iter_mut() {
            if let Some(label) = i.operands.iter().find_map(|o| label_of(o)) {
                i.target = labels.get(label).copied();
            }
        }
        labels.clear();
        if let Some(name) = name.take() {
            kernels.insert(name, std::mem::take(code));
        }
        Ok(())
    };
    for (number, raw) in text.lines().enumerate() {
        let unknown =
            |reason: &str| SassError::Text { line: number + 1, reason: reason.to_owned() };
        let t = raw.trim();
        if let Some((at, pending)) = first.take() {
            let Some(high) = second_word(t) else {
                return Err(SassError::Text {
                    line: at + 1,
                    reason: "an instruction without its second word".into(),
                });
            };
            for label in waiting.drain(..) {
                labels.insert(label, pending.address);
            }
            code.push(instruction(&pending, high));
            continue;
        }
        if let Some(section) = t.strip_prefix(".section") {
            finish(&mut name, &mut code, &mut labels)?;
            let section = section.trim().split(',').next().unwrap_or_default();
            name = section.strip_prefix(".text.").map(|n| n.trim_matches('"').to_owned());
        } else if t.starts_with("/*") {
            if name.is_none() {
                return Err(unknown("an instruction outside of a code section"));
            }
            first = Some((
                number,
                line(t).ok_or_else(|| unknown("neither an instruction nor its encoding"))?,
            ));
        } else if let Some(label) = t.strip_suffix(':') {
            waiting.push(label.trim_matches('"').to_owned());
        }
    }
    if let Some((at, _)) = first {
        return Err(SassError::Text {
            line: at + 1,
            reason: "the last instruction is cut off".into(),
        });
    }
    finish(&mut name, &mut code, &mut labels)?;
    Ok(kernels)
}
