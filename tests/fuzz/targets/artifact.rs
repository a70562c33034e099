//! An artifact: structure, manifest, programs. Hashes keep random bytes from the inner readers, so the
//! input's tail is also read as a manifest and as a program of an artifact that is otherwise sound.
#![no_main]

use zeroforge_artifact::program::Program;
use zeroforge_artifact::{Artifact, Manifest};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(artifact) = Artifact::parse(data) {
        let _ = artifact.verify_all();
        for i in 0..artifact.manifest().targets.len() {
            let _ = artifact.program(i);
        }
    }
    let _ = serde_json::from_slice::<Manifest>(data);
    if let Ok(program) = serde_json::from_slice::<Program>(data) {
        let _ = program.validate(1, 4);
    }
});
