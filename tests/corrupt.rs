//! Damaged and hostile files: every reader answers with an error that says where and what, never a panic
//! and never an allocation that the file's own size does not justify. Seeds are fixed; `make fuzz` searches
//! further.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use zeroforge_artifact::container::{SectionKind, attach_signature};
use zeroforge_artifact::{Artifact, ArtifactError, DType, Expr, Target};
use zeroforge_compiler::cache::Cache;
use zeroforge_compiler::pipeline::{CompileOptions, compile};
use zeroforge_graph::ir::Bytes;
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportError, ImportOptions, Imported, load_pt2, load_pt2_bytes};
use zeroforge_runtime::{Model, OpenOptions, tensor_io};

/// Largest allocation that reading one of these small files may make.
const MAX_ALLOCATION: usize = 32 << 20;

/// Remembers the largest allocation.
struct Watching;
static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

fn allocations_stayed_small() {
    let largest = LARGEST.load(Ordering::Relaxed);
    assert!(largest < MAX_ALLOCATION, "an allocation of {largest} bytes was made");
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Cuts, flipped bits, overwritten numbers and swapped stretches of a file.
fn damaged(file: &[u8], count: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut random = Random(seed);
    let mut out = Vec::with_capacity(count);
    for i in 0..count {
        let mut bytes = file.to_vec();
        match i % 4 {
            0 => bytes.truncate(random.below(file.len())),
            1 => {
                for _ in 0..=random.below(4) {
                    let at = random.below(bytes.len());
                    bytes[at] ^= 1 << random.below(8);
                }
            }
            2 => {
                // A length field that lies.
                let values = [0, 1, 0xff, 0xffff_ffff, u64::MAX, i64::MAX as u64, 1 << 40];
                let value = values[random.below(values.len())].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)];
                let at = random.below(bytes.len() - width);
                bytes[at..at + width].copy_from_slice(&value[..width]);
            }
            _ => {
                let n = 1 + random.below(64.min(bytes.len() - 1));
                let (a, b) = (random.below(bytes.len() - n), random.below(bytes.len() - n));
                let piece = bytes[a..a + n].to_vec();
                bytes[b..b + n].copy_from_slice(&piece);
            }
        }
        out.push(bytes);
    }
    out
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn import(bytes: &[u8]) -> Result<Imported, ImportError> {
    let (files, options) = (WeightFiles::none(), ImportOptions::default());
    load_pt2_bytes(Path::new("damaged.pt2"), Bytes::new(bytes.to_vec()), &files, &options)
}

fn artifact() -> Vec<u8> {
    let imported =
        load_pt2(&fixture("mlp.pt2"), &WeightFiles::none(), &ImportOptions::default()).unwrap();
    let options = CompileOptions {
        targets: vec![Target::X86_64_V3],
        model_hash: imported.hash,
        external_weights: false,
        sms: None,
        cache: Cache::none(),
    };
    compile(&imported.graph, &WeightFiles::none(), &options, &|_| {}).unwrap().to_bytes()
}

#[test]
fn models() {
    let mut refused = 0;
    for (i, name) in ["mlp.pt2", "tiny_bert_core.pt2", "kv_cache_index_put.pt2"].iter().enumerate()
    {
        let file = std::fs::read(fixture(name)).unwrap();
        for bytes in damaged(&file, 400, i as u64) {
            let Err(e) = import(&bytes) else { continue };
            refused += 1;
            let message = e.to_string();
            assert!(message.contains("damaged.pt2") && message.len() > 25, "{message}");
        }
    }
    // Damage in weights or padding cannot be seen; in the structure it must be.
    assert!(refused > 600, "only {refused} of 1200 damaged models were refused");
    allocations_stayed_small();
}

