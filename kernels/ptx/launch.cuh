// How generated kernels are declared.
#pragma once

// A kernel of THREADS threads that takes one parameter block by value and SHARED bytes of dynamic
// shared memory.
#define ZF_KERNEL(NAME, PARAMS, p, THREADS, SHARED) \
    extern "C" __global__ void __launch_bounds__(THREADS) NAME(const __grid_constant__ PARAMS p)

#define ZF_DYNAMIC_SHARED(NAME) extern __shared__ __align__(16) unsigned char NAME[]
