//! What the kernels of a target compute, as a section of an artifact: JSON, one [`KernelSpec`] per kernel of
//! the program, in its order. `zeroforge verify` reads it; a runtime never does.
//!
//! Text, because it is small next to machine code, has one form per value (so equal models have equal
//! bytes), and can be read in any language. What is read is checked before anything computes with it: a
//! file may claim anything.

use serde::{Deserialize, Serialize};
use zeroforge_artifact::program::Kernel;
use zeroforge_artifact::{DType, abi};
use zeroforge_graph::interpret::scalar;
use zeroforge_graph::op::UnaryOp;

use crate::kernel_spec::{AttentionSpec, BLayout, GemmSpec, KernelSpec, MAX_EPILOGUE_OPERANDS};
use crate::loop_analysis::{needed, stage_roots};
use crate::loop_ir::{Body, Extent, Fold, Inst, InstId, InstKind, LoopKernel, Stage};

/// Version of the form; a reader refuses others.
pub const VERSION: u32 = 1;
/// Most axes of an index space.
const MAX_AXES: usize = 32;
/// Most instructions of a kernel.
const MAX_INSTS: usize = 1 << 16;
/// Widest head.
const MAX_HEAD: i64 = 1 << 16;

#[derive(Serialize, Deserialize)]
struct SpecFile<T> {
    version: u32,
    kernels: T,
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
pub fn encode(specs: &[KernelSpec]) -> Vec<u8> {
    let file = SpecFile { version: VERSION, kernels: specs };
    // Plain data in memory always has a JSON form.
    serde_json::to_vec(&file).unwrap_or_default()
}

/// Reads and checks a section that belongs to a program with these kernels.
pub fn decode(bytes: &[u8], kernels: &[Kernel]) -> Result<Vec<KernelSpec>, SpecError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let form = |e: serde_json::Error| SpecError::Form(e.to_string());
    let Version { version } = serde_json::from_slice(bytes).map_err(form)?;
    if version != VERSION {
        return Err(SpecError::Version(version));
    }
    let file: SpecFile<Vec<KernelSpec>> = serde_json::from_slice(bytes).map_err(form)?;
    if file.kernels.len() != kernels.len() {
        return Err(SpecError::Count { listed: file.kernels.len(), kernels: kernels.len() });
    }
    for (spec, kernel) in file.kernels.iter().zip(kernels) {
        check(spec, kernel.param_bytes)
            .map_err(|reason| SpecError::Kernel { entry: kernel.entry.clone(), reason })?;
    }
    Ok(file.kernels)
}

fn rule(holds: bool, reason: impl Fn() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}

fn check(spec: &KernelSpec, param_bytes: u32) -> Result<(), String> {
    let expected = match spec {
        KernelSpec::Loop(kernel) => {
            check_loop(kernel)?;
            8 * (kernel.operands.len() as u64 + u64::from(kernel.ints))
        }
        KernelSpec::Gemm(gemm) => {
            check_gemm(gemm)?;
            size_of::<abi::zf_gemm_params>() as u64
        }
        KernelSpec::Attention(attention) => {
            check_attention(attention)?;
            size_of::<abi::zf_attention_params>() as u64
        }
    };
    rule(expected == u64::from(param_bytes), || {
        format!("it takes {expected} bytes of parameters, the program gives {param_bytes}")
    })
}

fn check_loop(kernel: &LoopKernel) -> Result<(), String> {
    rule(kernel.operands.len() <= 512 && kernel.ints <= 512, || "too many parameters".into())?;
    rule(kernel.outer.len() <= MAX_AXES && kernel.inner.len() <= MAX_AXES, || {
        format!("more than {MAX_AXES} axes")
    })?;
    rule(!kernel.inner.is_empty(), || "it has no inner axis".into())?;
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
    use zeroforge_graph::op::BinaryOp;

    use super::*;
    use crate::kernel_spec::Epilogue;
    use crate::loop_ir::Operand;

    fn kernel(param_bytes: u32) -> Kernel {
        Kernel {
            entry: "k".to_owned(),
            module: 0,
            param_bytes,
            block: 128,
            shared_bytes: 0,
            cluster: 1,
            blocks_per_sm: None,
            doc: String::new(),
        }
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
                Operand { dtype: DType::F16, written: false },
                Operand { dtype: DType::F32, written: true },
            ],
            ints: 1,
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
        let specs = vec![KernelSpec::Loop(sample()), KernelSpec::Gemm(gemm)];
        let bytes = encode(&specs);
        let kernels = [kernel(24), kernel(size_of::<abi::zf_gemm_params>() as u32)];
        assert_eq!(decode(&bytes, &kernels), Ok(specs));
        assert!(matches!(decode(&bytes, &kernels[..1]), Err(SpecError::Count { .. })));
        let other =
            String::from_utf8(bytes).expect("JSON").replacen("\"version\":1", "\"version\":2", 1);
        assert_eq!(decode(other.as_bytes(), &kernels), Err(SpecError::Version(2)));
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let refused = |change: &dyn Fn(&mut LoopKernel)| {
            let mut spec = sample();
            change(&mut spec);
            let bytes = 8 * (spec.operands.len() as u32 + spec.ints.min(100));
            let text = encode(&[KernelSpec::Loop(spec)]);
            match decode(&text, &[kernel(bytes)]) {
                Err(SpecError::Kernel { reason, .. }) => reason,
                other => panic!("{other:?}"),
            }
        };
        assert!(refused(&|k| k.ints = u32::MAX).contains("too many parameters"));
        assert!(refused(&|k| k.inner.clear()).contains("no inner axis"));
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
