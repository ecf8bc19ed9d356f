// The gates of a GRU, forward and backward (ops/gru.py). With a = x W_x + b and g = h W_h, products
// that dense.py makes, of h = h_t-1:
//
//     r = sigmoid(a_r + g_r),  u = sigmoid(a_u + g_u),  c = tanh(a_c + r g_c)
//     h_t = (1 - u) h + u c
//
//     da_u = dh_t (c - h) u (1 - u),  da_c = dh_t u (1 - c^2),  da_r = da_c g_c r (1 - r)
//     dg_r = da_r,  dg_u = da_u,  dg_c = da_c r
//
// a, g and their gradients are (N, 3, K), the states (N, K). One thread for each element of h_t,
// which alone writes it, and on the way back the three of dg, its own of dh, (1 - u) dh_t, and those
// of da, to which the steps add one after another. The way back makes the gates again, which is
// cheaper than reading them. 1 - r and 1 - u are not differences, which near 0 would lose digits.

struct Gate {
    float y, rest;  // sigmoid(x) and 1 - sigmoid(x), from e = exp(-|x|), which overflows nowhere
};

__device__ Gate sigmoid_of(float x) {
    const float e = expf(-fabsf(x)), larger = 1.f / (1.f + e), smaller = e / (1.f + e);
    return x >= 0.f ? Gate{larger, smaller} : Gate{smaller, larger};
}

struct Gates {
    Gate r, u;
    float c, g_c;
};

// at: where the element's gate r is; those of u and c are one and two rows of ``units`` further.
__device__ Gates gates_of(const float* __restrict__ a, const float* __restrict__ g, int at,
                          int units) {
    Gates found;
    found.r = sigmoid_of(a[at] + g[at]);
    found.u = sigmoid_of(a[at + units] + g[at + units]);
    found.g_c = g[at + 2 * units];
    found.c = tanhf(a[at + 2 * units] + found.r.y * found.g_c);
    return found;
}

extern "C" __global__ void __launch_bounds__(256)
gru_gates(const float* __restrict__ a, const float* __restrict__ g, const float* __restrict__ h,
          float* __restrict__ next, int size, int units) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const Gates gates = gates_of(a, g, i / units * 3 * units + i % units, units);
    next[i] = gates.u.rest * h[i] + gates.u.y * gates.c;
}

extern "C" __global__ void __launch_bounds__(256)
gru_gates_backward(const float* __restrict__ dnext, const float* __restrict__ a,
                   const float* __restrict__ g, const float* __restrict__ h,
                   float* __restrict__ da, float* __restrict__ dg, float* __restrict__ dh, int size,
                   int units) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int r = i / units * 3 * units + i % units, u = r + units, c = u + units;
    const Gates gates = gates_of(a, g, r, units);
    const float da_u = dnext[i] * (gates.c - h[i]) * gates.u.y * gates.u.rest;
    const float da_c = dnext[i] * gates.u.y * (1.f - gates.c) * (1.f + gates.c);
    const float da_r = da_c * gates.g_c * gates.r.y * gates.r.rest;
    da[r] += da_r;
    da[u] += da_u;
    da[c] += da_c;
    dg[r] = da_r;
    dg[u] = da_u;
    dg[c] = da_c * gates.r.y;
    dh[i] = dnext[i] * gates.u.rest;
}
