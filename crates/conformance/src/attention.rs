//! Attention: cases with every feature of the forward kernel, exact and naive results.

pub mod cases;
mod throughput;

use zeroforge_artifact::{DType, Expr};
use zeroforge_emulator::Options;
use zeroforge_kernels::Instance;
use zeroforge_kernels::attention::{Array, Element, Forward, Lengths, Mask, Operands, Sizes, View};

use crate::bench::{Bench, BenchError};
use crate::card::Card;
use crate::case::{Case, Judged, Outcome};
use crate::random::Random;
use crate::tensor::{decode, encode, encode_e4m3, round, round_e4m3};
use crate::verdict::judge;

pub use cases::cases;
pub use throughput::throughput;

/// What values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Normal, deviation 1.
    Normal,
    /// Queries and keys so large that every softmax is nearly one-hot.
    Huge,
    /// Normal, with NaN in some rows of Q, K and V.
    Nan,
    /// Scores that grow with the key, so that maxima move at every tile (and by more than the kernel's limit).
    Growing,
}

/// Order of axes in memory, and unused elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Heads outside of rows (`[batch, head, row, column]`), or inside (`[batch, row, head, column]`).
    pub heads_outside: bool,
    /// Unused elements after each row's columns: a multiple of 16.
    pub gap: usize,
}

/// One launch.
#[derive(Clone, Debug)]
pub struct AttentionCase {
    /// The instance.
    pub spec: Forward,
    /// Query heads and KV heads.
    pub heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Queries and keys of every sequence.
    pub lengths: Vec<(usize, usize)>,
    /// Rows that the tensors have beyond the longest (or, ragged, the last) sequence.
    pub spare: (usize, usize),
    /// Position of query 0 where all lengths are fixed.
    pub offset: i64,
    /// Window, left and right.
    pub window: (i64, i64),
    /// Visible first keys.
    pub prefix: i64,
    /// Keys of a chunk.
    pub chunk: i64,
    /// What is drawn.
    pub values: Values,
    /// Of Q and O, and of K and V.
    pub layout: (Layout, Layout),
    /// Axes of the mask that are broadcast.
    pub broadcast: [bool; 4],
    /// Of the values.
    pub seed: u64,
}

/// What a tensor's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    Plain(DType),
    E4m3,
}

impl Stored {
    fn of(element: Element) -> Stored {
        match element {
            Element::Bf16 => Stored::Plain(DType::Bf16),
            Element::F16 => Stored::Plain(DType::F16),
            Element::E4m3 => Stored::E4m3,
        }
    }

    fn round(self, value: f64) -> f64 {
        match self {
            Stored::Plain(dtype) => round(dtype, value),
            Stored::E4m3 => round_e4m3(value),
        }
    }

    fn encode(self, values: &[f64]) -> Vec<u8> {
        match self {
            Stored::Plain(DType::Bool) => values.iter().map(|v| *v as u8).collect(),
            Stored::Plain(dtype) => encode(dtype, values),
            Stored::E4m3 => encode_e4m3(values),
        }
    }
}

/// A tensor of four axes as memory: `[batch, head, row, column]` at strides.
struct Tensor {
    stored: Stored,
    strides: [usize; 4],
    elements: usize,
    values: Vec<f64>,
}

impl Tensor {
    fn new(stored: Stored, extents: [usize; 4], layout: Layout) -> Tensor {
        let [batch, heads, rows, columns] = extents;
        let pitch = columns + layout.gap;
        let (head, row) =
            if layout.heads_outside { (rows * pitch, pitch) } else { (pitch, heads * pitch) };
        let strides = [heads * rows * pitch, head, row, 1];
        // To the last element: what lies behind it is out of bounds.
        let elements = if batch * heads * rows == 0 {
            columns
        } else {
            (batch - 1) * strides[0] + (heads - 1) * head + (rows - 1) * row + columns
        };
        Tensor { stored, strides, elements, values: vec![f64::NAN; elements] }
    }

    fn at(&self, index: [usize; 4]) -> usize {
        index.iter().zip(&self.strides).map(|(i, s)| i * s).sum()
    }

