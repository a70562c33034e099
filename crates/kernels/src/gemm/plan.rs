//! The launch of an instance: tensor maps, strides and grid of sizes that may be symbolic.

use std::mem::offset_of;

use zeroforge_artifact::Expr;
use zeroforge_artifact::abi::{zf_operand, zf_tensor_gemm_params as Block};
use zeroforge_artifact::program::{Param, ParamValue};
use zeroforge_artifact::tensor_map::{DataType, L2Promotion, Swizzle, TensorMap};

use super::source::b_box;
use super::{
    Element, FAMILY, MAX_SPLIT_BLOCKS, MIN_PART_BLOCKS, Major, SWIZZLE_BYTES, Spec, Store,
    UNIT_ROWS, Variant, contract,
};
use crate::{Plan, Refusal};

/// Row tiles that are walked together: with 8, the 60 or 132 tiles that run at once are about square.
const BAND: i32 = 8;
/// What addresses and strides of tensor copies are multiples of, in bytes.
const COPY_ALIGN: i64 = 16;

/// A view of a buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// Number of the buffer.
    pub buffer: u32,
    /// Bytes from its start.
    pub offset: Expr,
    /// Strides in elements. A: {b0, b1, row, k}; B: {b0, b1 or group, column, k}; C and extra operands: {b0, b1,
    /// row, column}; scales: {b0, b1, row or block of 128 columns, block of 128 of K}. Of a convolution: A {image,
    /// z, y, x}, B {0, filter, tap, 1}.
    pub strides: [Expr; 4],
}

/// Extents of a convolution (x, y, z, images).
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// Of the image.
    pub input: [Expr; 4],
    /// Of the result.
    pub output: [Expr; 4],
}

/// Operands and sizes of a launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Arguments {
    /// Batch extents.
    pub batch: [Expr; 2],
    /// Rows of C: of all groups; of a convolution, output positions.
    pub m: Expr,
    /// Columns of C; B of a gated product has twice as many.
    pub n: Expr,
    /// Length of the sums; of a convolution, channels.
    pub k: Expr,
    /// A.
    pub a: Operand,
    /// B.
    pub b: Operand,
    /// C.
    pub c: Operand,
    /// Operands of the epilogue.
    pub extra: Vec<Operand>,
    /// Block scales of A and B.
    pub scales: Option<[Operand; 2]>,
    /// Buffer of the sums of squares.
    pub row_squares: Option<u32>,
    /// Buffer of the groups' ends (i32 each), and how many groups there are.
    pub groups: Option<(u32, Expr)>,
    /// Extents of a convolution.
    pub images: Option<Images>,
    /// Of a variant with `split`: a buffer of [`Plan::workspace`] bytes, and one of
    /// [`COUNTER_BYTES`](super::COUNTER_BYTES).
    pub split: Option<[u32; 2]>,
}

pub(super) fn constant(value: i64) -> Expr {
    Expr::constant(value)
}

pub(super) fn refuse<T>(argument: &str, rule: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(FAMILY, argument, rule))
}

fn data_type(element: Element) -> DataType {
    match element {
        Element::Bf16 => DataType::Bf16,
        Element::F16 => DataType::F16,
        Element::E4m3 | Element::I8 => DataType::U8,
        Element::F32 => DataType::F32,
        Element::I32 => DataType::I32,
    }
}

/// A tensor map, dimension by dimension.
pub(super) struct Map<'a> {
    argument: &'a str,
    element: Element,
    operand: &'a Operand,
    dims: Vec<Expr>,
    strides: Vec<Expr>,
    boxes: Vec<i64>,
    steps: Vec<u32>,
    swizzle: Swizzle,
}

