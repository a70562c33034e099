//! Findings of the emulator's checkers, for people and for machines, whether they come from the emulator itself or
//! from the software device.

use std::collections::HashMap;
use std::fmt::Write;

use serde_json::{Value, json};
use zeroforge_compiler::cuda::kernel_source;
use zeroforge_emulator::{Finding, Party, Severity};

/// Threads at a place.
struct Place {
    block: Vec<u64>,
    warp: u64,
    lanes: u64,
    file: Option<String>,
    line: u64,
    ptx_line: u64,
    instruction: String,
}

impl Place {
    fn of(party: &Party) -> Place {
        Place {
            block: party.cta.iter().map(|&n| n.into()).collect(),
            warp: party.warp.into(),
            lanes: party.lanes.into(),
            file: party.at.source.as_ref().map(|s| s.0.clone()),
            line: party.at.source.as_ref().map_or(0, |s| s.1.into()),
            ptx_line: party.at.ptx_line.into(),
            instruction: party.at.instruction.clone(),
        }
    }

    fn from_json(value: &Value) -> Place {
        let number = |key: &str| value[key].as_u64().unwrap_or(0);
        let block = value["block"].as_array().into_iter().flatten();
        Place {
            block: block.filter_map(Value::as_u64).collect(),
            warp: number("warp"),
            lanes: number("lanes"),
            file: value["file"].as_str().map(str::to_owned),
            line: number("line"),
            ptx_line: number("ptx_line"),
            instruction: value["instruction"].as_str().unwrap_or_default().to_owned(),
        }
    }

    fn json(&self) -> Value {
        json!({"block": self.block, "warp": self.warp, "lanes": self.lanes, "file": self.file,
            "line": self.file.is_some().then_some(self.line), "ptx_line": self.ptx_line,
            "instruction": self.instruction})
    }

    fn who(&self) -> String {
        let block: Vec<String> = self.block.iter().map(u64::to_string).collect();
        let lanes = match (self.lanes, self.lanes.count_ones()) {
            (0xffff_ffff, _) => "all lanes".to_owned(),
            (mask, 1) => format!("lane {}", mask.trailing_zeros()),
            (mask, _) => format!("lanes {mask:#010x}"),
        };
        format!("block ({}) warp {} {lanes}", block.join(", "), self.warp)
    }
}

/// A finding, ready to be shown.
pub(crate) struct Shown {
    kind: String,
    pub(crate) is_error: bool,
    kernel: String,
    message: String,
    address: Option<u64>,
    count: u64,
    at: Place,
    other: Option<Place>,
}

impl From<&Finding> for Shown {
    fn from(f: &Finding) -> Shown {
        Shown {
            kind: f.kind.name().to_owned(),
            is_error: f.kind.severity() == Severity::Error,
            kernel: f.kernel.clone(),
            message: f.message.clone(),
            address: f.address,
            count: f.count,
            at: Place::of(&f.party),
            other: f.other.as_ref().map(Place::of),
        }
    }
}

impl Shown {
    /// A finding as the software device describes it.
    pub(crate) fn from_json(value: &Value) -> Shown {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        Shown {
            kind: text("kind"),
            is_error: value["severity"] != "warning",
            kernel: text("kernel"),
            message: text("message"),
            address: value["address"].as_u64(),
            count: value["count"].as_u64().unwrap_or(1),
            at: Place::from_json(&value["at"]),
            other: value.get("other").filter(|o| o.is_object()).map(Place::from_json),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({"event": "finding", "kind": self.kind,
            "severity": if self.is_error { "error" } else { "warning" },
            "kernel": self.kernel, "message": self.message, "address": self.address,
            "count": self.count, "at": self.at.json(),
            "other": self.other.as_ref().map(Place::json)})
    }
}

/// Shows findings with the source lines that they are about.
#[derive(Default)]
pub(crate) struct Printer {
    /// Sources by the name in the line information.
    texts: HashMap<String, Option<String>>,
}

impl Printer {
    /// A printer that knows a text under a name: PTX that was given, for findings without a source line.
    pub(crate) fn with(name: &str, text: &str) -> Printer {
        let mut printer = Printer::default();
        printer.texts.insert(name.to_owned(), Some(text.to_owned()));
        printer
    }

    fn line(&mut self, file: &str, line: u64) -> Option<String> {
        let text = self.texts.entry(file.to_owned()).or_insert_with(|| {
            let built_in = kernel_source(file).map(str::to_owned);
            built_in.or_else(|| std::fs::read_to_string(file).ok())
        });
        let index = usize::try_from(line).ok()?.checked_sub(1)?;
        text.as_ref()?.lines().nth(index).map(|l| l.replace('\t', "    "))
    }

    fn place(&mut self, out: &mut String, place: &Place, mark: char, ptx: Option<&str>) {
        let (file, line) = match (&place.file, ptx) {
            (Some(file), _) => (file.clone(), place.line),
            (None, Some(file)) => (file.to_owned(), place.ptx_line),
            (None, None) => {
                let _ = writeln!(out, "  --> {}", place.who());
                let _ = writeln!(out, "   | {} (PTX line {})", place.instruction, place.ptx_line);
                return;
            }
        };
        let _ = writeln!(out, "  --> {file}:{line}: {}", place.who());
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        if let Some(text) = self.line(&file, line) {
            let start = text.len() - text.trim_start().len();
            let width = text.trim().chars().count().max(1);
            let _ = writeln!(out, "{margin} |");
            let _ = writeln!(out, "{number} | {}", text.trim_end());
            let _ = write!(out, "{margin} | {}", " ".repeat(start));
            let _ = writeln!(out, "{}", mark.to_string().repeat(width));
        }
        if place.file.is_some() {
            let at = place.ptx_line;
            let _ = writeln!(out, "{margin} = PTX line {at}: {}", place.instruction);
        }
    }

    /// A finding for people. `ptx` names the file whose lines are meant where there is no source line.
    pub(crate) fn text(&mut self, f: &Shown, ptx: Option<&str>) -> String {
        let mut out = String::new();
        let severity = if f.is_error { "error" } else { "warning" };
        let _ = writeln!(out, "{severity}[{}]: {} (in `{}`)", f.kind, f.message, f.kernel);
        self.place(&mut out, &f.at, '^', ptx);
        if let Some(other) = &f.other {
            out.push_str("  against\n");
            self.place(&mut out, other, '-', ptx);
        }
        if f.count > 1 {
            let _ = writeln!(out, "  = found {} times", f.count);
        }
        out.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_shows_its_line() {
        let value = json!({"kind": "race", "severity": "error", "kernel": "k", "message": "two writes",
            "address": 5, "count": 3,
            "at": {"block": [1, 0, 0], "warp": 2, "lanes": 4, "file": "a.cu", "line": 2, "ptx_line": 9, "instruction": "st.shared.u32 ..."},
            "other": {"block": [0, 0, 0], "warp": 0, "lanes": 0xffff_ffffu32, "file": null, "line": null, "ptx_line": 7, "instruction": "ld"}});
        let shown = Shown::from_json(&value);
        let text = Printer::with("a.cu", "one\n    s[i] = 0;\n").text(&shown, None);
        assert_eq!(
            text,
            "error[race]: two writes (in `k`)\n  --> a.cu:2: block (1, 0, 0) warp 2 lane 2\n  |\n2 |     s[i] = 0;\n  |     ^^^^^^^^^\n  = PTX line 9: st.shared.u32 ...\n  against\n  --> block (0, 0, 0) warp 0 all lanes\n   | ld (PTX line 7)\n  = found 3 times"
        );
        assert_eq!(shown.json()["at"]["line"], 2);
    }
}
