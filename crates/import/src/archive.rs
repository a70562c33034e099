//! The zip container of a torch.export archive, read where it is mapped.
//!
//! Only what such archives use is accepted: stored entries, listed by the central directory (local
//! headers carry no sizes). An own reader because payloads must stay views of the map, and because
//! every offset is checked before it is followed; `zip`-like crates copy or inflate.

use std::collections::BTreeMap;
use std::ops::Range;

/// Most entries an archive may have.
pub const MAX_ENTRIES: usize = 1 << 20;
/// Longest entry name in bytes.
pub const MAX_NAME_BYTES: usize = 4096;

/// Why an archive could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArchiveError {
    /// No end-of-central-directory record.
    #[error(
        "not a zip archive, or cut off: no end record was found; copy the file again, or save the model again with torch.export.save"
    )]
    NoEndRecord,
    /// An offset or length that leaves the file.
    #[error("the archive is damaged at byte {at}: {reason}; copy or save the model again")]
    Damaged {
        /// Byte offset.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// A feature that torch.export does not use.
    #[error(
        "entry `{entry}` {reason}; torch.export does not write that, save the model again with torch.export.save"
    )]
    Unsupported {
        /// The entry.
        entry: String,
        /// What it uses.
        reason: String,
    },
    /// The contents of an entry are not what its checksum says.
    #[error(
        "entry `{entry}` at byte {at} is corrupt: its CRC-32 is {found:08x}, the archive records {expected:08x}; copy or save the model again"
    )]
    Corrupt {
        /// The entry.
        entry: String,
        /// Where its bytes start.
        at: u64,
        /// The checksum of the bytes.
        found: u32,
        /// The checksum recorded for them.
        expected: u32,
    },
    /// An entry is missing.
    #[error("the archive has no entry `{0}`")]
    Missing(String),
}

/// The entries of an archive.
#[derive(Debug, Default)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    range: Range<usize>,
    crc: u32,
}

fn damaged(at: u64, reason: impl Into<String>) -> ArchiveError {
    ArchiveError::Damaged { at, reason: reason.into() }
}

fn take<const N: usize>(file: &[u8], at: u64) -> Result<[u8; N], ArchiveError> {
    usize::try_from(at)
        .ok()
        .and_then(|s| file.get(s..s.checked_add(N)?))
        .and_then(|s| s.try_into().ok())
        .ok_or_else(|| damaged(at, format!("{N} bytes expected, the file ends")))
}

fn u16_at(file: &[u8], at: u64) -> Result<u64, ArchiveError> {
    take(file, at).map(|b| u16::from_le_bytes(b).into())
}

fn u32_at(file: &[u8], at: u64) -> Result<u64, ArchiveError> {
    take(file, at).map(|b| u32::from_le_bytes(b).into())
}

fn u64_at(file: &[u8], at: u64) -> Result<u64, ArchiveError> {
    take(file, at).map(u64::from_le_bytes)
}

impl Archive {
    /// Reads the central directory.
    pub fn parse(file: &[u8]) -> Result<Archive, ArchiveError> {
        // The end record is 22 bytes plus a comment of at most 64 KiB.
        let first = file.len().saturating_sub(22 + 0xffff);
        let last = file.len().checked_sub(22).ok_or(ArchiveError::NoEndRecord)?;
        let end = (first..=last)
            .rev()
            .find(|&at| file[at..].starts_with(b"PK\x05\x06"))
            .ok_or(ArchiveError::NoEndRecord)? as u64;
        let mut count = u16_at(file, end + 10)?;
        let mut size = u32_at(file, end + 12)?;
        let mut start = u32_at(file, end + 16)?;
        // A zip64 locator stands directly before the end record.
        if let Some(locator) = end.checked_sub(20)
            && take::<4>(file, locator)? == *b"PK\x06\x07"
        {
            let at = u64_at(file, locator + 8)?;
            if at >= locator || take::<4>(file, at)? != *b"PK\x06\x06" {
                return Err(damaged(locator, "the zip64 end record is not where it says"));
            }
            count = u64_at(file, at + 32)?;
            size = u64_at(file, at + 40)?;
            start = u64_at(file, at + 48)?;
        }
        let fits = start.checked_add(size).is_some_and(|e| e <= end);
        if !fits || count > MAX_ENTRIES as u64 || count.saturating_mul(46) > size {
            let reason =
                format!("a central directory of {count} entries in {size} bytes at {start}");
            return Err(damaged(end, reason));
        }
        let mut archive = Archive::default();
        let mut at = start;
        for _ in 0..count {
            at = archive.entry(file, at, start + size)?;
        }
        archive.check_overlaps()?;
        Ok(archive)
    }

