// Attention forward on warpgroup products (FlashAttention-3: Shah et al., 2024).
//
// A block has one warpgroup that copies (tensor copies into rings of tiles, attention/mainloop.cuh) and GROUPS that
// multiply, 64 rows of queries each. Registers move from the first to the others. Blocks are persistent
// (attention/scheduler.cuh). Read next: mainloop.cuh, then softmax.cuh, mask.cuh, epilogue.cuh.
#pragma once

#include "attention/mainloop.cuh"
#include "attention/transpose.cuh"

namespace zf {

template <class C> ZF_INLINE void attention_forward(const zf_flash_attention_params &p, void *memory) {
    AttentionShared<C> &shared = *(AttentionShared<C> *)memory;
    static_assert(sizeof(AttentionShared<C>) <= C::SHARED_BYTES, "the launch asks for less shared memory than there is");
    if (threadIdx.x == 0) {
        ptx::prefetch_tensormap(&p.q);
        ptx::prefetch_tensormap(&p.k);
        ptx::prefetch_tensormap(&p.v);
        shared.init();
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
    // The same in all lanes, and known to be.
    const int group = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
    if (group == 0) {
        ptx::setmaxnreg_dec<C::COPY_REGISTERS>();
        if (threadIdx.x < 32) {
            Producer<C>(p, shared).run();
        } else if constexpr (C::FP8) {
            Transposer<C>(p, shared).run();
        }
    } else {
        ptx::setmaxnreg_inc<C::MULTIPLY_REGISTERS>();
        Consumer<C>(p, shared, group - 1).run();
    }
}

}  // namespace zf
