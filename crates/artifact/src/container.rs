//! The `.zfa` container: one file, uncompressed, its sections aligned for mapping.
//!
//! ```text
//! 0    header (128 bytes)
//! 128  section table (64 bytes per entry)
//! ...  sections, each at a multiple of 4096: manifest, programs, code, weights
//! ...  signature block, outside the signed range
//! ```
//! `docs/artifact-format.md` is the specification. All integers are little-endian. The root hash
//! in the header covers the header (with root and signature fields zero) and the table; the table
//! holds the hash of every section but the weights, whose hashes are in the manifest. So a
//! signature over the root hash covers every byte that is ever used.

use std::path::{Path, PathBuf};

use crate::manifest::{Manifest, WeightStorage};
use crate::program::Program;

/// First bytes of every artifact.
pub const MAGIC: [u8; 8] = *b"ZFORGE\r\n";
/// Version of the format. A reader refuses a higher major version by name.
pub const FORMAT_MAJOR: u16 = 1;
/// The latest additions, which older readers ignore or refuse where they come upon them.
pub const FORMAT_MINOR: u16 = 2;
/// Alignment of sections.
pub const SECTION_ALIGN: u64 = 4096;
/// Most sections an artifact may have.
pub const MAX_SECTIONS: u32 = 65_536;
/// Largest manifest or program in bytes.
pub const MAX_JSON_BYTES: u64 = 256 << 20;
/// Largest list of what kernels compute, in bytes.
pub const MAX_KERNELS_BYTES: u64 = 64 << 20;
const HEADER_BYTES: u64 = 128;
const ENTRY_BYTES: u64 = 64;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// The [`Manifest`]; always section 0.
    Manifest,
    /// A [`Program`] as JSON.
    Program,
    /// An ELF shared object.
    Elf,
    /// A cubin.
    Cubin,
    /// PTX text.
    Ptx,
    /// All embedded weights.
    Weights,
    /// What each kernel of a target computes; read by `zeroforge verify`, not by a runtime. Since 1.1.
    Kernels,
    /// Of a later minor version; ignored.
    Unknown(u32),
}

impl SectionKind {
    fn code(self) -> u32 {
        match self {
            SectionKind::Manifest => 1,
            SectionKind::Program => 2,
            SectionKind::Elf => 3,
            SectionKind::Cubin => 4,
            SectionKind::Ptx => 5,
            SectionKind::Weights => 6,
            SectionKind::Kernels => 7,
            SectionKind::Unknown(code) => code,
        }
    }

    fn from_code(code: u32) -> SectionKind {
        match code {
            1 => SectionKind::Manifest,
            2 => SectionKind::Program,
            3 => SectionKind::Elf,
            4 => SectionKind::Cubin,
            5 => SectionKind::Ptx,
            6 => SectionKind::Weights,
            7 => SectionKind::Kernels,
            code => SectionKind::Unknown(code),
        }
    }
}

/// A table entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    /// Bytes from the start of the file; a multiple of [`SECTION_ALIGN`].
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// BLAKE3 of the contents; zero for weights.
    pub hash: [u8; 32],
}

