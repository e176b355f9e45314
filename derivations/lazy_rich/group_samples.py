"""Samples of a group's pairs: elements never seen and the energy of a memorising node, from all choices of samples."""

import itertools

import sympy as sp

from derivations.formula import Formula, Interval

order, constant, n = sp.symbols("M c n", positive=True)

threshold = Formula(
    title="Samples from which on networks generalise",
    backs="theory.lazy_rich.group_samples.sample_threshold",
    symbol=n,
    arguments=(order, constant),
    domain={order: Interval(2, 500, log=True), constant: Interval(0.5, 5)},
    expression=constant * order * sp.log(order),
    proofs={
        # The constant is empirical; at c = 1 about one element is never seen, at c > 1 none in a large group.
        "elements not seen there: M exp(-n/M) = M^(1-c)": sp.simplify(
            order * sp.exp(-constant * order * sp.log(order) / order) - order ** (1 - constant)
        ),
    },
    source="Tian 2025 (arXiv:2509.21519)",
)


def choose(total, chosen):
    return sp.gamma(total + 1) / (sp.gamma(chosen + 1) * sp.gamma(total - chosen + 1))


def unseen(m, samples):
    return m * choose(m**2 - m, samples) / choose(m**2, samples)


def _unseen_by_counting():
    """Over all choices of n of the nine pairs of Z_3: elements that stand first in none."""
    pairs = list(itertools.product(range(3), repeat=2))
    residues = []
    for samples in range(1, 7):
        chosen = list(itertools.combinations(pairs, samples))
        mean = sp.Rational(sum(3 - len({g for g, _ in some}) for some in chosen), len(chosen))
        residues.append(sp.simplify(mean - unseen(3, samples)))
    return sp.Matrix(residues)


unseen_elements = Formula(
    title="Elements that stand first in no sample",
    backs="theory.lazy_rich.group_samples.unseen_elements",
    symbol=sp.Symbol("m"),
    arguments=(n,),
    domain={n: Interval(0, 20)},
    expression=unseen(5, n),
    proofs={
        "counting": _unseen_by_counting,
        "coupons: M exp(-n/M) for large M": lambda: (
            sp.limit(sp.expand_log(order * 3 * sp.log(1 - 1 / order)), order, sp.oo) + 3
        ),
    },
    call=lambda n: (5, n),
    source="derived",
)


def memorising(m, samples):
    """Average over the number r of samples that hold the node's element."""
    total = 0
    for r in range(m + 1):
        rest = samples - r
        weight = choose(m, r) * choose(m**2 - m, rest) / choose(m**2, samples)
        mean = rest / sp.Integer(m)
        variance = rest * sp.Rational(m - 1, m**2) * (m**2 - m - rest) / (m**2 - m - 1)
        hits = r + r * mean
        squares = r + 2 * r * mean + m * (variance + mean**2)
        total += weight * (r - 2 * r * hits / samples + r**2 * squares / samples**2)
    return total / 2


def _memorising_by_counting():
    """Over all choices of n of the nine pairs of Z_3: |Y^T f|^2 / 2 for f = 1 on samples with element 0 first."""
    pairs = list(itertools.product(range(3), repeat=2))
    residues = []
    for samples in (3, 5):
        total, count = 0, 0
        for some in itertools.combinations(pairs, samples):
            products = [sum((g + h) % 3 == c for g, h in some) for c in range(3)]
            row = [sum(g == 0 and h == c for g, h in some) for c in range(3)]
            forces = [x - sp.Rational(sum(row) * y, samples) for x, y in zip(row, products, strict=True)]
            total, count = total + sum(force**2 for force in forces) / 2, count + 1
        residues.append(sp.nsimplify(sp.simplify(total / count - memorising(3, samples))))
    return sp.Matrix(residues)


def _large():
    """With r, hits and squares at their means, p M, p^2 M and p^2 M: p (1 - p) / 2 per element."""
    p = sp.Symbol("p")
    samples, row = p * order**2, p * order
    mean = (samples - row) / order
    hits, squares = row + row * mean, row + 2 * row * mean + order * (mean + mean**2)
    energy = (row - 2 * row / samples * hits + row**2 / samples**2 * squares) / 2
    return sp.simplify(sp.limit(sp.expand(energy / order), order, sp.oo) - p * (1 - p) / 2)


memorising_energy = Formula(
    title="Energy of a node that memorises one element",
    backs="theory.lazy_rich.group_samples.memorising_energy",
    symbol=sp.Symbol("E"),
    arguments=(n,),
    # All numbers of samples with the element, from none to three, are possible.
    domain={n: Interval(3, 6)},
    expression=memorising(3, n),
    proofs={"counting": _memorising_by_counting, "large groups": _large},
    call=lambda n: (3, n),
    source="derived",
)
