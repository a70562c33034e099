//! Sources of the three kernels.

use std::fmt::Write;

use zeroforge_artifact::DType;
use zeroforge_artifact::abi::{
    zf_append_params, zf_combine_params, zf_decode_params, zf_decode_tensor_params,
};

use super::{CacheType, Copies, DecodeSpec, MAX_SPLITS};
use crate::Instance;

/// Rows (query, query head of one KV head) of a block.
pub const BLOCK_ROWS: i64 = 64;
/// Threads of a block of `combine.cuh`, four warps of one row each.
pub(super) const COMBINE_ROWS: i64 = 4;
/// Threads of a block of `append.cuh`.
pub(super) const APPEND_THREADS: i64 = 256;

/// Shared memory of a block and of an SM (CUDA C++ Programming Guide, compute capability 9.0), and what a block takes
/// besides its own.
const BLOCK_SHARED: u32 = 227 * 1024;
const SM_SHARED: u32 = 228 * 1024;
const RESERVED: u32 = 1024;

/// Keys of a tile.
pub fn tile_keys(spec: &DecodeSpec) -> u32 {
    if spec.latent || spec.head_dim.max(spec.value_dim) <= 128 { 64 } else { 32 }
}

fn warpgroups(spec: &DecodeSpec) -> u32 {
    if spec.value_dim > 256 { 2 } else { 1 }
}

/// As `DecodeShape` in `decode.cuh`, which an assertion in the source compares.
fn shared_bytes(spec: &DecodeSpec, stages: u32) -> u32 {
    let panels = |columns: u32| columns.div_ceil(64);
    let values = if spec.latent { 0 } else { spec.value_dim };
    let keys = tile_keys(spec);
    let tile = (panels(spec.head_dim) + panels(values)) * keys * 128;
    let queries = panels(spec.head_dim) * 64 * 128;
    let (widened, slot) = match spec.cache {
        CacheType::Same => (0, tile),
        CacheType::E4m3 => (tile, keys * (spec.head_dim + values)),
    };
    let exchange = if warpgroups(spec) > 1 { 64 * 128 + warpgroups(spec) * 64 * 4 } else { 0 };
    let barriers = if spec.copies == Copies::Threads { 0 } else { stages * 8 };
    queries + widened + stages * slot + exchange + barriers
}

/// Slots of the ring: four, or three if two blocks fit an SM then; fewer where memory ends.
fn stages(spec: &DecodeSpec) -> u32 {
    let fits = |blocks: u32| {
        move |&stages: &u32| {
            let bytes = shared_bytes(spec, stages);
            bytes <= BLOCK_SHARED && blocks * (bytes + RESERVED) <= SM_SHARED
        }
    };
    [4, 3].into_iter().find(fits(2)).or_else(|| [4, 3].into_iter().find(fits(1))).unwrap_or(2)
}

pub(super) fn fits(spec: &DecodeSpec) -> bool {
    shared_bytes(spec, stages(spec)) <= BLOCK_SHARED
}

fn type_name(dtype: DType) -> &'static str {
    if dtype == DType::F16 { "f16" } else { "bf16" }
}

fn config(spec: &DecodeSpec, partial: bool) -> String {
    let t = type_name(spec.dtype);
    let cache = match spec.cache {
        CacheType::Same => t,
        CacheType::E4m3 => "e4m3",
    };
    let rotary = spec.rotary.map_or(0, |r| r.dim);
    let interleaved = spec.rotary.is_some_and(|r| r.interleaved);
    let box_rows = match spec.copies {
        Copies::Threads => 0,
        Copies::Tensor(rows) => rows,
    };
    format!(
        "struct Config {{\n    using T = zf_{t};\n    using Cache = zf_{cache};\n    static constexpr int D = {}, DV = {}, TILE = {}, STAGES = {}, \
         WARPGROUPS = {}, ROTARY = {rotary}, BOX_ROWS = {box_rows};\n    static constexpr bool LATENT = {}, PAGED = {}, PARTIAL = {partial}, SOFTCAP = {}, \
         ALIBI = {}, INTERLEAVED = {interleaved};\n}};\n",
        spec.head_dim,
        spec.value_dim,
        tile_keys(spec),
        stages(spec),
        warpgroups(spec),
        spec.latent,
        spec.paged,
        spec.softcap,
        spec.alibi,
    )
}

