//! What the kernels of a target compute, as a section of an artifact: JSON, one [`KernelSpec`] per kernel of
//! the program, in its order. `zeroforge verify` reads it; a runtime never does.
//!
//! Text, because it is small next to machine code, has one form per value (so equal models have equal
//! bytes), and can be read in any language. What is read is checked before anything computes with it: a
//! file may claim anything.

use serde::{Deserialize, Serialize};
use zeroforge_artifact::DType;
use zeroforge_artifact::program::{Param, ParamValue, Program};
use zeroforge_graph::interpret::scalar;
use zeroforge_graph::op::UnaryOp;

use crate::kernel_spec::{AttentionSpec, BLayout, GemmSpec, KernelSpec, MAX_EPILOGUE_OPERANDS};
use crate::loop_analysis::{needed, stage_roots};
use crate::loop_ir::{Body, Extent, Fold, Inst, InstId, InstKind, LoopKernel, Stage};

/// Version of the form; a reader refuses later ones. 1 has no arguments.
pub const VERSION: u32 = 2;
/// Most axes of an index space.
const MAX_AXES: usize = 32;
/// Most instructions of a kernel.
const MAX_INSTS: usize = 1 << 16;
/// Widest head.
const MAX_HEAD: i64 = 1 << 16;

/// What the kernels of a program compute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Specs {
    /// One per kernel of the program, in its order.
    pub kernels: Vec<KernelSpec>,
    /// Of the steps whose kernel takes its parameters in a form of its own, in the order of steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<Arguments>,
}

/// The operands and sizes of a step as the parameter block of its kernel's spec has them. A step without an
/// entry has exactly that block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arguments {
    /// Index of the step.
    pub step: u32,
    /// What is written where; no tensor maps.
    pub params: Vec<Param>,
}

impl Specs {
    /// The arguments of a step, if they are not its parameter block.
    pub fn arguments(&self, step: usize) -> Option<&[Param]> {
        let at = self.arguments.binary_search_by_key(&step, |a| a.step as usize).ok()?;
        Some(&self.arguments[at].params)
    }
}

#[derive(Serialize, Deserialize)]
struct SpecFile<T> {
    version: u32,
    #[serde(flatten)]
    specs: T,
}

/// Why a list of kernels is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No text of this form.
    #[error("the artifact's list of kernels cannot be read: {0}")]
    Form(String),
    /// Another version.
    #[error(
        "the artifact's list of kernels has version {0}, this zeroforge reads {VERSION}; compile the model again"
    )]
    Version(u32),
    /// It does not list the program's kernels.
    #[error("the artifact lists what {listed} kernels compute and has {kernels}")]
    Count {
        /// Kernels listed.
        listed: usize,
        /// Kernels of the program.
        kernels: usize,
    },
    /// Arguments of a step that break a rule.
    #[error("the arguments of step {step} are inconsistent: {reason}")]
    Arguments {
        /// Index of the step.
        step: usize,
        /// The rule.
        reason: String,
    },
    /// A kernel that breaks a rule.
    #[error("what kernel `{entry}` computes is inconsistent: {reason}")]
    Kernel {
        /// Its entry.
        entry: String,
        /// The rule.
        reason: String,
    },
}

/// The section for a program's kernels.
pub fn encode(specs: &Specs) -> Vec<u8> {
    // The oldest version that has all that is in it.
    let version = if specs.arguments.is_empty() { 1 } else { VERSION };
    // Plain data in memory always has a JSON form.
    serde_json::to_vec(&SpecFile { version, specs }).unwrap_or_default()
}

/// Reads and checks a section that belongs to a program.
pub fn decode(bytes: &[u8], program: &Program) -> Result<Specs, SpecError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let form = |e: serde_json::Error| SpecError::Form(e.to_string());
    let Version { version } = serde_json::from_slice(bytes).map_err(form)?;
    if version == 0 || version > VERSION {
        return Err(SpecError::Version(version));
    }
    let SpecFile { specs, .. } = serde_json::from_slice::<SpecFile<Specs>>(bytes).map_err(form)?;
    let kernels = &program.kernels;
    if specs.kernels.len() != kernels.len() {
        return Err(SpecError::Count { listed: specs.kernels.len(), kernels: kernels.len() });
    }
    for (spec, kernel) in specs.kernels.iter().zip(kernels) {
        check(spec).map_err(|reason| SpecError::Kernel { entry: kernel.entry.clone(), reason })?;
    }
    check_arguments(&specs, program)?;
    Ok(specs)
}

