//! Tensor maps: what is accepted, what is refused and by which name, and that bytes keep everything.

use zeroforge_emulator::tensor_map::{
    DataType, Interleave, L2Promotion, OobFill, Swizzle, TensorMap, TensorMapError, TiledArguments,
};

const GOOD: TiledArguments<'static> = TiledArguments {
    dtype: DataType::Bfloat16,
    address: 0x2000_0000_0400,
    dims: &[4096, 1 << 32, 7],
    strides: &[8192, (1 << 40) - 16],
    box_dims: &[64, 128, 5],
    element_strides: &[1, 1, 2],
    interleave: Interleave::None,
    swizzle: Swizzle::Bytes128,
    l2_promotion: L2Promotion::Bytes256,
    oob_fill: OobFill::NanRequestZeroFma,
};

#[test]
fn bytes_keep_every_argument() {
    let map = TensorMap::tiled(&GOOD).expect("valid");
    let again = TensorMap::decode(&map.encode()).expect("decodes");
    assert_eq!(again, map);
    assert_eq!(again.dtype(), GOOD.dtype);
    assert_eq!(again.address(), GOOD.address);
    assert_eq!(again.dims(), GOOD.dims);
    assert_eq!(again.strides(), GOOD.strides);
    assert_eq!(again.box_dims(), GOOD.box_dims);
    assert_eq!(again.element_strides(), GOOD.element_strides);
    assert_eq!(again.swizzle(), GOOD.swizzle);
    assert_eq!(again.oob_fill(), GOOD.oob_fill);
    // Every second of 5 elements: 3.
    assert_eq!(again.box_bytes(), 64 * 128 * 3 * 2);
}

#[test]
fn every_changed_bit_is_noticed() {
    let bytes = TensorMap::tiled(&GOOD).expect("valid").encode();
    for bit in 0..1024 {
        let mut bad = bytes;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(
            matches!(TensorMap::decode(&bad), Err(TensorMapError::NotATensorMap(_))),
            "bit {bit} can be changed unnoticed"
        );
    }
    assert!(TensorMap::decode(&[0; 128]).is_err());
}

/// The argument that an error names.
fn refused(change: impl FnOnce(&mut TiledArguments<'_>)) -> (&'static str, Option<usize>) {
    let mut arguments = GOOD;
    change(&mut arguments);
    match TensorMap::tiled(&arguments) {
        Err(TensorMapError::Invalid { argument, index, .. }) => (argument, index),
        other => panic!("{arguments:?} gave {other:?}"),
    }
}

#[test]
fn each_rule_names_its_argument() {
    assert_eq!(refused(|a| a.dims = &[]), ("tensorRank", None));
    assert_eq!(refused(|a| a.dims = &[1; 6]), ("tensorRank", None));
    assert_eq!(refused(|a| a.strides = &[16]), ("globalStrides", None));
    assert_eq!(refused(|a| a.box_dims = &[64]), ("boxDim", None));
    assert_eq!(refused(|a| a.element_strides = &[1]), ("elementStrides", None));
    assert_eq!(refused(|a| a.address = 0), ("globalAddress", None));
    assert_eq!(refused(|a| a.address += 8), ("globalAddress", None));
    assert_eq!(refused(|a| a.dims = &[1, 0, 1]), ("globalDim", Some(1)));
    assert_eq!(refused(|a| a.dims = &[1, 1, (1 << 32) + 1]), ("globalDim", Some(2)));
    assert_eq!(refused(|a| a.strides = &[24, 16]), ("globalStrides", Some(0)));
    assert_eq!(refused(|a| a.strides = &[16, 1 << 40]), ("globalStrides", Some(1)));
    assert_eq!(refused(|a| a.box_dims = &[64, 0, 1]), ("boxDim", Some(1)));
    assert_eq!(refused(|a| a.box_dims = &[64, 1, 257]), ("boxDim", Some(2)));
    assert_eq!(refused(|a| a.box_dims = &[60, 1, 1]), ("boxDim", Some(0)));
    // 72 * 2 bytes do not fit a span of 128.
    assert_eq!(refused(|a| a.box_dims = &[72, 1, 1]), ("boxDim", Some(0)));
    assert_eq!(refused(|a| a.element_strides = &[1, 9, 1]), ("elementStrides", Some(1)));
    assert_eq!(refused(|a| a.element_strides = &[1, 1, 0]), ("elementStrides", Some(2)));
    assert_eq!(refused(|a| a.dtype = DataType::Uint16), ("oobFill", None));
    assert_eq!(refused(|a| a.interleave = Interleave::Bytes32), ("globalStrides", Some(1)));
    let interleaved = |a: &mut TiledArguments<'_>| {
        a.interleave = Interleave::Bytes32;
        a.strides = &[64, 4096];
    };
    assert_eq!(refused(interleaved), ("swizzle", None));
    assert_eq!(
        refused(|a| {
            a.interleave = Interleave::Bytes16;
            (a.dims, a.strides, a.box_dims, a.element_strides) =
                (&[64, 8], &[128], &[8, 8], &[1; 2]);
        }),
        ("tensorRank", None)
    );
}

#[test]
fn what_is_valid_but_not_emulated_is_refused_as_such() {
    let unsupported = |arguments: &TiledArguments<'_>| match TensorMap::tiled(arguments) {
        Err(TensorMapError::Unsupported { argument, .. }) => argument,
        other => panic!("{other:?}"),
    };
    let interleaved = TiledArguments { interleave: Interleave::Bytes16, ..GOOD };
    assert_eq!(unsupported(&interleaved), "interleave");
    let atoms = TiledArguments { swizzle: Swizzle::Bytes128Atom32, ..GOOD };
    assert_eq!(unsupported(&atoms), "swizzle");
    let packed =
        TiledArguments { dtype: DataType::Packed16U4Align8B, oob_fill: OobFill::Zero, ..GOOD };
    assert_eq!(unsupported(&packed), "tensorDataType");
}
