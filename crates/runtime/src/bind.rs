//! Binding a program to one call: inputs in order, symbols read off their shapes, every expression evaluated
//! once. Public for whoever executes programs in another way (`zeroforge verify`).

use zeroforge_artifact::Expr;
use zeroforge_artifact::program::{BUFFER_ALIGN, Param, ParamValue, Place, Port, Program};
use zeroforge_artifact::tensor_map::{self, MAX_DIM, MAX_STRIDE, TensorMap};

use crate::tensor::byte_len;
use crate::{RunError, Tensor, Weights};

/// A program with numbers in place of expressions.
#[derive(Debug)]
pub struct Bound {
    /// Values of the symbols.
    pub symbols: Vec<i64>,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// Byte offset of each arena slot.
    pub slots: Vec<u64>,
    /// Size of each buffer in bytes.
    pub buffer_bytes: Vec<u64>,
    /// Shapes of the outputs.
    pub outputs: Vec<Vec<i64>>,
    /// Launches that have work.
    pub steps: Vec<BoundStep>,
    /// Parameter blocks of all steps, 8-byte words; addresses are patched per call.
    pub params: Vec<u64>,
}

/// One launch with numbers.
#[derive(Debug)]
pub struct BoundStep {
    /// Index into the program's steps.
    pub step: usize,
    /// Index into the program's kernels.
    pub kernel: usize,
    /// Launch grid.
    pub grid: [u64; 3],
    /// First word of the parameter block in [`Bound::params`].
    pub params: usize,
    /// Addresses to patch: word in the block, buffer, byte offset.
    pub addresses: Vec<(usize, u32, u64)>,
    /// Tensor maps to encode.
    pub maps: Vec<BoundMap>,
}

/// A tensor map with numbers: the arguments of `cuTensorMapEncodeTiled` but for the buffer's address.
#[derive(Clone, Debug)]
pub struct BoundMap {
    /// First word of the 128 bytes in the block.
    pub word: usize,
    /// Buffer, by index.
    pub buffer: u32,
    /// Where element 0 is in it, in bytes.
    pub offset: u64,
    /// Element type.
    pub data_type: tensor_map::DataType,
    /// Elements per dimension, innermost first.
    pub dims: Vec<u64>,
    /// Bytes between elements of dimension 1, 2, ...
    pub strides: Vec<u64>,
    /// Elements that a box spans.
    pub box_dims: Vec<u32>,
    /// Every how many elements are copied.
    pub element_strides: Vec<u32>,
    /// How a box lies in shared memory.
    pub swizzle: tensor_map::Swizzle,
    /// How much the L2 cache fetches at a time.
    pub l2_promotion: tensor_map::L2Promotion,
    /// The address of element 0 that the words in [`Bound::params`] were encoded for.
    pub(crate) encoded: Option<u64>,
}

/// `f32 [s0, 128]` with the program's symbol names.
pub fn describe(program: &Program, port: &Port) -> String {
    let sizes: Vec<String> = port
        .shape
        .iter()
        .map(|e| match e.as_symbol() {
            Some(s) => program.symbols[s.0 as usize].name.clone(),
            None => e.to_string(),
        })
        .collect();
    format!("{} [{}]", port.dtype, sizes.join(", "))
}

