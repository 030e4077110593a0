"""Pictures of samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def grid(samples: Any, columns: int | None = None, *, size: float = 0.55) -> Figure:
    """Images (n, h, w), (n, 1, h, w) or (n, 3, h, w) side by side, dark where the value is high; ``size`` in inches each.

    Raises:
        ValueError: the points are not images.
        ImportError: matplotlib is missing; the message names the extra.
    """
    images = np.asarray(samples)
    if images.ndim == 4 and images.shape[1] in (1, 3):
        images = images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)
    if images.ndim not in (3, 4) or len(images) == 0:
        raise ValueError(f"images must have shape (n, h, w) or (n, channels, h, w): got {np.shape(samples)}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('pictures need matplotlib: pip install "divergence-toolkit[report]"') from None
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    gray = images.ndim == 3
    low, high = float(images.min()), float(images.max())
    if 0 <= low and high <= 1:
        low, high = 0.0, 1.0
    canvas = np.full((rows * (images.shape[1] + 1) + 1, columns * (images.shape[2] + 1) + 1, *images.shape[3:]), low)
    for i, image in enumerate(images):
        top, left = i // columns * (images.shape[1] + 1) + 1, i % columns * (images.shape[2] + 1) + 1
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    figure = Figure(figsize=(columns * size, rows * size))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(canvas, cmap="gray_r" if gray else None, vmin=low, vmax=high, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    return figure