impl<'a> Map<'a> {
    pub(super) fn new(
        argument: &'a str,
        element: Element,
        operand: &'a Operand,
        size: &Expr,
        of_box: i64,
    ) -> Map<'a> {
        Map {
            argument,
            element,
            operand,
            dims: vec![size.clone()],
            strides: Vec::new(),
            boxes: vec![of_box],
            steps: vec![1],
            swizzle: Swizzle::Bytes128,
        }
    }

    /// The next dimension: its size, stride in elements, and box.
    pub(super) fn dim(mut self, size: &Expr, stride: &Expr, of_box: i64, step: u32) -> Map<'a> {
        // The stride of an axis of one element is never used, but must be valid.
        let stride = if size.is(1) {
            constant(COPY_ALIGN)
        } else {
            stride.clone() * constant(self.element.bytes())
        };
        self.dims.push(size.clone());
        self.strides.push(stride);
        self.boxes.push(of_box);
        self.steps.push(step);
        self
    }

    /// Rows of 64 bytes whose units are exchanged in them, instead of 128.
    pub(super) fn narrow(mut self) -> Map<'a> {
        self.swizzle = Swizzle::Bytes64;
        self
    }

    pub(super) fn finish(self, at: usize) -> Result<Param, Refusal> {
        if !self.operand.offset.is_multiple_of(COPY_ALIGN as u64) {
            return refuse(
                self.argument,
                format!(
                    "starts at byte `{}`; tensor copies need a multiple of {COPY_ALIGN}",
                    self.operand.offset
                ),
            );
        }
        for stride in &self.strides {
            if !stride.is_multiple_of(COPY_ALIGN as u64)
                || stride.as_const().is_some_and(|s| s <= 0)
            {
                return refuse(
                    self.argument,
                    format!(
                        "has a stride of `{stride}` bytes; tensor copies need a positive multiple of {COPY_ALIGN}"
                    ),
                );
            }
        }
        let map = TensorMap {
            buffer: self.operand.buffer,
            offset: self.operand.offset.clone(),
            data_type: data_type(self.element),
            dims: self.dims,
            strides: self.strides,
            box_dims: self.boxes.iter().map(|&n| n as u32).collect(),
            element_strides: self.steps,
            swizzle: self.swizzle,
            l2_promotion: L2Promotion::Bytes256,
        };
        Ok(Param { at: at as u32, value: ParamValue::TensorMap(Box::new(map)) })
    }
}

/// Extent and stride of a batch axis, and whether the operand has it: an axis of stride 0 is shared.
pub(super) fn batch_axis(extent: &Expr, stride: &Expr) -> (Expr, Expr, i32) {
    if extent.is(1) || stride.is(0) {
        (constant(1), constant(0), 0)
    } else {
        (extent.clone(), stride.clone(), 1)
    }
}

pub(super) fn integer(at: usize, value: impl Into<Expr>) -> Param {
    Param { at: at as u32, value: ParamValue::I32(value.into()) }
}

pub(super) fn address(at: usize, buffer: u32, offset: &Expr) -> Param {
    Param { at: at as u32, value: ParamValue::Address { buffer, offset: offset.clone() } }
}

pub(super) fn operand(params: &mut Vec<Param>, at: usize, operand: &Operand) {
    params.push(address(at, operand.buffer, &operand.offset));
    for (i, stride) in operand.strides.iter().enumerate() {
        let at = at + offset_of!(zf_operand, stride) + 8 * i;
        params.push(Param { at: at as u32, value: ParamValue::I64(stride.clone()) });
    }
}

/// The launch of [`instance`](super::instance)`(spec, variant)` with these operands.
///
/// # Errors
/// The argument that does not keep the contract, and how.
pub fn plan(spec: &Spec, variant: &Variant, args: &Arguments) -> Result<Plan, Refusal> {
    contract::check(spec, variant)?;
    check(spec, args)?;
    if [&args.m, &args.n, &args.batch[0], &args.batch[1]].iter().any(|size| size.is(0)) {
        // Nothing to compute, and no tensor map can say so.
        let grid = [constant(0), constant(1), constant(1)];
        return Ok(Plan { grid, params: Vec::new(), workspace: constant(0) });
    }
    let mut params = Vec::new();
    let a_batch = maps(spec, variant, args, &mut params)?;
    operand(&mut params, offset_of!(Block, c), &args.c);
    for (i, extra) in args.extra.iter().enumerate() {
        operand(&mut params, offset_of!(Block, extra) + i * size_of::<zf_operand>(), extra);
    }
    if let Some([a, b]) = &args.scales {
        operand(&mut params, offset_of!(Block, a_scale), a);
        operand(&mut params, offset_of!(Block, b_scale), b);
    }
    let zero = constant(0);
    if let Some(buffer) = args.row_squares {
        params.push(address(offset_of!(Block, row_squares), buffer, &zero));
    }
    let groups = match &args.groups {
        Some((buffer, groups)) => {
            params.push(address(offset_of!(Block, group_ends), *buffer, &zero));
            groups.clone()
        }
        None => zero.clone(),
    };
    params.push(integer(offset_of!(Block, groups), groups.clone()));
    for (i, batch) in args.batch.iter().enumerate() {
        params.push(integer(offset_of!(Block, batch) + 4 * i, batch.clone()));
        params
            .push(integer(offset_of!(Block, a_batch) + 4 * i, constant(i64::from(a_batch[0][i]))));
        params
            .push(integer(offset_of!(Block, b_batch) + 4 * i, constant(i64::from(a_batch[1][i]))));
    }
    for (at, size) in [
        (offset_of!(Block, m), &args.m),
        (offset_of!(Block, n), &args.n),
        (offset_of!(Block, k), &args.k),
    ] {
        params.push(integer(at, size.clone()));
    }
    params.push(integer(offset_of!(Block, band), constant(i64::from(BAND))));
    if let Some(images) = &args.images {
        for (i, size) in images.output.iter().enumerate() {
            params.push(integer(offset_of!(Block, output) + 4 * i, size.clone()));
        }
    }
    let mut workspace = zero.clone();
    let grid = grid(spec, variant, args, &groups);
    if variant.split {
        let Some([partials, counters]) = args.split else {
            return refuse("split", "is missing: the variant needs a workspace and counters");
        };
        params.push(address(offset_of!(Block, partials), partials, &zero));
        params.push(address(offset_of!(Block, counters), counters, &zero));
        let tile = i64::from(variant.rows) * i64::from(variant.columns) * 4;
        workspace = grid.minimum(&constant(MAX_SPLIT_BLOCKS)) * constant(tile);
    }
    params.sort_by_key(|p| p.at);
    Ok(Plan { grid: [grid, constant(1), constant(1)], params, workspace })
}