/// Reads the symbols off the inputs' shapes and checks every dimension.
pub fn bind_symbols(program: &Program, shapes: &[&[i64]]) -> Result<Vec<i64>, RunError> {
    let mut values: Vec<Option<i64>> = vec![None; program.symbols.len()];
    let wrong = |port: &Port, found: &[i64], reason: String| RunError::InputShape {
        name: port.name.clone(),
        found: found.to_vec(),
        expected: describe(program, port),
        reason,
    };
    for (port, &shape) in program.inputs.iter().zip(shapes) {
        if port.shape.len() != shape.len() {
            let reason = format!("{} axes instead of {}", shape.len(), port.shape.len());
            return Err(wrong(port, shape, reason));
        }
        for (axis, (e, &n)) in port.shape.iter().zip(shape).enumerate() {
            let Some((factor, symbol, offset)) = e.as_linear() else { continue };
            let decl = &program.symbols[symbol.0 as usize];
            let value = &mut values[symbol.0 as usize];
            let Some(scaled) = n.checked_sub(offset).filter(|v| v % factor == 0) else {
                let reason = format!("axis {axis} must be of the form {e}");
                return Err(wrong(port, shape, reason));
            };
            let n = scaled / factor;
            if n < decl.range.min || n > decl.range.max {
                let reason = format!(
                    "axis {axis}: `{}` must be {} to {}",
                    decl.name, decl.range.min, decl.range.max
                );
                return Err(wrong(port, shape, reason));
            }
            match value {
                Some(v) if *v != n => {
                    let reason = format!("axis {axis}: `{}` is {v} in another input", decl.name);
                    return Err(wrong(port, shape, reason));
                }
                _ => *value = Some(n),
            }
        }
    }
    let mut bound = Vec::with_capacity(values.len());
    for (decl, value) in program.symbols.iter().zip(values) {
        bound.push(value.ok_or_else(|| {
            RunError::Guard(format!("no input's shape determines `{}`", decl.name))
        })?);
    }
    for (port, &shape) in program.inputs.iter().zip(shapes) {
        for (axis, (e, &n)) in port.shape.iter().zip(shape).enumerate() {
            let expected = e.eval(&bound)?;
            if expected != n {
                let reason = format!("axis {axis} must be {expected}");
                return Err(wrong(port, shape, reason));
            }
        }
    }
    for guard in &program.guards {
        if guard.non_negative.eval(&bound)? < 0 {
            return Err(RunError::Guard(guard.message.clone()));
        }
    }
    Ok(bound)
}

fn size(what: impl Fn() -> String, value: i64) -> Result<u64, RunError> {
    u64::try_from(value)
        .ok()
        .filter(|&v| v <= isize::MAX as u64 / 4)
        .ok_or_else(|| RunError::Size { what: what(), value, reason: "no memory has that size" })
}

/// Evaluates every expression of the program.
pub fn bind(program: &Program, symbols: Vec<i64>) -> Result<Bound, RunError> {
    let mut slots = Vec::with_capacity(program.arena_slots.len());
    let mut slot_bytes = Vec::with_capacity(program.arena_slots.len());
    let mut arena = 0u64;
    for e in &program.arena_slots {
        let bytes = size(|| "an arena slot".to_owned(), e.eval(&symbols)?)?;
        slots.push(arena);
        slot_bytes.push(bytes);
        arena = arena.saturating_add(bytes.next_multiple_of(BUFFER_ALIGN));
    }
    let arena_bytes = usize::try_from(arena).ok().filter(|&n| n <= isize::MAX as usize / 2);
    let arena_bytes = arena_bytes.ok_or(RunError::Size {
        what: "the arena".to_owned(),
        value: i64::try_from(arena).unwrap_or(i64::MAX),
        reason: "no memory has that size",
    })?;
    let mut buffer_bytes = Vec::with_capacity(program.buffers.len());
    for b in &program.buffers {
        let bytes = size(|| format!("buffer `{}`", b.name), b.bytes.eval(&symbols)?)?;
        if let Place::Arena { slot, offset } = b.place
            && offset.saturating_add(bytes) > slot_bytes[slot as usize]
        {
            return Err(RunError::Size {
                what: format!("buffer `{}`", b.name),
                value: bytes as i64,
                reason: "that is more than its arena slot",
            });
        }
        buffer_bytes.push(bytes);
    }
    let mut outputs = Vec::with_capacity(program.outputs.len());
    for port in &program.outputs {
        let shape: Vec<i64> =
            port.shape.iter().map(|e| e.eval(&symbols)).collect::<Result<_, _>>()?;
        let bytes = byte_len(port.dtype, &shape);
        if bytes.map(|b| b as u64) != Some(buffer_bytes[port.buffer as usize]) {
            return Err(RunError::Size {
                what: format!("output `{}`", port.name),
                value: buffer_bytes[port.buffer as usize] as i64,
                reason: "its shape says otherwise",
            });
        }
        outputs.push(shape);
    }

    let mut params: Vec<u64> = Vec::new();
    let mut steps = Vec::with_capacity(program.steps.len());
    for (index, step) in program.steps.iter().enumerate() {
        let mut grid = [0; 3];
        for (g, e) in grid.iter_mut().zip(&step.grid) {
            *g = size(|| format!("the grid of `{}`", step.origin), e.eval(&symbols)?)?;
        }
        if grid.contains(&0) {
            continue;
        }
        let kernel = &program.kernels[step.kernel as usize];
        let first = params.len();
        params.resize(first + kernel.param_bytes.div_ceil(8) as usize, 0);
        let binder =
            Binder { symbols: &symbols, buffer_bytes: &buffer_bytes, origin: &step.origin };
        let Patches { addresses, maps } = binder.params(&step.params, &mut params[first..])?;
        steps.push(BoundStep {
            step: index,
            kernel: step.kernel as usize,
            grid,
            params: first,
            addresses,
            maps,
        });
    }
    Ok(Bound { symbols, arena_bytes, slots, buffer_bytes, outputs, steps, params })
}

