"""The value of a single example: all sequences of draws enumerated, Beta integrals, and swaps of labels."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

q, r = sp.symbols("q r", positive=True)
first, second = sp.symbols("w_1 w_2", positive=True)
labels, epsilon, delta = sp.symbols("C epsilon delta", positive=True)
alpha, examples, seen, copies = sp.symbols("alpha n l m", positive=True)
HERE = "derived here"

# Three subpopulations and four examples.
N = 4
FREQUENCIES = (q, r, 1 - q - r)
_domain = {q: Interval(0.05, 0.45), r: Interval(0.05, 0.45)}


def _vector(q, r):
    return np.array([q, r, 1 - q - r])


def _sum(times, power, n=N):
    return sum(p**power * (1 - p) ** (n - times) for p in FREQUENCIES)


def _enumerated(of):
    """Expectation of the sum over subpopulations of `of(frequency, copies)`, over all sequences of draws."""
    total = 0
    for draws in itertools.product(range(3), repeat=N):
        probability = sp.prod([FREQUENCIES[k] for k in draws])
        total += probability * sum(of(p, draws.count(k)) for k, p in enumerate(FREQUENCIES))
    return sp.expand(total)


def _mass_over_number():
    mass = _enumerated(lambda p, c: p if c == 1 else 0)
    number = _enumerated(lambda p, c: 1 if c == 1 else 0)
    return sp.expand(mass * _sum(1, 1) - number * _sum(1, 2))


value = Formula(
    title="Value of an example of a subpopulation seen once",
    backs="theory.induction.long_tail.memorisation_value",
    symbol=sp.Symbol("tau_1"),
    arguments=(q, r),
    domain=_domain,
    expression=_sum(1, 2) / _sum(1, 1),
    proofs={
        "mass over number, all sequences": _mass_over_number,
        "alike": lambda: value.expression.subs({q: sp.Rational(1, 3), r: sp.Rational(1, 3)}) - sp.Rational(1, 3),
    },
    call=lambda q, r: (_vector(q, r), N, 1),
    source="Feldman 2020 (arXiv:1906.05271), the main theorem",
)

number = Formula(
    title="Expected number of subpopulations seen twice",
    backs="theory.induction.long_tail.expected_number",
    symbol=sp.Symbol("M_2"),
    arguments=(q, r),
    domain=_domain,
    expression=6 * _sum(2, 2),
    proofs={"all sequences": lambda: _enumerated(lambda p, c: 1 if c == 2 else 0) - sp.expand(6 * _sum(2, 2))},
    call=lambda q, r: (_vector(q, r), N, 2),
    source=HERE,
)

mass = Formula(
    title="Expected mass of subpopulations seen once",
    backs="theory.induction.long_tail.expected_mass",
    symbol=sp.Symbol("mu_1"),
    arguments=(q, r),
    domain=_domain,
    expression=4 * _sum(1, 2),
    proofs={
        "all sequences": lambda: _enumerated(lambda p, c: p if c == 1 else 0) - sp.expand(4 * _sum(1, 2)),
        # (l + 1) / (n + 1) times the number seen l + 1 times among n + 1.
        "Good and Turing": lambda: sp.expand(
            4 * _sum(1, 2) - sp.Rational(2, N + 1) * sp.binomial(N + 1, 2) * _sum(2, 2, N + 1)
        ),
    },
    call=lambda q, r: (_vector(q, r), N, 1),
    source="Good 1953",
)

# One subpopulation of frequency q, two of half the rest.
_others = (1 - q) / 2

unseen = Formula(
    title="Error of the best learner, two of three subpopulations alike",
    backs="theory.induction.long_tail.unseen_error",
    symbol=sp.Symbol("E_0"),
    arguments=(q, labels),
    domain={q: Interval(0.05, 0.9), labels: Interval(1.5, 50, log=True)},
    expression=(1 - 1 / labels) * (q * (1 - q) ** 4 + 2 * _others * (1 - _others) ** 4),
    proofs={
        "all sequences": lambda: sp.expand(
            _enumerated(lambda p, c: (1 - 1 / labels) * p if c == 0 else 0).subs(r, _others) - unseen.expression
        )
    },
    call=lambda q, labels: (np.array([q, (1 - q) / 2]), N, labels, np.array([1.0, 2.0])),
    source="Feldman 2020 (arXiv:1906.05271), the main theorem",
)

_wrong = {1: first, 2: second}

excess = Formula(
    title="Excess error of a learner that has shares of what was seen wrong",
    backs="theory.induction.long_tail.excess_error",
    symbol=sp.Symbol("E"),
    arguments=(q, r, first, second),
    domain=_domain | {first: Interval(0, 1), second: Interval(0, 1)},
    expression=4 * first * _sum(1, 2) + 6 * second * _sum(2, 3),
    proofs={
        "all sequences": lambda: sp.expand(_enumerated(lambda p, c: p * _wrong.get(c, 0)) - excess.expression),
    },
    call=lambda q, r, first, second: (_vector(q, r), N, np.array([first, second])),
    source="Feldman 2020 (arXiv:1906.05271), the main theorem",
)


def _threshold():
    """The chance of fewer than m copies as an integral of Beta's, for m = 3 and n = 4: 12 int t (1 - t)^2 dt."""
    t = sp.Symbol("t")
    below = sum(p * 12 * sp.integrate(t * (1 - t) ** 2, (t, 0, 1 - p)) for p in FREQUENCIES)
    not_seen = sum(p * (1 - p) ** N for p in FREQUENCIES)
    return sp.expand((1 - 1 / labels) * (below - not_seen) - threshold.expression)