/// Rules about sizes and presence of operands.
fn check(spec: &Spec, args: &Arguments) -> Result<(), Refusal> {
    let of_steps = spec.epilogue.elements().len();
    if args.extra.len() != of_steps {
        return refuse(
            "extra",
            format!("has {} operands; the epilogue reads {of_steps}", args.extra.len()),
        );
    }
    for (name, given, wanted) in [
        ("scales", args.scales.is_some(), spec.block_scales),
        ("row_squares", args.row_squares.is_some(), spec.row_squares),
        ("groups", args.groups.is_some(), spec.grouped),
        ("images", args.images.is_some(), spec.conv.is_some()),
    ] {
        if given != wanted {
            let word = if wanted { "is missing" } else { "is given" };
            return refuse(name, format!("{word}, which does not go with the spec"));
        }
    }
    if args.k.as_const().is_some_and(|k| k < 1) {
        return refuse(
            "k",
            format!("is {}; sums of nothing have no kernel, K is at least 1", args.k),
        );
    }
    for (name, size) in [("m", &args.m), ("n", &args.n), ("k", &args.k)] {
        if size.as_const().is_some_and(|n| !(0..1 << 30).contains(&n)) {
            return refuse(name, format!("is {size}; 0 to 2^30 are allowed"));
        }
    }
    if (spec.grouped || spec.conv.is_some()) && !(args.batch[0].is(1) && args.batch[1].is(1)) {
        return refuse("batch", "is not 1; groups and images are batches of their own");
    }
    let contiguous = |name: &str, operand: &Operand, axis: usize, size: &Expr| {
        if operand.strides[axis].is(1) || size.is(1) {
            return Ok(());
        }
        refuse(
            name,
            format!(
                "has stride `{}` along its contiguous axis; it must be 1",
                operand.strides[axis]
            ),
        )
    };
    if spec.conv.is_none() {
        let (a, b) = (spec.a_major == Major::K, spec.b_major == Major::K);
        contiguous("a", &args.a, if a { 3 } else { 2 }, if a { &args.k } else { &args.m })?;
        contiguous("b", &args.b, if b { 3 } else { 2 }, if b { &args.k } else { &args.n })?;
    } else {
        contiguous("b", &args.b, 3, &args.k)?;
    }
    match spec.store {
        Store::Lanes => Ok(()),
        Store::Copies => contiguous("c", &args.c, 3, &args.n),
        Store::Transposed => contiguous("c", &args.c, 2, &args.m),
    }
}

