// A pipeline as warp-specialised GEMM and attention kernels have it, with sums in the place of products: pairs
// of blocks load tiles once for both by multicast, a producer warp fills slots that two warpgroups empty, and
// the result leaves by a tensor store. out[pair * 128 + rank * 64 + r][c] = (rank + 1) * sum over tiles of
// in[tile * 64 + r][pair * 32 + c].
//
// `bug` plants a mistake; 0 is none.
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
struct alignas(64) TensorMap { uint64_t opaque[16]; };

constexpr int STAGES = 3, ROWS = 64, COLS = 32, TILE = ROWS * COLS, HALF = TILE / 2;

struct alignas(1024) Smem {
  float tile[STAGES][TILE];
  float result[TILE];
  uint64_t full[STAGES], empty[STAGES];
};

enum Bug { NONE, NO_TAIL, EARLY_RELEASE, WRONG_PARITY, NO_REMOTE_RELEASE, NO_PROXY_FENCE, NO_STORE_WAIT,
           WRONG_BYTES, NO_INIT_FENCE, DOUBLE_RELEASE, NO_FULL_WAIT, WRONG_MASK, NO_SETMAXNREG };

__device__ __forceinline__ uint32_t shared(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }
__device__ __forceinline__ uint32_t rank_in_pair() { uint32_t r; asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r)); return r; }
__device__ __forceinline__ void wait(uint64_t* b, uint32_t parity) {
  asm volatile("{\n.reg .pred P1;\nLAB_WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 P1, [%0], %1;\n@P1 bra DONE;\nbra LAB_WAIT;\nDONE:\n}"
    :: "r"(shared(b)), "r"(parity) : "memory");
}
__device__ __forceinline__ void arrive_at(uint64_t* b, uint32_t rank) {
  asm volatile("{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %0, %1;\nmbarrier.arrive.shared::cluster.b64 _, [remote];\n}"
    :: "r"(shared(b)), "r"(rank) : "memory");
}

extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1)
pipeline(const __grid_constant__ TensorMap in, const __grid_constant__ TensorMap out, int tiles, int bug) {
  extern __shared__ __align__(1024) unsigned char raw[];
  Smem& s = *reinterpret_cast<Smem*>(raw);
  const uint32_t rank = rank_in_pair();
  const int pair = blockIdx.x / 2, group = threadIdx.x / 128;
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; i++) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(shared(&s.full[i])), "r"(1));
      asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(shared(&s.empty[i])), "r"(16));
    }
    if (bug != NO_INIT_FENCE) asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
  if (group == 0) {
    if (bug != NO_SETMAXNREG) asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x == 0) {
      const unsigned short mask = bug == WRONG_MASK ? 1 << rank : 3;
      for (int t = 0; t < tiles; t++) {
        const int slot = t % STAGES;
        wait(&s.empty[slot], (t / STAGES & 1) ^ 1);
        const uint32_t bytes = bug == WRONG_BYTES ? TILE * 4 - 128 : TILE * 4;
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(shared(&s.full[slot])), "r"(bytes) : "memory");
        asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;"
          :: "r"(shared(&s.tile[slot][rank * HALF])), "l"(&in), "r"(shared(&s.full[slot])),
             "r"(pair * COLS), "r"(t * ROWS + (int)rank * ROWS / 2), "h"(mask) : "memory");
      }
      // The other block arrives at this one's mbarriers: stay until it has.
      if (bug != NO_TAIL)
        for (int t = tiles; t < tiles + STAGES; t++)
          if (t >= STAGES) wait(&s.empty[t % STAGES], (t / STAGES & 1) ^ 1);
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    const int i = threadIdx.x - 128, row = i / 4, lane = threadIdx.x % 32;
    float sum[8] = {};
    for (int t = 0; t < tiles; t++) {
      const int slot = t % STAGES;
      if (bug != NO_FULL_WAIT) wait(&s.full[slot], (t / STAGES & 1) ^ (bug == WRONG_PARITY));
      if (bug == EARLY_RELEASE && lane == 0) { arrive_at(&s.empty[slot], 0); arrive_at(&s.empty[slot], 1); }
      for (int u = 0; u < 2; u++) {
        // The 128-byte swizzle exchanges 16-byte units by the row.
        const int unit = (i % 4 * 2 + u) ^ (row % 8);
        const float4 v = *(const float4*)&s.tile[slot][row * COLS + unit * 4];
        sum[u * 4] += v.x; sum[u * 4 + 1] += v.y; sum[u * 4 + 2] += v.z; sum[u * 4 + 3] += v.w;
      }
      __syncwarp();
      if (bug != EARLY_RELEASE && lane == 0) {
        arrive_at(&s.empty[slot], rank);
        if (bug != NO_REMOTE_RELEASE) arrive_at(&s.empty[slot], rank ^ 1);
        if (bug == DOUBLE_RELEASE && threadIdx.x == 128) arrive_at(&s.empty[slot], rank);
      }
    }
    for (int k = 0; k < 8; k++) s.result[row * COLS + i % 4 * 8 + k] = sum[k] * (rank + 1);
    if (bug != NO_PROXY_FENCE) asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    asm volatile("bar.sync 1, 256;" ::: "memory");
    if (threadIdx.x == 128) {
      asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];"
        :: "l"(&out), "r"(shared(s.result)), "r"(0), "r"(pair * 128 + (int)rank * 64) : "memory");
      asm volatile("cp.async.bulk.commit_group;" ::: "memory");
      if (bug != NO_STORE_WAIT) asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
    }
  }
}
