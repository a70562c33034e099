//! Contractions as C: a register-blocked microkernel over panels of B, with the epilogue applied
//! to each finished tile.
//!
//! The result is cut into tiles of up to [`ROWS_PER_TASK`] rows by `nr` columns; one tile is one task. B
//! comes packed in panels of a multiple of `nr` columns (weights) or is packed block by block into the
//! worker's scratch memory. Accumulators live in registers over a block of K, and in scratch
//! between blocks (the loop structure of Goto and van de Geijn, "Anatomy of High-Performance
//! Matrix Multiplication", 2008, with the A operand read in place).

use std::fmt::Write;

use zeroforge_artifact::{CpuIsa, DType, Expr};

use crate::c_expression::{
    Names, compute_type, definition, from_memory, memory_type, to_memory, var,
};
use crate::kernel_spec::{BLayout, GemmSpec};
use crate::loop_ir::InstKind;

/// Rows of one task.
const ROWS_PER_TASK: i64 = 144;
/// Length of a block of K when B or A must be converted or packed into scratch.
const K_BLOCK: i64 = 512;

/// Register blocking of a level: rows and vectors of the accumulator tile.
struct Blocking {
    lanes: i64,
    vectors: i64,
    rows: i64,
}

fn blocking(isa: CpuIsa, spec: &GemmSpec) -> Blocking {
    let lanes = isa.f32_lanes() as i64 / if acc_dtype(spec) == DType::F64 { 2 } else { 1 };
    match isa {
        // Three vectors need fewer loads per multiply; taken where no column is padding.
        CpuIsa::X86_64V4 if spec.n.is_some_and(|n| n % 48 == 0) => {
            Blocking { lanes, vectors: 3, rows: 8 }
        }
        // 16 registers: 6 x 2 accumulators, two of B, one broadcast.
        CpuIsa::X86_64V3 => Blocking { lanes, vectors: 2, rows: 6 },
        // 32 registers: 12 x 2 accumulators, two of B; A is broadcast from memory.
        CpuIsa::X86_64V4 => Blocking { lanes, vectors: 2, rows: 12 },
    }
}

fn acc_dtype(spec: &GemmSpec) -> DType {
    if spec.a == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Columns of a task. They divide the columns of a packed weight's panel.
fn task_columns(isa: CpuIsa, spec: &GemmSpec) -> i64 {
    let b = blocking(isa, spec);
    b.lanes * b.vectors
}

/// Number of tasks.
pub(super) fn tasks(isa: CpuIsa, spec: &GemmSpec, batch: &[Expr; 2], m: &Expr, n: &Expr) -> Expr {
    let panels = n.ceil_div(&Expr::constant(task_columns(isa, spec)));
    let chunks = m.ceil_div(&Expr::constant(ROWS_PER_TASK));
    batch[0].clone() * batch[1].clone() * chunks * panels
}

/// Whether A can be read where it is.
fn reads_a_in_place(spec: &GemmSpec) -> bool {
    spec.a == acc_dtype(spec)
}

/// Whether K is walked in blocks through scratch memory.
fn blocks_k(spec: &GemmSpec) -> bool {
    !matches!(spec.b_layout, BLayout::Panels { .. }) || !reads_a_in_place(spec)
}

/// Scratch bytes per worker: the tile, a packed block of B, a converted block of A.
pub(super) fn scratch_bytes(isa: CpuIsa, spec: &GemmSpec) -> i64 {
    let size = acc_dtype(spec).size() as i64;
    let nr = task_columns(isa, spec);
    let mut elements = ROWS_PER_TASK * nr;
    if !matches!(spec.b_layout, BLayout::Panels { .. }) {
        elements += K_BLOCK * nr;
    }
    if !reads_a_in_place(spec) {
        elements += ROWS_PER_TASK * K_BLOCK;
    }
    elements * size
}

struct EpilogueNames<'a>(&'a GemmSpec);

impl Names for EpilogueNames<'_> {
    fn outer(&self, axis: u32) -> String {
        ["b0", "b1", "row", "column"].get(axis as usize).copied().unwrap_or("0").to_owned()
    }
    fn inner(&self, _: u32) -> String {
        "0".to_owned()
    }
    fn param(&self, index: u32) -> String {
        format!("p->extra[{}].stride[{}]", index / 4, index % 4)
    }
    fn acc(&self, _: u32) -> String {
        "t[j]".to_owned()
    }
    fn operand(&self, index: u32) -> (String, DType) {
        (format!("x{index}"), self.0.epilogue.extra[index as usize])
    }
}

