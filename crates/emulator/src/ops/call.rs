//! Functions that the emulator provides: `vprintf` and `__assertfail`, as CUDA's device runtime has them.

use zeroforge_ptx::{Instruction, Operand, StateSpace, Symbol};

use crate::check::lanes;
use crate::machine::context::Cx;
use crate::machine::warp::Warp;
use crate::memory::window::{self, Place};
use crate::ops::format::{self, Arguments};
use crate::program::decode::{Decoder, Reason};
use crate::program::inst::{Detail, Inst, Step};
use crate::report::FindingKind;

/// Text that one cluster may print, as much as the card's default buffer holds.
const MAX_PRINTED: usize = 1 << 20;
/// What stands where more would have come.
const FULL: &str = "\n[the buffer of printf is full: what follows is lost]\n";
/// Longest string that is read from the card.
const MAX_STRING: usize = 1 << 16;

/// Operands: local-memory offsets of the arguments and of the result.
#[derive(Debug)]
pub(crate) struct CallOp {
    arguments: Vec<u32>,
    result: Option<u32>,
}

pub(crate) fn decode(d: &mut Decoder<'_>, i: &Instruction, name: &str) -> Result<Inst, Reason> {
    let (exec, count): (crate::program::inst::Exec, usize) = match name {
        "vprintf" => (print, 2),
        "__assertfail" => (assert_failed, 5),
        "malloc" | "free" => {
            return Err(format!(
                "`{name}` on the device is not emulated; allocate from the host and pass a pointer"
            ));
        }
        _ => {
            return Err(format!(
                "`{name}` is not defined in the module and the emulator does not provide it"
            ));
        }
    };
    let mut op = CallOp { arguments: Vec::new(), result: None };
    let mut named = false;
    for operand in &i.operands {
        match operand {
            Operand::Symbol(Symbol::Function(_), _) => named = true,
            Operand::List(list) if named => {
                for argument in list {
                    op.arguments.push(place(d, argument)?);
                }
            }
            Operand::List(list) => {
                op.result = list.first().map(|result| place(d, result)).transpose()?;
            }
            _ => {}
        }
    }
    if op.arguments.len() != count {
        return Err(format!("`{name}` takes {count} arguments, {} are given", op.arguments.len()));
    }
    let mut inst = Inst::new(exec);
    inst.detail = Detail::Call(Box::new(op));
    Ok(inst)
}

fn place(d: &Decoder<'_>, operand: &Operand) -> Result<u32, Reason> {
    let refuse = || "arguments must be .param variables of the caller".to_owned();
    let Operand::Symbol(symbol, 0) = operand else { return Err(refuse()) };
    let place = d.symbol(*symbol)?;
    (place.space == StateSpace::Local).then_some(place.address as u32).ok_or_else(refuse)
}

/// An integer of a lane's local memory; zero outside.
fn local(warp: &Warp, lane: usize, offset: u64, bytes: u32) -> u64 {
    let size = warp.local.len() / crate::machine::warp::LANES;
    let end = offset.saturating_add(u64::from(bytes));
    if end > size as u64 {
        return 0;
    }
    let at = lane * size + offset as usize;
    let mut value = [0; 8];
    value[..bytes as usize].copy_from_slice(&warp.local[at..at + bytes as usize]);
    u64::from_le_bytes(value)
}

/// An integer at a generic address; None if nothing is there.
fn read(warp: &Warp, cx: &Cx<'_>, lane: usize, address: u64, bytes: u32) -> Option<u64> {
    match window::place(address) {
        Place::Global(address) => {
            let (at, offset) = cx.env.find(address, u64::from(bytes))?;
            let mut value = [0; 8];
            cx.env.memory[at].bytes.read(offset, &mut value[..bytes as usize]);
            Some(u64::from_le_bytes(value))
        }
        Place::Shared(address) => {
            let (rank, offset) = window::split_shared(address, cx.rank);
            let cta = cx.cluster.ctas.get(rank as usize)?;
            let mut value = [0; 8];
            value[..bytes as usize].copy_from_slice(&cta.shared[cta.range(offset, bytes)?]);
            Some(u64::from_le_bytes(value))
        }
        Place::Local(offset) => {
            let size = warp.local.len() / crate::machine::warp::LANES;
            (u64::from(offset) + u64::from(bytes) <= size as u64)
                .then(|| local(warp, lane, u64::from(offset), bytes))
        }
        Place::Param(offset) => {
            let start = offset as usize;
            let from = cx.env.config.params.get(start..start.checked_add(bytes as usize)?)?;
            let mut value = [0; 8];
            value[..bytes as usize].copy_from_slice(from);
            Some(u64::from_le_bytes(value))
        }
    }
}

