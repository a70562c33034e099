//! Products of f32 as tf32 terms and skinny products: cases of any layout of B, strides, batches and values, exact and
//! naive results.

pub mod cases;
mod throughput;

pub use throughput::throughput;

use zeroforge_artifact::{DType, Expr};
use zeroforge_emulator::Options;
use zeroforge_kernels::gemm::tf32::Precision;
use zeroforge_kernels::gemm::{
    Activation, Element, Epilogue, Extra, Operand, Product, Step, Weights, skinny, tf32,
};
use zeroforge_kernels::{Instance, Plan, Refusal};

use crate::bench::{Bench, BenchError};
use crate::card::Card;
use crate::case::{Case, Judged, Outcome};
use crate::random::Random;
use crate::tensor::{decode, encode, round};
use crate::verdict::judge;

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kernel {
    /// wgmma in tf32 terms.
    Tf32(Precision, tf32::Tile),
    /// At most 16 rows, operands of this type.
    Skinny(Element, skinny::Tile),
}

/// What becomes of the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    Nothing,
    /// A bias per column, then GELU.
    BiasGelu,
    /// Times a scalar, plus a residual.
    ScaleResidual,
    /// The same as C++ text, as compiled models give it.
    Text,
}

/// What values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Normal, deviation 1.
    Normal,
    /// Positive: nothing cancels.
    Positive,
    /// Magnitudes of many powers of two.
    Wide,
    /// So large that sums are near the end of f32's range.
    Huge,
    /// Products near the smallest normal number, and subnormal numbers among the operands.
    Tiny,
    /// Normal, with infinities and NaN in some places.
    Special,
}

/// One launch.
#[derive(Clone, Debug)]
pub struct ProductCase {
    /// Which kernel.
    pub kernel: Kernel,
    /// How B lies.
    pub weights: Weights,
    /// Type of C.
    pub out: DType,
    /// What becomes of the sums.
    pub after: After,
    /// Batch extents.
    pub batch: [usize; 2],
    /// Batch axes that A and B have; without, they share.
    pub has_batch: [[bool; 2]; 2],
    /// Rows, columns, length of the sums.
    pub size: [usize; 3],
    /// Unused elements behind rows of A, B and C; rounded up to whole 16 bytes where the contract asks for it.
    pub gaps: [usize; 3],
    /// What is drawn.
    pub values: Values,
    /// Of the values.
    pub seed: u64,
}

/// A tensor of {b0, b1, row, column} in exactly the bytes it needs. What is no element is NaN.
struct Tensor {
    dtype: DType,
    strides: [usize; 4],
    values: Vec<f64>,
}

impl Tensor {
    fn new(dtype: DType, extents: [usize; 4], has: [bool; 2], row: usize) -> Tensor {
        let [b0, b1, rows, columns] = extents;
        let (b0, b1) = (if has[0] { b0 } else { 1 }, if has[1] { b1 } else { 1 });
        let s1 = rows * row;
        let strides = [if has[0] { b1 * s1 } else { 0 }, if has[1] { s1 } else { 0 }, row, 1];
        let elements = (b0 * b1 - 1) * s1 + (rows - 1) * row + columns;
        Tensor { dtype, strides, values: vec![f64::NAN; elements] }
    }

    fn at(&self, index: [usize; 4]) -> usize {
        index.iter().zip(&self.strides).map(|(i, s)| i * s).sum()
    }

    fn get(&self, index: [usize; 4]) -> f64 {
        self.values[self.at(index)]
    }

    fn operand(&self, buffer: u32) -> Operand {
        let strides = self.strides.map(|s| Expr::constant(s as i64));
        Operand { buffer, offset: Expr::constant(0), strides }
    }
}

/// Rounded up to whole pieces of 16 bytes.
fn whole(elements: usize, dtype: DType) -> usize {
    elements.next_multiple_of(16 / dtype.size())
}

fn element(dtype: DType) -> Element {
    match dtype {
        DType::Bf16 => Element::Bf16,
        DType::F16 => Element::F16,
        _ => Element::F32,
    }
}

impl ProductCase {
    /// A plain product, packed.
    pub fn new(kernel: Kernel, weights: Weights, size: [usize; 3], seed: u64) -> ProductCase {
        ProductCase {
            kernel,
            weights,
            out: DType::F32,
            after: After::Nothing,
            batch: [1, 1],
            has_batch: [[true; 2]; 2],
            size,
            gaps: [0; 3],
            values: Values::Normal,
            seed,
        }
    }

