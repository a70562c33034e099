// y = A * x and the sum of y over the rows of a cluster: A is [M, K], x is [K], f32, K a multiple of 64. Two
// blocks of a cluster have 64 rows each. They share x: each copies one half of it to both. The sums are put
// together in shared memory of the first block.
#include "hopper.cuh"

constexpr int ROWS = 64, BK = 64, SLOTS = 2;

struct Shared {
    float a[SLOTS][ROWS * 32 * 2];
    float x[SLOTS][BK];
    uint64 full[SLOTS], empty[SLOTS];
    float part[2];
    float sum;
};

extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(96, 1)
cluster_sum(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap x, float *y, float *sums,
            int k) {
    extern __shared__ __align__(1024) unsigned char memory[];
    Shared &s = *(Shared *)memory;
    unsigned rank = cluster_rank();
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        for (int i = 0; i < SLOTS; i++) {
            mbarrier_init(&s.full[i], 1);
            mbarrier_init(&s.empty[i], 4);
        }
        fence_mbarrier_init();
    }
    cluster_sync();
    if (warp == 2) {
        if (lane == 0) {
            #pragma unroll 1
            for (int t = 0; t < k / BK; t++) {
                int slot = t % SLOTS;
                mbarrier_wait_cluster(&s.empty[slot], (t / SLOTS & 1) ^ 1);
                mbarrier_arrive_expect_tx(&s.full[slot], (ROWS + 1) * BK * sizeof(float));
                tma_load_2d(s.a[slot], &a, &s.full[slot], t * BK, blockIdx.x * ROWS);
                tma_load_2d(s.a[slot] + ROWS * 32, &a, &s.full[slot], t * BK + 32, blockIdx.x * ROWS);
                tma_load_2d_multicast(s.x[slot] + 32 * rank, &x, &s.full[slot], t * BK + 32 * rank, 0, 3);
            }
        }
    } else {
        float total = 0;
        #pragma unroll 1
        for (int t = 0; t < k / BK; t++) {
            int slot = t % SLOTS;
            mbarrier_wait(&s.full[slot], t / SLOTS & 1);
            #pragma unroll 4
            for (int i = 0; i < BK; i++) {
                // Rows of 32 floats, in swizzled units of four.
                int unit = (i % 32 / 4) ^ (threadIdx.x % 8);
                total += s.a[slot][(i / 32 * ROWS + threadIdx.x) * 32 + unit * 4 + i % 4] * s.x[slot][i];
            }
            __syncwarp();
            if (lane < 2) mbarrier_arrive_at(&s.empty[slot], lane);
        }
        y[blockIdx.x * ROWS + threadIdx.x] = total;
        for (int i = 16; i > 0; i /= 2) total += __shfl_xor_sync(0xffffffff, total, i);
        if (lane == 0) s.part[warp] = total;
        bar_sync(1, 64);
        if (threadIdx.x == 0) s.sum = s.part[0] + s.part[1];
    }
    cluster_sync();
    if (rank == 0 && threadIdx.x == 0) {
        sums[blockIdx.x / 2] = s.sum + ld_shared_cluster(&s.sum, 1);
    }
    cluster_sync();
}
