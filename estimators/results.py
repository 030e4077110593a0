"""What an answer carries: `Estimate` (a value, its uncertainty and what it may be trusted for) and `TestResult`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from divergences.results import Bound, Estimate, _plain

__all__ = ["Bound", "Estimate", "Evidence", "TestResult"]


@dataclass(frozen=True)
class Evidence:
    """What one statistic of a test found alone: its p-value, **not adjusted** for the other statistics, and where."""

    statistic: str
    p_value: float
    description: str = ""


@dataclass(frozen=True)
class TestResult:
    """A permutation test of P = Q.

    ``interval`` is on the p-value itself: what other permutations could have given. ``evidence`` says what carried the
    result, the smallest p-value first; each is that of one statistic alone, while ``p_value`` allows for their number.

    Example:
        >>> TestResult(0.02, 0.003, "mmd", 999, (0.0006, 0.009), 100, 100).reject(0.05)
        True
    """

    __test__ = False  # the name starts with Test, and pytest would collect it

    statistic: float
    p_value: float
    name: str
    permutations: int
    interval: tuple[float, float]
    n: int
    m: int
    notes: tuple[str, ...] = ()
    seed: int | None = None
    null: tuple[float, ...] = ()
    evidence: tuple[Evidence, ...] = ()

    def reject(self, alpha: float = 0.05) -> bool:
        """Whether P = Q is rejected at level ``alpha``, in (0, 1)."""
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must lie in (0, 1): got {alpha}")
        return self.p_value <= alpha

    def to_dict(self) -> dict[str, Any]:
        """Every field but the null values, as plain JSON types."""
        return {name: _plain(value) for name, value in asdict(self).items() if name != "null"}

    def __repr__(self) -> str:
        low, high = self.interval
        notes = "".join(f"\n  note: {note}" for note in self.notes)
        if self.reject(0.05):
            for found in self.evidence[:2][::-1]:
                about = f": {found.description}" if found.description else ""
                notes = f"\n  found by {found.statistic}, alone p = {found.p_value:.3g}{about}" + notes
        return (
            f"{self.name} = {self.statistic:.6g}, p = {self.p_value:.4g} [{low:.3g}, {high:.3g}] "
            f"({self.permutations} permutations, n={self.n}, m={self.m}){notes}"
        )