/// The C string at a generic address; None if it leaves all memory before it ends.
fn string(warp: &Warp, cx: &Cx<'_>, lane: usize, address: u64) -> Option<String> {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_STRING {
        match read(warp, cx, lane, address.wrapping_add(bytes.len() as u64), 1)? as u8 {
            0 => break,
            byte => bytes.push(byte),
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The argument buffer that compilers build: values one after the other, each aligned to its size.
struct Buffer<'a, 'b> {
    warp: &'a Warp,
    cx: &'a Cx<'b>,
    lane: usize,
    address: u64,
    bad: Option<u64>,
}

impl Arguments for Buffer<'_, '_> {
    fn next(&mut self, bytes: u32) -> u64 {
        let at = self.address.next_multiple_of(u64::from(bytes));
        self.address = at + u64::from(bytes);
        let value = read(self.warp, self.cx, self.lane, at, bytes);
        if value.is_none() {
            self.bad.get_or_insert(at);
        }
        value.unwrap_or(0)
    }

    fn string(&mut self, address: u64) -> String {
        if address == 0 {
            return "(null)".to_owned();
        }
        let text = string(self.warp, self.cx, self.lane, address);
        if text.is_none() {
            self.bad.get_or_insert(address);
        }
        text.unwrap_or_default()
    }
}

/// `int vprintf(const char* format, void* arguments)`.
fn print(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Call(op) = &inst.detail else { return Step::Stop };
    for lane in lanes(warp.mask) {
        let address = local(warp, lane, u64::from(op.arguments[0]), 8);
        let list = local(warp, lane, u64::from(op.arguments[1]), 8);
        let mut text = String::new();
        let (bad, used) = match string(warp, cx, lane, address) {
            Some(format) => {
                let mut buffer = Buffer { warp, cx, lane, address: list, bad: None };
                let used = format::format(&format, &mut buffer, &mut text);
                (buffer.bad, used)
            }
            None => (Some(address), -1),
        };
        if let Some(bad) = bad {
            cx.find(warp, 1 << lane, FindingKind::OutOfBounds, Some(bad), || {
                format!(
                    "printf reads {bad:#x}, where nothing is: does the format fit its arguments?"
                )
            });
        }
        let printed = &mut cx.cluster.printed;
        if printed.len() + text.len() <= MAX_PRINTED {
            printed.push_str(&text);
        } else if !printed.ends_with(FULL) {
            printed.push_str(FULL);
        }
        if let Some(result) = op.result {
            let size = warp.local.len() / crate::machine::warp::LANES;
            let at = lane * size + result as usize;
            warp.local[at..at + 4].copy_from_slice(&used.to_le_bytes());
        }
    }
    Step::Next
}

/// `void __assertfail(const char* message, const char* file, unsigned line, const char* function,
/// size_t char_size)`.
fn assert_failed(inst: &Inst, warp: &mut Warp, cx: &mut Cx<'_>) -> Step {
    let Detail::Call(op) = &inst.detail else { return Step::Stop };
    let lane = warp.mask.trailing_zeros() as usize & 31;
    let text = |k: usize| {
        let address = local(warp, lane, u64::from(op.arguments[k]), 8);
        string(warp, cx, lane, address).unwrap_or_else(|| "?".to_owned())
    };
    let (message, file, function) = (text(0), text(1), text(3));
    let line = local(warp, lane, u64::from(op.arguments[2]), 4);
    cx.find(warp, warp.mask, FindingKind::Trap, None, || {
        format!("{file}:{line}: {function}: assertion `{message}` failed")
    });
    Step::Stop
}
