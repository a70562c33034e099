//! Loop-nest kernels as CUDA C++.
//!
//! Elementwise kernels give every thread a few points of the whole index space. Kernels with folds give
//! a row to a warp, or to a block if it is long; the threads of a row take its elements in turn, so that
//! neighbouring threads read neighbouring elements.

use std::fmt::Write;

use zeroforge_artifact::DType;

use super::{ENTRY, Generated};
use crate::c_expression::{Names, compute_type, definition, memory_type, to_memory, var};
use crate::loop_analysis::{levels, needed, reads_acc, stage_roots};
use crate::loop_ir::{Extent, Fold, InstId, LoopKernel, Stage};

/// Threads of an elementwise block, and points per thread.
const ELEMENTWISE: (i64, i64) = (256, 4);
/// Threads of a block whose warps have a row each.
const WARP_ROWS: i64 = 128;
/// Threads of a block that has one row.
const BLOCK_ROW: i64 = 256;
/// Longest row that one warp takes.
const MAX_WARP_ROW: i64 = 2048;

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

fn extent(e: &Extent) -> String {
    match e {
        Extent::Const(n) => format!("INT64_C({n})"),
        Extent::Param(i) => format!("n{i}"),
    }
}

fn product(extents: &[Extent]) -> String {
    let parts: Vec<String> = extents.iter().map(extent).collect();
    if parts.is_empty() { "INT64_C(1)".to_owned() } else { parts.join(" * ") }
}

fn constant_product(extents: &[Extent]) -> Option<i64> {
    extents.iter().try_fold(1i64, |p, e| match e {
        Extent::Const(n) => p.checked_mul(*n),
        Extent::Param(_) => None,
    })
}

/// Takes the linear index `from` apart into variables `prefix0..`, the last axis fastest. Indices known
/// to fit are 32-bit, whose division is several times cheaper.
fn unravel(
    c: &mut String,
    from: &str,
    prefix: char,
    extents: &[Extent],
    narrow: bool,
) -> std::fmt::Result {
    let ty = if narrow { "uint32_t" } else { "uint64_t" };
    writeln!(c, "    {ty} rest_{prefix} = ({ty})({from});")?;
    for (axis, e) in extents.iter().enumerate().rev() {
        if axis == 0 {
            writeln!(c, "    const int64_t {prefix}0 = (int64_t)rest_{prefix}; (void){prefix}0;")?;
        } else {
            let e = extent(e);
            writeln!(
                c,
                "    const int64_t {prefix}{axis} = (int64_t)(rest_{prefix} % ({ty}){e}); rest_{prefix} /= ({ty}){e}; (void){prefix}{axis};"
            )?;
        }
    }
    writeln!(c, "    (void)rest_{prefix};")
}

/// Generates the kernel.
pub(super) fn generate(kernel: &LoopKernel) -> Result<Generated, std::fmt::Error> {
    let mut c = String::new();
    c.push_str("#include \"scalar/device.cuh\"\n#include \"ptx/launch.cuh\"\n#include \"loop/fold.cuh\"\n\n");
    writeln!(c, "struct {ENTRY}_params {{")?;
    if !kernel.operands.is_empty() {
        writeln!(c, "    uint64_t address[{}];", kernel.operands.len())?;
    }
    if kernel.ints > 0 {
        writeln!(c, "    int64_t size[{}];", kernel.ints)?;
    }
    writeln!(c, "}};\n")?;
    let points: Vec<Extent> = kernel.outer.iter().chain(&kernel.inner).copied().collect();
    let narrow = constant_product(&points).is_some_and(|n| n < i64::from(i32::MAX));
    let scans = kernel.stages.iter().any(|s| matches!(s, Stage::Reduce { fold: Fold::Scan, .. }));
    let short = constant_product(&kernel.inner).is_some_and(|n| n <= MAX_WARP_ROW);
    let (block, tile) = if kernel.is_elementwise() {
        (ELEMENTWISE.0, ELEMENTWISE.0 * ELEMENTWISE.1)
    } else if short || scans {
        (WARP_ROWS, WARP_ROWS / 32)
    } else {
        (BLOCK_ROW, 1)
    };
    writeln!(c, "ZF_KERNEL({ENTRY}, {ENTRY}_params, params, {block}, 0) {{")?;
    for (i, operand) in kernel.operands.iter().enumerate() {
        let ty = memory_type(operand.dtype);
        let constness = if operand.written { "" } else { "const " };
        writeln!(
            c,
            "    {constness}{ty} *const p{i} = ({constness}{ty} *)params.address[{i}]; (void)p{i};"
        )?;
    }
    for i in 0..kernel.ints {
        writeln!(c, "    const int64_t n{i} = params.size[{i}]; (void)n{i};")?;
    }
    let printer = Printer {
        kernel,
        names: LoopNames(kernel),
        levels: levels(&kernel.body),
        narrow,
        lanes: if block == BLOCK_ROW && !kernel.is_elementwise() { BLOCK_ROW } else { 32 },
    };
    if kernel.is_elementwise() {
        printer.elementwise(&mut c, &points)?;
    } else {
        printer.rows(&mut c)?;
    }
    writeln!(c, "}}")?;
    Ok(Generated {
        text: c,
        kind: "loop",
        block: block as u32,
        shared_bytes: 0,
        param_bytes: kernel.param_bytes(),
        tile: [tile, 0, 0, 0],
    })
}

