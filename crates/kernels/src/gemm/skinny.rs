//! Products of at most 16 rows of A, as decoding has them: the host half of `kernels/gemm/skinny.cuh`. B is read once,
//! which is all the time that such a product takes.
//!
//! Which layouts it takes, and why. B is read in pieces of 16 bytes, so its addresses and strides are multiples of 16
//! bytes, and a panel's width is whole pieces (of 4 f32, of 8 16-bit elements); at the end of K (NK) or N (KN) a piece may
//! be cut. Any layout of weights will do ([`Weights`]): f32 is multiplied element by element, and for 16-bit types a
//! piece of any layout is fragments of mma.sync once K or N are renumbered. A has its K axis contiguous and no other rule:
//! it is small, and copied to shared memory element by element. C has its N axis contiguous.

use std::fmt::Write;
use std::mem::offset_of;

use zeroforge_artifact::Expr;
use zeroforge_artifact::abi::{zf_gemm_params as Block, zf_operand};
use zeroforge_artifact::program::{Param, ParamValue};

use super::plan::{constant, operand, refuse};
use super::product::{Product, Weights, check_result};
use super::{Element, Epilogue};
use crate::{Instance, Plan, Refusal};

/// Most rows.
pub const MAX_ROWS: i64 = 16;
/// Bytes of a piece.
const PIECE: i64 = 16;
/// Shared memory that a chunk of A may take.
const CHUNK_BYTES: i64 = 32 * 1024;

/// What a kernel computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Type of A and B: f32, bf16 or f16.
    pub operands: Element,
    /// Type of C: f32, bf16 or f16.
    pub out: Element,
    /// How B lies.
    pub weights: Weights,
    /// What becomes of the sums; without a gate.
    pub epilogue: Epilogue,
}

/// How a kernel works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows of A, rounded up: 1, 2, 4, 8 or 16; 8 or 16 of 16-bit types.
    pub rows: u32,
    /// k's of A in shared memory at a time: a multiple of 64.
    pub chunk: u32,
    /// Blocks of a cluster that share a tile, each a part of K: 1, 2, 4 or 8.
    pub split: u32,
}

/// Columns and threads of a block.
#[derive(Clone, Copy)]
struct Shape {
    columns: i64,
    threads: i64,
    /// Partial tiles that meet in shared memory.
    slices: i64,
    /// Elements behind a row of A in shared memory.
    pad: i64,
}

impl Spec {
    fn shape(&self, rows: u32) -> Shape {
        match (self.operands, self.weights) {
            (Element::F32, Weights::Nk) => Shape { columns: 32, threads: 256, slices: 1, pad: 0 },
            (Element::F32, weights) => {
                let columns = match weights {
                    Weights::Panels { columns } => i64::from(columns),
                    _ => 32,
                };
                // Lanes along k: fewer for many rows, whose partial tiles take shared memory.
                let slices = if rows > 4 { 16 } else { 32 };
                Shape { columns, threads: columns / 4 * slices, slices, pad: 0 }
            }
            (_, Weights::Nk) => Shape { columns: 32, threads: 256, slices: 4, pad: 32 },
            _ => Shape { columns: 64, threads: 256, slices: 8, pad: 16 },
        }
    }

    /// Columns of a block's tile.
    pub fn tile_columns(&self) -> i64 {
        self.shape(1).columns
    }

    fn check(&self, tile: &Tile) -> Result<(), Refusal> {
        let of_type: &[u32] = match self.operands {
            Element::F32 => &[1, 2, 4, 8, 16],
            Element::Bf16 | Element::F16 => &[8, 16],
            other => {
                return refuse(
                    "operands",
                    format!("are {other:?}; skinny products take f32, bf16 and f16"),
                );
            }
        };
        check_result(self.out, &self.epilogue)?;
        if !of_type.contains(&tile.rows) {
            return refuse("tile", format!("has {} rows; {of_type:?} are allowed", tile.rows));
        }
        let bytes = self.operands.bytes();
        let least = self.shape(tile.rows).columns * 4 / bytes;
        if tile.chunk == 0 || !tile.chunk.is_multiple_of(64) || i64::from(tile.chunk) < least {
            return refuse(
                "tile",
                format!("has chunks of {}; multiples of 64 from {least} are allowed", tile.chunk),
            );
        }
        if !matches!(tile.split, 1 | 2 | 4 | 8) {
            return refuse("tile", format!("has {} parts; 1, 2, 4 or 8 are allowed", tile.split));
        }
        if let Weights::Panels { columns } = self.weights {
            let pieces = i64::from(columns) % (PIECE / bytes) == 0;
            // An f32 panel is a tile, whose lanes are whole warps.
            let narrow = bytes < 4 || (columns % 8 == 0 && columns <= 128);
            if columns == 0 || !pieces || !narrow {
                return refuse(
                    "b",
                    format!(
                        "has panels of {columns} columns; multiples of 8 are allowed, of f32 up to 128"
                    ),
                );
            }
        }
        let shared = self.shared_bytes(tile);
        if shared > 227 * 1024 {
            return refuse(
                "tile",
                format!("takes {shared} bytes of shared memory; an SM has 232448"),
            );
        }
        Ok(())
    }

