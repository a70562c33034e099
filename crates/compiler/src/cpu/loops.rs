//! Loop-nest kernels as C.

use std::fmt::Write;

use zeroforge_artifact::{DType, Expr};

use crate::c_expression::{Names, compute_type, definition, memory_type, to_memory, var};
use crate::loop_analysis::{levels, needed, reads_acc, stage_roots};
use crate::loop_ir::{Extent, Fold, InstId, LoopKernel, LoopSizes, Stage};

/// Elements of a long row per task of an elementwise kernel.
const BLOCK: i64 = 4096;

struct LoopNames<'a>(&'a LoopKernel);

impl Names for LoopNames<'_> {
    fn outer(&self, axis: u32) -> String {
        format!("o{axis}")
    }
    fn inner(&self, axis: u32) -> String {
        format!("i{axis}")
    }
    fn param(&self, index: u32) -> String {
        format!("n{index}")
    }
    fn acc(&self, index: u32) -> String {
        format!("acc{index}")
    }
    fn operand(&self, index: u32) -> (String, DType) {
        (format!("p{index}"), self.0.operands[index as usize].dtype)
    }
}

/// Whether rows are cut into blocks: elementwise kernels whose row is long or of unknown length.
fn blocked(kernel: &LoopKernel) -> bool {
    let long = |e: &Extent| match e {
        Extent::Const(n) => *n > BLOCK,
        Extent::Param(_) => true,
    };
    kernel.is_elementwise() && kernel.inner.len() == 1 && long(&kernel.inner[0])
}

/// Number of tasks.
pub(super) fn tasks(kernel: &LoopKernel, sizes: &LoopSizes) -> Expr {
    let rows = Expr::product(&sizes.outer);
    if blocked(kernel) { rows * sizes.inner[0].ceil_div(&Expr::constant(BLOCK)) } else { rows }
}

fn extent(e: &Extent) -> String {
    match e {
        Extent::Const(n) => format!("INT64_C({n})"),
        Extent::Param(i) => format!("n{i}"),
    }
}

/// Prints the kernel as a C function.
pub(super) fn print(kernel: &LoopKernel, entry: &str) -> Result<String, std::fmt::Error> {
    let mut c = String::new();
    writeln!(
        c,
        "ZF_ENTRY void {entry}(const void *params, int64_t begin, int64_t end, int64_t worker, void *scratch) {{"
    )?;
    writeln!(c, "    (void)worker; (void)scratch;")?;
    for (i, operand) in kernel.operands.iter().enumerate() {
        let ty = memory_type(operand.dtype);
        let constness = if operand.written { "" } else { "const " };
        writeln!(
            c,
            "    {constness}{ty} *const p{i} = ({constness}{ty} *)((const uint64_t *)params)[{i}];"
        )?;
    }
    for i in 0..kernel.ints {
        let at = kernel.operands.len() as u32 + i;
        writeln!(c, "    const int64_t n{i} = ((const int64_t *)params)[{at}]; (void)n{i};")?;
    }
    let blocked = blocked(kernel);
    if blocked {
        let row = extent(&kernel.inner[0]);
        writeln!(c, "    const int64_t blocks = ({row} + {}) / {BLOCK};", BLOCK - 1)?;
    }
    writeln!(c, "    for (int64_t task = begin; task < end; ++task) {{")?;
    if blocked {
        let row = extent(&kernel.inner[0]);
        writeln!(c, "        int64_t rest = task / blocks;")?;
        writeln!(c, "        const int64_t low = task % blocks * {BLOCK};")?;
        writeln!(c, "        const int64_t high = low + {BLOCK} < {row} ? low + {BLOCK} : {row};")?;
    } else {
        writeln!(c, "        int64_t rest = task;")?;
    }
    for (axis, e) in kernel.outer.iter().enumerate().rev() {
        if axis == 0 {
            writeln!(c, "        const int64_t o0 = rest;")?;
        } else {
            let e = extent(e);
            writeln!(c, "        const int64_t o{axis} = rest % {e}; rest /= {e};")?;
        }
    }
    writeln!(c, "        (void)rest;")?;
    Row { kernel, names: LoopNames(kernel), levels: levels(&kernel.body), blocked }
        .print(&mut c)?;
    writeln!(c, "    }}\n}}")?;
    Ok(c)
}