fn describe(spec: &DecodeSpec) -> String {
    let mut text = type_name(spec.dtype).to_owned();
    if spec.cache == CacheType::E4m3 {
        text += ", e4m3 cache";
    }
    let _ = write!(text, ", head dim {}", spec.head_dim);
    if spec.value_dim != spec.head_dim {
        let _ = write!(text, "/{}", spec.value_dim);
    }
    let flags = [
        (spec.latent, "latent"),
        (spec.paged, "paged"),
        (spec.softcap, "softcap"),
        (spec.alibi, "ALiBi"),
        (spec.rotary.is_some(), "rotary"),
        (spec.copies != Copies::Threads, "tensor copies"),
    ];
    for (_, name) in flags.iter().filter(|f| f.0) {
        let _ = write!(text, ", {name}");
    }
    text
}

/// Attention: over one of several splits (`partial`), or all of the keys.
pub fn decode_instance(spec: &DecodeSpec, partial: bool) -> Instance {
    let t = type_name(spec.dtype);
    let groups = warpgroups(spec);
    let shared = shared_bytes(spec, stages(spec));
    let (scores, columns) = (tile_keys(spec) / groups, spec.value_dim / groups);
    let mut products = format!("ZF_WGMMA_16BIT({t}, {scores})\n");
    if columns != scores {
        let _ = writeln!(products, "ZF_WGMMA_16BIT({t}, {columns})");
    }
    let tensor = spec.copies != Copies::Threads;
    let (params, arguments, param_bytes) = if tensor {
        ("zf_decode_tensor_params", "p.decode, &p.k, &p.v", size_of::<zf_decode_tensor_params>())
    } else {
        ("zf_decode_params", "p, nullptr, nullptr", size_of::<zf_decode_params>())
    };
    let source = format!(
        "#include \"scalar/device.cuh\"\n#include \"ptx/wgmma.cuh\"\n\n{products}\n#include \"attention/decode.cuh\"\n\n{}\
         static_assert(zf::DecodeShape<Config>::BYTES == {shared}, \"shared memory\");\n\n\
         extern \"C\" __global__ void __launch_bounds__({}) {}(const __grid_constant__ {params} p) {{\n    \
         extern __shared__ __align__(1024) unsigned char shared[];\n    zf::decode<Config>({arguments}, shared);\n}}\n",
        config(spec, partial),
        128 * groups,
        Instance::ENTRY,
    );
    let part = if partial { ", one of several splits" } else { "" };
    Instance {
        entry: String::new(),
        source,
        block: 128 * groups,
        cluster: 1,
        blocks_per_sm: None,
        shared_bytes: shared,
        param_bytes: param_bytes as u32,
        doc: format!("decode attention, {}{part}", describe(spec)),
    }
    .named("decode")
}

/// Results of splits into one.
pub fn combine_instance(dtype: DType, value_dim: u32) -> Instance {
    let t = type_name(dtype);
    let source = format!(
        "#include \"scalar/device.cuh\"\n#include \"attention/combine.cuh\"\n\n\
         extern \"C\" __global__ void __launch_bounds__(zf::COMBINE_THREADS) {}(const __grid_constant__ zf_combine_params p) {{\n    \
         zf::combine<zf_{t}, {value_dim}, {MAX_SPLITS}>(p);\n}}\n",
        Instance::ENTRY,
    );
    Instance {
        entry: String::new(),
        source,
        block: COMBINE_ROWS as u32 * 32,
        cluster: 1,
        blocks_per_sm: None,
        shared_bytes: 0,
        param_bytes: size_of::<zf_combine_params>() as u32,
        doc: format!("decode attention, {t}, value dim {value_dim}: splits into one"),
    }
    .named("combine")
}

/// New rows into the cache.
pub fn append_instance(spec: &DecodeSpec) -> Instance {
    let source = format!(
        "#include \"scalar/device.cuh\"\n#include \"attention/append.cuh\"\n\n{}\n\
         extern \"C\" __global__ void __launch_bounds__(zf::APPEND_THREADS) {}(const __grid_constant__ zf_append_params p) {{\n    \
         zf::append<Config>(p);\n}}\n",
        config(
            &DecodeSpec { softcap: false, alibi: false, copies: Copies::Threads, ..*spec },
            false
        ),
        Instance::ENTRY,
    );
    Instance {
        entry: String::new(),
        source,
        block: APPEND_THREADS as u32,
        cluster: 1,
        blocks_per_sm: None,
        shared_bytes: 0,
        param_bytes: size_of::<zf_append_params>() as u32,
        doc: format!("KV append, {}", describe(spec)),
    }
    .named("append")
}
