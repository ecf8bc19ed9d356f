// Running one block: fibers, barriers, shared memory.
#include "block.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "checker.h"

extern "C" {
__thread uint3 threadIdx, blockIdx, blockDim, gridDim;
}

namespace cudacpu {

__thread Multiprocessor* current = nullptr;

static char* reserve(size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) abort();
    return (char*)memory;
}

std::string coordinates(const char* name, uint3 index) {
    return std::string(name) + " (" + std::to_string(index.x) + "," + std::to_string(index.y) +
           "," + std::to_string(index.z) + ")";
}

// ---- shared memory

constexpr unsigned char POISON = 0xff;  // as a float: NaN
constexpr size_t CANARY_BYTES = 64;

SharedMemory::SharedMemory() : memory(reserve(SLOTS * SLOT_BYTES)) { arrays.reserve(SLOTS); }

void SharedMemory::begin_block(size_t dynamic_bytes) {
    arrays.clear();
    add(nullptr, dynamic_bytes, 4, 16);
}

SharedArray& SharedMemory::add(const char* name, size_t bytes, unsigned item_bytes,
                               size_t alignment) {
    // Aligned as promised and no better. The odd lines spread the slots over the cache.
    const size_t slot = arrays.size(), line = std::max<size_t>(2 * alignment, 64) * (4 * slot + 1);
    char* begin = memory + slot * SLOT_BYTES + SLOT_BYTES / 4 + line + alignment;
    std::memset(begin, POISON, bytes + CANARY_BYTES);
    arrays.push_back({name, begin, bytes, item_bytes});
    return arrays.back();
}

const SharedArray* SharedMemory::overrun() const {
    for (const SharedArray& array : arrays)
        for (size_t i = 0; i < CANARY_BYTES; ++i)
            if ((unsigned char)array.begin[array.bytes + i] != POISON) return &array;
    return nullptr;
}

void* dynamic_shared() { return current->shared.arrays[0].begin; }

void* static_shared(const char* name, size_t bytes, size_t item_bytes, size_t alignment) {
    SharedMemory& shared = current->shared;
    size_t used = bytes;
    for (const SharedArray& array : shared.arrays) {
        if (array.name == name) return array.begin;
        if (array.name != nullptr) used += array.bytes;
    }
    if (used > MOST_STATIC_SHARED_BYTES || shared.arrays.size() == SharedMemory::SLOTS)
        current->fail(std::string("no room for shared array ") + name + ": blocks have 48 KB, " +
                          "and the emulator room for 16 arrays, of a size known when compiled",
                      {nullptr, 0}, __builtin_return_address(0));
    return shared.add(name, bytes, item_bytes, alignment).begin;
}

// ---- fibers

Multiprocessor::Multiprocessor() : stacks(reserve(MOST_THREADS * STACK_BYTES)) {}

void Multiprocessor::prepare_launch(uint3 block, unsigned order_of_threads) {
    blockDim = block;
    threads = block.x * block.y * block.z;
    fibers.resize(threads);
    warps.resize((threads + 31) / 32);
    for (unsigned i = 0; i < threads; ++i)
        fibers[i].index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    order = order_of(threads, order_of_threads, 32);
    warp_order = order_of(warps.size(), order_of_threads, warps.size());
    rank.resize(threads);
    for (unsigned i = 0; i < threads; ++i) rank[order[i]] = i;
}

void Multiprocessor::resume(unsigned thread, Context& from) {
    Fiber& fiber = fibers[thread];
    running = thread;
    threadIdx = fiber.index;
    if (!fiber.started) {
        prepare(fiber.context, stack(), STACK_BYTES, run_fiber);
        fiber.started = true;
    }
    switch_context(from, fiber.context);
}

void Multiprocessor::run_fiber() {
    Multiprocessor& self = *current;
    self.kernel(self.parameters);
    self.fiber().state = State::DONE;
    --self.unfinished;
    self.warp().finished |= 1u << self.running % 32;
    switch_context(self.fiber().context, self.scheduler);
    abort();
}

