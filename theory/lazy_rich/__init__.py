"""Lazy and rich: what decides whether a network learns features, and when.

Samples are rows: `x` is (P, d).
"""