/// Why an artifact cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Too short or the wrong magic.
    #[error("not a zeroforge artifact: {0}; `zeroforge compile` writes them, as .zfa files")]
    NotAnArtifact(String),
    /// Written by a newer zeroforge.
    #[error(
        "the artifact has format {found_major}.{found_minor}, this zeroforge reads up to {FORMAT_MAJOR}.x; upgrade zeroforge or compile the model again with this version"
    )]
    NewerFormat {
        /// Major version found.
        found_major: u16,
        /// Minor version found.
        found_minor: u16,
    },
    /// A length or offset that does not fit.
    #[error("the artifact is damaged at byte {at}: {reason}; fetch or compile it again")]
    Damaged {
        /// Byte offset.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// A hash that does not match.
    #[error(
        "the artifact is corrupt: {what} does not have the hash that is recorded for it; fetch or compile it again"
    )]
    Corrupt {
        /// Which part.
        what: String,
    },
    /// A manifest or program that is no valid JSON of its type or breaks a rule.
    #[error("the {what} of the artifact is invalid: {reason}; fetch or compile it again")]
    Invalid {
        /// Which part.
        what: String,
        /// Why.
        reason: String,
    },
    /// No code for the requested target.
    #[error("the artifact has no code for {wanted}; it holds {found}")]
    NoTarget {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// Writing failed.
    #[error("writing `{path}` failed while {doing}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The operation.
        doing: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

fn damaged(at: u64, reason: impl Into<String>) -> ArtifactError {
    ArtifactError::Damaged { at, reason: reason.into() }
}

/// Bytes at an offset; the caller has checked nothing.
fn get<const N: usize>(bytes: &[u8], at: u64) -> Result<[u8; N], ArtifactError> {
    let start = usize::try_from(at).map_err(|_| damaged(at, "offset out of range"))?;
    start
        .checked_add(N)
        .and_then(|end| bytes.get(start..end))
        .and_then(|s| s.try_into().ok())
        .ok_or_else(|| damaged(at, format!("{N} bytes expected, the file ends")))
}

fn u64_at(bytes: &[u8], at: u64) -> Result<u64, ArtifactError> {
    get(bytes, at).map(u64::from_le_bytes)
}

/// An artifact whose structure has been checked: every section lies inside the file, the table and
/// the manifest have the hashes that the header records.
#[derive(Debug)]
pub struct Artifact<B> {
    bytes: B,
    sections: Vec<Section>,
    manifest: Manifest,
    root: [u8; 32],
    signature: Option<(u64, u64)>,
}

impl<B: AsRef<[u8]>> Artifact<B> {
    /// Checks the structure. Cheap: reads the header, the table and the manifest, not the weights.
    pub fn parse(bytes: B) -> Result<Artifact<B>, ArtifactError> {
        let file = bytes.as_ref();
        if file.len() < HEADER_BYTES as usize {
            let reason = format!("{} bytes are too few", file.len());
            return Err(ArtifactError::NotAnArtifact(reason));
        }
        if file[..8] != MAGIC {
            return Err(ArtifactError::NotAnArtifact("the first bytes are not its magic".into()));
        }
        let found_major = u16::from_le_bytes(get(file, 8)?);
        let found_minor = u16::from_le_bytes(get(file, 10)?);
        if found_major == 0 {
            return Err(damaged(8, "format version 0 does not exist"));
        }
        if found_major != FORMAT_MAJOR {
            return Err(ArtifactError::NewerFormat { found_major, found_minor });
        }
        let count = u32::from_le_bytes(get(file, 12)?);
        let len = u64_at(file, 16)?;
        let root: [u8; 32] = get(file, 24)?;
        let (signature_offset, signature_len) = (u64_at(file, 56)?, u64_at(file, 64)?);
        if count == 0 || count > MAX_SECTIONS {
            return Err(damaged(12, format!("{count} sections; 1 to {MAX_SECTIONS} are allowed")));
        }
        let table_end = HEADER_BYTES + u64::from(count) * ENTRY_BYTES;
        if len < table_end || len > file.len() as u64 {
            let reason = format!("the signed length is {len}, the file has {} bytes", file.len());
            return Err(damaged(16, reason));
        }
        // The header with root and signature fields zero, then the table.
        let mut hasher = blake3::Hasher::new();
        hasher.update(&file[..24]);
        hasher.update(&[0; (HEADER_BYTES - 24) as usize]);
        hasher.update(&file[HEADER_BYTES as usize..table_end as usize]);
        if file[72..HEADER_BYTES as usize].iter().any(|&b| b != 0) {
            return Err(damaged(72, "reserved bytes are not zero"));
        }
        if *hasher.finalize().as_bytes() != root {
            return Err(ArtifactError::Corrupt { what: "the header or the section table".into() });
        }
        let mut sections = Vec::with_capacity(count as usize);
        let mut end = table_end;
        for i in 0..u64::from(count) {
            let at = HEADER_BYTES + i * ENTRY_BYTES;
            let section = Section {
                kind: SectionKind::from_code(u32::from_le_bytes(get(file, at)?)),
                offset: u64_at(file, at + 8)?,
                len: u64_at(file, at + 16)?,
                hash: get(file, at + 24)?,
            };
            let fits = section.offset.checked_add(section.len).is_some_and(|e| e <= len);
            if !fits || !section.offset.is_multiple_of(SECTION_ALIGN) || section.offset < end {
                let reason = format!(
                    "section {i} at {} with {} bytes overlaps, is misaligned or leaves the file",
                    section.offset, section.len
                );
                return Err(damaged(at, reason));
            }
            end = section.offset + section.len;
            sections.push(section);
        }
        let signature = match (signature_offset, signature_len) {
            (0, 0) => None,
            (offset, n) if offset >= len && offset.checked_add(n) == Some(file.len() as u64) => {
                Some((offset, n))
            }
            _ => return Err(damaged(56, "the signature block is not at the end of the file")),
        };
        let first = &sections[0];
        if first.kind != SectionKind::Manifest || first.len > MAX_JSON_BYTES {
            return Err(damaged(HEADER_BYTES, "the first section is not a manifest"));
        }
        let text = &file[first.offset as usize..(first.offset + first.len) as usize];
        if *blake3::hash(text).as_bytes() != first.hash {
            return Err(ArtifactError::Corrupt { what: "the manifest".into() });
        }
        let manifest: Manifest = serde_json::from_slice(text).map_err(|e| {
            ArtifactError::Invalid { what: "manifest".into(), reason: e.to_string() }
        })?;
        let artifact = Artifact { sections, manifest, root, signature, bytes };
        artifact.check_weights()?;
        Ok(artifact)
    }

    fn check_weights(&self) -> Result<(), ArtifactError> {
        let invalid = |reason: String| ArtifactError::Invalid { what: "manifest".into(), reason };
        let available = self.weights_section().map_or(0, |s| s.len);
        for w in &self.manifest.weights {
            let expected = crate::weights::stored_bytes(&w.layout, &w.shape, w.dtype.size());
            if expected != Some(w.bytes) {
                let reason = format!(
                    "weight `{}` has {} bytes, its shape says {expected:?}",
                    w.name, w.bytes
                );
                return Err(invalid(reason));
            }
            if let WeightStorage::Embedded { offset, .. } = &w.storage
                && (offset.checked_add(w.bytes).is_none_or(|end| end > available)
                    || offset % crate::program::BUFFER_ALIGN != 0)
            {
                let reason = format!("weight `{}` lies outside its section or misaligned", w.name);
                return Err(invalid(reason));
            }
        }
        for t in &self.manifest.targets {
            for &w in &t.weights {
                if w as usize >= self.manifest.weights.len() {
                    return Err(invalid(format!(
                        "target {} names weight {w}, which is not there",
                        t.target
                    )));
                }
            }
        }
        Ok(())
    }

    fn weights_section(&self) -> Option<&Section> {
        self.sections.iter().find(|s| s.kind == SectionKind::Weights)
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The section table.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The hash that a signature covers.
    pub fn root_hash(&self) -> [u8; 32] {
        self.root
    }

    /// The signature block, if there is one.
    pub fn signature(&self) -> Option<&[u8]> {
        let (offset, len) = self.signature?;
        self.bytes.as_ref().get(offset as usize..(offset + len) as usize)
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Contents of a section of an expected kind, its hash checked.
    pub fn section(&self, index: u32, kind: SectionKind) -> Result<&[u8], ArtifactError> {
        let section = self.sections.get(index as usize).filter(|s| s.kind == kind);
        let section = section.ok_or_else(|| ArtifactError::Invalid {
            what: "manifest".into(),
            reason: format!("section {index} is not of kind {kind:?}"),
        })?;
        // Inside the file: `parse` checked it.
        let bytes =
            &self.bytes.as_ref()[section.offset as usize..(section.offset + section.len) as usize];
        if *blake3::hash(bytes).as_bytes() != section.hash {
            return Err(ArtifactError::Corrupt { what: format!("section {index} ({kind:?})") });
        }
        Ok(bytes)
    }

    /// The program of a target entry, validated.
    pub fn program(&self, entry: usize) -> Result<Program, ArtifactError> {
        let invalid = |reason: String| ArtifactError::Invalid { what: "program".into(), reason };
        let entry =
            self.manifest.targets.get(entry).ok_or_else(|| invalid("no such target".into()))?;
        let text = self.section(entry.program, SectionKind::Program)?;
        if text.len() as u64 > MAX_JSON_BYTES {
            return Err(invalid("larger than the limit".into()));
        }
        let program: Program = serde_json::from_slice(text).map_err(|e| invalid(e.to_string()))?;
        if program.target != entry.target {
            return Err(invalid("it is for another target than its entry".into()));
        }
        program
            .validate(entry.modules.len(), entry.weights.len())
            .map_err(|e| invalid(e.to_string()))?;
        Ok(program)
    }

    /// What the kernels of a target entry compute, its hash checked; `None` in artifacts before 1.1. Bytes
    /// for whoever knows kernels: a runtime does not.
    pub fn kernel_specs(&self, entry: usize) -> Result<Option<&[u8]>, ArtifactError> {
        let invalid = |reason: &str| ArtifactError::Invalid {
            what: "list of kernels".into(),
            reason: reason.to_owned(),
        };
        let entry = self.manifest.targets.get(entry).ok_or_else(|| invalid("no such target"))?;
        let Some(index) = entry.kernels else { return Ok(None) };
        let bytes = self.section(index, SectionKind::Kernels)?;
        if bytes.len() as u64 > MAX_KERNELS_BYTES {
            return Err(invalid("larger than the limit"));
        }
        Ok(Some(bytes))
    }

    /// The stored bytes of an embedded weight, its hash not checked; `None` if it is external.
    pub fn weight_bytes(&self, index: u32) -> Option<&[u8]> {
        let weight = self.manifest.weights.get(index as usize)?;
        let WeightStorage::Embedded { offset, .. } = &weight.storage else { return None };
        let start = self.weights_section()?.offset + offset;
        self.bytes.as_ref().get(start as usize..(start + weight.bytes) as usize)
    }

    /// Checks the hash of an embedded weight.
    pub fn verify_weight(&self, index: u32) -> Result<(), ArtifactError> {
        let Some(bytes) = self.weight_bytes(index) else { return Ok(()) };
        let weight = &self.manifest.weights[index as usize];
        if let WeightStorage::Embedded { hash, .. } = &weight.storage
            && *hash != blake3::hash(bytes).to_hex().as_str()
        {
            return Err(ArtifactError::Corrupt { what: format!("weight `{}`", weight.name) });
        }
        Ok(())
    }

    /// Checks every hash in the artifact.
    pub fn verify_all(&self) -> Result<(), ArtifactError> {
        for (i, section) in self.sections.iter().enumerate() {
            if !matches!(section.kind, SectionKind::Weights) {
                self.section(i as u32, section.kind)?;
            }
        }
        (0..self.manifest.weights.len() as u32).try_for_each(|i| self.verify_weight(i))
    }
}

/// Bytes that an artifact is put together from, in whatever memory they are.
pub type Piece = Box<dyn AsRef<[u8]> + Send + Sync>;

/// Builds an artifact. Sections are written in the order in which they were added.
#[derive(Default)]
pub struct ArtifactBuilder {
    sections: Vec<(SectionKind, Vec<u8>)>,
    /// Weights with their offsets in the weights section.
    weights: Vec<(u64, Piece)>,
    weights_len: u64,
    /// The oldest minor version that has all that is in it.
    minor: u16,
}

impl ArtifactBuilder {
    /// An empty artifact.
    pub fn new() -> ArtifactBuilder {
        // The manifest takes place 0 when the artifact is finished.
        ArtifactBuilder {
            sections: vec![(SectionKind::Manifest, Vec::new())],
            ..ArtifactBuilder::default()
        }
    }

    /// Adds a program and returns the index of its section.
    pub fn add_program(&mut self, program: &Program) -> Result<u32, ArtifactError> {
        let text = serde_json::to_vec(program).map_err(|e| ArtifactError::Invalid {
            what: "program".into(),
            reason: e.to_string(),
        })?;
        self.minor = self.minor.max(program.minor_version());
        Ok(self.add_section(SectionKind::Program, text))
    }

    /// Adds a section and returns its index; equal contents of one kind are stored once. Programs are added
    /// by [`ArtifactBuilder::add_program`], which knows the version they need.
    pub fn add_section(&mut self, kind: SectionKind, bytes: Vec<u8>) -> u32 {
        if kind == SectionKind::Kernels {
            self.minor = self.minor.max(1);
        }
        if let Some(at) = self.sections.iter().position(|(k, b)| *k == kind && *b == bytes) {
            return at as u32;
        }
        self.sections.push((kind, bytes));
        self.sections.len() as u32 - 1
    }

    /// Appends stored weight bytes with their hash, aligned for direct use, and returns their storage
    /// entry.
    pub fn add_weight(&mut self, bytes: Piece, hash: &blake3::Hash) -> WeightStorage {
        let offset = self.weights_len.next_multiple_of(crate::program::BUFFER_ALIGN);
        self.weights_len = offset + (*bytes).as_ref().len() as u64;
        self.weights.push((offset, bytes));
        WeightStorage::Embedded { offset, hash: hash.to_hex().to_string() }
    }

    /// The finished artifact.
    pub fn finish(mut self, manifest: &Manifest) -> Result<Assembled, ArtifactError> {
        let text = serde_json::to_vec(manifest).map_err(|e| ArtifactError::Invalid {
            what: "manifest".into(),
            reason: e.to_string(),
        })?;
        self.sections[0].1 = text;
        let weights =
            (!self.weights.is_empty()).then_some((SectionKind::Weights, self.weights_len));
        let listed: Vec<(SectionKind, u64)> =
            self.sections.iter().map(|(k, b)| (*k, b.len() as u64)).chain(weights).collect();
        let count = listed.len() as u64;
        let mut offset = (HEADER_BYTES + count * ENTRY_BYTES).next_multiple_of(SECTION_ALIGN);
        let mut table = Vec::new();
        let mut offsets = Vec::with_capacity(listed.len());
        let mut total = offset;
        for (i, (kind, len)) in listed.iter().enumerate() {
            let hash = match self.sections.get(i) {
                Some((_, bytes)) => *blake3::hash(bytes).as_bytes(),
                None => [0; 32],
            };
            table.extend_from_slice(&kind.code().to_le_bytes());
            table.extend_from_slice(&[0; 4]);
            table.extend_from_slice(&offset.to_le_bytes());
            table.extend_from_slice(&len.to_le_bytes());
            table.extend_from_slice(&hash);
            table.extend_from_slice(&[0; 8]);
            offsets.push(offset);
            total = offset + len;
            offset = total.next_multiple_of(SECTION_ALIGN);
        }
        let mut head = Vec::with_capacity(HEADER_BYTES as usize + table.len());
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&FORMAT_MAJOR.to_le_bytes());
        head.extend_from_slice(&self.minor.to_le_bytes());
        head.extend_from_slice(&(count as u32).to_le_bytes());
        head.extend_from_slice(&total.to_le_bytes());
        head.resize(HEADER_BYTES as usize, 0);
        head.extend_from_slice(&table);
        let root = *blake3::hash(&head).as_bytes();
        head[24..56].copy_from_slice(&root);
        let mut pieces: Vec<(u64, Piece)> = Vec::new();
        for ((_, bytes), at) in self.sections.into_iter().zip(&offsets) {
            pieces.push((*at, Box::new(bytes)));
        }
        if let (Some(_), Some(base)) = (weights, offsets.last()) {
            pieces.extend(self.weights.into_iter().map(|(at, bytes)| (base + at, bytes)));
        }
        Ok(Assembled { head, pieces, len: total, root, signature: Vec::new() })
    }
}

/// An artifact before it is written: its parts with their places, not yet copied together.
pub struct Assembled {
    head: Vec<u8>,
    pieces: Vec<(u64, Piece)>,
    len: u64,
    root: [u8; 32],
    signature: Vec<u8>,
}

impl std::fmt::Debug for Assembled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assembled").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Assembled {
    /// The hash that a signature covers.
    pub fn root_hash(&self) -> [u8; 32] {
        self.root
    }

    /// Size of the file in bytes.
    #[expect(clippy::len_without_is_empty, reason = "an artifact is never empty")]
    pub fn len(&self) -> u64 {
        self.len + self.signature.len() as u64
    }

    /// Attaches a signature block, replacing an earlier one.
    pub fn sign(&mut self, signature: Vec<u8>) {
        self.head[56..64].copy_from_slice(&self.len.to_le_bytes());
        self.head[64..72].copy_from_slice(&(signature.len() as u64).to_le_bytes());
        self.signature = signature;
    }

    /// Writes the file.
    pub fn write_to(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        const ZEROS: [u8; SECTION_ALIGN as usize] = [0; SECTION_ALIGN as usize];
        out.write_all(&self.head)?;
        let mut at = self.head.len() as u64;
        for (offset, piece) in &self.pieces {
            // Gaps are shorter than an alignment.
            out.write_all(&ZEROS[..(offset - at) as usize])?;
            let bytes = (**piece).as_ref();
            out.write_all(bytes)?;
            at = offset + bytes.len() as u64;
        }
        out.write_all(&self.signature)
    }

    /// The whole file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len() as usize);
        // Writing to memory does not fail.
        let _ = self.write_to(&mut bytes);
        bytes
    }

    /// Writes the file as [`write_atomically`] does.
    pub fn write_atomically(&self, path: &Path) -> Result<(), ArtifactError> {
        replace_file(path, &mut |file| self.write_to(file))
    }
}