// Straight on to the next lane of the warp that can run, without a detour to the scheduler.
void Multiprocessor::wait(State state, Place place) {
    Fiber& mine = fiber();
    mine.state = state;
    mine.waits_at = place;
    const unsigned first = running & ~31u, lanes = std::min(32u, threads - first);
    const unsigned my_rank = rank[running] - first;
    for (unsigned next = 1; next < lanes; ++next) {
        const unsigned thread = order[first + (my_rank + next) % lanes];
        if (fibers[thread].state == State::READY) return resume(thread, mine.context);
    }
    switch_context(mine.context, scheduler);
}

void Multiprocessor::fail(std::string text, Place place, const void* instruction,
                          const void* earlier) {
    failed = true;
    fault = {std::move(text) + ", by " + coordinates("thread", threadIdx) + " of " +
                 coordinates("block", blockIdx),
             place, instruction, earlier};
    switch_context(fiber().context, scheduler);
    abort();
}

// Whether any of its threads could run.
bool Multiprocessor::run_warp(unsigned warp) {
    const unsigned first = warp * 32, last = std::min(threads, first + 32);
    bool any = false;
    for (bool again = true; again && !failed;) {
        again = false;
        for (unsigned i = first; i < last && !failed; ++i)
            if (fibers[order[i]].state == State::READY) {
                resume(order[i], scheduler);
                any = again = true;
            }
    }
    return any;
}

bool Multiprocessor::run_block(size_t dynamic_bytes) {
    unfinished = threads;
    at_barrier = barriers = 0;
    failed = false;
    for (Fiber& fiber : fibers) {
        fiber.state = State::READY;
        fiber.started = false;
        fiber.group = 0;
        fiber.copies.clear();
    }
    for (Warp& warp : warps) {
        warp.finished = warp.steps = warp.all_met = 0;
        warp.met.clear();
        warp.waiting.clear();
    }
    if (threads % 32) warps.back().finished = ~0u << threads % 32;
    shared.begin_block(dynamic_bytes);
    checker::begin_block();
    while (unfinished && !failed) {
        bool any = false;
        for (unsigned i = 0; i < warps.size() && !failed; ++i) any |= run_warp(warp_order[i]);
        if (!any && !failed) report_deadlock();
    }
    const SharedArray* overrun = failed ? nullptr : shared.overrun();
    if (overrun) {
        failed = true;
        fault = {std::string("write past the end of ") +
                 (overrun->name ? std::string("shared array ") + overrun->name
                                : std::string("the dynamic shared memory")) +
                 " in " + coordinates("block", blockIdx)};
    }
    return !failed;
}

void Multiprocessor::report_deadlock() {
    const auto stuck = std::find_if(fibers.begin(), fibers.end(),
                                    [](const Fiber& fiber) { return fiber.state != State::DONE; });
    const char* where = stuck->state == State::AT_BARRIER ? "at __syncthreads" : "for its warp";
    failed = true;
    fault = {"deadlock in " + coordinates("block", blockIdx) + ": " +
                 coordinates("thread", stuck->index) + " waits " + where +
                 " for ever, as do " + std::to_string(unfinished - 1) + " others; " +
                 std::to_string(threads - unfinished) + " have returned",
             stuck->waits_at};
}

void barrier(Place place) {
    Multiprocessor& self = *current;
    if (self.at_barrier && self.barrier_place.line != place.line)
        self.fail("__syncthreads in divergent code, while other threads wait at line " +
                      std::to_string(self.barrier_place.line),
                  place);
    if (self.unfinished != self.threads)
        self.fail("__syncthreads that " + std::to_string(self.threads - self.unfinished) +
                      " threads do not reach: they have returned",
                  place);
    self.barrier_place = place;
    if (++self.at_barrier < self.threads) return self.wait(State::AT_BARRIER, place);
    for (Fiber& fiber : self.fibers) fiber.state = State::READY;
    self.at_barrier = 0;
    ++self.barriers;
}

void fence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

}  // namespace cudacpu
