//! What commands print: text for people on standard error and standard output, or JSON lines.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

/// Where results and progress go.
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    bar: ProgressBar,
    /// The first failure to write a result.
    lost: Mutex<Option<std::io::Error>>,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Output {
        let bar = ProgressBar::new(0);
        // A bar only where somebody watches.
        let shown = !json && !quiet && std::io::stderr().is_terminal();
        bar.set_draw_target(if shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        });
        if let Ok(style) = ProgressStyle::with_template("{prefix:>12} [{bar:32}] {pos}/{len} {msg}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        Output { json, quiet, bar, lost: Mutex::new(None) }
    }

    /// A step of long work.
    pub(crate) fn progress(&self, stage: &str, done: usize, total: usize) {
        if self.json {
            self.line(&json!({"event": "progress", "stage": stage, "done": done, "total": total}));
            return;
        }
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
        self.bar.set_prefix(stage.to_owned());
    }

    /// Clears the progress bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// A result: a line for people, an object for machines.
    pub(crate) fn result(&self, text: &str, value: impl FnOnce() -> Value) {
        self.finish();
        if self.json {
            self.line(&value());
        } else if !self.quiet {
            self.line(&text);
        }
    }

    /// Lines for people that machines get in another form.
    pub(crate) fn table(&self, text: &str) {
        self.finish();
        if !self.json && !self.quiet {
            self.line(&text);
        }
    }

    /// An object for machines that people get in another form.
    pub(crate) fn event(&self, value: impl FnOnce() -> Value) {
        if self.json {
            self.line(&value());
        }
    }

    fn line(&self, text: &dyn std::fmt::Display) {
        let mut out = std::io::stdout().lock();
        // A closed pipe is the reader's choice, not an error; a full disk is one.
        if let Err(e) = writeln!(out, "{text}").and_then(|()| out.flush())
            && e.kind() != ErrorKind::BrokenPipe
        {
            self.lost.lock().unwrap_or_else(|p| p.into_inner()).get_or_insert(e);
        }
    }

    /// Why results did not reach standard output, if they did not.
    pub(crate) fn lost(&self) -> Option<std::io::Error> {
        self.lost.lock().unwrap_or_else(|p| p.into_inner()).take()
    }

    /// A remark for people.
    pub(crate) fn note(&self, text: &str) {
        if !self.json && !self.quiet {
            self.bar.suspend(|| eprintln!("{text}"));
        }
    }

    /// What a user must know even when quiet: a line on standard error.
    pub(crate) fn remark(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// A remark for people, an object for machines.
    pub(crate) fn remark_or(&self, text: &str, value: impl FnOnce() -> Value) {
        if self.json {
            self.line(&value());
        } else {
            self.remark(text);
        }
    }

    /// An error with its causes.
    pub(crate) fn error(&self, error: &anyhow::Error, code: u8) {
        self.finish();
        if self.json {
            self.line(&json!({"event": "error", "message": format!("{error:#}"), "code": code}));
        }
        let mut causes: Vec<String> = Vec::new();
        for cause in error.chain() {
            let text = cause.to_string();
            // Transparent wrappers repeat their source.
            if causes.last().is_none_or(|last| !last.contains(&text)) {
                causes.push(text);
            }
        }
        eprintln!("error: {}", causes.join("\n  because: "));
    }
}

/// `1.23 s`, `45.6 ms`, `789 us`.
pub(crate) fn duration(d: Duration) -> String {
    let s = d.as_secs_f64();
    if s >= 1.0 {
        format!("{s:.2} s")
    } else if s >= 1e-3 {
        format!("{:.2} ms", s * 1e3)
    } else {
        format!("{:.0} us", s * 1e6)
    }
}

/// `1.5 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", units[unit]) }
}
