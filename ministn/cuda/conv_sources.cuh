struct Sizes {
    int images, height, width, channels;  // of x
    int kernel_height, kernel_width, kernels, margin_rows, margin_columns;
    int out_height, out_width, pool;  // of y; pool is 0 or 1
};

struct Pixel {
    int n, i, j;
};

struct Tap {
    int p, q, c;

    __device__ __forceinline__ void advance(int terms, int kernel_width, int channels) {
        c += terms;
        while (c >= channels) {
            c -= channels;
            if (++q == kernel_width) {
                q = 0;
                ++p;
            }
        }
    }
};

// ---- What loaders read. read() asks for the four channels from c on, taken() waits for them; where
// rows are not in_fours, one() has each channel. Outside the image all is zero.

struct Image {  // x
    typedef float4 Read;
    const float* x;
    const int height, width, channels;
    const bool fours;

    __device__ __forceinline__ Image(const float* x, const Sizes& s)
        : x(x), height(s.height), width(s.width), channels(s.channels), fours(in_fours(x, channels)) {}

    __device__ __forceinline__ bool inside(int i, int j) const {
        return i >= 0 && i < height && j >= 0 && j < width;
    }
    __device__ __forceinline__ const float* at(const Pixel& z, int c) const {
        return x + ((z.n * height + z.i) * width + z.j) * channels + c;
    }
    __device__ __forceinline__ float one(const Pixel& z, int c) const {
        return inside(z.i, z.j) ? *at(z, c) : 0.f;
    }
    __device__ __forceinline__ Read read(const Pixel& z, int c) const {
        return inside(z.i, z.j) ? four(at(z, c)) : zeros();
    }
    static __device__ __forceinline__ Read known(float4 values) { return values; }
    static __device__ __forceinline__ float4 taken(const Read& read) { return read; }
};

struct Gradient {  // dz: dy where the pixel's place in its window is the gate
    struct Read {
        float4 dy;
        unsigned gates, place;
    };
    const float* dy;
    const unsigned char* gate;
    const int height, width, channels, pool;
    const bool fours;

    __device__ __forceinline__ Gradient(const float* dy, const unsigned char* gate, const Sizes& s)
        : dy(dy), gate(gate), height(s.out_height), width(s.out_width), channels(s.kernels),
          pool(s.pool), fours(in_fours(dy, channels) && in_fours(gate, channels, 4)) {}

    __device__ __forceinline__ bool inside(int i, int j) const {
        return i >= 0 && i >> pool < height && j >= 0 && j >> pool < width;
    }
    __device__ __forceinline__ int at(const Pixel& z, int c) const {
        return ((z.n * height + (z.i >> pool)) * width + (z.j >> pool)) * channels + c;
    }
    __device__ __forceinline__ unsigned place(const Pixel& z) const {
        return (z.i & pool) * 2 + (z.j & pool);
    }
    __device__ __forceinline__ float one(const Pixel& z, int c) const {
        return inside(z.i, z.j) && gate[at(z, c)] == place(z) ? dy[at(z, c)] : 0.f;
    }
    __device__ __forceinline__ Read read(const Pixel& z, int c) const {
        if (!inside(z.i, z.j)) return known(zeros());
        return {four(dy + at(z, c)), *(const unsigned*)(gate + at(z, c)), place(z)};
    }
    static __device__ __forceinline__ Read known(float4 values) { return {values, 0, 0}; }
    static __device__ __forceinline__ float4 taken(const Read& read) {
        return through(read.dy, read.gates, read.place);
    }
};

// How threads share a tile of right, whose lines lie side by side in memory.
template <class T>
struct Lines {
    static constexpr int BESIDE = T::COLUMNS / 4;  // threads that share a line
    static constexpr int EACH = T::COLUMNS / 32;   // lines of one thread

    static __device__ __forceinline__ int first() { return threadIdx.x / BESIDE * EACH; }
    static __device__ __forceinline__ int column() { return threadIdx.x % BESIDE * 4; }
    static __device__ __forceinline__ bool idle() { return first() >= T::DEPTH; }  // if T is narrow
};

// Where a block's tile begins: blocks that share rows follow each other, to find them in the L2 cache.
template <class T>
struct Corner {
    int row, column;

    __device__ __forceinline__ explicit Corner(int columns) {
        const int across = (columns + T::COLUMNS - 1) / T::COLUMNS;
        row = blockIdx.x / across * T::ROWS;
        column = blockIdx.x % across * T::COLUMNS;
    }
};

