//! Decode attention: few queries over KV caches, dense and paged, with everything that is not theirs in the cache NaN.

mod data;
mod draw;
mod oracle;

use zeroforge_artifact::{DType, Expr};
use zeroforge_emulator::Options;
use zeroforge_kernels::Instance;
use zeroforge_kernels::decode::{
    CacheType, DecodeCall, DecodeSpec, KvCache, NewRows, PageTable, Place, RotaryTables, Strided,
    plan, workspace_bytes,
};

pub use draw::{SPECS, Splits, drawn, example, listed};

use crate::bench::{Bench, BenchError};
use crate::card::Card;
use crate::case::{Case, Judged, Outcome};
use crate::random::Random;
use crate::tensor::{decode, encode, round};
use crate::verdict::judge;
use data::{Tensor, from_e4m3, rotary_table, to_e4m3};
use oracle::{Oracle, Row};

/// What the emulated memory holds where nothing belongs: NaN in bf16, f16, f32 and e4m3.
const POISON: u8 = 0xff;

/// A change to an instance's source: a bug that the checks have to see.
pub type Mutation = dyn Fn(Instance) -> Instance + Sync;

/// One call, its inputs drawn by seed.
#[derive(Clone)]
pub struct DecodeCase {
    /// What is compiled in.
    pub spec: DecodeSpec,
    /// Query heads.
    pub heads: i64,
    /// Heads of the cache.
    pub kv_heads: i64,
    /// Queries of a sequence.
    pub queries: i64,
    /// Rows that are filled before the call, by sequence.
    pub lengths: Vec<i64>,
    /// Rows that do not count, by sequence; none for no table.
    pub padding: Vec<i64>,
    /// Rows that a sequence may have; of a paged cache a multiple of `page_rows`.
    pub capacity: i64,
    /// Rows of a page.
    pub page_rows: i64,
    /// Sequences of a dense cache are in another order.
    pub shuffled: bool,
    /// Rows that are added.
    pub new_rows: i64,
    /// Rows before a query's that it sees.
    pub left: Option<i64>,
    /// And behind it.
    pub right: Option<i64>,
    /// Parts of the keys.
    pub splits: u32,
    /// A logit without a value for every head.
    pub sinks: bool,
    /// Whether the logarithms are asked for.
    pub lse: bool,
    /// What normally distributed queries are multiplied by.
    pub magnitude: f64,
    /// Where `spec.softcap` is.
    pub softcap: f32,
    /// Heads lie beside each other (rows of all heads), or rows do.
    pub heads_inside: bool,
    /// Of the values.
    pub seed: u64,
}

/// Buffers of a case on a card.
struct Buffers {
    q: u32,
    o: u32,
    k: u32,
    v: Option<u32>,
    lse: Option<u32>,
}

/// What lies in the buffers before the launch.
struct Inputs {
    q: Tensor,
    o: Tensor,
    k: Tensor,
    v: Option<Tensor>,
    new_k: Option<Tensor>,
    new_v: Option<Tensor>,
    /// Unit of the cache by sequence, or pages by sequence.
    pages: Vec<Vec<i64>>,
    sinks: Vec<f64>,
    slopes: Vec<f64>,
    k_descale: Vec<f64>,
    v_descale: Vec<f64>,
    cos: Vec<f64>,
    sin: Vec<f64>,
    units: i64,
}

impl DecodeCase {
    fn batch(&self) -> i64 {
        self.lengths.len() as i64
    }

    fn element(&self) -> usize {
        if self.spec.cache == CacheType::E4m3 { 1 } else { 2 }
    }

    /// Rows of a sequence that attention sees, first and behind the last.
    fn rows(&self, b: usize) -> (i64, i64) {
        let length = (self.lengths[b] + self.new_rows).min(self.capacity);
        (self.padding.get(b).copied().unwrap_or(0).min(length), length)
    }

    fn positions(&self) -> i64 {
        self.capacity + self.queries
    }

