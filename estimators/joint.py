"""All columns at once: the rows of a comparison that see dependence between columns as well as their own laws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from estimators.tables import Column

_MOST_TRANSPORTED = 1000
MOST_ROWS = 2000  # the joint statistics look at all pairs of rows, so that their cost grows as the square


class Design(NamedTuple):
    """Two samples as matrices on one scale: x (n, d), y (m, d), the unit of a distance, and what was done."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    unit: str
    notes: tuple[str, ...]


def design(pairs: Sequence[tuple[Column, Column]], seed: int) -> Design:
    """The complete rows of the given columns as matrices, each column on a common scale, labels as indicators.

    A numeric column is divided by its pooled standard deviation, unless all are pixels, which share a unit; a label
    becomes indicators scaled so that two different labels are at distance 1. Rows with a gap are left out, and more
    than 2,000 rows are thinned to a seeded random choice; both are stated in the notes.

    Raises:
        ValueError: no column, or fewer than two complete rows a side.
    """
    if not pairs:
        raise ValueError("no column can be compared on both sides")
    notes: list[str] = []
    rng = np.random.default_rng([seed, 7])
    kept = []
    for name, columns in (("reference", [a for a, _ in pairs]), ("current", [b for _, b in pairs])):
        complete = np.flatnonzero(~np.any([column.missing for column in columns], axis=0))
        total = len(columns[0].missing)
        if len(complete) < 2:
            raise ValueError(f"only {len(complete)} of {total} rows of the {name} have no missing value")
        if len(complete) < total:
            notes.append(f"{total - len(complete)} of {total} rows of the {name} have a missing value and are left out")
        if len(complete) > MOST_ROWS:
            notes.append(
                f"computed on {MOST_ROWS} of {len(complete)} rows of the {name}, drawn at random from seed {seed}"
            )
            complete = np.sort(rng.choice(complete, MOST_ROWS, replace=False))
        kept.append(complete)
    pixels = all(a.cell is not None for a, _ in pairs)
    left, right = [], []
    for a, b in pairs:
        x, y = a.values[kept[0]], b.values[kept[1]]
        if a.numeric:
            centre = np.concatenate([x, y]).mean()
            scale = 1.0 if pixels else _deviation(x, y)
            left.append(((x - centre) / scale)[:, None])
            right.append(((y - centre) / scale)[:, None])
        else:
            labels = np.unique(np.concatenate([x, y]).astype(str))
            left.append((x.astype(str)[:, None] == labels) / np.sqrt(2))
            right.append((y.astype(str)[:, None] == labels) / np.sqrt(2))
    unit = "pixel values" if pixels else "standard deviations"
    if not pixels:
        notes.append("numeric columns are divided by their pooled standard deviation first")
    return Design(np.concatenate(left, axis=1), np.concatenate(right, axis=1), unit, tuple(notes))


def rows(found: Design, *, seed: int, confidence: float, permutations: int) -> Iterator[tuple[dict[str, Any], Any]]:
    """The joint rows in turn, the two-sample test first, each with the result it came from (None on an error)."""
    yield _row(_test(found, seed, permutations), "test of equality", "", found, seed)
    for metric, unit, estimator in _measures(found):
        yield _row(_estimate(found, estimator, seed, confidence), metric, unit, found, seed)
    few = _thinned(found, seed)
    yield _row(_estimate(few, _sinkhorn, seed, confidence), "Sinkhorn divergence", f"({found.unit})²", few, seed)


def failed(reason: str, seed: int) -> dict[str, Any]:
    """The single joint row of a comparison whose columns cannot be compared together."""
    return _blank("test of equality", "", seed) | {"error": reason}


def _measures(found: Design) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    unit = found.unit

    def mmd() -> Any:
        from estimators.kernel.mmd import MMD

        return MMD()

    def energy() -> Any:
        from estimators.kernel.energy import EnergyDistance

        return EnergyDistance()

    def sliced() -> Any:
        from estimators.transport.sliced import SlicedWasserstein

        return SlicedWasserstein()

    yield "MMD²", "1 (kernel with values in [0, 1])", mmd
    yield "energy distance", unit, energy
    yield "sliced Wasserstein W2", unit, sliced


def _sinkhorn() -> Any:
    from estimators.transport import Sinkhorn

    return Sinkhorn()


def _thinned(found: Design, seed: int) -> Design:
    """At most a thousand rows a side, for the one statistic that goes through all pairs hundreds of times."""
    rng = np.random.default_rng([seed, 11])
    sides, notes = [], []
    for name, points in (("reference", found.x), ("current", found.y)):
        if len(points) > _MOST_TRANSPORTED:
            notes.append(f"{_MOST_TRANSPORTED} rows of the {name}, drawn at random from seed {seed}, are transported")
            points = points[np.sort(rng.choice(len(points), _MOST_TRANSPORTED, replace=False))]
        sides.append(points)
    return Design(sides[0], sides[1], found.unit, (*found.notes, *notes))


def _test(found: Design, seed: int, permutations: int) -> Callable[[], tuple[dict[str, Any], Any]]:
    def run() -> tuple[dict[str, Any], Any]:
        from estimators.two_sample import two_sample_test

        result = two_sample_test(found.x, found.y, statistic="auto", permutations=permutations, seed=seed)
        return {
            "statistic": result.statistic,
            "p": result.p_value,
            "p_interval": result.interval,
            "method": f"permutation test, statistic {result.name}, {result.permutations} permutations; the interval "
            "is on p: what other permutations could have given",
            "notes": result.notes,
        }, result

    return run


def _estimate(
    found: Design, estimator: Callable[[], Any], seed: int, confidence: float
) -> Callable[[], tuple[dict[str, Any], Any]]:
    def run() -> tuple[dict[str, Any], Any]:
        result = estimator().estimate(found.x, found.y, seed=seed, confidence=confidence)
        return {
            "statistic": result.value,
            "interval": result.interval,
            "bound": result.bound,
            "method": f"{result.estimator}, {100 * confidence:g}% interval",
            "notes": result.notes,
        }, result

    return run


def _row(
    run: Callable[[], tuple[dict[str, Any], Any]], metric: str, unit: str, found: Design, seed: int
) -> tuple[dict[str, Any], Any]:
    row = _blank(metric, unit, seed) | {"n": len(found.x), "m": len(found.y)}
    try:
        fields, result = run()
    except (
        ValueError,
        TypeError,
        ArithmeticError,
        RuntimeError,
        NotImplementedError,
        ImportError,
        MemoryError,
    ) as error:
        return row | {"error": f"{type(error).__name__}: {error}"}, None
    return row | fields | {"notes": [*found.notes, *fields["notes"]]}, result


def _blank(metric: str, unit: str, seed: int) -> dict[str, Any]:
    blank = dict.fromkeys(("statistic", "interval", "p", "p_interval", "bound", "n", "m"))
    return {"metric": metric, "unit": unit, **blank, "method": "", "seed": seed, "notes": [], "error": None}


def _deviation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Of the pooled sample: a scale that knew which row is from which side would make the permutation test inexact."""
    return float(np.concatenate([x, y]).std()) or 1.0
