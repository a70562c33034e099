// O = softmax(Q * K^T * scale) * V for one head of 64: Q and O are [queries, 64], K and V [keys, 64], bf16. One
// warp copies; two warpgroups have 64 queries each and take turns on the tensor cores.
#include "hopper.cuh"

constexpr int HEAD = 64, KEYS = 64, SLOTS = 2;

struct Shared {
    bf16 q[2][64 * HEAD];
    bf16 k[SLOTS][KEYS * HEAD];
    bf16 v[SLOTS][KEYS * HEAD];
    uint64 q_full, k_full[SLOTS], v_full[SLOTS], empty[SLOTS];
};

__device__ __forceinline__ void copy(Shared &s, const TensorMap *q, const TensorMap *k, const TensorMap *v,
                                     int blocks) {
    mbarrier_arrive_expect_tx(&s.q_full, sizeof(s.q));
    tma_load_2d(s.q[0], q, &s.q_full, 0, blockIdx.x * 128);
    tma_load_2d(s.q[1], q, &s.q_full, 0, blockIdx.x * 128 + 64);
    #pragma unroll 1
    for (int t = 0; t < blocks; t++) {
        int slot = t % SLOTS;
        mbarrier_wait(&s.empty[slot], (t / SLOTS & 1) ^ 1);
        mbarrier_arrive_expect_tx(&s.k_full[slot], sizeof(s.k[0]));
        tma_load_2d(s.k[slot], k, &s.k_full[slot], 0, t * KEYS);
        mbarrier_arrive_expect_tx(&s.v_full[slot], sizeof(s.v[0]));
        tma_load_2d(s.v[slot], v, &s.v_full[slot], 0, t * KEYS);
    }
}

// Maximum and sum of the four lanes that share a row.
__device__ __forceinline__ float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}

__device__ __forceinline__ float row_sum(float x) {
    x += __shfl_xor_sync(0xffffffff, x, 1);
    return x + __shfl_xor_sync(0xffffffff, x, 2);
}

extern "C" __global__ void __launch_bounds__(384, 1)
attention(const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
          const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap o, float scale, int blocks) {
    extern __shared__ __align__(1024) unsigned char memory[];
    Shared &s = *(Shared *)memory;
    int group = threadIdx.x / 128 - 1, thread = threadIdx.x % 128;
    if (threadIdx.x == 0) {
        mbarrier_init(&s.q_full, 1);
        for (int i = 0; i < SLOTS; i++) {
            mbarrier_init(&s.k_full[i], 1);
            mbarrier_init(&s.v_full[i], 1);
            mbarrier_init(&s.empty[i], 2);
        }
        fence_mbarrier_init();
    }
    __syncthreads();
    if (group < 0) {
        setmaxnreg_dec<24>();
        if (threadIdx.x == 0) copy(s, &q, &k, &v, blocks);
        return;
    }
    setmaxnreg_inc<240>();
    float out[32] = {};
    float most[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    mbarrier_wait(&s.q_full, 0);
    // The first group's turn comes first.
    if (group == 1) bar_arrive(1, 256);
    #pragma unroll 1
    for (int t = 0; t < blocks; t++) {
        int slot = t % SLOTS, parity = t / SLOTS & 1;
        float p[32] = {};
        mbarrier_wait(&s.k_full[slot], parity);
        bar_sync(1 + group, 256);
        keep(p);
        wgmma_fence();
        #pragma unroll
        for (int i = 0; i < HEAD; i += 16) {
            wgmma_m64n64k16<0, 0>(p, descriptor(s.q[group] + i, 16, 1024), descriptor(s.k[slot] + i, 16, 1024));
        }
        wgmma_commit_group();
        bar_arrive(2 - group, 256);
        wgmma_wait_group<0>();
        float before[2] = {most[0], most[1]};
        #pragma unroll
        for (int i = 0; i < 32; i++) {
            p[i] *= scale;
            most[i / 2 % 2] = fmaxf(most[i / 2 % 2], p[i]);
        }
        #pragma unroll
        for (int h = 0; h < 2; h++) {
            most[h] = row_max(most[h]);
            sum[h] *= ex2(before[h] - most[h]);
        }
        unsigned a[4][4];
        #pragma unroll
        for (int i = 0; i < 32; i++) {
            out[i] *= ex2(before[i / 2 % 2] - most[i / 2 % 2]);
            p[i] = ex2(p[i] - most[i / 2 % 2]);
            sum[i / 2 % 2] += p[i];
        }
        #pragma unroll
        for (int i = 0; i < 16; i++) a[i / 4][i % 4] = pack(p[2 * i], p[2 * i + 1]);
        mbarrier_wait(&s.v_full[slot], parity);
        keep(out);
        wgmma_fence();
        #pragma unroll
        for (int i = 0; i < 4; i++) {
            wgmma_m64n64k16_ra<1>(out, a[i], descriptor(s.v[slot] + i * 16 * HEAD, 8192, 1024));
        }
        wgmma_commit_group();
        wgmma_wait_group<0>();
        if (thread == 0) mbarrier_arrive(&s.empty[slot]);
    }
    // The second group's last arrival is for a turn that nobody takes.
    if (group == 0) bar_sync(1, 256);
    // The tile goes out through the queries' place: rows of 128 bytes in swizzled units of 16.
    int row = thread / 32 * 16 + thread % 32 / 4;
    float scales[2] = {1 / row_sum(sum[0]), 1 / row_sum(sum[1])};
    #pragma unroll
    for (int i = 0; i < 16; i++) {
        int r = row + i % 2 * 8, unit = (i / 2) ^ (r % 8);
        unsigned value = pack(out[2 * i] * scales[i % 2], out[2 * i + 1] * scales[i % 2]);
        *(unsigned *)(s.q[group] + r * HEAD + unit * 8 + thread % 4 * 2) = value;
    }
    fence_proxy_async();
    bar_sync(3 + group, 128);
    if (thread == 0) {
        tma_store_2d(&o, s.q[group], 0, blockIdx.x * 128 + group * 64);
        bulk_commit_group();
        bulk_wait_group_read<0>();
    }
}
