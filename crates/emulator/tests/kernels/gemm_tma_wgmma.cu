// C[M,N] (f32) = A[M,K] (bf16) * B[N,K]^T (bf16): one warpgroup, TMA loads with 128-byte swizzle into four
// stages, wgmma m64n128k16.
typedef unsigned char uint8_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
typedef unsigned short bf16;
struct alignas(64) TensorMap { uint64_t opaque[16]; };
constexpr int BM=64, BN=128, BK=64, STAGES=4;
struct alignas(1024) Smem { bf16 a[STAGES][BM*BK]; bf16 b[STAGES][BN*BK]; uint64_t full[STAGES]; };
__device__ __forceinline__ uint32_t shared(const void* p){ return (uint32_t)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void init(uint64_t* b, uint32_t n){
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;"::"r"(shared(b)),"r"(n)); }
__device__ __forceinline__ void expect(uint64_t* b, uint32_t bytes){
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"::"r"(shared(b)),"r"(bytes):"memory"); }
__device__ __forceinline__ void wait(uint64_t* b, uint32_t parity){
  asm volatile("{\n.reg .pred P1;\nLAB_WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 P1, [%0], %1;\n@P1 bra DONE;\nbra LAB_WAIT;\nDONE:\n}"
    ::"r"(shared(b)),"r"(parity):"memory"); }
__device__ __forceinline__ void tma2d(const TensorMap* m, uint64_t* b, void* d, int x, int y){
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3,%4}], [%2];"
    ::"r"(shared(d)),"l"(m),"r"(shared(b)),"r"(x),"r"(y):"memory"); }
__device__ __forceinline__ uint64_t descriptor(const void* p, uint32_t leading){
  uint32_t a=shared(p);
  return (uint64_t)((a&0x3FFFF)>>4) | (uint64_t)(leading>>4)<<16 | (uint64_t)(1024>>4)<<32 | (uint64_t)1<<62; }
__device__ __forceinline__ void multiply(float (&d)[64], uint64_t da, uint64_t db){
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, 1, 1, 1, 0, 0;\n"
  : "+f"(d[0]),"+f"(d[1]),"+f"(d[2]),"+f"(d[3]),"+f"(d[4]),"+f"(d[5]),"+f"(d[6]),"+f"(d[7]),"+f"(d[8]),"+f"(d[9]),"+f"(d[10]),"+f"(d[11]),"+f"(d[12]),"+f"(d[13]),"+f"(d[14]),"+f"(d[15]),"+f"(d[16]),"+f"(d[17]),"+f"(d[18]),"+f"(d[19]),"+f"(d[20]),"+f"(d[21]),"+f"(d[22]),"+f"(d[23]),"+f"(d[24]),"+f"(d[25]),"+f"(d[26]),"+f"(d[27]),"+f"(d[28]),"+f"(d[29]),"+f"(d[30]),"+f"(d[31]),"+f"(d[32]),"+f"(d[33]),"+f"(d[34]),"+f"(d[35]),"+f"(d[36]),"+f"(d[37]),"+f"(d[38]),"+f"(d[39]),"+f"(d[40]),"+f"(d[41]),"+f"(d[42]),"+f"(d[43]),"+f"(d[44]),"+f"(d[45]),"+f"(d[46]),"+f"(d[47]),"+f"(d[48]),"+f"(d[49]),"+f"(d[50]),"+f"(d[51]),"+f"(d[52]),"+f"(d[53]),"+f"(d[54]),"+f"(d[55]),"+f"(d[56]),"+f"(d[57]),"+f"(d[58]),"+f"(d[59]),"+f"(d[60]),"+f"(d[61]),"+f"(d[62]),"+f"(d[63]) : "l"(da),"l"(db)); }
extern "C" __global__ void __launch_bounds__(128,1)
gemm_tma_wgmma(const __grid_constant__ TensorMap ta, const __grid_constant__ TensorMap tb, float* __restrict__ C, int M, int N, int K){
  extern __shared__ __align__(1024) uint8_t raw[];
  Smem& s = *reinterpret_cast<Smem*>(raw);
  int tid=threadIdx.x, m0=blockIdx.y*BM, n0=blockIdx.x*BN, nk=K/BK;
  if(tid==0){
    for(int i=0;i<STAGES;i++) init(&s.full[i],1);
    asm volatile("fence.mbarrier_init.release.cluster;":::"memory");
  }
  __syncthreads();
  auto load=[&](int k){
    int st=k%STAGES;
    expect(&s.full[st],(BM+BN)*BK*2);
    tma2d(&ta,&s.full[st],s.a[st],k*BK,m0);
    tma2d(&tb,&s.full[st],s.b[st],k*BK,n0);
  };
  if(tid==0) for(int k=0;k<STAGES-1&&k<nk;k++) load(k);
  float d[64];
  #pragma unroll
  for(int i=0;i<64;i++) d[i]=0.f;
  for(int k=0;k<nk;k++){
    int st=k%STAGES;
    wait(&s.full[st],(k/STAGES)&1);
    asm volatile("wgmma.fence.sync.aligned;":::"memory");
    #pragma unroll
    for(int kk=0;kk<BK/16;kk++) multiply(d, descriptor(s.a[st]+kk*16,16), descriptor(s.b[st]+kk*16,16));
    asm volatile("wgmma.commit_group.sync.aligned;":::"memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;":::"memory");
    __syncthreads();
    if(tid==0 && k+STAGES-1<nk) load(k+STAGES-1);
  }
  int w=tid/32,l=tid%32,r=m0+w*16+l/4,c=n0+(l%4)*2;
  #pragma unroll
  for(int j=0;j<BN/8;j++){
    *(float2*)&C[(long long)r*N+c+j*8]=make_float2(d[j*4],d[j*4+1]);
    *(float2*)&C[(long long)(r+8)*N+c+j*8]=make_float2(d[j*4+2],d[j*4+3]);
  }
}
