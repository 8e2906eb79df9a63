// CUDA's words for a C++ compiler, so that the kernels run on the processor: the threads of a block take turns, each
// until it ends or reaches a barrier.

#include <cmath>
#include <cstring>
#include <ucontext.h>
#include <vector>

#define __device__
#define __launch_bounds__(threads)
#define __global__
// Blocks run one after the other: one copy serves them all.
#define __shared__ static

struct Dimensions {
    unsigned x, y, z;
};
static Dimensions gridDim, blockDim, blockIdx, threadIdx;

static unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

static float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// A thread of the block: its stack, and where it goes on.
struct Turn {
    ucontext_t context;
    std::vector<char> stack;
    Dimensions index;
    bool ended;
};
static ucontext_t between_turns;
static Turn* current;
static bool at_barrier;

static void __syncthreads() {
    at_barrier = true;
    Turn* self = current;
    swapcontext(&self->context, &between_turns);
    threadIdx = self->index;
}

typedef void (*Kernel)(void**);
static Kernel running;
static void** arguments;

static void one_thread() {
    running(arguments);
    current->ended = true;
}

// Runs one block, its threads in order or backwards; false where some ended and others wait at a barrier, which on a GPU
// hangs.
static bool run_block(std::vector<Turn>& turns, bool backwards) {
    for (Turn& turn : turns) {
        getcontext(&turn.context);
        turn.context.uc_stack.ss_sp = turn.stack.data();
        turn.context.uc_stack.ss_size = turn.stack.size();
        turn.context.uc_link = &between_turns;
        turn.ended = false;
        makecontext(&turn.context, one_thread, 0);
    }
    for (size_t ended = 0; ended < turns.size();) {
        size_t waiting = 0;
        ended = 0;
        for (size_t t = 0; t < turns.size(); ++t) {
            Turn& turn = turns[backwards ? turns.size() - 1 - t : t];
            at_barrier = false;
            current = &turn;
            threadIdx = turn.index;
            swapcontext(&between_turns, &turn.context);
            waiting += at_barrier;
            ended += turn.ended;
        }
        if (waiting > 0 && ended > 0) return false;
    }
    return true;
}

// Calls a kernel with its arguments where `params` point to.
template <class... A>
static void call_with(void (*kernel)(A...), void** params) {
    int next = 0;
    // Braces evaluate in order.
    struct Call {
        void (*kernel)(A...);
        Call(void (*kernel)(A...), A... values) { kernel(values...); }
    };
    Call{kernel, *static_cast<A*>(params[next++])...};
}

template <auto kernel>
static void call(void** params) {
    call_with(kernel, params);
}

struct Entry {
    const char* name;
    Kernel kernel;
};

static int run_kernel(const Entry* entries, int count, const char* name, const unsigned* grid, const unsigned* block,
                      void** params) {
    for (int i = 0; i < count; ++i) {
        if (std::strcmp(entries[i].name, name) != 0) continue;
        running = entries[i].kernel;
        arguments = params;
        gridDim = {grid[0], grid[1], grid[2]};
        blockDim = {block[0], block[1], 1};
        static unsigned launches = 0;
        ++launches;
        std::vector<Turn> turns(block[0] * block[1]);
        for (unsigned t = 0; t < turns.size(); ++t) {
            turns[t].stack.resize(1 << 14);
            turns[t].index = {t % block[0], t / block[0], 0};
        }
        for (unsigned z = 0; z < grid[2]; ++z)
            for (unsigned y = 0; y < grid[1]; ++y)
                for (unsigned x = 0; x < grid[0]; ++x) {
                    blockIdx = {x, y, z};
                    // What needs a barrier and has none is wrong in one of the two orders.
                    if (!run_block(turns, (x + y + z + launches) % 2 == 1)) return 2;
                }
        return 0;
    }
    return 1;
}
