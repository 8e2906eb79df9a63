// Convolutions in plain loops: what cuDNN and cuBLAS are compared with, and what runs where they have no algorithm.
//
// Weight (row, o), row = (tap, i), lies at row·by_row + o·by_column: cuDNN's filters and θ's own order in one.

struct Shape {
    int batch, height, width, in_channels, out_channels, kernel, stride, padding, out_height, out_width;
    Index by_row, by_column;
};

// y = x ∗ w. One thread for each number of y.
template <class T>
__device__ void conv_forward(const T* x, const T* w, T* y, Shape s) {
    Index thread = (Index)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= (Index)s.batch * s.out_height * s.out_width * s.out_channels) return;
    int o = (int)(thread % s.out_channels);
    Index pixel = thread / s.out_channels;
    int ox = (int)(pixel % s.out_width), oy = (int)(pixel / s.out_width % s.out_height);
    Index image = pixel / s.out_width / s.out_height;
    float sum = 0.0f;
    for (int tap = 0; tap < s.kernel * s.kernel; ++tap) {
        int iy = oy * s.stride + tap / s.kernel - s.padding, ix = ox * s.stride + tap % s.kernel - s.padding;
        if (iy < 0 || iy >= s.height || ix < 0 || ix >= s.width) continue;
        const T* from = x + ((image * s.height + iy) * s.width + ix) * s.in_channels;
        for (int i = 0; i < s.in_channels; ++i) {
            Index row = (Index)tap * s.in_channels + i;
            sum = fmaf(widen(from[i]), widen(w[row * s.by_row + o * s.by_column]), sum);
        }
    }
    y[thread] = narrow<T>(sum);
}

// dx = dy ∗ᵀ w. One thread for each number of x.
template <class T>
__device__ void conv_input_gradient(const T* dy, const T* w, T* dx, Shape s) {
    Index thread = (Index)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= (Index)s.batch * s.height * s.width * s.in_channels) return;
    int i = (int)(thread % s.in_channels);
    Index pixel = thread / s.in_channels;
    int ix = (int)(pixel % s.width), iy = (int)(pixel / s.width % s.height);
    Index image = pixel / s.width / s.height;
    float sum = 0.0f;
    for (int tap = 0; tap < s.kernel * s.kernel; ++tap) {
        int y = iy + s.padding - tap / s.kernel, x = ix + s.padding - tap % s.kernel;
        if (y < 0 || x < 0 || y % s.stride != 0 || x % s.stride != 0) continue;
        int oy = y / s.stride, ox = x / s.stride;
        if (oy >= s.out_height || ox >= s.out_width) continue;
        const T* from = dy + ((image * s.out_height + oy) * s.out_width + ox) * s.out_channels;
        Index row = (Index)tap * s.in_channels + i;
        for (int o = 0; o < s.out_channels; ++o) {
            sum = fmaf(widen(from[o]), widen(w[row * s.by_row + o * s.by_column]), sum);
        }
    }
    dx[thread] = narrow<T>(sum);
}

// dw = x ⋆ dy. One thread for each weight.
template <class T, class W>
__device__ void conv_weight_gradient(const T* x, const T* dy, W* dw, Shape s) {
    Index thread = (Index)blockIdx.x * blockDim.x + threadIdx.x;
    Index rows = (Index)s.kernel * s.kernel * s.in_channels;
    if (thread >= rows * s.out_channels) return;
    int o = (int)(thread % s.out_channels);
    Index row = thread / s.out_channels;
    int i = (int)(row % s.in_channels), tap = (int)(row / s.in_channels);
    float sum = 0.0f;
    for (Index pixel = 0; pixel < (Index)s.batch * s.out_height * s.out_width; ++pixel) {
        int ox = (int)(pixel % s.out_width), oy = (int)(pixel / s.out_width % s.out_height);
        Index image = pixel / s.out_width / s.out_height;
        int iy = oy * s.stride + tap / s.kernel - s.padding, ix = ox * s.stride + tap % s.kernel - s.padding;
        if (iy < 0 || iy >= s.height || ix < 0 || ix >= s.width) continue;
        float value = widen(x[((image * s.height + iy) * s.width + ix) * s.in_channels + i]);
        sum = fmaf(value, widen(dy[pixel * s.out_channels + o]), sum);
    }
    dw[row * s.by_row + o * s.by_column] = narrow<W>(sum);
}

