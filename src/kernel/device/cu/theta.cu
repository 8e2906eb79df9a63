// θ on its way into the convolutions and back, and its step. θ is f32 throughout.

// One layer's weights: (rows, columns) at `theta` numbers into θ, staged at `staged`; rows are (K, K, I), columns O.
// cuDNN wants filters as (O, K, K, I), which is the transpose; a product takes them as they are.
struct Layer {
    int theta;
    int staged;
    int rows;
    int columns;
    // Rows that are staged: those beyond `rows` are zeros.
    int filled;
    int transposed;
    // The number of this layer's first tile.
    int tile;
};

#define TILE 32

// The layer that tile `tile` belongs to, and the tile's corner in it.
__device__ inline Layer layer_of(const Layer* layers, int count, int tile, int* row, int* column) {
    int low = 0, high = count - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (layers[middle].tile <= tile) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Layer layer = layers[low];
    int across = (layer.columns + TILE - 1) / TILE;
    *row = (tile - layer.tile) / across * TILE;
    *column = (tile - layer.tile) % across * TILE;
    return layer;
}

// Every layer's weights, rounded to T. One block for each tile.
template <class T>
__device__ void stage_weights(const float* theta, T* staged, const Layer* layers, int count) {
    __shared__ float tile[TILE][TILE + 1];
    int row, column;
    Layer layer = layer_of(layers, count, (int)blockIdx.x, &row, &column);
    const float* from = theta + layer.theta;
    T* to = staged + layer.staged;
    for (int r = (int)threadIdx.y; r < TILE; r += (int)blockDim.y) {
        int in_row = row + r, in_column = column + (int)threadIdx.x;
        if (in_row < layer.filled && in_column < layer.columns) {
            float value = in_row < layer.rows ? from[(Index)in_row * layer.columns + in_column] : 0.0f;
            tile[r][threadIdx.x] = value;
            if (!layer.transposed) to[(Index)in_row * layer.columns + in_column] = narrow<T>(value);
        }
    }
    __syncthreads();
    if (!layer.transposed) return;
    for (int c = (int)threadIdx.y; c < TILE; c += (int)blockDim.y) {
        int out_row = column + c, out_column = row + (int)threadIdx.x;
        if (out_row < layer.columns && out_column < layer.filled) {
            to[(Index)out_row * layer.filled + out_column] = narrow<T>(tile[threadIdx.x][c]);
        }
    }
}

// The gradients of transposed layers back in θ's order; products have written theirs.
template <class T>
__device__ void unstage_gradients(const T* staged, float* theta, const Layer* layers, int count) {
    __shared__ float tile[TILE][TILE + 1];
    int row, column;
    Layer layer = layer_of(layers, count, (int)blockIdx.x, &row, &column);
    // The whole block leaves together.
    if (!layer.transposed) return;
    const T* from = staged + layer.staged;
    float* to = theta + layer.theta;
    for (int c = (int)threadIdx.y; c < TILE; c += (int)blockDim.y) {
        int in_row = column + c, in_column = row + (int)threadIdx.x;
        if (in_row < layer.columns && in_column < layer.rows) {
            tile[c][threadIdx.x] = widen(from[(Index)in_row * layer.filled + in_column]);
        }
    }
    __syncthreads();
    for (int r = (int)threadIdx.y; r < TILE; r += (int)blockDim.y) {
        int out_row = row + r, out_column = column + (int)threadIdx.x;
        if (out_row < layer.rows && out_column < layer.columns) {
            to[(Index)out_row * layer.columns + out_column] = tile[threadIdx.x][r];
        }
    }
}

template <class From, class To>
__device__ void copy(const From* from, To* to, Index len) {
    Index stride = (Index)gridDim.x * blockDim.x;
    for (Index i = (Index)blockIdx.x * blockDim.x + threadIdx.x; i < len; i += stride) to[i] = narrow<To>(widen(from[i]));
}

