//! Products of f32 on wgmma, as sums of tf32 products: the host half of `kernels/gemm/tf32_gemm.cuh`.
//!
//! Which layouts it takes, and why. wgmma reads tf32 operands from shared memory K-major only (16-bit types alone may
//! lie MN-major), so A must have its K axis contiguous, as activations do, and goes to shared memory as it is. B may
//! lie in any way a weight does ([`Weights`]): it is the operand that wgmma takes from registers, whose fragments
//! threads gather themselves. Both come by tensor copies: addresses and strides are multiples of 16 bytes (4 elements);
//! M, N and K are free, what is behind them reads as zero. Rows of panels are 16 columns at a time, so a panel's width is
//! a multiple of 16. C has its N axis contiguous and no other rule.

use std::fmt::Write;
use std::mem::offset_of;

use zeroforge_artifact::Expr;
use zeroforge_artifact::abi::{zf_operand, zf_tensor_gemm_params as Block};

use super::plan::{Map, batch_axis, constant, integer, operand, refuse};
use super::product::{Product, Weights, check_result};
use super::{Element, Epilogue};
use crate::{Instance, Plan, Refusal};

/// K of a slot (`zf::TF32_DEPTH`).
const DEPTH: i64 = 32;
/// Columns of a box of KN and panels (`zf::TF32_BOX_COLUMNS`).
const BOX_COLUMNS: i64 = 16;
/// Most rows of a tile: its accumulators are held twice.
const MAX_ROWS: i64 = 128;
/// Shared memory that a ring may take; an SM has 227 KiB for one block.
const RING_BYTES: u32 = 192 * 1024;
/// From this length on sums need two terms only: the error of the products left out grows like the root of K, that of
/// f32 sums like K.
const LONG_SUM: i64 = 256;

/// How many of its tf32 terms stand for an f32 number (`kernels/gemm/tf32_terms.cuh`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// One: a plain tf32 product, 10 bits of fraction.
    Tf32,
    /// Two, three products: as accurate as sums in f32 if these are long ([`Precision::f32`]).
    TwoTerms,
    /// Three, six products: every bit of f32.
    ThreeTerms,
}

impl Precision {
    /// Products on the tensor cores for one of the operands.
    pub fn products(self) -> u32 {
        match self {
            Precision::Tf32 => 1,
            Precision::TwoTerms => 3,
            Precision::ThreeTerms => 6,
        }
    }

    /// The accuracy of f32 for sums of `k` products, `None` if unknown.
    pub fn f32(k: Option<i64>) -> Precision {
        if k.is_some_and(|k| k >= LONG_SUM) { Precision::TwoTerms } else { Precision::ThreeTerms }
    }

    /// Terms of a number.
    pub fn terms(self) -> u32 {
        match self {
            Precision::Tf32 => 1,
            Precision::TwoTerms => 2,
            Precision::ThreeTerms => 3,
        }
    }
}

/// What a kernel computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// How B lies.
    pub weights: Weights,
    /// How accurate products are.
    pub precision: Precision,
    /// Type of C: f32, bf16 or f16.
    pub out: Element,
    /// What becomes of the sums; without a gate.
    pub epilogue: Epilogue,
}

/// How a kernel works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows of a tile: a multiple of 8, at most 128.
    pub rows: u32,
    /// Warpgroups that multiply, 64 columns each: 1 or 2.
    pub warpgroups: u32,
    /// Blocks of a cluster that share a tile, each a part of K: 1, 2, 4 or 8.
    pub split: u32,
}

impl Tile {
    /// Columns of a tile.
    pub fn columns(&self) -> u32 {
        64 * self.warpgroups
    }

    fn stages(&self, precision: Precision) -> u32 {
        let slot = (self.rows * precision.terms() + self.columns()) * 128;
        let partial = if self.split > 1 { self.partial_bytes() } else { 0 };
        ((RING_BYTES - partial) / slot).clamp(2, 6)
    }

    fn partial_bytes(&self) -> u32 {
        self.rows * (self.columns() + 4) * 4
    }

    /// Dynamic shared memory in bytes (`zf::Tf32Shared`).
    pub fn shared_bytes(&self, precision: Precision) -> u32 {
        let stages = self.stages(precision);
        let ring = stages * (self.rows * precision.terms() + self.columns()) * 128;
        let partial = if self.split > 1 { self.partial_bytes() } else { 16 };
        (ring + partial + stages * 24 + 16).next_multiple_of(1024)
    }