    /// Unit and row of the cache that hold a sequence's row.
    fn place(&self, inputs: &Inputs, b: usize, row: i64) -> (i64, i64) {
        if self.spec.paged {
            (inputs.pages[b][(row / self.page_rows) as usize], row % self.page_rows)
        } else {
            (inputs.pages[b][0], row)
        }
    }

    fn values(&self, random: &mut Random, bytes: &mut [u8], count: usize, scale: f64) {
        for i in 0..count {
            let x = random.normal() * scale;
            if self.element() == 1 {
                bytes[i] = to_e4m3(x);
            } else {
                bytes[2 * i..2 * i + 2].copy_from_slice(&encode(self.spec.dtype, &[x]));
            }
        }
    }

    fn draw_pages(&self, random: &mut Random) -> (Vec<Vec<i64>>, i64) {
        if !self.spec.paged {
            let units = self.batch() + i64::from(self.shuffled) * 2;
            let mut order: Vec<i64> = (0..units).collect();
            if self.shuffled {
                data::shuffle(&mut order, random);
            }
            return ((0..self.lengths.len()).map(|b| vec![order[b]]).collect(), units);
        }
        let counts: Vec<i64> = (0..self.lengths.len())
            .map(|b| (self.rows(b).1 + self.page_rows - 1) / self.page_rows)
            .collect();
        let units = counts.iter().sum::<i64>() + 2;
        let mut order: Vec<i64> = (0..units).collect();
        data::shuffle(&mut order, random);
        let mut rest = order.into_iter();
        (counts.iter().map(|&n| rest.by_ref().take(n as usize).collect()).collect(), units)
    }

    fn draw(&self) -> Inputs {
        let random = &mut Random::new(self.seed);
        let (pages, units) = self.draw_pages(random);
        let s = &self.spec;
        let (d, dv) = (i64::from(s.head_dim), i64::from(s.value_dim));
        let unit_rows = if s.paged { self.page_rows } else { self.capacity };
        let inside = self.heads_inside;
        let cache = |columns| {
            Tensor::new([units, self.kv_heads, unit_rows, columns], self.element(), inside, POISON)
        };
        let fresh = |rows, columns| {
            Tensor::new([self.batch(), self.kv_heads, rows, columns], 2, inside, POISON)
        };
        let mut inputs = Inputs {
            q: Tensor::new([self.batch(), self.heads, self.queries, d], 2, inside, POISON),
            o: Tensor::new([self.batch(), self.heads, self.queries, dv], 2, !inside, 0x55),
            k: cache(d),
            v: (!s.latent).then(|| cache(dv)),
            new_k: (self.new_rows > 0).then(|| fresh(self.new_rows, d)),
            new_v: (self.new_rows > 0 && !s.latent).then(|| fresh(self.new_rows, dv)),
            pages,
            sinks: (0..self.heads).map(|_| random.normal() * 2.0).collect(),
            slopes: (0..self.heads).map(|_| random.unit() * 0.3).collect(),
            k_descale: Vec::new(),
            v_descale: Vec::new(),
            cos: Vec::new(),
            sin: Vec::new(),
            units,
        };
        if s.cache == CacheType::E4m3 {
            let mut scales = || -> Vec<f64> {
                (0..self.batch() * self.kv_heads).map(|_| 0.25 + random.unit()).collect()
            };
            (inputs.k_descale, inputs.v_descale) = (scales(), scales());
        }
        if let Some(rotary) = s.rotary {
            (inputs.cos, inputs.sin) = rotary_table(self.positions(), i64::from(rotary.dim));
        }
        for [b, h, i] in data::indices([self.batch(), self.heads, self.queries]) {
            let row = inputs.q.row(b, h, i);
            let values: Vec<f64> = (0..d).map(|_| random.normal() * self.magnitude).collect();
            inputs.q.bytes[row].copy_from_slice(&encode(s.dtype, &values));
        }
        for b in 0..self.lengths.len() {
            let filled = self.lengths[b].min(self.capacity);
            for row in self.padding.get(b).copied().unwrap_or(0)..filled {
                let (unit, at) = self.place(&inputs, b, row);
                for h in 0..self.kv_heads {
                    let k = inputs.k.row(unit, h, at);
                    self.values(random, &mut inputs.k.bytes[k], d as usize, 1.0);
                    if let Some(v) = &mut inputs.v {
                        let range = v.row(unit, h, at);
                        self.values(random, &mut v.bytes[range], dv as usize, 1.0);
                    }
                }
            }
        }
        for tensor in [&mut inputs.new_k, &mut inputs.new_v].into_iter().flatten() {
            for [b, h, i] in data::indices([self.batch(), self.kv_heads, self.new_rows]) {
                let row = tensor.row(b, h, i);
                let values: Vec<f64> = (0..tensor.shape[3]).map(|_| random.normal()).collect();
                tensor.bytes[row].copy_from_slice(&encode(s.dtype, &values));
            }
        }
        inputs
    }

