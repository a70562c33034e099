//! Weight files of the importer: safetensors, their index, GGUF.

use safetensors::tensor::{Dtype, TensorView};
use zeroforge_import::weights::WeightFiles;

use crate::harness::{Rng, Scratch, attempt, cuts, mutate, refuse};
use crate::tensors::HOSTILE_HEADERS;

fn text(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

/// A GGUF tensor: name, sizes (innermost first), type, offset.
type Info<'a> = (&'a str, &'a [u64], u32, u64);

fn gguf(align: u32, infos: &[Info<'_>], data: usize) -> Vec<u8> {
    let mut f = b"GGUF".to_vec();
    f.extend(3u32.to_le_bytes());
    f.extend((infos.len() as u64).to_le_bytes());
    f.extend(4u64.to_le_bytes());
    text(&mut f, "general.architecture");
    f.extend(8u32.to_le_bytes());
    text(&mut f, "llama");
    text(&mut f, "general.alignment");
    f.extend(4u32.to_le_bytes());
    f.extend(align.to_le_bytes());
    text(&mut f, "llama.attention.head_count");
    f.extend(4u32.to_le_bytes());
    f.extend(2u32.to_le_bytes());
    text(&mut f, "tokens");
    f.extend(9u32.to_le_bytes());
    f.extend(8u32.to_le_bytes());
    f.extend(2u64.to_le_bytes());
    text(&mut f, "a");
    text(&mut f, "b");
    for (name, sizes, kind, offset) in infos {
        text(&mut f, name);
        f.extend((sizes.len() as u32).to_le_bytes());
        sizes.iter().for_each(|n| f.extend(n.to_le_bytes()));
        f.extend(kind.to_le_bytes());
        f.extend(offset.to_le_bytes());
    }
    if align > 0 && align < 1 << 16 {
        f.resize(f.len().next_multiple_of(align as usize), 0);
    }
    f.resize(f.len() + data, 0x3c);
    f
}

const SOUND: [Info<'static>; 6] = [
    ("token_embd.weight", &[4, 2], 0, 0),
    ("blk.0.attn_q.weight", &[32, 8], 2, 32),
    ("blk.0.attn_k.weight", &[32, 8], 8, 192),
    ("blk.0.ffn_up.weight", &[32, 2], 7, 480),
    ("output_norm.weight", &[4], 30, 544),
    ("scale", &[], 1, 576),
];

#[test]
fn damaged_gguf_files_are_refused() {
    let scratch = Scratch::new();
    let load = |bytes: &[u8]| {
        let path = scratch.write("m.gguf", bytes);
        move || {
            let mut files = WeightFiles::none();
            files.add(&path).map(|()| files.len())
        }
    };
    let sound = gguf(32, &SOUND, 578);
    assert_eq!(load(&sound)().expect("sound"), SOUND.len());
    for cut in cuts(sound.len(), &mut Rng(41)) {
        refuse(&format!("cut at {cut}"), cut, &["m.gguf"], load(&sound[..cut]));
    }
    let mut rng = Rng(42);
    for i in 0..3000 {
        let damaged = mutate(&sound, &mut rng);
        if let Err(text) = attempt(&format!("edit {i}"), damaged.len(), load(&damaged)) {
            assert!(text.contains("m.gguf"), "{text}");
        }
    }
    let one = |info: Info<'_>| gguf(32, &[info], 64);
    let many: Vec<Info<'_>> = vec![("w", &[1 << 14], 0, 0); 5000];
    for (what, file, words) in [
        ("no alignment", gguf(0, &SOUND, 578), &["alignment of 0"][..]),
        ("a huge alignment", gguf(u32::MAX, &SOUND, 578), &["alignment of 4294967295"]),
        ("an absurd shape", one(("w", &[u64::MAX], 0, 0)), &["`w`"]),
        ("a product that overflows", one(("w", &[1 << 40, 1 << 40], 0, 0)), &["`w`"]),
        ("nine axes", one(("w", &[1; 9], 0, 0)), &["`w` has 9 axes"]),
        ("an offset outside", one(("w", &[4], 0, u64::MAX)), &["`w`", "leaves the file"]),
        ("part of a block", one(("w", &[33], 2, 0)), &["`w`"]),
        ("an unknown type", one(("w", &[32], 99, 0)), &["`w`", "type 99", "Q8_0"]),
        ("one place for all", gguf(32, &many, 1 << 16), &["overlap"]),
    ] {
        let mut all = vec!["m.gguf"];
        all.extend(words);
        refuse(what, file.len(), &all, load(&file));
    }
    let with = |at: usize, value: &[u8]| {
        let mut file = sound.clone();
        file[at..at + value.len()].copy_from_slice(value);
        file
    };
    for (what, file, word) in [
        ("a newer version", with(4, &[9]), "version 9"),
        ("many tensors", with(8, &[0xff; 8]), "over the limit"),
        ("many entries", with(16, &[0xff; 8]), "over the limit"),
        ("a long string", with(24, &[0xff; 8]), "string of"),
        ("another architecture", with(64, b"qwen2"), "qwen2"),
    ] {
        refuse(what, file.len(), &["m.gguf", word], load(&file));
    }
    // Arrays in arrays in arrays.
    let mut deep = b"GGUF\x03\0\0\0".to_vec();
    deep.extend([0; 8]);
    deep.extend(1u64.to_le_bytes());
    text(&mut deep, "k");
    for _ in 0..100_000 {
        deep.extend(9u32.to_le_bytes());
        deep.extend(9u32.to_le_bytes());
        deep.extend(1u64.to_le_bytes());
    }
    refuse("deep arrays", deep.len(), &["m.gguf"], load(&deep));
}

#[test]
fn damaged_safetensors_are_refused() {
    let scratch = Scratch::new();
    let load = |bytes: &[u8]| {
        let path = scratch.write("m.safetensors", bytes);
        move || {
            let mut files = WeightFiles::none();
            files.add(&path).map(|()| files.len())
        }
    };
    let data = [1u8; 40];
    let a = TensorView::new(Dtype::BF16, vec![2, 4], &data[..16]).expect("a view");
    let b = TensorView::new(Dtype::F64, vec![3], &data[16..]).expect("a view");
    let sound = safetensors::serialize([("a", a), ("b", b)], None).expect("a file");
    assert_eq!(load(&sound)().expect("sound"), 2);
    for cut in 0..sound.len() {
        refuse(&format!("cut at {cut}"), cut, &["m.safetensors"], load(&sound[..cut]));
    }
    let mut rng = Rng(43);
    for i in 0..2000 {
        let damaged = mutate(&sound, &mut rng);
        if let Err(text) = attempt(&format!("edit {i}"), damaged.len(), load(&damaged)) {
            assert!(text.contains("m.safetensors"), "{text}");
        }
    }
    for header in HOSTILE_HEADERS {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend([0; 16]);
        refuse(header, file.len(), &["m.safetensors"], load(&file));
    }
}

#[test]
fn hostile_indexes_are_refused() {
    let scratch = Scratch::new();
    let load = |shard: &str| {
        let index = serde_json::json!({"weight_map": {"w": shard}}).to_string();
        let path = scratch.write("m.safetensors.index.json", index.as_bytes());
        move || WeightFiles::none().add(&path)
    };
    // The index itself is the one that would never end.
    for shard in ["m.safetensors.index.json", "../x.safetensors", "/etc/passwd", ".", "..", ""] {
        refuse(shard, 64, &["index.json", "beside the index"], load(shard));
    }
    refuse("a shard that is not there", 64, &["gone.safetensors"], load("gone.safetensors"));
    let path = scratch.write("deep.json", &b"[".repeat(1 << 20));
    refuse("deep nesting", 1 << 20, &["deep.json"], || WeightFiles::none().add(&path));
}
