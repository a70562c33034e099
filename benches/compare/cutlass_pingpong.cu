// CUTLASS's persistent ping-pong kernel for bf16, as its collective builders make it for a tile of TILE_M x TILE_N x 64.
// Compiled only by `make compare-fa3`, from the headers of PyPI's nvidia-cutlass.
#include <cuda/std/type_traits>
// What CUTLASS takes from the host's library.
namespace std {
using cuda::std::is_pointer_v;
using cuda::std::void_t;
}
#include <cutlass/cutlass.h>
#include <cutlass/gemm/kernel/gemm_universal.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/epilogue/collective/collective_builder.hpp>

using namespace cute;
using TileShape = Shape<Int<TILE_M>, Int<TILE_N>, _64>;
using ClusterShape = Shape<_1, _1, _1>;
using Element = cutlass::bfloat16_t;
using Row = cutlass::layout::RowMajor;
using Column = cutlass::layout::ColumnMajor;
using Epilogue = cutlass::epilogue::collective::CollectiveBuilder<
    cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, TileShape, ClusterShape, cutlass::epilogue::collective::EpilogueTileAuto, float,
    float, Element, Row, 8, Element, Row, 8, cutlass::epilogue::TmaWarpSpecialized>::CollectiveOp;
using Mainloop = cutlass::gemm::collective::CollectiveBuilder<
    cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Element, Row, 8, Element, Column, 8, float, TileShape, ClusterShape,
    cutlass::gemm::collective::StageCountAutoCarveout<sizeof(typename Epilogue::SharedStorage)>,
    cutlass::gemm::KernelTmaWarpSpecializedPingpong>::CollectiveOp;
using Kernel = cutlass::gemm::kernel::GemmUniversal<Shape<int, int, int, int>, Mainloop, Epilogue>;

extern "C" __global__ void __launch_bounds__(Kernel::MaxThreadsPerBlock, 1)
cutlass_pingpong(const __grid_constant__ typename Kernel::Params params) {
    extern __shared__ __align__(1024) char memory[];
    Kernel kernel;
    kernel(params, memory);
}
