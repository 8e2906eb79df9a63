// What every kernel of the device uses. The file is compiled by NVRTC for the GPU, and as plain C++ by the tests,
// which run its threads one after the other (tests/emulation/shim.h). Hence no header of CUDA, no warp
// intrinsics, and every barrier is reached by all threads of a block.
//
// A value is (rows, C), channels last, stored as f32 or bf16; arithmetic is f32, sums over blocks are f64.
// Products and sums that must round alike in two kernels are written as fmaf, which leaves nothing to the compiler.

typedef long long Index;

// bf16 by its bits.
struct Bf16 {
    unsigned short bits;
};

__device__ inline float widen(float value) { return value; }
__device__ inline float widen(Bf16 value) { return __uint_as_float((unsigned int)value.bits << 16); }

// The nearest number; of two that are equally near, the even one.
template <class T>
__device__ T narrow(float value);
template <>
__device__ inline float narrow<float>(float value) {
    return value;
}
template <>
__device__ inline Bf16 narrow<Bf16>(float value) {
    Bf16 result;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
#else
    unsigned int bits = __float_as_uint(value);
    // Rounding a NaN up could carry into the exponent and make it infinite.
    bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    result.bits = is_nan ? (unsigned short)(bits >> 16 | 0x40u)
                         : (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
#endif
    return result;
}

// N numbers side by side, read and written at once.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
    T at[N];
};

template <int N, class T>
__device__ inline Pack<T, N> pack_at(const T* from) {
    return *reinterpret_cast<const Pack<T, N>*>(from);
}

template <int N, class T>
__device__ inline void unpack(const Pack<T, N>& pack, float (&to)[N]) {
    for (int i = 0; i < N; ++i) to[i] = widen(pack.at[i]);
}

template <int N, class T>
__device__ inline void load(const T* from, float (&to)[N]) {
    unpack<N>(pack_at<N>(from), to);
}

template <int N, class T>
__device__ inline void store(const float (&from)[N], T* to) {
    Pack<T, N> pack;
    for (int i = 0; i < N; ++i) pack.at[i] = narrow<T>(from[i]);
    *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

// Rows that a thread reads before it computes with any, so that enough bytes are on their way to keep the memory busy.
#define ROWS 4

// The pack of channels, the view and the rows of a thread: blocks are (lanes, rows), the grid is (packs, chunks, views).
struct Place {
    int channel;
    int channels;
    bool inside;
    // Where the view's numbers begin.
    Index first;
    int begin;
    int end;

    // From a thread's row to its next, and from its first ROWS rows to the next ones.
    __device__ int stride() const { return (int)blockDim.y; }
    __device__ int step() const { return ROWS * stride(); }
    // Whether there is the `r`th of the rows from `row` on, and where its pack lies.
    __device__ bool has(int row, int r) const { return row + r * stride() < end; }
    __device__ Index at(int row, int r) const { return first + (Index)(row + r * stride()) * channels + channel; }
};

template <int N>
__device__ inline Place place(int rows, int channels, int chunk) {
    Place p;
    p.channel = (int)(blockIdx.x * blockDim.x + threadIdx.x) * N;
    p.channels = channels;
    p.inside = p.channel < channels;
    p.first = (Index)blockIdx.z * rows * channels;
    int begin = (int)blockIdx.y * chunk;
    p.begin = begin + (int)threadIdx.y;
    p.end = begin + chunk < rows ? begin + chunk : rows;
    return p;
}

// N numbers of a vector that may be absent.
template <int N>
__device__ inline void channel_values(const float* from, int channel, float absent, float (&to)[N]) {
    for (int i = 0; i < N; ++i) to[i] = from ? from[channel + i] : absent;
}

// Threads of a block of the kernels that walk over rows, of which at most LANES lie side by side.
#define THREADS 256
#define LANES 32
// A block of the kernels that finish sums: LANES channels and so many chunks.
#define STRIPES 32

// What store_block_sums shares.
#define BLOCK_SUMS(N) (2 * (N) * (THREADS + LANES))

// The sums of two values over the rows of a block, into partial (views, chunks, 2, C).
template <int N>
__device__ inline void store_block_sums(const float (&one)[N], const float (&two)[N], float* shared, float* partial,
                                        int channels) {
    int lanes = (int)blockDim.x, thread = (int)threadIdx.y * lanes + (int)threadIdx.x;
    // The numbers of a pack lie apart by THREADS and some more, so that a warp asks every bank once.
    int plane = THREADS + lanes;
    float* other = shared + N * plane;
    for (int i = 0; i < N; ++i) {
        shared[i * plane + thread] = one[i];
        other[i * plane + thread] = two[i];
    }
    __syncthreads();
    // Every thread adds up N rows of one channel, ...
    int width = lanes * N, column = thread % width, segment = thread / width;
    int element = column / lanes, lane = column % lanes;
    float first = 0.0f, second = 0.0f;
    for (int i = 0; i < N; ++i) {
        int at = element * plane + (segment * N + i) * lanes + lane;
        first += shared[at];
        second += other[at];
    }
    __syncthreads();
    shared[thread] = first;
    other[thread] = second;
    __syncthreads();
    // ... and the first thread of a channel what the others have.
    if (thread < width) {
        first = second = 0.0f;
        for (int at = thread; at < THREADS; at += width) {
            first += shared[at];
            second += other[at];
        }
        int channel = (int)blockIdx.x * width + lane * N + element;
        if (channel < channels) {
            Index to = ((Index)blockIdx.z * gridDim.y + blockIdx.y) * 2 * channels + channel;
            partial[to] = first;
            partial[to + channels] = second;
        }
    }
}

// Sums over chunks of partial (chunks, 2, C), in f64, at the first stripe.
struct Sums {
    double one;
    double two;
};

__device__ inline Sums chunk_sums(const float* partial, int chunks, int channels, int channel, double* shared) {
    Sums sums = {0.0, 0.0};
    if (channel < channels) {
        for (int chunk = (int)threadIdx.y; chunk < chunks; chunk += STRIPES) {
            sums.one += (double)partial[(Index)(2 * chunk) * channels + channel];
            sums.two += (double)partial[(Index)(2 * chunk + 1) * channels + channel];
        }
    }
    int at = (int)(threadIdx.y * LANES + threadIdx.x);
    shared[at] = sums.one;
    shared[STRIPES * LANES + at] = sums.two;
    __syncthreads();
    if (threadIdx.y == 0) {
        // In order: the result does not depend on anything but the shape.
        sums.one = 0.0;
        sums.two = 0.0;
        for (int stripe = 0; stripe < STRIPES; ++stripe) {
            sums.one += shared[stripe * LANES + (int)threadIdx.x];
            sums.two += shared[(STRIPES + stripe) * LANES + (int)threadIdx.x];
        }
    }
    __syncthreads();
    return sums;
}

// Every kernel for both kinds of numbers, alone and in packs of 16 bytes.
#define FOR_EACH_PACK(KERNEL) \
    KERNEL(f32_4, float, 4) KERNEL(f32_1, float, 1) KERNEL(bf16_8, Bf16, 8) KERNEL(bf16_1, Bf16, 1)
#define FOR_EACH_NUMBER(KERNEL) KERNEL(f32, float) KERNEL(bf16, Bf16)
