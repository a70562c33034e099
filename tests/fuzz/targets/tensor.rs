//! Tensors from JSON and .npy.
#![no_main]

use zeroforge_artifact::DType;
use zeroforge_runtime::tensor_io;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        for dtype in [DType::F32, DType::I64, DType::Bool] {
            let _ = tensor_io::from_json(text, dtype);
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("x.npy");
    std::fs::write(&path, data).expect("a temporary file");
    let _ = tensor_io::read_npy(&path);
});