threshold = Formula(
    title="Excess error of a learner that needs three copies",
    backs="theory.induction.long_tail.threshold_error",
    symbol=sp.Symbol("E"),
    arguments=(q, r, labels),
    domain=_domain | {labels: Interval(1.5, 50, log=True)},
    expression=(1 - 1 / labels) * (4 * _sum(1, 2) + 6 * _sum(2, 3)),
    proofs={"incomplete Beta integral": _threshold},
    call=lambda q, r, labels: (_vector(q, r), N, 3, labels),
    source=HERE,
)


def _at_end(c):
    """ln of n p (1 - p)^{n-1} at p = c / n."""
    return sp.log(c) + (examples - 1) * sp.log(1 - c / examples)


def _second_derivative(c):
    return sp.diff(_at_end(c), examples, 2)


_third = sp.Rational(1, 3)

bound = Formula(
    title="Lower bound on the value of a single example",
    backs="theory.induction.long_tail.singleton_bound",
    symbol=sp.Symbol("b"),
    arguments=(q, r),
    # Both between 1 / (3 n) and 2 / n, the third is above.
    domain={q: Interval(0.09, 0.24), r: Interval(0.09, 0.24)},
    expression=(q + r) / (5 * N),
    proofs={
        # p (1 - p)^{n-1} has its one maximum between the ends, where it is therefore least.
        "one maximum": lambda: sp.diff(sp.log(q) + (examples - 1) * sp.log(1 - q), q).subs(q, 1 / examples),
        # At the upper end it rises with n from 2/9 at n = 3: its slope falls to zero.
        "upper end, n = 3": lambda: sp.exp(_at_end(2).subs(examples, 3)) - sp.Rational(2, 9),
        "upper end, concave": lambda: _second_derivative(2) + 4 / (examples * (examples - 2)) ** 2,
        "upper end, slope": lambda: sp.limit(sp.diff(_at_end(2), examples), examples, sp.oo),
        # At the lower end it falls to e^{-1/3} / 3 = 0.239: its slope rises to zero.
        "lower end, convex": lambda: (
            _second_derivative(_third) - (5 * examples - 1) / (examples * (3 * examples - 1)) ** 2
        ),
        "lower end, slope": lambda: sp.limit(sp.diff(_at_end(_third), examples), examples, sp.oo),
        "lower end, limit": lambda: sp.limit(_at_end(_third), examples, sp.oo) + _third + sp.log(3),
    },
    call=lambda q, r: (_vector(q, r), N),
    source="Feldman 2020 (arXiv:1906.05271), the lemma on tau_1",
)


def _limit_integral():
    """n tau_1 by int p^{l - 1 - d} e^{-np} dp, at alpha = 2."""
    p, n = sp.symbols("p n", positive=True)
    above, below = (sp.integrate(p ** (k - sp.Rational(3, 2)) * sp.exp(-n * p), (p, 0, sp.oo)) for k in (2, 1))
    return sp.simplify(n * above / below) - sp.limit(
        n * power_law.expression.subs({seen: 1, alpha: 2, examples: n}), n, sp.oo
    )


