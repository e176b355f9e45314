"""Items at the leaves of a tree: their similarity, its spectrum, and the stages of learning, textbook forms."""

import itertools

import sympy as sp

from derivations.formula import Formula, Interval

eps, properties = sp.symbols("epsilon N_o", positive=True)
f, s, u0, lam, edge, t = sp.symbols("f s u_0 lambda delta t", positive=True)


def _leaves(branching):
    return list(itertools.product(*(range(b) for b in branching)))


def _ancestor(a, b):
    """Level of the last common ancestor of two leaves."""
    return next((k for k, (i, j) in enumerate(zip(a, b, strict=True)) if i != j), len(a))


def _similarity(branching):
    leaves, depth = _leaves(branching), len(branching)
    return sp.Matrix(
        len(leaves), len(leaves), lambda i, j: (1 - 2 * eps) ** (2 * (depth - _ancestor(leaves[i], leaves[j])))
    )


def _eigenvalue(branching, level):
    """The textbook sum; level None is the mean."""
    depth = len(branching)
    below = [sp.prod(branching[k:]) for k in range(depth + 1)] + [0]
    q = [(1 - 2 * eps) ** (2 * (depth - k)) for k in range(depth + 1)]
    first = 0 if level is None else level + 1
    total = sum(q[k] * (below[k] - below[k + 1]) for k in range(first, depth + 1))
    return total if level is None else total - q[level] * below[level + 1]


def _contrast(branching, level):
    """The first child of the first node at `level` against the second; the mean for None."""
    if level is None:
        return sp.ones(sp.prod(branching), 1)
    first = (0,) * level
    sign = {(*first, 0): 1, (*first, 1): -1}
    return sp.Matrix([sign.get(leaf[: level + 1], 0) for leaf in _leaves(branching)])


def _level(branching, level, title):
    mu, v = _eigenvalue(branching, level), _contrast(branching, level)
    index = 0 if level is None else level + 1
    return Formula(
        title=title,
        backs="theory.deep_linear.hierarchy.tree_spectrum",
        symbol=sp.Symbol("mu_mean" if level is None else f"mu_{level}"),
        arguments=(eps,),
        domain={eps: Interval(1e-9, 0.5, log=True)},
        expression=mu,
        proofs={
            "Sigma v = mu v": lambda: (_similarity(branching) * v - mu * v).applyfunc(sp.expand),
            "independent properties: mu = 1": mu.subs(eps, sp.Rational(1, 2)) - 1,
        },
        call=lambda e: (branching, e),
        read=lambda result: result[index],
        source="Saxe, McClelland & Ganguli 2019, SI",
    )


_TREE = (2, 3, 2)
mean_mode = _level(_TREE, None, "Eigenvalue of the mean over all items of a tree")
first_split = _level(_TREE, 0, "Eigenvalue of a contrast between the branches of the root")
second_split = _level(_TREE, 1, "Eigenvalue of a contrast between the branches of a node at level 1")
last_split = _level(_TREE, 2, "Eigenvalue of a contrast between the items of one node")


def _diffusion(branching):
    """(probability, values of one property on the leaves) over all flips, the root at +1."""
    leaves = _leaves(branching)
    edges = sorted({leaf[: k + 1] for leaf in leaves for k in range(len(branching))})
    for flips in itertools.product((1, -1), repeat=len(edges)):
        flip = dict(zip(edges, flips, strict=True))
        probability = sp.prod([1 - eps if z == 1 else eps for z in flips])
        yield probability, sp.Matrix([sp.prod([flip[leaf[: k + 1]] for k in range(len(branching))]) for leaf in leaves])


def _expected(branching, function):
    return sp.factor(sp.expand(sum(p * function(y) for p, y in _diffusion(branching))))


def _power(y):
    """Powers of y on the levels of the tree (2, 2): mean, first split, second split."""
    mean, first = sum(y) ** 2 / sp.Integer(4), (y[0] + y[1] - y[2] - y[3]) ** 2 / sp.Integer(4)
    return mean, first, y.dot(y) - mean - first


_SMALL = (2, 2)

similarity = Formula(
    title="Correlation of two items whose last common ancestor is the root",
    backs="theory.deep_linear.hierarchy.tree_similarity",
    symbol=sp.Symbol("q_0"),
    arguments=(eps,),
    domain={eps: Interval(0, 0.5)},
    expression=(1 - 2 * eps) ** 4,
    proofs={"E[y_i y_j] over all flips": lambda: _expected(_SMALL, lambda y: y[0] * y[2]) - (1 - 2 * eps) ** 4},
    call=lambda e: (_SMALL, e),
    read=lambda result: result[0, 2],
    source="Saxe, McClelland & Ganguli 2019, SI",
)

_moments = [[_expected(_SMALL, lambda y, i=i, j=j: _power(y)[i] * _power(y)[j]) for j in range(3)] for i in range(3)]
_mu = [_eigenvalue(_SMALL, level) for level in (None, 0, 1)]
_n = (1, 1, 2)