    /// Puts the case on a card and gives the call.
    fn call(&self, card: &mut Card, inputs: &Inputs) -> Result<(DecodeCall, Buffers), BenchError> {
        let f32s = |values: &[f64]| encode(DType::F32, values);
        let i32s = |values: &[i64]| -> Vec<u8> {
            values.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect()
        };
        let mut put = |bytes: Vec<u8>| card.buffer(&bytes).map(at);
        let (q, o) = (put(inputs.q.bytes.clone())?, put(inputs.o.bytes.clone())?);
        let k = put(inputs.k.bytes.clone())?;
        let v = inputs.v.as_ref().map(|v| put(v.bytes.clone())).transpose()?;
        let outside = 0x7fff_fff0;
        let page_table = if self.spec.paged {
            let stride = self.capacity / self.page_rows;
            let entries: Vec<i64> = (0..self.lengths.len())
                .flat_map(|b| {
                    (0..stride).map(move |i| *inputs.pages[b].get(i as usize).unwrap_or(&outside))
                })
                .collect();
            Some(PageTable {
                at: put(i32s(&entries))?,
                stride: stride.into(),
                page_rows: self.page_rows,
            })
        } else {
            None
        };
        let order: Vec<i64> =
            inputs.pages.iter().map(|p| p.first().copied().unwrap_or(0)).collect();
        let cache = KvCache {
            k: inputs.k.operand(&k),
            v: v.as_ref().zip(inputs.v.as_ref()).map(|(place, v)| v.operand(place)),
            lengths: Some(put(i32s(&self.lengths))?),
            left_padding: (!self.padding.is_empty())
                .then(|| put(i32s(&self.padding)))
                .transpose()?,
            batch_index: self.shuffled.then(|| put(i32s(&order))).transpose()?,
            page_table,
            units: inputs.units.into(),
            capacity: self.capacity.into(),
        };
        let new = match &inputs.new_k {
            None => None,
            Some(new_k) => Some(NewRows {
                k: new_k.operand(&put(new_k.bytes.clone())?),
                v: match &inputs.new_v {
                    None => None,
                    Some(new_v) => Some(new_v.operand(&put(new_v.bytes.clone())?)),
                },
                rows: self.new_rows,
            }),
        };
        let rotary = if self.spec.rotary.is_some() {
            Some(RotaryTables {
                cos: put(encode(self.spec.dtype, &inputs.cos))?,
                sin: put(encode(self.spec.dtype, &inputs.sin))?,
                positions: self.positions().into(),
            })
        } else {
            None
        };
        let sinks = self.sinks.then(|| put(f32s(&inputs.sinks))).transpose()?;
        let slopes = self.spec.alibi.then(|| put(f32s(&inputs.slopes))).transpose()?;
        let quantised = self.spec.cache == CacheType::E4m3;
        let k_descale = quantised.then(|| put(f32s(&inputs.k_descale))).transpose()?;
        let v_descale =
            (quantised && !self.spec.latent).then(|| put(f32s(&inputs.v_descale))).transpose()?;
        let outputs = (self.batch() * self.heads * self.queries) as usize;
        let lse = self.lse.then(|| card.unwritten(outputs * 4).map(at)).transpose()?;
        let batch = Expr::from(self.batch());
        let bytes =
            workspace_bytes(&batch, self.heads, self.queries, self.spec.value_dim, self.splits);
        let bytes = bytes.as_const().unwrap_or(0) as usize;
        let workspace = (bytes > 0).then(|| card.unwritten(bytes).map(at)).transpose()?;
        let buffers = Buffers {
            q: q.buffer,
            o: o.buffer,
            k: k.buffer,
            v: v.as_ref().map(|v| v.buffer),
            lse: lse.as_ref().map(|l| l.buffer),
        };
        let call = DecodeCall {
            batch,
            heads: self.heads,
            kv_heads: self.kv_heads,
            queries: self.queries,
            q: inputs.q.operand(&q),
            o: inputs.o.operand(&o),
            cache,
            new,
            rotary,
            scale: 1.0 / (self.spec.head_dim as f32).sqrt(),
            softcap: self.softcap,
            window_left: self.left,
            window_right: self.right,
            sinks,
            slopes,
            k_descale,
            v_descale,
            lse,
            splits: self.splits,
            workspace,
        };
        Ok((call, buffers))
    }

