"""The judge itself: claims, rivals, discovery, metrics."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.metrics import (
    crossing_time,
    disorder,
    fitted_exponent,
    gap,
    log_mean,
    rate,
    regret,
    transition,
    z_score,
)
from validation.study import Claim, Rival, Study, check, discover, find, select


def line(**changes):
    """A study of straight lines, without JAX: the 'networks' are the prediction plus a known deviation."""
    parts = dict(
        title="Lines",
        question="?",
        source="none",
        sizes={"smoke": dict(slope=2.0, off=0.01), "paper": dict(slope=2.0, off=0.001)},
        predict=lambda problem: {"y": problem.slope * np.arange(5)},
        simulate=lambda problem: {"y": problem.slope * np.arange(5) + problem.off},
        claims=(Claim("they agree", lambda p, o: gap(p["y"], o["y"], 0.02), 1.0, "twice the deviation put in"),),
        rivals=(Rival("half the slope", lambda problem, p: {"y": p["y"] / 2}),),
        draw=lambda *_: None,
    )
    return Study(**(parts | changes))


def test_a_study_that_holds():
    outcome = check(line())
    assert outcome.holds
    assert outcome.verdicts[0].value == pytest.approx(0.5)
    assert outcome.refutations[0].refuted_by


def test_your_own_theory_and_network_are_judged_by_the_same_claims():
    assert not check(line(), predict=lambda problem: {"y": 3 * np.arange(5)}).holds
    assert not check(line(), simulate=lambda problem: {"y": np.zeros(5)}).verdicts[0].holds
    assert check(line(), size="paper").verdicts[0].value == pytest.approx(0.05)


def test_a_surviving_rival_fails_the_study():
    outcome = check(line(rivals=(Rival("the same", lambda problem, p: p),)))
    assert outcome.verdicts[0].holds
    assert not outcome.holds


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_only_a_finite_number_holds_or_refutes(bad):
    broken = line(simulate=lambda problem: {"y": np.full(5, bad)})
    assert not check(broken).verdicts[0].holds
    silent = line(rivals=(Rival("nothing", lambda problem, p: {"y": p["y"] * bad}),))
    assert not check(silent).refutations[0].holds, "NaN refutes nobody"


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_measure_that_divides_by_nothing_says_so_by_its_value_alone():
    """Warnings of a rival's arithmetic between the lines of a run would look like faults of the program."""
    flat = (Claim("they agree", lambda p, o: gap(p["y"], o["y"], np.abs(p["y"][:1])), 1.0, "the theory's own size"),)
    verdict = check(line(claims=flat)).verdicts[0]
    assert verdict.value == math.inf and not verdict.holds


def test_refusals():
    with pytest.raises(ValueError, match="size must be one of smoke, paper, got 'huge'"):
        check(line(), size="huge")
    with pytest.raises(ValueError, match="'y'"):
        check(line(), predict=lambda problem: {"z": 1})
    with pytest.raises(ValueError, match=r"regimes of Study .* must be of linear, .*, got 'wide'"):
        line(regimes=("lazy", "wide"))
    with pytest.raises(ValueError, match=r"asks of Study .* must be one of when, .*, got 'why'"):
        line(asks="why")
    with pytest.raises(ValueError, match="no size 'paper'"):
        line(sizes={"smoke": {}})
    with pytest.raises(ValueError, match="rival"):
        line(rivals=())


def test_discovery_is_by_file():
    names = discover()
    assert "deep_linear/two_layer_modes" in names
    assert all(isinstance(find(name), Study) for name in names)
    assert select(["deep_linear"]) == [n for n in names if n.startswith("deep_linear/")]
    assert select([]) == list(names)
    assert select(["two_layer_modes", "deep_linear/two_layer_modes"]) == ["deep_linear/two_layer_modes"]
    with pytest.raises(ValueError, match="unknown study or family 'nowhere'"):
        select(["nowhere"])
    with pytest.raises(ValueError, match="must be one study"):
        find("deep_linear")


@given(st.integers(0, 1000), st.floats(0.5, 3), st.sampled_from([-1.0, 1.0]))
def test_gap_is_the_deviation_in_units_of_the_scale(seed, size, sign):
    truth = np.random.default_rng(seed).normal(size=7)
    assert gap(truth, truth + sign * size * 0.1, 0.1) == pytest.approx(size)


@given(st.floats(-3, 3), st.floats(0.1, 10))
def test_rate_finds_the_order(order, factor):
    sizes = np.array([10.0, 20, 40, 80])
    assert rate(sizes, factor * sizes**order, order) == pytest.approx(0, abs=1e-10)
    assert rate(sizes, factor * sizes**order, order + 1) == pytest.approx(1)


