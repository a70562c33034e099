//! A case: inputs of a seed, the launch, the judgement.

use zeroforge_artifact::{DType, Expr};
use zeroforge_emulator::Options;
use zeroforge_kernels::gemm::{
    Arguments, COUNTER_BYTES, Element, Extra, Images, Major, Operand, SCALE_BLOCK, Spec, Step,
    Store, Variant, instance, plan,
};

use super::reference::{Precision, activate, decode, encode};
use crate::bench::{Bench, BenchError};
use crate::card::Card;
use crate::case::{Case, Judged, Outcome};
use crate::random::Random;
use crate::verdict::judge;

/// What is in bytes that a kernel must not write.
const UNTOUCHED: u8 = 0xa5;

/// Sizes of a case.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Batch extents.
    pub batch: [i64; 2],
    /// Whether A and B are shared by each batch axis.
    pub shared: [[bool; 2]; 2],
    /// Rows, columns, depth; of a convolution the rows follow from `image`.
    pub m: i64,
    /// Columns of C.
    pub n: i64,
    /// Depth; of a convolution, channels.
    pub k: i64,
    /// Elements (times the alignment) between rows: gaps that nothing may read or write.
    pub gaps: [i64; 3],
    /// Rows of each group.
    pub groups: Vec<i64>,
    /// Extents of the image (x, y, z, images).
    pub image: [i64; 4],
}

/// What operands hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// Normal numbers.
    Normal,
    /// Normal numbers times 2^40 (16-bit operands: bf16).
    Huge,
    /// Normal numbers, some of them NaN and infinite.
    Special,
    /// Zeros.
    Zero,
}

/// One product.
#[derive(Clone, Debug)]
pub struct GemmCase {
    /// What is computed.
    pub spec: Spec,
    /// How.
    pub variant: &'static Variant,
    /// Of what.
    pub sizes: Sizes,
    /// Of which values.
    pub filling: Filling,
    /// Seed of the values.
    pub seed: u64,
}

/// A strided tensor of values, and its bytes with gaps.
struct Tensor {
    strides: [i64; 4],
    values: Vec<f64>,
    offset: i64,
    element: Element,
}

impl Tensor {
    /// Values for extents and strides, outermost first; what lies between is NaN.
    fn draw(
        random: &mut Random,
        element: Element,
        extents: &[i64],
        strides: &[i64],
        filling: Filling,
    ) -> Tensor {
        let empty = extents.contains(&0);
        let end = 1 + extents.iter().zip(strides).map(|(n, s)| (n - 1) * s).sum::<i64>();
        let mut values = vec![f64::NAN; if empty { 0 } else { end as usize }];
        let offset = 16 * random.range(0, 2);
        let scale = match (filling, element) {
            (Filling::Zero, _) => 0.0,
            (Filling::Huge, Element::Bf16 | Element::F32) => 2f64.powi(40),
            (Filling::Huge, Element::F16) => 64.0,
            (_, Element::I8) => 40.0,
            _ => 1.0,
        };
        for i in 0..extents.iter().product() {
            let mut rest = i;
            let mut at = 0;
            for (n, s) in extents.iter().zip(strides).rev() {
                at += rest % n * s;
                rest /= n;
            }
            let mut v = random.normal() * scale;
            if filling == Filling::Special && random.one_in(200) && element != Element::I8 {
                v = random.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
            }
            values[at as usize] = if element == Element::I8 { v.clamp(-128.0, 127.0) } else { v };
        }
        // As memory has them; e4m3 has no infinities.
        let values = decode(element, &encode(element, &values));
        let strides = std::array::from_fn(|i| strides[i]);
        Tensor { strides, values, offset, element }
    }

    fn at(&self, index: [i64; 4]) -> f64 {
        let at: i64 = index.iter().zip(self.strides).map(|(i, s)| i * s).sum();
        self.values[at as usize]
    }