#[test]
fn refused_models_say_why() {
    for (name, part, reason) in [
        ("complex_rotary", "complex", "not supported"),
        ("cond", "higher-order", "not supported"),
        ("custom_op", "custom operators", "cannot be compiled"),
        ("data_dependent_shape", "depends on data", "has 1 part that cannot be compiled"),
    ] {
        let path = fixture(&format!("refused/{name}.pt2"));
        let error = load_pt2(&path, &WeightFiles::none(), &ImportOptions::default());
        let message = error.err().unwrap_or_else(|| panic!("{name} was accepted")).to_string();
        assert!(message.contains(part) && message.contains(reason), "{name}: {message}");
        // torch records no line of the model for a branch.
        let place = if name == "cond" { "`cond`" } else { ".py:" };
        assert!(message.contains(place), "{name} names no place: {message}");
    }
}

/// Builds a zip of stored entries by hand, so that names and sizes can lie.
fn zip(entries: &[(&str, &[u8], Option<u32>)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut central = Vec::new();
    for (name, data, size) in entries {
        let offset = out.len() as u32;
        let len = size.unwrap_or(data.len() as u32);
        out.extend(b"PK\x03\x04\x14\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00");
        out.extend(len.to_le_bytes());
        out.extend(len.to_le_bytes());
        out.extend((name.len() as u16).to_le_bytes());
        out.extend([0; 2]);
        out.extend(name.as_bytes());
        out.extend(*data);
        central
            .extend(b"PK\x01\x02\x14\x00\x14\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00");
        central.extend(len.to_le_bytes());
        central.extend(len.to_le_bytes());
        central.extend((name.len() as u16).to_le_bytes());
        central.extend([0; 12]);
        central.extend(offset.to_le_bytes());
        central.extend(name.as_bytes());
    }
    let start = out.len() as u32;
    let count = (entries.len() as u16).to_le_bytes();
    out.extend(&central);
    out.extend(b"PK\x05\x06\x00\x00\x00\x00");
    out.extend([count, count].concat());
    out.extend((central.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0; 2]);
    out
}

#[test]
fn hostile_archives() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("no zip", b"this is no zip archive at all".to_vec()),
        ("no entries", zip(&[])),
        ("escaping", zip(&[("m/archive_format", b"pt2", None), ("../../etc/passwd", b"x", None)])),
        ("absolute", zip(&[("/m/archive_format", b"pt2", None)])),
        ("twice", zip(&[("m/archive_format", b"pt2", None), ("m/archive_format", b"pt2", None)])),
        ("longer than the file", zip(&[("m/archive_format", b"pt2", Some(u32::MAX - 1))])),
        ("another format", zip(&[("m/archive_format", b"onnx", None)])),
        (
            "a pickle",
            zip(&[("m/data.pkl", b"\x80\x02cos\nsystem\n", None), ("m/version", b"3", None)]),
        ),
        (
            "deep JSON",
            zip(&[
                ("m/archive_format", b"pt2", None),
                ("m/archive_version", b"0", None),
                ("m/models/model.json", "[".repeat(100_000).as_bytes(), None),
            ]),
        ),
    ];
    for (what, bytes) in cases {
        let message =
            import(&bytes).err().unwrap_or_else(|| panic!("{what} was accepted")).to_string();
        assert!(message.contains("damaged.pt2"), "{what}: {message}");
    }
    allocations_stayed_small();
}

#[test]
fn artifacts() {
    let file = artifact();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.zfa");
    let all = OpenOptions { verify_all: true, ..Default::default() };
    for bytes in damaged(&file, 400, 7) {
        std::fs::write(&path, &bytes).unwrap();
        let Ok(model) = Model::open(&path, &all) else { continue };
        // What opens is what was written, but for padding.
        let whole = Artifact::parse(&file[..]).unwrap();
        assert_eq!(model.artifact().root_hash(), whole.root_hash());
    }
    allocations_stayed_small();
}