    /// Batches, gaps and values from the seed.
    pub fn drawn(mut self) -> ProductCase {
        let mut random = Random::new(self.seed ^ 0x5eed);
        if random.one_in(3) {
            self.batch = random.pick(&[[1, 2], [2, 1], [2, 2], [1, 3]]);
            self.has_batch = [0, 1].map(|_| [0, 1].map(|_| !random.one_in(3)));
        }
        self.gaps =
            [0, 1, 2].map(|_| if random.one_in(2) { 0 } else { random.range(1, 9) as usize });
        self.values = random.pick(&[
            Values::Normal,
            Values::Normal,
            Values::Positive,
            Values::Wide,
            Values::Huge,
            Values::Tiny,
            Values::Special,
        ]);
        self
    }

    fn operands(&self) -> DType {
        match self.kernel {
            Kernel::Skinny(Element::Bf16, _) => DType::Bf16,
            Kernel::Skinny(Element::F16, _) => DType::F16,
            _ => DType::F32,
        }
    }

    fn epilogue(&self) -> Epilogue {
        match self.after {
            After::Nothing => Epilogue::default(),
            After::BiasGelu => Epilogue::of([
                Step::Add(Extra::Column(Element::F32)),
                Step::Activate(Activation::Gelu),
            ]),
            After::ScaleResidual => Epilogue::of([
                Step::Multiply(Extra::Scalar),
                Step::Add(Extra::Full(Element::F32)),
            ]),
            After::Text => Epilogue {
                text: Some((
                    vec![Element::F32, Element::F32],
                    "        return acc * x0[0] + x1[b0 * p.extra[1].stride[0] + b1 * p.extra[1].stride[1] \
                     + row * p.extra[1].stride[2] + column];\n"
                        .to_owned(),
                )),
                ..Epilogue::default()
            },
        }
    }

    /// The kernel.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn instance(&self) -> Result<Instance, Refusal> {
        match self.kernel {
            Kernel::Tf32(_, tile) => tf32::instance(&self.tf32(), &tile),
            Kernel::Skinny(_, tile) => skinny::instance(&self.skinny(), &tile),
        }
    }

    fn tf32(&self) -> tf32::Spec {
        let Kernel::Tf32(precision, _) = self.kernel else { unreachable!("asked for tf32") };
        tf32::Spec {
            weights: self.weights,
            precision,
            out: element(self.out),
            epilogue: self.epilogue(),
        }
    }

    fn skinny(&self) -> skinny::Spec {
        skinny::Spec {
            operands: element(self.operands()),
            out: element(self.out),
            weights: self.weights,
            epilogue: self.epilogue(),
        }
    }

    fn plan(&self, args: &Product) -> Result<Plan, Refusal> {
        match self.kernel {
            Kernel::Tf32(_, tile) => tf32::plan(&self.tf32(), &tile, args),
            Kernel::Skinny(_, tile) => skinny::plan(&self.skinny(), &tile, args),
        }
    }

    fn value(&self, random: &mut Random, of_b: bool) -> f64 {
        let x = random.normal();
        let narrow = self.operands() == DType::F16;
        match self.values {
            Values::Normal => x,
            Values::Positive => x.abs() + 0.1,
            Values::Wide => x * 2f64.powi(random.range(-12, 12) as i32),
            Values::Huge if narrow => x * 200.0,
            Values::Huge => x * if of_b { 2f64.powi(100) } else { 2f64.powi(15) },
            Values::Tiny if narrow => x * 2f64.powi(-12),
            // Numbers below the smallest normal one are part of it; products are above 2^-126.
            Values::Tiny if random.one_in(20) => x * 2f64.powi(-130),
            Values::Tiny => x * if of_b { 2f64.powi(-40) } else { 2f64.powi(-80) },
            Values::Special => match random.bits() % 300 {
                0 => f64::INFINITY,
                1 => f64::NEG_INFINITY,
                2 => f64::NAN,
                3..20 => 0.0,
                // Numbers whose further terms are zero.
                20..60 => x.round(),
                _ => x,
            },
        }
    }

    /// A, B as [b0, b1, k, n] and as memory, and its operand.
    fn draw(&self, random: &mut Random) -> (Tensor, Tensor, Tensor) {
        let dtype = self.operands();
        let [m, n, k] = self.size;
        let [b0, b1] = self.batch;
        let tensor_copies = matches!(self.kernel, Kernel::Tf32(..));
        let a_row = k + self.gaps[0];
        let a_row = if tensor_copies { whole(a_row, dtype) } else { a_row };
        let mut a = Tensor::new(dtype, [b0, b1, m, k], self.has_batch[0], a_row);
        let mut b = Tensor::new(dtype, [b0, b1, k, n], self.has_batch[1], n);
        for (tensor, extents, of_b) in [(&mut a, [m, k], false), (&mut b, [k, n], true)] {
            for x in 0..b0 {
                for y in 0..b1 {
                    for i in 0..extents[0] {
                        for j in 0..extents[1] {
                            let at = tensor.at([x, y, i, j]);
                            tensor.values[at] = round(dtype, self.value(random, of_b));
                        }
                    }
                }
            }
        }
        let (rows, columns) = match self.weights {
            Weights::Nk => (n, k),
            Weights::Kn => (k, n),
            Weights::Panels { columns } => (n.div_ceil(columns as usize), k * columns as usize),
        };
        let row = whole(columns + self.gaps[1], dtype);
        let mut memory = Tensor::new(dtype, [b0, b1, rows, columns], self.has_batch[1], row);
        for x in 0..b0 {
            for y in 0..b1 {
                for i in 0..rows {
                    for j in 0..columns {
                        let (at_k, at_n) = match self.weights {
                            Weights::Nk => (j, i),
                            Weights::Kn => (i, j),
                            Weights::Panels { columns } => {
                                (j / columns as usize, i * columns as usize + j % columns as usize)
                            }
                        };
                        let at = memory.at([x, y, i, j]);
                        memory.values[at] = if at_n < n { b.get([x, y, at_k, at_n]) } else { 0.0 };
                    }
                }
            }
        }
        (a, b, memory)
    }
}