/// Writes the tensor maps; which batch axes A and B have.
fn maps(
    spec: &Spec,
    variant: &Variant,
    args: &Arguments,
    params: &mut Vec<Param>,
) -> Result<[[i32; 2]; 2], Refusal> {
    let one = constant(1);
    let block_k = spec.block_k();
    let n =
        if spec.epilogue.gate.is_some() { args.n.clone() * constant(2) } else { args.n.clone() };
    let columns = b_box(spec, variant);
    let of_c = SWIZZLE_BYTES / spec.out.bytes();
    let (at_a, at_b, at_c) =
        (offset_of!(Block, a_map), offset_of!(Block, b_map), offset_of!(Block, c_map));
    if let (Some(conv), Some(images)) = (&spec.conv, &args.images) {
        let [image, z, y, x] = &args.a.strides;
        let mut map = Map::new("a", spec.operands, &args.a, &args.k, block_k);
        for (i, stride) in [x, y, z].into_iter().enumerate() {
            let span = (conv.patch[i] - 1) * conv.stride[i] + 1;
            map = map.dim(&images.input[i], stride, i64::from(span), conv.stride[i]);
        }
        let map = map.dim(&images.input[3], image, i64::from(conv.patch[3]), 1);
        params.push(map.finish(at_a)?);
        let taps = constant(i64::from(conv.taps.iter().product::<u32>()));
        let [_, filter, tap, _] = &args.b.strides;
        let map = Map::new("b", spec.operands, &args.b, &args.k, block_k)
            .dim(&taps, tap, 1, 1)
            .dim(&n, filter, columns, 1)
            .dim(&one, &one, 1, 1);
        params.push(map.finish(at_b)?);
        if spec.store == Store::Copies {
            let mut map = Map::new("c", spec.out, &args.c, &args.n, of_c);
            let mut stride = args.c.strides[2].clone();
            for (size, of_patch) in images.output.iter().zip(conv.patch) {
                map = map.dim(size, &stride, i64::from(of_patch), 1);
                stride = stride * size.clone();
            }
            params.push(map.finish(at_c)?);
        }
        return Ok([[0; 2]; 2]);
    }
    let mut shared = [[0; 2]; 2];
    let batch = match &args.groups {
        Some((_, groups)) => [one.clone(), groups.clone()],
        None => args.batch.clone(),
    };
    for (i, (name, view, major, rows, of_box, at)) in [
        ("a", &args.a, spec.a_major, &args.m, i64::from(variant.rows), at_a),
        ("b", &args.b, spec.b_major, &n, columns, at_b),
    ]
    .into_iter()
    .enumerate()
    {
        let [b0, b1, row, k] = &view.strides;
        let of_groups = name == "a" && spec.grouped;
        let extents = if of_groups { [one.clone(), one.clone()] } else { batch.clone() };
        let (n1, s1, has1) = batch_axis(&extents[1], b1);
        let (n0, s0, has0) = batch_axis(&extents[0], b0);
        shared[i] = [has0, has1];
        let map = match major {
            Major::K => {
                Map::new(name, spec.operands, view, &args.k, block_k).dim(rows, row, of_box, 1)
            }
            Major::Mn => {
                Map::new(name, spec.operands, view, rows, UNIT_ROWS).dim(&args.k, k, block_k, 1)
            }
        };
        params.push(map.dim(&n1, &s1, 1, 1).dim(&n0, &s0, 1, 1).finish(at)?);
    }
    let [b0, b1, row, column] = &args.c.strides;
    let map = match spec.store {
        Store::Lanes => return Ok(shared),
        Store::Copies => {
            Map::new("c", spec.out, &args.c, &args.n, of_c).dim(&args.m, row, UNIT_ROWS, 1)
        }
        Store::Transposed => {
            Map::new("c", spec.out, &args.c, &args.m, UNIT_ROWS).dim(&args.n, column, 64, 1)
        }
    };
    params.push(map.dim(&args.batch[1], b1, 1, 1).dim(&args.batch[0], b0, 1, 1).finish(at_c)?);
    Ok(shared)
}

/// Blocks that have something to do, in whole clusters; the launch makes as many as the device holds.
fn grid(spec: &Spec, variant: &Variant, args: &Arguments, groups: &Expr) -> Expr {
    let rows = constant(i64::from(variant.rows));
    let mut row_tiles = args.m.ceil_div(&rows);
    let mut k_blocks = args.k.ceil_div(&constant(spec.block_k()));
    if let (Some(conv), Some(images)) = (&spec.conv, &args.images) {
        let patches =
            images.output.iter().zip(conv.patch).fold(constant(1), |n, (size, patch)| {
                n * size.ceil_div(&constant(i64::from(patch)))
            });
        row_tiles = patches.ceil_div(&constant(i64::from(variant.rows) / UNIT_ROWS));
        k_blocks = k_blocks * constant(i64::from(conv.taps.iter().product::<u32>()));
    }
    let cluster = constant(i64::from(variant.cluster));
    let row_units = row_tiles.ceil_div(&cluster) + groups.clone();
    let column_tiles = args.n.ceil_div(&constant(spec.tile_columns(variant)));
    let mut units = args.batch[0].clone() * args.batch[1].clone() * row_units * column_tiles;
    if variant.split {
        units = units * k_blocks.floor_div(&constant(MIN_PART_BLOCKS)).maximum(&constant(1));
    }
    units * cluster
}
