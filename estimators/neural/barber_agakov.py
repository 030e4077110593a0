"""Mutual information by predicting one side of the pairs from the other."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from divergences._spec import Specified
from estimators.door import fraction, seeded
from estimators.intervals import Shape, lower_limit
from estimators.neural.critics import Standardize, judging, mlp, readable
from estimators.neural.fitting import few_threads
from estimators.paired import columns
from estimators.repeats import DISTINCT
from estimators.results import Estimate
from estimators.space import Space

FOLDS = 5
FEWEST = 20  # rows: four a fold
HIDDEN = (128, 128)
STEPS, BATCH, RATE, CHECK_EVERY, PATIENCE = 2000, 256, 1e-3, 50, 5  # of training
RISE = 1e-3  # nats, from which a held-out value is taken to have risen
HEAVY = 0.3  # of the variance, as for critics


class BarberAgakov(Specified):
    """I(X; C) = H(C) − H(C | X) ≥ H(C) + E log q(c | x), q a decoder that predicts c from x.

    Every row is predicted by a decoder that was trained on the other four of five folds. C is categorical where its
    values are text or booleans, or each stands ten times on average; q is then a distribution over these values. Else q
    is Gaussian with a mean and a variance for each coordinate, functions of x. By a share of 1/n either is mixed with a
    law that does not hang on x, the frequencies or a Cauchy law, so that one surprise costs about log n and not all.

    H(C) is known where C was drawn from a law of your own, as the codes of InfoGAN are. For categorical C it may be
    left out: the entropy of the frequencies in the sample takes its place, which is at most −mean log p(c), so that the
    value is still a lower bound in expectation, and its error is that of the mean of log q(c | x)/p(c).

    It sees pairs, and so is no `Estimator` of a divergence of two samples: use it by `mutual_information` or by its own
    `estimate`.

    Args:
        decoder: None for a network of two layers of 128; a network of your own, (n, a) → (n, classes) logits, or
            (n, 2b) means and logarithms of variances of c in standard units; or, for categorical C, a scikit-learn
            classifier with `predict_proba`. A copy is trained.
        entropy: H(C) in nats, differential where C is continuous; needed for continuous C.

    Raises:
        ValueError: continuous C without its entropy; fewer than 20 rows; a column of C that never varies.
        TypeError: a decoder that is neither a network nor a classifier.

    References: Barber and Agakov 2003; Chen et al. 2016 (InfoGAN), eqs. (4) and (5).

    Example:
        >>> g = np.random.default_rng(0)
        >>> c = g.integers(0, 2, 1000)
        >>> found = BarberAgakov(entropy=np.log(2)).estimate(g.normal(4.0 * c), c)
        >>> found.bound, abs(found.value - 0.633) < 3 * found.stderr  # 0.633 by quadrature
        ('lower', True)
    """

    def __init__(self, decoder: Any = None, entropy: float | None = None) -> None:
        classifies = hasattr(decoder, "fit") and hasattr(decoder, "predict_proba")
        if not (decoder is None or isinstance(decoder, nn.Module) or classifies):
            raise TypeError(
                f"decoder must be a network, or a classifier with predict_proba: got {type(decoder).__name__}"
            )
        if entropy is not None and not math.isfinite(entropy):
            raise ValueError(f"entropy must be a finite number of nats: got {entropy}")
        self.decoder, self.entropy = decoder, None if entropy is None else float(entropy)

    def estimate(self, x: Any, c: Any, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
        """The bound on I(X; C) in nats from n paired rows, x (n, a) or (n,) and c (n, b) or (n,), by cross-fitting."""
        confidence, generator = fraction(confidence, "confidence"), seeded(seed)
        rows, code = columns(x, "x"), _Code.of(c)
        n = len(rows)
        if len(code.values) != n:
            raise ValueError(f"x and c must have one row a pair, as many of each: got {n} and {len(code.values)}")
        if n < FEWEST:
            raise ValueError(f"x and c need at least {FEWEST} rows: got {n}")
        if not code.classes and self.entropy is None:
            raise ValueError(
                "a continuous code needs its entropy in nats, BarberAgakov(entropy=…): without it the bound is known "
                "only up to H(C)"
            )
        if not code.classes and not isinstance(self.decoder, nn.Module | None):
            raise ValueError(f"a continuous code needs a network for its decoder: got {type(self.decoder).__name__}")
        fold = (torch.arange(n) % FOLDS)[torch.randperm(n, generator=generator)]
        terms = torch.empty(n, dtype=torch.float64)
        for k in tqdm(range(FOLDS), desc="BarberAgakov", delay=2, leave=False):
            new, own = fold == k, int(torch.randint(2**31, (), generator=generator))
            if code.classes:
                terms[new] = _log_class(self._class_logits(rows, code, new, own), code.values[new])
            else:
                terms[new] = self._log_density(rows, code.values, new, own)
        if self.entropy is None:
            share = code.values.bincount().double() / n
            terms -= share.log()[code.values]
            entropy = f"of the frequencies, {float(-torch.xlogy(share, share).sum()):.4g} nats"
        else:
            terms += self.entropy
            entropy = "given"
        what = f"{code.classes} classes" if code.classes else "continuous"
        notes: tuple[str, ...] = (f"the code is {what}, its entropy {entropy}; decoders cross-fitted in {FOLDS} folds",)
        value, stderr = float(terms.mean()), float(terms.std()) / math.sqrt(n)
        interval, shape = None, Shape.of(terms - terms.mean())
        if not math.isfinite(value):
            notes += ("no interval: the decoder gave a value that is not finite on new rows",)
        elif shape.heaviest > HEAVY:
            notes += (
                f"no interval: one row makes up {shape.heaviest:.0%} of the variance, so the limit is not normal",
            )
        else:
            # I(X; C) ≤ H(C) where C is categorical
            most = self.entropy if code.classes and self.entropy is not None else math.inf
            interval = lower_limit(value, stderr, confidence, shape.skewness), most
            notes += (f"a lower bound on I with a one-sided {100 * confidence:g}% limit",)
        return Estimate(
            value=value,
            stderr=stderr,
            interval=interval,
            bound="lower",
            divergence="mutual_information",
            estimator=repr(self),
            n=n,
            m=n,
            notes=notes,
            confidence=confidence,
            seed=None if seed is None else int(seed),
        )

    def _class_logits(self, x: Tensor, code: _Code, new: Tensor, seed: int) -> Tensor:
        """Log q of every class at the new rows, by a decoder that was trained on the others."""
        c = code.values[~new]
        if isinstance(self.decoder, nn.Module | None):
            network = _trained(self._network(x[~new], code.classes, seed), x[~new], c, _log_class, seed)
            logs = _decoded(network, x[new]).log_softmax(1)
        else:
            classifier = _fresh(self.decoder, seed).fit(x[~new].numpy(), c.numpy())
            logs = torch.full((int(new.sum()), code.classes), -math.inf, dtype=torch.float64)
            with np.errstate(divide="ignore"):
                found = np.log(np.asarray(classifier.predict_proba(x[new].numpy()), dtype=float))
            logs[:, torch.as_tensor(classifier.classes_)] = torch.from_numpy(found)
        counts = c.bincount(minlength=code.classes).double() + 0.5
        return _mixed(logs, (counts / counts.sum()).log(), len(c))

    def _log_density(self, x: Tensor, c: Tensor, new: Tensor, seed: int) -> Tensor:
        """Log q of the new rows, by a decoder that was trained on the others, in standard units of c."""
        center, scale = c[~new].mean(0), c[~new].std(0)
        c = (c - center) / scale
        network = _trained(self._network(x[~new], 2 * c.shape[1], seed), x[~new], c[~new], _log_normal, seed)
        wide = -(1 + c[new].square()).log().sum(1) - c.shape[1] * math.log(math.pi)
        return _mixed(_log_normal(_decoded(network, x[new]), c[new]), wide, int((~new).sum())) - scale.log().sum()

    def _network(self, x: Tensor, outputs: int, seed: int) -> nn.Module:
        if self.decoder is not None:
            return copy.deepcopy(self.decoder)
        space, generator = Space.of(x), torch.Generator().manual_seed(seed)
        return nn.Sequential(Standardize(space), mlp(space.dim, outputs, HIDDEN, slope=0.2, generator=generator))


class _Code(NamedTuple):
    """A class 0 … classes − 1 for each row, (n,); or a point, (n, b), and no classes."""

    values: Tensor
    classes: int

    @staticmethod
    def of(c: Any) -> _Code:
        rows = columns(c, "c")
        values, index = torch.unique(rows, dim=0, return_inverse=True)
        numeric = isinstance(c, Tensor) or np.asarray(c).dtype.kind in "fiu"
        if len(values) == 1 or bool((rows == rows[0]).all(0).any() and numeric):
            raise ValueError("c has a column that never varies: it tells nothing, leave it out")
        if numeric and DISTINCT * len(values) > len(rows):
            return _Code(rows, 0)
        return _Code(index, len(values))


def _fresh(classifier: Any, seed: int) -> Any:
    from sklearn.base import clone

    classifier = clone(classifier)
    free = [k for k, v in classifier.get_params().items() if k.endswith("random_state") and v is None]
    return classifier.set_params(**dict.fromkeys(free, seed))  # else numpy's global generator decides


def _mixed(logs: Tensor, others: Tensor, n: int) -> Tensor:
    """Log of (1 − 1/n) e^logs + (1/n) e^others: a surprise costs no more than log n above the second."""
    return torch.logaddexp(logs + math.log1p(-1 / n), others - math.log(n))


def _log_class(logits: Tensor, c: Tensor) -> Tensor:
    return logits.log_softmax(1).gather(1, c[:, None]).squeeze(1)


def _log_normal(outputs: Tensor, c: Tensor) -> Tensor:
    """Of independent coordinates with means and logarithms of variances in ``outputs``, (n, 2b)."""
    if outputs.shape != (len(c), 2 * c.shape[1]):
        raise ValueError(f"the decoder must give {(len(c), 2 * c.shape[1])} numbers, got shape {tuple(outputs.shape)}")
    mean, log_variance = outputs.chunk(2, 1)
    squares = (c - mean).square() * torch.exp(-log_variance)
    return -(squares + log_variance + math.log(2 * math.pi)).sum(1) / 2


def _decoded(network: nn.Module, x: Tensor) -> Tensor:
    with judging(network):
        return network(readable(network, x)).double()


@torch.enable_grad()
def _trained(
    network: nn.Module, x: Tensor, c: Tensor, log_q: Callable[[Tensor, Tensor], Tensor], seed: int
) -> nn.Module:
    """Maximise the mean of log q by Adam; keep the weights with the largest one on a held-out fifth."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=generator)
    held, seen = order[: len(x) // 5], order[len(x) // 5 :]
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    best, kept, stale = -math.inf, copy.deepcopy(network.state_dict()), 0
    network.train()
    with few_threads(network):
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 - 0.9 * step / STEPS)
            rows = seen[torch.randint(len(seen), (min(BATCH, len(seen)),), generator=generator)]
            loss = -log_q(network(readable(network, x[rows])).double(), c[rows]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (step + 1) % CHECK_EVERY == 0:
                value = float(log_q(_decoded(network, x[held]), c[held]).mean())
                stale = 0 if value > best + RISE else stale + 1
                if value > best:
                    best, kept = value, copy.deepcopy(network.state_dict())
                if stale >= PATIENCE or not math.isfinite(value):
                    break
    network.load_state_dict(kept)
    return network