    /// Bytes of exactly the elements, behind `offset` bytes that belong to nobody.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0xff; self.offset as usize];
        bytes.extend(encode(self.element, &self.values));
        bytes
    }

    fn operand(&self, buffer: u32) -> Operand {
        operand(buffer, self.offset, self.strides)
    }
}

fn operand(buffer: u32, offset: i64, strides: [i64; 4]) -> Operand {
    Operand { buffer, offset: Expr::constant(offset), strides: strides.map(Expr::constant) }
}

/// The least multiple of `of` that is at least `n`.
fn up(n: i64, of: i64) -> i64 {
    (n + of - 1) / of * of
}

/// Strides (outer ones first, batch outermost) of rows with a gap; `aligned` elements are 16 bytes.
fn strides(
    batch: [i64; 2],
    shared: [bool; 2],
    rows: i64,
    columns: i64,
    aligned: i64,
    gap: i64,
) -> [i64; 4] {
    let row = up(columns, aligned) + gap * aligned;
    let b1 = rows * row + gap * aligned;
    let b0 = batch[1] * b1;
    [if shared[0] { 0 } else { b0 }, if shared[1] { 0 } else { b1 }, row, 1]
}

impl GemmCase {
    fn output(&self) -> [i64; 4] {
        let Some(conv) = &self.spec.conv else { return [1; 4] };
        let mut out = self.sizes.image;
        for (i, size) in out.iter_mut().take(3).enumerate() {
            let span = i64::from((conv.taps[i] - 1) * conv.dilation[i]);
            let padded = *size + 2 * i64::from(conv.padding[i]);
            *size = (padded - span - 1) / i64::from(conv.stride[i]) + 1;
        }
        out
    }

    /// Rows of C.
    fn rows(&self) -> i64 {
        match (&self.spec.conv, self.spec.grouped) {
            (Some(_), _) => self.output().iter().product(),
            (None, true) => self.sizes.groups.iter().sum(),
            (None, false) => self.sizes.m,
        }
    }

    fn group_of(&self, row: i64) -> i64 {
        let mut end = 0;
        self.sizes
            .groups
            .iter()
            .position(|n| {
                end += n;
                row < end
            })
            .map_or(0, |g| g as i64)
    }
}

/// Everything that a launch reads.
struct Inputs {
    a: Tensor,
    b: Tensor,
    scales: Option<[Tensor; 2]>,
    extra: Vec<(Extra, Tensor)>,
}

