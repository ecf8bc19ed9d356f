"""Float32 twins of the operations that dominate training, for one CPU core.

Same names, arguments and results as in ``ops``, each with a cache of its own; ``engines`` chooses.
"""

from ministn.fast.bicubic import bicubic_sampler, bicubic_sampler_backward
from ministn.fast.bilinear import bilinear_sampler, bilinear_sampler_backward
from ministn.fast.conv_block import conv_block, conv_block_backward
from ministn.fast.max_pool2d import max_pool2d, max_pool2d_backward
from ministn.fast.trilinear import trilinear_sampler, trilinear_sampler_backward

__all__ = [
    "bicubic_sampler",
    "bicubic_sampler_backward",
    "bilinear_sampler",
    "bilinear_sampler_backward",
    "conv_block",
    "conv_block_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "trilinear_sampler",
    "trilinear_sampler_backward",
]
