// C[m, n] = sum_k A[m, k] * B[n, k] in bf16 with f32 sums: what a program can ask for beyond plain kernels. Both operands come
// by tensor map, tiles from a counter that the last block puts back to zero, and two blocks form a cluster.
typedef unsigned long long uint64_t;
typedef unsigned int uint32_t;
typedef unsigned short bf16;

struct alignas(64) TensorMap {
    uint64_t opaque[16];
};

struct Params {
    TensorMap a;      // [64, 16] of [k, m]
    TensorMap b;      // [64, 16] of [k, n]
    float *c;         // [m, n]
    uint32_t *counter; // tiles taken, blocks done
    uint64_t m, n, k;
};

constexpr int TILE = 16, DEPTH = 64, THREADS = TILE * TILE;

__device__ uint32_t shared(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

__device__ void load(void *to, const TensorMap *map, uint64_t *barrier, int x, int y) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(shared(to)),
        "l"(map), "r"(shared(barrier)), "r"(x), "r"(y)
        : "memory");
}

__device__ float wide(bf16 v) {
    return __uint_as_float((uint32_t)v << 16);
}

extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(THREADS)
    tile_product(const __grid_constant__ Params p) {
    __shared__ alignas(128) bf16 a[TILE * DEPTH], b[TILE * DEPTH];
    __shared__ uint64_t full;
    __shared__ uint32_t taken;
    const int row = threadIdx.x / TILE, column = threadIdx.x % TILE;
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared(&full)));
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    const uint32_t columns = (p.n + TILE - 1) / TILE, tiles = (p.m + TILE - 1) / TILE * columns;
    uint32_t phase = 0;
    while (true) {
        if (threadIdx.x == 0) {
            taken = atomicAdd(p.counter, 1);
        }
        __syncthreads();
        const uint32_t tile = taken;
        if (tile >= tiles) {
            break;
        }
        const uint32_t m0 = tile / columns * TILE, n0 = tile % columns * TILE;
        float sum = 0;
        for (int k0 = 0; k0 < p.k; k0 += DEPTH) {
            if (threadIdx.x == 0) {
                asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared(&full)),
                             "r"(2 * TILE * DEPTH * 2)
                             : "memory");
                load(a, &p.a, &full, k0, m0);
                load(b, &p.b, &full, k0, n0);
            }
            uint32_t done = 0;
            while (!done) {
                asm volatile(
                    "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                    : "=r"(done)
                    : "r"(shared(&full)), "r"(phase)
                    : "memory");
            }
            phase ^= 1;
            // Elements outside of the tensors are zeros.
            for (int k = 0; k < DEPTH; k++) {
                sum += wide(a[row * DEPTH + k]) * wide(b[column * DEPTH + k]);
            }
            __syncthreads();
        }
        if (m0 + row < p.m && n0 + column < p.n) {
            p.c[(m0 + row) * p.n + n0 + column] = sum;
        }
        __syncthreads();
    }
    if (threadIdx.x == 0 && atomicAdd(p.counter + 1, 1) == gridDim.x - 1) {
        atomicExch(p.counter, 0);
        atomicExch(p.counter + 1, 0);
    }
}
