//! Sizes and random inputs that a model can run on.
//!
//! An integer input may be anything from a truth value to a row of a table. Which it is, the kernels say:
//! the steps that read an input, and otherwise only what is known before the first step, are computed with
//! ever larger values until one reads outside of its memory. An input that bounds a table this way is drawn
//! from the whole table; every other integer is 0 or 1. Positions that are written are drawn so that no place is
//! written twice, which models leave undefined.

use std::borrow::Cow;

use half::{bf16, f16};
use zeroforge_artifact::program::{Place, Program, SymbolDecl};
use zeroforge_artifact::{DType, ExprError};
use zeroforge_compiler::reference::{self, Output, Values};
use zeroforge_runtime::bind::Bound;
use zeroforge_runtime::{RunError, Tensor};

use crate::VerifyError;
use crate::machine::Machine;
use crate::snapshot::Snapshot;

/// A size that leaves a rest in every tile and is small enough to be quick.
const SIZE: i64 = 17;
/// The size of a batch: of axes that are the first of their inputs, before another one of free size.
const BATCH: i64 = 3;
/// Sizes to try where guards refuse the usual one.
const OTHER_SIZES: [i64; 12] = [16, 32, 8, 64, 24, 48, 12, 4, 128, 2, 1, 256];
/// Largest integer that is tried.
const LARGEST: i64 = 1 << 31;

/// Sizes and inputs of a call: as given, else sizes near 16 (batches smaller) so that all conditions hold, and
/// random inputs on which the model is defined.
pub fn choose(
    machine: &Machine,
    given_sizes: &[(String, i64)],
    given: &[(String, Tensor)],
    seed: u64,
) -> Result<(Vec<i64>, Vec<(String, Tensor)>), VerifyError> {
    let mut first = None;
    for sizes in candidates(machine.program(), given_sizes)? {
        let (inputs, defined) = random(machine, &sizes, given.to_vec(), seed)?;
        if defined {
            return Ok((sizes, inputs));
        }
        first.get_or_insert((sizes, inputs));
    }
    // With any of the sizes some positions are written twice: what is found shows it.
    first.ok_or_else(|| VerifyError::Sizes("no sizes were found".to_owned()))
}