    /// The columns of a row.
    fn row(&self, batch: usize, head: usize, row: usize, columns: usize) -> &[f64] {
        let at = self.at([batch, head, row, 0]);
        &self.values[at..at + columns]
    }

    fn get(&self, index: [usize; 4]) -> f64 {
        self.values[self.at(index)]
    }

    fn set(&mut self, index: [usize; 4], value: f64) {
        let at = self.at(index);
        self.values[at] = self.stored.round(value);
    }

    fn view(&self, buffer: u32) -> View {
        View {
            buffer,
            offset: Expr::constant(0),
            strides: self.strides.map(|s| Expr::constant(s as i64)),
        }
    }
}

/// The inputs of a case.
struct Inputs {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Option<Tensor>,
    slopes: Vec<f64>,
    sinks: Vec<f64>,
    scale: f32,
    softcap: f32,
    /// Of Q, K and V, per (batch, KV head); ones but for 8-bit floats.
    descales: [Vec<f64>; 3],
    /// First rows of every sequence in a ragged tensor (zeros if not), queries and keys.
    first: Vec<(usize, usize)>,
}

/// One row of the result.
struct Row {
    o: Vec<f64>,
    lse: f64,
}

impl AttentionCase {
    /// A case of equal sequences.
    pub fn fixed(
        spec: Forward,
        batch: usize,
        heads: usize,
        kv_heads: usize,
        queries: usize,
        keys: usize,
        seed: u64,
    ) -> AttentionCase {
        let layout = Layout { heads_outside: false, gap: 0 };
        AttentionCase {
            spec,
            heads,
            kv_heads,
            lengths: vec![(queries, keys); batch],
            spare: (0, 0),
            offset: keys as i64 - queries as i64,
            window: (0, 0),
            prefix: 0,
            chunk: 1,
            values: Values::Normal,
            layout: (layout, layout),
            broadcast: [false; 4],
            seed,
        }
    }

    /// A case for an instance, everything else by seed.
    pub fn drawn(spec: &Forward, seed: u64) -> AttentionCase {
        let mut random = Random::new(seed);
        let r = &mut random;
        let wide = spec.head_dim > 128 || spec.value_dim > 128;
        let group = if spec.pack > 1 { i64::from(spec.pack) } else { r.pick(&[1, 1, 2, 3]) };
        let kv_heads = r.range(1, 2);
        let batch = if spec.queries == Lengths::Fixed && spec.keys == Lengths::Fixed {
            r.range(1, 2)
        } else {
            r.range(1, 4)
        };
        let longest = if wide { 200 } else { 330 };
        let length = |r: &mut Random, short: i64| match r.range(0, 9) {
            0 => 1,
            1 => r.range(1, 16),
            2..=4 => r.range(1, short),
            5 => r.pick(&[64, 128, 192, 256]).min(longest),
            _ => r.range(1, longest),
        };
        let most_queries = if spec.pack > 1 { 40 } else { 260 };
        let mut lengths: Vec<(i64, i64)> = Vec::new();
        for _ in 0..batch {
            let (mut q, mut k) = (length(r, 130).min(most_queries), length(r, 200));
            if spec.queries == Lengths::Fixed
                && let Some(first) = lengths.first()
            {
                q = first.0;
            } else if spec.queries != Lengths::Fixed && r.one_in(6) {
                q = 0;
            }
            if spec.keys == Lengths::Fixed
                && let Some(first) = lengths.first()
            {
                k = first.1;
            } else if r.one_in(12) {
                k = 0;
            }
            // Self-attention is what most calls are.
            if lengths.is_empty() && r.one_in(3) && k > 0 && spec.pack == 1 {
                q = k.min(most_queries);
            }
            lengths.push((q, k));
        }
        let keys = lengths.iter().map(|l| l.1).max().unwrap_or(0);
        let queries = lengths.iter().map(|l| l.0).max().unwrap_or(0);
        let layout =
            |r: &mut Random| Layout { heads_outside: r.one_in(2), gap: r.pick(&[0, 0, 16, 32]) };
        let spare = |r: &mut Random, lengths| {
            if lengths == Lengths::Fixed { 0 } else { r.pick(&[0, 1, 70]) as usize }
        };
        AttentionCase {
            heads: (group * kv_heads) as usize,
            kv_heads: kv_heads as usize,
            lengths: lengths.iter().map(|l| (l.0 as usize, l.1 as usize)).collect(),
            spare: (spare(r, spec.queries), spare(r, spec.keys)),
            offset: if r.one_in(4) { r.range(-20, keys) } else { keys - queries },
            window: (
                r.pick(&[0, 3, 40, 150]),
                if spec.window_left && r.one_in(2) { r.range(0, 60) } else { 0 },
            ),
            prefix: r.range(0, keys + 10),
            chunk: r.pick(&[1, 16, 50, 128]),
            values: r.pick(&[
                Values::Normal,
                Values::Normal,
                Values::Normal,
                Values::Huge,
                Values::Nan,
                Values::Growing,
            ]),
            layout: (layout(r), layout(r)),
            broadcast: [r.one_in(3), r.one_in(3), r.one_in(5), r.one_in(5)],
            spec: spec.clone(),
            seed,
        }
    }

