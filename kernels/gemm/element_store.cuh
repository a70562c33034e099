// From a sum to an element of C, one at a time: what kernels do whose lanes have elements in any order.
#pragma once

namespace zf {

// What an epilogue gives, as memory has it: an element of C already, or a float to be rounded.
template <class Out, class Value> ZF_INLINE Out as_element(Value v) {
    if constexpr (same<Value, Out>::value) return v;
    else return convert<Out>::from(v);
}

// Writes epilogue.value(b0, b1, row, column, acc) to C, whose columns are contiguous.
template <class Out, class Params, class Epilogue> struct ElementStore {
    const Params &p;
    const Epilogue &epilogue;

    __device__ __forceinline__ void operator()(int64_t b0, int64_t b1, int64_t row, int64_t column, float acc) const {
        Out *const c = (Out *)p.c.address + b0 * p.c.stride[0] + b1 * p.c.stride[1] + row * p.c.stride[2] + column;
        *c = as_element<Out>(epilogue.value(b0, b1, row, column, acc));
    }
};

}  // namespace zf