impl GemmCase {
    fn inputs(&self) -> Inputs {
        let mut random = Random::new(self.seed);
        let (spec, s) = (&self.spec, &self.sizes);
        let aligned = 16 / spec.operands.bytes();
        let halves = if spec.epilogue.gate.is_some() { 2 } else { 1 };
        let (rows, n) = (self.rows(), s.n * halves);
        let (extents, of_a) = if spec.conv.is_some() {
            let [x, y, z, images] = s.image;
            let position = up(s.k, aligned) + s.gaps[0] * aligned;
            (
                vec![images, z, y, x, s.k],
                vec![z * y * x * position, y * x * position, x * position, position, 1],
            )
        } else {
            let [b0, b1, row, k] = if spec.a_major == Major::K {
                strides(s.batch, s.shared[0], rows, s.k, aligned, s.gaps[0])
            } else {
                let [b0, b1, k, row] = strides(s.batch, s.shared[0], s.k, rows, aligned, s.gaps[0]);
                [b0, b1, row, k]
            };
            (vec![s.batch[0], s.batch[1], rows, s.k], vec![b0, b1, row, k])
        };
        let a = Tensor::draw(&mut random, spec.operands, &extents, &of_a, self.filling);
        let b_batch = if spec.grouped { [1, s.groups.len() as i64] } else { s.batch };
        let b_filling =
            if self.filling == Filling::Special { Filling::Normal } else { self.filling };
        let (extents, b_strides) = if let Some(conv) = &spec.conv {
            let taps = i64::from(conv.taps.iter().product::<u32>());
            let tap = up(s.k, aligned);
            ([1, n, taps, s.k], [0, taps * tap + s.gaps[1] * aligned, tap, 1])
        } else if spec.b_major == Major::K {
            let of = strides(b_batch, s.shared[1], n, s.k, aligned, s.gaps[1]);
            ([b_batch[0], b_batch[1], n, s.k], of)
        } else {
            let [b0, b1, k, column] = strides(b_batch, s.shared[1], s.k, n, aligned, s.gaps[1]);
            ([b_batch[0], b_batch[1], n, s.k], [b0, b1, column, k])
        };
        let b = Tensor::draw(&mut random, spec.operands, &extents, &b_strides, b_filling);
        let scales = spec.block_scales.then(|| {
            let blocks = (s.k + SCALE_BLOCK - 1) / SCALE_BLOCK;
            let columns = (s.n + SCALE_BLOCK - 1) / SCALE_BLOCK;
            let mut of = |batch: [i64; 2], shared: [bool; 2], rows: i64| {
                let of = strides(batch, shared, rows, blocks, 1, 0);
                let extents = [batch[0], batch[1], rows, blocks];
                let mut t = Tensor::draw(&mut random, Element::F32, &extents, &of, Filling::Normal);
                t.offset = 0;
                for v in &mut t.values {
                    *v = f64::from((v.abs() + 0.1) as f32);
                }
                t
            };
            [of(s.batch, s.shared[0], rows), of(b_batch, s.shared[1], columns)]
        });
        let epilogue = &self.spec.epilogue;
        let extras = match &epilogue.text {
            Some((elements, _)) => elements.iter().map(|e| Extra::Full(*e)).collect(),
            None => epilogue.extras(),
        };
        let extra = extras.into_iter().map(|extra| {
            let (rows_of, columns) = match extra {
                Extra::Scalar => (1, 1),
                Extra::Column(_) => (1, n),
                Extra::Row(_) => (rows, 1),
                Extra::Full(_) => (rows, s.n),
            };
            let batch = if matches!(extra, Extra::Full(_)) { s.batch } else { [1, 1] };
            let [b0, b1, row, column] =
                strides(batch, [batch[0] == 1, batch[1] == 1], rows_of, columns, 1, 0);
            let of = if rows_of == 1 { [b0, b1, 0, column] } else { [b0, b1, row, column] };
            let extents = [batch[0], batch[1], rows_of, columns];
            let mut t = Tensor::draw(&mut random, extra.element(), &extents, &of, Filling::Normal);
            t.offset = 0;
            (extra, t)
        });
        let extra = extra.collect();
        Inputs { a, b, scales, extra }
    }

    /// The value at a place of C, and the magnitude of what was summed for it.
    fn value(&self, inputs: &Inputs, at: [i64; 4], precision: Precision) -> (f64, f64) {
        let (sum, size) = self.sum(inputs, at, at[3], precision);
        let mut operand = 0;
        let epilogue = &self.spec.epilogue;
        if self.spec.out == Element::I32 {
            return (sum, size);
        }
        if epilogue.text.is_some() {
            let v = precision.hold(precision.hold(sum * 0.5) + inputs.extra[0].1.at(at));
            let v = if at[2] % 3 == 0 { v } else { precision.hold(v + (at[3] % 5 - at[0]) as f64) };
            return (v, size + 10.0);
        }
        let (mut v, mut size) = (precision.hold(sum), size);
        let steps =
            |v: &mut f64, size: &mut f64, steps: &[Step], shift: i64, operand: &mut usize| {
                for step in steps {
                    let x = match step {
                        Step::Activate(f) => {
                            *v = precision.hold(activate(*f, *v));
                            continue;
                        }
                        Step::Add(_) | Step::Multiply(_) => {
                            let (extra, t) = &inputs.extra[*operand];
                            *operand += 1;
                            let column = at[3] + shift;
                            match extra {
                                Extra::Scalar => t.at([0; 4]),
                                Extra::Column(_) => t.at([0, 0, 0, column]),
                                Extra::Row(_) => t.at([0, 0, at[2], 0]),
                                Extra::Full(_) => t.at([at[0], at[1], at[2], column]),
                            }
                        }
                    };
                    if matches!(step, Step::Add(_)) {
                        *v = precision.hold(*v + x);
                        *size += x.abs();
                    } else {
                        *v = precision.hold(*v * x);
                        *size *= x.abs();
                    }
                }
            };
        steps(&mut v, &mut size, &epilogue.steps, 0, &mut operand);
        if let Some(gate) = epilogue.gate {
            let (factor, mut of_factor) = self.sum(inputs, at, at[3] + self.sizes.n, precision);
            let mut factor = precision.hold(factor);
            operand = 0;
            steps(&mut factor, &mut of_factor, &epilogue.steps, self.sizes.n, &mut operand);
            let gated = precision.hold(activate(gate, v));
            size = size * factor.abs() + gated.abs() * of_factor;
            v = precision.hold(gated * factor);
        }
        steps(&mut v, &mut size, &epilogue.gated_steps, 0, &mut operand);
        (v, size)
    }

