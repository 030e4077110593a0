"""Mutual information from paired rows: KL of the joint law from the product of the marginals, by any estimator."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from divergences.evaluate import unit
from estimators.base import Estimator, Inference
from estimators.classical.contingency import FILLED, contingency, information
from estimators.door import Samples, check_unit, fraction, seeded
from estimators.intervals import Shape
from estimators.neural import fitting
from estimators.neural.barber_agakov import BarberAgakov
from estimators.neural.critic_estimator import FEWEST, CriticEstimator
from estimators.neural.info_nce import InfoNCE
from estimators.paired import copies, functional, joint, paired, product, thirds
from estimators.registry import methods
from estimators.results import Bound, Estimate

TRAINED = 5  # shifts of y against x to train a critic on
EVALUATED = 32  # and to evaluate it on: what they add to the variance is then a thirtieth of one shift's
SINGULAR = (
    "a combination of columns of y is one of columns of x: where these have a density the mutual information is "
    "infinite, and the value is a lower bound of it"
)


def mutual_information(
    x: Any,
    y: Any,
    method: str | Estimator | BarberAgakov = "auto",
    *,
    confidence: float = 0.95,
    seed: int = 0,
    base: float | None = None,
) -> Estimate:
    """I(X; Y) = KL(P_XY ‖ P_X × P_Y) from n paired rows, by any estimator of KL.

    The rows of the pairs are drawn from the joint law, and an x with the y of another row from the product; but the
    same rows make up both samples, and each row many of the product, so that they are not independent:

    - A critic (`Variational`, `DonskerVaradhan`, your own) is trained on two thirds of the rows, each x with its own y
      and with those of 5 others. On the last third its value is mean_i a(x_i, y_i) − mean_ij b(x_i, y_j) over 32 shifts
      j of every row, and its error is that of the mean of what a row does to it,

          a(x_i, y_i) − mean_j b(x_i, y_j) − mean_j b(x_j, y_i),

      as rows, unlike their pairs, are independent. This exceeds the error of the value by the noise of the shifts.
    - `InfoNCE` is trained alike; then the last third is cut into batches of K rows, in which x_i has the y_j of its
      batch for negatives, as in the paper. Batches are independent.
    - `BarberAgakov` needs no product: it predicts y from x.
    - "table", which "auto" takes where there are 10 rows for each value of x beside each value of y, needs none either:
      Σ p̂ log p̂/(p̂_x p̂_y) of all rows, less its bias.
    - Every other estimator of KL takes two independent samples: the joint rows of a third, and as many rows of the
      product, x of the second third with y of the last.

    Bound, Interval: those of the method. "table" is two-sided, and so is "auto", `DensityRatio` by held-out evidence,
    where the density ratio is known well enough; critics and "barber_agakov" give lower bounds with a one-sided limit.
    Where a combination of columns of y is one of columns of x the answer is a lower bound, and a note says why.
    Rate: that of the method, from n/3 rows of each sample; n^(−1/2) for "table".
    Shapes: x (n, a) or (n,), y (n, b) or (n,). Columns of text or booleans are labels, and become indicators; give
    codes of categories as text.
    Cost: that of the method at n/3 pairs; a critic is trained in seconds.
    Gradients: none; `Estimator.value` of joint and product rows has them.
    Range: [0, ∞), in nats, or in units of log ``base`` (2 for bits); an estimate may be negative.

    Args:
        x: one side of the pairs.
        y: the other, row by row.
        method: "auto"; a method of KL as in ``est.estimate(x, y, "kl", method=…)``, such as "knn" or "variational";
            "table"; "barber_agakov"; or an object, such as ``est.DonskerVaradhan()``. A fitted critic is evaluated on
            all rows.
        confidence: of the interval, in (0, 1).
        seed: of the order of the rows, and of all that the method draws.
        base: of the logarithm; None is e.

    Raises:
        ValueError: unequal numbers of rows, or too few; a method that is none of KL; a base of 1 or less.
        TypeError: a method that is neither a name nor an estimator.

    References: Belghazi et al. 2018; Poole et al. 2019; Barber and Agakov 2003; Hoeffding 1948 (the error of a mean
    over pairs); Miller 1955 (the bias of a table).

    Example:
        >>> import numpy as np
        >>> x, e = np.random.default_rng(0).normal(size=(2, 3000))
        >>> found = mutual_information(x, 0.6 * x + 0.8 * e)
        >>> found.divergence, found.interval[0] < 0.2231 < found.interval[1]  # −½ log(1 − 0.6²)
        ('mutual_information', True)
    """
    confidence, scale = fraction(confidence, "confidence"), unit(base, "kl")
    ways: dict[Any, Estimator | BarberAgakov | None] = {**methods("kl"), "barber_agakov": BarberAgakov(), "table": None}
    estimator = _chosen(method, ways)
    generator = seeded(seed)
    a, b = paired(x, y)
    order = torch.randperm(len(a), generator=generator)
    a, b = a[order], b[order]
    check_unit(joint(a, b), joint(a, b))
    table = contingency(a, b) if method in ("auto", "table") else None
    if table is not None:
        found = _dressed(information(table, confidence), "consistent", "contingency table", len(a), confidence)
    elif estimator is None:
        values = [len(torch.unique(rows, dim=0)) for rows in (a, b)]
        raise ValueError(
            f'method="table" needs {FILLED} rows a cell: got {len(a)} rows for {values[0]} × {values[1]} values'
        )
    elif isinstance(estimator, BarberAgakov):
        found = estimator.estimate(x, y, confidence=confidence, seed=seed)
    elif isinstance(estimator, CriticEstimator):
        found = _by_critic(estimator, a, b, confidence, generator)
    else:
        found = _by_samples(estimator, a, b, confidence, generator)
    notes = copies(a, b)
    if functional(a, b):
        interval = None if found.interval is None else (found.interval[0], math.inf)
        found, notes = dataclasses.replace(found, interval=interval, bound="lower"), (*notes, SINGULAR)
    return dataclasses.replace(
        found,
        value=found.value * scale,
        stderr=None if found.stderr is None else found.stderr * scale,
        interval=None if found.interval is None else (found.interval[0] * scale, found.interval[1] * scale),
        divergence="mutual_information",
        notes=(*found.notes, *notes),
        n=len(a),
        m=len(b),
        confidence=confidence,
        seed=None if seed is None else int(seed),
    )


def _chosen(method: Any, ways: dict[Any, Any]) -> Estimator | BarberAgakov | None:
    if isinstance(method, str):
        if method not in ways:
            raise ValueError(f"method must be one of {', '.join(ways)} or an estimator of kl: got {method!r}")
        return ways[method]
    if not isinstance(method, Estimator | BarberAgakov):
        raise TypeError(f"method must be a name or an estimator of kl: got {type(method).__name__}")
    if isinstance(method, Estimator) and method.divergence_name != "kl":
        raise ValueError(f"method must estimate kl: {method!r} estimates {method.divergence_name}")
    return method


def _by_samples(estimator: Estimator, x: Tensor, y: Tensor, confidence: float, generator: torch.Generator) -> Estimate:
    """By independent samples of the joint law and of the product."""
    least = 3 * max(estimator.minimum, 2)
    if len(x) < least:
        raise ValueError(f"x and y need at least {least} rows for {type(estimator).__name__}: got {len(x)}")
    s = thirds(x, y, generator)
    note = (
        f"{len(s.x)} joint rows, called x in the notes below; the product, called y, has the x of {len(s.y)} other "
        "rows, each with the y of one of the rows left"
    )
    found = estimator.estimate(
        s.x.numpy(), s.y.numpy(), confidence=confidence, seed=int(torch.randint(2**31, (), generator=generator))
    )
    return dataclasses.replace(found, notes=(note, *found.notes))


def _by_critic(
    estimator: CriticEstimator, x: Tensor, y: Tensor, confidence: float, generator: torch.Generator
) -> Estimate:
    """By a critic that is trained on two thirds of the rows and evaluated on all pairs of the others' shifts."""
    notes: tuple[str, ...]
    cut = 0 if estimator.fitted else round(2 / 3 * len(x))
    if len(x) - cut < FEWEST:
        least = FEWEST if estimator.fitted else 3 * FEWEST
        raise ValueError(f"x and y need at least {least} rows for {type(estimator).__name__}: got {len(x)}")
    if estimator.fitted:
        evaluated, notes = estimator, ("the critic was fitted before: the value holds for rows that fit has not seen",)
    else:
        seen = Samples(joint(x[:cut], y[:cut]), product(x[:cut], y[:cut], TRAINED).flatten(0, 1), None, None)
        with torch.enable_grad():
            evaluated, own = estimator.trained(seen, int(torch.randint(2**31, (), generator=generator)))
        notes = (f"critic trained on {cut} rows, each x with its own y and those of {TRAINED} others", *own)
    new_x, new_y = x[cut:], y[cut:]
    evaluated = evaluated.judged_on(len(new_x))
    limit = evaluated.bounded
    if isinstance(evaluated, InfoNCE):
        terms, K = evaluated.batches(new_x, new_y)
        test = Samples(joint(new_x, new_y), product(new_x, new_y, 1)[0], None, None)
        limit = partial(evaluated.limited, K=K, blocks=len(terms))
        notes += (f"evaluated on the other {len(new_x)}, in batches in which each x has every y",)
    else:
        terms, test, shifts = _effects(evaluated, new_x, new_y)
        notes += (f"evaluated on the other {len(new_x)}, each x with its own y and those of {shifts} others",)
    value, stderr = float(terms.mean()), float(terms.std()) / math.sqrt(len(terms))
    if math.isfinite(value) and math.isfinite(stderr):
        with torch.no_grad():
            shape = Shape.of(terms - terms.mean())
            found = limit(Inference(value, stderr, None, notes), confidence, test, shape)
    else:
        notes = (*notes, "no interval: the critic's value is not finite on new rows")
        found = Inference(value, None, None, notes)
    return _dressed(found, evaluated.bound, repr(estimator), len(x), confidence)


def _dressed(found: Inference, bound: Bound, estimator: str, n: int, confidence: float) -> Estimate:
    return Estimate(
        value=found.value,
        stderr=found.stderr,
        interval=found.interval,
        bound=found.bound or bound,
        divergence="mutual_information",
        estimator=estimator,
        n=n,
        m=n,
        notes=found.notes,
        confidence=confidence,
    )


def _effects(evaluated: CriticEstimator, x: Tensor, y: Tensor) -> tuple[Tensor, Samples, int]:
    """What each row does to the value, which is their mean, the samples it comes from, and the number of shifts."""
    n = len(x)
    shifts = min(EVALUATED, n - 1)
    test = Samples(joint(x, y), product(x, y, shifts).flatten(0, 1), None, None)
    a, b = (side.double() for side in fitting.evaluated(evaluated, test))
    of_x = b.reshape(shifts, n)
    of_y = torch.stack([met.roll(k) for k, met in enumerate(of_x, start=1)])  # y_i met the x of k rows before
    return a - of_x.mean(0) - of_y.mean(0) + b.mean(), test, shifts