/// What of a parameter block depends on where buffers are.
struct Patches {
    addresses: Vec<(usize, u32, u64)>,
    maps: Vec<BoundMap>,
}

/// A parameter block of `bytes` bytes for the sizes of a call, with addresses from `address_of`: for blocks
/// that are no step's own. Tensor maps are left out. The program has checked the values
/// ([`Program::check_params`]).
pub fn bind_params(
    bound: &Bound,
    params: &[Param],
    bytes: usize,
    origin: &str,
    address_of: &dyn Fn(u32) -> u64,
) -> Result<Vec<u8>, RunError> {
    let binder = Binder { symbols: &bound.symbols, buffer_bytes: &bound.buffer_bytes, origin };
    let mut block = vec![0; bytes.div_ceil(8)];
    for (word, buffer, offset) in binder.params(params, &mut block)?.addresses {
        block[word] = address_of(buffer) + offset;
    }
    let mut block: Vec<u8> = block.iter().flat_map(|w| w.to_le_bytes()).collect();
    block.truncate(bytes);
    Ok(block)
}

/// Binds the parameter block of one step.
struct Binder<'a> {
    symbols: &'a [i64],
    buffer_bytes: &'a [u64],
    /// The step, for messages.
    origin: &'a str,
}

impl Binder<'_> {
    /// Writes values into a block and returns what depends on where buffers are.
    fn params(&self, params: &[Param], block: &mut [u64]) -> Result<Patches, RunError> {
        let (mut addresses, mut maps) = (Vec::new(), Vec::new());
        for p in params {
            let word = p.at as usize / 8;
            let half = |value: u32, old: u64| {
                let shift = p.at % 8 * 8;
                old & !(0xffff_ffff << shift) | u64::from(value) << shift
            };
            match &p.value {
                ParamValue::Address { buffer, offset } => {
                    let what = || format!("an offset of `{}`", self.origin);
                    let offset = size(what, offset.eval(self.symbols)?)?;
                    if offset > self.buffer_bytes[*buffer as usize] {
                        return Err(RunError::Size {
                            what: what(),
                            value: offset as i64,
                            reason: "that is behind the end of its buffer",
                        });
                    }
                    addresses.push((word, *buffer, offset));
                }
                ParamValue::I64(e) => block[word] = e.eval(self.symbols)?.cast_unsigned(),
                ParamValue::I32(e) => {
                    let value = e.eval(self.symbols)?;
                    let narrow = i32::try_from(value).map_err(|_| RunError::Size {
                        what: format!("a parameter of `{}`", self.origin),
                        value,
                        reason: "it must fit 32 bits",
                    })?;
                    block[word] = half(narrow.cast_unsigned(), block[word]);
                }
                ParamValue::F32Bits(bits) => block[word] = half(*bits, block[word]),
                ParamValue::TensorMap(map) => maps.push(self.map(word, map)?),
            }
        }
        Ok(Patches { addresses, maps })
    }

    /// Evaluates a tensor map and checks what the program's validation could not.
    fn map(&self, word: usize, map: &TensorMap) -> Result<BoundMap, RunError> {
        let refuse = |argument: String, value: i64, rule: &'static str| RunError::TensorMap {
            origin: self.origin.to_owned(),
            at: word * 8,
            argument,
            value,
            rule,
        };
        let within = |argument: &dyn Fn() -> String, e: &Expr, least: i64, most: i64, rule| {
            let value = e.eval(self.symbols)?;
            if value < least || value > most {
                return Err(refuse(argument(), value, rule));
            }
            Ok(value.cast_unsigned())
        };
        let bytes = self.buffer_bytes[map.buffer as usize];
        let most = i64::try_from(bytes).unwrap_or(i64::MAX);
        let rule = "it lies in its buffer";
        let offset = within(&|| "the start".to_owned(), &map.offset, 0, most, rule)?;
        let mut dims = Vec::with_capacity(map.rank());
        for (i, dim) in map.dims.iter().enumerate() {
            let argument = || format!("dimension {i}");
            dims.push(within(&argument, dim, 1, MAX_DIM, "1 to 2^32 elements are allowed")?);
        }
        let mut strides = Vec::with_capacity(map.strides.len());
        for (i, stride) in map.strides.iter().enumerate() {
            let argument = || format!("the stride of dimension {}", i + 1);
            let rule = "0 to 2^40 - 1 bytes are allowed";
            strides.push(within(&argument, stride, 0, MAX_STRIDE - 1, rule)?);
        }
        within(&|| "the end".to_owned(), &map.end(), 0, most, rule)?;
        Ok(BoundMap {
            word,
            buffer: map.buffer,
            offset,
            data_type: map.data_type,
            dims,
            strides,
            box_dims: map.box_dims.clone(),
            element_strides: map.element_strides.clone(),
            swizzle: map.swizzle,
            l2_promotion: map.l2_promotion,
            encoded: None,
        })
    }
}

