"""Whose convention is right? Exact vectors of grids, samplers and warps, and what libraries make.

formulas.py   the formulas, in exact arithmetic
vectors.py    makes vectors.json of them, which any language can use
vectors.json  the vectors, the formulas' derivation, and how to use them
compare.py    what a library's numbers are: as expected, another choice, or wrong
report.py     the outcome as lines and as a table
runners/      one short file for each library
__main__.py   the command
"""
