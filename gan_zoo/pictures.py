"""Pictures of samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def mosaic(samples: Any, columns: int | None = None) -> np.ndarray:
    """Images (n, h, w), (n, 1, h, w) or (n, 3, h, w) side by side, as one array (H, W) or (H, W, 3).

    It is scaled so that the largest value is 1.

    Raises:
        ValueError: the points are not images.

    Example:
        >>> mosaic(np.zeros((6, 8, 8)), columns=3).shape
        (19, 28)
    """
    images = np.asarray(samples, dtype=np.float64)
    if images.ndim == 4 and images.shape[1] in (1, 3):
        images = images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)
    if images.ndim not in (3, 4) or len(images) == 0:
        raise ValueError(f"images must have shape (n, h, w) or (n, channels, h, w): got {np.shape(samples)}")
    low, high = min(float(images.min()), 0.0), float(images.max())
    images = (images - low) / (high - low) if high > low else images - low
    n, h, w = images.shape[:3]
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    canvas = np.zeros((rows * (h + 1) + 1, columns * (w + 1) + 1, *images.shape[3:]))
    for i, image in enumerate(images):
        top, left = i // columns * (h + 1) + 1, i % columns * (w + 1) + 1
        canvas[top : top + h, left : left + w] = image
    return canvas
