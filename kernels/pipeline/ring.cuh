// A ring of shared-memory slots between a producer that copies and consumers that multiply.
//
// Slot s is full when barrier full[s] ends a phase and may be overwritten when empty[s] does. A state walks
// the ring; its phase is the parity to wait for.
#pragma once

#include "ptx/mbarrier.cuh"

namespace zf {

template <int STAGES> struct RingState {
    int slot = 0;
    uint32_t phase = 0;

    __device__ __forceinline__ void advance() {
        if (++slot == STAGES) {
            slot = 0;
            phase ^= 1;
        }
    }
};

template <int STAGES> struct Ring {
    uint64_t full[STAGES], empty[STAGES];

    // By one thread, before a fence and a barrier of all. `consumers` arrivals empty a slot.
    __device__ __forceinline__ void init(uint32_t producers, uint32_t consumers) {
#pragma unroll
        for (int i = 0; i < STAGES; ++i) {
            ptx::mbarrier_init(&full[i], producers);
            ptx::mbarrier_init(&empty[i], consumers);
        }
    }

    // The slots of a new ring count as emptied: the first wait returns at once.
    __device__ __forceinline__ void wait_empty(RingState<STAGES> s) { ptx::mbarrier_wait(&empty[s.slot], s.phase ^ 1); }
    __device__ __forceinline__ void wait_full(RingState<STAGES> s) { ptx::mbarrier_wait(&full[s.slot], s.phase); }
    __device__ __forceinline__ void release(RingState<STAGES> s) { ptx::mbarrier_arrive(&empty[s.slot]); }
};

}  // namespace zf
