"""Spatial transformer networks with every backward pass written out by hand."""

__version__ = "0.1.0"
