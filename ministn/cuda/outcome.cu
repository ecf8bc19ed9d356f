// What a training step came to, noted on the device so that the host need not wait for it.
//
// Each entry of the log is written by one thread of one block: entry *number % batches.

// Answers that are wrong: those with a label, of labels (n, length), that has not the first maximum of
// its scores (n, length, classes), where NaN is the largest, as for NumPy. A loss that is not finite
// sets *halted. From then on adam.cu updates nothing, and the loss and errors noted of this step stay.
//
// Whole numbers are counted, so no order of additions can matter. Shared memory holds the count.
extern "C" __global__ void __launch_bounds__(256)
note_loss(const float* __restrict__ scores, const int* __restrict__ labels,
          const float* __restrict__ loss, const unsigned* __restrict__ number, int batches, int n,
          int length, int classes, float* __restrict__ losses, int* __restrict__ errors,
          int* __restrict__ halted) {
    __shared__ int count;
    if (*halted) return;  // all threads or none: it is set only after the last barrier
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    for (int answer = threadIdx.x; answer < n; answer += blockDim.x) {
        bool wrong = false;
        for (int i = answer * length; i < (answer + 1) * length; ++i) {
            const float* z = scores + i * classes;
            int best = 0;
            for (int k = 1; k < classes; ++k)
                if (!(z[k] <= z[best]) && !isnan(z[best])) best = k;
            wrong = wrong || best != labels[i];
        }
        if (wrong) atomicAdd(&count, 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        losses[*number % batches] = *loss;
        errors[*number % batches] = count;
        if (!isfinite(*loss)) *halted = 1;
    }
}

// Images whose attention has left the image: fewer than ``least`` of points x points points of the
// output fall within [-1, 1]^2 of the input, under theta (n, 2, 3) (ops/left_image.py). As
// there in double, rounded operation by operation: the corners of the identity lie on the border.
// Several transformers come in turn, from ``place`` 0 on, and the largest of their counts stays.
//
// One block; each thread takes every 256th image. Shared memory holds the count.
extern "C" __global__ void __launch_bounds__(256)
note_left(const float* __restrict__ theta, const double* __restrict__ axis, int points, int least,
          const unsigned* __restrict__ number, int batches, int n, int place,
          int* __restrict__ left) {
    __shared__ int count;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    for (int image = threadIdx.x; image < n; image += blockDim.x) {
        const float* t = theta + image * 6;
        int hits = 0;
        for (int i = 0; i < points * points; ++i) {
            const double x = axis[i % points], y = axis[i / points];
            bool hit = true;
            for (int row = 0; row < 6; row += 3) {
                const double s = __dadd_rn(
                    __dadd_rn(__dmul_rn(t[row], x), __dmul_rn(t[row + 1], y)), t[row + 2]);
                hit = hit && fabs(s) <= 1.0;  // false where s is not a number
            }
            hits += hit;
        }
        if (hits < least) atomicAdd(&count, 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        int* const entry = left + *number % batches;
        *entry = place == 0 ? count : max(*entry, count);
    }
}

// The step is done, unless its loss was not finite: then *number stays at it.
extern "C" __global__ void __launch_bounds__(1)
count_step(unsigned* __restrict__ number, const int* __restrict__ halted) {
    if (!*halted) ++*number;
}