def test_z_score_counts_standard_errors():
    samples = np.array([[1.0, 2.0], [3.0, 2.5], [2.0, 3.0]])
    standard_error = samples.std(axis=0, ddof=1) / np.sqrt(3)
    assert z_score(samples.mean(axis=0) + 3 * standard_error, samples) == pytest.approx(3)
    assert z_score(samples.mean(axis=0) + 1, samples, floor=1e6) == pytest.approx(0, abs=1e-5)
    assert math.isnan(z_score([0.0, 0.0], samples * np.nan))


def test_false_alarms_of_z_scores_are_as_rare_as_claimed():
    rng = np.random.default_rng(0)
    found = [z_score(0.0, rng.normal(size=32)) for _ in range(2000)]
    # Student's t with 31 degrees of freedom: two-sided 5 has probability 2e-5, 3 has 5e-3.
    assert max(found) < 5.5
    assert 0.001 < np.mean(np.array(found) > 3) < 0.012


def test_fitted_exponents_know_their_error():
    """The jackknife's error is the scatter of exponents over repetitions, and the mean is the true exponent."""
    rng, sizes = np.random.default_rng(2), np.array([2.0, 4.0, 8.0])
    samples = sizes[:, None] ** -0.5 * np.exp(0.2 * rng.normal(size=(300, 3, 12)))
    fits = np.array([fitted_exponent(sizes, one, log_mean) for one in samples])
    # Least squares on three points: a spread of 0.2 / sqrt(12) over ln 2 sqrt(2).
    spread = 0.2 / np.sqrt(12) / (np.log(2) * np.sqrt(2))
    np.testing.assert_allclose(fits[:, 0].mean(), -0.5, atol=5 * spread / np.sqrt(300))
    np.testing.assert_allclose(fits[:, 0].std(), spread, rtol=0.2)
    np.testing.assert_allclose(np.sqrt(np.mean(fits[:, 1] ** 2)), spread, rtol=0.2)
    with pytest.raises(ValueError, match="three sizes and three runs"):
        fitted_exponent(sizes[:2], samples[0, :2])


def test_regret_is_of_the_nearest_moment_and_paired():
    rng, times = np.random.default_rng(0), np.array([1.0, 2.0, 3.0])
    common, own = rng.normal(size=(64, 1)), 0.1 * rng.normal(size=(64, 3))
    errors = common + own + np.array([0.5, 0.0, 0.3])
    # The spread that all moments share does not count: differences scatter by 0.1 sqrt 2.
    scale = 0.1 * np.sqrt(2 / 64)
    np.testing.assert_allclose(regret(times, 2.2, errors), -0.3 / scale, rtol=0.3)
    np.testing.assert_allclose(regret(times, 1.4, errors), 0.5 / scale, rtol=0.3)
    assert np.isnan(regret(times, 2.0, np.full((4, 3), np.nan)))
    assert regret(times, 1.0, np.ones((4, 1)) * np.array([1.0, 0.5, 2.0])) == np.inf


def test_disorder_counts_neighbours_out_of_order():
    assert disorder([1, 2, 3]) == 0
    assert disorder([1, 3, 2]) == 1
    assert disorder([1, math.nan, 2]) == 2
    assert disorder([2, 2]) == 1


def test_measures_refuse_too_little_data():
    with pytest.raises(ValueError, match="sizes must hold three"):
        rate([1, 2], [1, 2], 1)
    with pytest.raises(ValueError, match="samples must hold two"):
        z_score(0, [1.0])


def test_crossing_times():
    t = np.array([0.0, 1.0, 2.0, 3.0])
    curves = np.array([[0.0, 1.0, 0.0, 4.0], [0.0, -1.0, -2.0, 0.4], [0.7, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(crossing_time(t, curves, 0.5), [0.5, np.inf, 0.0])
    np.testing.assert_allclose(crossing_time(t, curves, [2.0, 0.1, 2.0], never=30.0), [2.5, 2 + 2.1 / 2.4, 30.0])


def test_a_transition_is_a_plateau_and_a_rise():
    """A curve of straight pieces: to the plateau at 0.2 by t = 2, on it until 10, at one by 12."""
    t = np.linspace(0, 20, 2001)
    curve = np.interp(t, [0, 2, 10, 12, 20], [0, 0.2, 0.2, 1, 1])
    found = transition(t, np.stack([curve, np.full_like(t, 0.2)]), 0.2, 1.0)
    np.testing.assert_allclose([part[0] for part in found], [1.2, 10.2, 11.0, 11.8], atol=1e-9)
    np.testing.assert_allclose([found.plateau[0], found.rise[0], found.sharpness[0]], [9, 1.6, 11 / 1.6], atol=1e-9)
    assert np.isinf([part[1] for part in (*found[1:], found.plateau, found.rise)]).all()
    # A fall is a rise upside down.
    fall = transition(t, 1 - curve, 0.8, 0.0)
    np.testing.assert_allclose([float(part) for part in fall], [part[0] for part in found], atol=1e-9)
    with pytest.raises(ValueError, match=r"band must lie between 0 and 0\.5, got 0\.7"):
        transition(t, curve, 0.2, 1.0, band=0.7)