    fn check(&self) -> Result<(), Refusal> {
        if self.rows == 0 || !self.rows.is_multiple_of(8) || i64::from(self.rows) > MAX_ROWS {
            return refuse(
                "tile",
                format!("has {} rows; multiples of 8 up to {MAX_ROWS} are allowed", self.rows),
            );
        }
        if !matches!(self.warpgroups, 1 | 2) || !matches!(self.split, 1 | 2 | 4 | 8) {
            return refuse(
                "tile",
                format!(
                    "has {} warpgroups and {} parts; 1 or 2 and 1, 2, 4 or 8 are allowed",
                    self.warpgroups, self.split
                ),
            );
        }
        Ok(())
    }
}

/// The tile for a size, `None` where unknown, on a device of `sms` SMs: rows without waste, and as many blocks as SMs if
/// that takes narrow tiles or parts of K (of at least four slots).
pub fn select(
    batch: Option<i64>,
    m: Option<i64>,
    n: Option<i64>,
    k: Option<i64>,
    sms: i64,
) -> Tile {
    let rows = m.map_or(64, |m| {
        let tiles = (m.max(1) + MAX_ROWS - 1) / MAX_ROWS;
        let rows = (m.max(1) + tiles - 1) / tiles;
        (rows + 7) / 8 * 8
    });
    let (Some(batch), Some(m), Some(n)) = (batch, m, n) else {
        let warpgroups = if n.is_some_and(|n| n <= 64) { 1 } else { 2 };
        return Tile { rows: rows as u32, warpgroups, split: 1 };
    };
    let tiles = |columns: i64| {
        batch.max(1) * ((m + rows - 1) / rows).max(1) * ((n + columns - 1) / columns).max(1)
    };
    let warpgroups = if n <= 64 || tiles(128) * 2 <= sms { 1 } else { 2 };
    let tiles = tiles(64 * warpgroups);
    let blocks = k.map_or(1, |k| (k + DEPTH - 1) / DEPTH);
    let fits = |split: &i64| tiles * split <= sms && blocks >= 4 * split;
    let split = [8, 4, 2].into_iter().find(fits).unwrap_or(1);
    Tile { rows: rows as u32, warpgroups: warpgroups as u32, split: split as u32 }
}

/// Whether a kernel can be made.
fn check(spec: &Spec, tile: &Tile) -> Result<(), Refusal> {
    tile.check()?;
    check_result(spec.out, &spec.epilogue)?;
    if let Weights::Panels { columns } = spec.weights
        && (columns == 0 || i64::from(columns) % BOX_COLUMNS != 0)
    {
        return refuse(
            "b",
            format!("has panels of {columns} columns; multiples of {BOX_COLUMNS} are allowed"),
        );
    }
    Ok(())
}

/// Makes the kernel of a spec.
///
/// # Errors
/// What of the spec or the tile it cannot do.
pub fn instance(spec: &Spec, tile: &Tile) -> Result<Instance, Refusal> {
    check(spec, tile)?;
    let source = source(spec, tile).expect("writing to a string");
    let Tile { rows, split, .. } = *tile;
    Ok(Instance {
        entry: String::new(),
        source,
        block: 128 * (tile.warpgroups + 1),
        cluster: split,
        blocks_per_sm: Some(1),
        shared_bytes: tile.shared_bytes(spec.precision),
        param_bytes: size_of::<Block>() as u32,
        doc: format!(
            "tf32 gemm of {} products, {}, tile {rows}x{}, split {split}, {} out",
            spec.precision.products(),
            spec.weights,
            tile.columns(),
            spec.out
        ),
    }
    .named("gemm_tf32"))
}

