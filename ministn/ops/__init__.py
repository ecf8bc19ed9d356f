"""Every operation as a pair of pure functions, forward and backward side by side.

    y, cache = op(x, ...)
    dx, ... = op_backward(dy, cache)

``dy`` is the gradient of the loss with respect to ``y`` and has its shape, and so for every name
that begins with ``d``. Letters: N batch, H W height and width of the input, h w of the output,
C channels, K kernels (output channels) or classes, D features, P parameters of a transform. Images
are (N, H, W, C), volumes (N, D, H, W): there D is their depth, and d the output's. The arrays of
one call share one dtype, float32 or float64, and results have it too. A cache is written by one
forward call and read by its backward call; nothing else looks inside. It may hold the arrays of the
call themselves: do not write into them between the two.
"""

from ministn.ops.adam import adam
from ministn.ops.affine_grid import affine_grid, affine_grid_backward
from ministn.ops.affine_grid_3d import affine_grid_3d, affine_grid_3d_backward
from ministn.ops.avg_pool2d import avg_pool2d, avg_pool2d_backward
from ministn.ops.avg_pool3d import avg_pool3d, avg_pool3d_backward
from ministn.ops.basis_grid import basis_grid, basis_grid_backward, grid_products
from ministn.ops.batch import as_batch
from ministn.ops.bicubic import bicubic_sampler, bicubic_sampler_backward
from ministn.ops.bilinear import bilinear_sampler, bilinear_sampler_backward
from ministn.ops.clip import clip, limit_norm, sum_of_squares
from ministn.ops.compose import compose, compose_backward
from ministn.ops.conv2d import conv2d, conv2d_backward
from ministn.ops.conv_block import conv_block, conv_block_backward
from ministn.ops.dense import dense, dense_backward
from ministn.ops.dropout import dropout, dropout_backward
from ministn.ops.gru import gru, gru_backward
from ministn.ops.leaky_relu import leaky_relu, leaky_relu_backward
from ministn.ops.max_pool2d import max_pool2d, max_pool2d_backward
from ministn.ops.nearest import nearest_sampler, nearest_sampler_backward
from ministn.ops.nesterov import nesterov
from ministn.ops.projection import projection, projection_backward
from ministn.ops.projective_grid import projective_grid, projective_grid_backward
from ministn.ops.relu import relu, relu_backward
from ministn.ops.rmsprop import rmsprop
from ministn.ops.sgd import sgd
from ministn.ops.sigmoid import sigmoid, sigmoid_backward
from ministn.ops.softmax_cross_entropy import softmax_cross_entropy, softmax_cross_entropy_backward
from ministn.ops.tanh import tanh, tanh_backward
from ministn.ops.trilinear import trilinear_sampler, trilinear_sampler_backward
from ministn.ops.triplet_hinge import triplet_hinge, triplet_hinge_backward

__all__ = [
    "adam",
    "affine_grid",
    "affine_grid_3d",
    "affine_grid_3d_backward",
    "affine_grid_backward",
    "as_batch",
    "avg_pool2d",
    "avg_pool2d_backward",
    "avg_pool3d",
    "avg_pool3d_backward",
    "basis_grid",
    "basis_grid_backward",
    "bicubic_sampler",
    "bicubic_sampler_backward",
    "bilinear_sampler",
    "bilinear_sampler_backward",
    "clip",
    "compose",
    "compose_backward",
    "conv2d",
    "conv2d_backward",
    "conv_block",
    "conv_block_backward",
    "dense",
    "dense_backward",
    "dropout",
    "dropout_backward",
    "grid_products",
    "gru",
    "gru_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "limit_norm",
    "max_pool2d",
    "max_pool2d_backward",
    "nearest_sampler",
    "nearest_sampler_backward",
    "nesterov",
    "projection",
    "projection_backward",
    "projective_grid",
    "projective_grid_backward",
    "relu",
    "relu_backward",
    "rmsprop",
    "sgd",
    "sigmoid",
    "sigmoid_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "sum_of_squares",
    "tanh",
    "tanh_backward",
    "trilinear_sampler",
    "trilinear_sampler_backward",
    "triplet_hinge",
    "triplet_hinge_backward",
]
