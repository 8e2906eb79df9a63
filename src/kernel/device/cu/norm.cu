// Batch normalisation with ReLU and residual addition: y = ReLU(γ·(x − μ)/√(σ² + ε) + β + r).
//
// `saved` is (views, 2, C): μ and 1/√(σ² + ε). Passes over rows leave partial sums (views, chunks, 2, C), which one small
// kernel adds up.

// Σ(x − k) and Σ(x − k)², k being the view's first row: a value of the channel's own size, so that little cancels.
template <class T, int N>
__device__ void norm_sums(const T* x, float* partial, int rows, int channels, int chunk) {
    __shared__ float shared[BLOCK_SUMS(N)];
    Place p = place<N>(rows, channels, chunk);
    float k[N], sum[N], square[N];
    for (int i = 0; i < N; ++i) k[i] = sum[i] = square[i] = 0.0f;
    if (p.inside) {
        load<N>(x + p.first + p.channel, k);
        for (int row = p.begin; row < p.end; row += p.step()) {
            Pack<T, N> xs[ROWS];
            for (int r = 0; r < ROWS; ++r) {
                if (p.has(row, r)) xs[r] = pack_at<N>(x + p.at(row, r));
            }
            for (int r = 0; r < ROWS; ++r) {
                if (!p.has(row, r)) continue;
                float value[N];
                unpack<N>(xs[r], value);
                for (int i = 0; i < N; ++i) {
                    float d = value[i] - k[i];
                    sum[i] += d;
                    square[i] = fmaf(d, d, square[i]);
                }
            }
        }
    }
    store_block_sums<N>(sum, square, shared, partial, channels);
}

// What the partial sums of a view say of a channel; all threads of a block ask, the first of each channel is told.
struct Moments {
    double mean;
    double variance;
};

template <class T>
__device__ inline Moments moments_of(const T* x, const float* partial, int view, int rows, int channels, int chunks,
                                     int channel, double* shared) {
    Sums sums = chunk_sums(partial + (Index)view * chunks * 2 * channels, chunks, channels, channel, shared);
    Moments moments = {0.0, 0.0};
    if (threadIdx.y == 0 && channel < channels) {
        double k = (double)widen(x[(Index)view * rows * channels + channel]);
        double shift = sums.one / rows;
        double variance = sums.two / rows - shift * shift;
        moments.variance = variance > 0.0 || variance != variance ? variance : 0.0;
        moments.mean = k + shift;
    }
    return moments;
}

// saved of every view, and the running statistics moved in the order of the views.
template <class T>
__device__ void norm_finish(const T* x, const float* partial, float* saved, float* running_mean,
                            float* running_variance, int views, int rows, int channels, int chunks, float momentum,
                            double epsilon) {
    __shared__ double shared[2 * STRIPES * LANES];
    int channel = (int)(blockIdx.x * LANES + threadIdx.x);
    for (int view = 0; view < views; ++view) {
        Moments moments = moments_of<T>(x, partial, view, rows, channels, chunks, channel, shared);
        if (threadIdx.y == 0 && channel < channels) {
            double mean = moments.mean, variance = moments.variance;
            saved[(Index)(2 * view) * channels + channel] = (float)mean;
            saved[(Index)(2 * view + 1) * channels + channel] = (float)(1.0 / sqrt(variance + epsilon));
            float unbiased = (float)rows / (rows > 1 ? (float)(rows - 1) : 1.0f);
            running_mean[channel] = (1.0f - momentum) * running_mean[channel] + momentum * (float)mean;
            running_variance[channel] =
                (1.0f - momentum) * running_variance[channel] + momentum * ((float)variance * unbiased);
        }
    }
}

// saved of one view, from the running statistics.
extern "C" __global__ void norm_running(const float* mean, const float* variance, float* saved, int channels,
                                        double epsilon) {
    int channel = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (channel < channels) {
        saved[channel] = mean[channel];
        saved[channels + channel] = (float)(1.0 / sqrt((double)variance[channel] + epsilon));
    }
}

