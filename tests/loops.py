"""Every operation once more: slow, in float64, written exactly like its equation.

STN = Jaderberg et al. 2015. Letters as in ``ministn.ops``.
"""

from itertools import product
from math import exp, floor, fsum, log, prod, sqrt

import numpy as np

from ministn.randomness import Step, philox4x32


def conv2d(x, weight, bias=None, padding="same", stride=1):
    """y_nijk = bias_k + sum_pqc x_n,(si+p),(sj+q),c weight_pqck, x being 0 outside."""
    (N, H, W, C), (kh, kw, _, K) = x.shape, weight.shape
    top, left = (kh // 2, kw // 2) if padding == "same" else (0, 0)
    h, w = (H + 2 * top - kh) // stride + 1, (W + 2 * left - kw) // stride + 1
    y = np.zeros((N, h, w, K))
    for n, i, j, k in np.ndindex(y.shape):
        y[n, i, j, k] = 0 if bias is None else bias[k]
        for p, q, c in np.ndindex(kh, kw, C):
            row, column = stride * i + p - top, stride * j + q - left
            if 0 <= row < H and 0 <= column < W:
                y[n, i, j, k] += x[n, row, column, c] * weight[p, q, c, k]
    return y


def max_pool2d(x, size=2, stride=None):
    """y_nijc = max_pq x_n,(ti+p),(tj+q),c, where no window has a row or column outside."""
    N, H, W, C = x.shape
    t = size if stride is None else stride
    h, w = (len(range(0, length - size + 1, t)) for length in (H, W))
    y = np.zeros((N, h, w, C))
    for n, i, j, c in np.ndindex(y.shape):
        y[n, i, j, c] = max(x[n, t * i + p, t * j + q, c] for p, q in np.ndindex(size, size))
    return y


def avg_pool2d(x, size=2):
    """y_nijc = 1/s^2 sum_pq x_n,(si+p),(sj+q),c."""
    N, H, W, C = x.shape
    y = np.zeros((N, H // size, W // size, C))
    for n, i, j, c in np.ndindex(y.shape):
        window = [x[n, size * i + p, size * j + q, c] for p, q in np.ndindex(size, size)]
        y[n, i, j, c] = sum(window) / size**2
    return y


def avg_pool3d(x, size=2):
    """y_nkij = 1/s^3 sum_opq x_n,(sk+o),(si+p),(sj+q)."""
    N, D, H, W = x.shape
    y = np.zeros((N, D // size, H // size, W // size))
    for n, k, i, j in np.ndindex(y.shape):
        for o, p, q in np.ndindex(size, size, size):
            y[n, k, i, j] += x[n, size * k + o, size * i + p, size * j + q] / size**3
    return y


def projection(x):
    """y_nij = 1/D sum_k x_nkij."""
    N, D, H, W = x.shape
    y = np.zeros((N, H, W, 1))
    for n, k, i, j in np.ndindex(x.shape):
        y[n, i, j, 0] += x[n, k, i, j] / D
    return y


def relu(x):
    """y = max(0, x)."""
    y = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        y[i] = max(0, x[i])
    return y


def leaky_relu(x, slope=1 / 3):
    """y = x where x > 0, else slope x."""
    y = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        y[i] = x[i] if x[i] > 0 else slope * x[i]
    return y


def tanh(x):
    """y = (exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    y = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        y[i] = (exp(x[i]) - exp(-x[i])) / (exp(x[i]) + exp(-x[i]))
    return y


def sigmoid(x):
    """y = 1 / (1 + exp(-x))."""
    y = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        y[i] = 1 / (1 + exp(-x[i]))
    return y


def conv_block(
    x, weight, bias=None, padding="same", stride=1, pool=False, activation="relu", slope=1 / 3
):
    """Convolution, bias, activation, pool, in the order in which the papers draw them."""
    y = conv2d(x, weight, bias, padding, stride)
    if activation == "relu":
        y = relu(y)
    if activation == "leaky_relu":
        y = leaky_relu(y, slope)
    return max_pool2d(y) if pool else y


def dense(x, weight, bias):
    """y_nk = sum_d x_nd weight_dk + bias_k."""
    (N, D), K = x.shape, len(bias)
    y = np.zeros((N, K))
    for n, k in np.ndindex(N, K):
        y[n, k] = bias[k] + sum(x[n, d] * weight[d, k] for d in range(D))
    return y


def gru(x, weight_x, weight_h, bias, steps):
    """h_t = (1 - u) h_t-1 + u c, with gates r, u and candidate c; h_0 = 0."""
    (N, D), K = x.shape, bias.shape[1]
    y = np.zeros((N, steps, K))
    for n, t in np.ndindex(N, steps):
        h = y[n, t - 1] if t else np.zeros(K)
        for k in range(K):
            a = [bias[i, k] + sum(x[n, d] * weight_x[d, i, k] for d in range(D)) for i in range(3)]
            g = [sum(h[j] * weight_h[j, i, k] for j in range(K)) for i in range(3)]
            r, u = sigmoid(np.array([a[0] + g[0], a[1] + g[1]]))
            (c,) = tanh(np.array([a[2] + r * g[2]]))
            y[n, t, k] = (1 - u) * h[k] + u * c
    return y


def dropout(x, rate: float, step: Step, stream: int):
    """Element e of the whole batch is word e % 4 of the Philox counter that begins with e // 4."""
    N, D = len(x), prod(x.shape[1:])
    y, x_rows = np.zeros((N, D)), x.reshape(N, D)
    for n, d in np.ndindex(N, D):
        element = (step.first_row + n) * D + d
        counter = np.array([[element // 4], [step.number], [step.call], [stream]], np.uint64)
        bits = philox4x32(counter, (step.seed % 2**32, step.seed // 2**32))[element % 4, 0]
        y[n, d] = x_rows[n, d] / (1 - rate) if bits / 2**32 >= rate else 0
    return y.reshape(x.shape)


def softmax_cross_entropy(logits, labels, epsilon=0.0):
    """-1/N sum_n log(softmax(logits_n)_label(n) + epsilon)."""
    N, K = logits.shape
    loss = 0.0
    for n in range(N):
        total = sum(exp(logits[n, k]) for k in range(K))
        loss -= log(exp(logits[n, labels[n]]) / total + epsilon) / N
    return np.array(loss)


def triplet_hinge(attended, random, pairs, margin=1.0):
    """1/P sum_(n,m) max(0, |t_n - t_m|^2 - |t_n - r_n|^2 + margin)."""
    loss = 0.0
    for n, m in pairs:
        h = margin
        for d in range(attended.shape[1]):
            h += (attended[n, d] - attended[m, d]) ** 2 - (attended[n, d] - random[n, d]) ** 2
        loss += max(0, h) / len(pairs)
    return np.array(loss)


def affine_grid(theta, size):
    """STN (1). Coordinate i of an axis of length l is -1 + 2i/(l-1), or 0 if l = 1."""
    (h, w), N = size, len(theta)
    grid = np.zeros((N, h, w, 2))
    for n, i, j, axis in np.ndindex(grid.shape):
        xt = -1 + 2 * j / (w - 1) if w > 1 else 0
        yt = -1 + 2 * i / (h - 1) if h > 1 else 0
        grid[n, i, j, axis] = theta[n, axis, 0] * xt + theta[n, axis, 1] * yt + theta[n, axis, 2]
    return grid


def affine_grid_3d(theta, size):
    """Targets in homogeneous coordinates times the 3x4 matrix."""
    grid = np.zeros((len(theta), *size, 3))
    for n, k, i, j in np.ndindex(grid.shape[:4]):
        target = [
            -1 + 2 * place / (length - 1) if length > 1 else 0
            for place, length in zip((j, i, k), size[::-1], strict=True)
        ]
        grid[n, k, i, j] = theta[n] @ [*target, 1]
    return grid


def basis_grid(theta, basis):
    """B_0 + sum_p theta_p B_p."""
    N, (_, h, w, _) = len(theta), basis.shape
    grid = np.zeros((N, h, w, 2))
    for n, i, j, axis in np.ndindex(grid.shape):
        grid[n, i, j, axis] = basis[0, i, j, axis]
        for p in range(theta.shape[1]):
            grid[n, i, j, axis] += theta[n, p] * basis[p + 1, i, j, axis]
    return grid


def projective_grid(theta, size):
    """Targets in homogeneous coordinates times the matrix [[1+p1 p2 p3] [p4 1+p5 p6] [p7 p8 1]]."""
    targets = affine_grid(np.array([[[1, 0, 0], [0, 1, 0]]]), size)[0]
    grid = np.zeros((len(theta), *size, 2))
    for n, i, j, axis in np.ndindex(grid.shape):
        matrix = np.append(theta[n], 0).reshape(3, 3) + np.eye(3)
        source = matrix @ [*targets[i, j], 1]
        grid[n, i, j, axis] = source[axis] / source[2]
    return grid


def compose(left, right):
    """The first two rows of the product of both as 3x3 matrices."""
    y = np.zeros(left.shape)
    for n in range(len(left)):
        y[n] = (np.vstack([left[n], [0, 0, 1]]) @ np.vstack([right[n], [0, 0, 1]]))[:2]
    return y


def grid_products(grid, basis):
    """sum_i grid_ni . basis_pi over pixels i."""
    y = np.zeros((len(grid), len(basis)))
    for n, p in np.ndindex(y.shape):
        for i in np.ndindex(grid.shape[1:]):
            y[n, p] += grid[n][i] * basis[p][i]
    return y


def as_batch(images):
    """x = u / 255, with an axis of channels."""
    x = np.zeros(images.shape)
    for i in np.ndindex(images.shape):
        x[i] = int(images[i]) / 255
    return x if images.ndim == 4 else x[..., None]


def kernel(distance):
    """The bilinear kernel of STN (5)."""
    return max(0, 1 - abs(distance))


def keys(distance, a):
    """The cubic kernel of Keys (1981)."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0


def pixels(grid, H, W):
    """Normalised (x, y) to pixels: -1 is 0 and +1 the last pixel."""
    return (grid[..., 0] + 1) * (W - 1) / 2, (grid[..., 1] + 1) * (H - 1) / 2


def pixel(u, n, m, border, fill):
    """U_nm of one image (H, W, C), continued beyond its edges."""
    H, W, C = u.shape
    if border == "zeros":
        return u[n, m] if 0 <= n < H and 0 <= m < W else np.full(C, fill)
    return u[folded(n, H, border), folded(m, W, border)]


def folded(n, length, border):
    """The pixel that stands for pixel n of an axis."""
    while not 0 <= n < length:
        if border == "nearest" or length == 1:
            n = min(max(n, 0), length - 1)
        elif border == "mirror":
            n = -n if n < 0 else 2 * (length - 1) - n
        else:
            n += length if n < 0 else -length
    return n


def nearest_sampler(image, grid, border="nearest", fill=0.0):
    """STN (4)."""
    H, W, C = image.shape[1:]
    xs, ys = pixels(grid, H, W)
    v = np.zeros((*xs.shape, C))
    for i in np.ndindex(xs.shape):
        v[i] = pixel(image[i[0]], floor(ys[i] + 0.5), floor(xs[i] + 0.5), border, fill)
    return v


def bilinear_sampler(image, grid, border="nearest", fill=0.0):
    """STN (5)."""
    return sampler(image, grid, border, fill, kernel)


def bicubic_sampler(image, grid, border="nearest", fill=0.0, a=-0.5):
    """STN (3) with the kernel of Keys."""
    return sampler(image, grid, border, fill, lambda distance: keys(distance, a))


def sampler(image, grid, border, fill, kernel, around=5):
    """STN (3), the sums running over the image and ``around`` pixels about it."""
    H, W, C = image.shape[1:]
    xs, ys = pixels(grid, H, W)
    v = np.zeros((*xs.shape, C))
    for i in np.ndindex(xs.shape):
        rows = [n for n in range(-around, H + around) if kernel(ys[i] - n)]  # the others add 0
        columns = [m for m in range(-around, W + around) if kernel(xs[i] - m)]
        for n in rows:
            for m in columns:
                u = pixel(image[i[0]], n, m, border, fill)
                v[i] += u * kernel(xs[i] - m) * kernel(ys[i] - n)
    return v


def trilinear_sampler(volume, grid, border="nearest", fill=0.0):
    """STN (5) with one axis more, the sums running over the voxels that have a weight."""
    lengths = volume.shape[:0:-1]
    v = np.zeros(grid.shape[:-1])
    for i in np.ndindex(v.shape):
        point = [(g + 1) * (length - 1) / 2 for g, length in zip(grid[i], lengths, strict=True)]
        corners = [[m for m in range(floor(x) - 1, floor(x) + 3) if kernel(x - m)] for x in point]
        for voxel in product(*corners):
            weight = prod(kernel(x - m) for x, m in zip(point, voxel, strict=True))
            v[i] += weight * voxel_at(volume[i[0]], voxel, border, fill)
    return v


def voxel_at(u, voxel, border, fill):
    """U_knm of one volume (D, H, W), voxel = (m, n, k), continued beyond its edges."""
    place, lengths = voxel[::-1], u.shape
    if border == "zeros":
        inside = all(0 <= k < length for k, length in zip(place, lengths, strict=True))
        return u[place] if inside else fill
    return u[tuple(folded(k, length, border) for k, length in zip(place, lengths, strict=True))]


# ---- limits on a gradient


def clip(g, limit):
    return np.array([min(max(value, -limit), limit) for value in g])


def sum_of_squares(g):
    return fsum(float(value) ** 2 for value in g)


def limit_norm(g, squares, most):
    """lasagne.updates.total_norm_constraint of one array, line by line."""
    norm = sqrt(squares)
    target_norm = min(norm, most)
    multiplier = target_norm / (1e-7 + norm)
    return np.array([value * multiplier for value in g])


# ---- optimisers: p after these gradients, each with its learning rate


def adam(p, gradients, rates, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """lasagne.updates.adam, line by line."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, (g, lr) in enumerate(zip(gradients, rates, strict=True), 1):
        a_t = lr * sqrt(1 - beta2**t) / (1 - beta1**t)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        p = p - a_t * m / (np.sqrt(v) + epsilon)
    return p


def rmsprop(p, gradients, rates, rho=0.9, epsilon=1e-6):
    """lasagne.updates.rmsprop, line by line."""
    accumulated = np.zeros_like(p)
    for g, lr in zip(gradients, rates, strict=True):
        accumulated = rho * accumulated + (1 - rho) * g**2
        p = p - lr * g / np.sqrt(accumulated + epsilon)
    return p


def nesterov(p, gradients, rates, momentum=0.9, decay=0.0):
    """lasagne.updates.nesterov_momentum with an L2 penalty, as its documentation has it."""
    velocity = np.zeros_like(p)
    for g, lr in zip(gradients, rates, strict=True):
        gradient = g + decay * p
        velocity = momentum * velocity - lr * gradient
        p = p + momentum * velocity - lr * gradient
    return p


def sgd(p, gradients, rates, momentum=0.9, decay=0.0):
    """lasagne.updates.momentum with an L2 penalty, line by line."""
    velocity = np.zeros_like(p)
    for g, lr in zip(gradients, rates, strict=True):
        velocity = momentum * velocity - lr * (g + decay * p)
        p = p + velocity
    return p