/// What the tensor core sees of an f32 number.
fn tf32(x: f64) -> f32 {
    f32::from_bits((x as f32).to_bits() & 0xffff_e000)
}

/// The error function to f64's accuracy for f32's use (Abramowitz and Stegun 7.1.5, 7.1.14 by continued fraction).
fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let a = x.abs();
    if a > 6.0 {
        return x.signum();
    }
    if a < 2.5 {
        let (mut term, mut sum) = (a, a);
        for i in 1..80 {
            term *= -a * a / f64::from(i);
            sum += term / f64::from(2 * i + 1);
        }
        return x.signum() * sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let fraction = (1..120).rev().fold(0.0, |f, i| f64::from(i) / 2.0 / (a + f));
    x.signum() * (1.0 - (-a * a).exp() / ((a + fraction) * std::f64::consts::PI.sqrt()))
}

impl ProductCase {
    fn apply(&self, acc: f64, extra: [f64; 2], rounded: &dyn Fn(f64) -> f64) -> f64 {
        match self.after {
            After::Nothing => acc,
            After::BiasGelu => {
                let v = rounded(acc + extra[0]);
                let erf = rounded(erf(v * std::f64::consts::FRAC_1_SQRT_2));
                rounded(rounded(0.5 * v) * rounded(1.0 + erf))
            }
            After::ScaleResidual | After::Text => rounded(rounded(acc * extra[0]) + extra[1]),
        }
    }
}

impl Case for ProductCase {
    fn name(&self) -> String {
        format!("{self:?}")
    }

    fn run(
        &self,
        bench: &Bench,
        card: &mut Card,
        options: &Options,
    ) -> Result<Outcome, BenchError> {
        let instance = self.instance().unwrap_or_else(|e| panic!("{}: {e}", self.name()));
        self.run_instance(&instance, bench, card, options)
    }
}