// What a channel's normalisation multiplies and adds.
template <int N>
struct Affine {
    float mean[N], factor[N], shift[N];
};

template <int N>
__device__ inline Affine<N> affine(const float* saved, const float* scale, const float* shift, int channels, int channel) {
    Affine<N> a;
    const float* of_view = saved ? saved + (Index)(2 * blockIdx.z) * channels : 0;
    float gamma[N], inverse[N];
    channel_values<N>(of_view, channel, 0.0f, a.mean);
    channel_values<N>(of_view ? of_view + channels : 0, channel, 1.0f, inverse);
    channel_values<N>(scale, channel, 1.0f, gamma);
    channel_values<N>(shift, channel, 0.0f, a.shift);
    for (int i = 0; i < N; ++i) a.factor[i] = gamma[i] * inverse[i];
    return a;
}

template <class T, int N>
__device__ void norm_apply(const T* x, const T* residual, const float* saved, const float* scale, const float* shift,
                           T* y, int rows, int channels, int chunk, int relu) {
    Place p = place<N>(rows, channels, chunk);
    if (!p.inside) return;
    Affine<N> a = affine<N>(saved, scale, shift, channels, p.channel);
    for (int row = p.begin; row < p.end; row += p.step()) {
        Pack<T, N> xs[ROWS], residuals[ROWS];
        for (int r = 0; r < ROWS; ++r) {
            if (!p.has(row, r)) continue;
            xs[r] = pack_at<N>(x + p.at(row, r));
            if (residual) residuals[r] = pack_at<N>(residual + p.at(row, r));
        }
        for (int r = 0; r < ROWS; ++r) {
            if (!p.has(row, r)) continue;
            float value[N], other[N];
            unpack<N>(xs[r], value);
            if (residual) unpack<N>(residuals[r], other);
            for (int i = 0; i < N; ++i) {
                value[i] = fmaf(value[i] - a.mean[i], a.factor[i], a.shift[i]);
                if (residual) value[i] += other[i];
                // A comparison, not fmaxf: NaN has to go through.
                if (relu && value[i] < 0.0f) value[i] = 0.0f;
            }
            store<N>(value, y + p.at(row, r));
        }
    }
}

// How the gradient passes the ReLU.
#define NO_RELU 0
// By the output, and the masked gradient is kept: a residual or a second reader needs it.
#define MASK_BY_OUTPUT 1
// By the output computed again from the input, which saves reading it.
#define MASK_AGAIN 2

template <int N>
__device__ inline void mask_again(float (&g)[N], const float (&x)[N], const Affine<N>& a) {
    for (int i = 0; i < N; ++i) {
        if (!(fmaf(x[i] - a.mean[i], a.factor[i], a.shift[i]) > 0.0f)) g[i] = 0.0f;
    }
}

// Adds g and g·(x − μ).
template <int N>
__device__ inline void add_gradient(const float (&g)[N], const float (&x)[N], const Affine<N>& a, float (&sum)[N],
                                    float (&product)[N]) {
    for (int i = 0; i < N; ++i) {
        sum[i] += g[i];
        product[i] = fmaf(g[i], x[i] - a.mean[i], product[i]);
    }
}

// Σg and Σg·(x − μ), g being masked again or not at all.
template <class T, int N>
__device__ void norm_gradient_sums(const T* g, const T* x, const float* saved, const float* scale, const float* shift,
                                   float* partial, int rows, int channels, int chunk, int mask) {
    __shared__ float shared[BLOCK_SUMS(N)];
    Place p = place<N>(rows, channels, chunk);
    float sum[N], product[N];
    for (int i = 0; i < N; ++i) sum[i] = product[i] = 0.0f;
    if (p.inside) {
        Affine<N> a = affine<N>(saved, scale, shift, channels, p.channel);
        for (int row = p.begin; row < p.end; row += p.step()) {
            Pack<T, N> xs[ROWS], gs[ROWS];
            for (int r = 0; r < ROWS; ++r) {
                if (!p.has(row, r)) continue;
                xs[r] = pack_at<N>(x + p.at(row, r));
                gs[r] = pack_at<N>(g + p.at(row, r));
            }
            for (int r = 0; r < ROWS; ++r) {
                if (!p.has(row, r)) continue;
                float value[N], gradient[N];
                unpack<N>(xs[r], value);
                unpack<N>(gs[r], gradient);
                if (mask == MASK_AGAIN) mask_again<N>(gradient, value, a);
                add_gradient<N>(gradient, value, a, sum, product);
            }
        }
    }
    store_block_sums<N>(sum, product, shared, partial, channels);
}

