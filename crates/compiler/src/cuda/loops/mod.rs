//! Loop-nest kernels as CUDA C++.
//!
//! `vector` finds what neighbouring points share and which accesses can be 16 bytes wide, `mapping` spreads the
//! points over threads, `group` prints what a thread does with a group of neighbouring points, `rows` the folds
//! over rows around it.
//!
//! A row that fits in the registers of its threads is read once: values that later stages need again are held.

mod group;
mod mapping;
mod rows;
mod vector;

use std::fmt::Write;

use zeroforge_artifact::DType;

use self::mapping::{Kind, Mapping, map};
use self::vector::{Axis, Facts};
use super::{ENTRY, Generated};
use crate::c_expression::{Names, memory_type};
use crate::loop_analysis::levels;
use crate::loop_ir::{Extent, InstId, LoopKernel, Stage};

struct LoopNames<'a> {
    kernel: &'a LoopKernel,
    /// Whether every point of a group is a row with accumulators of its own.
    columns: bool,
}

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
        if self.columns { format!("acc{index}[e]") } else { format!("acc{index}") }
    }
    fn operand(&self, index: u32) -> (String, DType) {
        (format!("p{index}"), self.kernel.operands[index as usize].dtype)
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
    c.push_str(
        "#include \"scalar/device.cuh\"\n#include \"ptx/launch.cuh\"\n#include \"loop/fold.cuh\"\n",
    );
    c.push_str("#include \"loop/packet.cuh\"\n");
    let levels = levels(&kernel.body);
    let mapping = map(kernel, &levels);
    let (threads, cluster) = (mapping.threads, mapping.cluster);
    if cluster > 1 {
        c.push_str("#include \"loop/fold_cluster.cuh\"\n");
    }
    c.push('\n');
    writeln!(c, "struct {ENTRY}_params {{")?;
    if !kernel.operands.is_empty() {
        writeln!(c, "    uint64_t address[{}];", kernel.operands.len())?;
    }
    if kernel.ints > 0 {
        writeln!(c, "    int64_t size[{}];", kernel.ints)?;
    }
    writeln!(c, "}};\n")?;
    match cluster {
        1 => writeln!(c, "ZF_KERNEL({ENTRY}, {ENTRY}_params, params, {threads}, 0) {{")?,
        _ => writeln!(
            c,
            "ZF_CLUSTER_KERNEL({ENTRY}, {ENTRY}_params, params, {threads}, {cluster}) {{"
        )?,
    }
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
    let points: Vec<Extent> = kernel.outer.iter().chain(&kernel.inner).copied().collect();
    let narrow = constant_product(&points).is_some_and(|n| n < i64::from(i32::MAX) - MAX_TILE);
    let printer = Printer {
        kernel,
        names: LoopNames { kernel, columns: mapping.kind == Kind::Columns },
        facts: Facts::new(kernel, mapping.axis, mapping.points),
        levels,
        narrow,
        mapping,
    };
    match mapping.kind {
        Kind::Elementwise { .. } => printer.elementwise(&mut c, &points)?,
        Kind::Rows | Kind::Columns | Kind::Scans => printer.rows(&mut c)?,
    }
    writeln!(c, "}}")?;
    Ok(Generated {
        text: c,
        kind: "loop",
        block: mapping.threads as u32,
        shared_bytes: 0,
        param_bytes: kernel.param_bytes(),
        cluster: cluster as u32,
        tile: [mapping.tile(), 0, 0, 0],
    })
}

/// No tile has more points: how far past the end of the space an index can be.
const MAX_TILE: i64 = 1 << 16;

struct Printer<'a> {
    kernel: &'a LoopKernel,
    names: LoopNames<'a>,
    facts: Facts,
    /// How deep in the row's loops each instruction varies.
    levels: Vec<usize>,
    /// Whether linear indices fit in 32 bits.
    narrow: bool,
    mapping: Mapping,
}

impl Printer<'_> {
    /// Whether an instruction has one value for a row, and for all rows of a thread.
    fn of_row(&self, id: InstId) -> bool {
        self.levels[id.0 as usize] == 0 && self.facts.same(id)
    }

    /// The variable that runs along a group.
    fn walking(&self) -> String {
        match self.mapping.axis {
            Axis::Outer(axis) => format!("o{axis}"),
            Axis::Inner(axis) => format!("i{axis}"),
        }
    }

    fn elementwise(&self, c: &mut String, points: &[Extent]) -> std::fmt::Result {
        let Kind::Elementwise { groups, tail } = self.mapping.kind else { return Ok(()) };
        let (threads, each) = (self.mapping.threads, self.mapping.points);
        let stages: Vec<&Stage> = self.kernel.stages.iter().collect();
        writeln!(c, "    const int64_t total = {};", product(points))?;
        writeln!(c, "#pragma unroll")?;
        writeln!(c, "    for (int u = 0; u < {groups}; ++u) {{")?;
        writeln!(
            c,
            "    const int64_t at = (((int64_t)blockIdx.x * {groups} + u) * {threads} + threadIdx.x) * {each};"
        )?;
        writeln!(c, "    if (at >= total) return;")?;
        if tail {
            writeln!(c, "    if (at + {each} > total) {{")?;
            // What is left of the space is done point by point.
            let single = Printer {
                kernel: self.kernel,
                names: LoopNames { kernel: self.kernel, columns: false },
                facts: Facts::new(self.kernel, self.mapping.axis, 1),
                levels: self.levels.clone(),
                narrow: self.narrow,
                mapping: Mapping { points: 1, ..self.mapping },
            };
            writeln!(c, "    for (int64_t rest = at; rest < total; ++rest) {{")?;
            single.point(c, "rest", &stages)?;
            writeln!(c, "    }}\n    return;\n    }}")?;
        }
        self.point(c, "at", &stages)?;
        writeln!(c, "    }}")
    }

    /// A group of the whole space at a linear index.
    fn point(&self, c: &mut String, at: &str, stages: &[&Stage]) -> std::fmt::Result {
        // Inner axes are the fastest of the whole space.
        let inner = product(&self.kernel.inner);
        let ty = if self.narrow { "uint32_t" } else { "uint64_t" };
        writeln!(c, "    const {ty} row_length = ({ty})({inner});")?;
        writeln!(
            c,
            "    const {ty} row = ({ty}){at} / row_length, column = ({ty}){at} % row_length;"
        )?;
        unravel(c, "row", 'o', &self.kernel.outer, self.narrow)?;
        unravel(c, "column", 'i', &self.kernel.inner, self.narrow)?;
        self.group(c, stages, &group::Context { in_row: false, ..group::Context::default() })
    }
}
