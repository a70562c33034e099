//! Attention as C: blocks of queries against blocks of keys with an online softmax.
//!
//! One task is one (batch, head, block of queries). Scores of a block come from the same microkernel
//! as contractions, over keys packed transposed into scratch; rows keep a running maximum and sum
//! (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; the tiling is that of
//! FlashAttention, Dao et al., 2022).

use std::fmt::Write;

use zeroforge_artifact::{CpuIsa, DType, Expr};

use super::gemm::microkernel;
use crate::c_expression::{from_memory, memory_type, to_memory};
use crate::kernel_spec::{AttentionSpec, MaskKind};

/// Queries per task.
const QUERIES: i64 = 24;
/// Keys per block.
const KEYS: i64 = 128;

fn lanes(isa: CpuIsa) -> i64 {
    isa.f32_lanes() as i64
}

fn round_up(n: i64, to: i64) -> i64 {
    (n + to - 1) / to * to
}

/// Number of tasks.
pub(super) fn tasks(batch: &Expr, heads: &Expr, queries: &Expr) -> Expr {
    batch.clone() * heads.clone() * queries.ceil_div(&Expr::constant(QUERIES))
}

/// Scratch bytes per worker: scaled queries, transposed keys, padded values, scores, output, row
/// statistics.
pub(super) fn scratch_bytes(isa: CpuIsa, spec: &AttentionSpec) -> i64 {
    let nr = 2 * lanes(isa);
    let dv = round_up(spec.value_dim, nr);
    4 * (QUERIES * spec.head_dim
        + spec.head_dim * KEYS
        + KEYS * dv
        + QUERIES * KEYS
        + QUERIES * dv
        + 4 * QUERIES)
}

