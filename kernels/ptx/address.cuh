// State spaces (PTX ISA 5.1).
#pragma once

namespace ptx {

static __device__ __forceinline__ uint32_t shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

}  // namespace ptx