/// Row counts for which a microkernel is instantiated, largest first.
fn row_counts(max: i64, m: Option<i64>) -> Vec<i64> {
    let all: &[i64] = match max {
        12 => &[12, 8, 6, 4, 3, 2, 1],
        8 => &[8, 6, 4, 3, 2, 1],
        _ => &[6, 4, 3, 2, 1],
    };
    let Some(m) = m else { return all.to_vec() };
    // Only those that the split of this many rows needs.
    let mut used = Vec::new();
    let mut chunks = vec![m % ROWS_PER_TASK];
    if m >= ROWS_PER_TASK {
        chunks.push(ROWS_PER_TASK);
    }
    for mut rest in chunks {
        while rest > 0 {
            let Some(&take) = all.iter().find(|&&r| r <= rest) else { break };
            if !used.contains(&take) {
                used.push(take);
            }
            rest -= take;
        }
    }
    used.sort_by_key(|r| std::cmp::Reverse(*r));
    used
}

/// The microkernel of `rows` rows: `tile[r][j] (+)= sum_p a[r*lda + p] * b[p*ldb + j]`. Also used by
/// attention.
pub(super) fn microkernel(
    c: &mut String,
    name: &str,
    rows: i64,
    vectors: i64,
    acc: DType,
    lanes: i64,
    b_dtype: DType,
) -> std::fmt::Result {
    let ty = compute_type(acc);
    let b_ty = memory_type(b_dtype);
    writeln!(
        c,
        "ZF_INLINE void {name}(int64_t k, const {ty} *a, int64_t lda, const {b_ty} *b, int64_t ldb, \
         {ty} *tile, int64_t ldt, int first) {{"
    )?;
    let bytes = lanes * acc.size() as i64;
    writeln!(
        c,
        "    typedef {ty} vec __attribute__((vector_size({bytes}), aligned({}), may_alias));",
        acc.size()
    )?;
    for r in 0..rows {
        for v in 0..vectors {
            writeln!(
                c,
                "    vec c{r}_{v} = {{0}}; if (!first) c{r}_{v} = *(const vec *)(tile + {r} * ldt + {});",
                v * lanes
            )?;
        }
    }
    writeln!(c, "    for (int64_t i = 0; i < k; ++i) {{")?;
    for v in 0..vectors {
        let at = v * lanes;
        match b_dtype {
            DType::Bf16 => {
                writeln!(
                    c,
                    "        typedef uint16_t half __attribute__((vector_size({}), aligned(2), may_alias));",
                    lanes * 2
                )?;
                writeln!(
                    c,
                    "        typedef uint32_t word __attribute__((vector_size({}), may_alias));",
                    lanes * 4
                )?;
                writeln!(
                    c,
                    "        const vec b{v} = (vec)(__builtin_convertvector(*(const half *)(b + i * ldb + {at}), word) << 16);"
                )?;
            }
            DType::F16 => {
                writeln!(
                    c,
                    "        typedef _Float16 half __attribute__((vector_size({}), aligned(2), may_alias));",
                    lanes * 2
                )?;
                writeln!(
                    c,
                    "        const vec b{v} = __builtin_convertvector(*(const half *)(b + i * ldb + {at}), vec);"
                )?;
            }
            _ => writeln!(c, "        const vec b{v} = *(const vec *)(b + i * ldb + {at});")?,
        }
    }
    for r in 0..rows {
        writeln!(c, "        const {ty} a{r} = a[{r} * lda + i];")?;
        for v in 0..vectors {
            writeln!(c, "        c{r}_{v} += a{r} * b{v};")?;
        }
    }
    writeln!(c, "    }}")?;
    for r in 0..rows {
        for v in 0..vectors {
            writeln!(c, "    *(vec *)(tile + {r} * ldt + {}) = c{r}_{v};", v * lanes)?;
        }
    }
    writeln!(c, "}}")
}

