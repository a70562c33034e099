//! What becomes of a sum before it is stored, and its C++ text.

use std::fmt::Write;

use super::Element;

/// An operand that an epilogue reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extra {
    /// One f32 for all.
    Scalar,
    /// One element per column, contiguous.
    Column(Element),
    /// One element per row.
    Row(Element),
    /// One element per element of C, columns contiguous.
    Full(Element),
    /// The same, of C's 16-bit type and stored by [`Store::Copies`](super::Store::Copies): read by tensor copies under
    /// the products. Strides other than the column's are multiples of 16 bytes. One per epilogue, not before a gate.
    Copied(Element),
}

impl Extra {
    /// Its type in memory.
    pub fn element(self) -> Element {
        match self {
            Extra::Scalar => Element::F32,
            Extra::Column(element)
            | Extra::Row(element)
            | Extra::Full(element)
            | Extra::Copied(element) => element,
        }
    }
}

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Activation {
    Relu,
    Gelu,
    GeluTanh,
    Silu,
    Sigmoid,
    Tanh,
}

impl Activation {
    /// Every activation.
    pub const ALL: [Activation; 6] = [
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Sigmoid,
        Activation::Tanh,
    ];

    fn text(self, v: &str) -> String {
        match self {
            // NaN stays NaN.
            Activation::Relu => format!("({v} < 0.0f ? 0.0f : {v})"),
            Activation::Gelu => format!("zf_geluf({v})"),
            Activation::GeluTanh => format!("zf_gelu_tanhf({v})"),
            Activation::Silu => format!("zf_siluf({v})"),
            Activation::Sigmoid => format!("zf_sigmoidf({v})"),
            Activation::Tanh => format!("zf_tanhf({v})"),
        }
    }
}

/// One thing done to the value, in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Adds an operand: bias, residual.
    Add(Extra),
    /// Multiplies by an operand: dequantisation, quantisation, layer scale.
    Multiply(Extra),
    /// Applies a function.
    Activate(Activation),
}

/// What becomes of the sums.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Epilogue {
    /// Steps before the gate, or all of them. A gated product's column operands here have `2 * n` elements.
    pub steps: Vec<Step>,
    /// `activation(first) * second`, of the sums over the two halves of B's columns.
    pub gate: Option<Activation>,
    /// Steps behind the gate.
    pub gated_steps: Vec<Step>,
    /// Instead of steps: operands, and C++ statements that return an element of C or a float to be rounded, of
    /// `b0`, `b1`, `row`, `column` (`int64_t`), `acc`, the parameter block `p` and the operands `x0`, `x1`, ...
    pub text: Option<(Vec<Element>, String)>,
}

impl Epilogue {
    /// Steps without a gate.
    pub fn of(steps: impl IntoIterator<Item = Step>) -> Epilogue {
        Epilogue { steps: steps.into_iter().collect(), ..Epilogue::default() }
    }

    /// The operands in their order, those of steps.
    pub fn extras(&self) -> Vec<Extra> {
        let extra = |step: &Step| match step {
            Step::Add(extra) | Step::Multiply(extra) => Some(*extra),
            Step::Activate(_) => None,
        };
        self.steps.iter().chain(&self.gated_steps).filter_map(extra).collect()
    }

    /// The operand that is read by tensor copies, by its place among the operands.
    pub(super) fn copied(&self) -> Option<usize> {
        self.extras().iter().position(|e| matches!(e, Extra::Copied(_)))
    }

    /// Types of the operands.
    pub fn elements(&self) -> Vec<Element> {
        match &self.text {
            Some((elements, _)) => elements.clone(),
            None => self.extras().iter().map(|e| e.element()).collect(),
        }
    }

    /// The functor of `kernels/gemm/epilogue.cuh`. `acc`: type of sums; `as_sum`: the sum is stored as it is.
    pub(super) fn functor(&self, acc: &str, as_sum: bool) -> String {
        self.functor_of("zf_tensor_gemm_params", acc, as_sum)
    }

    /// The same of a kernel with another parameter block.
    pub(super) fn functor_of(&self, block: &str, acc: &str, as_sum: bool) -> String {
        let mut c = String::new();
        self.write(&mut c, block, acc, as_sum).expect("writing to a string");
        c
    }

    fn write(&self, c: &mut String, block: &str, acc: &str, as_sum: bool) -> std::fmt::Result {
        writeln!(c, "struct Epilogue {{\n    const {block} &p;\n")?;
        let sums = if self.gate.is_some() {
            format!("{acc} first, {acc} second")
        } else {
            format!("{acc} acc")
        };
        let residual = if self.copied().is_some() { ", float residual" } else { "" };
        writeln!(
            c,
            "    __device__ __forceinline__ auto value(int64_t b0, int64_t b1, int64_t row, int64_t column, {sums}{residual}) const {{"
        )?;
        for (i, element) in self.elements().into_iter().enumerate() {
            let ty = element.text();
            writeln!(c, "        const {ty} *const x{i} = (const {ty} *)p.extra[{i}].address;")?;
        }
        if let Some((_, text)) = &self.text {
            writeln!(c, "{text}    }}\n}};\n")?;
            return Ok(());
        }
        if as_sum {
            writeln!(c, "        return acc;\n    }}\n}};\n")?;
            return Ok(());
        }
        let mut operand = 0;
        if let Some(gate) = self.gate {
            for (v, sum, column) in
                [("gate", "first", "column"), ("factor", "second", "column + p.n")]
            {
                writeln!(c, "        float {v} = (float){sum};")?;
                operand = 0;
                for step in &self.steps {
                    step.write(c, v, column, &mut operand)?;
                }
            }
            writeln!(c, "        float v = {} * factor;", gate.text("gate"))?;
        } else {
            writeln!(c, "        float v = (float)acc;")?;
            for step in &self.steps {
                step.write(c, "v", "column", &mut operand)?;
            }
        }
        for step in &self.gated_steps {
            step.write(c, "v", "column", &mut operand)?;
        }
        writeln!(c, "        return v;\n    }}\n}};\n")
    }
}

impl Step {
    fn write(&self, c: &mut String, v: &str, column: &str, operand: &mut u32) -> std::fmt::Result {
        let (operator, extra) = match self {
            Step::Activate(f) => return writeln!(c, "        {v} = {};", f.text(v)),
            Step::Add(extra) => ("+=", extra),
            Step::Multiply(extra) => ("*=", extra),
        };
        let i = *operand;
        *operand += 1;
        let batch = format!("b0 * p.extra[{i}].stride[0] + b1 * p.extra[{i}].stride[1]");
        if matches!(extra, Extra::Copied(_)) {
            return writeln!(c, "        {v} {operator} residual;");
        }
        let index = match extra {
            Extra::Scalar => "0".to_owned(),
            Extra::Column(_) => format!("{batch} + {column}"),
            Extra::Row(_) => format!("{batch} + row * p.extra[{i}].stride[2]"),
            Extra::Full(_) | Extra::Copied(_) => {
                format!("{batch} + row * p.extra[{i}].stride[2] + {column}")
            }
        };
        writeln!(c, "        {v} {operator} (float)zf::load(x{i}[{index}]);")
    }
}