    /// Dynamic shared memory in bytes: a chunk of A, partial tiles.
    fn shared_bytes(&self, tile: &Tile) -> i64 {
        let shape = self.shape(tile.rows);
        let rows = i64::from(tile.rows);
        let a = rows * (i64::from(tile.chunk) + shape.pad) * self.operands.bytes();
        a + shape.slices * rows * shape.columns * 4
    }
}

/// The tile for `m` rows and a size, `None` where unknown, on a device of `sms` SMs: parts of K (of at least 64) until
/// there are two blocks for every SM.
///
/// # Errors
/// If there are more than [`MAX_ROWS`] rows.
pub fn select(
    spec: &Spec,
    batch: Option<i64>,
    m: i64,
    n: Option<i64>,
    k: Option<i64>,
    sms: i64,
) -> Result<Tile, Refusal> {
    if !(1..=MAX_ROWS).contains(&m) {
        return refuse("m", format!("is {m}; skinny products have 1 to {MAX_ROWS} rows"));
    }
    let least = if spec.operands == Element::F32 { 1 } else { 8 };
    let rows = (m as u32).next_power_of_two().max(least);
    let shape = spec.shape(rows);
    let split: u32 = match (batch, n, k) {
        (Some(batch), Some(n), Some(k)) => {
            let tiles = batch.max(1) * ((n + shape.columns - 1) / shape.columns).max(1);
            let fits = |split: &i64| tiles * (split / 2) < 2 * sms && k >= 64 * split;
            [8, 4, 2].into_iter().find(fits).unwrap_or(1) as u32
        }
        _ => 1,
    };
    Tile::of(spec, m, k, split)
}

impl Tile {
    /// The tile of `m` rows whose sums of `k` products are in `split` parts.
    ///
    /// # Errors
    /// If there are no or more than [`MAX_ROWS`] rows.
    pub fn of(spec: &Spec, m: i64, k: Option<i64>, split: u32) -> Result<Tile, Refusal> {
        if !(1..=MAX_ROWS).contains(&m) {
            return refuse("m", format!("is {m}; skinny products have 1 to {MAX_ROWS} rows"));
        }
        let least = if spec.operands == Element::F32 { 1 } else { 8 };
        let rows = (m as u32).next_power_of_two().max(least);
        let shape = spec.shape(rows);
        let bytes = spec.operands.bytes();
        let most = CHUNK_BYTES / (i64::from(rows) * bytes) / 64 * 64;
        // A part is whole pieces of 32.
        let parts = i64::from(split.max(1));
        let part = k.map_or(most, |k| ((k + 31) / 32 + parts - 1) / parts * 32);
        let least = (shape.columns * 4 / bytes + 63) / 64 * 64;
        let chunk = ((part + 63) / 64 * 64).clamp(least, most.max(least));
        Ok(Tile { rows, chunk: chunk as u32, split })
    }
}

/// Makes the kernel of a spec.
///
/// # Errors
/// What of the spec or the tile it cannot do.
pub fn instance(spec: &Spec, tile: &Tile) -> Result<Instance, Refusal> {
    spec.check(tile)?;
    let source = source(spec, tile).expect("writing to a string");
    let shape = spec.shape(tile.rows);
    Ok(Instance {
        entry: String::new(),
        source,
        block: shape.threads as u32,
        cluster: tile.split,
        blocks_per_sm: None,
        shared_bytes: spec.shared_bytes(tile) as u32,
        param_bytes: size_of::<Block>() as u32,
        doc: format!(
            "skinny gemm of {}, {}, tile {}x{}, split {}, {} out",
            spec.operands, spec.weights, tile.rows, shape.columns, tile.split, spec.out
        ),
    }
    .named("gemm_skinny"))
}

