// What every access of a checked kernel goes through: is the memory its own, has it been written,
// and is there a barrier between this access and those of other threads?
//
// For every four bytes (one, in arrays of smaller items) a cell remembers the last write and the
// last reads: by which threads, of which block, after how many barriers of the block and the warp.
// Two accesses of different threads, one of them a write, race unless a barrier lies between them;
// and between blocks there is none.
#include "checker.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "block.h"
#include "stamp.h"

namespace cudacpu::checker {

struct Cell {
    Stamp write, read;
};

struct Argument {
    Array array;
    const char* begin;  // where it is during the launch
};

// Arguments that do not overlap have a region each. Regions are so far apart that an index of 31
// bits, even a wrong one, does not lead from one into another.
struct Region {
    std::vector<Argument> arguments;
    const char* begin = nullptr;
    unsigned cell_bytes = 4;
    std::vector<Cell> cells;
};

constexpr int MOST_REGIONS = 64;

uint32_t block_number = 0, first_block = 0;

static bool on = false;
static char* memory = nullptr;  // of all regions
static size_t region_bytes = size_t(1) << 34;
static Region regions[MOST_REGIONS];
static std::vector<Cell> shared_cells[SharedMemory::SLOTS];
static const char* constants[2];
static const uint64_t* parameters_begin;
static size_t parameters_bytes;
static std::vector<uint3> blocks;  // of this launch

static void reserve_regions() {
    for (; memory == nullptr; region_bytes /= 2) {
        void* reserved = mmap(nullptr, MOST_REGIONS * region_bytes, PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (reserved != MAP_FAILED) {
            memory = (char*)reserved;
            return;
        }
    }
}

static void copy_in(Region& region, size_t number) {
    const char* host = region.arguments.front().array.data;
    const char* end = host;
    region.cell_bytes = 4;
    for (const Argument& argument : region.arguments) {
        end = std::max<const char*>(end, argument.array.data + argument.array.bytes);
        if (argument.array.item_bytes < 4) region.cell_bytes = 1;
    }
    constexpr size_t PAGE = 4096;  // the place in its page, and so all alignment, is kept
    char* page = memory + number * region_bytes + region_bytes / 2;
    char* begin = page + (uintptr_t)host % PAGE;
    mprotect(page, begin + (end - host) - page + 1, PROT_READ | PROT_WRITE);
    std::memcpy(begin, host, end - host);
    for (Argument& argument : region.arguments)
        argument.begin = begin + (argument.array.data - host);
    region.begin = begin;
    const size_t cells = (end - host) / region.cell_bytes + 1;
    if (region.cells.size() < cells) region.cells.resize(cells);
}

void begin_launch(const Launch& launch, std::vector<uint64_t>& parameters) {
    reserve_regions();
    std::vector<Array> arrays(launch.arrays, launch.arrays + launch.array_count);
    std::sort(arrays.begin(), arrays.end(),
              [](const Array& a, const Array& b) { return a.data < b.data; });
    for (Region& region : regions) region.arguments.clear();
    int count = 0;
    const char* end = nullptr;
    for (const Array& array : arrays) {
        if (count == 0 || array.data >= end) ++count;  // else it overlaps the one before
        if (count > MOST_REGIONS) abort();
        regions[count - 1].arguments.push_back({array, nullptr});
        end = std::max<const char*>(end, array.data + array.bytes);
    }
    for (int i = 0; i < count; ++i) {
        copy_in(regions[i], i);
        for (const Argument& argument : regions[i].arguments)
            parameters[argument.array.argument] = (uint64_t)argument.begin;
    }
    parameters_begin = parameters.data();
    parameters_bytes = parameters.size() * sizeof(uint64_t);
    std::copy(launch.constants, launch.constants + 2, constants);
    first_block = block_number + 1;
    blocks.clear();
    on = true;
}

void end_launch() {
    if (!on) return;
    on = false;
    for (const Region& region : regions)
        for (const Argument& argument : region.arguments)
            if (argument.array.writable)
                std::memcpy(argument.array.data, argument.begin, argument.array.bytes);
}

void begin_block() {
    if (!on) return;
    ++block_number;
    blocks.push_back(blockIdx);
}

// ---- words for what was found

static std::string element(const char* name, const char* kind, const char* address,
                           const char* begin, size_t bytes, unsigned item_bytes) {
    const ptrdiff_t offset = address - begin, item = item_bytes;
    const ptrdiff_t index = (offset - (offset < 0 ? item - 1 : 0)) / item;
    return "element " + std::to_string(index) + " of " + kind + name + ", which has " +
           std::to_string(bytes / item_bytes);
}

static std::string described(const SharedArray& array, const char* address) {
    if (array.name)
        return element(array.name, "shared array ", address, array.begin, array.bytes,
                       array.item_bytes);
    return "byte " + std::to_string(address - array.begin) +
           " of the dynamic shared memory, which has " + std::to_string(array.bytes);
}

static std::string described(const Argument& argument, const char* address) {
    const Array& array = argument.array;
    const std::string kind = "argument " + std::to_string(array.argument) + ", ";
    return element(array.name, kind.c_str(), address, argument.begin, array.bytes,
                   array.item_bytes);
}

static std::string elsewhere(const char* address) {
    const size_t offset = address - current->stacks;
    if (offset < current->threads * STACK_BYTES)
        return "a local variable of " +
               coordinates("thread", current->fibers[offset / STACK_BYTES].index);
    if ((uintptr_t)address < 4096) return "a null pointer";
    return "an address that is in no array";
}

static std::string who(const Stamp& stamp) {
    return coordinates("thread", current->fibers[stamp.thread].index) +
           (stamp.scope == Scope::THREAD ? "" : " and others") + " of " +
           coordinates("block", blocks[stamp.block - first_block]);
}

// ---- the checks

struct Target {  // the array that is accessed
    const char* begin;
    Cell* cells;
    unsigned cell_bytes;
    const SharedArray* shared;  // one of these two
    const Argument* argument;
    std::string described(const char* address) const {
        return shared ? checker::described(*shared, address)
                      : checker::described(*argument, address);
    }
};

struct Attempt {
    const char* address;
    unsigned bytes;
    Access access;
    const void* instruction;
    const char* verb() const { return access == Access::READ ? "read" : "write"; }
    [[noreturn]] void fail(std::string text, const void* earlier = nullptr) const {
        current->fail(text, {nullptr, 0}, instruction, earlier);
    }
};

static bool inside(const Attempt& attempt, const char* begin, size_t bytes) {
    const size_t offset = attempt.address - begin;
    return offset < bytes && attempt.bytes <= bytes - offset;
}

static Target target_in_shared(const Attempt& attempt) {
    const SharedMemory& shared = current->shared;
    const size_t slot = shared.slot_of(attempt.address);
    if (slot >= shared.arrays.size())
        attempt.fail(std::string(attempt.verb()) + " out of bounds in shared memory");
    const SharedArray& array = shared.arrays[slot];
    if (!inside(attempt, array.begin, array.bytes))
        attempt.fail(std::string(attempt.verb()) + " out of bounds: " +
                     described(array, attempt.address));
    std::vector<Cell>& cells = shared_cells[slot];
    const unsigned cell_bytes = array.item_bytes < 4 ? 1 : 4;
    const size_t count = array.bytes / cell_bytes + 1;
    if (cells.size() < count) cells.resize(count);
    return {array.begin, cells.data(), cell_bytes, &array, nullptr};
}

static Target target_in_arguments(const Attempt& attempt) {
    Region& region = regions[(attempt.address - memory) / region_bytes];
    if (region.arguments.empty())
        attempt.fail(std::string(attempt.verb()) + " out of bounds: " + elsewhere(attempt.address));
    for (const Argument& argument : region.arguments)
        if (inside(attempt, argument.begin, argument.array.bytes)) {
            if (attempt.access != Access::READ && !argument.array.writable) continue;
            return {region.begin, region.cells.data(), region.cell_bytes, nullptr, &argument};
        }
    const Argument& first = region.arguments.front();
    const bool read_only = inside(attempt, first.begin, first.array.bytes);
    attempt.fail(attempt.verb() +
                 std::string(read_only ? " to a const array: " : " out of bounds: ") +
                 described(first, attempt.address));
}

static void check_copies(const Cell& cell, const Stamp& now, const Attempt& attempt,
                         const Target& target) {
    const Stamp& write = cell.write;
    const bool own_end = attempt.access == Access::END_COPY && write.thread == now.thread;
    if (live(write, target.shared) && write.under_way && write.bytes & now.bytes && !own_end)
        attempt.fail(std::string(attempt.access == Access::READ ? "read of" : "write over") +
                         " what an asynchronous copy of " + who(write) +
                         " brings, without a wait: " + target.described(attempt.address),
                     write.instruction);
}

static void check_initialised(const Cell& cell, const Stamp& now, const Attempt& attempt,
                              const Target& target) {
    if (target.shared && (!live(cell.write, true) || now.bytes & ~cell.write.initialised))
        attempt.fail("read of uninitialised memory: " + target.described(attempt.address));
}

static void check_race(const Stamp& earlier, const Stamp& now, const Attempt& attempt,
                       const Target& target, const char* done) {
    if (races(earlier, now, target.shared))
        attempt.fail(std::string("race, ") + attempt.verb() + " after " + done + ": " +
                         target.described(attempt.address) + "; " + who(earlier) +
                         (done[0] == 'w' ? " wrote it" : " read it"),
                     earlier.instruction);
}

static void check_read(Cell& cell, const Stamp& now, const Attempt& attempt,
                       const Target& target) {
    check_initialised(cell, now, attempt, target);
    check_copies(cell, now, attempt, target);
    check_race(cell.write, now, attempt, target, "write");
    cell.read = joined(cell.read, now, target.shared);
}

static void check_write(Cell& cell, Stamp now, const Attempt& attempt, const Target& target) {
    const bool shared = target.shared;
    Stamp& write = cell.write;
    if (now.atomic) check_initialised(cell, now, attempt, target);
    check_copies(cell, now, attempt, target);
    if (!now.atomic || !write.atomic) check_race(write, now, attempt, target, "write");
    check_race(cell.read, now, attempt, target, "read");
    now.under_way = attempt.access == Access::BEGIN_COPY;
    now.initialised = now.bytes;
    if (write.block == now.block) {
        now.initialised |= write.initialised;
        if (!settled(write, now)) now.atomic &= write.atomic;  // its own plain write counts, too
    }
    write = joined(write, now, shared);
}

void access(const void* address, unsigned bytes, Access kind, const void* instruction) {
    if (!on) return;
    const Attempt attempt{(const char*)address, bytes, kind, instruction};
    const Multiprocessor& self = *current;
    if (inside(attempt, self.stacks + self.running * STACK_BYTES, STACK_BYTES)) return;
    Target target;
    if (self.shared.holds(address)) {
        target = target_in_shared(attempt);
    } else if ((size_t)(attempt.address - memory) < MOST_REGIONS * region_bytes) {
        target = target_in_arguments(attempt);
    } else if (kind == Access::READ &&
               (inside(attempt, constants[0], constants[1] - constants[0]) ||
                inside(attempt, (const char*)parameters_begin, parameters_bytes))) {
        return;
    } else {
        attempt.fail(std::string(attempt.verb()) + " out of bounds: " + elsewhere(attempt.address));
    }
    Stamp now;
    now.block = block_number;
    now.barriers = self.barriers;
    now.steps = self.warps[self.running / 32].steps;
    now.thread = self.running;
    now.atomic = kind == Access::ATOMIC;
    now.instruction = instruction;
    const size_t first = attempt.address - target.begin, size = target.cell_bytes;
    for (size_t byte = first; byte < first + bytes; byte = (byte / size + 1) * size) {
        const size_t from = byte % size, to = std::min(size, from + first + bytes - byte);
        now.bytes = (1u << to) - (1u << from);
        Cell& cell = target.cells[byte / size];
        const Attempt part{target.begin + byte, unsigned(to - from), kind, instruction};
        if (kind == Access::READ)
            check_read(cell, now, part, target);
        else
            check_write(cell, now, part, target);
    }
}

}  // namespace cudacpu::checker
