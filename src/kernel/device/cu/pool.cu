// Max pooling of the ImageNet stem (3×3, stride 2, padding 1) and global average pooling.

// The input rows or columns under output position `o` of an input of side `n`.
__device__ inline int window_begin(int o) { return o > 0 ? 2 * o - 1 : 0; }
__device__ inline int window_end(int o, int n) { return 2 * o + 2 < n ? 2 * o + 2 : n; }

// The largest number of each window of x (B, H, W, C) into y (B, H', W', C), and into `places` where in its window it lies,
// 3·row + column of the first such, one byte each; either may be absent. One thread for each pack of y.
template <class T, int N>
__device__ void max_pool(const T* x, T* y, unsigned char* places, int images, int height, int width, int channels) {
    int packs = channels / N, out_height = (height - 1) / 2 + 1, out_width = (width - 1) / 2 + 1;
    Index thread = (Index)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= (Index)images * out_height * out_width * packs) return;
    int channel = (int)(thread % packs) * N;
    Index pixel = thread / packs;
    int ox = (int)(pixel % out_width), oy = (int)(pixel / out_width % out_height);
    Index image = pixel / out_width / out_height;
    float best[N];
    Pack<unsigned char, N> place;
    for (int i = 0; i < N; ++i) {
        best[i] = __uint_as_float(0xff800000u);
        place.at[i] = (unsigned char)(3 * (window_begin(oy) - 2 * oy + 1) + window_begin(ox) - 2 * ox + 1);
    }
    for (int iy = window_begin(oy); iy < window_end(oy, height); ++iy) {
        for (int ix = window_begin(ox); ix < window_end(ox, width); ++ix) {
            float value[N];
            load<N>(x + ((image * height + iy) * width + ix) * channels + channel, value);
            unsigned char here = (unsigned char)(3 * (iy - 2 * oy + 1) + ix - 2 * ox + 1);
            for (int i = 0; i < N; ++i) {
                // NaN has to go through.
                bool larger = value[i] > best[i] || value[i] != value[i];
                best[i] = larger ? value[i] : best[i];
                place.at[i] = larger ? here : place.at[i];
            }
        }
    }
    if (y) store<N>(best, y + pixel * channels + channel);
    if (places) *reinterpret_cast<Pack<unsigned char, N>*>(places + pixel * channels + channel) = place;
}

// dx: each dy (plus `other`, the gradient of a second reader) goes to its place. One thread for each pack of x looks at the
// windows over it, at most four; so nothing is added atomically.
template <class T, int N>
__device__ void max_pool_gradient(const T* dy, const T* other, const unsigned char* places, T* dx, int images,
                                  int height, int width, int channels) {
    int packs = channels / N, out_height = (height - 1) / 2 + 1, out_width = (width - 1) / 2 + 1;
    Index thread = (Index)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= (Index)images * height * width * packs) return;
    int channel = (int)(thread % packs) * N;
    Index pixel = thread / packs;
    int ix = (int)(pixel % width), iy = (int)(pixel / width % height);
    Index image = pixel / width / height;
    float sum[N];
    for (int i = 0; i < N; ++i) sum[i] = 0.0f;
    for (int oy = iy / 2; oy <= (iy + 1) / 2 && oy < out_height; ++oy) {
        for (int ox = ix / 2; ox <= (ix + 1) / 2 && ox < out_width; ++ox) {
            Index at = ((image * out_height + oy) * out_width + ox) * channels + channel;
            Pack<unsigned char, N> place = *reinterpret_cast<const Pack<unsigned char, N>*>(places + at);
            int here = 3 * (iy - 2 * oy + 1) + ix - 2 * ox + 1;
            float gradient[N], second[N];
            load<N>(dy + at, gradient);
            if (other) load<N>(other + at, second);
            for (int i = 0; i < N; ++i) {
                if (place.at[i] == here) sum[i] += other ? gradient[i] + second[i] : gradient[i];
            }
        }
    }
    store<N>(sum, dx + pixel * channels + channel);
}

// y (B, C) = the mean over the pixels of x (B, pixels, C).
template <class T, int N>
__device__ void average_pool(const T* x, T* y, int images, int pixels, int channels) {
    int packs = channels / N;
    Index thread = (Index)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= (Index)images * packs) return;
    Index image = thread / packs;
    int channel = (int)(thread % packs) * N;
    float sum[N];
    for (int i = 0; i < N; ++i) sum[i] = 0.0f;
    for (int pixel = 0; pixel < pixels; ++pixel) {
        float value[N];
        load<N>(x + (image * pixels + pixel) * channels + channel, value);
        for (int i = 0; i < N; ++i) sum[i] += value[i];
    }
    for (int i = 0; i < N; ++i) sum[i] *= 1.0f / (float)pixels;
    store<N>(sum, y + image * channels + channel);
}

// dx: dy spread evenly over the pixels.
template <class T, int N>
__device__ void average_pool_gradient(const T* dy, T* dx, int images, int pixels, int channels) {
    int packs = channels / N;
    Index thread = (Index)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= (Index)images * pixels * packs) return;
    int channel = (int)(thread % packs) * N;
    Index pixel = thread / packs;
    float value[N];
    load<N>(dy + pixel / pixels * channels + channel, value);
    for (int i = 0; i < N; ++i) value[i] *= 1.0f / (float)pixels;
    store<N>(value, dx + pixel * channels + channel);
}

#define POOL(NAME, T, N)                                                                                              \
    extern "C" __global__ void max_pool_##NAME(const T* x, T* y, unsigned char* places, int images, int height,       \
                                               int width, int channels) {                                             \
        max_pool<T, N>(x, y, places, images, height, width, channels);                                                \
    }                                                                                                                 \
    extern "C" __global__ void average_pool_##NAME(const T* x, T* y, int images, int pixels, int channels) {          \
        average_pool<T, N>(x, y, images, pixels, channels);                                                           \
    }                                                                                                                 \
    extern "C" __global__ void average_pool_gradient_##NAME(const T* dy, T* dx, int images, int pixels,               \
                                                            int channels) {                                           \
        average_pool_gradient<T, N>(dy, dx, images, pixels, channels);                                                \
    }                                                                                                                 \
    extern "C" __global__ void max_pool_gradient_##NAME(const T* dy, const T* other, const unsigned char* places,     \
                                                        T* dx, int images, int height, int width, int channels) {     \
        max_pool_gradient<T, N>(dy, other, places, dx, images, height, width, channels);                              \
    }
FOR_EACH_PACK(POOL)
