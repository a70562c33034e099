//! Module images: PTX text, fat binaries that hold it, machine code whose PTX was registered, and what cuLinkComplete makes.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::sync::{Mutex, PoisonError};

use crate::abi::{In, InStr, read_host};
use crate::error::{Error, Res};

/// Why an image cannot be loaded.
#[derive(Debug)]
pub struct ImageError {
    /// The code for the caller.
    pub error: Error,
    /// The reason for people.
    pub message: String,
}

fn refuse<T>(error: Error, message: impl Into<String>) -> Result<T, ImageError> {
    Err(ImageError { error, message: message.into() })
}

impl From<Error> for ImageError {
    fn from(error: Error) -> ImageError {
        ImageError { error, message: "the image cannot be read".to_owned() }
    }
}

const ELF: [u8; 4] = [0x7f, b'E', b'L', b'F'];
const FATBIN: u32 = 0xba55_ed50;
/// `__fatBinC_Wrapper_t`, through which compilers refer to a fat binary.
const WRAPPER: u32 = 0x4662_43b1;
/// Start of what cuLinkComplete makes.
const LINKED: [u8; 8] = *b"ZFLINK01";
/// Largest image; NVIDIA's largest libraries are below.
const MAX_BYTES: u64 = 1 << 32;

/// PTX of machine code: by the size and a hash of the machine code.
static REGISTERED: Mutex<BTreeMap<(u64, u64), String>> = Mutex::new(BTreeMap::new());

/// Size of an ELF file by its own header, from its first 64 bytes.
fn elf_size(header: &[u8]) -> Option<u64> {
    let word = |at: usize, n: usize| {
        let mut bytes = [0; 8];
        bytes[..n].copy_from_slice(header.get(at..at + n)?);
        Some(u64::from_le_bytes(bytes))
    };
    // 64-bit files only: e_phoff, e_shoff, then sizes and counts.
    if header.get(..4)? != ELF || header.get(4) != Some(&2) {
        return None;
    }
    let programs = word(32, 8)?.checked_add(word(54, 2)? * word(56, 2)?)?;
    let sections = word(40, 8)?.checked_add(word(58, 2)? * word(60, 2)?)?;
    let size = programs.max(sections).max(64);
    (size <= MAX_BYTES).then_some(size)
}

fn key(bytes: &[u8]) -> (u64, u64) {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    (bytes.len() as u64, hasher.finish())
}

/// Remembers the PTX of machine code, so that loading the code executes the PTX.
pub fn register(code: &[u8], ptx: String) -> Res<()> {
    let size = elf_size(code).and_then(|s| usize::try_from(s).ok());
    let code = size.and_then(|s| code.get(..s)).ok_or(Error::INVALID_IMAGE)?;
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner).insert(key(code), ptx);
    Ok(())
}

fn registered(code: &[u8]) -> Option<String> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner).get(&key(code)).cloned()
}

const BARE_CUBIN: &str = "the image is machine code without PTX; the software device executes PTX. Compile to PTX (nvcc -ptx, \
     NVRTC's getPTX), embed it (-gencode arch=compute_90a,code=compute_90a), or name it with zfRegisterPtx";