    fn rows(&self) -> (usize, usize) {
        let count = |lengths: Lengths, of: &dyn Fn(&(usize, usize)) -> usize, spare: usize| {
            let all = self.lengths.iter().map(of);
            let rows: usize =
                if lengths == Lengths::Ragged { all.sum() } else { all.max().unwrap_or(0) };
            (rows + spare).max(1)
        };
        (
            count(self.spec.queries, &|l| l.0, self.spare.0),
            count(self.spec.keys, &|l| l.1, self.spare.1),
        )
    }

    fn inputs(&self) -> Inputs {
        let mut random = Random::new(self.seed ^ 0x61_7474);
        let r = &mut random;
        let spec = &self.spec;
        let (d, dv) = (spec.head_dim as usize, spec.value_dim as usize);
        let stored = Stored::of(spec.element);
        let (q_rows, k_rows) = self.rows();
        let batches = |lengths| if lengths == Lengths::Ragged { 1 } else { self.lengths.len() };
        let mut q =
            Tensor::new(stored, [batches(spec.queries), self.heads, q_rows, d], self.layout.0);
        let mut k =
            Tensor::new(stored, [batches(spec.keys), self.kv_heads, k_rows, d], self.layout.1);
        let mut v =
            Tensor::new(stored, [batches(spec.keys), self.kv_heads, k_rows, dv], self.layout.1);
        let mut first = Vec::new();
        let (mut first_q, mut first_k) = (0, 0);
        for &(queries, keys) in &self.lengths {
            first.push((first_q, first_k));
            first_q += if spec.queries == Lengths::Ragged { queries } else { 0 };
            first_k += if spec.keys == Lengths::Ragged { keys } else { 0 };
        }
        let size = if self.values == Values::Huge { 30.0 } else { 1.0 };
        // What no sequence has stays NaN: reading it shows.
        for (b, &(queries, keys)) in self.lengths.iter().enumerate() {
            let q_batch = if spec.queries == Lengths::Ragged { 0 } else { b };
            let k_batch = if spec.keys == Lengths::Ragged { 0 } else { b };
            for h in 0..self.heads {
                for i in 0..queries {
                    let nan = self.values == Values::Nan && r.one_in(40);
                    for x in 0..d {
                        let value = if nan { f64::NAN } else { r.normal().abs() * size };
                        let sign =
                            if self.values == Values::Growing || r.one_in(2) { 1.0 } else { -1.0 };
                        q.set([q_batch, h, first[b].0 + i, x], sign * value);
                    }
                }
            }
            for h in 0..self.kv_heads {
                for j in 0..keys {
                    let nan = (
                        self.values == Values::Nan && r.one_in(60),
                        self.values == Values::Nan && r.one_in(60),
                    );
                    let height =
                        if self.values == Values::Growing { 4.0 - j as f64 * 0.04 } else { 0.0 };
                    for x in 0..d {
                        let value = if nan.0 { f64::NAN } else { r.normal() * size + height };
                        k.set([k_batch, h, first[b].1 + j, x], value);
                    }
                    for x in 0..dv {
                        v.set(
                            [k_batch, h, first[b].1 + j, x],
                            if nan.1 { f64::NAN } else { r.normal() },
                        );
                    }
                }
            }
        }
        let longest =
            |of: &dyn Fn(&(usize, usize)) -> usize| self.lengths.iter().map(of).max().unwrap_or(0);
        let mask = match spec.mask {
            Mask::None => None,
            kind => {
                let extents =
                    [self.lengths.len(), self.heads, longest(&|l| l.0), longest(&|l| l.1)];
                let kept: Vec<usize> = extents
                    .iter()
                    .zip(self.broadcast)
                    .map(|(&e, b)| if b { 1 } else { e.max(1) })
                    .collect();
                let dtype = if let Mask::Additive(dtype) = kind { dtype } else { DType::Bool };
                let mut mask = Tensor::new(
                    Stored::Plain(dtype),
                    [kept[0], kept[1], kept[2], kept[3]],
                    Layout { heads_outside: true, gap: 0 },
                );
                // Whole rows hidden, and runs of keys.
                let (columns, hide) = (kept[3], r.one_in(3));
                let mut hidden = false;
                for at in 0..mask.values.len() {
                    if at % columns == 0 {
                        hidden = hide && r.one_in(5);
                    }
                    let one = r.one_in(6);
                    mask.values[at] = match dtype {
                        DType::Bool => f64::from(u8::from(!(hidden || one))),
                        _ if hidden || (hide && one) => f64::NEG_INFINITY,
                        _ => round(dtype, r.normal()),
                    };
                }
                for (axis, broadcast) in self.broadcast.iter().enumerate() {
                    if *broadcast {
                        mask.strides[axis] = 0;
                    }
                }
                Some(mask)
            }
        };
        let scale =
            if self.values == Values::Huge { 1.0 } else { (1.0 / (d as f64).sqrt()) as f32 };
        Inputs {
            q,
            k,
            v,
            mask,
            slopes: (0..self.heads)
                .map(|h| round(DType::F32, 2f64.powf(-(h as f64 + 1.0))))
                .collect(),
            sinks: (0..self.heads)
                .map(|_| {
                    if r.one_in(5) {
                        f64::NEG_INFINITY
                    } else {
                        round(DType::F32, r.normal() * 3.0)
                    }
                })
                .collect(),
            scale,
            softcap: 20.0,
            descales: [0, 1, 2].map(|_| {
                let one = |r: &mut Random| {
                    let scaled = spec.element == Element::E4m3;
                    if scaled { round(DType::F32, 0.5 + r.unit()) } else { 1.0 }
                };
                (0..self.lengths.len() * self.kv_heads).map(|_| one(r)).collect()
            }),
            first,
        }
    }