/// Prints the kernel as a C function with its helpers.
pub(super) fn print(isa: CpuIsa, spec: &GemmSpec, entry: &str) -> Result<String, std::fmt::Error> {
    let acc = acc_dtype(spec);
    let Blocking { lanes, vectors, rows } = blocking(isa, spec);
    let nr = lanes * vectors;
    let (ty, a_ty, b_ty, c_ty) =
        (compute_type(acc), memory_type(spec.a), memory_type(spec.b), memory_type(spec.c));
    let packed = matches!(spec.b_layout, BLayout::Panels { .. });
    let in_place = reads_a_in_place(spec);
    // Row length of what the microkernel reads of B.
    let ldb = match spec.b_layout {
        BLayout::Panels { nr } => i64::from(nr),
        _ => nr,
    };
    // Packed panels are read in their own type; blocks packed into scratch are converted.
    let kernel_b = if packed { spec.b } else { acc };
    let counts = row_counts(rows, spec.m);

    let mut c = String::new();
    for &r in &counts {
        microkernel(&mut c, &format!("{entry}_x{r}"), r, vectors, acc, lanes, kernel_b)?;
    }
    let kernel_b_ty = memory_type(kernel_b);
    writeln!(
        c,
        "static __attribute__((noinline)) void {entry}_rows(int64_t rows, int64_t k, const {ty} *a, int64_t lda, \
         const {kernel_b_ty} *b, {ty} *tile, int first) {{"
    )?;
    writeln!(c, "    int64_t r = 0;")?;
    for &count in &counts {
        writeln!(
            c,
            "    for (; rows - r >= {count}; r += {count}) \
             {entry}_x{count}(k, a + r * lda, lda, b, {ldb}, tile + r * {nr}, {nr}, first);"
        )?;
    }
    writeln!(c, "}}")?;

    writeln!(
        c,
        "ZF_ENTRY void {entry}(const void *params, int64_t begin, int64_t end, int64_t worker, void *scratch) {{"
    )?;
    writeln!(c, "    (void)worker;")?;
    writeln!(c, "    const zf_gemm_params *const p = params;")?;
    let size = |name: &str, value: Option<i64>| match value {
        Some(v) => format!("    const int64_t {name} = {v};\n"),
        None => format!("    const int64_t {name} = p->{name};\n"),
    };
    c.push_str(&size("m", spec.m));
    c.push_str(&size("n", spec.n));
    c.push_str(&size("k", spec.k));
    writeln!(c, "    const int64_t panels = (n + {}) / {nr};", nr - 1)?;
    writeln!(c, "    const int64_t chunks = (m + {}) / {ROWS_PER_TASK};", ROWS_PER_TASK - 1)?;
    writeln!(c, "    {ty} *const tile = scratch;")?;
    if !packed {
        writeln!(c, "    {ty} *const block = tile + {};", ROWS_PER_TASK * nr)?;
    }
    if !in_place {
        let at = ROWS_PER_TASK * nr + if packed { 0 } else { K_BLOCK * nr };
        writeln!(c, "    {ty} *const rows_a = tile + {at};")?;
    }
    for (i, dtype) in spec.epilogue.extra.iter().enumerate() {
        let t = memory_type(*dtype);
        writeln!(c, "    const {t} *const x{i} = (const {t} *)p->extra[{i}].address;")?;
    }
    writeln!(c, "    for (int64_t task = begin; task < end; ++task) {{")?;
    writeln!(c, "        int64_t rest = task;")?;
    writeln!(c, "        const int64_t n0 = rest % panels * {nr}; rest /= panels;")?;
    writeln!(c, "        const int64_t m0 = rest % chunks * {ROWS_PER_TASK}; rest /= chunks;")?;
    writeln!(c, "        const int64_t b1 = rest % p->batch[1], b0 = rest / p->batch[1];")?;
    writeln!(
        c,
        "        const int64_t rows = m - m0 < {ROWS_PER_TASK} ? m - m0 : {ROWS_PER_TASK};"
    )?;
    writeln!(c, "        const int64_t columns = n - n0 < {nr} ? n - n0 : {nr};")?;
    writeln!(
        c,
        "        const {a_ty} *const a = (const {a_ty} *)p->a.address + b0 * p->a.stride[0] + b1 * p->a.stride[1] + m0 * p->a.stride[2];"
    )?;
    let b_base =
        format!("(const {b_ty} *)p->b.address + b0 * p->b.stride[0] + b1 * p->b.stride[1]");
    match spec.b_layout {
        BLayout::Panels { .. } => {
            writeln!(
                c,
                "        const {b_ty} *const b = {b_base} + n0 / {ldb} * p->b.stride[2] + n0 % {ldb};"
            )?;
        }
        BLayout::RowMajorKn => writeln!(c, "        const {b_ty} *const b = {b_base} + n0;")?,
        BLayout::RowMajorNk => {
            writeln!(c, "        const {b_ty} *const b = {b_base} + n0 * p->b.stride[2];")?;
        }
    }
    if blocks_k(spec) {
        writeln!(c, "        for (int64_t k0 = 0; k0 == 0 || k0 < k; k0 += {K_BLOCK}) {{")?;
        writeln!(c, "            const int64_t kb = k - k0 < {K_BLOCK} ? k - k0 : {K_BLOCK};")?;
    } else {
        writeln!(c, "        {{ const int64_t k0 = 0, kb = k;")?;
    }
    if !in_place {
        writeln!(c, "            for (int64_t r = 0; r < rows; ++r) {{")?;
        writeln!(c, "                #pragma GCC ivdep")?;
        writeln!(
            c,
            "                for (int64_t i = 0; i < kb; ++i) rows_a[r * {K_BLOCK} + i] = {};",
            from_memory(spec.a, "a[r * p->a.stride[2] + k0 + i]")
        )?;
        writeln!(c, "            }}")?;
    }
    match spec.b_layout {
        BLayout::Panels { .. } => {}
        BLayout::RowMajorKn => {
            let element = from_memory(spec.b, "b[(k0 + i) * p->b.stride[2] + j]");
            writeln!(c, "            for (int64_t i = 0; i < kb; ++i) {{")?;
            writeln!(
                c,
                "                if (columns == {nr}) {{ for (int64_t j = 0; j < {nr}; ++j) block[i * {nr} + j] = {element}; }}"
            )?;
            writeln!(
                c,
                "                else for (int64_t j = 0; j < {nr}; ++j) block[i * {nr} + j] = j < columns ? {element} : 0;"
            )?;
            writeln!(c, "            }}")?;
        }
        BLayout::RowMajorNk => {
            let element = from_memory(spec.b, "b[j * p->b.stride[2] + k0 + i]");
            writeln!(c, "            for (int64_t j = 0; j < {nr}; ++j) {{")?;
            writeln!(
                c,
                "                if (j < columns) {{ for (int64_t i = 0; i < kb; ++i) block[i * {nr} + j] = {element}; }}"
            )?;
            writeln!(
                c,
                "                else for (int64_t i = 0; i < kb; ++i) block[i * {nr} + j] = 0;"
            )?;
            writeln!(c, "            }}")?;
        }
    }
    let (a_arg, lda) = if in_place {
        ("a + k0".to_owned(), "p->a.stride[2]".to_owned())
    } else {
        ("rows_a".to_owned(), K_BLOCK.to_string())
    };
    let b_arg = if packed { format!("b + k0 * {ldb}") } else { "block".to_owned() };
    writeln!(c, "            {entry}_rows(rows, kb, {a_arg}, {lda}, {b_arg}, tile, k0 == 0);")?;
    writeln!(c, "        }}")?;
    epilogue(&mut c, spec, acc, nr, c_ty)?;
    writeln!(c, "    }}\n}}")?;
    Ok(c)
}