    fn sum(&self, inputs: &Inputs, at: [i64; 4], column: i64, precision: Precision) -> (f64, f64) {
        let [b0, b1, row, _] = at;
        let (mut sum, mut size) = (0f64, 0f64);
        let mut add = |product: f64| {
            sum = precision.hold(sum + product);
            size += product.abs();
        };
        if let Some(conv) = &self.spec.conv {
            let out = self.output();
            let at = [row % out[0], row / out[0] % out[1], row / out[0] / out[1] % out[2]];
            let image = row / out[0] / out[1] / out[2];
            let taps = conv.taps.map(i64::from);
            for tap in 0..taps.iter().product() {
                let of_tap = [tap % taps[0], tap / taps[0] % taps[1], tap / taps[0] / taps[1]];
                let from: [i64; 3] = std::array::from_fn(|i| {
                    at[i] * i64::from(conv.stride[i]) + of_tap[i] * i64::from(conv.dilation[i])
                        - i64::from(conv.padding[i])
                });
                if (0..3).any(|i| from[i] < 0 || from[i] >= self.sizes.image[i]) {
                    continue;
                }
                let first = image * inputs.a.strides[0]
                    + from[2] * inputs.a.strides[1]
                    + from[1] * inputs.a.strides[2]
                    + from[0] * inputs.a.strides[3];
                for c in 0..self.sizes.k {
                    add(inputs.a.values[(first + c) as usize] * inputs.b.at([0, column, tap, c]));
                }
            }
            return (sum, size);
        }
        let b1_of_b = if self.spec.grouped { self.group_of(row) } else { b1 };
        for k in 0..self.sizes.k {
            let scale = inputs.scales.as_ref().map_or(1.0, |[a, b]| {
                a.at([b0, b1, row, k / SCALE_BLOCK])
                    * b.at([b0, b1_of_b, column / SCALE_BLOCK, k / SCALE_BLOCK])
            });
            add(inputs.a.at([b0, b1, row, k]) * inputs.b.at([b0, b1_of_b, column, k]) * scale);
        }
        (sum, size)
    }

