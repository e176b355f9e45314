"""Bayesian in-context learning: exact predictors at every prefix, and how networks come near them."""