    /// Reads one central directory entry and returns where the next one starts.
    fn entry(&mut self, file: &[u8], at: u64, end: u64) -> Result<u64, ArchiveError> {
        if take::<4>(file, at)? != *b"PK\x01\x02" {
            return Err(damaged(at, "no central directory entry"));
        }
        let (flags, method) = (u16_at(file, at + 8)?, u16_at(file, at + 10)?);
        let (mut packed, mut size) = (u32_at(file, at + 20)?, u32_at(file, at + 24)?);
        let (name_len, extra_len, comment_len) =
            (u16_at(file, at + 28)?, u16_at(file, at + 30)?, u16_at(file, at + 32)?);
        let crc = u32::from_le_bytes(take(file, at + 16)?);
        let mut local = u32_at(file, at + 42)?;
        let next = at + 46 + name_len + extra_len + comment_len;
        if next > end {
            return Err(damaged(at, "an entry leaves the central directory"));
        }
        let name = &file[(at + 46) as usize..(at + 46 + name_len) as usize];
        let name = std::str::from_utf8(name)
            .map_err(|_| damaged(at + 46, "an entry name is not UTF-8"))?
            .to_owned();
        // Zip64 sizes stand in the extra field, in this order, where the 32-bit ones are all ones.
        let (mut field, fields_end) = (at + 46 + name_len, at + 46 + name_len + extra_len);
        while field + 4 <= fields_end {
            let (id, len) = (u16_at(file, field)?, u16_at(file, field + 2)?);
            if id == 1 {
                let mut value = field + 4;
                for slot in [&mut size, &mut packed, &mut local] {
                    if *slot == 0xffff_ffff {
                        if value + 8 > field + 4 + len {
                            return Err(damaged(field, "a zip64 field is too short"));
                        }
                        *slot = u64_at(file, value)?;
                        value += 8;
                    }
                }
            }
            field += 4 + len;
        }
        let unsupported =
            |reason: &str| ArchiveError::Unsupported { entry: name.clone(), reason: reason.into() };
        if flags & 1 != 0 {
            return Err(unsupported("is encrypted"));
        }
        if method != 0 || packed != size {
            return Err(unsupported("is compressed"));
        }
        let escapes = name.starts_with('/')
            || name.contains('\\')
            || name.contains('\0')
            || name.split('/').any(|part| part == "..");
        if escapes || name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(unsupported("has a name that leaves the archive"));
        }
        if take::<4>(file, local)? != *b"PK\x03\x04" {
            return Err(damaged(local, format!("no local header for `{name}`")));
        }
        let data = local
            .checked_add(30 + u16_at(file, local + 26)? + u16_at(file, local + 28)?)
            .filter(|d| d.checked_add(size).is_some_and(|e| e <= file.len() as u64))
            .ok_or_else(|| damaged(local, format!("`{name}` leaves the file")))?;
        let range = data as usize..(data + size) as usize;
        if self.entries.insert(name.clone(), Entry { range, crc }).is_some() {
            return Err(unsupported("occurs twice"));
        }
        Ok(next)
    }

    /// Two entries over the same bytes are how zip bombs are made.
    fn check_overlaps(&self) -> Result<(), ArchiveError> {
        let mut ranges: Vec<(&Range<usize>, &String)> = self
            .entries
            .iter()
            .map(|(n, e)| (&e.range, n))
            .filter(|(r, _)| !r.is_empty())
            .collect();
        ranges.sort_by_key(|(r, _)| r.start);
        for pair in ranges.windows(2) {
            if pair[0].0.end > pair[1].0.start {
                let (entry, reason) = (pair[1].1.clone(), format!("overlaps `{}`", pair[0].1));
                return Err(ArchiveError::Unsupported { entry, reason });
            }
        }
        Ok(())
    }

    /// Entry names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Where the bytes of an entry lie in the file, its checksum verified.
    pub fn range(&self, file: &[u8], name: &str) -> Result<Range<usize>, ArchiveError> {
        let missing = || ArchiveError::Missing(name.to_owned());
        let Entry { range, crc: expected } = self.entries.get(name).ok_or_else(missing)?;
        let bytes = file.get(range.clone()).ok_or_else(missing)?;
        let found = crc32fast::hash(bytes);
        // A fuzzer does not find right checksums; it is here for what comes after them.
        if found != *expected && !cfg!(fuzzing) {
            let (entry, at) = (name.to_owned(), range.start as u64);
            return Err(ArchiveError::Corrupt { entry, at, found, expected: *expected });
        }
        Ok(range.clone())
    }
}
