"""Data for training, held flat: arrays, datasets, files, folders of images. Minibatch i is a function of (seed, i)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from estimators.door import check_finite, tensor
from estimators.files import read_array
from estimators.space import Space


def points(data: Any) -> tuple[Tensor, Space]:
    """``data`` as flat points (n, d), and their space.

    Accepted are an array or tensor (n, …), a map-style dataset (labels are dropped), the path of a ``.npy`` or ``.npz``
    file, and a folder of images of one size. Bytes (uint8) are divided by 255. Images (points with two axes or more)
    whose values all lie in [0, 1] or [−1, 1] are taken to be bounded by it.

    Raises:
        FileNotFoundError, TypeError, ValueError: the data cannot be read, are empty or not finite.
    """
    array = _array(data)
    byte = getattr(array, "dtype", None) in (np.uint8, torch.uint8)
    values = tensor(array, "data")
    if values.ndim < 2:
        raise ValueError(f"data must have shape (n, …), one point a row: got {tuple(values.shape)}")
    if len(values) < 2 or values[0].numel() == 0:
        raise ValueError(f"data needs at least 2 points with coordinates: got shape {tuple(values.shape)}")
    check_finite(values.reshape(len(values), -1), "data")
    if byte:
        values = values / 255
    space = Space.of(values, *_bounds(values, byte))
    return space.flat(values), space


def streams(data: Any, space: Space) -> dict[str, Tensor]:
    """Flat points by stream: a mapping has a stream for each key; anything else is the one stream "x", in ``space``.

    Points of ``space`` come in its standard units, in which every coordinate counts alike; the others in
    standard units of their own.

    Raises:
        ValueError: the stream "x" is not of ``space``, or leaves its bounds.
    """
    if isinstance(data, Mapping):
        if "x" not in data:
            raise ValueError(f'a mapping of streams needs "x": got {", ".join(map(str, data)) or "nothing"}')
        return {name: streams(s, space)["x"] if name == "x" else _own_units(s) for name, s in data.items()}
    x, found = points(data)
    if found.shape != space.shape:
        raise ValueError(f"data must have points of shape {space.shape}, as the game was built: got {found.shape}")
    if space.low is not None and not (space.low <= float(x.min()) and float(x.max()) <= float(space.high or 0.0)):
        raise ValueError(
            f"data must lie in [{space.low:g}, {space.high:g}], as the game was built: "
            f"got values from {float(x.min()):g} to {float(x.max()):g}"
        )
    return {"x": space.standardized(x)}


def fingerprint(streams: Mapping[str, Tensor]) -> str:
    """A digest of the streams, by which a training that goes on recognises its data."""
    digest = hashlib.sha256()
    for name in sorted(streams):
        digest.update(f"{name} {tuple(streams[name].shape)}".encode())
        digest.update(streams[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _own_units(stream: Any) -> Tensor:
    flat, space = points(stream)
    return space.standardized(flat)


_USES = ("weights", "epoch", "draw")
_WORD = 0xFFFFFFFFFFFFFFFF


class Minibatches:
    """Batch i of a stream, for any i: epochs are permutations seeded by (seed, epoch), cut into whole batches."""

    def __init__(self, stream: Tensor, batch: int, seed: int) -> None:
        self.stream, self.batch, self.seed = stream, min(batch, len(stream)), seed
        self.per_epoch = len(stream) // self.batch
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def __getitem__(self, i: int) -> Tensor:
        epoch, place = divmod(i, self.per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(mix("epoch", self.seed, epoch))
            self._epoch, self._order = epoch, torch.randperm(len(self.stream), generator=generator)
        rows = self._order[place * self.batch : (place + 1) * self.batch]
        return self.stream[rows.to(self.stream.device)]


def mix(use: Literal["weights", "epoch", "draw"], seed: int, *place: int) -> int:
    """The 63-bit seed of one stream of randomness: what it is used for, the user's seed, and its place in the run.

    The number of words is one of them: a seed sequence pads with zeros, so that (s) and (s, 0) would share a stream.
    """
    words = [_USES.index(use), len(place), int(seed) & _WORD, *(int(number) & _WORD for number in place)]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _bounds(values: Tensor, byte: bool) -> tuple[float | None, float | None]:
    if byte:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if values.ndim < 3 or low < -1 or high > 1:
        return None, None
    return (0.0, 1.0) if low >= 0 else (-1.0, 1.0)


def _array(data: Any) -> Any:
    if isinstance(data, str | Path):
        array = read_array(str(data))
        return np.moveaxis(array, 3, 1) if Path(data).is_dir() and array.ndim == 4 else array  # channels first
    if isinstance(data, torch.utils.data.Dataset):
        return torch.stack([_first(data[i]) for i in range(len(data))])  # type: ignore[arg-type]
    return data


def _first(item: Any) -> Tensor:
    return torch.as_tensor(np.asarray(item[0] if isinstance(item, tuple | list) else item))
