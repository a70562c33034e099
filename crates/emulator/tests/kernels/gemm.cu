// C = A * B^T: A is [M, K], B is [N, K], bf16; C is [M, N], f32. One warp copies, two warpgroups multiply.
#include "hopper.cuh"

constexpr int BM = 128, BN = 64, BK = 64, SLOTS = 3;

struct Shared {
    bf16 a[SLOTS][BM * BK];
    bf16 b[SLOTS][BN * BK];
    uint64 full[SLOTS], empty[SLOTS];
};

__device__ __forceinline__ void copy(Shared &s, const TensorMap *a, const TensorMap *b, int tiles) {
    #pragma unroll 1
    for (int t = 0; t < tiles; t++) {
        int slot = t % SLOTS;
        mbarrier_wait(&s.empty[slot], (t / SLOTS & 1) ^ 1);
        mbarrier_arrive_expect_tx(&s.full[slot], (BM + BN) * BK * sizeof(bf16));
        tma_load_2d(s.a[slot], a, &s.full[slot], t * BK, blockIdx.y * BM);
        tma_load_2d(s.b[slot], b, &s.full[slot], t * BK, blockIdx.x * BN);
    }
}

__device__ __forceinline__ void multiply(Shared &s, float (&d)[32], int half, int tiles) {
    #pragma unroll 1
    for (int t = 0; t < tiles; t++) {
        int slot = t % SLOTS;
        mbarrier_wait(&s.full[slot], t / SLOTS & 1);
        keep(d);
        wgmma_fence();
        #pragma unroll
        for (int k = 0; k < BK; k += 16) {
            uint64 a = descriptor(s.a[slot] + half * 64 * BK + k, 16, 1024);
            uint64 b = descriptor(s.b[slot] + k, 16, 1024);
            wgmma_m64n64k16<0, 0>(d, a, b);
        }
        wgmma_commit_group();
        wgmma_wait_group<0>();
        if (threadIdx.x % 128 == 0) mbarrier_arrive(&s.empty[slot]);
    }
}

extern "C" __global__ void __launch_bounds__(384, 1)
gemm(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float *c, int n, int k) {
    extern __shared__ __align__(1024) unsigned char memory[];
    Shared &s = *(Shared *)memory;
    int group = threadIdx.x / 128;
    if (threadIdx.x == 0) {
        for (int i = 0; i < SLOTS; i++) {
            mbarrier_init(&s.full[i], 1);
            mbarrier_init(&s.empty[i], 2);
        }
        fence_mbarrier_init();
    }
    __syncthreads();
    if (group == 0) {
        setmaxnreg_dec<40>();
        if (threadIdx.x == 0) copy(s, &a, &b, k / BK);
        return;
    }
    setmaxnreg_inc<232>();
    float d[32] = {};
    multiply(s, d, group - 1, k / BK);
    int thread = threadIdx.x % 128;
    int row = blockIdx.y * BM + (group - 1) * 64 + thread / 32 * 16 + thread % 32 / 4;
    int column = blockIdx.x * BN + thread % 4 * 2;
    #pragma unroll
    for (int j = 0; j < 8; j++) {
        float *at = c + (size_t)row * n + column + 8 * j;
        *(float2 *)at = make_float2(d[4 * j], d[4 * j + 1]);
        *(float2 *)(at + 8 * n) = make_float2(d[4 * j + 2], d[4 * j + 3]);
    }
}