// The same of g ← (g + other)·[y > 0], with the parts that are there. Four arrays pass by: rows one by one, since threads
// with fewer registers, and so more of them, keep the memory busier.
template <class T, int N>
__device__ void norm_gradient_kept_sums(T* g, const T* other, const T* y, const T* x, const float* saved,
                                        const float* scale, const float* shift, float* partial, int rows, int channels,
                                        int chunk) {
    __shared__ float shared[BLOCK_SUMS(N)];
    Place p = place<N>(rows, channels, chunk);
    float sum[N], product[N];
    for (int i = 0; i < N; ++i) sum[i] = product[i] = 0.0f;
    if (p.inside) {
        Affine<N> a = affine<N>(saved, scale, shift, channels, p.channel);
        for (int row = p.begin; row < p.end; row += p.stride()) {
            Index at = p.at(row, 0);
            float value[N], gradient[N];
            load<N>(x + at, value);
            load<N>(g + at, gradient);
            if (other) {
                float second[N];
                load<N>(other + at, second);
                for (int i = 0; i < N; ++i) gradient[i] += second[i];
            }
            if (y) {
                float output[N];
                load<N>(y + at, output);
                for (int i = 0; i < N; ++i) gradient[i] = output[i] > 0.0f ? gradient[i] : 0.0f;
            }
            store<N>(gradient, g + at);
            // What is added up is what the second pass will read.
            for (int i = 0; i < N; ++i) gradient[i] = widen(narrow<T>(gradient[i]));
            add_gradient<N>(gradient, value, a, sum, product);
        }
    }
    store_block_sums<N>(sum, product, shared, partial, channels);
}

// Coefficients (views, 3, C) of dx = a·g + b·(x − μ) + c, and the gradients of γ and β.
extern "C" __global__ void __launch_bounds__(STRIPES * LANES)
    norm_gradient_finish(const float* partial, const float* saved, const float* scale, float* coefficients, float* d_scale,
                         float* d_shift, int views, int rows, int channels, int chunks) {
    __shared__ double shared[2 * STRIPES * LANES];
    int channel = (int)(blockIdx.x * LANES + threadIdx.x);
    double to_scale = 0.0, to_shift = 0.0;
    for (int view = 0; view < views; ++view) {
        Sums sums = chunk_sums(partial + (Index)view * chunks * 2 * channels, chunks, channels, channel, shared);
        if (threadIdx.y == 0 && channel < channels) {
            double gamma = scale ? (double)scale[channel] : 1.0;
            double inverse = saved ? (double)saved[(Index)(2 * view + 1) * channels + channel] : 1.0;
            float* out = coefficients + (Index)(3 * view) * channels + channel;
            out[0] = (float)(gamma * inverse);
            out[channels] = (float)(-gamma * inverse * inverse * inverse * sums.two / rows);
            out[2 * channels] = (float)(-gamma * inverse * sums.one / rows);
            to_scale += sums.two * inverse;
            to_shift += sums.one;
        }
    }
    if (threadIdx.y == 0 && channel < channels) {
        if (d_scale) d_scale[channel] = (float)to_scale;
        if (d_shift) d_shift[channel] = (float)to_shift;
    }
}

