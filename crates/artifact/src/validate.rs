//! Rules that a program must keep so that a runtime can execute it without further checks.

use std::collections::HashSet;

use crate::expr::Expr;
use crate::program::{
    BUFFER_ALIGN, MAX_PARAM_BYTES, MAX_SCRATCH_BYTES, ParamValue, Place, Program,
};

/// A rule that a program breaks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{place}: {reason}")]
pub struct ProgramError {
    /// Which part, such as `step 3`.
    pub place: String,
    /// What is wrong.
    pub reason: String,
}

fn fail<T>(place: impl Into<String>, reason: impl Into<String>) -> Result<T, ProgramError> {
    Err(ProgramError { place: place.into(), reason: reason.into() })
}

impl Program {
    /// Checks every index, offset and expression against the tables they point into. `modules` and
    /// `weights` are the sizes of the target's tables in the manifest.
    pub fn validate(&self, modules: usize, weights: usize) -> Result<(), ProgramError> {
        let symbols = self.symbols.len();
        let declared = |place: &str, e: &Expr| {
            let mut found = Vec::new();
            e.collect_symbols(&mut found);
            match found.iter().find(|s| s.0 as usize >= symbols) {
                Some(s) => fail(place, format!("`{e}` uses undeclared s{}", s.0)),
                None => Ok(()),
            }
        };
        for (i, s) in self.symbols.iter().enumerate() {
            if s.range.min > s.range.max {
                return fail(format!("symbol {i}"), "its range is empty");
            }
        }
        for (i, g) in self.guards.iter().enumerate() {
            declared(&format!("guard {i}"), &g.non_negative)?;
        }
        for (i, size) in self.arena_slots.iter().enumerate() {
            declared(&format!("arena slot {i}"), size)?;
        }
        for (i, b) in self.buffers.iter().enumerate() {
            let place = format!("buffer {i} (`{}`)", b.name);
            declared(&place, &b.bytes)?;
            let within = |index: u32, len: usize, what: &str| {
                if (index as usize) < len {
                    return Ok(());
                }
                fail(&*place, format!("names {what} {index} of {len}"))
            };
            match &b.place {
                Place::Arena { slot, offset } => {
                    within(*slot, self.arena_slots.len(), "arena slot")?;
                    if offset % BUFFER_ALIGN != 0 {
                        return fail(&*place, format!("offset {offset} is not aligned"));
                    }
                    // Symbolic slots hold one buffer at a time at offset 0, which the binder checks.
                    if let (Some(total), Some(bytes)) =
                        (self.arena_slots[*slot as usize].as_const(), b.bytes.as_const())
                        && (bytes < 0
                            || offset
                                .checked_add(bytes as u64)
                                .is_none_or(|e| e > total.max(0) as u64))
                    {
                        return fail(&*place, format!("leaves arena slot {slot}"));
                    }
                }
                Place::Weight(w) => within(*w, weights, "weight")?,
                Place::Input(p) => within(*p, self.inputs.len(), "input")?,
                Place::Output(p) => within(*p, self.outputs.len(), "output")?,
                Place::State { initial: Some(w) } => within(*w, weights, "weight")?,
                Place::State { initial: None } => {}
            }
        }
        for (what, ports) in [("input", &self.inputs), ("output", &self.outputs)] {
            let mut names = HashSet::with_capacity(ports.len());
            for (i, port) in ports.iter().enumerate() {
                let place = format!("{what} {i} (`{}`)", port.name);
                if !names.insert(&port.name) {
                    return fail(place, "has the name of another one");
                }
                if port.buffer as usize >= self.buffers.len() {
                    return fail(place, "names a buffer that is not there");
                }
                let place_of = &self.buffers[port.buffer as usize].place;
                let known = match what {
                    "input" => matches!(place_of, Place::Input(p) if *p as usize == i),
                    // An output that updates an input in place has that input's memory.
                    _ => matches!(place_of, Place::Input(_) | Place::Output(_)),
                };
                if !known {
                    return fail(place, "names a buffer that is not the caller's");
                }
                if port.mutates.is_some_and(|m| m as usize >= self.inputs.len()) {
                    return fail(place, "mutates an input that is not there");
                }
                for n in &port.shape {
                    declared(&place, n)?;
                }
            }
        }
        for (i, k) in self.kernels.iter().enumerate() {
            let place = format!("kernel {i} (`{}`)", k.entry);
            if k.module as usize >= modules {
                return fail(place, format!("is in module {} of {modules}", k.module));
            }
            if k.param_bytes > MAX_PARAM_BYTES {
                return fail(place, format!("takes more than {MAX_PARAM_BYTES} parameter bytes"));
            }
            if k.shared_bytes > MAX_SCRATCH_BYTES {
                return fail(place, format!("needs more than {MAX_SCRATCH_BYTES} scratch bytes"));
            }
            if k.block == 0 || k.block > 1024 {
                return fail(place, format!("has {} threads per block", k.block));
            }
        }
        for (i, step) in self.steps.iter().enumerate() {
            let place = format!("step {i} (`{}`)", step.origin);
            let Some(kernel) = self.kernels.get(step.kernel as usize) else {
                return fail(place, format!("names kernel {}", step.kernel));
            };
            for e in step.grid.iter().chain([&step.flops]) {
                declared(&place, e)?;
            }
            for b in step.reads.iter().chain(&step.writes) {
                if *b as usize >= self.buffers.len() {
                    return fail(place, format!("names buffer {b}"));
                }
            }
            let mut end = 0;
            for p in &step.params {
                let size = match &p.value {
                    ParamValue::Address { buffer, offset } => {
                        if *buffer as usize >= self.buffers.len() {
                            return fail(place, format!("names buffer {buffer}"));
                        }
                        declared(&place, offset)?;
                        8
                    }
                    ParamValue::I64(e) => {
                        declared(&place, e)?;
                        8
                    }
                    ParamValue::I32(e) => {
                        declared(&place, e)?;
                        4
                    }
                    ParamValue::F32Bits(_) => 4,
                };
                let last = p.at.checked_add(size);
                if p.at < end || p.at % size != 0 || last.is_none_or(|e| e > kernel.param_bytes) {
                    return fail(
                        place,
                        format!(
                            "parameter at byte {} overlaps, is misaligned or is out of range",
                            p.at
                        ),
                    );
                }
                end = p.at + size;
            }
        }
        Ok(())
    }
}