    /// A row of a cache as numbers, descaled.
    fn cache_row(&self, tensor: &Tensor, unit: i64, head: i64, row: i64, descale: f64) -> Vec<f64> {
        let bytes = &tensor.bytes[tensor.row(unit, head, row)];
        if self.element() == 1 {
            bytes.iter().map(|&b| from_e4m3(b) * descale).collect()
        } else {
            decode(self.spec.dtype, bytes)
        }
    }

    /// A query or new key as it is at a position.
    fn rotated(
        &self,
        inputs: &Inputs,
        row: &[f64],
        position: i64,
        stored: fn(f64) -> f64,
    ) -> Vec<f64> {
        let Some(rotary) = self.spec.rotary else { return row.to_vec() };
        let half = rotary.dim as usize / 2;
        let at = position as usize * half..(position as usize + 1) * half;
        let tables = [&inputs.cos[at.clone()], &inputs.sin[at]];
        data::rotate(row, rotary, tables, self.spec.dtype, stored)
    }

    /// Compares the cache with what it was and what was added; leaves the new contents in `before`.
    fn judge_cache(
        &self,
        inputs: &Inputs,
        new: Option<&Tensor>,
        before: &mut Tensor,
        after: Vec<u8>,
        keys: bool,
        outcome: &mut Outcome,
    ) {
        let name = if keys { "cache.k" } else { "cache.v" };
        let (mut exact, mut naive, mut got) = (Vec::new(), Vec::new(), Vec::new());
        let old = std::mem::replace(&mut before.bytes, after);
        let mut expected = old;
        for b in 0..self.lengths.len() {
            for (token, row) in (self.lengths[b]..self.rows(b).1).enumerate() {
                let Some(new) = new else { continue };
                let (unit, at) = self.place(inputs, b, row);
                for h in 0..self.kv_heads {
                    let source =
                        decode(self.spec.dtype, &new.bytes[new.row(b as i64, h, token as i64)]);
                    let scales = if keys { &inputs.k_descale } else { &inputs.v_descale };
                    let scale =
                        scales.get(b * self.kv_heads as usize + h as usize).copied().unwrap_or(1.0);
                    let value = |stored| {
                        if keys {
                            self.rotated(inputs, &source, row, stored)
                        } else {
                            source.clone()
                        }
                    };
                    let (value, plain) = (value(data::exact), value(data::single));
                    let range = before.row(unit, h, at);
                    if self.element() == 1 {
                        exact.extend(value.iter().map(|x| x / scale));
                        naive.extend(plain.iter().map(|x| from_e4m3(to_e4m3(x / scale))));
                        got.extend(before.bytes[range.clone()].iter().map(|&x| from_e4m3(x)));
                    } else {
                        exact.extend(&value);
                        naive.extend(decode(self.spec.dtype, &encode(self.spec.dtype, &plain)));
                        got.extend(decode(self.spec.dtype, &before.bytes[range.clone()]));
                    }
                    expected[range.clone()].copy_from_slice(&before.bytes[range]);
                }
            }
        }
        if expected != before.bytes {
            outcome.faults.push(format!("`{name}` changed where nothing was added"));
        }
        if !exact.is_empty() {
            let verdict = judge(self.spec.dtype, &exact, &naive, &got);
            outcome.results.push(Judged { name: name.to_owned(), verdict, bytes: Vec::new() });
        }
    }

