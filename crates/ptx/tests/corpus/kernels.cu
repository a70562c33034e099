// Sources of corpus files; `generate.py` compiles each kernel by itself.
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <cuda_fp8.h>
__constant__ float table[4] = {1.f, 2.f, 3.f, 4.f};
__device__ int counter = 7;
__device__ int *pointer = &counter;
__device__ double grid2[2][3] = {{1.0}, {2.0, 3.0}};
__managed__ int managed_value = 3;
struct Big { float a[10]; int b; };
__device__ __noinline__ float helper(float x, const Big& big, int i) { return x * big.a[i % 10] + big.b; }
__device__ __noinline__ Big make(int i) { Big b; for (int j = 0; j < 10; ++j) b.a[j] = i * j; b.b = i; return b; }
typedef float (*Fn)(float);
__device__ float f1(float x) { return __sinf(x); }
__device__ float f2(float x) { return __expf(x) + fabsf(x); }
__device__ Fn functions[2] = {f1, f2};
__device__ int recurse(int n) { return n < 2 ? 1 : n * recurse(n - 1); }
extern "C" __global__ void general(float *out, const float *__restrict__ in, int n, Big big) {
    __shared__ float tile[256];
    extern __shared__ char dynamic[];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    tile[threadIdx.x] = i < n ? in[i] : 0.f;
    __syncthreads();
    float x = tile[threadIdx.x ^ 1];
    float local[32];
    for (int j = 0; j < n; ++j) local[j % 32] = x * j;
    switch (n) { case 0: x = helper(x, big, i); break; case 1: x = functions[i & 1](x); break; case 2: x += recurse(n); break;
      case 3: { Big b = make(i); x += b.a[i % 10]; break; } case 4: x = __powf(x, 2.5f); break; case 5: x = truncf(x); break; case 6: x = ceilf(x); break; case 7: x = rsqrtf(x); break; default: x = sqrtf(x) / 3.f; }
    if (n == 12345) printf("value %f %d %s\n", x, i, "text");
    if (n == 999) __trap();
    ((float *)dynamic)[threadIdx.x] = local[i % 32];
    out[i] = x + table[i & 3] + *pointer + (float)grid2[i & 1][n % 3] + managed_value + ((float *)dynamic)[0];
    __nanosleep(20);
}
extern "C" __global__ void doubles(double *o, const double *a, long long *ll, unsigned long long *ull) {
    int i = threadIdx.x;
    o[i] = a[i] * fmax(a[i + 1], a[i + 2]) + sqrt(a[i]) / a[i + 3] + fma(a[i], a[i], 1.0) + floor(a[i]) + rint(a[i]);
    ll[i] = (long long)a[i] / ll[i + 1] % 7 + __mulhi((int)ll[2], 4) + __mul64hi(ll[i], ll[i + 2]);
    ull[i] = __umul64hi(ull[i], ull[i + 1]) + __popcll(ull[i]) + __clzll(ll[i]) + __brevll(ull[i]) + __ffsll(ll[i]) + __double_as_longlong(a[i]);
    unsigned __int128 w = (unsigned __int128)ull[1] * ull[2]; ull[3] = (unsigned long long)(w >> 64);
}
extern "C" __global__ void halves(__half *h, __nv_bfloat16 *b, __half2 *h2, __nv_bfloat162 *b2, __nv_fp8_e4m3 *q, __nv_fp8x2_e5m2 *q2, float *f) {
    int i = threadIdx.x;
    h[i] = h[i + 1] * h[i] + __float2half(f[i]) - h[2] / h[3];
    h2[i] = __hfma2(h2[1], h2[2], h2[3]); h2[i + 1] = __hmax2(h2[i], h2[5]); h2[i + 2] = h2exp2(h2[i]); h2[i+3] = __hfma2_relu(h2[1], h2[2], h2[3]);
    b[i] = b[i + 1] * b[i] + __float2bfloat16(f[i]); b2[i] = __hfma2(b2[1], b2[2], b2[3]); b2[i + 1] = __hmin2_nan(b2[2], b2[3]); b2[i+2] = __floats2bfloat162_rn(f[1], f[2]);
    q[i] = __nv_fp8_e4m3(f[i]); f[i + 1] = (float)q[i + 1]; q2[i] = __nv_fp8x2_e5m2(make_float2(f[2], f[3])); h2[i + 4] = (__half2)q2[5];
    h[7] = hsin(h[8]); h[9] = htanh(h[9]); b[7] = hexp(b[8]); f[9] = __half2float(h[i]) + __bfloat162float(b[i]) + (float)__half2int_rn(h[i]) + (h[i] > h[i + 1]) + __hisnan(b[3]) + (float)__hbeq2(h2[1], h2[2]);
    h[10] = __int2half_rn(i); h[11] = __ushort_as_half((unsigned short)i); b[12] = __hneg(b[3]); b[13] = __habs(b[4]); h[14] = hrcp(h[15]);
    atomicAdd(&h[0], h[1]); atomicAdd(&b2[0], b2[1]); atomicAdd(&h2[0], h2[1]);
}
extern "C" __global__ void atomics(int *a, unsigned *u, float *f, double *d, unsigned long long *l, unsigned short *s, float4 *v) {
    __shared__ int sh[32]; __shared__ float sf[4];
    int i = threadIdx.x;
    sh[i] = atomicAdd(a, 1) + atomicMax(a + 1, 2) + atomicCAS(a + 2, 3, 4) + atomicExch(a + 3, 5) + atomicAnd(a + 4, 6) + atomicXor(a + 5, 3);
    atomicAdd(f, 1.f); d[1] = atomicAdd(d, 2.0); atomicAdd(l, 1ull); atomicInc(u, 7); u[5] = atomicDec(u, 9); atomicCAS(s, 1, 2); atomicMin(a, 3); atomicOr(u, 1);
    atomicAdd(&sh[3], 4); atomicMax(&sh[i ^ 1], 2); atomicAdd(&sf[1], 2.f); atomicAdd_block(a, 5); atomicAdd_system(a, 6);
    a[9] = atomicCAS_system(a + 8, 1, 2); atomicMax(l, 6ull); 
#if __CUDA_ARCH__ >= 900
 atomicAdd((float4 *)v, make_float4(1, 2, 3, 4));
#endif

    __threadfence(); __threadfence_block(); __threadfence_system();
    a[i] = sh[i] + (int)sf[1];
    volatile int *p = a; p[3] = p[4]; volatile float *vs = sf; vs[2] = vs[3];
}
extern "C" __global__ void warps(int *a, unsigned *u, float *f, int4 *v, char4 *c, short *s, unsigned char *uc) {
    int i = threadIdx.x;
    a[i] = __shfl_sync(~0u, a[i], 3) + __shfl_xor_sync(~0u, a[i], 1) + __shfl_down_sync(~0u, a[i], 2, 16) + __shfl_up_sync(~0u, a[i], 2);
    u[i] = __ballot_sync(~0u, i & 1) + __any_sync(~0u, a[i]) + __all_sync(~0u, a[i]) + __match_any_sync(~0u, a[i]) + __activemask() + __reduce_add_sync(~0u, u[i]) + __reduce_or_sync(~0u, u[1]);
    int p; a[5] = __match_all_sync(~0u, a[i], &p) + p; a[6] = __reduce_max_sync(~0u, a[7]);
    u[3] = __byte_perm(u[1], u[2], 0x3210) + __brev(u[3]) + __popc(u[4]) + __clz(a[4]) + __ffs(a[5]) + __funnelshift_l(u[1], u[2], u[3]) + __funnelshift_rc(u[1], u[2], u[3]) + __dp4a(a[1], a[2], a[3]) + __dp2a_lo(a[1], a[2], a[3]) + __usad(u[1], u[2], u[3]) + __umulhi(u[1], u[2]) + __mul24(a[1], a[2]) + __vadd4(u[1], u[2]) + __vmaxs2(u[3], u[4]) + __viaddmax_s32(a[1], a[2], a[3]) + __vimax3_s32(a[1], a[2], a[3]) + __hadd(a[1], a[2]);
    a[8] = __syncthreads_count(a[1]) + __syncthreads_and(a[2]) + __syncthreads_or(a[3]); __syncwarp();
    f[1] = __fmul_rz(f[2], f[3]) + __fadd_ru(f[1], 2.f) + __frcp_rn(f[4]) + __fsqrt_rd(f[5]) + __fdividef(f[1], f[2]) + __sinf(f[3]) + __cosf(f[1]) + __log2f(f[4]) + exp2f(f[5]) + __saturatef(f[6]) + copysignf(f[7], f[8]) + fminf(f[1], f[2]) + truncf(f[3]) + __int2float_rz(a[1]) + ceilf(f[9]) + (float)isinf(f[4]) + (float)(unsigned long long)f[2] + __uint_as_float(u[3]);
    v[1] = v[2]; c[1] = c[2]; s[1] = s[2] * s[3] + (short)a[1]; uc[1] = uc[2] + (unsigned char)f[1]; f[3] = (float)uc[4] + (float)s[3];
    f[5] = __ldg(f + 6) + __ldcg(f + 7) + __ldcs(f + 8) + __ldlu(f + 9) + __ldcv(f + 10) + __ldca(f + 11); __stcg(f + 12, 1.f); __stcs(f + 13, 2.f); __stwt(f + 14, 3.f); __stwb(f + 15, 1.f);
    int4 w = __ldg((const int4 *)v + 3); a[10] = w.x + w.w; a[11] = (int)clock() + (int)clock64(); u[12] = __isShared(f) + __isGlobal(f) + (unsigned)__cvta_generic_to_shared(f) + __nv_cvt_float_to_fp8(f[1], __NV_SATFINITE, __NV_E4M3);
    if (a[3] == 4) __assertfail("x", "file", 3, "fn", 1); if (a[3] == 5) asm volatile("exit;"); __prof_trigger(1); __brkpt();
}
