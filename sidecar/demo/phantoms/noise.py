"""Smooth fields and blur, which make drawn shapes look grown. Arrays in, arrays out."""

from typing import Any

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[Any]

_WAVES = 7


def waves(seed: int, wavelength: float, *axes: Field) -> Field:
    """Return a smooth random field over coordinates in mm, mostly within -1 and 1.

    Each of the ``axes`` is a row, a column, or one number: ``(1, n)``, ``(n, 1)``, ``(1, 1)``.
    The field is a sum of plane waves of about ``wavelength`` mm. Their directions come from
    ``seed`` alone, so that any cut through a volume agrees with any other.
    """
    random = np.random.default_rng(seed)
    directions = random.normal(size=(_WAVES, len(axes)))
    lengths = wavelength * random.uniform(0.7, 1.4, (_WAVES, 1))
    directions *= 2 * np.pi / lengths / np.linalg.norm(directions, axis=1, keepdims=True)
    # A plane wave is a product of waves along rows and along columns.
    down: Field = np.exp(2j * np.pi * random.uniform(size=(_WAVES, 1)))
    across: Field = np.ones((_WAVES, 1), np.complex128)
    for steps, axis in zip(directions.T, axes, strict=True):
        wave = np.exp(1j * steps[:, np.newaxis] * axis.ravel())
        if axis.shape[1] > 1:
            across = across * wave
        else:
            down = down * wave
    # Not as a product of matrices: the threads of a BLAS would take all cores.
    rows, columns = down.astype(np.complex64), across.astype(np.complex64)
    total: Field = np.einsum("kr,kc->rc", rows.imag.copy(), columns.real.copy())
    total += np.einsum("kr,kc->rc", rows.real.copy(), columns.imag.copy())
    return total * np.float32(1 / _WAVES**0.5)


def blur(image: Field, radius: int, times: int = 2) -> Field:
    """Return ``image`` (rows, columns) blurred: ``times`` means over ``2 * radius + 1`` pixels."""
    size = 2 * radius + 1
    for _ in range(times):
        for axis in (0, 1):
            padding = [(0, 0)] * image.ndim
            padding[axis] = (radius + 1, radius)
            total = np.cumsum(np.pad(image, padding, "edge"), axis=axis, dtype=np.float64)
            ahead = np.take(total, range(size, total.shape[axis]), axis)
            behind = np.take(total, range(total.shape[axis] - size), axis)
            image = ((ahead - behind) / size).astype(np.float32)
    return image


def grain(seed: int, shape: tuple[int, ...], radius: int = 0) -> Field:
    """Return normal noise of deviation 1, of grains of about ``radius`` pixels."""
    noise: Field = np.random.default_rng(seed).standard_normal(shape, np.float32)
    if radius:
        noise = blur(noise, radius, 1)
        noise /= noise.std()
    return noise
