"""Trained networks: what the theories are held against."""
