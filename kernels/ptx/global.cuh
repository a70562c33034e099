// ld.global and st.global of 1 to 16 bytes at once (PTX ISA 9.7.9.8, 9.7.9.12). Addresses are multiples of the access.
#pragma once

namespace ptx {

static __device__ __forceinline__ uint64_t global_address(const void *p) {
    return (uint64_t)__cvta_generic_to_global(p);
}

static __device__ __forceinline__ void ld_global_v4(uint32_t (&r)[4], const void *p) {
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "l"(global_address(p)) : "memory");
}

static __device__ __forceinline__ void ld_global_v2(uint32_t (&r)[2], const void *p) {
    asm volatile("ld.global.v2.u32 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "l"(global_address(p)) : "memory");
}

static __device__ __forceinline__ void ld_global(uint32_t (&r)[1], const void *p) {
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(r[0]) : "l"(global_address(p)) : "memory");
}

static __device__ __forceinline__ void ld_global_v2(uint64_t (&r)[2], const void *p) {
    asm volatile("ld.global.v2.u64 {%0, %1}, [%2];" : "=l"(r[0]), "=l"(r[1]) : "l"(global_address(p)) : "memory");
}

static __device__ __forceinline__ void st_global_v4(void *p, const uint32_t (&r)[4]) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                 :: "l"(global_address(p)), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
}

static __device__ __forceinline__ void st_global_v2(void *p, const uint32_t (&r)[2]) {
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" :: "l"(global_address(p)), "r"(r[0]), "r"(r[1]) : "memory");
}

static __device__ __forceinline__ void st_global_v2(void *p, const uint64_t (&r)[2]) {
    asm volatile("st.global.v2.u64 [%0], {%1, %2};" :: "l"(global_address(p)), "l"(r[0]), "l"(r[1]) : "memory");
}

static __device__ __forceinline__ void st_global(void *p, const uint32_t (&r)[1]) {
    asm volatile("st.global.u32 [%0], %1;" :: "l"(global_address(p)), "r"(r[0]) : "memory");
}

}  // namespace ptx