impl ProductCase {
    /// The same with an instance that may not be the case's own.
    ///
    /// # Errors
    /// As [`Case::run`].
    ///
    /// # Panics
    /// If the case is outside of the kernel's contract.
    pub fn run_instance(
        &self,
        instance: &Instance,
        bench: &Bench,
        card: &mut Card,
        options: &Options,
    ) -> Result<Outcome, BenchError> {
        let mut random = Random::new(self.seed);
        let (a, b, memory) = self.draw(&mut random);
        let [m, n, k] = self.size;
        let [b0, b1] = self.batch;
        let mut c = Tensor::new(self.out, [b0, b1, m, n], [true; 2], n + self.gaps[2]);
        let f32s = |count: usize, random: &mut Random| -> Vec<f64> {
            (0..count).map(|_| round(DType::F32, random.normal())).collect()
        };
        let full = Tensor::new(DType::F32, [b0, b1, m, n], [true; 2], n);
        let extras: Vec<Vec<f64>> = match self.after {
            After::Nothing => vec![],
            After::BiasGelu => vec![f32s(n, &mut random)],
            After::ScaleResidual | After::Text => {
                vec![f32s(1, &mut random), f32s(full.values.len(), &mut random)]
            }
        };
        card.buffer(&encode(a.dtype, &a.values))?;
        card.buffer(&encode(memory.dtype, &memory.values))?;
        // A pattern that no result has: what is no element must keep it.
        let pattern = vec![0xa5u8; c.values.len() * self.out.size()];
        card.buffer(&pattern)?;
        let mut operands = Vec::new();
        for (i, extra) in extras.iter().enumerate() {
            let buffer = card.buffer(&encode(DType::F32, extra))?;
            let flat = self.after == After::BiasGelu || i == 0;
            let strides = if flat { [0, 0, 0, 1] } else { full.strides };
            let strides = strides.map(|s| Expr::constant(s as i64));
            operands.push(Operand { buffer, offset: Expr::constant(0), strides });
        }
        let size = |n: usize| Expr::constant(n as i64);
        let plan = self.plan(&Product {
            batch: [size(b0), size(b1)],
            m: size(m),
            n: size(n),
            k: size(k),
            a: a.operand(0),
            b: memory.operand(1),
            c: c.operand(2),
            extra: operands,
        });
        let plan = plan.unwrap_or_else(|e| panic!("{}: {e}", self.name()));
        let report = card.launch(bench, instance, &plan, options)?;

        let plain = matches!(self.kernel, Kernel::Tf32(Precision::Tf32, _));
        let single = |x: f64| f64::from(x as f32);
        let (mut exact, mut naive, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for x in 0..b0 {
            for y in 0..b1 {
                for row in 0..m {
                    for column in 0..n {
                        let of_a = &a.values[a.at([x, y, row, 0])..][..k];
                        let of_b = b.values[b.at([x, y, 0, column])..].iter().step_by(n);
                        let (mut sum, mut plainly) = (0f64, 0f32);
                        for (&u, &v) in of_a.iter().zip(of_b) {
                            sum += u * v;
                            plainly += if plain { tf32(u) * tf32(v) } else { u as f32 * v as f32 };
                        }
                        let extra = match self.after {
                            After::Nothing => [0.0; 2],
                            After::BiasGelu => [extras[0][column], 0.0],
                            _ => [extras[0][0], extras[1][full.at([x, y, row, column])]],
                        };
                        exact.push(self.apply(sum, extra, &|v| v));
                        let stored = self.apply(f64::from(plainly), extra, &single);
                        naive.push(round(self.out, stored));
                        places.push(c.at([x, y, row, column]));
                    }
                }
            }
        }
        let bytes = card.read(2)?;
        let mut outcome = Outcome { reports: vec![report], ..Outcome::default() };
        c.values = decode(self.out, &bytes);
        let got: Vec<f64> = places.iter().map(|&at| c.values[at]).collect();
        let width = self.out.size();
        let mut stray = bytes.chunks(width).map(|e| e != &pattern[..width]).collect::<Vec<_>>();
        places.iter().for_each(|&at| stray[at] = false);
        if let Some(at) = stray.iter().position(|&s| s) {
            outcome
                .faults
                .push(format!("element {at} of c is none of the result, but was written"));
        }
        let verdict = judge(self.out, &exact, &naive, &got);
        outcome.results.push(Judged { name: "c".to_owned(), verdict, bytes });
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::erf;

    #[test]
    fn the_error_function_has_its_published_values() {
        for (x, value) in [
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (2.6, 0.999_763_965_583_470_7),
            (-3.0, -0.999_977_909_503_001_4),
        ] {
            assert!((erf(x) - value).abs() < 1e-14, "{x}: {}", erf(x));
        }
    }
}