fn source(spec: &Spec, tile: &Tile) -> Result<String, std::fmt::Error> {
    let mut c = String::new();
    for header in
        ["scalar/device.cuh", "ptx/wgmma.cuh", "gemm/element_store.cuh", "gemm/tf32_gemm.cuh"]
    {
        writeln!(c, "#include \"{header}\"")?;
    }
    let (layout, panel) = spec.weights.text();
    let Tile { rows, warpgroups, split } = *tile;
    writeln!(c, "\nZF_WGMMA_TF32({rows})\n")?;
    writeln!(
        c,
        "using Config = zf::Tf32Config<{layout}, {panel}, {rows}, {warpgroups}, {}, {split}, {}>;\n",
        spec.precision.terms(),
        tile.stages(spec.precision)
    )?;
    c.push_str(&spec.epilogue.functor("float", false));
    let cluster =
        if split > 1 { format!("__cluster_dims__({split}, 1, 1) ") } else { String::new() };
    writeln!(
        c,
        "extern \"C\" __global__ void __launch_bounds__(Config::THREADS, 1) {cluster}{}(const __grid_constant__ zf_tensor_gemm_params p) {{",
        Instance::ENTRY
    )?;
    writeln!(
        c,
        "    static_assert(sizeof(zf::Tf32Shared<Config>) <= {}, \"the launch gives what the ring takes\");",
        tile.shared_bytes(spec.precision)
    )?;
    writeln!(c, "    extern __shared__ __align__(1024) unsigned char memory[];")?;
    writeln!(c, "    const Epilogue epilogue{{p}};")?;
    writeln!(
        c,
        "    zf::tf32_gemm<Config>(p, memory, zf::ElementStore<{}, zf_tensor_gemm_params, Epilogue>{{p, epilogue}});\n}}",
        spec.out.text()
    )?;
    Ok(c)
}

/// The launch of [`instance`]`(spec, tile)` with these operands.
///
/// # Errors
/// The argument that does not keep the contract, and how.
pub fn plan(spec: &Spec, tile: &Tile, args: &Product) -> Result<Plan, Refusal> {
    check(spec, tile)?;
    args.check(&spec.epilogue)?;
    let mut params = Vec::new();
    let rows = constant(i64::from(tile.rows));
    let columns = constant(i64::from(tile.columns()));
    let (a1, sa1, has_a1) = batch_axis(&args.batch[1], &args.a.strides[1]);
    let (a0, sa0, has_a0) = batch_axis(&args.batch[0], &args.a.strides[0]);
    let a = Map::new("a", Element::F32, &args.a, &args.k, DEPTH)
        .dim(&args.m, &args.a.strides[2], i64::from(tile.rows), 1)
        .dim(&a1, &sa1, 1, 1)
        .dim(&a0, &sa0, 1, 1);
    params.push(a.finish(offset_of!(Block, a_map))?);
    let (b1, sb1, has_b1) = batch_axis(&args.batch[1], &args.b.strides[1]);
    let (b0, sb0, has_b0) = batch_axis(&args.batch[0], &args.b.strides[0]);
    let row = &args.b.strides[2];
    let b = match spec.weights {
        Weights::Nk => Map::new("b", Element::F32, &args.b, &args.k, DEPTH).dim(
            &args.n,
            row,
            i64::from(tile.columns()),
            1,
        ),
        Weights::Kn => Map::new("b", Element::F32, &args.b, &args.n, BOX_COLUMNS)
            .dim(&args.k, row, DEPTH, 1)
            .narrow(),
        Weights::Panels { columns } => {
            let width = constant(i64::from(columns));
            Map::new("b", Element::F32, &args.b, &width, BOX_COLUMNS)
                .dim(&args.k, &width, DEPTH, 1)
                .dim(&args.n.ceil_div(&width), row, 1, 1)
                .narrow()
        }
    };
    params.push(b.dim(&b1, &sb1, 1, 1).dim(&b0, &sb0, 1, 1).finish(offset_of!(Block, b_map))?);
    operand(&mut params, offset_of!(Block, c), &args.c);
    for (i, extra) in args.extra.iter().enumerate() {
        operand(&mut params, offset_of!(Block, extra) + i * size_of::<zf_operand>(), extra);
    }
    let sizes: [(usize, Expr); 9] = [
        (offset_of!(Block, batch), args.batch[0].clone()),
        (offset_of!(Block, batch) + 4, args.batch[1].clone()),
        (offset_of!(Block, a_batch), constant(i64::from(has_a0))),
        (offset_of!(Block, a_batch) + 4, constant(i64::from(has_a1))),
        (offset_of!(Block, b_batch), constant(i64::from(has_b0))),
        (offset_of!(Block, b_batch) + 4, constant(i64::from(has_b1))),
        (offset_of!(Block, m), args.m.clone()),
        (offset_of!(Block, n), args.n.clone()),
        (offset_of!(Block, k), args.k.clone()),
    ];
    params.extend(sizes.into_iter().map(|(at, value)| integer(at, value)));
    let tiles = args.batch[0].clone()
        * args.batch[1].clone()
        * args.m.ceil_div(&rows)
        * args.n.ceil_div(&columns);
    let grid = tiles * constant(i64::from(tile.split));
    params.sort_by_key(|param| param.at);
    Ok(Plan { grid: [grid, constant(1), constant(1)], params, workspace: constant(0) })
}
