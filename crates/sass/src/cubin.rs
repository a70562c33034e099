//! Cubins: ELF files of the GPU. What the loader knows of a kernel: its section, registers, stack, shared memory.
//!
//! Layout: the ELF64 specification; the attributes of `.nv.info` by the names that `cuobjdump -elf` prints.

use serde::Serialize;

use crate::SassError;

/// A kernel of a cubin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Symbol name.
    pub name: String,
    /// Index in the symbol table, which the disassembler takes.
    pub symbol: u32,
    /// Bytes of machine code.
    pub code_bytes: u64,
    /// Registers per thread at launch.
    pub registers: u32,
    /// Bytes of stack per thread.
    pub stack_bytes: u32,
    /// Bytes of shared memory that the code declares; what a launch adds is not in a cubin.
    pub static_shared: u64,
    /// Largest number of threads in a block, if the source states it (`__launch_bounds__`).
    pub max_threads: Option<u32>,
    /// Exact number of threads in a block, if the source states it.
    pub required_threads: Option<u32>,
    /// Bytes of parameters.
    pub param_bytes: u32,
}

const MAGIC: [u8; 4] = [0x7f, b'E', b'L', b'F'];
/// `e_machine` of CUDA.
const EM_CUDA: u16 = 190;
/// `st_info` types of functions.
const STT_FUNC: u8 = 2;
/// `st_other`: an entry point.
const STO_ENTRY: u8 = 0x10;

// Attributes in `.nv.info`.
const EIATTR_MAX_THREADS: u8 = 0x05;
const EIATTR_REQNTID: u8 = 0x10;
const EIATTR_FRAME_SIZE: u8 = 0x11;
const EIATTR_MIN_STACK_SIZE: u8 = 0x12;
const EIATTR_CBANK_PARAM_SIZE: u8 = 0x19;
const EIATTR_REGCOUNT: u8 = 0x2f;

/// Reads little-endian numbers, each with a check.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(self, at: u64, len: u64) -> Option<&'a [u8]> {
        let at = usize::try_from(at).ok()?;
        let end = at.checked_add(usize::try_from(len).ok()?)?;
        self.0.get(at..end)
    }
    fn u8(self, at: u64) -> Option<u8> {
        self.take(at, 1).map(|b| b[0])
    }
    fn u16(self, at: u64) -> Option<u16> {
        self.take(at, 2)?.try_into().ok().map(u16::from_le_bytes)
    }
    fn u32(self, at: u64) -> Option<u32> {
        self.take(at, 4)?.try_into().ok().map(u32::from_le_bytes)
    }
    fn u64(self, at: u64) -> Option<u64> {
        self.take(at, 8)?.try_into().ok().map(u64::from_le_bytes)
    }
    /// The text up to the next zero byte.
    fn text(self, at: u64) -> Option<String> {
        let rest = self.0.get(usize::try_from(at).ok()?..)?;
        let end = rest.iter().position(|&b| b == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    }
}

struct Section {
    name: String,
    info: u32,
    offset: u64,
    size: u64,
    /// The section takes no bytes of the file.
    nobits: bool,
}

fn damaged(reason: &str) -> SassError {
    SassError::Cubin(reason.to_owned())
}