/// Prints the kernel as a C function with its helpers.
pub(super) fn print(
    isa: CpuIsa,
    spec: &AttentionSpec,
    entry: &str,
) -> Result<String, std::fmt::Error> {
    let lanes = lanes(isa);
    let nr = 2 * lanes;
    let (d, dv) = (spec.head_dim, spec.value_dim);
    let dv_pad = round_up(dv, nr);
    let ty = memory_type(spec.dtype);
    let counts: &[i64] = if isa == CpuIsa::X86_64V4 { &[12, 6, 3, 2, 1] } else { &[6, 3, 2, 1] };
    let mut c = String::new();
    for &r in counts {
        microkernel(&mut c, &format!("{entry}_x{r}"), r, 2, DType::F32, lanes, DType::F32)?;
    }
    writeln!(
        c,
        "static __attribute__((noinline)) void {entry}_product(int64_t rows, int64_t k, const float *a, int64_t lda, \
         const float *b, int64_t ldb, float *t, int64_t ldt, int first) {{\n    int64_t r = 0;"
    )?;
    for &r in counts {
        writeln!(
            c,
            "    for (; rows - r >= {r}; r += {r}) {entry}_x{r}(k, a + r * lda, lda, b, ldb, t + r * ldt, ldt, first);"
        )?;
    }
    writeln!(c, "}}")?;

    let load_q = from_memory(spec.dtype, "q[i * p->q.stride[2] + x]");
    let load_k = from_memory(spec.dtype, "k[(j0 + j) * p->k.stride[2] + x]");
    let load_v = from_memory(spec.dtype, "v[(j0 + j) * p->v.stride[2] + x]");
    let store_o = to_memory(spec.dtype, DType::F32, "(out[i * DVP + x] * inverse)");
    let mask_ty = match spec.mask {
        MaskKind::None => None,
        MaskKind::Bool => Some("uint8_t"),
        MaskKind::Additive(dtype) => Some(memory_type(dtype)),
    };
    write!(
        c,
        "ZF_ENTRY void {entry}(const void *params, int64_t begin, int64_t end, int64_t worker, void *scratch) {{
    (void)worker;
    enum {{ D = {d}, DV = {dv}, DVP = {dv_pad}, QB = {QUERIES}, KB = {KEYS}, NR = {nr} }};
    const zf_attention_params *const p = params;
    float *const qs = scratch;
    float *const kt = qs + QB * D;
    float *const vs = kt + D * KB;
    float *const s = vs + KB * DVP;
    float *const out = s + QB * KB;
    float *const top = out + QB * DVP;
    float *const sum = top + QB;
    const int64_t blocks = (p->queries + QB - 1) / QB;
    const int64_t group = p->heads / p->kv_heads;
    for (int64_t task = begin; task < end; ++task) {{
        const int64_t i0 = task % blocks * QB;
        const int64_t h = task / blocks % p->heads, b = task / blocks / p->heads;
        const int64_t rows = p->queries - i0 < QB ? p->queries - i0 : QB;
        const {ty} *const q = (const {ty} *)p->q.address + b * p->q.stride[0] + h * p->q.stride[1] + i0 * p->q.stride[2];
        const {ty} *const k = (const {ty} *)p->k.address + b * p->k.stride[0] + h / group * p->k.stride[1];
        const {ty} *const v = (const {ty} *)p->v.address + b * p->v.stride[0] + h / group * p->v.stride[1];
        {ty} *const o = ({ty} *)p->o.address + b * p->o.stride[0] + h * p->o.stride[1] + i0 * p->o.stride[2];
"
    )?;
    if let Some(mask_ty) = mask_ty {
        writeln!(
            c,
            "        const {mask_ty} *const mask = (const {mask_ty} *)p->mask.address + b * p->mask.stride[0] + h * p->mask.stride[1] + i0 * p->mask.stride[2];"
        )?;
    }
    write!(
        c,
        "        for (int64_t i = 0; i < rows; ++i) {{
            for (int64_t x = 0; x < D; ++x) qs[i * D + x] = p->scale * {load_q};
            for (int64_t x = 0; x < DVP; ++x) out[i * DVP + x] = 0;
            top[i] = -ZF_INF;
            sum[i] = 0;
        }}
"
    )?;
    // Keys that some query of the block sees.
    writeln!(c, "        int64_t low = 0, high = p->keys;")?;
    if spec.causal {
        writeln!(
            c,
            "        {{ const int64_t last = i0 + rows + p->offset; high = last < high ? (last < 0 ? 0 : last) : high; }}"
        )?;
    }
    if spec.window {
        writeln!(
            c,
            "        {{ const int64_t first = i0 + p->offset - p->window + 1; low = first > 0 ? first / KB * KB : 0; }}"
        )?;
    }
    write!(
        c,
        "        for (int64_t j0 = low; j0 < high; j0 += KB) {{
            const int64_t keys = high - j0 < KB ? high - j0 : KB;
            const int64_t padded = (keys + NR - 1) / NR * NR;
            /* Panels of NR keys, transposed: kt[panel][x][key]. */
            for (int64_t j = 0; j < padded; ++j) {{
                float *const column = kt + j / NR * NR * D + j % NR;
                if (j < keys) {{ for (int64_t x = 0; x < D; ++x) column[x * NR] = {load_k}; }}
                else for (int64_t x = 0; x < D; ++x) column[x * NR] = 0;
            }}
            for (int64_t j = 0; j < padded; j += NR)
                {entry}_product(rows, D, qs, D, kt + j * D, NR, s + j, KB, 1);
"
    )?;
    let direct_v = spec.dtype == DType::F32 && dv % nr == 0;
    if !direct_v {
        write!(
            c,
            "            for (int64_t j = 0; j < keys; ++j) {{
                for (int64_t x = 0; x < DV; ++x) vs[j * DVP + x] = {load_v};
                for (int64_t x = DV; x < DVP; ++x) vs[j * DVP + x] = 0;
            }}
"
        )?;
    }
    writeln!(c, "            for (int64_t i = 0; i < rows; ++i) {{")?;
    writeln!(c, "                float *const row = s + i * KB;")?;
    match spec.mask {
        MaskKind::None => {}
        MaskKind::Bool => {
            writeln!(
                c,
                "                for (int64_t j = 0; j < keys; ++j) row[j] = mask[i * p->mask.stride[2] + (j0 + j) * p->mask.stride[3]] ? row[j] : -ZF_INF;"
            )?;
        }
        MaskKind::Additive(dtype) => {
            let value =
                from_memory(dtype, "mask[i * p->mask.stride[2] + (j0 + j) * p->mask.stride[3]]");
            writeln!(c, "                for (int64_t j = 0; j < keys; ++j) row[j] += {value};")?;
        }
    }
    if spec.causal || spec.window {
        writeln!(c, "                const int64_t position = i0 + i + p->offset;")?;
    }
    if spec.causal {
        writeln!(
            c,
            "                if (j0 + keys - 1 > position) for (int64_t j = 0; j < keys; ++j) row[j] = j0 + j <= position ? row[j] : -ZF_INF;"
        )?;
    }
    if spec.window {
        writeln!(
            c,
            "                if (j0 <= position - p->window) for (int64_t j = 0; j < keys; ++j) row[j] = j0 + j > position - p->window ? row[j] : -ZF_INF;"
        )?;
    }
    let v_args =
        if direct_v { "v + j0 * p->v.stride[2] + x, p->v.stride[2]" } else { "vs + x, DVP" };
    write!(
        c,
        "                float m = -ZF_INF;
                int32_t nan = 0;
                #pragma omp simd reduction(max:m) reduction(|:nan)
                for (int64_t j = 0; j < keys; ++j) {{ m = row[j] > m ? row[j] : m; nan |= (row[j] != row[j]); }}
                m = m > top[i] ? m : top[i];
                /* A row that sees nothing yet subtracts 0 so that exp(-inf) is 0, not NaN. */
                const float base = m == -ZF_INF ? 0.0f : m;
                const float rescale = zf_expf(top[i] - base);
                float total = nan ? ZF_NAN : 0.0f;
                #pragma omp simd reduction(+:total)
                for (int64_t j = 0; j < keys; ++j) {{ row[j] = zf_expf(row[j] - base); total += row[j]; }}
                sum[i] = sum[i] * rescale + total;
                top[i] = m;
                if (rescale != 1.0f) for (int64_t x = 0; x < DVP; ++x) out[i * DVP + x] *= rescale;
            }}
            for (int64_t x = 0; x < DVP; x += NR)
                {entry}_product(rows, keys, s, KB, {v_args}, out + x, DVP, 0);
        }}
        for (int64_t i = 0; i < rows; ++i) {{
            const float inverse = sum[i] == 0.0f ? 0.0f : 1.0f / sum[i];
            for (int64_t x = 0; x < DV; ++x) o[i * p->o.stride[2] + x] = {store_o};
        }}
    }}
}}
"
    )?;
    Ok(c)
}
