"""Induction heads: when in-context learning appears, how abruptly, and what it competes with."""
