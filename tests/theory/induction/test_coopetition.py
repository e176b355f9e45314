"""Two mechanisms: full tensors under training as the oracle, what they give away, who replaces whom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.induction.coopetition import (
    Contest,
    competition_strength,
    coopetition_descent,
    coopetition_flow,
    explained,
    mechanism_losses,
    replacement_floor,
    settled_losses,
    shared_growth,
)
from theory.induction.subcircuits import plane_coordinates

seeds = st.integers(0, 2**32 - 1)
# a, d, b, c
DIMS = (3, 5, 2, 4)
STEPS = 40
ENTRIES = np.array([24.0, 40.0, 15.0])


def drawn(seed, separate=False):
    rng = np.random.default_rng(seed)
    dims = DIMS + DIMS[2:] if separate else DIMS
    truths = [rng.normal(size=d) for d in DIMS]
    vectors = [rng.normal(size=d) for d in dims]
    start, lengths = plane_coordinates(vectors, truths + truths[2:] if separate else truths)
    floors, alpha = rng.uniform(0, 0.3, size=2), rng.uniform(0, 0.3)
    return truths, vectors, start, Contest(lengths[:4], ENTRIES, floors, alpha)


def whole(truths, v, floors, alpha):
    """The loss over tensors: its parts and the total."""
    three = lambda *x: jnp.einsum("i,j,k->ijk", *x)  # noqa: E731
    a, d, b, c = truths
    own = v[2:4] if len(v) == 4 else v[4:]
    first = jnp.mean((three(a, b, c) - three(v[0], v[2], v[3])) ** 2) / 2
    second = jnp.mean((three(d, b, c) - three(v[1], *own)) ** 2) / 2
    return first, second, (first + floors[0]) * (second + floors[1]) + alpha * jnp.mean(jnp.outer(v[0], v[1]) ** 2) / 2


@jax.jit
def trained(truths, vectors, floors, alpha, lr):
    def step(v, _):
        found = whole(truths, v, floors, alpha)
        slopes = jax.grad(lambda v: whole(truths, v, floors, alpha)[2])(v)
        return [x - lr * g for x, g in zip(v, slopes, strict=True)], jnp.stack(found)

    return jax.lax.scan(step, list(vectors), None, length=STEPS + 1)[1]


@given(seeds, st.booleans())
def test_descent_is_that_of_the_whole_tensors(seed, separate):
    truths, vectors, start, contest = drawn(seed, separate)
    expected = trained(truths, vectors, contest.floors, contest.competition, 0.3)
    found = mechanism_losses(coopetition_descent(STEPS, start, contest, 0.3), contest)
    np.testing.assert_allclose(np.stack(found, axis=1), expected, rtol=1e-8, atol=1e-12)


def test_records_and_held_factors():
    _, _, start, contest = drawn(1)
    dense, sparse = (coopetition_descent(12, start, contest, 0.3, (1, 2), every=k) for k in (1, 4))
    np.testing.assert_allclose(sparse.along, dense.along[::4], rtol=1e-13)
    np.testing.assert_array_equal(dense.along[:, 1:3], np.tile(start.along[1:3], (13, 1)))
    assert (np.diff(dense.along[:, 0]) != 0).all()


T = np.array([0.0, 2, 10, 100])


@given(seeds)
def test_flow(seed):
    _, _, start, contest = drawn(seed)
    found = coopetition_flow(T, start, contest)
    assert (np.diff(mechanism_losses(found, contest).total) <= 1e-9).all()
    n = np.asarray(found.along) ** 2 + np.asarray(found.across) ** 2
    np.testing.assert_allclose(n[:, 2] - n[:, 3], n[0, 2] - n[0, 3], atol=1e-7)
    # What competition leaves to the shared factors, by a difference in time.
    small = 1e-5
    near = coopetition_flow(np.array([small]), start, contest)
    m = np.asarray(near.along[0]) ** 2 + np.asarray(near.across[0]) ** 2
    given = lambda n: n[2] - n[0] - n[1]  # noqa: E731
    rate = float(shared_growth(start, contest))
    np.testing.assert_allclose((given(m) - given(n[0])) / small, rate, rtol=1e-2, atol=1e-4)
    assert given(n[-1]) >= given(n[0]) - 1e-7


@given(seeds)
def test_the_flow_is_the_limit_of_descent(seed):
    _, _, start, contest = drawn(seed)
    end = coopetition_flow(np.array([1.0]), start, contest).along[0]
    coarse, fine = (coopetition_descent(k, start, contest, 1.0 / k, every=k).along[-1] for k in (40, 80))
    assert np.abs(2 * fine - coarse - end).max() < 0.3 * np.abs(fine - end).max() + 1e-7


def test_mechanisms_alone():
    _, _, _, contest = drawn(3)
    s = np.asarray(contest.truth)
    for i, place in enumerate((1, 0)):
        state = s.copy()
        state[place] = 0
        found = mechanism_losses((state, np.zeros(4)), contest)
        np.testing.assert_allclose(found.total, settled_losses(contest)[i], rtol=1e-12)
        np.testing.assert_allclose(found[1 - i], explained(contest)[1 - i], rtol=1e-12)
    # The smaller floor, relative to what there is to explain, wins.
    first, second = np.asarray(contest.floors) / np.asarray(explained(contest))
    assert (settled_losses(contest)[0] < settled_losses(contest)[1]) == (first < second)


def test_the_replacement_floor_by_search():
    s = np.linspace(0, 1, 200_001)
    for kappa in (1e-2, 0.447, 1.999, 2.0, 2.001, 50.0):
        brute = ((kappa * s - s**4) / (1 + s**2) ** 2).max()
        np.testing.assert_allclose(replacement_floor(kappa), brute, rtol=1e-9)
    small = 1e-9
    np.testing.assert_allclose(replacement_floor(small), 0.75 * small * (small / 4) ** (1 / 3), rtol=1e-3)


@pytest.mark.parametrize("alpha", [0.02, 0.3])
def test_replacement_with_shared_factors_held(alpha):
    s = np.sqrt(np.array([8.0, 64.0, 8.0, 8.0]))
    contest = Contest(s, np.array([512.0, 4096.0, 512.0]), np.zeros(2), alpha)
    critical = float(replacement_floor(competition_strength(contest)) * explained(contest)[0])
    start = (s * np.array([0.3, 0.01, 1, 1]), np.array([1.0, 1.0, 0, 0]))
    for share, replaced in ((0.93, False), (1.07, True)):
        here = contest._replace(floors=np.array([share * critical, 0.0]))
        end = coopetition_flow(np.array([3e4]), start, here, (2, 3)).along[0] / s
        assert (end[0] < 1e-3 and end[1] > 0.999) if replaced else (end[0] > 0.85 and end[1] < 0.6)
    # Below the critical floor, but with shared factors that go on learning: they grow, and the stay ends.
    contest = contest._replace(floors=np.array([0.7 * critical, 0.0]))
    end = coopetition_flow(np.array([3e4]), start, contest).along[0] / s
    assert end[0] < 1e-3 and end[2] * end[3] > 1.2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: explained((np.ones(3), np.ones(3), np.zeros(2), 0.1)), "contest must hold 4 lengths"),
        (lambda: explained((np.ones(4), np.ones(3), -np.ones(2), 0.1)), "floors must be non-negative"),
        (lambda: explained((np.ones(4), np.ones(3), np.zeros(2), -0.1)), "competition must be non-negative"),
        (lambda: replacement_floor(0.0), "competition must be positive"),
        (lambda: mechanism_losses((np.ones(5), np.ones(5)), drawn(0)[3]), r"factors must be of shape \(\.\.\., 4\)"),
        (lambda: shared_growth((np.ones(6), np.ones(6)), drawn(0)[3]), "factors must be the four"),
        (lambda: coopetition_descent(3, drawn(0)[2], drawn(0)[3], 0.1, (4,)), "held must be places from 0 to 3"),
        (lambda: coopetition_descent(3, drawn(0)[2], drawn(0)[3], 0.1, every=2), "every must divide the 3 steps"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