    /// The exact and the naive result, and the logarithms of both, over `[batch, heads, queries]`.
    fn reference(&self, inputs: &Inputs) -> [Vec<f64>; 4] {
        let s = &self.spec;
        let mut results: [Vec<f64>; 4] = Default::default();
        let scale = f64::from(1.0f32 / (s.head_dim as f32).sqrt());
        for b in 0..self.lengths.len() {
            let (begin, end) = self.rows(b);
            for h in 0..self.heads {
                let kv = h / (self.heads / self.kv_heads);
                let pair = b * self.kv_heads as usize + kv as usize;
                let descale = |scales: &[f64]| scales.get(pair).copied().unwrap_or(1.0);
                let rows = |tensor: &Tensor, descale| -> Vec<Vec<f64>> {
                    (begin..end)
                        .map(|row| {
                            let (unit, at) = self.place(inputs, b, row);
                            self.cache_row(tensor, unit, kv, at, descale)
                        })
                        .collect()
                };
                let keys = rows(&inputs.k, descale(&inputs.k_descale));
                let values = match &inputs.v {
                    Some(v) => rows(v, descale(&inputs.v_descale)),
                    None => keys.iter().map(|k| k[..s.value_dim as usize].to_vec()).collect(),
                };
                for i in 0..self.queries {
                    let query = decode(s.dtype, &inputs.q.bytes[inputs.q.row(b as i64, h, i)]);
                    let advances = self.left.is_some() || self.right.is_some();
                    let at = self.lengths[b] + if advances { i } else { 0 };
                    let at = at.min(self.positions() - 1);
                    // What attention is given is the rotated query as stored, as in FlashAttention's tests: its
                    // rounding is not attention's error. Products of two 16-bit floats are exact in f32, so
                    // that the kernel's has no other.
                    let query: Vec<f64> = self
                        .rotated(inputs, &query, at, data::single)
                        .into_iter()
                        .map(|x| round(s.dtype, x))
                        .collect();
                    let oracle = Oracle {
                        dtype: s.dtype,
                        scale,
                        softcap: s.softcap.then_some(f64::from(self.softcap)),
                        slope: s.alibi.then(|| f64::from(inputs.slopes[h as usize] as f32)),
                        sink: self.sinks.then(|| f64::from(inputs.sinks[h as usize] as f32)),
                        columns: s.value_dim as usize,
                    };
                    let center = end - self.queries + i - begin;
                    let row = Row {
                        query: &query,
                        keys: &keys,
                        values: &values,
                        center,
                        from: self.left.map_or(0, |left| (center - left).max(0)),
                        to: self.right.map_or(end - begin, |right| {
                            (center + right + 1).clamp(0, end - begin)
                        }),
                    };
                    let (o, lse) = oracle.exact(&row);
                    results[0].extend(o);
                    results[2].push(lse);
                    let (o, lse) = oracle.naive(&row);
                    results[1].extend(o);
                    results[3].push(lse);
                }
            }
        }
        results
    }

