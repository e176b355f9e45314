"""Rank of the initial weights: what a small start becomes, and its mean over targets."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

d, rank = sp.symbols("d PR", positive=True)
s1, s2, x1, x2 = sp.symbols("s_1 s_2 x_1 x_2", positive=True)
b1, b2 = sp.symbols("beta_1 beta_2", real=True)
DIMENSION = 6

_mean = (1 + 1 / d) * sp.sqrt(rank / (d + 3))
_variance = 2 * (1 - rank / d) / (d * (d + 2) * (d + 3))


def _length_of_the_end():
    """|u u^T + I|^2 = d + 3 for a unit vector u, here in three dimensions."""
    z = sp.symbols("z_1:4", real=True)
    end = sp.Matrix(z) * sp.Matrix(z).T + sp.eye(3)
    length = sp.expand((end.T * end).trace())
    return (
        sp.expand(length.subs(z[2] ** 2, 1 - z[0] ** 2 - z[1] ** 2).subs(z[2] ** 4, (1 - z[0] ** 2 - z[1] ** 2) ** 2))
        - 6
    )


def sphere_moment(powers, dimension):
    """E prod u_i^{2 k_i} on the sphere: prod (2 k_i - 1)!! / (d (d + 2) ... (d + 2 sum k - 2))."""
    total = sum(powers)
    rising = sp.prod([dimension + 2 * j for j in range(total)])
    return sp.prod([sp.factorial2(2 * k - 1) for k in powers]) / rising


def _mean_over_targets():
    """E (u.M u + tr M) / (|M| sqrt(d + 3)) for M of eigenvalues s_1^2, s_2^2 in d = 2, at their participation ratio."""
    trace, square = s1**2 + s2**2, s1**4 + s2**4
    mean = trace * sphere_moment((1,), 2) + trace
    return sp.simplify(mean / sp.sqrt(square * 5) - _mean.subs({rank: trace**2 / square, d: 2}))


def _spread_over_targets():
    """Var u.M u / (|M|^2 (d + 3)), the same M."""
    trace, square = s1**2 + s2**2, s1**4 + s2**4
    second = square * sphere_moment((2,), 2) + 2 * s1**2 * s2**2 * sphere_moment((1, 1), 2)
    variance = second - (trace * sphere_moment((1,), 2)) ** 2
    return sp.simplify(variance / (square * 5) - _variance.subs({rank: trace**2 / square, d: 2}))


def _balanced_end():
    """Balanced layers w2 W1 = beta^T with W1 = sqrt(|beta|) h u^T, w2 = sqrt(|beta|) h^T, h a unit vector."""
    size = sp.sqrt(b1**2 + b2**2)
    u = sp.Matrix([b1, b2]) / size
    angle = sp.Symbol("phi", real=True)
    h = sp.Matrix([sp.cos(angle), sp.sin(angle)])
    w1, w2 = sp.sqrt(size) * h * u.T, sp.sqrt(size) * h.T
    end = w1.T * w1 + (w2 * w2.T)[0] * sp.eye(2)
    balance = w1 * w1.T - w2.T * w2
    target = sp.Matrix([[b1, b2]])
    expected = target.T * target / size + size * sp.eye(2)
    return sp.simplify(sp.Matrix([*(w2 * w1 - target), *balance, *(end - expected)]))


mean_alignment = Formula(
    title="Alignment of start and end of the kernel, mean over targets",
    backs="theory.lazy_rich.initial_rank.expected_alignment",
    symbol=sp.Symbol("CA"),
    arguments=(rank,),
    domain={rank: Interval(1, DIMENSION)},
    expression=_mean.subs(d, DIMENSION),
    proofs={
        "the end's kernel has squared length d + 3": _length_of_the_end,
        "mean over the sphere": _mean_over_targets,
        "an isotropic start": lambda: sp.simplify(_mean.subs(rank, d) - (d + 1) / sp.sqrt(d * (d + 3))),
    },
    keywords={"inputs": DIMENSION},
    source="derived; Liu et al. 2024 (arXiv:2310.08513) for the effect",
)

alignment_spread = Formula(
    title="Alignment of start and end of the kernel, spread over targets",
    backs="theory.lazy_rich.initial_rank.alignment_deviation",
    symbol=sp.Symbol("sigma"),
    arguments=(rank,),
    domain={rank: Interval(1, 0.99 * DIMENSION)},
    expression=sp.sqrt(_variance.subs(d, DIMENSION)),
    proofs={"variance over the sphere": _spread_over_targets},
    keywords={"inputs": DIMENSION},
    source="derived",
)

_size = sp.sqrt(b1**2 + b2**2)
_end = sp.Matrix([[b1**2 / _size + _size, b1 * b2 / _size], [b1 * b2 / _size, b2**2 / _size + _size]])
_scaled_start = sp.diag(x1 * s1 * x1, x2 * s2 * x2)
_scaled_end = sp.diag(x1, x2) * _end * sp.diag(x1, x2)

small_start = Formula(
    title="Alignment of start and end of the kernel on given data",
    backs="theory.lazy_rich.initial_rank.small_start_alignment",
    symbol=sp.Symbol("CA"),
    arguments=(s1, s2, b1, b2, x1, x2),
    domain={
        **dict.fromkeys((s1, s2, x1, x2), Interval(0.1, 2)),
        b1: Interval(-2, 2),
        b2: Interval(0.2, 2),
    },
    expression=(_scaled_start * _scaled_end).trace()
    / sp.sqrt((_scaled_start * _scaled_start).trace() * (_scaled_end * _scaled_end).trace()),
    proofs={"balanced layers that make beta": _balanced_end},
    call=lambda s1, s2, b1, b2, x1, x2: (np.diag([s1, s2]), np.array([b1, b2]), np.diag([x1, x2])),
    source="Atanasov, Bordelon & Pehlevan 2022 (arXiv:2111.00034), silent alignment",
)
