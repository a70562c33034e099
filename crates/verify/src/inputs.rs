//! Sizes and random inputs that a model can run on.
//!
//! An integer input may be anything from a truth value to a row of a table. Which it is, the kernels say:
//! the steps that read an input, and otherwise only what is known before the first step, are computed with
//! ever larger values until one reads outside of its memory. An input that bounds a table this way is drawn
//! from the whole table; every other integer is 0 or 1.

use std::borrow::Cow;

use half::{bf16, f16};
use zeroforge_artifact::program::{Place, Program, SymbolDecl};
use zeroforge_artifact::{DType, ExprError};
use zeroforge_compiler::reference;
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

/// A value for every size of a program: as given, else near 16 (batches smaller), so that all conditions hold.
pub fn sizes(program: &Program, given: &[(String, i64)]) -> Result<Vec<i64>, VerifyError> {
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
    let mut refused = String::new();
    for size in [SIZE].into_iter().chain(OTHER_SIZES) {
        let values = with(size);
        match allowed(program, &values)? {
            None => return Ok(values),
            Some(reason) if refused.is_empty() => refused = reason,
            Some(_) => {}
        }
    }
    Err(VerifyError::Sizes(format!(
        "no sizes were found that the model allows ({refused}); give them with --size"
    )))
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

/// Random inputs of the given sizes for a machine; inputs that were given stay as they are.
pub fn random(
    machine: &Machine,
    sizes: &[i64],
    mut given: Vec<(String, Tensor)>,
    seed: u64,
) -> Result<Vec<(String, Tensor)>, VerifyError> {
    let program = machine.program();
    let mut random = Random::new(seed);
    let mut shapes = Vec::with_capacity(program.inputs.len());
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
        shapes.push(shape);
        inputs.push((port.name.clone(), tensor));
    }
    // What is left has no port: binding says so.
    inputs.append(&mut given);
    if drawn.is_empty() {
        return Ok(inputs);
    }
    let (mut tensors, bound) = machine.bind(inputs.clone())?;
    for port in drawn {
        let (dtype, shape) = (program.inputs[port].dtype, &shapes[port]);
        let count = tensors[port].bytes().len() / dtype.size();
        let bound = rows(machine, &bound, &mut tensors, port)?;
        let values: Vec<i64> = match bound {
            // No value twice: positions that are written must not meet.
            Some(n) if count as i64 <= n => {
                let mut left: Vec<i64> = Vec::with_capacity(count);
                while left.len() < count {
                    let v = random.below(n);
                    if !left.contains(&v) {
                        left.push(v);
                    }
                }
                left
            }
            bound => (0..count).map(|_| random.below(bound.unwrap_or(2))).collect(),
        };
        let tensor = integers(dtype, shape, &values)?;
        inputs[port].1 = tensor.clone();
        tensors[port] = tensor;
    }
    Ok(inputs)
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
        probe(machine, bound, inputs, port)
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

/// Whether the steps that read an input, and otherwise only what is known before the first step, stay
/// inside of their memory.
fn probe(
    machine: &Machine,
    bound: &Bound,
    inputs: &[Tensor],
    port: usize,
) -> Result<bool, VerifyError> {
    let program = machine.program();
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
                Place::Output(_) | Place::Arena { .. } if info.reads.contains(&b) => {
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
        if reference::compute(&machine.specs()[step.kernel], &params, &memory).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}
