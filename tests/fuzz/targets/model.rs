//! A torch.export archive, up to the graph.
#![no_main]

use std::path::Path;

use zeroforge_graph::ir::Bytes;
use zeroforge_import::weights::WeightFiles;
use zeroforge_import::{ImportOptions, load_pt2_bytes};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::new(data.to_vec());
    let _ = load_pt2_bytes(Path::new("x.pt2"), bytes, &WeightFiles::none(), &ImportOptions::default());
});