/// Values for every size of a program that the model allows, the best first; never empty.
fn candidates(program: &Program, given: &[(String, i64)]) -> Result<Vec<Vec<i64>>, VerifyError> {
    for (name, _) in given {
        if !program.symbols.iter().any(|s| s.name == *name) {
            let known: Vec<&str> = program.symbols.iter().map(|s| s.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(VerifyError::Sizes(format!(
                "the model has no size `{name}`; it has {known}"
            )));
        }
    }
    let batches = batches(program);
    let with = |size: i64| -> Vec<i64> {
        let value = |(i, s): (usize, &SymbolDecl)| {
            let size = if batches.contains(&i) { BATCH.min(size) } else { size };
            match given.iter().find(|g| g.0 == s.name) {
                Some(&(_, value)) => value,
                None => size.clamp(s.range.min, s.range.max.max(s.range.min)),
            }
        };
        program.symbols.iter().enumerate().map(value).collect()
    };
    let mut found: Vec<Vec<i64>> = Vec::new();
    let mut refused = String::new();
    for size in [SIZE].into_iter().chain(OTHER_SIZES) {
        let values = with(size);
        match allowed(program, &values)? {
            None if !found.contains(&values) => found.push(values),
            Some(reason) if refused.is_empty() => refused = reason,
            _ => {}
        }
    }
    if found.is_empty() {
        return Err(VerifyError::Sizes(format!(
            "no sizes were found that the model allows ({refused}); give them with --size"
        )));
    }
    Ok(found)
}

/// The sizes that are batches.
fn batches(program: &Program) -> Vec<usize> {
    let mut first = Vec::new();
    let mut other = Vec::new();
    for port in &program.inputs {
        let symbols: Vec<Option<usize>> =
            port.shape.iter().map(|e| e.as_symbol().map(|s| s.0 as usize)).collect();
        let free = symbols.iter().flatten().count();
        for (axis, symbol) in symbols.iter().enumerate() {
            match symbol {
                Some(s) if axis == 0 && free > 1 => first.push(*s),
                Some(s) if axis > 0 => other.push(*s),
                _ => {}
            }
        }
    }
    first.retain(|s| !other.contains(s));
    first
}

/// Why sizes are not allowed; `None` if they are.
fn allowed(program: &Program, values: &[i64]) -> Result<Option<String>, VerifyError> {
    let failed = |e: ExprError| VerifyError::from(RunError::from(e));
    for (symbol, &value) in program.symbols.iter().zip(values) {
        if value < symbol.range.min || value > symbol.range.max {
            let (min, max) = (symbol.range.min, symbol.range.max);
            return Ok(Some(format!("`{}` must be {min} to {max}", symbol.name)));
        }
    }
    for guard in &program.guards {
        if guard.non_negative.eval(values).map_err(failed)? < 0 {
            return Ok(Some(guard.message.clone()));
        }
    }
    for port in &program.inputs {
        for n in &port.shape {
            if n.eval(values).map_err(failed)? < 0 {
                return Ok(Some(format!("input `{}` would have a negative size", port.name)));
            }
        }
    }
    Ok(None)
}

/// xorshift64*: only the spread of values matters.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// Of `0..n`, `n` at least 1.
    fn below(&mut self, n: i64) -> i64 {
        (self.next() % n.max(1) as u64) as i64
    }

    /// Of `-1.0..1.0`.
    fn unit(&mut self) -> f64 {
        self.next() as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// A tensor of whole numbers.
fn integers(dtype: DType, shape: &[i64], values: &[i64]) -> Result<Tensor, VerifyError> {
    let mut tensor = Tensor::zeros(dtype, shape)?;
    let size = dtype.size();
    for (element, v) in tensor.bytes_mut().chunks_exact_mut(size).zip(values) {
        element.copy_from_slice(&v.to_le_bytes()[..size]);
    }
    Ok(tensor)
}

fn floats(dtype: DType, shape: &[i64], random: &mut Random) -> Result<Tensor, VerifyError> {
    let mut tensor = Tensor::zeros(dtype, shape)?;
    for element in tensor.bytes_mut().chunks_exact_mut(dtype.size()) {
        let v = random.unit();
        match dtype {
            DType::F16 => element.copy_from_slice(&f16::from_f64(v).to_le_bytes()),
            DType::Bf16 => element.copy_from_slice(&bf16::from_f64(v).to_le_bytes()),
            DType::F32 => element.copy_from_slice(&(v as f32).to_le_bytes()),
            _ => element.copy_from_slice(&v.to_le_bytes()),
        }
    }
    Ok(tensor)
}

/// Largest value that a type holds, up to [`LARGEST`].
fn limit(dtype: DType) -> i64 {
    match dtype {
        DType::Bool => 2,
        DType::U8 => 256,
        DType::I8 => 128,
        DType::I16 => 1 << 15,
        _ => LARGEST,
    }
}

/// Random inputs of the given sizes; inputs that were given stay as they are. False if the model writes one
/// place twice with them.
fn random(
    machine: &Machine,
    sizes: &[i64],
    mut given: Vec<(String, Tensor)>,
    seed: u64,
) -> Result<(Vec<(String, Tensor)>, bool), VerifyError> {
    let program = machine.program();
    let mut random = Random::new(seed);
    let mut inputs = Vec::with_capacity(program.inputs.len());
    let mut drawn = Vec::new();
    for (i, port) in program.inputs.iter().enumerate() {
        let shape: Vec<i64> = port
            .shape
            .iter()
            .map(|e| e.eval(sizes))
            .collect::<Result<_, _>>()
            .map_err(RunError::from)?;
        let tensor = match given.iter().position(|(name, _)| *name == port.name) {
            Some(at) => given.swap_remove(at).1,
            None if port.dtype.is_float() => floats(port.dtype, &shape, &mut random)?,
            None => {
                drawn.push(i);
                Tensor::zeros(port.dtype, &shape)?
            }
        };
        inputs.push((port.name.clone(), tensor));
    }
    // What is left has no port: binding says so.
    inputs.append(&mut given);
    if drawn.is_empty() {
        return Ok((inputs, true));
    }
    let (mut tensors, bound) = machine.bind(inputs.clone())?;
    let mut defined = true;
    for port in drawn {
        let (dtype, shape) = (tensors[port].dtype(), tensors[port].shape().to_vec());
        let rows = rows(machine, &bound, &mut tensors, port)?;
        let mut settled = false;
        for values in draws(&shape, rows, &mut random) {
            tensors[port] = integers(dtype, &shape, &values)?;
            if probe(machine, &bound, &tensors, port)? == Probe::Defined {
                settled = true;
                break;
            }
        }
        defined &= settled;
        inputs[port].1 = tensors[port].clone();
    }
    Ok((inputs, defined))
}

/// Values to try for an integer input, the most random first: positions that are written must not meet, all of
/// them or those along an axis.
fn draws(shape: &[i64], rows: Option<i64>, random: &mut Random) -> Vec<Vec<i64>> {
    let count = shape.iter().product::<i64>().max(0);
    let Some(n) = rows else {
        return vec![(0..count).map(|_| random.below(2)).collect()];
    };
    let mut draws = Vec::new();
    if count <= n && count <= 1 << 14 {
        let mut seen = std::collections::HashSet::new();
        let mut distinct = Vec::with_capacity(count as usize);
        while (distinct.len() as i64) < count {
            let v = random.below(n);
            if seen.insert(v) {
                distinct.push(v);
            }
        }
        draws.push(distinct);
    }
    draws.push((0..count).map(|_| random.below(n)).collect());
    // Along an axis, from somewhere on.
    let start = random.below(n);
    for axis in 0..shape.len() {
        let step: i64 = shape[axis + 1..].iter().product();
        let along = |i: i64| (start + i / step.max(1) % shape[axis].max(1)) % n;
        draws.push((0..count).map(along).collect());
    }
    draws
}

/// The number of rows of the table that an integer input indexes; `None` if it indexes none.
fn rows(
    machine: &Machine,
    bound: &Bound,
    inputs: &mut [Tensor],
    port: usize,
) -> Result<Option<i64>, VerifyError> {
    let (dtype, shape) = (inputs[port].dtype(), inputs[port].shape().to_vec());
    let count = inputs[port].bytes().len() / dtype.size();
    let mut fits = |largest: i64| -> Result<bool, VerifyError> {
        inputs[port] = integers(dtype, &shape, &vec![largest; count])?;
        Ok(probe(machine, bound, inputs, port)? != Probe::Outside)
    };
    let result = if count == 0 || fits(limit(dtype) - 1)? || !fits(0)? {
        None
    } else {
        let (mut inside, mut outside) = (0, limit(dtype) - 1);
        while outside - inside > 1 {
            let middle = inside + (outside - inside) / 2;
            if fits(middle)? { inside = middle } else { outside = middle }
        }
        Some(inside + 1)
    };
    inputs[port] = Tensor::zeros(dtype, &shape)?;
    Ok(result)
}

/// What the steps do that read an input, and otherwise only what is known before the first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// They stay inside of their memory and write every place once.
    Defined,
    /// They write a place twice, with different values.
    Twice,
    /// They leave their memory.
    Outside,
}

/// Whether one of the outputs has two values for one place.
fn writes_twice(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| {
        let mut seen = std::collections::HashMap::with_capacity(output.addresses.len());
        output.addresses.iter().enumerate().any(|(i, address)| {
            let value = match &output.values {
                Values::Float { exact, .. } => exact[i].to_bits(),
                Values::Int(values) => values[i] as u64,
            };
            seen.insert(address, value).is_some_and(|old| old != value)
        })
    })
}

