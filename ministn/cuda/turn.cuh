// The batch whose turn it is: of the epoch's order of images (count), batch *number % batches has the
// places from first = batch_size (*number % batches) on. Image r of it is images[order[first + r]].
__device__ int image_in_turn(const int* order, const unsigned* number, int batches, int batch_size,
                             int r) {
    return order[int(*number % batches) * batch_size + r];
}
