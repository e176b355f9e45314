"""Unknown Markov chains: what counting costs, exact probabilities of two-symbol sequences, all by integration."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

a, b, u, r = sp.symbols("a b u r", positive=True)
k = sp.Symbol("k", positive=True)
n, m = sp.symbols("n m", positive=True, integer=True)
HALF = sp.Rational(1, 2)
EDELMAN = "Edelman, Edelman, Goel, Malach & Tsilivis 2024 (arXiv:2402.11004)"


def entropy(p):
    return -p * sp.log(p) - (1 - p) * sp.log(1 - p)


def mean(value):
    """E over independent uniform a, b of a polynomial over powers of a + b: two triangles, a = u b and b = u a."""
    total = 0
    for first, second in (((a, u * b), (b, b)), ((b, u * b), (a, b))):
        part = sp.cancel(b * value.subs([first, second], simultaneous=True))
        total += sp.integrate(sp.apart(sp.integrate(sp.expand(part), (b, 0, 1)), u), (u, 0, 1))
    return sp.simplify(total)


PI = (b / (a + b), a / (a + b))
P = sp.Matrix([[1 - a, a], [b, 1 - b]])


def probability(sequence):
    """Pr of a sequence given a and b."""
    factors = [P[i, j] for i, j in itertools.pairwise(sequence)]
    return PI[sequence[0]] * sp.prod(factors)


def _repeats(lag):
    """Pr(x_{s+lag} = x_s) from powers of P."""
    power = P**lag
    return mean(sum(PI[i] * power[i, i] for i in range(2)))


_unigram = 2 * sp.log(2) - sp.pi**2 / 12
_primitive = entropy(r) / (1 - r) + sp.log(1 - r) ** 2 / 2 + sp.polylog(2, 1 - r)

unigram = Formula(
    title="Loss of counting single symbols, of two",
    backs="theory.induction.markov_chains.two_symbol_losses",
    symbol=sp.Symbol("L_1"),
    arguments=(),
    domain={},
    expression=_unigram,
    proofs={
        # b / a is uniform below one with probability one half, and pi_0 = r where b / a = r / (1 - r).
        "density of pi_0 below one half": sp.diff(r / (1 - r), r) / 2 - 1 / (2 * (1 - r) ** 2),
        "it is half of all": sp.integrate(1 / (2 * (1 - r) ** 2), (r, 0, HALF)) - HALF,
        "a primitive of H times twice the density": lambda: sp.expand_func(
            sp.diff(_primitive, r) - entropy(r) / (1 - r) ** 2
        ),
        "between its ends": lambda: sp.expand_log(
            sp.expand_func(_primitive.subs(r, HALF)) - sp.pi**2 / 6 - _unigram, force=True
        ),
    },
    read=lambda losses: losses.unigram,
    source=f"{EDELMAN}; closed form derived here",
)

bigram = Formula(
    title="Loss of counting pairs, of two symbols",
    backs="theory.induction.markov_chains.two_symbol_losses",
    symbol=sp.Symbol("L_2"),
    arguments=(),
    domain={},
    expression=1 - 2 * sp.Integral(a * entropy(a) * sp.log((1 + a) / a), (a, 0, 1)),
    proofs={
        "share of a symbol, given its row": lambda: sp.expand_log(
            sp.integrate(sp.apart(PI[0], b), (b, 0, 1)) - 1 + a * sp.log((1 + a) / a), force=True
        ),
        "mean entropy of a row": sp.integrate(entropy(a), (a, 0, 1)) - HALF,
    },
    read=lambda losses: losses.bigram,
    source="derived here",
)

_pi = sp.Matrix([PI])

given_chain = Formula(
    title="Entropy rate of a two-symbol chain",
    backs="theory.induction.markov_chains.chain_losses",
    symbol=sp.Symbol("h"),
    arguments=(a, b),
    domain={a: Interval(0.05, 0.95), b: Interval(0.05, 0.95)},
    expression=PI[0] * entropy(a) + PI[1] * entropy(b),
    proofs={"pi is stationary": sp.simplify(_pi * P - _pi), "and a distribution": sp.simplify(sum(PI) - 1)},
    call=lambda a, b: (np.array([[1 - a, a], [b, 1 - b]]),),
    read=lambda losses: losses.bigram,
    source="textbook",
)

stationary = Formula(
    title="Stationary distribution of a two-symbol chain",
    backs="theory.induction.markov_chains.stationary_distribution",
    symbol=sp.Symbol("pi_0"),
    arguments=(a, b),
    domain=given_chain.domain,
    expression=PI[0],
    proofs={"the stated linear system": sp.simplify(_pi * (sp.eye(2) - P + sp.ones(2, 2)) - sp.ones(1, 2))},
    call=given_chain.call,
    read=lambda pi: pi[0],
    source="textbook",
)


def _row(size):
    """E H of a row from the marginal density (k - 1)(1 - p)^(k - 2) of each of its entries."""
    integral = sp.integrate(sp.expand(-size * (size - 1) * r * (1 - r) ** (size - 2)) * sp.log(r), (r, 0, 1))
    return integral - (sp.digamma(size + 1) - sp.digamma(2)).rewrite(sp.harmonic)


row_entropy = Formula(
    title="Mean entropy of a random row",
    backs="theory.induction.markov_chains.row_entropy",
    symbol=sp.Symbol("H"),
    arguments=(k,),
    domain={k: Interval(1.5, 30)},
    expression=sp.digamma(k + 1) - sp.digamma(2),
    proofs={f"{size} symbols, by integration": _row(size) for size in (2, 3, 5)},
    source="textbook",
)

SEQUENCE = (0, 0, 1, 0)

sequence_probability = Formula(
    title="Probability of a sequence whose chain is unknown",
    backs="theory.induction.markov_chains.two_symbol_probability",
    symbol=sp.Symbol("Pr"),
    arguments=(),
    domain={},
    expression=sp.Rational(13, 40) - 2 * sp.log(2) / 5,
    proofs={
        "the integral over both rows": lambda: mean(probability(SEQUENCE)) - sp.Rational(13, 40) + 2 * sp.log(2) / 5,
        "counts of pairs enter as powers": sp.expand(
            probability(SEQUENCE) - PI[0] * (1 - a) ** 1 * a**1 * b**1 * (1 - b) ** 0
        ),
    },
    call=lambda: (np.array([SEQUENCE]),),
    read=lambda found: found[0],
    source="derived here",
)

_next = mean(probability((0, 1, 0))) / mean(probability((0, 1)))

bayes = Formula(
    title="Exact Bayesian prediction after two symbols",
    backs="theory.induction.markov_chains.two_symbol_bayes",
    symbol=sp.Symbol("p_2"),
    arguments=(),
    domain={},
    expression=_next,
    proofs={
        "both continuations are all": lambda: (
            mean(probability((0, 1, 0))) + mean(probability((0, 1, 1))) - mean(probability((0, 1)))
        ),
    },
    call=lambda: (np.array([(0, 1)]),),
    read=lambda found: found[0, 1, 0],
    source="derived here",
)

# Beta integrals: the factor of the row in question, all others cancel.
_ratio = sp.gamma(n + 2) * sp.gamma(m + 1) / sp.gamma(n + m + 3)
_norm = sp.gamma(n + 1) * sp.gamma(m + 1) / sp.gamma(n + m + 2)

counted_pairs = Formula(
    title="Prediction from counts of pairs",
    backs="theory.induction.markov_chains.bigram_prediction",
    symbol=sp.Symbol("p"),
    arguments=(),
    domain={},
    # 0 1 0 0 1 0: of three departures from 0, one to 0 and two to 1.
    expression=sp.Rational(2 + 1, 3 + 2),
    proofs={"posterior mean of a uniform row": sp.gammasimp(_ratio / _norm - (n + 1) / (n + m + 2))},
    call=lambda: (np.array([(0, 1, 0, 0, 1, 0)]), 2),
    read=lambda found: found[0, -1, 1],
    source=EDELMAN,
)

counted_symbols = Formula(
    title="Prediction from counts of symbols",
    backs="theory.induction.markov_chains.unigram_prediction",
    symbol=sp.Symbol("p"),
    arguments=(),
    domain={},
    expression=sp.Rational(2 + 1, 6 + 2),
    proofs={"posterior mean of a uniform distribution": sp.gammasimp(_ratio / _norm - (n + 1) / (n + m + 2))},
    call=counted_pairs.call,
    read=counted_pairs.read,
    source=EDELMAN,
)

repetition = Formula(
    title="Probability that a symbol comes back in two steps",
    backs="theory.induction.markov_chains.repetition",
    symbol=sp.Symbol("c_2"),
    arguments=(),
    domain={},
    expression=_repeats(2),
    proofs={
        "one step, from all pairs": lambda: _repeats(1) - mean(probability((0, 0))) - mean(probability((1, 1))),
        "powers of P": lambda: sp.simplify(
            sum(PI[i] * (P**2)[i, i] for i in range(2)) - 1 + 2 * a * b * (1 - (1 - a - b) ** 2) / (a + b) ** 2
        ),
        "long after": lambda: mean(PI[0] ** 2 + PI[1] ** 2) - 2 + 2 * sp.log(2),
    },
    keywords={"lag": 2},
    source="derived here",
)