/// The blocks that a step launches on a device of so many SMs.
pub fn blocks(program: &Program, step: &BoundStep, sm_count: u32) -> Result<u32, RunError> {
    let kernel = &program.kernels[step.kernel];
    let tiles = step.grid.iter().fold(1u64, |p, &g| p.saturating_mul(g));
    let blocks = kernel.blocks(tiles, sm_count);
    let what = || format!("the grid of `{}`", program.steps[step.step].origin);
    if !blocks.is_multiple_of(u64::from(kernel.cluster)) {
        return Err(RunError::Grid { what: what(), blocks, rule: "not whole clusters" });
    }
    // The limit of a grid's x dimension (CUDA C++ Programming Guide, 20.2).
    u32::try_from(blocks).ok().filter(|&n| n <= i32::MAX as u32).ok_or_else(|| RunError::Grid {
        what: what(),
        blocks,
        rule: "more than 2^31 - 1",
    })
}

/// Brings inputs into the program's order.
pub fn order_inputs(
    program: &Program,
    mut given: Vec<(String, Tensor)>,
) -> Result<Vec<Tensor>, RunError> {
    let expected = || {
        let ports = program.inputs.iter();
        let list: Vec<String> =
            ports.map(|p| format!("`{}` ({})", p.name, describe(program, p))).collect();
        if list.is_empty() { "no inputs".to_owned() } else { list.join(", ") }
    };
    let mut ordered = Vec::with_capacity(program.inputs.len());
    for port in &program.inputs {
        let at = given.iter().position(|(name, _)| *name == port.name);
        let Some(at) = at else {
            return Err(RunError::MissingInput { name: port.name.clone(), expected: expected() });
        };
        let (_, tensor) = given.swap_remove(at);
        if tensor.dtype() != port.dtype {
            return Err(RunError::InputType {
                name: port.name.clone(),
                found: tensor.dtype(),
                expected: port.dtype,
            });
        }
        ordered.push(tensor);
    }
    match given.into_iter().next() {
        None => Ok(ordered),
        Some((name, _)) => Err(RunError::UnknownInput {
            hint: did_you_mean(&name, &program.inputs),
            name,
            expected: expected(),
        }),
    }
}

/// Stored weights must be as large as the program believes.
pub fn check_weights(program: &Program, bound: &Bound, weights: &Weights) -> Result<(), RunError> {
    for (buffer, &bytes) in program.buffers.iter().zip(&bound.buffer_bytes) {
        let Place::Weight(w) = buffer.place else { continue };
        let found = weights.bytes(w)?.len();
        if found as u64 != bytes {
            return Err(RunError::Weight {
                name: buffer.name.clone(),
                reason: format!("it has {found} bytes, the program needs {bytes}"),
            });
        }
    }
    Ok(())
}

/// ` (did you mean `x`?)` for a name close to a known one.
fn did_you_mean(name: &str, ports: &[Port]) -> String {
    let best = ports.iter().map(|p| (distance(name, &p.name), &p.name)).min();
    match best {
        Some((d, known)) if d <= 1 + known.len() / 3 => format!(" (did you mean `{known}`?)"),
        _ => String::new(),
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
