//! The hand-written layers of `kernels/`, compiled into the binary.

/// A header as sources include it: name, and text of the file.
macro_rules! headers {
    ($($name:literal in $folder:literal,)*) => {
        /// Name as sources include it, and text.
        pub const DEVICE: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../kernels/", $folder, $name))),)*];
    };
}

headers! {
    "zeroforge/abi.h" in "include/",
    "zeroforge/integer.h" in "include/",
    "scalar/device.cuh" in "",
    "ptx/address.cuh" in "",
    "ptx/atomic.cuh" in "",
    "ptx/barrier.cuh" in "",
    "ptx/cluster.cuh" in "",
    "ptx/convert.cuh" in "",
    "ptx/cp_async.cuh" in "",
    "ptx/global.cuh" in "",
    "ptx/launch.cuh" in "",
    "ptx/ldmatrix.cuh" in "",
    "ptx/ld_global.cuh" in "",
    "ptx/math.cuh" in "",
    "ptx/mbarrier.cuh" in "",
    "ptx/mma.cuh" in "",
    "ptx/stmatrix.cuh" in "",
    "ptx/tensor_copy.cuh" in "",
    "ptx/wgmma.cuh" in "",
    "ptx/wgmma_operands.cuh" in "",
    "loop/fold.cuh" in "",
    "loop/packet.cuh" in "",
    "rows/embedding.cuh" in "",
    "rows/norm.cuh" in "",
    "rows/philox.cuh" in "",
    "rows/rotary.cuh" in "",
    "rows/row.cuh" in "",
    "rows/sample.cuh" in "",
    "rows/top_k.cuh" in "",
    "tile/load.cuh" in "",
    "tile/fragment.cuh" in "",
    "tile/shared.cuh" in "",
    "pipeline/ring.cuh" in "",
    "gemm/layout.cuh" in "",
    "gemm/element_store.cuh" in "",
    "gemm/mma_gemm.cuh" in "",
    "gemm/skinny.cuh" in "",
    "gemm/skinny_16bit.cuh" in "",
    "gemm/skinny_f32.cuh" in "",
    "gemm/tf32_gemm.cuh" in "",
    "gemm/tf32_terms.cuh" in "",
    "attention/epilogue.cuh" in "",
    "attention/forward.cuh" in "",
    "attention/mainloop.cuh" in "",
    "attention/mask.cuh" in "",
    "gemm/scheduler.cuh" in "",
    "gemm/mainloop.cuh" in "",
    "gemm/epilogue.cuh" in "",
    "gemm/tensor_gemm.cuh" in "",
    "attention/mma_attention.cuh" in "",
    "attention/scheduler.cuh" in "",
    "attention/softmax.cuh" in "",
    "attention/tile.cuh" in "",
}
