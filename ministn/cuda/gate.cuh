// gate, one byte for each output of a convolution block: the place (0 to 3, row-major) of the winner
// in its 2x2 window, to which the gradient goes; 0 without a pool; CLOSED where ReLU let nothing
// through. A leaky ReLU closes nothing: its slope is dealt with before dy is handed to the window.

[[maybe_unused]] constexpr int CLOSED = 4;

// Whether value replaces the largest one so far: it is larger, or the first NaN, as in np.argmax.
__device__ __forceinline__ bool replaces(float value, float largest) {
    return largest == largest && !(value <= largest);
}

// max(0, value), where NaN stays NaN.
__device__ __forceinline__ float rectified(float value) { return value < 0.f ? 0.f : value; }

// A sum with its bias: rectified, or if LEAKY, times slope where it is below zero; a slope of 1 is no
// activation.
template <bool LEAKY>
__device__ __forceinline__ float activated(float value, float slope) {
    return LEAKY ? (value < 0.f ? slope * value : value) : rectified(value);
}

template <bool LEAKY>
__device__ __forceinline__ unsigned char gate_of(float value, int place) {
    return (unsigned char)(LEAKY || value > 0.f ? place : CLOSED);
}

// The gradient that four channels' dy give the pixel of z at this place in their window; gates:
// their four bytes, the first channel's the lowest.
__device__ __forceinline__ float4 through(float4 dy, unsigned gates, unsigned place) {
    return make_float4((gates & 255) == place ? dy.x : 0.f,
                       (gates >> 8 & 255) == place ? dy.y : 0.f,
                       (gates >> 16 & 255) == place ? dy.z : 0.f,
                       gates >> 24 == place ? dy.w : 0.f);
}
