"""The record of a training: one row every few steps, with each term's value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class History:
    """Rows ``{"step": …, term: value, …}`` in the order of the steps.

    Example:
        >>> history = History([{"step": 20, "divergence": 0.5}, {"step": 40, "divergence": 0.25}])
        >>> history["divergence"], history.last("divergence")
        ([0.5, 0.25], 0.25)
    """

    def __init__(self, rows: list[dict[str, float]] | None = None) -> None:
        self.rows = rows or []

    @property
    def columns(self) -> tuple[str, ...]:
        """The names that occur, in the order of their first occurrence."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row))

    def __getitem__(self, name: str) -> list[float]:
        if name not in self.columns:
            raise KeyError(f"no column {name!r}: there are {', '.join(self.columns)}")
        return [row.get(name, float("nan")) for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def last(self, name: str) -> float:
        """The last value of a column."""
        return self[name][-1]

    def to_frame(self) -> pd.DataFrame:
        """The rows as a data frame. Raises ImportError where pandas is missing."""
        try:
            import pandas as pd
        except ImportError:
            raise ImportError('to_frame needs pandas: pip install "divergence-toolkit[tables]"') from None
        return pd.DataFrame(self.rows)

    def plot(self, *names: str, ax: Any = None) -> Any:
        """Draw the columns (all terms by default) against the step; returns the Axes."""
        from estimators.report.figures import lines

        chosen = names or [name for name in self.columns if name != "step"]
        return lines({name: (self["step"], self[name]) for name in chosen}, "step", "value", ax=ax)

    def __repr__(self) -> str:
        if not self.rows:
            return "History of 0 steps"
        last = ", ".join(f"{name} {value:.4g}" for name, value in self.rows[-1].items() if name != "step")
        return f"History up to step {self.rows[-1]['step']:.0f}: {last}"
