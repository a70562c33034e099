//! Cases of the kernels over rows (`zeroforge_kernels::rows`): drawn by seed, with what must come out.

mod embedding;
mod norm;
mod rotary;
mod sample;
mod select;
mod throughput;

use zeroforge_artifact::{DType, Expr};
use zeroforge_emulator::{Finding, FindingKind, Options, Severity};
use zeroforge_kernels::rows::{Array, Rows};
use zeroforge_kernels::{Instance, Plan, Refusal};

use crate::bench::{Bench, BenchError};
use crate::card::Card;
use crate::case::{Case as AnyCase, Outcome};
use crate::random::Random;
use crate::tensor::{decode, encode};

pub use sample::{frequencies, philox};
pub use throughput::throughput;

/// Bytes of buffers that kernels write, before they do.
const CANARY: u8 = 0xa5;

/// Judges the elements of an output, dense.
type Judge = Box<dyn Fn(&[u8]) -> Result<(), String> + Send + Sync>;

/// A kernel, its operands and what it must write.
pub struct Case {
    /// What was drawn.
    pub name: String,
    /// The kernel.
    pub instance: Instance,
    /// Its launch.
    pub plan: Plan,
    /// Whether rows are narrower than a sector of memory, so that no order of threads reads them well.
    narrow: bool,
    buffers: Vec<Vec<u8>>,
    outputs: Vec<Output>,
}

/// Rows of a buffer that the kernel writes.
struct Output {
    name: &'static str,
    buffer: u32,
    /// Byte ranges in order; nothing else of the buffer may change.
    rows: Vec<std::ops::Range<usize>>,
    judge: Judge,
}

/// The kernels, by name, and how many cases of each are drawn.
pub const FAMILIES: [(&str, u64); 6] = [
    ("arg_max", 30),
    ("top_k", 36),
    ("sample", 48),
    ("rotary", 48),
    ("embedding", 30),
    ("norm", 60),
];

/// The case of a seed.
///
/// # Errors
/// If its arguments are refused, which no case is drawn to be.
///
/// # Panics
/// If there is no such family.
pub fn case(family: &str, seed: u64) -> Result<Case, Refusal> {
    let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9) ^ family.len() as u64);
    match family {
        "arg_max" => select::arg_max_case(&mut random),
        "top_k" => select::top_k_case(&mut random),
        "sample" => sample::case(&mut random),
        "rotary" => rotary::case(&mut random),
        "embedding" => embedding::case(&mut random),
        "norm" => norm::case(&mut random),
        other => panic!("no family `{other}`"),
    }
}

/// Cases of a family, by their seeds.
///
/// # Panics
/// If there is no such family, or a case is refused.
pub fn drawn(family: &str, count: u64) -> Vec<Case> {
    (0..count)
        .map(|seed| case(family, seed).unwrap_or_else(|e| panic!("{family}, seed {seed}: {e}")))
        .collect()
}

/// All cases.
pub fn cases() -> Vec<Box<dyn AnyCase>> {
    let mut all: Vec<Box<dyn AnyCase>> = Vec::new();
    for (family, count) in FAMILIES {
        all.extend(drawn(family, count).into_iter().map(|c| Box::new(c) as Box<dyn AnyCase>));
    }
    all
}

impl AnyCase for Case {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn run(
        &self,
        bench: &Bench,
        card: &mut Card,
        options: &Options,
    ) -> Result<Outcome, BenchError> {
        let mut numbers = Vec::with_capacity(self.buffers.len());
        for bytes in &self.buffers {
            numbers.push(card.buffer(bytes)?);
        }
        let report = card.launch(bench, &self.instance, &self.plan, options)?;
        let mut faults = Vec::new();
        // Slow access is a fault too, but where rows are so narrow that there is no other.
        let slow = |f: &&Finding| {
            f.kind.severity() == Severity::Warning
                && !(self.narrow && f.kind == FindingKind::Uncoalesced)
        };
        faults.extend(report.findings.iter().filter(slow).map(ToString::to_string));
        for (at, (before, &number)) in self.buffers.iter().zip(&numbers).enumerate() {
            let after = card.read(number)?;
            let mine = || self.outputs.iter().filter(|o| o.buffer as usize == at);
            let mut expected = before.clone();
            for range in mine().flat_map(|o| &o.rows) {
                expected[range.clone()].copy_from_slice(&after[range.clone()]);
            }
            if let Some(byte) = (0..after.len()).find(|&i| after[i] != expected[i]) {
                faults.push(format!("byte {byte} of buffer {at} was changed"));
            }
            for output in mine() {
                let dense: Vec<u8> =
                    output.rows.iter().flat_map(|r| after[r.clone()].to_vec()).collect();
                if let Err(e) = (output.judge)(&dense) {
                    faults.push(format!("`{}` {e}", output.name));
                }
            }
        }
        Ok(Outcome { reports: vec![report], results: Vec::new(), faults })
    }
}

/// Operands being laid out, some with gaps before and between rows.
struct Layout<'r> {
    random: &'r mut Random,
    buffers: Vec<Vec<u8>>,
    outputs: Vec<Output>,
}

/// Where rows lie: elements before the first, and from one to the next.
#[derive(Clone, Copy)]
struct Place {
    before: i64,
    stride: i64,
}

