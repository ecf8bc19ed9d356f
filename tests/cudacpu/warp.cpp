// What the lanes of a warp do together: shuffles, votes, the tensor core; and asynchronous copies.
#include <math.h>

#include <algorithm>
#include <cstring>

#include "block.h"
#include "checker.h"

namespace cudacpu {

// Every lane of the mask hands over a record on its own stack; the last one to arrive lets
// operate(records, mask) work on all of them.
template <class Record>
static void collective(unsigned mask, Record& record, Place place,
                       void (*operate)(Record**, unsigned)) {
    Multiprocessor& self = *current;
    Warp& warp = self.warp();
    const unsigned lane = self.running % 32;
    if (!(mask >> lane & 1)) self.fail("a lane is not in its own mask", place);
    if (mask & warp.finished)
        self.fail("the mask names lanes of the warp that have returned or do not exist", place);
    Collective* mine = nullptr;
    const void* operation = (const void*)operate;
    for (Collective& other : warp.waiting)
        if (other.operation == operation && other.mask == mask && other.place.line == place.line)
            mine = &other;
        else if (other.mask >> lane & 1 && other.arrived & mask)  // they wait for each other
            self.fail("the warp has diverged: other lanes wait at line " +
                          std::to_string(other.place.line) +
                          (other.mask != mask ? " with another mask" : ""),
                      place);
    if (mine == nullptr) {
        warp.waiting.push_back({mask, 0, operation, place});
        mine = &warp.waiting.back();
    }
    warp.records[lane] = &record;
    mine->arrived |= 1u << lane;
    if (mine->arrived != mask) return self.wait(State::AT_COLLECTIVE, place);
    *mine = warp.waiting.back();
    warp.waiting.pop_back();
    const unsigned first = self.running - lane;
    for (unsigned other = 0; other < 32; ++other)
        if (mask >> other & 1) self.fibers[first + other].state = State::READY;
    operate((Record**)warp.records, mask);
}

unsigned lane() { return current->running % 32; }

// A lane has met another one also if it meets a third that has. The checker asks.
static void meet(Warp& warp, unsigned mask, unsigned lanes) {
    ++warp.steps;
    if (mask == lanes) {
        warp.all_met = warp.steps;
        return;
    }
    warp.met.resize(32 * 32);
    unsigned latest[32] = {};
    for (unsigned lane = 0; lane < 32; ++lane)
        for (unsigned other = 0; mask >> lane & 1 && other < 32; ++other)
            latest[other] = std::max(latest[other], warp.met[lane * 32 + other]);
    for (unsigned lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1) latest[lane] = warp.steps;
    for (unsigned lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1) std::copy(latest, latest + 32, &warp.met[lane * 32]);
}

// Of all collective operations this one alone orders the lanes' memory accesses.
void sync_warp(unsigned mask, Place place) {
    struct Nothing {
    } nothing;
    collective<Nothing>(mask, nothing, place, [](Nothing**, unsigned mask) {
        meet(current->warp(), mask, current->lanes());
    });
}

unsigned ballot(unsigned mask, bool vote, Place place) {
    struct Ballot {
        bool vote;
        unsigned votes;
    } ballot{vote, 0};
    collective<Ballot>(mask, ballot, place, [](Ballot** ballots, unsigned mask) {
        unsigned votes = 0;
        for (unsigned lane = 0; lane < 32; ++lane)
            if (mask >> lane & 1) votes |= (unsigned)ballots[lane]->vote << lane;
        for (unsigned lane = 0; lane < 32; ++lane)
            if (mask >> lane & 1) ballots[lane]->votes = votes;
    });
    return ballot.votes;
}

void shuffle(unsigned mask, void* value, unsigned bytes, unsigned source, Place place) {
    struct Letter {
        char sent[16], received[16];
        unsigned bytes, source;
    } letter{{}, {}, bytes, source};
    if (bytes > sizeof letter.sent) current->fail("a shuffle of more than 16 bytes", place);
    if (!(mask >> source & 1))
        current->fail("the value of lane " + std::to_string(source) +
                          " is asked for, which is not in the mask",
                      place);
    std::memcpy(letter.sent, value, bytes);
    collective<Letter>(mask, letter, place, [](Letter** letters, unsigned mask) {
        for (unsigned lane = 0; lane < 32; ++lane)
            if (mask >> lane & 1)
                std::memcpy(letters[lane]->received, letters[letters[lane]->source]->sent, 16);
    });
    std::memcpy(value, letter.received, bytes);
}

// ---- the tensor core

struct Fragments {
    float* d;
    const unsigned *a, *b;
};

static float tf32(unsigned bits) {  // the tensor core ignores the lower 13 bits
    bits &= ~0x1fffu;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// The bits that `mask` has of a double's 64.
static double masked(double x, uint64_t mask) {
    uint64_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    bits &= mask;
    std::memcpy(&x, &bits, sizeof bits);
    return x;
}

// sum += terms products, as GPUs from Volta on were found to add: all at once, each addend cut off
// one bit behind the last that a float as large as the largest of them has, and the result cut off
// to a float. Products of TF32 factors are exact in double.
static float cut_off_sum(float sum, const float* a, const float (*b)[8], unsigned terms) {
    double addends[9] = {sum}, largest = fabs(sum), all = sum, cut = 0;
    for (unsigned k = 0; k < terms; ++k) {
        addends[k + 1] = (double)a[k] * *b[k];
        largest = std::max(largest, fabs(addends[k + 1]));
        all += addends[k + 1];
    }
    if (!isfinite(all) || largest < 1e-30) return (float)all;
    const double unit = ldexp(masked(largest, 0x7ff0000000000000), -24);  // a power of two
    for (unsigned k = 0; k <= terms; ++k) cut += trunc(addends[k] / unit) * unit;
    return (float)masked(cut, ~((1ull << 29) - 1));
}

// D (16 x 8) += A (16 x 8) B (8 x 8). Which element is in which lane: tensor_core.cuh, and the PTX
// manual, "matrix fragments for mma.m16n8k8". How the hardware adds is not documented.
static void multiply_fragments(Fragments** lanes, unsigned) {
    float A[16][8], B[8][8], D[16][8];
    for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = lane % 4;
        const Fragments& of = *lanes[lane];
        A[g][t] = tf32(of.a[0]);
        A[g + 8][t] = tf32(of.a[1]);
        A[g][t + 4] = tf32(of.a[2]);
        A[g + 8][t + 4] = tf32(of.a[3]);
        B[t][g] = tf32(of.b[0]);
        B[t + 4][g] = tf32(of.b[1]);
        std::memcpy(&D[g][2 * t], of.d, 8);
        std::memcpy(&D[g + 8][2 * t], of.d + 2, 8);
    }
    const unsigned terms = current->terms;
    for (int i = 0; i < 16; ++i)
        for (unsigned k = 0; k < 8; k += terms ? terms : 1)
            for (int j = 0; j < 8; ++j)
                if (terms)
                    D[i][j] = cut_off_sum(D[i][j], &A[i][k], (const float (*)[8])&B[k][j], terms);
                else
                    D[i][j] += A[i][k] * B[k][j];
    for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = lane % 4;
        std::memcpy(lanes[lane]->d, &D[g][2 * t], 8);
        std::memcpy(lanes[lane]->d + 2, &D[g + 8][2 * t], 8);
    }
}