/// The file with a signature block attached (replacing an earlier one).
pub fn attach_signature(file: &[u8], signature: &[u8]) -> Result<Vec<u8>, ArtifactError> {
    let signed = Artifact::parse(file)?;
    let len = u64_at(signed.bytes(), 16)?;
    let mut out = file[..len as usize].to_vec();
    out[56..64].copy_from_slice(&len.to_le_bytes());
    out[64..72].copy_from_slice(&(signature.len() as u64).to_le_bytes());
    out.extend_from_slice(signature);
    Ok(out)
}

/// Writes a file so that readers see the old contents or the new, never a part: a temporary file in
/// the same folder, flushed to disk, then renamed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ArtifactError> {
    replace_file(path, &mut |file| file.write_all(bytes))
}

fn replace_file(
    path: &Path,
    write: &mut dyn FnMut(&mut dyn std::io::Write) -> std::io::Result<()>,
) -> Result<(), ArtifactError> {
    let fail = |doing| move |source| ArtifactError::Write { path: path.to_owned(), doing, source };
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    // Like any file that a program writes: readable as the umask says.
    #[cfg(unix)]
    let builder = {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666))
    };
    let mut file = builder
        .prefix(".zeroforge-")
        .tempfile_in(folder)
        .map_err(fail("creating a temporary file"))?;
    write(file.as_file_mut()).map_err(fail("writing"))?;
    file.as_file().sync_all().map_err(fail("flushing to disk"))?;
    file.persist(path).map_err(|e| fail("renaming")(e.error))?;
    // The rename itself must survive a power cut; not every filesystem lets a folder be opened.
    if let Ok(folder) = std::fs::File::open(folder) {
        folder.sync_all().map_err(fail("flushing the folder"))?;
    }
    Ok(())
}