power_moments = Formula(
    title="Moment of the powers of a property on the mean and on the first split",
    backs="theory.deep_linear.hierarchy.level_power_moments",
    symbol=sp.Symbol("E[p_mean p_0]"),
    arguments=(eps,),
    domain={eps: Interval(1e-4, 0.5, log=True)},
    expression=_moments[0][1],
    proofs={
        "E[p_l] = n_l mu_l": lambda: sp.Matrix(
            [_expected(_SMALL, lambda y, i=i: _power(y)[i]) - _n[i] * _mu[i] for i in range(3)]
        ).applyfunc(sp.expand),
        "the powers of a property of four items sum to 4": lambda: sp.expand(sum(sum(row) for row in _moments) - 16),
    },
    call=lambda e: (_SMALL, e),
    read=lambda result: result[0, 1],
    source="fourth moments of the branching diffusion process",
)

_means = [
    _mu[i] + sum(_moments[i][j] / (_mu[i] - _mu[j]) for j in range(3) if j != i) / (_n[i] * properties)
    for i in range(3)
]
_SAMPLED = {eps: Interval(0.01, 0.45), properties: Interval(10, 1e6, log=True)}

sampled_mean = Formula(
    title="Mean eigenvalue of the last split, of a finite number of properties",
    backs="theory.deep_linear.hierarchy.sampled_spectrum",
    symbol=sp.Symbol("mean_1"),
    arguments=(eps, properties),
    domain=_SAMPLED,
    expression=_means[2],
    proofs={
        "the trace stays that of four items": lambda: sp.simplify(
            sum(n * m for n, m in zip(_n, _means, strict=True)) - 4
        )
    },
    call=lambda e, no: (_SMALL, e, no),
    read=lambda result: result.mean[2],
    source="second-order perturbation theory",
)

_deviation = sp.sqrt((_moments[2][2] - (_n[2] * _mu[2]) ** 2) / properties) / _n[2]

sampled_deviation = Formula(
    title="Standard deviation of the eigenvalue of the last split, of a finite number of properties",
    backs="theory.deep_linear.hierarchy.sampled_spectrum",
    symbol=sp.Symbol("deviation_1"),
    arguments=(eps, properties),
    domain=_SAMPLED,
    expression=_deviation,
    proofs={
        "n^2 No deviation^2 = E[(p - E p)^2]": lambda: sp.expand(
            _deviation**2 * _n[2] ** 2 * properties
            - _expected(_SMALL, lambda y: sp.expand((_power(y)[2] - _n[2] * _mu[2]) ** 2))
        )
    },
    call=lambda e, no: (_SMALL, e, no),
    read=lambda result: result.deviation[2],
    source="first-order perturbation theory",
)

_one_level = sp.sqrt(properties * (1 - (1 - 2 * eps) ** 2))

singular_value = Formula(
    title="Singular value of the contrasts between the children of a single node",
    backs="theory.deep_linear.hierarchy.level_singular_values",
    symbol=sp.Symbol("s_0"),
    arguments=(eps, properties),
    domain={eps: Interval(1e-9, 0.5, log=True), properties: Interval(1, 1e6, log=True)},
    expression=_one_level,
    proofs={"No (q_1 - q_0)": _one_level**2 - properties * _eigenvalue((5,), 0)},
    call=lambda e, no: ((5,), e, no),
    read=lambda result: result[1],
    source="Saxe, McClelland & Ganguli 2019, SI",
)

_logistic = s * u0 * sp.exp(2 * lam * s * t) / (s + u0 * (sp.exp(2 * lam * s * t) - 1))
_time = sp.log(f * (s - u0) / ((1 - f) * u0)) / (2 * lam * s)

learning_time = Formula(
    title="When a fraction of a mode of the table is learned",
    backs="theory.deep_linear.hierarchy.level_learning_time",
    symbol=sp.Symbol("t_f"),
    arguments=(f, s, u0, lam),
    domain={
        f: Interval(0.3, 0.999),
        s: Interval(0.5, 50, log=True),
        u0: Interval(1e-12, 0.1, log=True),
        lam: Interval(1e-3, 1, log=True),
    },
    expression=_time,
    proofs={
        "u(t_f) = f s": lambda: sp.simplify(_logistic.subs(t, _time).rewrite(sp.log) - f * s),
        "du/dt = 2 lam u (s - u)": sp.diff(_logistic, t) - 2 * lam * _logistic * (s - _logistic),
    },
    source="Saxe, McClelland & Ganguli 2013",
)

_ratio = sp.log(s / u0 - 1) / (2 * sp.log((1 - edge) / edge))

stage_ratio = Formula(
    title="Half time of a stage over its width",
    backs="theory.deep_linear.hierarchy.stage_ratio",
    symbol=sp.Symbol("t_half / width"),
    arguments=(s, u0, edge),
    domain={s: Interval(0.5, 50, log=True), u0: Interval(1e-12, 0.1, log=True), edge: Interval(0.001, 0.4)},
    expression=_ratio,
    proofs={
        "t(1/2) = ratio (t(1 - edge) - t(edge))": lambda: sp.simplify(
            sp.expand_log(_time.subs(f, sp.Rational(1, 2)), force=True)
            - sp.expand_log(_ratio, force=True)
            * sp.expand_log(_time.subs(f, 1 - edge) - _time.subs(f, edge), force=True)
        )
    },
    source="Saxe, McClelland & Ganguli 2013",
)