    fn arguments(
        &self,
        card: &mut Card,
        inputs: &Inputs,
        c: Operand,
        plan_of: &dyn Fn(&Arguments) -> Result<i64, BenchError>,
    ) -> Result<Arguments, BenchError> {
        let s = &self.sizes;
        let constant = Expr::constant;
        let mut extra = Vec::new();
        for (_, t) in &inputs.extra {
            extra.push(t.operand(card.buffer(&t.bytes())?));
        }
        let scales = match &inputs.scales {
            Some([a, b]) => {
                Some([a.operand(card.buffer(&a.bytes())?), b.operand(card.buffer(&b.bytes())?)])
            }
            None => None,
        };
        let groups = if self.spec.grouped {
            let ends: Vec<u8> = s
                .groups
                .iter()
                .scan(0i32, |end, n| {
                    *end += *n as i32;
                    Some(end.to_le_bytes())
                })
                .flatten()
                .collect();
            Some((card.buffer(&ends)?, constant(s.groups.len() as i64)))
        } else {
            None
        };
        let mut arguments = Arguments {
            batch: s.batch.map(constant),
            m: constant(self.rows()),
            n: constant(s.n),
            k: constant(s.k),
            a: inputs.a.operand(card.buffer(&inputs.a.bytes())?),
            b: inputs.b.operand(card.buffer(&inputs.b.bytes())?),
            c,
            extra,
            scales,
            row_squares: None,
            groups,
            images: self.spec.conv.map(|_| Images {
                input: s.image.map(constant),
                output: self.output().map(constant),
            }),
            split: None,
        };
        if self.spec.row_squares {
            let tiles = (s.n + self.spec.tile_columns(self.variant) - 1)
                / self.spec.tile_columns(self.variant);
            let bytes = s.batch[0] * s.batch[1] * self.rows() * tiles * 4;
            arguments.row_squares = Some(card.unwritten(bytes as usize)?);
        }
        if self.variant.split {
            arguments.split = Some([0, 0]);
            let bytes = plan_of(&arguments)?;
            arguments.split =
                Some([card.unwritten(bytes as usize)?, card.buffer(&[0; COUNTER_BYTES as usize])?]);
        }
        Ok(arguments)
    }
}

impl Case for GemmCase {
    fn name(&self) -> String {
        format!(
            "gemm/{} seed {} {:?} {:?} of {:?}",
            self.variant.name, self.seed, self.filling, self.sizes, self.spec
        )
    }

    fn run(
        &self,
        bench: &Bench,
        card: &mut Card,
        options: &Options,
    ) -> Result<Outcome, BenchError> {
        self.run_edited(bench, card, options, &|source| source)
    }
}

impl GemmCase {
    /// The case with its kernel's source edited: how a planted bug is shown to be found.
    ///
    /// # Errors
    /// As [`Case::run`].
    pub fn run_edited(
        &self,
        bench: &Bench,
        card: &mut Card,
        options: &Options,
        edit: &dyn Fn(String) -> String,
    ) -> Result<Outcome, BenchError> {
        let (spec, s) = (&self.spec, &self.sizes);
        let refused = |r: zeroforge_kernels::Refusal| BenchError::Ptx {
            entry: self.variant.name.clone(),
            reason: r.to_string(),
        };
        let mut kernel = instance(spec, self.variant).map_err(refused)?;
        let edited = edit(kernel.source.clone());
        if edited != kernel.source {
            let entry = kernel.entry.clone();
            kernel.source = edited.replace(&entry, zeroforge_kernels::Instance::ENTRY);
            kernel = kernel.named("gemm");
        }
        let inputs = self.inputs();
        let rows = self.rows();
        let aligned = if spec.store == Store::Lanes { 1 } else { 16 / spec.out.bytes() };
        let c_strides = if spec.store == Store::Transposed {
            let [b0, b1, column, row] = strides(s.batch, [false; 2], s.n, rows, aligned, s.gaps[2]);
            [b0, b1, row, column]
        } else {
            strides(s.batch, [false; 2], rows, s.n, aligned, s.gaps[2])
        };
        let size = if rows * s.n == 0 {
            0
        } else {
            1 + [s.batch[0] - 1, s.batch[1] - 1, rows - 1, s.n - 1]
                .iter()
                .zip(c_strides)
                .map(|(n, s)| n * s)
                .sum::<i64>()
        };
        let before = vec![UNTOUCHED; (size * spec.out.bytes()) as usize];
        let c = card.buffer(&before)?;
        let plan_of = |a: &Arguments| {
            let plan = plan(spec, self.variant, a).map_err(refused)?;
            Ok(plan.workspace.eval(&[]).unwrap_or(0))
        };
        let arguments = self.arguments(card, &inputs, operand(c, 0, c_strides), &plan_of)?;
        let launch = plan(spec, self.variant, &arguments).map_err(refused)?;
        let report = card.launch(bench, &kernel, &launch, options)?;
        let mut outcome = Outcome { reports: vec![report], ..Outcome::default() };
        self.judge(card, &inputs, &arguments, c, c_strides, &mut outcome)?;
        Ok(outcome)
    }