/// The PTX texts of an image at an address. The image says itself how long it is, as NVIDIA's loader has it.
pub fn texts(address: usize) -> Result<Vec<String>, ImageError> {
    if address == 0 {
        return Err(Error::INVALID_VALUE.into());
    }
    let magic: [u8; 4] = In::at(address).get()?;
    if magic == ELF {
        let size = elf_size(&read_host(address, 64)?);
        let Some(size) = size else {
            return refuse(Error::INVALID_IMAGE, "the ELF header is damaged");
        };
        let found = registered(&read_host(address, size as usize)?);
        return match found {
            Some(ptx) => Ok(vec![ptx]),
            None => refuse(Error::NO_BINARY_FOR_GPU, BARE_CUBIN),
        };
    }
    match u32::from_le_bytes(magic) {
        WRAPPER => {
            let inner: u64 = In::at(address + 8).get()?;
            let magic: u32 = In::at(inner as usize).get()?;
            if magic != FATBIN {
                return refuse(
                    Error::INVALID_IMAGE,
                    "the fat binary's wrapper names something else",
                );
            }
            return fatbin(inner as usize);
        }
        FATBIN => return fatbin(address),
        _ => {}
    }
    if magic == LINKED[..4] && In::<[u8; 8]>::at(address).get()? == LINKED {
        let size: u64 = In::at(address + 8).get()?;
        if size > MAX_BYTES {
            return refuse(Error::INVALID_IMAGE, "the linked image is damaged");
        }
        let bytes = read_host(address, size as usize)?;
        return match unlink(&bytes) {
            Some(texts) => Ok(texts),
            None => refuse(Error::INVALID_IMAGE, "the linked image is damaged"),
        };
    }
    match InStr::at(address).get() {
        Ok(text) => Ok(vec![text]),
        Err(_) => refuse(
            Error::INVALID_IMAGE,
            "the image is no PTX text, no ELF file and no fat binary that is known",
        ),
    }
}

/// The PTX texts of an image in memory, for linker inputs with a size.
pub fn texts_in(bytes: &[u8]) -> Result<Vec<String>, ImageError> {
    if bytes.starts_with(&ELF) {
        let size = elf_size(bytes).and_then(|s| bytes.get(..s as usize));
        return match size.and_then(registered) {
            Some(ptx) => Ok(vec![ptx]),
            None => refuse(Error::NO_BINARY_FOR_GPU, BARE_CUBIN),
        };
    }
    if bytes.starts_with(&FATBIN.to_le_bytes()) {
        return fatbin_in(bytes);
    }
    if bytes.starts_with(&LINKED) {
        return unlink(bytes).map_or_else(|| refuse(Error::INVALID_IMAGE, "damaged"), Ok);
    }
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    match std::str::from_utf8(&bytes[..end]) {
        Ok(text) => Ok(vec![text.to_owned()]),
        Err(_) => refuse(Error::INVALID_IMAGE, "the input is not text"),
    }
}

/// The image of cuLinkComplete: magic, size of all, then length and bytes of every text.
pub fn linked(texts: &[String]) -> Vec<u8> {
    let mut out = LINKED.to_vec();
    out.extend([0; 8]);
    for text in texts {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }
    let size = out.len() as u64;
    out[8..16].copy_from_slice(&size.to_le_bytes());
    out
}

fn unlink(bytes: &[u8]) -> Option<Vec<String>> {
    let mut rest = bytes.get(16..)?;
    let mut texts = Vec::new();
    while !rest.is_empty() {
        let (len, tail) = rest.split_first_chunk::<8>()?;
        let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
        texts.push(String::from_utf8(tail.get(..len)?.to_vec()).ok()?);
        rest = &tail[len..];
    }
    Some(texts)
}

/// A fat binary at an address: its header has the size of all.
fn fatbin(address: usize) -> Result<Vec<String>, ImageError> {
    let header = read_host(address, 16)?;
    let size = u64::from_le_bytes(header[8..16].try_into().unwrap_or_default());
    let start = u64::from(u16::from_le_bytes([header[6], header[7]]));
    match start.checked_add(size).filter(|&s| s <= MAX_BYTES) {
        Some(all) => fatbin_in(&read_host(address, all as usize)?),
        None => refuse(Error::INVALID_IMAGE, "the fat binary's header is damaged"),
    }
}

/// An entry of a fat binary.
struct Entry<'a> {
    ptx: bool,
    arch: u32,
    flags: u64,
    payload: &'a [u8],
    uncompressed: u64,
}

