//! Text generation: prefill and decode artifacts over one cache, greedy, token for token.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use zeroforge_runtime::{Model, OpenOptions, Session, SessionOptions, Tensor};

use crate::vocabulary::Vocabulary;

#[derive(Deserialize)]
struct Expected {
    end_of_turn: i64,
    max_new_tokens: usize,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    question: String,
    input_ids: Vec<i64>,
    generated_ids: Vec<i64>,
    text: String,
}

type Named = Vec<(String, Tensor)>;

fn open(path: &Path) -> Result<Session> {
    let model = Model::open(path, &OpenOptions::default())?;
    Ok(Session::cpu(&model, SessionOptions::default())?)
}

/// Zeroed caches of the shapes that the program takes.
fn empty_cache(session: &Session) -> Result<Named> {
    let mut cache = Vec::new();
    for port in &session.program().inputs {
        if port.name.contains("cache") {
            let shape: Vec<i64> = port
                .shape
                .iter()
                .map(|e| e.as_const())
                .collect::<Option<_>>()
                .context("the cache is static")?;
            cache.push((port.name.clone(), Tensor::zeros(port.dtype, &shape)?));
        }
    }
    Ok(cache)
}

/// Runs one step and returns the most likely next token and the updated cache.
fn step(session: &mut Session, inputs: Named) -> Result<(i64, Named)> {
    let mut outputs = session.run(inputs)?;
    let at = outputs.iter().position(|(n, _)| n == "output_0").context("no logits")?;
    let (_, logits) = outputs.swap_remove(at);
    let best = logits.to_f64().into_iter().enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    Ok((best.context("empty logits")?.0 as i64, outputs))
}

pub(crate) fn run(prefill: &Path, decode: &Path, words: &Path, expected: &Path) -> Result<()> {
    let words = Vocabulary::read(words)?;
    let expected: Expected = serde_json::from_slice(&std::fs::read(expected)?)
        .with_context(|| format!("reading {}", expected.display()))?;
    let start = Instant::now();
    let (mut prefill, mut decode) = (open(prefill)?, open(decode)?);
    println!("open and load {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    for answer in &expected.answers {
        let n = answer.input_ids.len() as i64;
        let start = Instant::now();
        let mut inputs = empty_cache(&prefill)?;
        inputs.push(("input_ids".to_owned(), Tensor::from_i64(&[1, n], &answer.input_ids)?));
        let (mut token, mut cache) = step(&mut prefill, inputs)?;
        let prompt_time = start.elapsed();
        let start = Instant::now();
        let mut generated = vec![token];
        while token != expected.end_of_turn && generated.len() < expected.max_new_tokens {
            let position = n + generated.len() as i64 - 1;
            cache.push(("input_ids".to_owned(), Tensor::from_i64(&[1, 1], &[token])?));
            cache.push(("position".to_owned(), Tensor::from_i64(&[1], &[position])?));
            (token, cache) = step(&mut decode, cache)?;
            generated.push(token);
        }
        let per_token = start.elapsed().as_secs_f64() * 1e3 / (generated.len().max(2) - 1) as f64;
        let same = generated == answer.generated_ids;
        let spoken = generated.iter().copied().filter(|&t| t != expected.end_of_turn);
        let text = words.decode(&spoken.collect::<Vec<_>>())?;
        println!("\n{}\n  {}", answer.question, text.replace('\n', "\n  "));
        println!(
            "  {} tokens {} torch's; prompt of {n} in {:.1} ms, then {per_token:.1} ms a token",
            generated.len(),
            if same { "equal to" } else { "DIFFERENT from" },
            prompt_time.as_secs_f64() * 1e3,
        );
        std::io::stdout().flush()?;
        ensure!(same, "generated {generated:?}, torch generated {:?}", answer.generated_ids);
        ensure!(text == answer.text, "decoded {text:?}, torch's tokenizer {:?}", answer.text);
    }
    Ok(())
}