extern "C" __global__ void copy_f32_f32(const float* from, float* to, Index len) { copy(from, to, len); }
extern "C" __global__ void copy_f32_bf16(const float* from, Bf16* to, Index len) { copy(from, to, len); }
extern "C" __global__ void copy_bf16_f32(const Bf16* from, float* to, Index len) { copy(from, to, len); }
extern "C" __global__ void copy_bf16_bf16(const Bf16* from, Bf16* to, Index len) { copy(from, to, len); }

// v ← μ·v + (g + λ·θ), θ ← θ − lr·v.
extern "C" __global__ void sgd_step(float* theta, float* velocity, const float* gradient, Index len, float lr,
                                    float momentum, float weight_decay) {
    Index stride = (Index)gridDim.x * blockDim.x;
    for (Index i = (Index)blockIdx.x * blockDim.x + threadIdx.x; i < len; i += stride) {
        float v = fmaf(momentum, velocity[i], fmaf(weight_decay, theta[i], gradient[i]));
        velocity[i] = v;
        theta[i] = fmaf(-lr, v, theta[i]);
    }
}

// One parameter of θ: where it begins, how long it is, and whether the penalty and LARS concern it.
struct Part {
    int begin;
    int len;
    int penalised;
};

// LARS's rate of each penalised part, trust·‖θ‖ / (‖g‖ + λ‖θ‖); 1 for the others and where a norm is 0. One block for
// each part.
extern "C" __global__ void lars_rates(const float* theta, const float* gradient, const Part* parts, float* rates,
                                      double trust, double weight_decay) {
    __shared__ double shared[2 * THREADS];
    Part part = parts[blockIdx.x];
    int thread = (int)threadIdx.x;
    double of_theta = 0.0, of_gradient = 0.0;
    for (int i = thread; i < part.len; i += THREADS) {
        double t = (double)theta[(Index)part.begin + i], g = (double)gradient[(Index)part.begin + i];
        of_theta += t * t;
        of_gradient += g * g;
    }
    shared[thread] = of_theta;
    shared[THREADS + thread] = of_gradient;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (thread < half) {
            shared[thread] += shared[thread + half];
            shared[THREADS + thread] += shared[THREADS + thread + half];
        }
        __syncthreads();
    }
    if (thread == 0) {
        double t = sqrt(shared[0]), g = sqrt(shared[THREADS]);
        bool moves = part.penalised && t > 0.0 && g > 0.0;
        rates[blockIdx.x] = moves ? (float)(trust * t / (g + weight_decay * t)) : 1.0f;
    }
}

// v ← μ·v + s·(g + λ·θ), θ ← θ − lr·v, with λ for penalised parts only and s from `rates` where there are such.
extern "C" __global__ void sgd_parts(float* theta, float* velocity, const float* gradient, const Part* parts,
                                     const float* rates, float lr, float momentum, float weight_decay) {
    Part part = parts[blockIdx.y];
    float rate = rates ? rates[blockIdx.y] : 1.0f, decay = part.penalised ? weight_decay : 0.0f;
    Index end = (Index)part.begin + part.len, stride = (Index)gridDim.x * blockDim.x;
    for (Index i = (Index)part.begin + blockIdx.x * blockDim.x + threadIdx.x; i < end; i += stride) {
        float v = fmaf(momentum, velocity[i], rate * fmaf(decay, theta[i], gradient[i]));
        velocity[i] = v;
        theta[i] = fmaf(-lr, v, theta[i]);
    }
}

#define STAGE(NAME, T)                                                                                                \
    extern "C" __global__ void stage_weights_##NAME(const float* theta, T* staged, const Layer* layers, int count) {  \
        stage_weights<T>(theta, staged, layers, count);                                                               \
    }                                                                                                                 \
    extern "C" __global__ void unstage_gradients_##NAME(const T* staged, float* theta, const Layer* layers,           \
                                                        int count) {                                                  \
        unstage_gradients<T>(staged, theta, layers, count);                                                           \
    }
FOR_EACH_NUMBER(STAGE)
