"""Representational geometry: neurons driven by errors alone, and alignments at the end of their path."""

import itertools

import sympy as sp

from derivations.formula import Formula, Interval

P = sp.Symbol("P", positive=True)


def _aligned(features, other):
    """Centred alignment of two explicit kernels."""
    size = features.rows
    centre = sp.eye(size) - sp.ones(size, size) / size
    first, second = centre * features * centre, centre * other * centre
    norms = sp.sqrt((first * first.T).trace() * (second * second.T).trace())
    return (first * second.T).trace() / norms


def _task(size):
    """Labels, orthonormal inputs, and the classes' blocks of ones."""
    y = sp.Matrix([1] * (size // 2) + [-1] * (size // 2))
    return y, sp.eye(size), (sp.ones(size, size) + y * y.T) / 2


def _rectified(read):
    """The closed form against explicit kernels of four and of six samples."""

    def proof():
        left = []
        for size in (4, 6):
            y, inputs, blocks = _task(size)
            target = y * y.T if read == 0 else inputs
            left.append(sp.simplify(_aligned(inputs + blocks, target) - RECTIFIED[read].subs(P, size)))
        return sp.Matrix(left)

    return proof


def _half_of_them_active():
    """A unit keeps those samples of its class on which it started active, each with probability 1/2."""
    patterns = [sp.Matrix(p) for p in itertools.product((0, 1), repeat=2)]
    together = sum((p * p.T for p in patterns), sp.zeros(2, 2)) / len(patterns)
    # A quarter of 1 + J.
    return 4 * together - sp.eye(2) - sp.ones(2, 2)


_size = sp.sqrt(P**2 / 4 + 2 * P - 1)
RECTIFIED = ((P / 2 + 1) / _size, (3 * P / 2 - 1) / (_size * sp.sqrt(P - 1)))


def _driven_by_errors():
    """Gradients of logistic and squared loss on a pair of opposite neurons are the path's, times the error."""
    a = sp.Symbol("a", positive=True)
    readout = sp.symbols("a_1 a_2", real=True)
    weights = sp.Matrix(2, 2, sp.symbols("w_11 w_12 w_21 w_22", real=True))
    phi = lambda h: h + h**2 / 3  # noqa: E731
    y = sp.Matrix([1, -1])
    pre = weights  # orthonormal inputs: w . x_mu is a coordinate
    margins = [y[m] * sum(readout[i] * phi(pre[i, m]) for i in range(2)) / 2 for m in range(2)]
    # A symmetric start: the second neuron is the first with the samples and the sign of its readout exchanged.
    same = [(readout[0], a), (readout[1], -a), (weights[1, 0], weights[0, 1]), (weights[1, 1], weights[0, 0])]
    left = [sp.expand((margins[0] - margins[1]).subs(same))]
    m = sp.Symbol("m", real=True)
    for loss in (sp.log(1 + sp.exp(-m)), (1 - m) ** 2 / 2):
        total = sum(loss.subs(m, margin) for margin in margins) / 2
        error = -sp.diff(loss, m).subs(m, margins[0]).subs(same)
        h = weights[0, 0]
        found = -2 * sp.diff(total, h).subs(same)
        expected = error * a / 2 * y[0] * sp.diff(phi(h), h)
        left.append(sp.simplify(found - expected))
        found = -2 * sp.diff(total, readout[0]).subs(same)
        expected = error / 2 * sum(y[k] * phi(weights[0, k]) for k in range(2))
        left.append(sp.simplify(found - expected))
    return sp.Matrix(left)


def _formula(read, title, expression, proofs, backs):
    return Formula(
        title=title,
        backs=f"theory.lazy_rich.representational_geometry.{backs}",
        symbol=sp.Symbol("A"),
        arguments=(P,),
        domain={P: Interval(4, 40)},
        expression=expression.subs(P, 2 * sp.floor(P / 2)),
        proofs=proofs,
        call=lambda p: (2 * int(p / 2),),
        read=lambda found: found[read],
        source="derived for the task family of Alleman, Lindsey & Fusi 2024 (arXiv:2401.13558)",
    )


rectified = _formula(
    0,
    "Alignment of rectified units with the labels, at the end of their path",
    RECTIFIED[0],
    {"explicit kernels": _rectified(0), "half of the samples stay active": _half_of_them_active},
    "rectified_alignments",
)

rectified_inputs = _formula(
    1,
    "Alignment of rectified units with the inputs, at the end of their path",
    RECTIFIED[1],
    {"explicit kernels": _rectified(1), "neurons are driven by errors alone": _driven_by_errors},
    "rectified_alignments",
)

saturated = _formula(
    1,
    "Alignment of saturated units with the inputs",
    1 / sp.sqrt(P - 1),
    {
        "explicit kernels": lambda: sp.simplify(_aligned(_task(6)[0] * _task(6)[0].T, _task(6)[1]) - 1 / sp.sqrt(5)),
        "with the labels it is 1": lambda: sp.simplify(_aligned(_task(6)[0] * _task(6)[0].T, 2 * _task(6)[2]) - 1),
    },
    "saturated_alignments",
)
