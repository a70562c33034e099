// Sum and greatest element of n floats. Every block leaves its part in global memory; the last one to come puts
// them together.
extern "C" __global__ void __launch_bounds__(256)
reduce(const float4 *x, float *parts, unsigned *counter, float *result, int n) {
    __shared__ float sums[8], most[8];
    __shared__ bool last;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float sum = 0, max = -INFINITY;
    for (int i = blockIdx.x * 256 + threadIdx.x; i < n / 4; i += gridDim.x * 256) {
        float4 v = x[i];
        sum += v.x + v.y + v.z + v.w;
        max = fmaxf(fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w)), max);
    }
    for (int i = 16; i > 0; i /= 2) {
        sum += __shfl_xor_sync(0xffffffff, sum, i);
        max = fmaxf(max, __shfl_xor_sync(0xffffffff, max, i));
    }
    if (lane == 0) {
        sums[warp] = sum;
        most[warp] = max;
    }
    __syncthreads();
    if (warp == 0) {
        // Eight lanes exchange through shared memory, the others have nothing.
        if (lane < 4) {
            sums[lane] += sums[lane + 4];
            most[lane] = fmaxf(most[lane], most[lane + 4]);
        }
        __syncwarp();
        if (lane == 0) {
            float total = sums[0] + sums[1] + sums[2] + sums[3];
            float top = fmaxf(fmaxf(most[0], most[1]), fmaxf(most[2], most[3]));
            parts[2 * blockIdx.x] = total;
            parts[2 * blockIdx.x + 1] = top;
            __threadfence();
            last = atomicAdd(counter, 1) == gridDim.x - 1;
            __threadfence();
        }
    }
    __syncthreads();
    if (!last) return;
    if (warp == 0) {
        float total = 0, top = -INFINITY;
        for (int i = lane; i < gridDim.x; i += 32) {
            total += parts[2 * i];
            top = fmaxf(top, parts[2 * i + 1]);
        }
        for (int i = 16; i > 0; i /= 2) {
            total += __shfl_xor_sync(0xffffffff, total, i);
            top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, i));
        }
        if (lane == 0) {
            result[0] = total;
            result[1] = top;
            *counter = 0;
        }
    }
}
