"""Finite networks: initialisation, training, empirical kernels."""
