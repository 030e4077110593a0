"""Which labellings of the pooled points are equally likely under P = Q, and random draws of them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from estimators.two_sample.permutation import HELD

_CPU = torch.device("cpu")
HERE = 12_000  # units up to which labels are drawn on the CPU, the same ones whatever the device


class Design(NamedTuple):
    """N rows in U units that are labelled as a whole, the units in strata within which labels are exchanged."""

    unit: Tensor  # (N,) the unit of each row: the row itself, or its cluster
    stratum: Tensor  # (U,)
    is_x: Tensor  # (U,) the observed labels

    @property
    def observed(self) -> Tensor:
        """The observed labelling of the rows, (N,)."""
        return self.is_x[self.unit]

    @property
    def has_equal_sizes(self) -> bool:
        """Whether every labelling has as many rows of x as the observed one."""
        sizes = self.unit.bincount(minlength=len(self.is_x))
        return all(len(sizes[self.stratum == s].unique()) == 1 for s in self.stratum.unique())

    @property
    def is_plain(self) -> bool:
        """Whether any n of the N rows are equally likely to be those of x."""
        return len(self.unit) == len(self.is_x) and not bool(self.stratum.any())

    def labels(
        self,
        permutations: int,
        generator: torch.Generator,
        fixed: Tensor | None = None,
        device: torch.device = _CPU,
    ) -> Tensor:
        """Random labellings of the rows, (permutations, N), which keep the number of x-units in each stratum.

        Units where ``fixed``, (U,), is True keep their observed label. More than `HERE` units are labelled on the
        ``device``, by a generator of its own; fewer as on the CPU, whatever it is.
        """
        stratum = self.stratum
        if fixed is not None:
            stratum = torch.where(fixed, stratum.max() + 1 + torch.arange(len(stratum)), stratum)
        in_strata = self.is_x[(2 * stratum + ~self.is_x).argsort()]  # stratum by stratum, x first
        if device.type == "cpu" or len(stratum) <= HERE:
            device = _CPU
        else:
            seed = int(torch.randint(2**62, (1,), generator=generator))
            generator = torch.Generator(device).manual_seed(seed)
        stratum, in_strata, unit = (part.to(device) for part in (stratum, in_strata, self.unit))
        found = torch.empty(permutations, len(self.unit), dtype=torch.bool, device=device)
        for rows in torch.arange(permutations).split(max(1, HELD // len(self.unit))):
            keys = stratum + torch.rand(
                len(rows), len(stratum), generator=generator, dtype=torch.float64, device=device
            )
            units = torch.zeros(keys.shape, dtype=torch.bool, device=device)
            # On the CPU NumPy's is six times as fast as torch's.
            order = torch.from_numpy(np.argsort(keys.numpy(), -1)) if device.type == "cpu" else keys.argsort(-1)
            found[int(rows[0]) : int(rows[-1]) + 1] = units.scatter_(-1, order, in_strata.expand(keys.shape))[:, unit]
        return found

    def labellings(self, fixed: Tensor | None = None) -> float:
        """The number of different labellings of the units, inf beyond 1e300."""
        free = torch.ones_like(self.is_x) if fixed is None else ~fixed
        N = self.stratum[free].bincount().double()
        n = self.stratum[free & self.is_x].bincount(minlength=len(N)).double()
        log = float((torch.lgamma(N + 1) - torch.lgamma(n + 1) - torch.lgamma(N - n + 1)).sum())
        return math.inf if log > 690 else round(math.exp(log), 6)


def design(n: int, m: int, clusters: Any, strata: Any, keep: tuple[Tensor, Tensor], shuffle: Tensor) -> Design:
    """The design of n + m rows, of which the rows ``keep`` were kept, in the order ``shuffle``.

    Raises:
        TypeError: ``clusters`` or ``strata`` is no pair of sequences, or their ids are of two kinds.
        ValueError: lengths that do not fit; missing ids; a cluster in both samples or in two strata; strata that leave
            nothing to permute.
    """
    is_x = torch.arange(n + m) < n
    names, unit = _codes(clusters, "clusters", keep) if clusters is not None else (None, torch.arange(n + m))
    first = torch.full((int(unit.max()) + 1,), n + m).scatter_reduce_(0, unit, torch.arange(n + m), "amin")
    if names is not None and bool((is_x != is_x[first][unit]).any()):
        shared = names[unit[int((is_x != is_x[first][unit]).nonzero()[0])]].item()
        raise ValueError(
            f"cluster {shared!r} has rows in both x and y: a cluster is labelled as a whole; for pairs or repeated "
            "measures with rows on both sides use strata"
        )
    stratum = torch.zeros(n + m, dtype=torch.int64)
    if strata is not None:
        groups, stratum = _codes(strata, "strata", keep)
        split = (stratum != stratum[first][unit]).nonzero()
        if names is not None and len(split):
            row = int(split[0])
            two = [groups[code].item() for code in (stratum[first][unit][row], stratum[row])]
            raise ValueError(f"cluster {names[unit[row]].item()!r} lies in two strata, {two[0]!r} and {two[1]!r}")
    found = Design(unit[shuffle], stratum[first], is_x[first])
    if found.labellings() < 1.5:
        raise ValueError("no stratum has points of both samples, so that no label can be exchanged")
    return found


def _codes(ids: Any, name: str, keep: tuple[Tensor, Tensor]) -> tuple[NDArray[Any], Tensor]:
    """The different ids, and for each kept row of x and y the index of its id."""
    if not isinstance(ids, tuple | list) or len(ids) != 2:
        raise TypeError(f"{name} must be a pair, the ids of the rows of x and of y: got {type(ids).__name__}")
    sides = []
    for side, given, kept in zip("xy", ids, keep, strict=True):
        array = np.asarray(given.cpu() if isinstance(given, Tensor) else given)
        if array.shape != (len(kept),):
            raise ValueError(f"{name} must have one id a row, ({len(kept)},) for {side}: got shape {array.shape}")
        array = array[kept.cpu().numpy()]
        missing = sum(value is None or value != value for value in array.tolist())
        if missing:
            raise ValueError(f"{name} has {missing} missing ids in {side}")
        sides.append(array.astype(str) if array.dtype.kind == "O" else array)
    if (sides[0].dtype.kind in "US") != (sides[1].dtype.kind in "US"):
        raise TypeError(f"{name} must be ids of one kind: got {sides[0].dtype} for x and {sides[1].dtype} for y")
    names, codes = np.unique(np.concatenate(sides), return_inverse=True)
    return names, torch.as_tensor(codes.reshape(-1), dtype=torch.int64)
