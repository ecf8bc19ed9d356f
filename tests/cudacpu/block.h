// A block while it runs: in one thread of the operating system. Its CUDA threads are fibers of it.
//
// A fiber runs until it has to wait, at a barrier or for the other lanes of its warp. Then the next
// lane runs. So threads never run at the same time, in an order that is the same each time and that
// the launch chooses.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "fiber.h"
#include "interface.h"

namespace cudacpu {

constexpr unsigned MOST_THREADS = 1024;
constexpr size_t STACK_BYTES = 64 * 1024;
constexpr size_t MOST_SHARED_BYTES = 227 * 1024;        // of Hopper; of these
constexpr size_t MOST_STATIC_SHARED_BYTES = 48 * 1024;  // in arrays of a size known when compiled

// What went wrong, and where in the kernel: a line, or an instruction. In a race there is an
// earlier one, too.
struct Fault {
    std::string text;
    Place place{nullptr, 0};
    const void *instruction = nullptr, *earlier = nullptr;
};

enum class State : uint8_t { READY, AT_BARRIER, AT_COLLECTIVE, DONE };

struct AsyncCopy {
    char* shared;
    const char* global;  // null: zeros
    unsigned bytes;
    int group;
};

struct Fiber {
    Context context;
    uint3 index;  // its threadIdx
    State state;
    bool started;
    Place waits_at{nullptr, 0};
    int group;  // of the copies that it begins next
    std::vector<AsyncCopy> copies;
};

struct Collective {  // an operation that waits for the rest of its lanes
    unsigned mask, arrived;
    const void* operation;
    Place place;
};

struct Warp {
    unsigned finished = 0;  // lanes
    unsigned steps = 0;     // __syncwarp so far
    // The step at which a lane last met another one, itself or by way of others: that of all lanes,
    // and met[lane * 32 + other], which is empty until some lanes meet without the others.
    unsigned all_met = 0;
    std::vector<unsigned> met;
    std::vector<Collective> waiting;
    void* records[32];  // what the lanes hand over
};

struct SharedArray {
    const char* name;  // null: the dynamic one
    char* begin;
    size_t bytes;
    unsigned item_bytes;
};

// Each array has a slot of addresses of its own, so that a wrong index falls into no other array.
struct SharedMemory {
    static constexpr size_t SLOT_BYTES = 512 * 1024, SLOTS = 17;

    char* memory;
    std::vector<SharedArray> arrays;  // the dynamic one first

    SharedMemory();
    void begin_block(size_t dynamic_bytes);
    SharedArray& add(const char* name, size_t bytes, unsigned item_bytes, size_t alignment);
    bool holds(const void* address) const {
        return (size_t)((const char*)address - memory) < SLOTS * SLOT_BYTES;
    }
    size_t slot_of(const void* address) const {
        return ((const char*)address - memory) / SLOT_BYTES;
    }
    // The array past whose end something was written, or null.
    const SharedArray* overrun() const;
};

// The order in which threads, warps and blocks get their turn: 0 forward, 1 backward, else a seed.
std::vector<unsigned> order_of(unsigned count, unsigned order, unsigned group);

struct Multiprocessor {
    unsigned threads = 0;
    unsigned running = 0;  // the thread whose turn it is
    unsigned unfinished = 0, at_barrier = 0;
    unsigned barriers = 0;  // passed so far
    Place barrier_place{nullptr, 0};
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<unsigned> order, rank;  // of threads, warp by warp; rank[order[i]] == i
    std::vector<unsigned> warp_order;
    char* stacks;
    SharedMemory shared;
    Context scheduler;
    bool failed = false;
    Fault fault;
    void (*kernel)(const uint64_t*) = nullptr;
    const uint64_t* parameters = nullptr;
    unsigned terms = 0;  // see launch.h

    Multiprocessor();
    void prepare_launch(uint3 block, unsigned order_of_threads);
    bool run_block(size_t dynamic_bytes);  // whether nothing went wrong
    Fiber& fiber() { return fibers[running]; }
    Warp& warp() { return warps[running / 32]; }
    unsigned lanes() const {  // of the running warp, as a mask
        const unsigned first = running & ~31u;
        return threads - first < 32 ? (1u << (threads - first)) - 1 : ~0u;
    }
    char* stack() { return stacks + running * STACK_BYTES; }

    // Called by fibers.
    void wait(State state, Place place);
    [[noreturn]] void fail(std::string text, Place place, const void* instruction = nullptr,
                           const void* earlier = nullptr);

  private:
    void resume(unsigned thread, Context& from);
    bool run_warp(unsigned warp);
    void report_deadlock();
    static void run_fiber();
};

extern __thread Multiprocessor* current;

// "thread (3,0,0)", for messages.
std::string coordinates(const char* name, uint3 index);

}  // namespace cudacpu

extern "C" {
extern __thread uint3 threadIdx, blockIdx, blockDim, gridDim;  // const to kernels, see language.h
}