struct Printer<'a> {
    kernel: &'a LoopKernel,
    names: LoopNames<'a>,
    levels: Vec<usize>,
    narrow: bool,
    /// Threads of a row.
    lanes: i64,
}

impl Printer<'_> {
    fn define(&self, c: &mut String, id: InstId) -> std::fmt::Result {
        writeln!(c, "    {} (void){};", definition(&self.kernel.body, id, &self.names), var(id))
    }

    fn write(&self, c: &mut String, stage: &Stage) -> std::fmt::Result {
        let Stage::Store { operand, index, value, guard } = stage else { return Ok(()) };
        let dtype = self.kernel.operands[*operand as usize].dtype;
        let from = self.kernel.body.inst(*value).dtype;
        let converted = to_memory(dtype, from, &var(*value));
        let guard = guard.map(|g| format!("if ({}) ", var(g))).unwrap_or_default();
        writeln!(c, "    {guard}p{operand}[{}] = {converted};", var(*index))
    }

    fn elementwise(&self, c: &mut String, points: &[Extent]) -> std::fmt::Result {
        let (threads, each) = ELEMENTWISE;
        writeln!(c, "    const int64_t total = {};", product(points))?;
        writeln!(
            c,
            "    const int64_t first = (int64_t)blockIdx.x * {} + threadIdx.x;",
            threads * each
        )?;
        writeln!(c, "#pragma unroll")?;
        writeln!(c, "    for (int u = 0; u < {each}; ++u) {{")?;
        writeln!(c, "    const int64_t at = first + u * {threads};")?;
        writeln!(c, "    if (at >= total) return;")?;
        // Inner axes are the fastest of the whole space.
        let inner = product(&self.kernel.inner);
        let ty = if self.narrow { "uint32_t" } else { "uint64_t" };
        writeln!(c, "    const {ty} row_length = ({ty})({inner});")?;
        writeln!(c, "    const {ty} row = ({ty})at / row_length, column = ({ty})at % row_length;")?;
        unravel(c, "row", 'o', &self.kernel.outer, self.narrow)?;
        unravel(c, "column", 'i', &self.kernel.inner, self.narrow)?;
        let roots: Vec<InstId> = self.kernel.stages.iter().flat_map(stage_roots).collect();
        for id in needed(&self.kernel.body, &roots) {
            self.define(c, id)?;
        }
        for stage in &self.kernel.stages {
            self.write(c, stage)?;
        }
        writeln!(c, "    }}")
    }

    fn rows(&self, c: &mut String) -> std::fmt::Result {
        let body = &self.kernel.body;
        let lanes = self.lanes;
        if lanes > 32 {
            writeln!(c, "    __shared__ double scratch[{}];", 2 * lanes / 32)?;
            writeln!(c, "    const int64_t row = blockIdx.x, lane = threadIdx.x;")?;
        } else {
            writeln!(c, "    void *const scratch = 0; (void)scratch;")?;
            writeln!(
                c,
                "    const int64_t row = (int64_t)blockIdx.x * {} + threadIdx.x / 32, lane = threadIdx.x % 32;",
                WARP_ROWS / 32
            )?;
            writeln!(c, "    if (row >= {}) return;", product(&self.kernel.outer))?;
        }
        unravel(c, "row", 'o', &self.kernel.outer, self.narrow)?;
        writeln!(c, "    const int64_t row_length = {};", product(&self.kernel.inner))?;
        let mut at_row = vec![false; body.insts.len()];
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
            for &id in &insts {
                let of_scan = scan_store.is_some() && reads_acc(body, id, accs);
                if self.level(id) == 0 && !at_row[id.0 as usize] && !of_scan {
                    at_row[id.0 as usize] = true;
                    self.define(c, id)?;
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

    fn level(&self, id: InstId) -> usize {
        self.levels[id.0 as usize]
    }

    /// Opens the loop over the row's elements of this thread and defines what varies along it.
    fn open(&self, c: &mut String, insts: &[InstId]) -> std::fmt::Result {
        writeln!(c, "    for (int64_t at = lane; at < row_length; at += {}) {{", self.lanes)?;
        unravel(c, "at", 'i', &self.kernel.inner, self.narrow)?;
        for &id in insts.iter().filter(|&&id| self.level(id) > 0) {
            self.define(c, id)?;
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
        let (init, op) = match fold {
            Fold::Sum => ("0", "Sum"),
            Fold::Prod => ("1", "Prod"),
            Fold::Max => (lowest, "Max"),
            Fold::Min => (highest, "Min"),
            Fold::Any => ("0", "Or"),
            Fold::All => ("1", "And"),
            Fold::ArgMax | Fold::ArgMin => {
                return self.arg(c, fold == Fold::ArgMax, value, acc, insts);
            }
            Fold::Scan => return Ok(()),
        };
        writeln!(c, "    {ty} part{acc} = {init};")?;
        self.open(c, insts)?;
        writeln!(c, "    part{acc} = zf::{op}()(part{acc}, ({ty}){v});")?;
        writeln!(c, "    }}")?;
        writeln!(
            c,
            "    const {ty} acc{acc} = zf::fold<{}>(part{acc}, zf::{op}(), scratch);",
            self.lanes
        )
    }

    fn arg(
        &self,
        c: &mut String,
        max: bool,
        value: InstId,
        acc: u32,
        insts: &[InstId],
    ) -> std::fmt::Result {
        let ty = compute_type(self.kernel.body.inst(value).dtype);
        let v = var(value);
        writeln!(c, "    zf::Extreme<{ty}> part{acc}; part{acc}.value = 0; part{acc}.index = -1;")?;
        self.open(c, insts)?;
        writeln!(c, "    zf::Extreme<{ty}> next; next.value = {v}; next.index = at;")?;
        writeln!(c, "    if (zf::beats<{max}>(next, part{acc})) part{acc} = next;")?;
        writeln!(c, "    }}")?;
        writeln!(
            c,
            "    const int64_t acc{acc} = zf::fold_extreme<{}, {max}>(part{acc}, scratch).index;",
            self.lanes
        )
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
        let after = |id: &InstId| reads_acc(body, *id, acc);
        writeln!(c, "    {ty} carry{acc} = 0;")?;
        // Every lane takes part in the warp's scan, also past the end.
        writeln!(c, "    for (int64_t base = 0; base < row_length; base += 32) {{")?;
        writeln!(c, "    const int64_t at = base + lane;")?;
        writeln!(c, "    {ty} element = 0;")?;
        writeln!(c, "    if (at < row_length) {{")?;
        unravel(c, "at", 'i', &self.kernel.inner, self.narrow)?;
        for &id in insts.iter().filter(|id| self.level(**id) > 0 && !after(id)) {
            self.define(c, id)?;
        }
        writeln!(c, "    element = {};\n    }}", var(value))?;
        writeln!(c, "    const {ty} acc{acc} = carry{acc} + zf::scan(element);")?;
        writeln!(c, "    carry{acc} = __shfl_sync(0xffffffffu, acc{acc}, 31);")?;
        if let Some(stage) = store {
            writeln!(c, "    if (at < row_length) {{")?;
            unravel(c, "at", 'i', &self.kernel.inner, self.narrow)?;
            let roots = stage_roots(stage);
            for id in needed(body, &roots) {
                if self.level(id) > 0 || after(&id) {
                    self.define(c, id)?;
                }
            }
            self.write(c, stage)?;
            writeln!(c, "    }}")?;
        }
        writeln!(c, "    }}")
    }

    fn store(&self, c: &mut String, stage: &Stage, insts: &[InstId]) -> std::fmt::Result {
        // A store that no inner index reaches happens once per row.
        if stage_roots(stage).iter().all(|&id| self.level(id) == 0) {
            writeln!(c, "    if (lane == 0) {{")?;
        } else {
            self.open(c, insts)?;
        }
        self.write(c, stage)?;
        writeln!(c, "    }}")
    }
}
