#pragma once

// The entry has the CPU's signature: a task is a block.
#define ZF_KERNEL(NAME, PARAMS, p, THREADS, SHARED)                                                            \
    static void NAME##_body(const PARAMS &p);                                                                  \
    extern "C" __attribute__((visibility("default"))) void NAME(const void *params, int64_t begin, int64_t end, \
                                                                int64_t, void *) {                             \
        zf_host::run([](const void *q) { NAME##_body(*(const PARAMS *)q); }, params, begin, end, THREADS, SHARED); \
    }                                                                                                          \
    static void NAME##_body(const PARAMS &p)

#define ZF_DYNAMIC_SHARED(NAME) unsigned char *const NAME = (unsigned char *)zf_host::current.shared
