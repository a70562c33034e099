//! Weight files: the first byte chooses GGUF, safetensors or a shard index.
#![no_main]

use zeroforge_import::weights::WeightFiles;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let name = ["w.gguf", "w.safetensors", "w.safetensors.index.json"][usize::from(*kind) % 3];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, rest).expect("a temporary file");
    let _ = WeightFiles::none().add(&path);
});
