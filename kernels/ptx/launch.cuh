// How generated kernels are declared.
#pragma once

// A kernel of THREADS threads that takes one parameter block by value and SHARED bytes of dynamic
// shared memory.
#define ZF_KERNEL(NAME, PARAMS, p, THREADS, SHARED) \
    extern "C" __global__ void __launch_bounds__(THREADS) NAME(const __grid_constant__ PARAMS p)

// The same for clusters of CLUSTER blocks.
#define ZF_CLUSTER_KERNEL(NAME, PARAMS, p, THREADS, CLUSTER) \
    extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(THREADS) \
        NAME(const __grid_constant__ PARAMS p)

#define ZF_DYNAMIC_SHARED(NAME) extern __shared__ __align__(16) unsigned char NAME[]
