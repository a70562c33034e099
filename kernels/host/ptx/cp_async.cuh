#pragma once

namespace ptx {

static inline void cp_async_16(void *shared, const void *global, int bytes) { zf_host::copy_later(shared, global, bytes); }
static inline void cp_async_commit_group() { zf_host::commit_copies(); }
template <int N> static inline void cp_async_wait_group() { zf_host::finish_copies(N); }

}  // namespace ptx
