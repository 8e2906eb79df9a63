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