/// Every step has arguments of its kernel's spec: of its own, or its parameter block.
fn check_arguments(specs: &Specs, program: &Program) -> Result<(), SpecError> {
    let refuse = |step: usize, reason: String| Err(SpecError::Arguments { step, reason });
    let mut entries = specs.arguments.iter().peekable();
    for (i, step) in program.steps.iter().enumerate() {
        let bytes = specs.kernels[step.kernel as usize].param_bytes();
        let Some(entry) = entries.next_if(|a| a.step as usize == i) else {
            let given = program.kernels[step.kernel as usize].param_bytes;
            if bytes != u64::from(given) {
                return refuse(
                    i,
                    format!("it takes {bytes} bytes of parameters, the program gives {given}"),
                );
            }
            continue;
        };
        if entry.params.iter().any(|p| matches!(p.value, ParamValue::TensorMap(_))) {
            return refuse(i, "a tensor map is no argument".to_owned());
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        program
            .check_params("arguments", &entry.params, bytes)
            .or_else(|e| refuse(i, e.to_string()))?;
    }
    match entries.next() {
        Some(entry) => refuse(
            entry.step as usize,
            "its arguments are out of order or of a step that is not there".to_owned(),
        ),
        None => Ok(()),
    }
}

fn rule(holds: bool, reason: impl Fn() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}

fn check(spec: &KernelSpec) -> Result<(), String> {
    match spec {
        KernelSpec::Loop(kernel) => check_loop(kernel),
        KernelSpec::Gemm(gemm) => check_gemm(gemm),
        KernelSpec::Attention(attention) => check_attention(attention),
    }
}

fn check_loop(kernel: &LoopKernel) -> Result<(), String> {
    rule(kernel.operands.len() <= 512 && kernel.ints <= 512, || "too many parameters".into())?;
    rule(kernel.outer.len() <= MAX_AXES && kernel.inner.len() <= MAX_AXES, || {
        format!("more than {MAX_AXES} axes")
    })?;
    rule(!kernel.inner.is_empty(), || "it has no inner axis".into())?;
    let known = kernel.operands.iter().map(|o| o.align).filter(|&a| a != 0);
    rule(known.chain(kernel.multiples.iter().copied()).all(u32::is_power_of_two), || {
        "an alignment that is no power of two".into()
    })?;
    for extent in kernel.outer.iter().chain(&kernel.inner) {
        match *extent {
            Extent::Const(n) => rule(n >= 0, || format!("an axis of {n}"))?,
            Extent::Param(i) => rule(i < kernel.ints, || format!("a size is parameter {i}"))?,
        }
    }
    // Accumulators are what the reduce stages before leave.
    let mut accs: Vec<bool> = Vec::new();
    for (at, stage) in kernel.stages.iter().enumerate() {
        let next = kernel.stages.get(at + 1);
        if let Stage::Reduce { fold: Fold::Scan, .. } = stage {
            let fits = matches!(next, Some(Stage::Store { .. })) && kernel.inner.len() == 1;
            rule(fits, || "a scan without its store or over several axes".into())?;
        }
        if let Stage::Reduce { fold, value } = stage {
            let arg = matches!(fold, Fold::ArgMax | Fold::ArgMin);
            let inst = kernel.body.insts.get(value.0 as usize);
            accs.push(!arg && inst.is_some_and(|i| i.dtype.is_float()));
        }
    }
    let scope = Scope {
        operands: kernel.operands.iter().map(|o| o.dtype).collect(),
        params: kernel.ints,
        outer: kernel.outer.len() as u32,
        inner: kernel.inner.len() as u32,
        accs: &accs,
    };
    scope.body(&kernel.body)?;
    let mut ready = 0;
    for stage in &kernel.stages {
        for root in stage_roots(stage) {
            scope.known(root, kernel.body.insts.len())?;
        }
        for id in needed(&kernel.body, &stage_roots(stage)) {
            if let InstKind::Acc(k) = kernel.body.inst(id).kind {
                rule((k as usize) < ready, || format!("accumulator {k} is read too early"))?;
            }
        }
        let float = |id: InstId| kernel.body.inst(id).dtype.is_float();
        match *stage {
            Stage::Reduce { fold, value } => {
                let logical = matches!(fold, Fold::Any | Fold::All);
                rule(!logical || !float(value), || "a logical fold of floats".into())?;
                ready += 1;
            }
            Stage::Store { operand, index, guard, .. } => {
                let written = kernel.operands.get(operand as usize).is_some_and(|o| o.written);
                rule(written, || format!("operand {operand} is stored to and not writable"))?;
                rule(!float(index), || "a store at a float".into())?;
                rule(guard.is_none_or(|g| !float(g)), || "a float as guard".into())?;
            }
        }
    }
    Ok(())
}

fn check_gemm(gemm: &GemmSpec) -> Result<(), String> {
    let floats = [gemm.a, gemm.b, gemm.c].iter().all(|d| d.is_float());
    rule(floats, || "a contraction of integers".into())?;
    if let BLayout::Panels { nr } = gemm.b_layout {
        rule((1..=4096).contains(&nr), || format!("panels of {nr} columns"))?;
    }
    let epilogue = &gemm.epilogue;
    rule(epilogue.extra.len() <= MAX_EPILOGUE_OPERANDS, || "too many operands".into())?;
    let scope = Scope {
        operands: epilogue.extra.clone(),
        params: 4 * epilogue.extra.len() as u32,
        outer: 4,
        inner: 0,
        accs: &[true],
    };
    scope.body(&epilogue.body)?;
    match epilogue.result {
        Some(id) => {
            scope.known(id, epilogue.body.insts.len())?;
            let float = epilogue.body.inst(id).dtype.is_float();
            rule(float == gemm.c.is_float(), || "the result is of another kind".into())
        }
        None => Ok(()),
    }
}

fn check_attention(attention: &AttentionSpec) -> Result<(), String> {
    let widths = [attention.head_dim, attention.value_dim];
    rule(widths.iter().all(|w| (1..=MAX_HEAD).contains(w)), || {
        format!("heads of {} and {}", widths[0], widths[1])
    })?;
    let mask = match attention.mask {
        crate::kernel_spec::MaskKind::Additive(dtype) => dtype.is_float(),
        _ => true,
    };
    rule(attention.dtype.is_float() && mask, || "attention of integers".into())
}

/// What the instructions of a body may name.
struct Scope<'a> {
    operands: Vec<DType>,
    params: u32,
    outer: u32,
    inner: u32,
    /// Whether each accumulator is a float.
    accs: &'a [bool],
}

