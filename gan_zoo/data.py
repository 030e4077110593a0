"""Data for training, held flat: arrays, datasets, files, folders of images. Minibatch i is a function of (seed, i)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from estimators.door import check_finite, tensor
from estimators.space import Space


def points(data: Any) -> tuple[Tensor, Space]:
    """``data`` as flat float32 points (n, d), and their space.

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
    return space.flat(values).float(), space


def streams(data: Any, space: Space) -> dict[str, Tensor]:
    """Flat points by stream: a mapping has a stream for each key; anything else is the one stream "x", in ``space``.

    Raises:
        ValueError: the stream "x" is not of ``space``, or leaves its bounds.
    """
    if isinstance(data, Mapping):
        return {name: points(stream)[0] for name, stream in data.items()}
    x, found = points(data)
    if found.shape != space.shape:
        raise ValueError(f"data must have points of shape {space.shape}, as the game was built: got {found.shape}")
    if space.low is not None and not (space.low <= float(x.min()) and float(x.max()) <= float(space.high or 0.0)):
        raise ValueError(
            f"data must lie in [{space.low:g}, {space.high:g}], as the game was built: "
            f"got values from {float(x.min()):g} to {float(x.max()):g}"
        )
    return {"x": x}


class Minibatches:
    """Batch i of a stream, for any i: epochs are permutations seeded by (seed, epoch), cut into whole batches."""

    def __init__(self, stream: Tensor, batch: int, seed: int) -> None:
        self.stream, self.batch, self.seed = stream, min(batch, len(stream)), seed
        self.per_epoch = len(stream) // self.batch
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def __getitem__(self, i: int) -> Tensor:
        epoch, place = divmod(i, self.per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(mix(self.seed, epoch))
            self._epoch, self._order = epoch, torch.randperm(len(self.stream), generator=generator)
        rows = self._order[place * self.batch : (place + 1) * self.batch]
        return self.stream[rows.to(self.stream.device)]


def mix(*words: int) -> int:
    """One 63-bit seed from several integers, well mixed."""
    return int(
        np.random.SeedSequence([word & 0xFFFFFFFFFFFFFFFF for word in words]).generate_state(1, np.uint64)[0] >> 1
    )


def _bounds(values: Tensor, byte: bool) -> tuple[float | None, float | None]:
    if byte:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if values.ndim < 3 or low < -1 or high > 1:
        return None, None
    return (0.0, 1.0) if low >= 0 else (-1.0, 1.0)


def _array(data: Any) -> Any:
    if isinstance(data, str | Path):
        return _read(Path(data))
    if isinstance(data, torch.utils.data.Dataset):
        return torch.stack([_first(data[i]) for i in range(len(data))])  # type: ignore[arg-type]
    return data


def _first(item: Any) -> Tensor:
    return torch.as_tensor(np.asarray(item[0] if isinstance(item, tuple | list) else item))


def _read(path: Path) -> np.ndarray:
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    if path.is_dir():
        return _images(path)
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            if len(archive.files) != 1:
                raise ValueError(f"{path} must hold one array: it holds {', '.join(archive.files) or 'none'}")
            return archive[archive.files[0]]
    raise ValueError(f"{path} is not a .npy or .npz file or a folder of images")


def _images(folder: Path) -> np.ndarray:
    from PIL import Image

    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp"))
    if not files:
        raise ValueError(f"{folder} holds no images (.png, .jpg, .bmp)")
    images = []
    for file in files:
        with Image.open(file) as image:
            images.append(np.asarray(image.convert("L" if image.mode in ("1", "L", "I;16") else "RGB")))
    if len({image.shape for image in images}) > 1:
        raise ValueError(
            f"the images of {folder} must have one size: {files[0].name} is {images[0].shape}, others differ"
        )
    stacked = np.stack(images)
    return stacked if stacked.ndim == 3 else stacked.transpose(0, 3, 1, 2)
