"""What the strategies promise of every draw."""

import numpy as np
from hypothesis import find, given

from validation.strategies import balanced_networks, modes, rotations, spectra, tasks, teachers


@given(rotations(4))
def test_rotations_are_orthogonal(q):
    np.testing.assert_allclose(q @ q.T, np.eye(4), atol=1e-14)


@given(spectra(4, smallest=0.3, gap=0.25))
def test_spectra_fall_with_gaps(s):
    assert s.shape == (4,)
    assert s[-1] >= 0.3
    assert (-np.diff(s) >= 0.25 - 1e-12).all()


@given(modes())
def test_modes_are_below_their_end(mode):
    assert 0 < mode.u0 <= 0.9 * mode.s / mode.lam * (1 + 1e-12)
    assert mode.t >= 0


def test_modes_reach_every_stage():
    def strength(mode):
        ratio = mode.lam * mode.u0 / mode.s
        return ratio / (ratio + (1 - ratio) * np.exp(-2 * mode.s * mode.t))

    find(modes(), lambda mode: strength(mode) < 1e-4)
    find(modes(), lambda mode: 0.4 < strength(mode) < 0.6)
    find(modes(), lambda mode: strength(mode) > 1 - 1e-6)


@given(tasks())
def test_tasks_are_correlations(task):
    values = np.linalg.eigvalsh(task.sxx)
    assert values[0] > 0
    assert values[-1] / values[0] <= 30 + 1e-9
    assert task.syx.shape[1] == len(task.sxx)


@given(balanced_networks())
def test_networks_are_balanced(network):
    w1, w2, syx, lam = network
    difference = w2.T @ w2 - w1 @ w1.T
    np.testing.assert_allclose(difference, lam * np.eye(len(w1)), atol=1e-12)
    assert (w2 @ w1).shape == syx.shape


def test_networks_have_either_sign():
    find(balanced_networks(), lambda network: network.lam > 1)
    find(balanced_networks(), lambda network: network.lam < -1)


@given(teachers())
def test_teachers_are_admissible(teacher):
    assert teacher.alpha > 0
    assert teacher.signal > 0
    assert min(teacher.noise, teacher.start) >= 0