    /// As [`Case::run`], with every instance changed by a mutation.
    ///
    /// # Errors
    /// If it cannot be run at all.
    ///
    /// # Panics
    /// If the case is outside of the kernels' contract.
    pub fn run_mutated(
        &self,
        bench: &Bench,
        card: &mut Card,
        options: &Options,
        mutation: &Mutation,
    ) -> Result<Outcome, BenchError> {
        let mut inputs = self.draw();
        let (call, buffers) = self.call(card, &inputs)?;
        let launches = plan(&self.spec, &call).unwrap_or_else(|e| panic!("{}: {e}", self.name()));
        let mut outcome = Outcome::default();
        for launch in launches {
            let instance = mutation(launch.instance);
            outcome.reports.push(card.launch(bench, &instance, &launch.plan, options)?);
        }
        let after = card.read(buffers.k)?;
        let mut k = inputs.k.clone();
        self.judge_cache(&inputs, inputs.new_k.as_ref(), &mut k, after, true, &mut outcome);
        inputs.k = k;
        if let (Some(buffer), Some(mut v)) = (buffers.v, inputs.v.clone()) {
            let after = card.read(buffer)?;
            self.judge_cache(&inputs, inputs.new_v.as_ref(), &mut v, after, false, &mut outcome);
            inputs.v = Some(v);
        }
        if card.read(buffers.q)? != inputs.q.bytes {
            outcome.faults.push("`q` changed".to_owned());
        }
        let [exact, naive, exact_lse, naive_lse] = self.reference(&inputs);
        let out = card.read(buffers.o)?;
        let mut got = Vec::new();
        let mut untouched = inputs.o.bytes.clone();
        for [b, h, i] in data::indices([self.batch(), self.heads, self.queries]) {
            let range = inputs.o.row(b, h, i);
            got.extend(decode(self.spec.dtype, &out[range.clone()]));
            untouched[range.clone()].copy_from_slice(&out[range]);
        }
        if untouched != out {
            outcome.faults.push("`o` was written between its rows".to_owned());
        }
        let verdict = judge(self.spec.dtype, &exact, &naive, &got);
        outcome.results.push(Judged { name: "o".to_owned(), verdict, bytes: out });
        if let Some(buffer) = buffers.lse {
            let bytes = card.read(buffer)?;
            let verdict = judge(DType::F32, &exact_lse, &naive_lse, &decode(DType::F32, &bytes));
            outcome.results.push(Judged { name: "lse".to_owned(), verdict, bytes });
        }
        Ok(outcome)
    }
}

fn at(buffer: u32) -> Place {
    Place { buffer, offset: Expr::constant(0) }
}

impl Tensor {
    fn operand(&self, place: &Place) -> Strided {
        Strided { at: place.clone(), strides: self.strides.map(Expr::from) }
    }
}

impl Case for DecodeCase {
    fn name(&self) -> String {
        let spec = zeroforge_kernels::decode::decode_instance(&self.spec, self.splits > 1).doc;
        format!(
            "{spec}: heads {}/{}, {} queries, lengths {:?} + {}, padding {:?}, capacity {}, pages of {}, shuffled {}, \
             window {:?}/{:?}, splits {}, sinks {}, magnitude {}, softcap {}, heads inside {}, seed {}",
            self.heads,
            self.kv_heads,
            self.queries,
            self.lengths,
            self.new_rows,
            self.padding,
            self.capacity,
            self.page_rows,
            self.shuffled,
            self.left,
            self.right,
            self.splits,
            self.sinks,
            self.magnitude,
            self.softcap,
            self.heads_inside,
            self.seed,
        )
    }

    fn run(
        &self,
        bench: &Bench,
        card: &mut Card,
        options: &Options,
    ) -> Result<Outcome, BenchError> {
        self.run_mutated(bench, card, options, &|instance| instance)
    }
}
