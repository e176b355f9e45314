"""A weak signal, and pairs of strong outliers that oppose each other.

Every sample has the signal feature x_s = +-1 and the label y = b x_s. A few also carry the outlier feature +a or -a,
in pairs of the same signal and label, so that it cancels on average and says nothing about the label.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def opposing_outliers(
    samples: int, pairs: int, strength: Float[Array, ""], signal: float = 1.0
) -> tuple[Float[Array, "2 P"], Float[Array, "1 P"]]:
    """Inputs (signal and outlier feature in rows, samples in columns) and labels.

    `pairs` pairs carry the outlier feature +-`strength`; the others have none. Needs an even number of `samples`, of
    which half have x_s = -1, and an even number of `pairs`, of at most half the samples.
    """
    if samples % 2 or pairs % 2 or 2 * pairs > samples:
        raise ValueError(f"samples and pairs must be even, pairs at most half of samples, got {samples} and {pairs}")
    side = np.where(np.arange(samples) < samples // 2, 1.0, -1.0)
    present = np.zeros(samples)
    for half in (0, samples // 2):
        present[half : half + pairs] = np.where(np.arange(pairs) % 2, -1.0, 1.0)
    strength = jnp.asarray(strength)
    x = jnp.stack([jnp.asarray(side, strength.dtype), present * strength])
    return x, signal * x[:1]
