"""The GPU engine: float32 twins of ``ops``, each a .cu file and the Python that launches it.

Same names, arguments and results as in ``ops``, each with a cache of its own; ``engines`` chooses.
Nothing here waits for the GPU, and no result depends on the order in which its threads run.
Numbers below 1e-38, which have less than 24 bits, count as 0: CuPy compiles kernels so.
"""

from ministn.cuda.adam import adam
from ministn.cuda.affine_grid import affine_grid, affine_grid_backward
from ministn.cuda.affine_grid_3d import affine_grid_3d, affine_grid_3d_backward
from ministn.cuda.avg_pool2d import avg_pool2d, avg_pool2d_backward
from ministn.cuda.avg_pool3d import avg_pool3d, avg_pool3d_backward
from ministn.cuda.basis_grid import basis_grid, basis_grid_backward, grid_products
from ministn.cuda.batch import as_batch
from ministn.cuda.bicubic import bicubic_sampler, bicubic_sampler_backward
from ministn.cuda.bilinear import bilinear_sampler, bilinear_sampler_backward
from ministn.cuda.clip import clip, limit_norm, sum_of_squares
from ministn.cuda.conv_block import conv_block, conv_block_backward
from ministn.cuda.dense import dense, dense_backward
from ministn.cuda.dropout import dropout, dropout_backward
from ministn.cuda.gru import gru, gru_backward
from ministn.cuda.leaky_relu import leaky_relu, leaky_relu_backward
from ministn.cuda.max_pool2d import max_pool2d, max_pool2d_backward
from ministn.cuda.nearest import nearest_sampler, nearest_sampler_backward
from ministn.cuda.nesterov import nesterov
from ministn.cuda.projection import projection, projection_backward
from ministn.cuda.projective_grid import projective_grid, projective_grid_backward
from ministn.cuda.relu import relu, relu_backward
from ministn.cuda.rmsprop import rmsprop
from ministn.cuda.sgd import sgd
from ministn.cuda.sigmoid import sigmoid, sigmoid_backward
from ministn.cuda.softmax_cross_entropy import softmax_cross_entropy, softmax_cross_entropy_backward
from ministn.cuda.tanh import tanh, tanh_backward
from ministn.cuda.trilinear import trilinear_sampler, trilinear_sampler_backward
from ministn.cuda.triplet_hinge import triplet_hinge, triplet_hinge_backward
from ministn.ops.compose import compose, compose_backward  # array code, which runs on both

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
