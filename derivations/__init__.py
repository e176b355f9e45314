"""Textbook forms of the theories, in SymPy, each with the proof that it solves the equation it claims to solve."""