/// Computes the steps that read an input, and otherwise only what is known before the first step.
fn probe(
    machine: &Machine,
    bound: &Bound,
    inputs: &[Tensor],
    port: usize,
) -> Result<Probe, VerifyError> {
    let program = machine.program();
    let mut result = Probe::Defined;
    let buffer = program.inputs[port].buffer;
    // Addresses that need not be a card's, far from each other.
    let address = |buffer: u32| u64::from(buffer + 1) << 40;
    for step in &bound.steps {
        let info = &program.steps[step.step];
        if !info.reads.contains(&buffer) {
            continue;
        }
        let mut memory = Snapshot::default();
        let mut known = true;
        for b in step.addresses.iter().map(|a| a.1) {
            let size = usize::try_from(bound.buffer_bytes[b as usize]).unwrap_or(0);
            let bytes = match program.buffers[b as usize].place {
                Place::Weight(w) => Cow::Borrowed(machine.weights().bytes(w)?),
                Place::Input(p) => Cow::Borrowed(inputs[p as usize].bytes()),
                // What a step updates in part counts as read; where it writes does not depend on that.
                Place::Output(_) | Place::Arena { .. }
                    if info.reads.contains(&b) && !info.writes.contains(&b) =>
                {
                    known = false;
                    break;
                }
                _ => Cow::Owned(vec![0; size]),
            };
            memory.add(address(b), bytes);
        }
        if !known {
            continue;
        }
        let kernel = &program.kernels[step.kernel];
        let words = kernel.param_bytes.div_ceil(8) as usize;
        let mut block = bound.params[step.params..step.params + words].to_vec();
        for &(word, buffer, offset) in &step.addresses {
            block[word] = address(buffer) + offset;
        }
        let params: Vec<u8> = block.iter().flat_map(|w| w.to_le_bytes()).collect();
        match reference::compute(&machine.specs()[step.kernel], &params, &memory) {
            Err(_) => return Ok(Probe::Outside),
            Ok(outputs) if writes_twice(&outputs) => result = Probe::Twice,
            Ok(_) => {}
        }
    }
    Ok(result)
}