// Most columns of unfolded images.
#define MOST_COLUMNS 256

// What a convolution of images sees from each pixel, (B·H'·W', columns): columns are (tap, channel), then zeros. Its product
// with the weights is the convolution; libraries have no good one for three channels. One block for each row of pixels.
template <class T>
__device__ void unfold(const float* x, T* patches, int height, int width, int channels, int kernel, int stride,
                       int padding, int out_height, int out_width, int columns) {
    // Of each column: its row and column in the window, and how far from the window's corner it lies.
    __shared__ int below[MOST_COLUMNS], right[MOST_COLUMNS], away[MOST_COLUMNS];
    for (int c = (int)threadIdx.x; c < columns; c += (int)blockDim.x) {
        int tap = c / channels;
        // Zeros lie beyond every image.
        below[c] = tap < kernel * kernel ? tap / kernel : 1 << 30;
        right[c] = tap % kernel;
        away[c] = (tap / kernel * width + tap % kernel) * channels + c % channels;
    }
    __syncthreads();
    int top = (int)(blockIdx.x % out_height) * stride - padding;
    const float* image = x + (Index)(blockIdx.x / out_height) * height * width * channels;
    T* to = patches + (Index)blockIdx.x * out_width * columns;
    int pairs = columns / 2;
    for (int at = (int)threadIdx.x; at < out_width * pairs; at += (int)blockDim.x) {
        int left = at / pairs * stride - padding, c = at % pairs * 2;
        Index corner = ((Index)top * width + left) * channels;
        float value[2];
        for (int i = 0; i < 2; ++i) {
            int y = top + below[c + i], x_at = left + right[c + i];
            bool inside = y >= 0 && y < height && x_at >= 0 && x_at < width;
            value[i] = inside ? image[corner + away[c + i]] : 0.0f;
        }
        store<2>(value, to + 2 * at);
    }
}

#define SHAPE                                                                                                         \
    int batch, int height, int width, int in_channels, int out_channels, int kernel, int stride, int padding,         \
        int out_height, int out_width, Index by_row, Index by_column
#define SHAPED                                                                                                        \
    Shape { batch, height, width, in_channels, out_channels, kernel, stride, padding, out_height, out_width, by_row, by_column }
#define CONV(NAME, T)                                                                                                 \
    extern "C" __global__ void conv_forward_##NAME(const T* x, const T* w, T* y, SHAPE) {                             \
        conv_forward<T>(x, w, y, SHAPED);                                                                             \
    }                                                                                                                 \
    extern "C" __global__ void conv_input_gradient_##NAME(const T* dy, const T* w, T* dx, SHAPE) {                    \
        conv_input_gradient<T>(dy, w, dx, SHAPED);                                                                    \
    }                                                                                                                 \
    extern "C" __global__ void conv_weight_gradient_##NAME(const T* x, const T* dy, T* dw, SHAPE) {                   \
        conv_weight_gradient<T, T>(x, dy, dw, SHAPED);                                                                \
    }                                                                                                                 \
    extern "C" __global__ void product_weight_gradient_##NAME(const T* x, const T* dy, float* dw, SHAPE) {            \
        conv_weight_gradient<T, float>(x, dy, dw, SHAPED);                                                            \
    }
FOR_EACH_NUMBER(CONV)

#define UNFOLD(NAME, T)                                                                                               \
    extern "C" __global__ void unfold_##NAME(const float* x, T* patches, int height, int width, int channels,         \
                                             int kernel, int stride, int padding, int out_height, int out_width,      \
                                             int columns) {                                                           \
        unfold<T>(x, patches, height, width, channels, kernel, stride, padding, out_height, out_width, columns);      \
    }
FOR_EACH_NUMBER(UNFOLD)