fn entries(bytes: &[u8]) -> Option<Vec<Entry<'_>>> {
    let u16_at =
        |b: &[u8], at: usize| Some(u16::from_le_bytes(b.get(at..at + 2)?.try_into().ok()?));
    let u32_at =
        |b: &[u8], at: usize| Some(u32::from_le_bytes(b.get(at..at + 4)?.try_into().ok()?));
    let u64_at =
        |b: &[u8], at: usize| Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?));
    let mut rest = bytes.get(usize::from(u16_at(bytes, 6)?)..)?;
    let mut list = Vec::new();
    while rest.len() >= 64 {
        let header = u32_at(rest, 4)? as usize;
        let padded = usize::try_from(u64_at(rest, 8)?).ok()?;
        let compressed = u32_at(rest, 16)? as usize;
        let all = rest.get(header..header.checked_add(padded)?)?;
        let flags = u64_at(rest, 40)?;
        let packed = compressed != 0 && flags & (LZ4 | ZSTD) != 0;
        list.push(Entry {
            ptx: u16_at(rest, 0)? == 1,
            arch: u32_at(rest, 28)?,
            flags,
            payload: if packed { all.get(..compressed)? } else { all },
            uncompressed: u64_at(rest, 56)?,
        });
        rest = rest.get(header + padded..)?;
    }
    Some(list)
}

/// The payload is an LZ4 block.
const LZ4: u64 = 0x2000;
/// The payload is a Zstandard frame.
const ZSTD: u64 = 0x8000;
/// Largest text after decompression.
const MAX_TEXT: u64 = 1 << 30;

fn unpack(entry: &Entry<'_>) -> Result<Vec<u8>, ImageError> {
    if entry.flags & (LZ4 | ZSTD) == 0 {
        return Ok(entry.payload.to_vec());
    }
    if entry.uncompressed > MAX_TEXT {
        return refuse(Error::INVALID_IMAGE, "the fat binary's text is too large");
    }
    let out = match entry.flags & ZSTD != 0 {
        true => unpack_zstd(entry.payload, entry.uncompressed as usize),
        false => unpack_lz4(entry.payload, entry.uncompressed as usize),
    };
    out.map_or_else(
        || refuse(Error::INVALID_IMAGE, "the fat binary's compressed text is damaged"),
        Ok,
    )
}

/// Decodes a Zstandard frame of a known size.
fn unpack_zstd(bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    use std::io::Read;
    let decoder = ruzstd::decoding::StreamingDecoder::new(bytes).ok()?;
    let mut out = Vec::new();
    decoder.take(size as u64).read_to_end(&mut out).ok()?;
    (out.len() == size).then_some(out)
}

/// Decodes an LZ4 block of a known size.
fn unpack_lz4(bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut at = 0;
    let mut next = || {
        at += 1;
        bytes.get(at - 1).copied()
    };
    let mut out: Vec<u8> = Vec::new();
    loop {
        let token = next()?;
        let mut literals = usize::from(token >> 4);
        if literals == 15 {
            loop {
                let more = next()?;
                literals += usize::from(more);
                if more != 255 {
                    break;
                }
            }
        }
        for _ in 0..literals {
            out.push(next()?);
        }
        if out.len() == size {
            return Some(out);
        }
        let distance = usize::from(next()?) | usize::from(next()?) << 8;
        let mut len = usize::from(token & 15) + 4;
        if token & 15 == 15 {
            loop {
                let more = next()?;
                len += usize::from(more);
                if more != 255 {
                    break;
                }
            }
        }
        let from = out.len().checked_sub(distance).filter(|_| distance > 0)?;
        if out.len() + len > size {
            return None;
        }
        for i in 0..len {
            out.push(out[from + i]);
        }
    }
}

