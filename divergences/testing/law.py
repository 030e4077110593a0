"""What a law is: a statement, the examples it is tried on, and a check; the table of all laws; a law that fails."""

from __future__ import annotations

import difflib
import inspect
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypothesis.strategies import SearchStrategy

from divergences.testing.simplex import Entries, Range

Example = dict[str, Any]
RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "≤": operator.le,
    "≥": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "is": operator.eq,
}
TOLERANT = "=≤≥"


class Claim(NamedTuple):
    """``left relation right``, the relation one of =, ≤, ≥, <, > and "is"; labels are Python, to be tried by hand.

    =, ≤ and ≥ hold within ``atol + rtol·size``, the size that of the larger side or ``scale``; the others hold exactly.
    An infinite side is compared as it is and never subtracted.
    """

    left_label: str
    left: Any
    relation: str
    right_label: str
    right: Any
    scale: float = 0.0

    def tolerance(self, rtol: float, atol: float) -> float:
        """Return what rounding may take away from the claim."""
        if self.relation not in TOLERANT:
            return 0.0
        sizes = [abs(side) for side in (self.left, self.right, self.scale) if math.isfinite(side)]
        return atol + rtol * max(sizes)

    def holds(self, rtol: float, atol: float) -> bool:
        """Whether the claim is true up to rounding."""
        if RELATIONS[self.relation](self.left, self.right):
            return True
        if self.relation not in TOLERANT or math.isinf(self.left) or math.isinf(self.right):
            return False
        return bool(abs(self.left - self.right) <= self.tolerance(rtol, atol))


def equal(left_label: str, left: Any, right_label: str, right: Any, scale: float = 0.0) -> Claim:
    """Claim left = right."""
    return Claim(left_label, left, "=", right_label, right, scale)


def at_most(left_label: str, left: Any, right_label: str, right: Any, scale: float = 0.0) -> Claim:
    """Claim left ≤ right."""
    return Claim(left_label, left, "≤", right_label, right, scale)


def at_least(left_label: str, left: Any, right_label: str, right: Any, scale: float = 0.0) -> Claim:
    """Claim left ≥ right."""
    return Claim(left_label, left, "≥", right_label, right, scale)


def positive(label: str, value: Any) -> Claim:
    """Claim value > 0, strictly."""
    return Claim(label, value, ">", "0", 0.0)


def same(label: str, found: Any, wanted: Any) -> Claim:
    """Claim that ``found`` is ``wanted``, exactly."""
    return Claim(label, found, "is", repr(wanted), wanted)


class Scope(NamedTuple):
    """What examples are made of: the kind of argument and its sizes."""

    on: str
    n: Range = (2, 6)
    d: Range = (1, 3)
    entries: Entries = Entries()
    kind: str = "torch"


Check = Callable[..., Iterator[Claim]]
Examples = Callable[[Scope], SearchStrategy[Example]]


@dataclass(frozen=True)
class Law:
    """A statement that can be checked on examples.

    ``statement`` is the formula in one line, ``applies`` says to whom. ``on`` are the kinds of argument it knows:
    "vectors", "point_clouds", "gaussians", "kernels" or "samples". ``groups`` are the checks whose "all" includes it.
    ``call`` is how the function under test is called, ``methods`` are those that it must have.
    ``examples(scope)`` is the strategy, of dicts; ``check(D, **example)`` yields the claims.
    """

    name: str
    statement: str
    applies: str
    on: tuple[str, ...]
    call: str
    groups: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    examples: Examples = field(repr=False, kw_only=True)
    check: Check = field(repr=False, kw_only=True)

    @property
    def companions(self) -> dict[str, bool]:
        """Arguments that the law takes beside the function, by name, and whether it cannot do without."""
        parameters = inspect.signature(self.check).parameters.values()
        return {p.name: p.default is p.empty for p in parameters if p.kind is p.KEYWORD_ONLY}


class Laws(tuple[Law, ...]):
    """Laws in the order of the table; ``laws["symmetry"]`` is the one of that name. Printed, a table."""

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        for law in self:
            if law.name == key:
                return law
        close = difflib.get_close_matches(key, self.names, n=len(self), cutoff=0)
        raise KeyError(f"unknown law {key!r}: choose from {', '.join(close)}")

    def __contains__(self, key: object) -> bool:
        return key in self.names if isinstance(key, str) else super().__contains__(key)

    @property
    def names(self) -> tuple[str, ...]:
        """The laws' names."""
        return tuple(law.name for law in self)

    def __repr__(self) -> str:
        rows = [("law", "on", "statement")]
        for law in self:
            star = "*" if law.groups else ""
            needs = "".join(f"; {name}=" for name, needed in law.companions.items() if needed)
            rows.append((law.name + star, ", ".join(law.on) + needs, law.statement))
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows]
        return "\n".join([*lines, "* one of all: checked unless others are asked for"])


TABLE: list[Law] = []


def law(
    statement: str,
    applies: str,
    *,
    on: str | tuple[str, ...],
    examples: Examples,
    call: str = "p, q",
    groups: str | tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
) -> Callable[[Check], Check]:
    """Register a check as the law of its name. Keyword-only arguments of the check are companions of the function."""

    def register(check: Check) -> Check:
        name = getattr(check, "__name__", "law")
        kinds, checks = _several(on), _several(groups)
        TABLE.append(Law(name, statement, applies, kinds, call, checks, methods, examples=examples, check=check))
        return check

    return register


def _several(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def laws() -> Laws:
    """Return every law, in order; printed, a table.

    Example:
        >>> from divergences import testing
        >>> testing.laws()["symmetry"].statement
        'D(P, Q) = D(Q, P)'
    """
    return Laws(TABLE)


class LawViolation(AssertionError):
    """A function broke a law. The message starts with the law's name and has what is needed to try it by hand.

    ``law`` is the name, ``example`` the shrunk counter-example by name, ``left`` and ``right`` the two sides (None
    where the function gave no number), ``failed`` the violations of all laws that failed, this one first.
    """

    def __init__(self, law: Law, example: Mapping[str, Any], lines: Iterable[str], left: Any, right: Any) -> None:
        self.law, self.example, self.left, self.right = law.name, dict(example), left, right
        self.failed: tuple[LawViolation, ...] = (self,)
        self.passed: tuple[str, ...] = ()
        self._text = "\n  ".join([f"{law.name}: {law.statement}", *lines])
        super().__init__(self._text)

    def __reduce__(self) -> tuple[Any, ...]:
        return _empty, self.args, self.__dict__

    def __str__(self) -> str:
        others = ", ".join(violation.law for violation in self.failed[1:])
        text = self._text + (f"\n  also failed: {others}" if others else "")
        return text + (f"\n  passed: {', '.join(self.passed)}" if self.passed else "")


def _empty(*args: Any) -> LawViolation:
    """Return a violation that a pickle then fills: it contains itself."""
    return LawViolation.__new__(LawViolation, *args)
