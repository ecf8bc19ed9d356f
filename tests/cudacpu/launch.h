// What module.py hands over for one launch. Its ctypes structures mirror these.
#pragma once
#include <cstddef>
#include <cstdint>

#include "interface.h"

namespace cudacpu {

struct Array {  // an argument that is a pointer
    char* data;
    size_t bytes;
    const char* name;
    int argument;  // its position
    unsigned item_bytes;
    int writable;
};

struct Launch {
    void (*kernel)(const uint64_t* parameters);
    const uint64_t* parameters;  // one for each argument, its value in the lower bytes
    int parameter_count;
    uint3 grid, block;
    size_t shared_bytes;
    unsigned order;    // 0 forward, 1 backward, else the seed of a random order
    unsigned workers;  // operating-system threads, 0: as many as there are processors
    unsigned terms;    // of a tensor core's product, added at once and cut off; 0: one by one, rounded
    int checked;
    const Array* arrays;
    int array_count;
    const char* constants[2];  // begin and end of the library's own memory
};

struct Report {
    const char* text;
    const char* file;  // null if not known; then look up the instruction, if that is not null
    int line;
    const void* instruction;
    const void* earlier;  // the other access of a race, or null
};

}  // namespace cudacpu

// Runs a kernel to its end. Null if nothing went wrong.
extern "C" const cudacpu::Report* cudacpu_launch(const cudacpu::Launch* launch);