power_law = Formula(
    title="Value of an example under a power law",
    backs="theory.induction.long_tail.power_law_value",
    symbol=sp.Symbol("tau_l"),
    arguments=(alpha, examples, seen),
    domain={alpha: Interval(1.05, 8), examples: Interval(20, 1000), seen: Interval(1, 20)},
    expression=(seen - 1 / alpha) / (examples + 1 - 1 / alpha),
    proofs={
        # sum_k p_k^l (1 - p_k)^{n-l}, with dk ~ p^{-1 - 1/alpha} dp.
        "ratio of Beta integrals": lambda: sp.gammasimp(
            sp.gamma(seen + 1 - 1 / alpha)
            * sp.gamma(examples + 1 - 1 / alpha)
            / (sp.gamma(examples + 2 - 1 / alpha) * sp.gamma(seen - 1 / alpha))
            - power_law.expression
        ),
        "many examples": _limit_integral,
    },
    source="the regular variation of Karlin 1967",
)


def _mass_integral(times):
    """int_0^1 p^{times + 1} (1 - p)^{n - times} p^{-1 - 1/alpha} dp."""
    d = 1 / alpha
    return sp.gamma(times + 1 - d) * sp.gamma(examples - times + 1) / sp.gamma(examples + 2 - d)


ratio = Formula(
    title="Error of a learner that needs m copies over the least, under a power law",
    backs="theory.induction.long_tail.power_law_ratio",
    symbol=sp.Symbol("R"),
    arguments=(alpha, copies),
    domain={alpha: Interval(1.05, 8), copies: Interval(1, 200, log=True)},
    expression=sp.gamma(copies + 1 - 1 / alpha) / (sp.gamma(2 - 1 / alpha) * sp.gamma(copies)),
    proofs={
        # One copy more adds binom(n, m) B(m + 1 - d, n - m + 1) over B(1 - d, n + 1), whatever n.
        "one copy more": lambda: sp.gammasimp(
            ratio.expression.subs(copies, copies + 1)
            - ratio.expression
            - sp.gamma(examples + 1)
            / (sp.gamma(copies + 1) * sp.gamma(examples - copies + 1))
            * _mass_integral(copies)
            / _mass_integral(0)
        ),
        "no threshold": lambda: ratio.expression.subs(copies, 1) - 1,
    },
    source=HERE,
)


def _swapped():
    """Right with probability Q, any given wrong label (1 - Q)/(C - 1): equality for l = 2 copies, each of two swaps."""
    share = sp.Symbol("Q")
    # One swap more multiplies by e^epsilon and adds delta.
    reach = (1 - share) / (labels - 1)
    for _ in range(2):
        reach = sp.exp(epsilon) * reach + delta
    return sp.simplify(1 - sp.solve(sp.Eq(share, reach), share)[0] - private.expression)


def _randomised_response():
    """The true label with probability Q, e^epsilon times that of any other: its errors are the bound at one copy."""
    share = sp.exp(epsilon) / (labels - 1 + sp.exp(epsilon))
    other = (1 - share) / (labels - 1)
    bound_at_one = (labels - 1) / (labels - 1 + sp.exp(epsilon))
    return sp.Matrix([sp.simplify(share / other - sp.exp(epsilon)), sp.simplify(1 - share - bound_at_one)])


private = Formula(
    title="Least share of subpopulations seen twice that a private learner has wrong",
    backs="theory.induction.long_tail.private_wrong",
    symbol=sp.Symbol("w_2"),
    arguments=(epsilon, labels, delta),
    domain={
        epsilon: Interval(0.01, 3, log=True),
        labels: Interval(2, 50, log=True),
        delta: Interval(1e-6, 1e-3, log=True),
    },
    expression=(labels - 1) * (1 - delta * (1 + sp.exp(epsilon))) / (labels - 1 + sp.exp(2 * epsilon)),
    proofs={"two swaps of labels": _swapped, "randomised response": _randomised_response},
    call=lambda epsilon, labels, delta: (2, epsilon, labels, delta),
    source=HERE,
)
