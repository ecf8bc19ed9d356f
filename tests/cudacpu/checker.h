// The memory and race checker. A kernel that is to be checked is compiled with the instrumentation
// of g++'s thread and undefined-behaviour sanitizers, but without their libraries: it calls the
// functions in hooks.cpp, which ask checker.cpp.
#pragma once
#include <cstdint>
#include <vector>

#include "interface.h"
#include "launch.h"

namespace cudacpu {

enum class Access : uint8_t { READ, WRITE, ATOMIC, BEGIN_COPY, END_COPY };

namespace checker {

// Moves every array to addresses with nothing around them, and points the parameters there.
void begin_launch(const Launch& launch, std::vector<uint64_t>& parameters);
void begin_block();
// Moves the arrays back; nothing is checked any more.
void end_launch();

// Before the thread whose turn it is touches memory. Does not return if it may not. Nothing if the
// launch is not checked.
void access(const void* address, unsigned bytes, Access access, const void* instruction);

}  // namespace checker
}  // namespace cudacpu
