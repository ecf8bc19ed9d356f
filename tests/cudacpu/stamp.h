// Who touched a piece of memory, and whether that is sure to be over before another access.
#pragma once
#include <cstdint>

#include "block.h"

namespace cudacpu::checker {

// Whose accesses a stamp stands for: the thread's alone, or also those of others in its warp, its
// block or the grid, with no barrier between them.
enum class Scope : uint8_t { THREAD, WARP, BLOCK, GRID };

struct Stamp {
    uint32_t block = 0;
    uint32_t barriers = 0, steps = 0;
    uint16_t thread = 0;  // the latest one
    Scope scope = Scope::THREAD;
    uint8_t bytes = 0;        // bit i: byte i of the cell
    uint8_t initialised = 0;  // the same, of all writes of this block
    bool atomic = false;
    bool under_way = false;  // an asynchronous copy that has not been waited for
    const void* instruction = nullptr;
};

// Blocks are counted through all launches. Stamps from before the first block of this one, and in
// shared memory those of other blocks, have expired.
extern uint32_t block_number, first_block;

inline bool live(const Stamp& stamp, bool shared) {
    return stamp.block >= (shared ? block_number : first_block);
}

// Whether barriers make sure that all that `earlier` stands for is over for every thread that can
// be at `now`.
inline bool settled(const Stamp& earlier, const Stamp& now) {
    if (earlier.scope == Scope::GRID || earlier.block != now.block) return false;
    if (earlier.barriers != now.barriers) return true;
    if (earlier.scope == Scope::BLOCK || earlier.thread / 32 != now.thread / 32) return false;
    return current->warp().all_met > earlier.steps;
}

// Whether it is over for the thread itself.
inline bool ordered(const Stamp& earlier, const Stamp& now) {
    if (settled(earlier, now)) return true;
    if (earlier.scope != Scope::THREAD || earlier.block != now.block) return false;
    if (earlier.thread == now.thread) return true;
    if (earlier.thread / 32 != now.thread / 32) return false;
    const Warp& warp = current->warp();
    const unsigned pair = now.thread % 32 * 32 + earlier.thread % 32;
    return !warp.met.empty() && warp.met[pair] > earlier.steps;
}

inline bool races(const Stamp& earlier, const Stamp& now, bool shared) {
    return live(earlier, shared) && earlier.bytes & now.bytes && !ordered(earlier, now);
}

// A stamp for both, if a later access may still race with the earlier one; else the new one.
inline Stamp joined(const Stamp& earlier, Stamp now, bool shared) {
    if (!races(earlier, now, shared)) return now;
    if (earlier.scope == Scope::GRID || earlier.block != now.block)
        now.scope = Scope::GRID;
    else if (earlier.scope == Scope::BLOCK || earlier.thread / 32 != now.thread / 32)
        now.scope = Scope::BLOCK;
    else
        now.scope = Scope::WARP;
    now.bytes |= earlier.bytes;
    return now;
}

}  // namespace cudacpu::checker