/// A flipped bit anywhere in the signed part is found, but for the padding between sections.
#[test]
fn every_byte_that_is_used_is_hashed() {
    let file = artifact();
    let whole = Artifact::parse(&file[..]).unwrap();
    let mut used: Vec<(u64, u64)> = vec![(0, 128 + 64 * whole.sections().len() as u64)];
    let weights = whole.sections().iter().find(|s| s.kind == SectionKind::Weights).unwrap().offset;
    for section in whole.sections().iter().filter(|s| s.kind != SectionKind::Weights) {
        used.push((section.offset, section.offset + section.len));
    }
    for (i, w) in whole.manifest().weights.iter().enumerate() {
        let start = whole.weight_bytes(i as u32).unwrap().as_ptr() as u64 - file.as_ptr() as u64;
        assert!(start >= weights);
        used.push((start, start + w.bytes));
    }
    let mut random = Random(3);
    for (start, end) in used {
        for _ in 0..60 {
            let at = start as usize + random.below((end - start) as usize);
            let mut bytes = file.clone();
            bytes[at] ^= 1 << random.below(8);
            let found = Artifact::parse(&bytes[..]).and_then(|a| a.verify_all());
            assert!(found.is_err(), "a flipped bit at byte {at} was not noticed");
        }
    }
}

#[test]
fn newer_formats_are_refused_by_name() {
    let mut file = artifact();
    file[8..10].copy_from_slice(&2u16.to_le_bytes());
    let error = Artifact::parse(&file[..]).unwrap_err();
    assert!(matches!(error, ArtifactError::NewerFormat { found_major: 2, .. }));
    assert!(error.to_string().contains("format 2.0") && error.to_string().contains("upgrade"));
}

