"""What the spread of the points tells before anything is estimated: there is none, or one coordinate has it all."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from estimators.door import Samples

SWALLOWS = 0.99  # of the squared deviations in one coordinate, beyond which the others hardly count


def constant(s: Samples) -> str | None:
    """Why no sampling error can be seen, where all points of x are equal and all points of y."""
    if any(bool((points != points[0]).any()) for points, _ in _sides(s)):
        return None
    return "no interval: all points of x are equal, and all of y, from which no sampling error can be seen"


def units(s: Samples) -> tuple[str, ...]:
    """A note where one coordinate makes up nearly all of the squared deviations, for values that depend on units.

    Deviations are from the mean of the own sample, so that a shift along one coordinate is none of scale. There is no
    note where the other coordinates do not vary at all and so have nothing to tell.
    """
    squares = torch.zeros(s.x.shape[-1], dtype=torch.float64, device=s.x.device)
    ends = []
    for points, w in _sides(s):
        squares = squares + w @ (points.double() - w @ points.double()).square()
        ends += [points.amin(0), points.amax(0)]
    varies = torch.stack(ends).amax(0) > torch.stack(ends).amin(0)
    share, k = (squares / squares.sum()).max(0)
    if int(varies.sum()) < 2 or not float(share) > SWALLOWS:
        return ()
    part = f"{float(share):.2%}" if float(share) < 0.9999 else "over 99.99%"
    return (
        f"coordinate {int(k)} makes up {part} of the squared distances: the others hardly count; standardise them "
        "first?",
    )


def _sides(s: Samples) -> Iterator[tuple[Tensor, Tensor]]:
    """The points that have weight, and their weights in float64, of x and of y."""
    for points, w in ((s.x, s.x_weights), (s.y, s.y_weights)):
        if w is None:
            yield points, points.new_full((len(points),), 1 / len(points), dtype=torch.float64)
        else:
            yield points[w > 0], w[w > 0].double()
