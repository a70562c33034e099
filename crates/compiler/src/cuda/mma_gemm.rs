//! Contractions by mma.sync: tile choice and epilogue around `kernels/gemm/mma_gemm.cuh`, which any strides suit.

use std::fmt::Write;

use zeroforge_artifact::DType;
use zeroforge_artifact::abi::zf_gemm_params;

use super::{ENTRY, Generated, staged_type};
use crate::c_expression::{Names, definition, memory_type, to_memory, var};
use crate::kernel_spec::{BLayout, GemmSpec};
use crate::loop_ir::InstId;

/// How an epilogue's text names what it reads.
pub(super) struct EpilogueNames<'a>(pub(super) &'a GemmSpec);

impl Names for EpilogueNames<'_> {
    fn outer(&self, axis: u32) -> String {
        ["b0", "b1", "row", "column"].get(axis as usize).copied().unwrap_or("0").to_owned()
    }
    fn inner(&self, _: u32) -> String {
        "0".to_owned()
    }
    fn param(&self, index: u32) -> String {
        format!("p.extra[{}].stride[{}]", index / 4, index % 4)
    }
    fn acc(&self, _: u32) -> String {
        "acc".to_owned()
    }
    fn operand(&self, index: u32) -> (String, DType) {
        (format!("x{index}"), self.0.epilogue.extra[index as usize])
    }
}

/// A block's part of the result and how its warps share it.
struct Tile {
    rows: i64,
    columns: i64,
    depth: i64,
    warps: (i64, i64),
    stages: i64,
}

/// Few rows (decode): narrow tiles, so that many blocks share the reading of B. Larger results take
/// larger tiles, which read each operand less often.
fn tile(spec: &GemmSpec, element: i64) -> Tile {
    // 64 bytes of K per stage and row.
    let depth = 64 / element;
    let n = spec.n.unwrap_or(i64::MAX);
    match spec.m {
        Some(m) if m <= 16 => {
            Tile { rows: 16, columns: 64, depth: 2 * depth, warps: (1, 4), stages: 4 }
        }
        Some(m) if m <= 64 || n <= 64 => {
            Tile { rows: 64, columns: 64, depth, warps: (2, 2), stages: 3 }
        }
        // Unknown sizes are often small.
        None if element == 4 => Tile { rows: 64, columns: 64, depth, warps: (2, 2), stages: 3 },
        _ if element == 4 => Tile { rows: 128, columns: 64, depth, warps: (4, 2), stages: 3 },
        _ => Tile { rows: 128, columns: 128, depth, warps: (2, 4), stages: 3 },
    }
}

/// Writes the definitions of an epilogue; the value of C's memory type that it ends with.
pub(super) fn epilogue_body(
    c: &mut String,
    spec: &GemmSpec,
    acc: DType,
    names: &dyn Names,
) -> Result<String, std::fmt::Error> {
    let body = &spec.epilogue.body;
    for i in 0..body.insts.len() as u32 {
        writeln!(c, "        {} (void){};", definition(body, InstId(i), names), var(InstId(i)))?;
    }
    Ok(match spec.epilogue.result {
        Some(id) => to_memory(spec.c, body.inst(id).dtype, &var(id)),
        None => to_memory(spec.c, acc, "acc"),
    })
}

/// Generates the kernel.
pub(super) fn generate(spec: &GemmSpec) -> Result<Generated, std::fmt::Error> {
    let scalar = spec.a == DType::F64 || spec.b == DType::F64;
    let acc = if scalar { DType::F64 } else { DType::F32 };
    let acc_ty = memory_type(acc);
    let staged = staged_type(&[spec.a, spec.b]);
    let element = if staged == "float" { 4 } else { 2 };
    let t = tile(spec, element);
    let (layout, panel) = match spec.b_layout {
        BLayout::RowMajorNk => ("zf::BLayout::NK", 0),
        BLayout::RowMajorKn => ("zf::BLayout::KN", 0),
        BLayout::Panels { nr } => ("zf::BLayout::PANELS", nr),
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
        "gemm/mma_gemm.cuh",
    ] {
        writeln!(c, "#include \"{header}\"")?;
    }
    let (a, b) = (memory_type(spec.a), memory_type(spec.b));
    let threads = if scalar { 256 } else { 32 * t.warps.0 * t.warps.1 };
    let pad = 16 / element;
    let (b_rows, b_columns) = match spec.b_layout {
        BLayout::RowMajorNk => (t.columns, t.depth),
        _ => (t.depth, t.columns),
    };
    let shared = if scalar {
        0
    } else {
        t.stages * (t.rows * (t.depth + pad) + b_rows * (b_columns + pad)) * element
    };
    writeln!(c, "\nZF_KERNEL({ENTRY}, zf_gemm_params, p, {threads}, {shared}) {{")?;
    for (name, size) in [("m", spec.m), ("n", spec.n), ("k", spec.k)] {
        match size {
            Some(v) => writeln!(c, "    const int64_t {name} = {v};")?,
            None => writeln!(c, "    const int64_t {name} = p.{name};")?,
        }
    }
    let c_ty = memory_type(spec.c);
    for (i, dtype) in spec.epilogue.extra.iter().enumerate() {
        let ty = memory_type(*dtype);
        writeln!(c, "    const {ty} *const x{i} = (const {ty} *)p.extra[{i}].address;")?;
    }
    writeln!(
        c,
        "    auto store = [&](int64_t b0, int64_t b1, int64_t row, int64_t column, {acc_ty} acc) {{"
    )?;
    let value = epilogue_body(&mut c, spec, acc, &EpilogueNames(spec))?;
    writeln!(
        c,
        "        (({c_ty} *)p.c.address)[b0 * p.c.stride[0] + b1 * p.c.stride[1] + row * p.c.stride[2] + column] = {value};"
    )?;
    writeln!(c, "    }};")?;
    let grid_tile = if scalar {
        writeln!(
            c,
            "    zf::scalar_gemm<{a}, {b}, {acc_ty}, {layout}, {panel}>(p, m, n, k, store);"
        )?;
        [threads, 0, 1, 0]
    } else {
        writeln!(
            c,
            "    using Tile = zf::GemmTile<{a}, {b}, {staged}, {layout}, {panel}, {}, {}, {}, {}, {}, {}>;",
            t.rows, t.columns, t.depth, t.warps.0, t.warps.1, t.stages
        )?;
        writeln!(
            c,
            "    static_assert(Tile::SHARED_BYTES == {shared} && Tile::THREADS == {threads}, \"the launch gives what the tile takes\");"
        )?;
        writeln!(c, "    ZF_DYNAMIC_SHARED(shared);")?;
        writeln!(c, "    zf::mma_gemm<Tile>(p, m, n, k, shared, store);")?;
        [t.rows, t.columns, 0, 0]
    };
    writeln!(c, "}}")?;
    Ok(Generated {
        cluster: 1,
        text: c,
        kind: "gemm",
        block: threads as u32,
        shared_bytes: shared,
        param_bytes: size_of::<zf_gemm_params>() as u32,
        tile: grid_tile,
    })
}