void multiply_tf32(float* d, const unsigned* a, const unsigned* b, Place place) {
    Fragments fragments{d, a, b};
    collective(0xffffffffu, fragments, place, multiply_fragments);
}

// ---- asynchronous copies: they arrive as late as they may, so that a missing wait is seen

void copy_async(void* shared, const void* global, unsigned bytes, bool inside, Place place) {
    Multiprocessor& self = *current;
    if (((uintptr_t)shared | (inside ? (uintptr_t)global : 0)) % bytes)
        self.fail("misaligned address of an asynchronous copy of " + std::to_string(bytes) +
                      " bytes",
                  place);
    const void* instruction = __builtin_return_address(0);
    checker::access(shared, bytes, Access::BEGIN_COPY, instruction);
    if (inside) checker::access(global, bytes, Access::READ, instruction);
    Fiber& fiber = self.fiber();
    fiber.copies.push_back(
        {(char*)shared, inside ? (const char*)global : nullptr, bytes, fiber.group});
}

void commit_copies() { ++current->fiber().group; }

void wait_for_copies(int groups_under_way) {
    Fiber& fiber = current->fiber();
    const int first_under_way = fiber.group - groups_under_way;
    size_t done = 0;
    for (; done < fiber.copies.size() && fiber.copies[done].group < first_under_way; ++done) {
        const AsyncCopy& copy = fiber.copies[done];
        checker::access(copy.shared, copy.bytes, Access::END_COPY, __builtin_return_address(0));
        if (copy.global)
            std::memcpy(copy.shared, copy.global, copy.bytes);
        else
            std::memset(copy.shared, 0, copy.bytes);
    }
    fiber.copies.erase(fiber.copies.begin(), fiber.copies.begin() + done);
}

}  // namespace cudacpu
