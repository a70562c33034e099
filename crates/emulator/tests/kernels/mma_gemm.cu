// C = A * B^T: A is [M, K], B is [N, K], bf16; C is [M, N], f32, on mma.sync. Four warps have 32 x 32 each of a
// tile of 64 x 64; three slots are filled with cp.async.
#include "hopper.cuh"

// Rows are padded by 16 bytes, so that the rows of a matrix lie in different banks.
constexpr int BK = 32, PITCH = BK + 8, SLOTS = 3;

struct Shared {
    bf16 a[SLOTS][64 * PITCH];
    bf16 b[SLOTS][64 * PITCH];
};

// A thread copies half of a row of each tile.
__device__ __forceinline__ void copy(Shared &s, const bf16 *a, const bf16 *b, int k, int tile) {
    int row = threadIdx.x / 2, half = threadIdx.x % 2 * 16, slot = tile % SLOTS;
    const bf16 *from_a = a + (size_t)(blockIdx.y * 64 + row) * k + tile * BK + half;
    const bf16 *from_b = b + (size_t)(blockIdx.x * 64 + row) * k + tile * BK + half;
    #pragma unroll
    for (int i = 0; i < 16; i += 8) {
        cp_async_16(s.a[slot] + row * PITCH + half + i, from_a + i);
        cp_async_16(s.b[slot] + row * PITCH + half + i, from_b + i);
    }
}

extern "C" __global__ void __launch_bounds__(128)
mma_gemm(const bf16 *a, const bf16 *b, float *c, int n, int k) {
    __shared__ __align__(16) Shared s;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int tiles = k / BK;
    for (int t = 0; t < SLOTS - 1; t++) {
        if (t < tiles) copy(s, a, b, k, t);
        cp_async_commit_group();
    }
    float d[2][4][4] = {};
    #pragma unroll 1
    for (int t = 0; t < tiles; t++) {
        cp_async_wait_group<SLOTS - 2>();
        __syncthreads();
        if (t + SLOTS - 1 < tiles) copy(s, a, b, k, t + SLOTS - 1);
        cp_async_commit_group();
        const bf16 *tile_a = s.a[t % SLOTS] + (warp / 2 * 32 + lane % 16) * PITCH + lane / 16 * 8;
        const bf16 *tile_b = s.b[t % SLOTS] + (warp % 2 * 32 + lane % 16) * PITCH + lane / 16 * 8;
        #pragma unroll
        for (int i = 0; i < BK; i += 16) {
            unsigned fa[2][4], fb[2][4];
            #pragma unroll
            for (int j = 0; j < 2; j++) {
                ldmatrix_x4(fa[j], tile_a + j * 16 * PITCH + i);
                ldmatrix_x4(fb[j], tile_b + j * 16 * PITCH + i);
            }
            #pragma unroll
            for (int j = 0; j < 8; j++) {
                mma_m16n8k16(d[j / 4][j % 4], fa[j / 4], fb[j % 4 / 2][j % 2], fb[j % 4 / 2][j % 2 + 2]);
            }
        }
    }
    int row = blockIdx.y * 64 + warp / 2 * 32 + lane / 4;
    int column = blockIdx.x * 64 + warp % 2 * 32 + lane % 4 * 2;
    #pragma unroll
    for (int j = 0; j < 8; j++) {
        float *at = c + (size_t)(row + j / 4 * 16) * n + column + j % 4 * 8;
        *(float2 *)at = make_float2(d[j / 4][j % 4][0], d[j / 4][j % 4][1]);
        *(float2 *)(at + 8 * n) = make_float2(d[j / 4][j % 4][2], d[j / 4][j % 4][3]);
    }
}
