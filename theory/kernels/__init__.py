"""Infinite width: kernels of wide networks, linearised training, learning curves, and scalings.

Samples are rows here, as in every kernel library: `x` is (P, d). `depth` is the number of hidden layers.
"""