struct Row<'a> {
    kernel: &'a LoopKernel,
    names: LoopNames<'a>,
    levels: Vec<usize>,
    blocked: bool,
}

impl Row<'_> {
    fn level(&self, id: InstId) -> usize {
        self.levels[id.0 as usize]
    }

    fn print(&self, c: &mut String) -> std::fmt::Result {
        let body = &self.kernel.body;
        let mut at_row: Vec<bool> = vec![false; body.insts.len()];
        let mut accs = 0;
        let mut stages = self.kernel.stages.iter().peekable();
        while let Some(stage) = stages.next() {
            let mut roots = stage_roots(stage);
            let scan_store = match (stage, stages.peek()) {
                (Stage::Reduce { fold: Fold::Scan, .. }, Some(store)) => {
                    roots.extend(stage_roots(store));
                    stages.next()
                }
                _ => None,
            };
            let insts = needed(body, &roots);
            let is_scan_acc = |id: &InstId| scan_store.is_some() && reads_acc(body, *id, accs);
            for &id in &insts {
                if self.level(id) == 0 && !at_row[id.0 as usize] && !is_scan_acc(&id) {
                    at_row[id.0 as usize] = true;
                    writeln!(c, "        {}", definition(body, id, &self.names))?;
                    writeln!(c, "        (void){};", var(id))?;
                }
            }
            match stage {
                Stage::Reduce { fold: Fold::Scan, value } => {
                    self.scan(c, *value, scan_store, accs, &insts)?;
                    accs += 1;
                }
                Stage::Reduce { fold, value } => {
                    self.reduce(c, *fold, *value, accs, &insts)?;
                    accs += 1;
                }
                Stage::Store { .. } => self.store(c, stage, &insts)?,
            }
        }
        Ok(())
    }

    /// Opens the loops of inner axes `0..depth`, defining what each level computes. `pragma` goes
    /// before the innermost loop.
    fn open(
        &self,
        c: &mut String,
        depth: usize,
        insts: &[InstId],
        pragma: &str,
    ) -> std::fmt::Result {
        for axis in 0..depth {
            if axis + 1 == depth && !pragma.is_empty() {
                writeln!(c, "        {pragma}")?;
            }
            if self.blocked {
                writeln!(c, "        for (int64_t i0 = low; i0 < high; ++i0) {{")?;
            } else {
                let e = extent(&self.kernel.inner[axis]);
                writeln!(c, "        for (int64_t i{axis} = 0; i{axis} < {e}; ++i{axis}) {{")?;
            }
            for &id in insts.iter().filter(|&&id| self.level(id) == axis + 1) {
                writeln!(c, "        {}", definition(&self.kernel.body, id, &self.names))?;
            }
        }
        Ok(())
    }

    fn close(&self, c: &mut String, depth: usize) -> std::fmt::Result {
        for _ in 0..depth {
            writeln!(c, "        }}")?;
        }
        Ok(())
    }

    fn reduce(
        &self,
        c: &mut String,
        fold: Fold,
        value: InstId,
        acc: u32,
        insts: &[InstId],
    ) -> std::fmt::Result {
        let depth = self.kernel.inner.len();
        let dtype = self.kernel.body.inst(value).dtype;
        let ty = compute_type(dtype);
        let v = var(value);
        let lowest = match dtype {
            DType::F32 | DType::F64 => "-ZF_INF",
            DType::I64 => "INT64_MIN",
            DType::Bool => "0",
            _ => "INT32_MIN",
        };
        let highest = match dtype {
            DType::F32 | DType::F64 => "ZF_INF",
            DType::I64 => "INT64_MAX",
            DType::Bool => "1",
            _ => "INT32_MAX",
        };
        let is_float = dtype.is_float();
        let (init, update, clause) = match fold {
            Fold::Sum => ("0", format!("acc{acc} += {v};"), "+"),
            Fold::Prod => ("1", format!("acc{acc} *= {v};"), "*"),
            Fold::Max => (lowest, format!("acc{acc} = {v} > acc{acc} ? {v} : acc{acc};"), "max"),
            Fold::Min => (highest, format!("acc{acc} = {v} < acc{acc} ? {v} : acc{acc};"), "min"),
            Fold::Any => ("0", format!("acc{acc} |= {v};"), "|"),
            Fold::All => ("1", format!("acc{acc} &= {v};"), "&"),
            Fold::ArgMax | Fold::ArgMin => {
                return self.arg(c, fold == Fold::ArgMax, value, acc, insts);
            }
            Fold::Scan => return Ok(()),
        };
        writeln!(c, "        {ty} acc{acc} = {init};")?;
        let nan = is_float && matches!(fold, Fold::Max | Fold::Min);
        if nan {
            writeln!(c, "        int32_t nan{acc} = 0;")?;
        }
        let extra = if nan { format!(" reduction(|:nan{acc})") } else { String::new() };
        let pragma = format!("#pragma omp simd reduction({clause}:acc{acc}){extra}");
        self.open(c, depth, insts, &pragma)?;
        writeln!(c, "        {update}")?;
        if nan {
            writeln!(c, "        nan{acc} |= ({v} != {v});")?;
        }
        self.close(c, depth)?;
        if nan {
            writeln!(c, "        acc{acc} = nan{acc} ? ZF_NAN : acc{acc};")?;
        }
        Ok(())
    }

    fn arg(
        &self,
        c: &mut String,
        max: bool,
        value: InstId,
        acc: u32,
        insts: &[InstId],
    ) -> std::fmt::Result {
        let depth = self.kernel.inner.len();
        let ty = compute_type(self.kernel.body.inst(value).dtype);
        let v = var(value);
        let op = if max { ">" } else { "<" };
        writeln!(c, "        int64_t acc{acc} = -1, at{acc} = 0; {ty} best{acc} = 0;")?;
        self.open(c, depth, insts, "")?;
        // Not (v op best) is also true for NaN, which wins once.
        writeln!(
            c,
            "        if (acc{acc} < 0 || {v} {op} best{acc} || ({v} != {v} && best{acc} == best{acc})) \
             {{ acc{acc} = at{acc}; best{acc} = {v}; }}"
        )?;
        writeln!(c, "        ++at{acc};")?;
        self.close(c, depth)
    }

    fn scan(
        &self,
        c: &mut String,
        value: InstId,
        store: Option<&Stage>,
        acc: u32,
        insts: &[InstId],
    ) -> std::fmt::Result {
        let body = &self.kernel.body;
        let ty = compute_type(body.inst(value).dtype);
        writeln!(c, "        {ty} acc{acc} = 0;")?;
        let e = extent(&self.kernel.inner[0]);
        writeln!(c, "        for (int64_t i0 = 0; i0 < {e}; ++i0) {{")?;
        let after = |id: &&InstId| reads_acc(body, **id, acc);
        for &id in insts.iter().filter(|id| self.level(**id) > 0 && !after(id)) {
            writeln!(c, "        {}", definition(body, id, &self.names))?;
        }
        writeln!(c, "        acc{acc} += {};", var(value))?;
        for &id in insts.iter().filter(after) {
            writeln!(c, "        {}", definition(body, id, &self.names))?;
        }
        if let Some(stage) = store {
            self.write(c, stage)?;
        }
        writeln!(c, "        }}")
    }

    fn store(&self, c: &mut String, stage: &Stage, insts: &[InstId]) -> std::fmt::Result {
        // A store that no inner index reaches happens once per row.
        let depth = stage_roots(stage).iter().map(|&id| self.level(id)).max().unwrap_or(0);
        let depth = if self.kernel.is_elementwise() { self.kernel.inner.len() } else { depth };
        self.open(c, depth, insts, "#pragma GCC ivdep")?;
        self.write(c, stage)?;
        self.close(c, depth)
    }

    fn write(&self, c: &mut String, stage: &Stage) -> std::fmt::Result {
        let Stage::Store { operand, index, value, guard } = stage else { return Ok(()) };
        let dtype = self.kernel.operands[*operand as usize].dtype;
        let from = self.kernel.body.inst(*value).dtype;
        let converted = to_memory(dtype, from, &var(*value));
        let guard = guard.map(|g| format!("if ({}) ", var(g))).unwrap_or_default();
        writeln!(c, "        {guard}p{operand}[{}] = {converted};", var(*index))
    }
}
