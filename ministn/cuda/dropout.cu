// Inverted dropout: y = x * mask and dx = dy * mask (ops/dropout.py).
//
// The random bits are Philox4x32-10, Salmon et al. (SC 2011), as in randomness.py: four elements
// of the whole batch share a counter. One thread for each counter, which alone writes its elements
// of y and keep; of the first and the last counter some elements may belong to other calls. A
// dense layer's activations are below a megabyte: launching costs more than any order of writing.
// Backward: one thread for each element of dx, which it alone writes.
//
// The number of the step is read from memory, so that a captured graph sees it go up.

__device__ void multiply(unsigned a, unsigned b, unsigned& high, unsigned& low) {
    const unsigned long long product = (unsigned long long)a * b;
    high = (unsigned)(product >> 32);
    low = (unsigned)product;
}

__device__ void philox4x32(unsigned (&counter)[4], unsigned key0, unsigned key1) {
    for (int round = 0; round < 10; ++round) {
        unsigned high0, low0, high1, low1;
        multiply(0xD2511F53u, counter[0], high0, low0);
        multiply(0xCD9E8D57u, counter[2], high1, low1);
        counter[0] = high1 ^ counter[1] ^ key0;
        counter[1] = low1;
        counter[2] = high0 ^ counter[3] ^ key1;
        counter[3] = low0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

// The first element, x[0], is word ``offset`` of counter (first_counter, *number, call, purpose).
// An element is kept where its bits are not below ``threshold``, of 0 to 2^32.
extern "C" __global__ void __launch_bounds__(256)
dropout(const float* __restrict__ x, float* __restrict__ y, unsigned char* __restrict__ keep,
        const unsigned* __restrict__ number, int size, unsigned first_counter, unsigned offset,
        unsigned call, unsigned purpose, unsigned key0, unsigned key1,
        unsigned long long threshold, float scale) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned words[4] = {first_counter + thread, *number, call, purpose};
    philox4x32(words, key0, key1);
    for (unsigned word = 0; word < 4; ++word) {
        const unsigned i = 4 * thread + word - offset;  // below 0 it wraps round, beyond any size
        if (i < (unsigned)size) {
            keep[i] = words[word] >= threshold;
            y[i] = x[i] * (words[word] >= threshold ? scale : 0.f);  // NaN stays, as in NumPy
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
dropout_backward(const float* __restrict__ dy, const unsigned char* __restrict__ keep,
                 float* __restrict__ dx, int size, float scale) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) dx[i] = dy[i] * (keep[i] ? scale : 0.f);
}