impl<'r> Layout<'r> {
    fn new(random: &'r mut Random) -> Layout<'r> {
        Layout { random, buffers: Vec::new(), outputs: Vec::new() }
    }

    /// Dense, aligned with gaps, or at any element.
    fn place(&mut self, length: i64) -> Place {
        match self.random.range(0, 3) {
            0 | 1 => Place { before: 0, stride: length },
            2 => Place {
                before: 16 * self.random.range(0, 2),
                stride: (length + 15) / 16 * 16 + 16 * self.random.range(0, 1),
            },
            _ => {
                Place { before: self.random.range(0, 7), stride: length + self.random.range(0, 5) }
            }
        }
    }

    fn ranges(place: Place, rows: i64, length: i64, size: usize) -> Vec<std::ops::Range<usize>> {
        let row = |r: i64| {
            let start = (place.before + r * place.stride) as usize * size;
            start..start + length as usize * size
        };
        (0..rows).map(row).collect()
    }

    fn view(&self, place: Place, size: usize) -> Rows {
        Rows {
            buffer: self.buffers.len() as u32,
            offset: Expr::constant(place.before * size as i64),
            stride: Expr::constant(place.stride),
        }
    }

    /// A matrix that is read: dense bytes spread over the rows of a buffer of no more than it needs.
    fn matrix(&mut self, dense: &[u8], rows: i64, length: i64, size: usize) -> Rows {
        let place = self.place(length);
        let view = self.view(place, size);
        let ranges = Self::ranges(place, rows, length, size);
        let mut bytes = vec![CANARY; ranges.last().map_or(0, |r| r.end)];
        for (range, row) in ranges.into_iter().zip(dense.chunks(length as usize * size)) {
            bytes[range].copy_from_slice(row);
        }
        self.buffers.push(bytes);
        view
    }

    /// A dense array that is read.
    fn array(&mut self, bytes: &[u8], size: usize) -> Array {
        let before = if self.random.one_in(3) { self.random.range(0, 3) } else { 0 };
        let offset = before as usize * size;
        let mut padded = vec![CANARY; offset];
        padded.extend_from_slice(bytes);
        self.buffers.push(padded);
        Array { buffer: self.buffers.len() as u32 - 1, offset: Expr::constant(offset as i64) }
    }

    /// A matrix that is written.
    fn output(
        &mut self,
        name: &'static str,
        (rows, length, size): (i64, i64, usize),
        judge: Judge,
    ) -> Rows {
        let place = self.place(length);
        let view = self.view(place, size);
        let rows = Self::ranges(place, rows, length, size);
        self.buffers.push(vec![CANARY; rows.last().map_or(0, |r| r.end)]);
        self.outputs.push(Output { name, buffer: view.buffer, rows, judge });
        view
    }

    /// A dense array that is written.
    fn output_array(&mut self, name: &'static str, bytes: usize, judge: Judge) -> Array {
        let buffer = self.buffers.len() as u32;
        self.buffers.push(vec![CANARY; bytes]);
        self.outputs.push(Output {
            name,
            buffer,
            rows: std::iter::once(0..bytes).collect(),
            judge,
        });
        Array { buffer, offset: Expr::constant(0) }
    }

    fn case(self, name: String, (instance, plan): (Instance, Plan)) -> Case {
        let name = format!("{name} [{}]", instance.doc);
        let narrow = false;
        Case { name, instance, plan, narrow, buffers: self.buffers, outputs: self.outputs }
    }
}

/// Bytes of the smallest piece that memory gives.
const SECTOR_BYTES: usize = 32;

/// Values of a type, as it holds them.
fn values(random: &mut Random, dtype: DType, count: i64, scale: f64) -> Vec<f64> {
    let drawn: Vec<f64> = (0..count).map(|_| random.normal() * scale).collect();
    decode(dtype, &encode(dtype, &drawn))
}

/// Bytes that must be exactly these.
fn exactly(expected: Vec<u8>, size: usize) -> Judge {
    Box::new(move |got| match (0..got.len()).find(|&i| got[i] != expected[i]) {
        Some(at) => {
            let element = at / size * size..at / size * size + size;
            Err(format!(
                "element {} is {:02x?} instead of {:02x?}",
                at / size,
                &got[element.clone()],
                &expected[element]
            ))
        }
        None => Ok(()),
    })
}

/// Values that must be exactly these, the sign of a zero included; a NaN may have any bits.
fn same_values(dtype: DType, expected: Vec<f64>) -> Judge {
    Box::new(move |got| {
        let got = decode(dtype, got);
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        match (0..got.len()).find(|&i| !same(got[i], expected[i])) {
            Some(i) => Err(format!("element {i} is {} instead of {}", got[i], expected[i])),
            None => Ok(()),
        }
    })
}

/// Values within twice the naive error.
fn near(dtype: DType, exact: Vec<f64>, naive: Vec<f64>) -> Judge {
    Box::new(move |got| {
        let verdict = crate::verdict::judge(dtype, &exact, &naive, &decode(dtype, got));
        if verdict.passes() { Ok(()) } else { Err(format!("is wrong: {verdict:?}")) }
    })
}