impl Scope<'_> {
    fn known(&self, id: InstId, count: usize) -> Result<(), String> {
        rule((id.0 as usize) < count, || format!("instruction {} does not exist", id.0))
    }

    fn body(&self, body: &Body) -> Result<(), String> {
        rule(body.insts.len() <= MAX_INSTS, || "too many instructions".into())?;
        for (at, inst) in body.insts.iter().enumerate() {
            self.inst(body, at, inst).map_err(|e| format!("instruction {at}: {e}"))?;
        }
        Ok(())
    }

    fn inst(&self, body: &Body, at: usize, inst: &Inst) -> Result<(), String> {
        let float = |id: InstId| -> Result<bool, String> {
            self.known(id, at)?;
            Ok(body.inst(id).dtype.is_float())
        };
        let result = inst.dtype.is_float();
        let within = |i: u32, n: u32, what: &str| {
            rule(i < n, || format!("{what} {i} of {n}"))?;
            rule(!result, || "an index is no float".into())
        };
        let kinds = || "its operands are not of the kinds that it takes".to_owned();
        match &inst.kind {
            InstKind::Int(_) => rule(!result, kinds),
            InstKind::FloatBits(_) => rule(result, kinds),
            InstKind::Param(i) => within(*i, self.params, "parameter"),
            InstKind::Outer(i) => within(*i, self.outer, "outer axis"),
            InstKind::Inner(i) => within(*i, self.inner, "inner axis"),
            InstKind::Acc(i) => {
                let acc = self.accs.get(*i as usize);
                rule(acc == Some(&result), || format!("accumulator {i}"))
            }
            InstKind::Load { operand, index, guard } => {
                let dtype = self.operands.get(*operand as usize);
                let dtype = dtype.ok_or_else(|| format!("operand {operand}"))?;
                let guard = guard.map(&float).transpose()?.unwrap_or(false);
                rule(!float(*index)? && !guard && dtype.is_float() == result, kinds)
            }
            InstKind::Unary(op @ (UnaryOp::IsNan | UnaryOp::IsInf), a) => {
                rule(float(*a)? && !result, || format!("{op:?}: {}", kinds()))
            }
            InstKind::Unary(op, a) => {
                let known = match float(*a)? {
                    true => scalar::float_unary(*op).is_some() && result,
                    false => scalar::int_unary(*op).is_some() && !result,
                };
                rule(known, || format!("{op:?}: {}", kinds()))
            }
            InstKind::Binary(op, a, b) => {
                let (a, b) = (float(*a)?, float(*b)?);
                let known = match (op.is_comparison(), a) {
                    (true, _) => !result,
                    (false, true) => scalar::float_binary(*op).is_some() && result,
                    (false, false) => scalar::int_binary(*op, 1, 1, 64).is_some() && !result,
                };
                rule(a == b && known, || format!("{op:?}: {}", kinds()))
            }
            InstKind::Select(c, a, b) => {
                rule(!float(*c)? && float(*a)? == result && float(*b)? == result, kinds)
            }
            InstKind::Cast(to, a) => {
                float(*a)?;
                rule(to.is_float() == result, kinds)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use zeroforge_artifact::program::{Kernel, Signature, Step};
    use zeroforge_artifact::{Expr, Target};
    use zeroforge_graph::op::BinaryOp;

    use super::*;
    use crate::kernel_spec::Epilogue;
    use crate::loop_ir::Operand;

    /// A program of kernels that take so many bytes of parameters, each launched once.
    fn program(param_bytes: &[u32]) -> Program {
        let kernel = |bytes: &u32| Kernel {
            entry: "k".to_owned(),
            module: 0,
            param_bytes: *bytes,
            block: 128,
            shared_bytes: 0,
            cluster: 1,
            blocks_per_sm: None,
            doc: String::new(),
        };
        let step = |kernel: u32| Step {
            kernel,
            grid: [1, 1, 1].map(Expr::constant),
            params: Vec::new(),
            reads: Vec::new(),
            writes: Vec::new(),
            origin: String::new(),
            flops: Expr::constant(0),
        };
        Program {
            target: Target::SM_90A,
            symbols: Vec::new(),
            guards: Vec::new(),
            buffers: Vec::new(),
            arena_slots: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            kernels: param_bytes.iter().map(kernel).collect(),
            steps: (0..param_bytes.len() as u32).map(step).collect(),
            signature: Signature::default(),
        }
    }

    fn specs(kernels: Vec<KernelSpec>) -> Specs {
        Specs { kernels, arguments: Vec::new() }
    }

    /// `out[o, i] = x[o * n + i] - max over i`.
    fn sample() -> LoopKernel {
        let mut body = Body::default();
        let (o, i) =
            (body.push(InstKind::Outer(0), DType::I64), body.push(InstKind::Inner(0), DType::I64));
        let n = body.push(InstKind::Param(0), DType::I64);
        let row = body.push(InstKind::Binary(BinaryOp::Mul, o, n), DType::I64);
        let index = body.push(InstKind::Binary(BinaryOp::Add, row, i), DType::I64);
        let x = body.push(InstKind::Load { operand: 0, index, guard: None }, DType::F32);
        let acc = body.push(InstKind::Acc(0), DType::F32);
        let value = body.push(InstKind::Binary(BinaryOp::Sub, x, acc), DType::F32);
        LoopKernel {
            operands: vec![
                Operand { dtype: DType::F16, written: false, align: 0 },
                Operand { dtype: DType::F32, written: true, align: 16 },
            ],
            ints: 1,
            multiples: vec![8],
            outer: vec![Extent::Const(3)],
            inner: vec![Extent::Param(0)],
            body,
            stages: vec![
                Stage::Reduce { fold: Fold::Max, value: x },
                Stage::Store { operand: 1, index, value, guard: None },
            ],
        }
    }

    #[test]
    fn a_list_comes_back_as_it_was() {
        let gemm = GemmSpec {
            a: DType::Bf16,
            b: DType::F32,
            c: DType::F16,
            b_layout: BLayout::Panels { nr: 48 },
            m: None,
            n: Some(96),
            k: Some(7),
            epilogue: Epilogue::default(),
        };
        let specs = specs(vec![KernelSpec::Loop(sample()), KernelSpec::Gemm(gemm)]);
        let bytes = encode(&specs);
        let block = size_of::<zeroforge_artifact::abi::zf_gemm_params>() as u32;
        assert_eq!(decode(&bytes, &program(&[24, block])), Ok(specs));
        assert!(matches!(decode(&bytes, &program(&[24])), Err(SpecError::Count { .. })));
        let other =
            String::from_utf8(bytes).expect("JSON").replacen("\"version\":1", "\"version\":3", 1);
        assert_eq!(decode(other.as_bytes(), &program(&[24, block])), Err(SpecError::Version(3)));
    }

    #[test]
    fn a_kernel_with_a_block_of_its_own_needs_arguments() {
        let program = program(&[64]);
        let mut specs = specs(vec![KernelSpec::Loop(sample())]);
        let refused = |specs: &Specs| match decode(&encode(specs), &program) {
            Err(SpecError::Arguments { step: 0, reason }) => reason,
            other => panic!("{other:?}"),
        };
        assert!(refused(&specs).contains("takes 24 bytes of parameters, the program gives 64"));
        let size = Param { at: 16, value: ParamValue::I64(Expr::constant(5)) };
        specs.arguments.push(Arguments { step: 0, params: vec![size] });
        assert_eq!(decode(&encode(&specs), &program).as_ref(), Ok(&specs));
        assert_eq!(specs.arguments(0), Some(&specs.arguments[0].params[..]));
        assert_eq!(specs.arguments(1), None);
        let mut wrong = specs.clone();
        wrong.arguments[0].params[0].at = 24;
        assert!(refused(&wrong).contains("parameter at byte 24"));
        let mut wrong = specs.clone();
        wrong.arguments[0].params[0].value =
            ParamValue::Address { buffer: 0, offset: Expr::constant(0) };
        assert!(refused(&wrong).contains("names buffer 0"));
        let mut wrong = specs.clone();
        wrong.arguments.push(wrong.arguments[0].clone());
        assert!(refused(&wrong).contains("out of order"));
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let refused = |change: &dyn Fn(&mut LoopKernel)| {
            let mut spec = sample();
            change(&mut spec);
            let bytes = 8 * (spec.operands.len() as u32 + spec.ints.min(100));
            let text = encode(&specs(vec![KernelSpec::Loop(spec)]));
            match decode(&text, &program(&[bytes])) {
                Err(SpecError::Kernel { reason, .. }) => reason,
                other => panic!("{other:?}"),
            }
        };
        assert!(refused(&|k| k.ints = u32::MAX).contains("too many parameters"));
        assert!(refused(&|k| k.inner.clear()).contains("no inner axis"));
        assert!(refused(&|k| k.multiples[0] = 6).contains("no power of two"));
        assert!(refused(&|k| k.operands[1].align = 3).contains("no power of two"));
        assert!(refused(&|k| k.inner[0] = Extent::Param(1)).contains("parameter 1"));
        assert!(refused(&|k| k.outer[0] = Extent::Const(-1)).contains("an axis of -1"));
        assert!(refused(&|k| k.operands[1].written = false).contains("not writable"));
        assert!(refused(&|k| k.stages.reverse()).contains("read too early"));
        assert!(refused(&|k| k.stages.truncate(0)).contains("accumulator 0"));
        let forward = InstKind::Unary(UnaryOp::Neg, InstId(7));
        assert!(refused(&|k| k.body.insts[3].kind = forward.clone()).contains("does not exist"));
        assert!(refused(&|k| k.body.insts[5].dtype = DType::I32).contains("kinds"));
        let float = InstKind::Unary(UnaryOp::Exp, InstId(0));
        assert!(refused(&|k| k.body.insts[3].kind = float.clone()).contains("Exp"));
    }
}