    fn visible(&self, b: usize, i: usize, j: usize) -> bool {
        let spec = &self.spec;
        let (queries, keys) = self.lengths[b];
        let fixed = spec.queries == Lengths::Fixed && spec.keys == Lengths::Fixed;
        let offset = if fixed { self.offset } else { keys as i64 - queries as i64 };
        let (p, j) = (i as i64 + offset, j as i64);
        let left = !spec.window_left || j >= p - self.window.0;
        let right =
            !spec.window_right || j <= p + self.window.1 || (spec.prefix && j < self.prefix);
        let chunk = !spec.chunk || j.div_euclid(self.chunk) == p.div_euclid(self.chunk);
        left && right && chunk
    }

    fn distance(&self, b: usize, i: usize, j: usize) -> f64 {
        let (queries, keys) = self.lengths[b];
        let fixed = self.spec.queries == Lengths::Fixed && self.spec.keys == Lengths::Fixed;
        let offset = if fixed { self.offset } else { keys as i64 - queries as i64 };
        (i as i64 + offset - j as i64).abs() as f64
    }

    /// One row, exactly or as plain code computes it: f32, exponentials to base 2 (what a GPU has), P rounded to the
    /// element type.
    fn row(&self, x: &Inputs, b: usize, h: usize, i: usize, exact: bool) -> Row {
        let spec = &self.spec;
        let f = |value: f64| if exact { value } else { f64::from(value as f32) };
        let (d, dv) = (spec.head_dim as usize, spec.value_dim as usize);
        let kv_head = h / (self.heads / self.kv_heads);
        let q_batch = if spec.queries == Lengths::Ragged { 0 } else { b };
        let k_batch = if spec.keys == Lengths::Ragged { 0 } else { b };
        let keys = self.lengths[b].1;
        let descale = |of: usize| x.descales[of][b * self.kv_heads + kv_head];
        let scale = f(f64::from(x.scale) * f(descale(0) * descale(1)));
        let query = x.q.row(q_batch, h, x.first[b].0 + i, d);
        let scores: Vec<f64> = (0..keys)
            .map(|j| {
                if !self.visible(b, i, j) {
                    return f64::NEG_INFINITY;
                }
                let key = x.k.row(k_batch, kv_head, x.first[b].1 + j, d);
                let dot = query.iter().zip(key).fold(0.0, |sum, (q, k)| f(sum + q * k));
                let mut score = f(dot * scale);
                if spec.softcap {
                    let cap = f64::from(x.softcap);
                    // By an exponential, in f32: an error of the cap's scale, as bf16 and f16 do not notice.
                    let e = f(f(f(score / cap) * f(2.0 * std::f64::consts::LOG2_E)).exp2());
                    score = if exact {
                        cap * (score / cap).tanh()
                    } else {
                        f(cap - f(f(2.0 * cap) / f(1.0 + e)))
                    };
                }
                if spec.slopes {
                    score = f(score - f(x.slopes[h] * self.distance(b, i, j)));
                }
                match (&x.mask, spec.mask) {
                    (Some(mask), Mask::Bool) if mask.get([b, h, i, j]) == 0.0 => f64::NEG_INFINITY,
                    (Some(mask), Mask::Additive(_)) => f(score + mask.get([b, h, i, j])),
                    _ => score,
                }
            })
            .collect();
        let sink = if spec.sinks { x.sinks[h] } else { f64::NEG_INFINITY };
        let nan = scores.iter().any(|s| s.is_nan());
        let top = scores.iter().fold(sink, |a, &s| a.max(s));
        if !nan && top == f64::NEG_INFINITY {
            return Row { o: vec![0.0; dv], lse: f64::NEG_INFINITY };
        }
        let log2_e = f(std::f64::consts::LOG2_E);
        let power = |score: f64| {
            if exact {
                (score - top).exp()
            } else {
                f(f(f(score * log2_e) - f(top * log2_e)).exp2())
            }
        };
        let weights: Vec<f64> = scores.iter().map(|&s| power(s)).collect();
        let sum = weights.iter().fold(power(sink), |a, w| f(a + w));
        let mut o = vec![0.0; dv];
        for (j, &weight) in weights.iter().enumerate() {
            // What is hidden is no term of the exact sum; plain code multiplies it by zero.
            if exact && weight == 0.0 && scores[j] == f64::NEG_INFINITY {
                continue;
            }
            let weight = if exact { weight } else { Stored::of(spec.element).round(weight) };
            let value = x.v.row(k_batch, kv_head, x.first[b].1 + j, dv);
            for (o, v) in o.iter_mut().zip(value) {
                *o = f(*o + weight * v);
            }
        }
        for o in &mut o {
            *o = f(f(*o / sum) * descale(2));
            if !exact {
                *o = round(spec.element.output(), *o);
            }
        }
        let lse = if exact {
            top + sum.ln()
        } else {
            f(f(f(top * log2_e) + f(sum.log2())) * f(std::f64::consts::LN_2))
        };
        Row { o, lse }
    }
}

