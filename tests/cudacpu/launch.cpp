// Launches: blocks in their order, spread over operating-system threads.
#include "launch.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <numeric>
#include <thread>

#include "block.h"
#include "checker.h"

namespace cudacpu {

// Groups in order among themselves, and numbers within each group: a warp's lanes stay together.
std::vector<unsigned> order_of(unsigned count, unsigned order, unsigned group) {
    std::vector<unsigned> numbers(count);
    std::iota(numbers.begin(), numbers.end(), 0u);
    uint64_t state = order * 0x9e3779b97f4a7c15ull;  // xorshift64
    for (unsigned first = 0; order && first < count; first += group) {
        const unsigned size = std::min(group, count - first);
        unsigned* const members = &numbers[first];
        if (order == 1) std::reverse(members, members + size);
        for (unsigned i = size - 1; order > 1 && i > 0; --i) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            std::swap(members[i], members[state % (i + 1)]);
        }
    }
    return numbers;
}

static std::vector<std::unique_ptr<Multiprocessor>> multiprocessors;  // kept: their stacks are big

static bool run(const Launch& launch, const uint64_t* parameters, Fault& fault) {
    const uint3 grid = launch.grid;
    const unsigned blocks = grid.x * grid.y * grid.z;
    const std::vector<unsigned> block_order = order_of(blocks, launch.order, blocks);
    std::atomic<unsigned> next{0};
    std::atomic<bool> failed{false};
    auto work = [&](Multiprocessor& self) {
        current = &self;
        gridDim = grid;
        self.kernel = launch.kernel;
        self.parameters = parameters;
        self.terms = launch.terms;
        self.prepare_launch(launch.block, launch.order);
        for (unsigned turn; (turn = next.fetch_add(1)) < blocks && !failed;) {
            const unsigned block = block_order[turn];
            blockIdx = {block % grid.x, block / grid.x % grid.y, block / grid.x / grid.y};
            if (!self.run_block(launch.shared_bytes) && !failed.exchange(true)) fault = self.fault;
        }
    };
    const unsigned processors = std::max(1u, std::thread::hardware_concurrency());
    const unsigned workers =
        launch.checked ? 1 : std::min(launch.workers ? launch.workers : processors, blocks);
    while (multiprocessors.size() < workers)
        multiprocessors.push_back(std::make_unique<Multiprocessor>());
    std::vector<std::thread> others;
    for (unsigned i = 1; i < workers; ++i)
        others.emplace_back(work, std::ref(*multiprocessors[i]));
    work(*multiprocessors[0]);
    for (std::thread& other : others) other.join();
    return !failed;
}

}  // namespace cudacpu

const cudacpu::Report* cudacpu_launch(const cudacpu::Launch* launch) {
    using namespace cudacpu;
    static std::mutex one_at_a_time;
    static Fault fault;
    static Report report;
    const std::lock_guard<std::mutex> guard(one_at_a_time);
    std::vector<uint64_t> parameters(launch->parameters,
                                     launch->parameters + launch->parameter_count);
    if (launch->checked) checker::begin_launch(*launch, parameters);
    const bool well = run(*launch, parameters.data(), fault);
    checker::end_launch();
    if (well) return nullptr;
    report = {fault.text.c_str(), fault.place.file, fault.place.line, fault.instruction,
              fault.earlier};
    return &report;
}
