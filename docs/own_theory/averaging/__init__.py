"""Averaging: what the mean of many checkpoints knows, and when."""
