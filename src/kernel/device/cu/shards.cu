// Batch normalisation whose batch is cut into shards: what a rank's views come to, before it is
// merged with that of all others, and what is made of the merged sums. `saved`, partial sums and
// coefficients are those of norm.cu; sums and moments are (views, 2, C).

// μ and Σ(x − μ)² of every view.
template <class T>
__device__ void norm_moments(const T* x, const float* partial, float* moments, int views, int rows, int channels,
                             int chunks) {
    __shared__ double shared[2 * STRIPES * LANES];
    int channel = (int)(blockIdx.x * LANES + threadIdx.x);
    for (int view = 0; view < views; ++view) {
        Moments of_view = moments_of<T>(x, partial, view, rows, channels, chunks, channel, shared);
        if (threadIdx.y == 0 && channel < channels) {
            float* out = moments + (Index)(2 * view) * channels + channel;
            out[0] = (float)of_view.mean;
            out[channels] = (float)(of_view.variance * rows);
        }
    }
}

#define NORM_MOMENTS(NAME, T)                                                                                         \
    extern "C" __global__ void __launch_bounds__(STRIPES * LANES)                                                     \
        norm_moments_##NAME(const T* x, const float* partial, float* moments, int views, int rows, int channels,      \
                            int chunks) {                                                                             \
        norm_moments<T>(x, partial, moments, views, rows, channels, chunks);                                          \
    }
FOR_EACH_NUMBER(NORM_MOMENTS)

// The running statistics, moved towards mean and unbiased variance of every view, in the order of
// the views.
extern "C" __global__ void norm_shift(const float* moments, float* running_mean, float* running_variance, int views,
                                      int channels, float momentum) {
    int channel = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (channel >= channels) return;
    float mean = running_mean[channel], variance = running_variance[channel];
    for (int view = 0; view < views; ++view) {
        const float* of_view = moments + (Index)(2 * view) * channels + channel;
        mean = (1.0f - momentum) * mean + momentum * of_view[0];
        variance = (1.0f - momentum) * variance + momentum * of_view[channels];
    }
    running_mean[channel] = mean;
    running_variance[channel] = variance;
}

// Σg and Σg·(x − μ) of every view.
extern "C" __global__ void __launch_bounds__(STRIPES * LANES)
    norm_gradient_of_views(const float* partial, float* sums, int views, int channels, int chunks) {
    __shared__ double shared[2 * STRIPES * LANES];
    int channel = (int)(blockIdx.x * LANES + threadIdx.x);
    for (int view = 0; view < views; ++view) {
        Sums of_view = chunk_sums(partial + (Index)view * chunks * 2 * channels, chunks, channels, channel, shared);
        if (threadIdx.y == 0 && channel < channels) {
            float* out = sums + (Index)(2 * view) * channels + channel;
            out[0] = (float)of_view.one;
            out[channels] = (float)of_view.two;
        }
    }
}

// The gradients of γ and β: the sums of each shard, in f32 as ranks hand theirs on, added as a binary
// tree. A sum waits at the level of its height until its neighbour is there; the shards of a rank are
// a power of two.
extern "C" __global__ void norm_gradient_affine(const float* sums, const float* saved, float* d_scale, float* d_shift,
                                                int shards, int views, int channels) {
    int channel = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (channel >= channels) return;
    float scales[32], shifts[32];
    int level = 0;
    for (int shard = 0; shard < shards; ++shard) {
        double to_scale = 0.0, to_shift = 0.0;
        for (int view = shard * views; view < (shard + 1) * views; ++view) {
            Index at = (Index)(2 * view) * channels + channel;
            to_scale += (double)sums[at + channels] * (saved ? (double)saved[at + channels] : 1.0);
            to_shift += (double)sums[at];
        }
        float scale = (float)to_scale, shift = (float)to_shift;
        level = 0;
        for (int left = shard; left & 1; left >>= 1, ++level) {
            scale = scales[level] + scale;
            shift = shifts[level] + shift;
        }
        scales[level] = scale;
        shifts[level] = shift;
    }
    if (d_scale) d_scale[channel] = scales[level];
    if (d_shift) d_shift[channel] = shifts[level];
}

// Coefficients (views, 3, C) of dx = a·g + b·(x − μ) + c from sums over `rows` rows, those of all
// shards that a view's statistics are taken over.
extern "C" __global__ void norm_gradient_coefficients(const float* sums, const float* saved, const float* scale,
                                                      float* coefficients, int views, int rows, int channels) {
    int channel = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (channel >= channels) return;
    double gamma = scale ? (double)scale[channel] : 1.0;
    for (int view = 0; view < views; ++view) {
        Index at = (Index)(2 * view) * channels + channel;
        double inverse = (double)saved[at + channels];
        float* out = coefficients + (Index)(3 * view) * channels + channel;
        out[0] = (float)(gamma * inverse);
        out[channels] = (float)(-gamma * inverse * inverse * inverse * (double)sums[at + channels] / rows);
        out[2 * channels] = (float)(-gamma * inverse * (double)sums[at] / rows);
    }
}