fn i32s(values: impl Iterator<Item = usize>) -> Vec<u8> {
    values.flat_map(|v| (v as i32).to_le_bytes()).collect()
}

impl Case for AttentionCase {
    fn name(&self) -> String {
        format!("{}: {self:?}", self.spec)
    }

    fn run(
        &self,
        bench: &Bench,
        card: &mut Card,
        options: &Options,
    ) -> Result<Outcome, BenchError> {
        self.run_edited(bench, card, options, &|instance| instance)
    }
}

impl AttentionCase {
    /// As [`Case::run`], with the instance edited: a planted bug.
    ///
    /// # Errors
    /// If it cannot be run at all.
    pub fn run_edited(
        &self,
        bench: &Bench,
        card: &mut Card,
        options: &Options,
        edit: &dyn Fn(Instance) -> Instance,
    ) -> Result<Outcome, BenchError> {
        let mut outcome = Outcome::default();
        let spec = &self.spec;
        let (dv, element) = (spec.value_dim as usize, spec.element.output());
        let x = self.inputs();
        let batches = if spec.queries == Lengths::Ragged { 1 } else { self.lengths.len() };
        let (q_rows, k_rows) = self.rows();
        let o =
            Tensor::new(Stored::Plain(element), [batches, self.heads, q_rows, dv], self.layout.0);
        let lse = Tensor::new(
            Stored::Plain(DType::F32),
            [batches, self.heads, q_rows, 1],
            Layout { heads_outside: true, gap: 0 },
        );
        let pattern =
            |bytes: usize| -> Vec<u8> { (0..bytes).map(|i| (i * 37 % 251) as u8).collect() };
        let before = (pattern(o.elements * 2), pattern(lse.elements * 4));

        let view = |card: &mut Card, tensor: &Tensor| -> Result<View, BenchError> {
            let bytes = tensor.stored.encode(&tensor.values);
            Ok(tensor.view(card.buffer(&bytes)?))
        };
        let flat = |card: &mut Card, values: &[f64]| -> Result<View, BenchError> {
            let buffer = card.buffer(&encode(DType::F32, values))?;
            let strides = [0, 1, 0, 0].map(Expr::constant);
            Ok(View { buffer, offset: Expr::constant(0), strides })
        };
        let lengths =
            |card: &mut Card, lengths: Lengths, of: &dyn Fn(usize) -> usize, end: usize| {
                let n = self.lengths.len();
                let bytes = match lengths {
                    Lengths::Fixed => return Ok(None),
                    Lengths::Used => i32s((0..n).map(of)),
                    Lengths::Ragged => i32s((0..n).map(of).chain([end])),
                };
                Ok::<_, BenchError>(Some(Array {
                    buffer: card.buffer(&bytes)?,
                    offset: Expr::constant(0),
                }))
            };
        let ragged = |l| l == Lengths::Ragged;
        let total: (usize, usize) = self.lengths.iter().fold((0, 0), |a, l| (a.0 + l.0, a.1 + l.1));
        let o_buffer = card.buffer(&before.0)?;
        let lse_buffer = card.buffer(&before.1)?;
        let operands = Operands {
            q: view(card, &x.q)?,
            k: view(card, &x.k)?,
            v: view(card, &x.v)?,
            o: o.view(o_buffer),
            lse: spec.lse.then(|| lse.view(lse_buffer)),
            mask: x.mask.as_ref().map(|m| view(card, m)).transpose()?,
            slopes: if spec.slopes { Some(flat(card, &x.slopes)?) } else { None },
            sinks: if spec.sinks { Some(flat(card, &x.sinks)?) } else { None },
            descales: if spec.element == Element::E4m3 {
                let mut one = |values: &Vec<f64>| -> Result<View, BenchError> {
                    let view = flat(card, values)?;
                    let strides = [self.kv_heads as i64, 1, 0, 0].map(Expr::constant);
                    Ok(View { strides, ..view })
                };
                let [q, k, v] = &x.descales;
                Some([one(q)?, one(k)?, one(v)?])
            } else {
                None
            },
            queries: lengths(
                card,
                spec.queries,
                &|b| if ragged(spec.queries) { x.first[b].0 } else { self.lengths[b].0 },
                total.0,
            )?,
            keys: lengths(
                card,
                spec.keys,
                &|b| if ragged(spec.keys) { x.first[b].1 } else { self.lengths[b].1 },
                total.1,
            )?,
        };
        let number = |n: usize| Expr::constant(n as i64);
        // Of padded tensors every row counts; lengths say what is used.
        let longest = |l: Lengths, rows: usize, of: &dyn Fn(&(usize, usize)) -> usize| {
            let longest = self.lengths.iter().map(of).max().unwrap_or(0);
            if l == Lengths::Used { rows } else { longest }
        };
        let mut sizes = Sizes::dense(
            number(self.lengths.len()),
            number(self.heads),
            number(self.kv_heads),
            number(longest(spec.queries, q_rows, &|l| l.0)),
            number(longest(spec.keys, k_rows, &|l| l.1)),
            x.scale,
        );
        sizes.total_queries = number(q_rows);
        sizes.total_keys = number(k_rows);
        sizes.offset = Expr::constant(self.offset);
        sizes.window_left = Expr::constant(self.window.0);
        sizes.window_right = Expr::constant(self.window.1);
        sizes.prefix = Expr::constant(self.prefix);
        sizes.chunk = Expr::constant(self.chunk);
        sizes.softcap = x.softcap;

        let refused = |e: zeroforge_kernels::Refusal| BenchError::Refused(e);
        let instance = edit(spec.instance().map_err(refused)?);
        let plan = spec.plan(&sizes, &operands).map_err(refused)?;
        outcome.reports.push(card.launch(bench, &instance, &plan, options)?);

        let bytes = card.read(o_buffer)?;
        let sums = card.read(lse_buffer)?;
        let (got, got_lse) = (decode(element, &bytes), decode(DType::F32, &sums));
        let mut written = (vec![false; o.elements], vec![false; lse.elements]);
        let mut columns: [Vec<f64>; 3] = Default::default();
        let mut lse_columns: [Vec<f64>; 3] = Default::default();
        for (b, &(queries, _)) in self.lengths.iter().enumerate() {
            let batch = if ragged(spec.queries) { 0 } else { b };
            for h in 0..self.heads {
                for i in 0..queries {
                    let (exact, naive) =
                        (self.row(&x, b, h, i, true), self.row(&x, b, h, i, false));
                    let row = x.first[b].0 + i;
                    for c in 0..dv {
                        let at = o.at([batch, h, row, c]);
                        written.0[at] = true;
                        for (to, value) in columns.iter_mut().zip([exact.o[c], naive.o[c], got[at]])
                        {
                            to.push(value);
                        }
                    }
                    if spec.lse {
                        let at = lse.at([batch, h, row, 0]);
                        written.1[at] = true;
                        for (to, value) in
                            lse_columns.iter_mut().zip([exact.lse, naive.lse, got_lse[at]])
                        {
                            to.push(value);
                        }
                    }
                }
            }
        }
        for (name, written, size, before, after) in
            [("o", &written.0, 2, &before.0, &bytes), ("lse", &written.1, 4, &before.1, &sums)]
        {
            let stray = (0..before.len()).find(|&i| !written[i / size] && before[i] != after[i]);
            outcome.faults.extend(
                stray.map(|i| format!("`{name}`: byte {i} changed, which is no element of it")),
            );
        }
        let mut verdict = judge(element, &columns[0], &columns[1], &columns[2]);
        if spec.element == Element::E4m3 {
            // One probability is rounded by up to half a unit, 2^-5 of it; of few, plain code's may happen to be exact.
            verdict.allowed = verdict.allowed.max(verdict.scale / 32.0);
        }
        outcome.results.push(Judged { name: "o".to_owned(), verdict, bytes });
        if spec.lse {
            let mut verdict = judge(DType::F32, &lse_columns[0], &lse_columns[1], &lse_columns[2]);
            // Where plain code happens to be exact, results of other correct orders are a unit of f32 away.
            verdict.allowed += verdict.scale * f64::from(f32::EPSILON);
            outcome.results.push(Judged { name: "lse".to_owned(), verdict, bytes: sums });
        }
        Ok(outcome)
    }
}
