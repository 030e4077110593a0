"""What an answer carries: `Estimate`, a value with its uncertainty and what it may be trusted for."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

Bound = Literal["lower", "upper", "unbiased", "consistent", "exact"]


@dataclass(frozen=True)
class Estimate:
    """An estimate of D(P‖Q) from n points of P (data) and m points of Q (model).

    ``interval`` is ``(low, high)`` at the stated ``confidence``, or None where it is refused; the reason then stands in
    ``notes``. ``bound`` says what the value is: "lower" or "upper" (in expectation, a bound on D), "unbiased",
    "consistent", or "exact". ``float(estimate)`` is the value.

    Example:
        >>> Estimate(0.5, 0.1, (0.3, 0.7), "consistent", "kl", "NearestNeighbor(k=5)", 100, 100)
        kl(P‖Q) = 0.5 ± 0.1, 95% interval [0.3, 0.7] (consistent, NearestNeighbor(k=5), n=100, m=100)
    """

    value: float
    stderr: float | None
    interval: tuple[float, float] | None
    bound: Bound
    divergence: str
    estimator: str
    n: int
    m: int
    notes: tuple[str, ...] = ()
    confidence: float = 0.95
    seed: int | None = None

    def __float__(self) -> float:
        return float(self.value)

    def __format__(self, spec: str) -> str:
        return format(float(self.value), spec) if spec else repr(self)

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain JSON types; a non-finite number becomes its name ("inf", "nan")."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    def __repr__(self) -> str:
        spread = "" if self.stderr is None else f" ± {self.stderr:.3g}"
        if self.interval is None:
            interval = "no interval"
        else:
            low, high = self.interval
            interval = f"{100 * self.confidence:g}% interval [{low:.4g}, {high:.4g}]"
        notes = "".join(f"\n  note: {note}" for note in self.notes)
        about = f"({self.bound}, {self.estimator}, n={self.n}, m={self.m})"
        return f"{self.divergence}(P‖Q) = {self.value:.6g}{spread}, {interval} {about}{notes}"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)  # JSON has no infinity
    return value