fn source(spec: &Spec, tile: &Tile) -> Result<String, std::fmt::Error> {
    let mut c = String::new();
    let family = if spec.operands == Element::F32 { "skinny_f32" } else { "skinny_16bit" };
    for header in ["scalar/device.cuh", "gemm/element_store.cuh", &format!("gemm/{family}.cuh")] {
        writeln!(c, "#include \"{header}\"")?;
    }
    let shape = spec.shape(tile.rows);
    let (layout, panel) = spec.weights.text();
    let Tile { rows, chunk, split } = *tile;
    writeln!(
        c,
        "\nusing Config = zf::SkinnyConfig<{}, {layout}, {panel}, {rows}, {}, {}, {chunk}, {split}>;\n",
        spec.operands.text(),
        shape.columns,
        shape.threads
    )?;
    c.push_str(&spec.epilogue.functor_of("zf_gemm_params", "float", false));
    let cluster =
        if split > 1 { format!("__cluster_dims__({split}, 1, 1) ") } else { String::new() };
    writeln!(
        c,
        "extern \"C\" __global__ void __launch_bounds__(Config::THREADS, 2) {cluster}{}(const __grid_constant__ zf_gemm_params p) {{",
        Instance::ENTRY
    )?;
    writeln!(c, "    extern __shared__ __align__(16) unsigned char memory[];")?;
    writeln!(c, "    const Epilogue epilogue{{p}};")?;
    writeln!(
        c,
        "    zf::{family}<Config>(p, p.m, p.n, p.k, memory, zf::ElementStore<{}, zf_gemm_params, Epilogue>{{p, epilogue}});\n}}",
        spec.out.text()
    )?;
    Ok(c)
}

/// The launch of [`instance`]`(spec, tile)` with these operands.
///
/// # Errors
/// The argument that does not keep the contract, and how.
pub fn plan(spec: &Spec, tile: &Tile, args: &Product) -> Result<Plan, Refusal> {
    spec.check(tile)?;
    args.check(&spec.epilogue)?;
    if args.m.as_const().is_none_or(|m| m > i64::from(tile.rows)) {
        return refuse(
            "m",
            format!("is `{}`; this kernel has {} rows, and m must be known", args.m, tile.rows),
        );
    }
    let bytes = constant(spec.operands.bytes());
    if !args.b.offset.is_multiple_of(PIECE as u64) {
        return refuse(
            "b",
            format!("starts at byte `{}`; pieces of {PIECE} are read", args.b.offset),
        );
    }
    for stride in &args.b.strides[..3] {
        if !(stride.clone() * bytes.clone()).is_multiple_of(PIECE as u64) {
            return refuse(
                "b",
                format!(
                    "has a stride of `{stride}` elements; its bytes must be a multiple of {PIECE}"
                ),
            );
        }
    }
    let mut params = Vec::new();
    operand(&mut params, offset_of!(Block, a), &args.a);
    operand(&mut params, offset_of!(Block, b), &args.b);
    operand(&mut params, offset_of!(Block, c), &args.c);
    for (i, extra) in args.extra.iter().enumerate() {
        operand(&mut params, offset_of!(Block, extra) + i * size_of::<zf_operand>(), extra);
    }
    let sizes: [(usize, &Expr); 5] = [
        (offset_of!(Block, batch), &args.batch[0]),
        (offset_of!(Block, batch) + 8, &args.batch[1]),
        (offset_of!(Block, m), &args.m),
        (offset_of!(Block, n), &args.n),
        (offset_of!(Block, k), &args.k),
    ];
    for (at, size) in sizes {
        params.push(Param { at: at as u32, value: ParamValue::I64(size.clone()) });
    }
    let shape = spec.shape(tile.rows);
    let tiles =
        args.batch[0].clone() * args.batch[1].clone() * args.n.ceil_div(&constant(shape.columns));
    let grid = tiles * constant(i64::from(tile.split));
    params.sort_by_key(|param| param.at);
    Ok(Plan { grid: [grid, constant(1), constant(1)], params, workspace: constant(0) })
}