    fn judge(
        &self,
        card: &Card,
        inputs: &Inputs,
        arguments: &Arguments,
        c: u32,
        strides: [i64; 4],
        outcome: &mut Outcome,
    ) -> Result<(), BenchError> {
        let (spec, s) = (&self.spec, &self.sizes);
        let bytes = card.read(c)?;
        let element = spec.out.bytes() as usize;
        let values = decode(spec.out, &bytes);
        let mut touched = vec![false; values.len()];
        let (mut exact, mut naive, mut got) = (Vec::new(), Vec::new(), Vec::new());
        let columns = spec.tile_columns(self.variant);
        let tiles = (s.n + columns - 1) / columns;
        let squares_at = s.batch[0] * s.batch[1] * self.rows() * tiles;
        let mut squares = [vec![0f64; squares_at as usize], vec![0f64; squares_at as usize]];
        let mut size = 0f64;
        let round = |v: f64| decode(spec.out, &encode(spec.out, &[v]))[0];
        for b0 in 0..s.batch[0] {
            for b1 in 0..s.batch[1] {
                for row in 0..self.rows() {
                    for column in 0..s.n {
                        let at = [b0, b1, row, column];
                        let place: i64 = at.iter().zip(strides).map(|(i, s)| i * s).sum();
                        let (e, of_sum) = self.value(inputs, at, Precision::Exact);
                        let (p, _) = self.value(inputs, at, Precision::Plain);
                        let saturated = match spec.out {
                            Element::E4m3 if !e.is_nan() => e.clamp(-448.0, 448.0),
                            Element::I8 if !e.is_nan() => e.clamp(-128.0, 127.0),
                            Element::I8 => 0.0,
                            _ => e,
                        };
                        let tile = (((b0 * s.batch[1] + b1) * self.rows() + row) * tiles
                            + column / columns) as usize;
                        squares[0][tile] += e * e;
                        squares[1][tile] = f64::from((squares[1][tile] + p * p) as f32);
                        exact.push(saturated);
                        naive.push(round(p));
                        got.push(values[place as usize]);
                        touched[place as usize] = true;
                        if of_sum.is_finite() {
                            size = size.max(of_sum);
                        }
                    }
                }
            }
        }
        let dtype = match spec.out {
            Element::Bf16 => DType::Bf16,
            Element::F16 => DType::F16,
            _ => DType::F32,
        };
        let mut verdict = judge(dtype, &exact, &naive, &got);
        // Sums are of f32, in any order: a unit in the last place at the scale of what is summed.
        if spec.out != Element::I32 {
            verdict.allowed += size * 2f64.powi(-23);
        }
        outcome.results.push(Judged { name: "c".to_owned(), verdict, bytes: bytes.clone() });
        let stray = touched
            .iter()
            .zip(bytes.chunks(element))
            .position(|(t, b)| !t && b.iter().any(|b| *b != UNTOUCHED));
        if let Some(at) = stray {
            outcome
                .faults
                .push(format!("element {at} of C's buffer belongs to no row but was written"));
        }
        if let Some(buffer) = arguments.row_squares {
            let bytes = card.read(buffer)?;
            let got = decode(Element::F32, &bytes);
            let mut verdict = judge(DType::F32, &squares[0], &squares[1], &got);
            verdict.allowed += verdict.scale * 2f64.powi(-18);
            outcome.results.push(Judged { name: "row_squares".to_owned(), verdict, bytes });
        }
        if let Some([_, counters]) = arguments.split
            && card.read(counters)?.iter().any(|b| *b != 0)
        {
            outcome.faults.push("counters are not zero behind the launch".to_owned());
        }
        Ok(())
    }
}
