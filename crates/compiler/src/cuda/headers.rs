//! The hand-written layers of `kernels/`, compiled into the binary.

/// Name as generated sources include it, and text.
pub(super) const DEVICE: &[(&str, &str)] = &[
    ("zeroforge/abi.h", include_str!("../../../../kernels/include/zeroforge/abi.h")),
    ("zeroforge/integer.h", include_str!("../../../../kernels/include/zeroforge/integer.h")),
    ("scalar/device.cuh", include_str!("../../../../kernels/scalar/device.cuh")),
    ("ptx/convert.cuh", include_str!("../../../../kernels/ptx/convert.cuh")),
    ("ptx/cp_async.cuh", include_str!("../../../../kernels/ptx/cp_async.cuh")),
    ("ptx/global.cuh", include_str!("../../../../kernels/ptx/global.cuh")),
    ("ptx/launch.cuh", include_str!("../../../../kernels/ptx/launch.cuh")),
    ("ptx/ldmatrix.cuh", include_str!("../../../../kernels/ptx/ldmatrix.cuh")),
    ("ptx/mma.cuh", include_str!("../../../../kernels/ptx/mma.cuh")),
    ("loop/fold.cuh", include_str!("../../../../kernels/loop/fold.cuh")),
    ("loop/packet.cuh", include_str!("../../../../kernels/loop/packet.cuh")),
    ("tile/load.cuh", include_str!("../../../../kernels/tile/load.cuh")),
    ("tile/fragment.cuh", include_str!("../../../../kernels/tile/fragment.cuh")),
    ("gemm/mma_gemm.cuh", include_str!("../../../../kernels/gemm/mma_gemm.cuh")),
    (
        "attention/mma_attention.cuh",
        include_str!("../../../../kernels/attention/mma_attention.cuh"),
    ),
];
