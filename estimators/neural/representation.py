"""What a learned kernel sees of a point: a few coordinates that pooled points give without labels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PRINCIPAL = 32  # axes at most
_POINTS_PER_AXIS = 6  # so that whitened points do not all lie at one distance from the centre
_ENOUGH = 2000  # points that the axes are taken from
_ORIENTATIONS = 8
_GRID = 7  # cells of an image's edges along each side, or so
_SMALLEST = 8  # side of a square from which it is looked at as an image
_ALIKE = 0.75  # squared difference of neighbouring pixels of an image, over that of any two
_STRESS = 3.0  # how much a distance counts beside one axis


class Representation(nn.Module):
    """(n, d) → (n, p + q): p whitened principal axes of pooled points, and q distances, in standard units.

    The distances of a point are its radius in the axes, by which a point that is unlike most others is far, and how far
    it lies off the axes, by which points of a law with fewer dimensions, or with noise on top, are told.

    Images come flat. Where the coordinates make a square of pixels, of one or three channels, whose neighbours are
    alike in these points, the axes are those of edges: the strength of the slope in eight directions, averaged over
    cells, by its root; and there are both distances for edges and for pixels. Coordinates that are no pixels are taken
    in standard units.

    Labels have no part in any of it, so that a test which permutes them may use all points.

    Cost: O(n·f·min(n, f)) for f features, once, and O(n·f·p). Gradients: in the points. No weight of it is trained.

    Args:
        points: (n, d), x and y together, in random order.

    References: Dalal and Triggs 2005 (orientations of edges in cells).

    Example:
        >>> points = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
        >>> seen = Representation(points)(points)
        >>> seen.shape, bool((seen[:, :3].var(0) - 1).abs().max() < 0.01)
        (torch.Size([500, 4]), True)
    """

    unit: Tensor
    middle: Tensor
    spread: Tensor

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        points = points.detach()[:_ENOUGH].double()
        self.image = image_shape(points)
        self.register_buffer("unit", _positive((points - points.mean(0)).square().mean().sqrt()))
        p = max(1, min(PRINCIPAL, len(points) // _POINTS_PER_AXIS))
        self.axes = nn.ModuleList(_Axes(features, p, self.image is None) for features in self._features(points))
        distances = torch.cat([part for axes, f in self._pairs(points) for part in axes(f)[1:]], -1)
        self.register_buffer("middle", distances.mean(0))
        self.register_buffer("spread", _positive(distances.std(0, correction=0)))

    @property
    def white(self) -> int:
        """How many of what comes out are whitened axes; the others are distances."""
        first = self.axes[0]
        assert isinstance(first, _Axes)  # as they are made above
        return first.white.shape[1]

    @property
    def dim(self) -> int:
        """Coordinates of what comes out."""
        return self.white + len(self.middle)

    @property
    def distances(self) -> tuple[str, ...]:
        """What each distance is, in words."""
        kinds = ("edges", "pixels") if self.image else ("the points",)
        named = zip(self.axes, kinds, strict=True)
        return tuple(
            name
            for axes, kind in named
            for name in (f"radius of {kind}", f"{kind} off the axes")[
                : 2 if isinstance(axes, _Axes) and axes.off else 1
            ]
        )

    def forward(self, points: Tensor) -> Tensor:
        """In single precision: an offset is taken off before anything is rounded."""
        parts = [axes(features) for axes, features in self._pairs(points.double())]
        distances = torch.cat([part for found in parts for part in found[1:]], -1)
        return torch.cat([parts[0][0], _STRESS * (distances - self.middle) / self.spread], -1).float()

    def _pairs(self, points: Tensor) -> list[tuple[nn.Module, Tensor]]:
        return list(zip(self.axes, self._features(points), strict=True))

    def _features(self, points: Tensor) -> list[Tensor]:
        return [points] if self.image is None else [edges(points.reshape(-1, *self.image) / self.unit), points]


class _Axes(nn.Module):
    """Features to whitened principal axes, the radius in them, and the distance off them where there are more."""

    center: Tensor
    scale: Tensor
    vectors: Tensor
    white: Tensor

    def __init__(self, features: Tensor, p: int, standardise: bool) -> None:
        super().__init__()
        self.register_buffer("center", features.mean(0))
        spread = features.std(0, correction=0)
        self.register_buffer("scale", _positive(spread) if standardise else torch.ones_like(spread))
        vectors, values = _principal((features - self.center) / self.scale, p)
        self.register_buffer("vectors", vectors)
        self.register_buffer("white", vectors / values.sqrt())
        self.off = p < min(features.shape)

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        centred = (features - self.center) / self.scale
        white = centred @ self.white
        found = (white, (white.square().sum(-1, keepdim=True) + 1e-12).sqrt())
        if not self.off:
            return found
        rest = centred.square().sum(-1, keepdim=True) - (centred @ self.vectors).square().sum(-1, keepdim=True)
        return (*found, (rest.clamp_min(0.0) + 1e-12).sqrt())


def image_shape(points: Tensor) -> tuple[int, int, int] | None:
    """(channels, side, side) where points (n, d) are flat images, None where neighbours are no more alike than others.

    Example:
        >>> ramp = torch.arange(8.0) + torch.arange(8.0)[:, None]
        >>> image_shape(ramp.reshape(1, 64)), image_shape(torch.eye(64))
        ((1, 8, 8), None)
    """
    d = points.shape[1]
    for channels in (1, 3):
        side = math.isqrt(d // channels)
        if side < _SMALLEST or channels * side * side != d:
            continue
        pixels = points.reshape(-1, channels, side, side)
        of_any = 2 * pixels.flatten(2).var(-1, correction=0).mean()  # of two pixels at random
        of_neighbours = max(float(pixels.diff(dim=axis).square().mean()) for axis in (-1, -2))
        if of_neighbours < _ALIKE * float(of_any):
            return channels, side, side
    return None


def edges(images: Tensor) -> Tensor:
    """(n, c, s, s) → (n, f): the root of the mean slope in each of eight directions, in overlapping cells."""
    n, channels, side, _ = images.shape
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate").reshape(n * channels, 1, side + 2, side + 2)
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    angles = torch.arange(_ORIENTATIONS, dtype=images.dtype, device=images.device) * (2 * math.pi / _ORIENTATIONS)
    cosine, sine = angles.cos()[:, None, None], angles.sin()[:, None, None]
    slope = (across.square() + down.square() + 1e-12).sqrt()
    strength = (across * cosine + down * sine).clamp_min(0.0).square() / slope
    cell = max(1, round(side / _GRID))
    if cell > 1:
        pooled = F.avg_pool2d(F.pad(strength, (cell // 2,) * 4), 2 * cell, cell)
    else:
        pooled = F.avg_pool2d(strength, 3, 1, padding=1)
    return (pooled.reshape(n, -1) + 1e-6).sqrt()


def _positive(scale: Tensor) -> Tensor:
    """The scale, 1 where it is 0: what is constant keeps its unit."""
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def _principal(centred: Tensor, p: int) -> tuple[Tensor, Tensor]:
    """The first p principal axes (f, p) and their variances, without those along which nothing varies."""
    n, f = centred.shape
    if f <= n:
        values, vectors = torch.linalg.eigh(centred.T @ centred / n)
    else:
        values, left = torch.linalg.eigh(centred @ centred.T / n)
        vectors = centred.T @ left / (n * values.clamp_min(1e-300)).sqrt()
    values, vectors = values.flip(0)[:p], vectors.flip(1)[:, :p]
    some = values > 1e-10 * values[0].clamp_min(1e-300)
    if not bool(some.any()):
        return centred.new_zeros(f, 1), centred.new_ones(1)
    return vectors[:, some], values[some]
