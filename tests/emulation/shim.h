// CUDA's words for a C++ compiler, so that the kernels run on the processor: the threads of a block take turns, each
// until it ends or reaches a barrier.

#include <cmath>
#include <csetjmp>
#include <cstring>
#include <ucontext.h>
#include <utility>
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

// A stack on which threads run one after the other; one that reaches a barrier keeps it until it has ended.
struct Fiber {
    ucontext_t start;
    jmp_buf where;
    std::vector<char> stack;
    Dimensions index;
    bool begun, waits;
};
static jmp_buf between_turns;
static Fiber* current;

typedef void (*Kernel)(void**);
static Kernel running;
static void** arguments;

// Of the block that runs: its threads, how many of them have begun and ended, and whether the last one begins.
static unsigned threads, begun, ended;
static bool backwards;

// Goes on with `fiber` until it reaches a barrier or has nothing left to run. Not swapcontext, which calls the system.
__attribute__((noinline)) static void go_on(Fiber* fiber) {
    current = fiber;
    if (_setjmp(between_turns) != 0) return;
    if (fiber->begun) _longjmp(fiber->where, 1);
    fiber->begun = true;
    setcontext(&fiber->start);
}

__attribute__((noinline)) static void give_way(Fiber* self) {
    if (_setjmp(self->where) == 0) _longjmp(between_turns, 1);
}

__attribute__((noinline)) static void __syncthreads() {
    Fiber* self = current;
    self->waits = true;
    give_way(self);
    threadIdx = self->index;
}

static void run_threads() {
    for (;;) {
        while (begun < threads) {
            unsigned t = backwards ? threads - 1 - begun : begun;
            ++begun;
            threadIdx = current->index = {t % blockDim.x, t / blockDim.x, 0};
            running(arguments);
            ++ended;
        }
        current->waits = false;
        give_way(current);
    }
}

// Fibers that run nothing.
static std::vector<Fiber*> idle;

static Fiber* any_fiber() {
    if (!idle.empty()) {
        Fiber* fiber = idle.back();
        idle.pop_back();
        return fiber;
    }
    Fiber* fiber = new Fiber();
    fiber->stack.resize(1 << 14);
    getcontext(&fiber->start);
    fiber->start.uc_stack.ss_sp = fiber->stack.data();
    fiber->start.uc_stack.ss_size = fiber->stack.size();
    makecontext(&fiber->start, run_threads, 0);
    return fiber;
}

// Runs one block, its threads in order or backwards; false where some ended and others wait at a barrier, which on a GPU
// hangs.
static bool run_block() {
    std::vector<Fiber*> waiting;
    begun = ended = 0;
    auto turn = [&](Fiber* fiber) {
        go_on(fiber);
        (fiber->waits ? waiting : idle).push_back(fiber);
    };
    while (begun < threads) turn(any_fiber());
    while (!waiting.empty()) {
        if (ended > 0) return false;
        for (Fiber* fiber : std::exchange(waiting, {})) turn(fiber);
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
        threads = block[0] * block[1];
        for (unsigned z = 0; z < grid[2]; ++z)
            for (unsigned y = 0; y < grid[1]; ++y)
                for (unsigned x = 0; x < grid[0]; ++x) {
                    blockIdx = {x, y, z};
                    // What needs a barrier and has none is wrong in one of the two orders.
                    backwards = (x + y + z + launches) % 2 == 1;
                    if (!run_block()) return 2;
                }
        return 0;
    }
    return 1;
}
