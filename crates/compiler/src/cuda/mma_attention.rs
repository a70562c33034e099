//! Attention by mma.sync: tile choice around `kernels/attention/mma_attention.cuh`, which any strides suit.

use std::fmt::Write;

use zeroforge_artifact::abi::zf_attention_params;

use super::{ENTRY, Generated, staged_type};
use crate::c_expression::memory_type;
use crate::kernel_spec::{AttentionSpec, MaskKind};

/// Queries of a block; `AttentionTile::QUERIES`.
const QUERIES: i64 = 64;
/// Threads of a block; `AttentionTile::THREADS`.
const THREADS: u32 = 128;

/// Generates the kernel.
pub(super) fn generate(spec: &AttentionSpec) -> Result<Generated, std::fmt::Error> {
    let staged = staged_type(&[spec.dtype]);
    let element = if staged == "float" { 4 } else { 2 };
    let pad = |d: i64| (d + 15) / 16 * 16 + 16 / element;
    let (k_pitch, v_pitch) = (pad(spec.head_dim), pad(spec.value_dim));
    let shared = |keys: i64| ((QUERIES + keys) * k_pitch + keys * v_pitch) * element;
    // Long rows take shorter blocks of keys: half an SM's shared memory, so that two blocks fit.
    let keys = [64, 32, 16].into_iter().find(|&n| shared(n) <= 113 * 1024).unwrap_or(16);
    let ty = memory_type(spec.dtype);
    let (mask, mask_ty) = match spec.mask {
        MaskKind::None => ("NONE", "uint8_t"),
        MaskKind::Bool => ("BOOL", "uint8_t"),
        MaskKind::Additive(dtype) => ("ADDITIVE", memory_type(dtype)),
    };
    let mut c = String::new();
    for header in [
        "scalar/device.cuh",
        "ptx/launch.cuh",
        "ptx/cp_async.cuh",
        "ptx/ldmatrix.cuh",
        "ptx/mma.cuh",
        "tile/load.cuh",
        "tile/fragment.cuh",
        "attention/mma_attention.cuh",
    ] {
        writeln!(c, "#include \"{header}\"")?;
    }
    let shared = shared(keys);
    writeln!(c, "\nZF_KERNEL({ENTRY}, zf_attention_params, p, {THREADS}, {shared}) {{")?;
    writeln!(
        c,
        "    using Tile = zf::AttentionTile<{ty}, {staged}, {}, {}, {keys}, zf::MaskKind::{mask}, {mask_ty}, {}, {}>;",
        spec.head_dim, spec.value_dim, spec.causal, spec.window
    )?;
    writeln!(
        c,
        "    static_assert(Tile::SHARED_BYTES == {shared} && Tile::QUERIES == {QUERIES} && Tile::THREADS == {THREADS}, \"the launch gives what the tile takes\");"
    )?;
    writeln!(c, "    ZF_DYNAMIC_SHARED(shared);")?;
    writeln!(c, "    zf::mma_attention<Tile>(p, shared);")?;
    writeln!(c, "}}")?;
    Ok(Generated {
        text: c,
        kind: "attention",
        block: THREADS,
        shared_bytes: shared,
        param_bytes: size_of::<zf_attention_params>() as u32,
        cluster: 1,
        tile: [QUERIES, 0, 0, 0],
    })
}
