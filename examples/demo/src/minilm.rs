//! Sentence embeddings: tokenise, run, print the similarity matrix beside torch's.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use tokenizers::{PaddingParams, Tokenizer};
use zeroforge_runtime::{
    Model, OpenOptions, Session, SessionOptions, Tensor, load_software_driver, software_findings,
};

/// Largest accepted difference of a similarity from torch's.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Expected {
    sentences: Vec<String>,
    similarity: Vec<Vec<f64>>,
}

pub(crate) fn run(
    artifact: &Path,
    tokenizer: &Path,
    expected: &Path,
    software: Option<&PathBuf>,
) -> Result<()> {
    let expected: Expected = serde_json::from_slice(&std::fs::read(expected)?)
        .with_context(|| format!("reading {}", expected.display()))?;
    let mut tokenizer = Tokenizer::from_file(tokenizer).map_err(|e| anyhow!("tokenizer: {e}"))?;
    tokenizer.with_padding(Some(PaddingParams::default()));
    let encodings = tokenizer
        .encode_batch(expected.sentences.clone(), true)
        .map_err(|e| anyhow!("tokenising: {e}"))?;
    let n = encodings.len() as i64;
    let length = encodings.first().map_or(0, |e| e.get_ids().len()) as i64;
    let flat = |get: fn(&tokenizers::Encoding) -> &[u32]| -> Vec<i64> {
        encodings.iter().flat_map(|e| get(e).iter().map(|&v| i64::from(v))).collect()
    };
    let ids = Tensor::from_i64(&[n, length], &flat(|e| e.get_ids()))?;
    let mask = Tensor::from_i64(&[n, length], &flat(|e| e.get_attention_mask()))?;

    let start = Instant::now();
    let model = Model::open(artifact, &OpenOptions::default())?;
    let mut session = match software {
        Some(library) => {
            load_software_driver(&library.canonicalize()?)?;
            Session::cuda(&model, 0, SessionOptions::default())?
        }
        None => Session::cpu(&model, SessionOptions::default())?,
    };
    let inputs = vec![("input_ids".to_owned(), ids), ("attention_mask".to_owned(), mask)];
    let outputs = session.run(inputs.clone())?;
    let first = start.elapsed();
    // A warm call says nothing where time is not modelled.
    if software.is_none() {
        session.run(inputs)?;
    }
    let phases = session.phases();

    let embeddings = outputs.first().context("the model has no output")?.1.to_f64();
    let width = embeddings.len() / expected.sentences.len().max(1);
    let rows: Vec<&[f64]> = embeddings.chunks_exact(width.max(1)).collect();
    println!("similarity (torch's in brackets):");
    let mut worst = 0.0f64;
    for (i, a) in rows.iter().enumerate() {
        let mut line = String::new();
        for (j, b) in rows.iter().enumerate() {
            let similarity: f64 = a.iter().zip(*b).map(|(x, y)| x * y).sum();
            let torch = expected.similarity[i][j];
            worst = worst.max((similarity - torch).abs());
            line.push_str(&format!(" {similarity:7.4} ({torch:7.4})"));
        }
        println!("{line}  {}", expected.sentences[i]);
    }
    println!("largest difference from torch: {worst:.1e}");
    println!(
        "open to first output {:.1} ms; last call: bind {:.0} us, compute {:.2} ms on {}",
        first.as_secs_f64() * 1e3,
        phases.bind.as_secs_f64() * 1e6,
        phases.compute.as_secs_f64() * 1e3,
        session.device()
    );
    if let Some(findings) = software_findings() {
        let findings: serde_json::Value = serde_json::from_str(&findings?)?;
        let list = findings["findings"].as_array().context("no list of findings")?;
        let errors = list.iter().filter(|f| f["severity"] == "error").count();
        println!("errors found in kernels: {errors}");
        ensure!(errors == 0, "{findings:#}");
    }
    ensure!(
        worst <= TOLERANCE,
        "similarities differ from torch's by {worst:.1e}, more than {TOLERANCE:.0e}"
    );
    Ok(())
}