#[test]
fn an_artifact_without_cpu_code_opens_and_says_what_it_has() {
    let file = artifact();
    let whole = Artifact::parse(&file[..]).unwrap();
    let mut builder = zeroforge_artifact::ArtifactBuilder::new();
    let mut program = whole.program(0).unwrap();
    program.target = Target::SM_90A;
    let mut manifest = whole.manifest().clone();
    manifest.targets[0].target = Target::SM_90A;
    manifest.targets[0].program = builder.add_program(&program).unwrap();
    manifest.targets[0].modules = program
        .kernels
        .iter()
        .enumerate()
        .map(|(i, _)| zeroforge_artifact::manifest::ModuleEntry::Cuda {
            cubin: builder.add_section(SectionKind::Cubin, vec![i as u8]),
            ptx: builder.add_section(SectionKind::Ptx, vec![i as u8]),
        })
        .collect();
    for i in 0..manifest.weights.len() as u32 {
        manifest.weights[i as usize].storage = {
            let bytes = whole.weight_bytes(i).unwrap().to_vec();
            let hash = blake3::hash(&bytes);
            builder.add_weight(Box::new(bytes), &hash)
        };
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpu.zfa");
    std::fs::write(&path, builder.finish(&manifest).unwrap().to_bytes()).unwrap();
    let model = Model::open(&path, &OpenOptions::default()).unwrap();
    assert_eq!(model.manifest().targets[0].target, Target::SM_90A);
    let error = model.cpu_target().unwrap_err().to_string();
    assert!(error.contains("sm_90a"), "{error}");
}

#[test]
fn signatures() {
    let file = artifact();
    let signed = attach_signature(&file, b"untrusted comment: x\nnot base64\n").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signed.zfa");
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".to_owned();
    let policy = OpenOptions { trusted_keys: vec![key], ..Default::default() };
    let mut cases = damaged(&signed, 200, 11);
    cases.push(signed);
    cases.push(file);
    for bytes in cases {
        std::fs::write(&path, &bytes).unwrap();
        assert!(Model::open(&path, &policy).is_err(), "an unsigned artifact was opened");
    }
}

#[test]
fn size_expressions() {
    let whole = "3*s0*s1 + floordiv(s0 + 7, 8)*8 - mod(s1, 2) + max(min(s0, 4), 1)";
    let e: Expr = whole.parse().unwrap();
    assert_eq!(e.to_string().parse::<Expr>().unwrap(), e);
    for bytes in damaged(whole.as_bytes(), 4000, 13) {
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(e) = text.parse::<Expr>() {
            // What parses prints and parses back, and evaluates without overflow.
            assert_eq!(e.to_string().parse::<Expr>().unwrap(), e, "{text}");
            let _ = e.eval(&[i64::MAX, i64::MAX]);
            let _ = e.eval(&[3, 5]);
        }
    }
    let least = Expr::constant(i64::MIN) + Expr::symbol(zeroforge_artifact::Symbol(1));
    assert_eq!(least.to_string().parse::<Expr>().unwrap(), least);
    for hostile in ["(".repeat(4000), "-".repeat(4000), "s0*".repeat(1300), "min(".repeat(900)] {
        assert!(hostile.parse::<Expr>().is_err());
    }
    assert!("s99999999999".parse::<Expr>().is_err());
    allocations_stayed_small();
}

/// A GGUF file with one tensor of each kind of storage.
fn gguf() -> Vec<u8> {
    let mut f = b"GGUF".to_vec();
    let text = |f: &mut Vec<u8>, s: &str| {
        f.extend((s.len() as u64).to_le_bytes());
        f.extend(s.as_bytes());
    };
    f.extend(3u32.to_le_bytes());
    f.extend(2u64.to_le_bytes());
    f.extend(4u64.to_le_bytes());
    text(&mut f, "general.architecture");
    f.extend(8u32.to_le_bytes());
    text(&mut f, "llama");
    for key in ["llama.attention.head_count", "llama.attention.head_count_kv"] {
        text(&mut f, key);
        f.extend(4u32.to_le_bytes());
        f.extend(1u32.to_le_bytes());
    }
    text(&mut f, "tokenizer.ggml.tokens");
    f.extend(9u32.to_le_bytes());
    f.extend(8u32.to_le_bytes());
    f.extend(1u64.to_le_bytes());
    text(&mut f, "a");
    for (name, kind, offset) in [("output_norm.weight", 0u32, 0u64), ("token_embd.weight", 3, 128)]
    {
        text(&mut f, name);
        f.extend(2u32.to_le_bytes());
        f.extend(32u64.to_le_bytes());
        f.extend(1u64.to_le_bytes());
        f.extend(kind.to_le_bytes());
        f.extend(offset.to_le_bytes());
    }
    f.resize(f.len().next_multiple_of(32) + 128 + 20, 0);
    f
}

#[test]
fn weight_files() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = tensor_io::from_json("[[1.5, 2.5]]", DType::F32).unwrap();
    let safetensors = tensor_io::to_safetensors(&[("w".to_owned(), tensor)]).unwrap();
    for (name, file) in [("w.gguf", gguf()), ("w.safetensors", safetensors)] {
        let path = folder.path().join(name);
        std::fs::write(&path, &file).unwrap();
        WeightFiles::none().add(&path).unwrap();
        let mut refused = 0;
        for bytes in damaged(&file, 800, 17) {
            std::fs::write(&path, &bytes).unwrap();
            if let Err(e) = WeightFiles::none().add(&path) {
                refused += 1;
                assert!(e.to_string().contains(name), "{e}");
            }
        }
        assert!(refused > 200, "{name}: only {refused} of 800 were refused");
    }
    allocations_stayed_small();
}

#[test]
fn tensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }          \n";
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend([0, 0, 128, 63, 0, 0, 0, 64]);
    for bytes in damaged(&file, 800, 19) {
        std::fs::write(&path, &bytes).unwrap();
        if let Err(e) = tensor_io::read_npy(&path) {
            assert!(e.to_string().contains("x.npy"), "{e}");
        }
    }
    let text = "[[[1, 2], [3, 4.5]], [[true, -7], [1e300, 8]]]";
    for bytes in damaged(text.as_bytes(), 2000, 23) {
        let text = String::from_utf8_lossy(&bytes);
        for dtype in [DType::F32, DType::I64, DType::Bool, DType::U8] {
            let _ = tensor_io::from_json(&text, dtype);
        }
    }
    assert!(tensor_io::from_json(&"[".repeat(1 << 20), DType::F32).is_err());
    allocations_stayed_small();
}