fn fatbin_in(bytes: &[u8]) -> Result<Vec<String>, ImageError> {
    let Some(list) = entries(bytes) else {
        return refuse(Error::INVALID_IMAGE, "the fat binary is damaged");
    };
    // The most specific PTX that a card of compute capability 9.0 takes.
    let ptx = list.iter().filter(|e| e.ptx && e.arch <= 90).max_by_key(|e| e.arch);
    if let Some(entry) = ptx {
        let mut text = unpack(entry)?;
        text.truncate(text.iter().position(|&b| b == 0).unwrap_or(text.len()));
        return match String::from_utf8(text) {
            Ok(text) => Ok(vec![text]),
            Err(_) => refuse(Error::INVALID_IMAGE, "the fat binary's PTX is not text"),
        };
    }
    for entry in list.iter().filter(|e| !e.ptx && e.arch == 90) {
        let code = unpack(entry)?;
        let size = elf_size(&code).and_then(|s| code.get(..s as usize));
        if let Some(ptx) = size.and_then(registered) {
            return Ok(vec![ptx]);
        }
    }
    let archs: Vec<String> = list
        .iter()
        .map(|e| format!("{} {}", if e.ptx { "PTX" } else { "machine code" }, e.arch))
        .collect();
    refuse(
        Error::NO_BINARY_FOR_GPU,
        format!("the fat binary has no PTX for compute capability 9.0, only: {}", archs.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fat(kind: u16, arch: u32, flags: u64, payload: &[u8], uncompressed: u64) -> Vec<u8> {
        let mut entry = Vec::new();
        entry.extend(kind.to_le_bytes());
        entry.extend([1, 1]);
        entry.extend(64u32.to_le_bytes());
        let padded = payload.len().next_multiple_of(8);
        entry.extend((padded as u64).to_le_bytes());
        entry.extend((payload.len() as u32).to_le_bytes());
        entry.extend([0; 8]);
        entry.extend(arch.to_le_bytes());
        entry.extend([0; 8]);
        entry.extend(flags.to_le_bytes());
        entry.extend([0; 8]);
        entry.extend(uncompressed.to_le_bytes());
        entry.extend(payload);
        entry.resize(64 + padded, 0);
        let mut all = FATBIN.to_le_bytes().to_vec();
        all.extend([1, 0, 16, 0]);
        all.extend((entry.len() as u64).to_le_bytes());
        all.extend(entry);
        all
    }

    #[test]
    fn ptx_comes_out_of_fat_binaries() {
        let plain = fat(1, 90, 0, b".version 8.0\0", 0);
        assert_eq!(texts_in(&plain).expect("PTX"), [".version 8.0"]);
        // One literal run, then a match of 8 bytes at distance 4.
        let lz4 = [0x44, b'a', b'b', b'c', b'd', 4, 0, 0x10, b'!'];
        let packed = fat(1, 80, LZ4, &lz4, 13);
        assert_eq!(texts_in(&packed).expect("PTX"), ["abcdabcdabcd!"]);
        assert_eq!(texts(plain.as_ptr() as usize).expect("PTX"), [".version 8.0"]);
    }

    #[test]
    fn other_images_are_refused_by_reason() {
        for (image, error) in [
            (fat(2, 90, 0, b"code", 0), Error::NO_BINARY_FOR_GPU),
            (fat(1, 100, 0, b".version", 0), Error::NO_BINARY_FOR_GPU),
            (fat(1, 90, LZ4, b"\xff", 100), Error::INVALID_IMAGE),
            (fat(1, 90, ZSTD, b"nonsense", 100), Error::INVALID_IMAGE),
        ] {
            assert_eq!(texts_in(&image).expect_err("no PTX").error, error);
        }
        let whole = fat(1, 90, 0, b".version 8.0\0", 0);
        for cut in 0..whole.len() {
            // Whatever is cut off, the answer is an error or no more than the text.
            let _ = texts_in(&whole[..cut]);
        }
    }

    #[test]
    fn linked_images_keep_their_texts() {
        let texts = vec!["one".to_owned(), "two".to_owned()];
        assert_eq!(texts_in(&linked(&texts)).expect("texts"), texts);
    }
}
