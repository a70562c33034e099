// C = A^T * B: A is [K, M], B is [K, N], bf16; C is [M, N], f32. Both operands are read with k as the slow
// dimension. Four warps multiply, a fifth copies.
#include "hopper.cuh"

constexpr int BM = 64, BN = 128, BK = 64, SLOTS = 2;

struct Shared {
    bf16 a[SLOTS][BK * BM];
    bf16 b[SLOTS][2][BK * 64];
    uint64 full[SLOTS], empty[SLOTS];
};

extern "C" __global__ void __launch_bounds__(160, 1)
gemm_mn_major(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float *c, int n,
              int k) {
    extern __shared__ __align__(1024) unsigned char memory[];
    Shared &s = *(Shared *)memory;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        for (int i = 0; i < SLOTS; i++) {
            mbarrier_init(&s.full[i], 1);
            mbarrier_init(&s.empty[i], 4);
        }
        fence_mbarrier_init();
    }
    __syncthreads();
    if (warp == 4) {
        if (lane == 0) {
            #pragma unroll 1
            for (int t = 0; t < k / BK; t++) {
                int slot = t % SLOTS;
                mbarrier_wait(&s.empty[slot], (t / SLOTS & 1) ^ 1);
                mbarrier_arrive_expect_tx(&s.full[slot], (BM + BN) * BK * sizeof(bf16));
                tma_load_2d(s.a[slot], &a, &s.full[slot], blockIdx.y * BM, t * BK);
                tma_load_2d(s.b[slot][0], &b, &s.full[slot], blockIdx.x * BN, t * BK);
                tma_load_2d(s.b[slot][1], &b, &s.full[slot], blockIdx.x * BN + 64, t * BK);
            }
        }
        return;
    }
    float d[64] = {};
    #pragma unroll 1
    for (int t = 0; t < k / BK; t++) {
        int slot = t % SLOTS;
        mbarrier_wait(&s.full[slot], t / SLOTS & 1);
        keep(d);
        wgmma_fence();
        #pragma unroll
        for (int i = 0; i < BK; i += 16) {
            uint64 da = descriptor(s.a[slot] + i * 64, 8192, 1024);
            uint64 db = descriptor(s.b[slot][0] + i * 64, 8192, 1024);
            wgmma_m64n128k16<1, 1>(d, da, db);
        }
        wgmma_commit_group();
        wgmma_wait_group<0>();
        if (lane == 0) mbarrier_arrive(&s.empty[slot]);
    }
    int row = blockIdx.y * BM + warp * 16 + lane / 4;
    int column = blockIdx.x * BN + lane % 4 * 2;
    #pragma unroll
    for (int j = 0; j < 16; j++) {
        float *at = c + (size_t)row * n + column + 8 * j;
        *(float2 *)at = make_float2(d[4 * j], d[4 * j + 1]);
        *(float2 *)(at + 8 * n) = make_float2(d[4 * j + 2], d[4 * j + 3]);
    }
}
