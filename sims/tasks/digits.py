"""Handwritten digits: 1797 real images of 8 x 8 pixels, ten classes, raw or whitened (scikit-learn, UCI 1998).

Real inputs are neither white nor aligned with their targets, small enough to train on in seconds, and come with the
package: nothing is downloaded.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

CLASSES = 10


class Digits(NamedTuple):
    """Centred inputs and targets in columns, as NumPy float64; what was subtracted comes from the training set.

    `x` (n_in, P), `y` (10, P), `labels` (P,), and the same for the test set; `frequency` (10,) is the training share
    of each class, to be added to a network's outputs before they are read as classes.
    """

    x: np.ndarray
    y: np.ndarray
    labels: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    test_labels: np.ndarray
    frequency: np.ndarray


def digits(train: int = 1437, seed: int = 0, whiten: bool = False) -> Digits:
    """A random split of the images: `train` of them to learn from, the others to test.

    Pixels run from 0 to 1 and are centred; targets are one-hot and centred. With `whiten` the inputs are the
    coordinates on the training images' principal axes at unit variance, X X^T / P = I: pixels that never change span
    no axis and are left out, so that n_in is the rank of the training images (61 of 64 on all of them).
    """
    images, labels = load_digits(return_X_y=True)
    if not CLASSES <= train < len(labels):
        raise ValueError(f"train must lie between {CLASSES} and {len(labels) - 1} images, got {train}")
    order = np.random.default_rng(seed).permutation(len(labels))
    images, labels = images[order].T / 16, labels[order]
    one_hot = np.eye(CLASSES)[:, labels]
    mean, frequency = images[:, :train].mean(axis=1), one_hot[:, :train].mean(axis=1)
    x, y = images - mean[:, None], one_hot - frequency[:, None]
    if whiten:
        x = whitening(x[:, :train]) @ x
    return Digits(x[:, :train], y[:, :train], labels[:train], x[:, train:], y[:, train:], labels[train:], frequency)


def whitening(x: np.ndarray, tolerance: float = 1e-10) -> np.ndarray:
    """The matrix M (rank x n_in) for which M x is white: (M x)(M x)^T / P = I on the span of the samples.

    Directions whose standard deviation is below `tolerance` times the largest are not in the span.
    """
    axes, size, _ = np.linalg.svd(x, full_matrices=False)
    kept = size > tolerance * size[0]
    return np.sqrt(x.shape[1]) * axes[:, kept].T / size[kept, None]
