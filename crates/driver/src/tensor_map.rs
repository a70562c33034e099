//! Tensor maps.

use zeroforge_emulator::tensor_map::{
    DataType, Interleave, L2Promotion, MAX_RANK, OobFill, Swizzle, TensorMap, TensorMapError,
    TiledArguments,
};

use crate::abi::{In, Out};
use crate::error::{Error, Res};
use crate::log;

/// Writes an encoded map.
fn store(to: Out<[u8; 128]>, map: Result<TensorMap, TensorMapError>) -> Res<()> {
    match map {
        Ok(map) => to.set(map.encode()),
        Err(e) => {
            log::error(|| format!("tensor map: {e}"));
            Err(match e {
                TensorMapError::Unsupported { .. } => Error::NOT_SUPPORTED,
                _ => Error::INVALID_VALUE,
            })
        }
    }
}

api! {
    fn cuTensorMapEncodeTiled(
        to: Out<[u8; 128]>, dtype: u32, rank: u32, address: u64, dims: In<u64>, strides: In<u64>,
        box_dims: In<u32>, element_strides: In<u32>, interleave: u32, swizzle: u32, l2: u32, fill: u32,
    ) {
        if to.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        if !to.address().is_multiple_of(64) {
            // CUtensorMap has this alignment; what matters is that of the copy which the kernel gets, and that is checked there.
            log::once("tensor map alignment", || "a tensor map is encoded at an address that is no multiple of 64".to_owned());
        }
        let rank = usize::try_from(rank).ok().filter(|r| (1..=MAX_RANK).contains(r));
        let rank = rank.ok_or(Error::INVALID_VALUE)?;
        let numbers = (
            DataType::from_raw(dtype),
            Interleave::from_raw(interleave),
            Swizzle::from_raw(swizzle),
            L2Promotion::from_raw(l2),
            OobFill::from_raw(fill),
        );
        let (Some(dtype), Some(interleave), Some(swizzle), Some(l2_promotion), Some(oob_fill)) = numbers else {
            return Err(Error::INVALID_VALUE);
        };
        store(to, TensorMap::tiled(&TiledArguments {
            dtype,
            address,
            dims: &dims.list(rank)?,
            strides: &strides.list(rank - 1)?,
            box_dims: &box_dims.list(rank)?,
            element_strides: &element_strides.list(rank)?,
            interleave,
            swizzle,
            l2_promotion,
            oob_fill,
        }))
    }

    fn cuTensorMapReplaceAddress(map: Out<[u8; 128]>, address: u64) {
        let old = TensorMap::decode(&map.get()?);
        let new = old.and_then(|m| m.with_address(address));
        store(map, new)
    }
}
