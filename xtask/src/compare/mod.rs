//! `cargo xtask compare`: our kernels beside FA3's and others', as a page of the documentation.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use zeroforge_sass::timeline::{Device, Prediction, Problem, Rates, Tiling, predict};
use zeroforge_sass::{Disassembler, Kernel, Launch, Report, kernels, report};

/// `benches/comparison.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    kernel: Vec<Instance>,
}

/// A kernel of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Instance {
    row: String,
    side: String,
    file: String,
    kernel: String,
    shared: u64,
    attention: Option<Attention>,
    tiling: Tiling,
    #[serde(default)]
    published: Vec<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attention {
    head_dim: u64,
    value_dim: u64,
    causal: bool,
}

const LENGTHS: [u64; 6] = [512, 1024, 2048, 4096, 8192, 16384];

impl Attention {
    /// The benchmark of FA3's paper: 16k tokens in all, hidden size 2048.
    fn problem(self, length: u64) -> Problem {
        Problem::Attention {
            batch: 16384 / length,
            heads: 2048 / self.head_dim,
            length,
            head_dim: self.head_dim,
            value_dim: self.value_dim,
            causal: self.causal,
        }
    }
}

fn load(folder: &Path, i: &Instance, disassembler: &Disassembler) -> Result<(Kernel, Report)> {
    let path = folder.join(&i.file);
    let bytes = std::fs::read(&path).with_context(|| format!("reading `{}`", path.display()))?;
    let mut found = kernels(&bytes, &i.kernel, disassembler)?;
    if found.len() != 1 {
        return Err(anyhow!("{}: {} kernels match `{}`", i.file, found.len(), i.kernel));
    }
    let kernel = found.remove(0);
    let report = report(&kernel, &Launch { threads: None, dynamic_shared: i.shared });
    Ok((kernel, report))
}

pub(crate) fn error(folder: &Path, sets: &[&str]) -> Result<()> {
    let text = std::fs::read_to_string("benches/comparison.toml")?;
    let list: List = toml::from_str(&text)?;
    let found = zeroforge_compiler::cuda::find_nvdisasm().context("no disassembler")?;
    let disassembler = Disassembler::new(&found.path);
    let mut rates = Rates::default();
    for set in sets {
        let (name, value) = set.split_once('=').context("NAME=VALUE")?;
        let value: f64 = value.parse()?;
        match name {
            "clock" => rates.clock_mhz = value,
            "launch" => rates.launch_ns = value,
            "queue" => rates.wgmma_queue = value as usize,
            "drain" => rates.wgmma_drain = value as u64,
            "barrier" => rates.barrier = value as u64,
            "cap" => rates.tensor_mhz = value,
            "memory" => rates.memory_share = value,
            "shuffle" => rates.shuffle = value as u64,
            "mufu" => rates.mufu = value as u64,
            "bulk" => rates.bulk_copy = value as u64,
            _ => return Err(anyhow!("`{name}`")),
        }
    }
    let (mut sum, mut sum2, mut count) = (0.0, 0.0, 0);
    for i in &list.kernel {
        let Some(a) = i.attention else { continue };
        let (kernel, report) = load(folder, i, &disassembler)?;
        print!("{:28} {:4}", i.row, i.side);
        let mut last = None;
        for (n, length) in LENGTHS.into_iter().enumerate() {
            let p = predict(&kernel, &report, &a.problem(length), &i.tiling, Device::H100, &rates);
            let p: Prediction = p.map_err(|e| anyhow!("{}: {e}", i.row))?;
            let real = i.published.get(n).copied().filter(|&p| p > 0.0);
            match real {
                Some(r) => {
                    let e = p.tflops / r - 1.0;
                    sum += e.abs();
                    sum2 += e * e;
                    count += 1;
                    print!(" {:4.0}/{:4.0}({:+4.0}%)", p.tflops, r, (p.tflops / r - 1.0) * 100.0)
                }
                None => print!(" {:4.0}/   -       ", p.tflops),
            }
            last = Some(p);
        }
        println!();
        if let Some(p) = last {
            println!("    busy {:.3} util {:.3} {:?}", p.tensor_busy, p.utilisation, p.waits);
        }
    }
    let n = f64::from(count);
    println!(
        "mean |error| {:.1}%, rms {:.1}% of {count}",
        sum / n * 100.0,
        (sum2 / n).sqrt() * 100.0
    );
    Ok(())
}
