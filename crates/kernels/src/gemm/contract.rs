//! What kernels of the family accept, as far as it depends on types and tiles.

use super::{Element, FAMILY, Major, Spec, Store, Variant};
use crate::Refusal;

/// Most operands of an epilogue (`ZF_MAX_EPILOGUE_OPERANDS`).
const MAX_EXTRA: usize = zeroforge_artifact::abi::ZF_MAX_EPILOGUE_OPERANDS as usize;

fn refuse<T>(argument: &str, rule: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(FAMILY, argument, rule))
}

/// Whether a variant can compute a spec.
///
/// # Errors
/// The part of the spec that it cannot.
pub(super) fn check(spec: &Spec, variant: &Variant) -> Result<(), Refusal> {
    let sixteen_bits = matches!(spec.operands, Element::Bf16 | Element::F16);
    if matches!(spec.operands, Element::F32 | Element::I32) {
        return refuse(
            "operands",
            format!("are {:?}; these products take bf16, f16, e4m3 and i8", spec.operands),
        );
    }
    for (name, major) in [("a", spec.a_major), ("b", spec.b_major)] {
        if major == Major::Mn && !sixteen_bits {
            return refuse(
                name,
                "is not contiguous along K; 8-bit operands must be, store it transposed",
            );
        }
    }
    if (spec.out == Element::I32) != (spec.operands == Element::I8 && spec.out == Element::I32) {
        return refuse("c", "is i32, which only products of i8 are");
    }
    let exact = spec.epilogue == super::Epilogue::default();
    if spec.out == Element::I32 && !exact && spec.epilogue.text.is_none() {
        return refuse(
            "c",
            "is i32, but the steps of an epilogue compute in f32; choose a float type",
        );
    }
    let extras = spec.epilogue.elements().len();
    if extras > MAX_EXTRA {
        return refuse("extra", format!("has {extras} operands; at most {MAX_EXTRA} are allowed"));
    }
    let columns = spec.tile_columns(variant);
    let gated = spec.epilogue.gate.is_some();
    if gated && spec.epilogue.text.is_some() {
        return refuse("epilogue", "has a gate and a text; a text is given for sums without gate");
    }
    match spec.store {
        Store::Lanes if columns % 32 != 0 => {
            return refuse(
                "variant",
                format!("has tiles of {columns} columns; 32 are stored at a time"),
            );
        }
        Store::Copies if columns * spec.out.bytes() % 128 != 0 => {
            return refuse(
                "variant",
                format!(
                    "has rows of {} bytes; copies store 128 at a time",
                    columns * spec.out.bytes()
                ),
            );
        }
        Store::Transposed if spec.out.bytes() != 2 || columns % 64 != 0 || spec.conv.is_some() => {
            return refuse(
                "store",
                "is transposed, which products of 16-bit results and tiles of at least 64 columns can be",
            );
        }
        _ => (),
    }
    if spec.b_major == Major::Mn {
        let boxes = i64::from(variant.columns) / 64;
        let shares = if gated { 2 } else { 1 } * i64::from(variant.cluster.max(1));
        let whole = if gated { 2 } else { i64::from(variant.cluster) };
        if !variant.columns.is_multiple_of(64) || boxes % whole != 0 || shares > 2 * boxes {
            return refuse(
                "b",
                format!(
                    "is contiguous along N: {} columns cannot be split into panels of 64",
                    variant.columns
                ),
            );
        }
    }
    if spec.block_scales {
        if spec.operands != Element::E4m3 {
            return refuse("a_scale", "is per block of K, which e4m3 operands have");
        }
        if gated || spec.conv.is_some() || variant.columns > 128 {
            return refuse(
                "a_scale",
                "is per block of K, which tiles of at most 128 columns without gate can have",
            );
        }
    }
    if spec.grouped
        && (spec.store != Store::Lanes || variant.split || spec.row_squares || spec.conv.is_some())
    {
        return refuse(
            "groups",
            "end anywhere: results are stored by lanes, tiles are not split, rows have no squares",
        );
    }
    if let Some(conv) = &spec.conv {
        if spec.a_major != Major::K || spec.b_major != Major::K {
            return refuse("conv", "takes images and filters with contiguous channels");
        }
        if conv.patch.iter().product::<u32>() != 64 {
            return refuse(
                "conv",
                format!("has patches of {:?} outputs, which are not 64", conv.patch),
            );
        }
        for i in 0..3 {
            let span = (conv.patch[i] - 1) * conv.stride[i] + 1;
            if conv.taps[i] == 0
                || conv.dilation[i] == 0
                || !(1..=8).contains(&conv.stride[i])
                || span > 256
            {
                return refuse(
                    "conv",
                    format!(
                        "has taps {:?}, stride {:?}, dilation {:?}; taps and dilation are at least 1, strides 1 to 8",
                        conv.taps, conv.stride, conv.dilation
                    ),
                );
            }
        }
    }
    Ok(())
}
