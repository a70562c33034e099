//! Rules that a program must keep so that a runtime can execute it without further checks.

use std::collections::HashSet;

use crate::expr::Expr;
use crate::program::{
    BUFFER_ALIGN, Kernel, MAX_BLOCKS_PER_SM, MAX_CLUSTER, MAX_PARAM_BYTES, MAX_SCRATCH_BYTES,
    Param, ParamValue, Place, Program, Step,
};
use crate::{SymbolRange, Target};

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
        for (i, s) in self.symbols.iter().enumerate() {
            if s.range.min > s.range.max {
                return fail(format!("symbol {i}"), "its range is empty");
            }
        }
        for (i, g) in self.guards.iter().enumerate() {
            self.declared(&format!("guard {i}"), &g.non_negative)?;
        }
        for (i, size) in self.arena_slots.iter().enumerate() {
            self.declared(&format!("arena slot {i}"), size)?;
        }
        self.validate_buffers(weights)?;
        self.validate_ports()?;
        for (i, kernel) in self.kernels.iter().enumerate() {
            validate_kernel(kernel, modules, self.target)
                .or_else(|reason| fail(format!("kernel {i} (`{}`)", kernel.entry), reason))?;
        }
        let ranges: Vec<SymbolRange> = self.symbols.iter().map(|s| s.range).collect();
        for (i, step) in self.steps.iter().enumerate() {
            self.validate_step(&format!("step {i} (`{}`)", step.origin), step, &ranges)?;
        }
        Ok(())
    }

    /// Refuses symbols that the program does not have.
    fn declared(&self, place: &str, e: &Expr) -> Result<(), ProgramError> {
        let mut found = Vec::new();
        e.collect_symbols(&mut found);
        match found.iter().find(|s| s.0 as usize >= self.symbols.len()) {
            Some(s) => fail(place, format!("`{e}` uses undeclared s{}", s.0)),
            None => Ok(()),
        }
    }

    fn validate_buffers(&self, weights: usize) -> Result<(), ProgramError> {
        for (i, b) in self.buffers.iter().enumerate() {
            let place = format!("buffer {i} (`{}`)", b.name);
            self.declared(&place, &b.bytes)?;
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
                Place::Counters => {
                    if !self.target.is_cuda() {
                        return fail(&*place, "counters are for CUDA targets");
                    }
                    if b.bytes.as_const().is_none_or(|n| n < 0) {
                        let reason =
                            format!("counters of `{}` bytes; a constant is needed", b.bytes);
                        return fail(&*place, reason);
                    }
                }
            }
        }
        Ok(())
    }

    fn validate_ports(&self) -> Result<(), ProgramError> {
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
                    self.declared(&place, n)?;
                }
            }
        }
        Ok(())
    }

    fn validate_step(
        &self,
        place: &str,
        step: &Step,
        ranges: &[SymbolRange],
    ) -> Result<(), ProgramError> {
        let Some(kernel) = self.kernels.get(step.kernel as usize) else {
            return fail(place, format!("names kernel {}", step.kernel));
        };
        for e in step.grid.iter().chain([&step.flops]) {
            self.declared(place, e)?;
        }
        if kernel.blocks_per_sm.is_some() && !(step.grid[1].is(1) && step.grid[2].is(1)) {
            let [x, y, z] = &step.grid;
            return fail(
                place,
                format!("has grid [{x}, {y}, {z}]; a persistent kernel's tiles are in x alone"),
            );
        }
        for b in step.reads.iter().chain(&step.writes) {
            if *b as usize >= self.buffers.len() {
                return fail(place, format!("names buffer {b}"));
            }
        }
        self.validate_params(place, &step.params, kernel.param_bytes, ranges)
    }

    /// Checks the values of a parameter block of `block` bytes that refers to the program's buffers and
    /// symbols. `place` says whose it is.
    pub fn check_params(
        &self,
        place: &str,
        params: &[Param],
        block: u32,
    ) -> Result<(), ProgramError> {
        let ranges: Vec<SymbolRange> = self.symbols.iter().map(|s| s.range).collect();
        self.validate_params(place, params, block, &ranges)
    }

    fn validate_params(
        &self,
        place: &str,
        params: &[Param],
        block: u32,
        ranges: &[SymbolRange],
    ) -> Result<(), ProgramError> {
        let mut end = 0;
        for p in params {
            let size = p.value.bytes();
            let align = p.value.align();
            let last = p.at.checked_add(size).filter(|&last| last <= block);
            let Some(last) = last.filter(|_| p.at >= end && p.at.is_multiple_of(align)) else {
                return fail(
                    place,
                    format!(
                        "parameter at byte {} overlaps, is misaligned or is out of range",
                        p.at
                    ),
                );
            };
            end = last;
            if let ParamValue::Address { buffer, .. } = &p.value
                && *buffer as usize >= self.buffers.len()
            {
                return fail(place, format!("names buffer {buffer}"));
            }
            for e in p.value.expressions() {
                self.declared(place, e)?;
            }
            if let ParamValue::TensorMap(map) = &p.value {
                let place = format!("{place}, tensor map at byte {}", p.at);
                if !self.target.is_cuda() {
                    return fail(place, "tensor maps are for CUDA targets");
                }
                let Some(buffer) = self.buffers.get(map.buffer as usize) else {
                    return fail(place, format!("names buffer {}", map.buffer));
                };
                map.check(ranges, &buffer.bytes).or_else(|reason| fail(place, reason))?;
            }
        }
        Ok(())
    }
}

fn validate_kernel(kernel: &Kernel, modules: usize, target: Target) -> Result<(), String> {
    if kernel.module as usize >= modules {
        return Err(format!("is in module {} of {modules}", kernel.module));
    }
    if kernel.param_bytes > MAX_PARAM_BYTES {
        return Err(format!("takes more than {MAX_PARAM_BYTES} parameter bytes"));
    }
    if kernel.shared_bytes > MAX_SCRATCH_BYTES {
        return Err(format!("needs more than {MAX_SCRATCH_BYTES} scratch bytes"));
    }
    if kernel.block == 0 || kernel.block > 1024 {
        return Err(format!("has {} threads per block", kernel.block));
    }
    if kernel.cluster == 0 || kernel.cluster > MAX_CLUSTER {
        let found = kernel.cluster;
        return Err(format!("has clusters of {found} blocks; 1 to {MAX_CLUSTER} are allowed"));
    }
    if kernel.blocks_per_sm.is_some_and(|n| n == 0 || n > MAX_BLOCKS_PER_SM) {
        let found = kernel.blocks_per_sm.unwrap_or(0);
        return Err(format!("has {found} blocks per SM; 1 to {MAX_BLOCKS_PER_SM} are allowed"));
    }
    if !target.is_cuda() && (kernel.cluster != 1 || kernel.blocks_per_sm.is_some()) {
        return Err("clusters and persistent kernels are for CUDA targets".to_owned());
    }
    Ok(())
}