/// Stores the finished tile through the epilogue.
fn epilogue(c: &mut String, spec: &GemmSpec, acc: DType, nr: i64, c_ty: &str) -> std::fmt::Result {
    let ty = compute_type(acc);
    let body = &spec.epilogue.body;
    let names = EpilogueNames(spec);
    let per_column = |kind: &InstKind| matches!(kind, InstKind::Outer(3) | InstKind::Acc(_));
    // What depends on no column is computed once per row.
    let mut varies: Vec<bool> = Vec::with_capacity(body.insts.len());
    for inst in &body.insts {
        let deep = crate::c_expression::operands(&inst.kind).iter().any(|id| varies[id.0 as usize]);
        varies.push(deep || per_column(&inst.kind));
    }
    writeln!(c, "        for (int64_t r = 0; r < rows; ++r) {{")?;
    writeln!(c, "            const int64_t row = m0 + r; (void)row;")?;
    writeln!(c, "            const {ty} *const t = tile + r * {nr};")?;
    writeln!(
        c,
        "            {c_ty} *const out = ({c_ty} *)p->c.address + b0 * p->c.stride[0] + b1 * p->c.stride[1] + row * p->c.stride[2] + n0;"
    )?;
    for (i, _) in body.insts.iter().enumerate().filter(|(i, _)| !varies[*i]) {
        let id = crate::loop_ir::InstId(i as u32);
        writeln!(c, "            {} (void){};", definition(body, id, &names), var(id))?;
    }
    let mut line = String::new();
    for (i, _) in body.insts.iter().enumerate().filter(|(i, _)| varies[*i]) {
        writeln!(
            line,
            "                {}",
            definition(body, crate::loop_ir::InstId(i as u32), &names)
        )?;
    }
    let value = match spec.epilogue.result {
        Some(id) => to_memory(spec.c, body.inst(id).dtype, &var(id)),
        None => to_memory(spec.c, acc, "t[j]"),
    };
    // A full panel has a constant trip count, which vectorises without a tail.
    for (condition, count) in [
        (format!("if (columns == {nr})"), nr.to_string()),
        ("else".to_owned(), "columns".to_owned()),
    ] {
        writeln!(c, "            {condition} {{")?;
        writeln!(c, "                #pragma GCC ivdep")?;
        writeln!(c, "                for (int64_t j = 0; j < {count}; ++j) {{")?;
        writeln!(c, "                const int64_t column = n0 + j; (void)column;")?;
        c.push_str(&line);
        writeln!(c, "                out[j] = {value};")?;
        writeln!(c, "                }}\n            }}")?;
    }
    writeln!(c, "        }}")
}
