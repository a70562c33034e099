//! Runs the compiled example models and compares them with what torch computed:
//! `zeroforge-demo minilm ARTIFACT TOKENIZER EXPECTED [LIBCUDA]`, with the software device's library the code for
//! GPUs, and
//! `zeroforge-demo smollm2 PREFILL DECODE GGUF EXPECTED`.

mod minilm;
mod smollm2;
mod vocabulary;

use std::path::PathBuf;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let paths: Vec<PathBuf> = args.iter().skip(1).map(PathBuf::from).collect();
    match (args.first().map(String::as_str), &paths[..]) {
        (Some("minilm"), [artifact, tokenizer, expected]) => {
            minilm::run(artifact, tokenizer, expected, None)
        }
        (Some("minilm"), [artifact, tokenizer, expected, software]) => {
            minilm::run(artifact, tokenizer, expected, Some(software))
        }
        (Some("smollm2"), [prefill, decode, words, expected]) => {
            smollm2::run(prefill, decode, words, expected)
        }
        _ => bail!(
            "usage: zeroforge-demo minilm ARTIFACT TOKENIZER EXPECTED [LIBCUDA] | smollm2 PREFILL DECODE GGUF EXPECTED"
        ),
    }
}
