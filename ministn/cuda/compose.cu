// The product of two affine transforms, each a matrix beside a translation (ops/compose.py):
//
//     A B = [A' B'   A' b + a]
//     dA' = dC B^T  (all three columns of both),    da = dc,    dB = A'^T dC
//
// One thread for each element of a 2x3 matrix, which alone writes it; backward it writes that of
// both gradients. A row of A, and an element of it, has the same number in y: 3 row + column.

extern "C" __global__ void __launch_bounds__(256)
compose(const float* __restrict__ left, const float* __restrict__ right, float* __restrict__ y,
        int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int column = i % 3;
    const float* a = left + i / 3 * 3;
    const float* b = right + i / 6 * 6 + column;
    const float linear = a[0] * b[0] + a[1] * b[3];
    y[i] = column == 2 ? linear + a[2] : linear;
}

extern "C" __global__ void __launch_bounds__(256)
compose_backward(const float* __restrict__ dy, const float* __restrict__ left,
                 const float* __restrict__ right, float* __restrict__ dleft,
                 float* __restrict__ dright, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int first = i / 6 * 6, row = i / 3 % 2, column = i % 3;
    const float* d = dy + first;
    const float* a = left + first + row;
    dright[i] = a[0] * d[column] + a[3] * d[3 + column];
    d += 3 * row;
    if (column == 2) {
        dleft[i] = d[2];
    } else {
        const float* b = right + first + 3 * column;
        dleft[i] = d[0] * b[0] + d[1] * b[1] + d[2] * b[2];
    }
}