// dx = a·g + b·(x − μ) + c; dx may be g.
template <class T, int N>
__device__ void norm_gradient_apply(const T* g, const T* x, const float* saved, const float* scale, const float* shift,
                                    const float* coefficients, T* dx, int rows, int channels, int chunk, int mask) {
    Place p = place<N>(rows, channels, chunk);
    if (!p.inside) return;
    Affine<N> affine_of_x = affine<N>(saved, scale, shift, channels, p.channel);
    const float* of_view = coefficients + (Index)(3 * blockIdx.z) * channels;
    float a[N], b[N], c[N];
    channel_values<N>(of_view, p.channel, 0.0f, a);
    channel_values<N>(of_view + channels, p.channel, 0.0f, b);
    channel_values<N>(of_view + 2 * channels, p.channel, 0.0f, c);
    for (int row = p.begin; row < p.end; row += p.step()) {
        Pack<T, N> xs[ROWS], gs[ROWS];
        for (int r = 0; r < ROWS; ++r) {
            if (!p.has(row, r)) continue;
            xs[r] = pack_at<N>(x + p.at(row, r));
            gs[r] = pack_at<N>(g + p.at(row, r));
        }
        for (int r = 0; r < ROWS; ++r) {
            if (!p.has(row, r)) continue;
            float value[N], gradient[N];
            unpack<N>(xs[r], value);
            unpack<N>(gs[r], gradient);
            if (mask == MASK_AGAIN) mask_again<N>(gradient, value, affine_of_x);
            for (int i = 0; i < N; ++i) {
                gradient[i] = fmaf(a[i], gradient[i], fmaf(b[i], value[i] - affine_of_x.mean[i], c[i]));
            }
            store<N>(gradient, dx + p.at(row, r));
        }
    }
}

#define NORM(NAME, T, N)                                                                                              \
    extern "C" __global__ void norm_sums_##NAME(const T* x, float* partial, int rows, int channels, int chunk) {      \
        norm_sums<T, N>(x, partial, rows, channels, chunk);                                                           \
    }                                                                                                                 \
    extern "C" __global__ void norm_apply_##NAME(const T* x, const T* residual, const float* saved,                   \
                                                 const float* scale, const float* shift, T* y, int rows,              \
                                                 int channels, int chunk, int relu) {                                 \
        norm_apply<T, N>(x, residual, saved, scale, shift, y, rows, channels, chunk, relu);                           \
    }                                                                                                                 \
    extern "C" __global__ void norm_gradient_sums_##NAME(const T* g, const T* x, const float* saved,                  \
                                                         const float* scale, const float* shift, float* partial,      \
                                                         int rows, int channels, int chunk, int mask) {               \
        norm_gradient_sums<T, N>(g, x, saved, scale, shift, partial, rows, channels, chunk, mask);                    \
    }                                                                                                                 \
    extern "C" __global__ void norm_gradient_kept_sums_##NAME(                                                        \
        T* g, const T* other, const T* y, const T* x, const float* saved, const float* scale, const float* shift,     \
        float* partial, int rows, int channels, int chunk) {                                                          \
        norm_gradient_kept_sums<T, N>(g, other, y, x, saved, scale, shift, partial, rows, channels, chunk);           \
    }                                                                                                                 \
    extern "C" __global__ void norm_gradient_apply_##NAME(                                                            \
        const T* g, const T* x, const float* saved, const float* scale, const float* shift,                           \
        const float* coefficients, T* dx, int rows, int channels, int chunk, int mask) {                              \
        norm_gradient_apply<T, N>(g, x, saved, scale, shift, coefficients, dx, rows, channels, chunk, mask);          \
    }
FOR_EACH_PACK(NORM)

#define NORM_FINISH(NAME, T)                                                                                          \
    extern "C" __global__ void __launch_bounds__(STRIPES * LANES)                                                     \
        norm_finish_##NAME(const T* x, const float* partial, float* saved, float* running_mean,                       \
                           float* running_variance, int views, int rows, int channels, int chunks, float momentum,    \
                           double epsilon) {                                                                          \
        norm_finish<T>(x, partial, saved, running_mean, running_variance, views, rows, channels, chunks, momentum,    \
                       epsilon);                                                                                      \
    }
FOR_EACH_NUMBER(NORM_FINISH)
