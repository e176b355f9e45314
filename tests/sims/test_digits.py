"""The digits: exactly white where asked, centred on the training images, split without overlap."""

import numpy as np
import pytest

from sims.tasks.digits import digits, whitening


@pytest.mark.parametrize("seed", [0, 1])
def test_whitened_images_are_white(seed):
    white, raw = digits(900, seed, whiten=True), digits(900, seed)
    assert np.linalg.matrix_rank(raw.x) == len(white.x)
    np.testing.assert_allclose(white.x @ white.x.T / 900, np.eye(len(white.x)), rtol=0, atol=1e-10)
    # The same linear map whitens both parts.
    m = whitening(raw.x)
    np.testing.assert_allclose(m @ raw.test_x, white.test_x, rtol=0, atol=1e-9)
    # Whitening loses nothing: the best linear map reads the images alike.
    best = raw.y @ np.linalg.pinv(raw.x, rcond=1e-10) @ raw.x
    np.testing.assert_allclose(white.y @ white.x.T / 900 @ white.x, best, rtol=0, atol=1e-10)


def test_split_and_centre():
    data = digits(1000, 3)
    assert data.x.shape == (64, 1000) and data.test_x.shape == (64, 797) and data.y.shape == (10, 1000)
    np.testing.assert_allclose(data.x.mean(axis=1), 0, atol=1e-13)
    np.testing.assert_allclose(data.y.mean(axis=1), 0, atol=1e-13)
    assert np.ptp(np.hstack([data.x, data.test_x]), axis=1).max() == 1
    np.testing.assert_allclose((data.y + data.frequency[:, None])[data.labels, np.arange(1000)], 1)
    counts = np.bincount(np.concatenate([data.labels, data.test_labels]))
    assert (counts == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]).all()


def test_seeds_split_differently_and_repeatably():
    assert (digits(100, 1).labels == digits(100, 1).labels).all()
    assert (digits(100, 1).labels != digits(100, 2).labels).any()


@pytest.mark.parametrize("train", [0, 9, 1797])
def test_refusal(train):
    with pytest.raises(ValueError, match=f"train must lie between 10 and 1796 images, got {train}"):
        digits(train)