/// Whether bytes look like a cubin.
pub fn is_cubin(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

fn sections(file: Bytes<'_>) -> Result<Vec<Section>, SassError> {
    let cut = || damaged("the section table is cut off");
    let table = file.u64(40).ok_or_else(cut)?;
    let entry = u64::from(file.u16(58).ok_or_else(cut)?);
    let count = u64::from(file.u16(60).ok_or_else(cut)?);
    let names = u64::from(file.u16(62).ok_or_else(cut)?);
    if entry < 64 {
        return Err(damaged("an entry of the section table has fewer than 64 bytes"));
    }
    let at = |i: u64| table.checked_add(i * entry);
    let names_at = at(names).and_then(|a| file.u64(a.checked_add(24)?)).ok_or_else(cut)?;
    (0..count)
        .map(|i| {
            let at = at(i)?;
            file.take(at, 64)?;
            Some(Section {
                name: file.text(names_at.checked_add(u64::from(file.u32(at)?))?)?,
                nobits: file.u32(at + 4)? == 8,
                offset: file.u64(at + 24)?,
                size: file.u64(at + 32)?,
                info: file.u32(at + 44)?,
            })
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(cut)
}

/// Attributes of an info section: kind and payload, or the value stored in place.
fn attributes(data: Bytes<'_>) -> Vec<(u8, Vec<u32>)> {
    let mut list = Vec::new();
    let mut at = 0;
    while let (Some(form), Some(kind), Some(short)) =
        (data.u8(at), data.u8(at + 1), data.u16(at + 2))
    {
        at += 4;
        if form == 4 {
            let Some(payload) = data.take(at, u64::from(short)) else { break };
            let words =
                payload.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
            list.push((kind, words.collect()));
            at += u64::from(short).next_multiple_of(4);
        } else {
            list.push((kind, vec![u32::from(short)]));
        }
    }
    list
}

/// The kernels of a cubin, in the order of its symbols.
///
/// # Errors
///
/// [`SassError::Cubin`] if the file is no ELF file of the GPU, or is damaged.
pub fn entries(bytes: &[u8]) -> Result<Vec<Entry>, SassError> {
    let file = Bytes(bytes);
    if !is_cubin(bytes) || file.u8(4) != Some(2) || file.u8(5) != Some(1) {
        return Err(damaged("it is no 64-bit ELF file"));
    }
    if file.u16(18) != Some(EM_CUDA) {
        return Err(damaged("it is an ELF file of another machine, not of CUDA"));
    }
    let sections = sections(file)?;
    let body = |s: &Section| match s.nobits {
        true => Some(Bytes(&[])),
        false => file.take(s.offset, s.size).map(Bytes),
    };
    let find = |name: &str| sections.iter().find(|s| s.name == name);
    let symbols = find(".symtab").and_then(body).ok_or_else(|| damaged("it has no symbols"))?;
    let strings = find(".strtab").and_then(body).ok_or_else(|| damaged("it has no names"))?;

    let mut list: Vec<Entry> = Vec::new();
    for (index, at) in (0..symbols.0.len() as u64 / 24).map(|i| (i as u32, i * 24)) {
        let cut = || damaged("the symbol table is cut off");
        let info = symbols.u8(at + 4).ok_or_else(cut)?;
        let other = symbols.u8(at + 5).ok_or_else(cut)?;
        if info & 15 != STT_FUNC || other & STO_ENTRY == 0 {
            continue;
        }
        let name = strings
            .text(u64::from(symbols.u32(at).ok_or_else(cut)?))
            .ok_or_else(|| damaged("a symbol has no name"))?;
        let section = symbols.u16(at + 6).ok_or_else(cut)?;
        let code = sections
            .get(usize::from(section))
            .filter(|s| s.name.starts_with(".text"))
            .ok_or_else(|| damaged(&format!("`{name}` lies in no code section")))?;
        let mut entry = Entry {
            symbol: index,
            code_bytes: symbols.u64(at + 16).ok_or_else(cut)?,
            // The section's info has it in the upper byte; the attribute below agrees where it exists.
            registers: code.info >> 24,
            static_shared: find(&format!(".nv.shared.{name}")).map_or(0, |s| s.size),
            name,
            ..Entry::default()
        };
        let own = find(&format!(".nv.info.{}", entry.name)).and_then(body);
        for (kind, words) in own.map(attributes).unwrap_or_default() {
            let threads = || words.iter().take(3).try_fold(1u32, |a, &b| a.checked_mul(b));
            match kind {
                EIATTR_MAX_THREADS => entry.max_threads = threads(),
                EIATTR_REQNTID => entry.required_threads = threads(),
                EIATTR_CBANK_PARAM_SIZE => entry.param_bytes = words.first().copied().unwrap_or(0),
                _ => {}
            }
        }
        list.push(entry);
    }
    for (kind, words) in find(".nv.info").and_then(body).map(attributes).unwrap_or_default() {
        let [symbol, value] = words[..] else { continue };
        let Some(entry) = list.iter_mut().find(|e| e.symbol == symbol) else { continue };
        match kind {
            EIATTR_REGCOUNT => entry.registers = value,
            EIATTR_FRAME_SIZE | EIATTR_MIN_STACK_SIZE => {
                entry.stack_bytes = entry.stack_bytes.max(value);
            }
            _ => {}
        }
    }
    Ok(list)
}
