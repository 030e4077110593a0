"""One law tried on many examples by Hypothesis: reproducible, silent, nothing stored, also within another @given."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, currently_in_test_context, given, seed, settings
from hypothesis.errors import Flaky

from divergences.testing.law import TOLERANT, Claim, Example, Law, LawViolation, Scope
from divergences.testing.subject import Broken, Subject, literal

_ours: contextvars.ContextVar[bool] = contextvars.ContextVar("divergences_testing", default=False)


class Tried(Exception):
    """An example on which the law fails: what it is and why."""

    def __init__(
        self, example: Example, claim: Claim | None, broken: Broken | None, tolerance: tuple[float, float]
    ) -> None:
        super().__init__()
        self.example, self.claim, self.broken, self.tolerance = example, claim, broken, tolerance


def falsify(
    law: Law,
    function: Any,
    scope: Scope,
    companions: dict[str, Any],
    examples: int,
    number: int,
    tolerance: tuple[float, float],
) -> LawViolation | None:
    """Return how the law fails on a smallest example, or None where it holds on all ``examples``."""
    if currently_in_test_context():  # Hypothesis does not nest, and knows its tests by their thread
        return _in_a_thread(lambda: _falsify(law, function, scope, companions, examples, number, tolerance))
    return _falsify(law, function, scope, companions, examples, number, tolerance)


def _falsify(
    law: Law,
    function: Any,
    scope: Scope,
    companions: dict[str, Any],
    examples: int,
    number: int,
    tolerance: tuple[float, float],
) -> LawViolation | None:
    _ignore_constants()
    last: list[Tried] = []

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(law.examples(scope))
    def attempt(example: Example) -> None:
        tried = failure(law, function, example, companions, tolerance)
        if tried:
            last[:] = [tried]
            raise tried

    token = _ours.set(True)
    try:
        attempt()
    except Tried:
        return violation(law, last[0])
    except Flaky:
        if not last:
            raise
        return violation(law, last[0], "the same example passed when tried again: the function is random")
    finally:
        _ours.reset(token)
    return None


def failure(
    law: Law, function: Any, example: Example, companions: dict[str, Any], tolerance: tuple[float, float]
) -> Tried | None:
    """Return what is wrong with one example, or None."""
    subject = Subject(function, example=example)
    try:
        for claim in law.check(subject, **example, **companions):
            sharp = max(tolerance[0], 16 * subject.eps), tolerance[1]
            if not claim.holds(*sharp):
                return Tried(example, claim, None, sharp)
    except Broken as broken:
        return Tried(example, None, broken, tolerance)
    return None


def violation(law: Law, tried: Tried, note: str = "") -> LawViolation:
    """Return the error that tells how the law failed."""
    lines = [f"{name} = {literal(value)}" for name, value in tried.example.items()]
    claim = tried.claim
    if claim is None:
        lines.append(str(tried.broken))
        left = right = None
    else:
        left, right = claim.left, claim.right
        lines.append(f"left:  {_side(claim.left_label, left)}")
        if claim.relation == "is":
            lines.append(f"right: {claim.right_label}")
        else:
            room = f", tolerance {claim.tolerance(*tried.tolerance):.1e}" if claim.relation in TOLERANT else ""
            lines.append(f"right: {_side(claim.right_label, right)}; left {claim.relation} right is needed{room}")
    error = LawViolation(law, tried.example, [*lines, *([note] if note else [])], left, right)
    error.__cause__ = tried.broken.__cause__ if tried.broken else None
    return error


def _side(label: str, value: Any) -> str:
    shown = f"{value:.9g}" if isinstance(value, float) else repr(value)
    return label if label in (shown, f"math.{shown}") else f"{label} = {shown}"


def _in_a_thread(call: Callable[[], Any]) -> Any:
    outcome: list[Any] = []
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome.append((context.run(call), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    found, error = outcome[0]
    if error:
        raise error
    return found


def _ignore_constants() -> None:
    """Keep Hypothesis from trying the constants that it finds in whatever modules are imported, and stores in a folder.

    With them the examples would depend on who else is imported. Tests other than ours go on as before.
    """
    try:
        from hypothesis.internal.conjecture.providers import HypothesisProvider
    except ImportError:  # versions before it had constants
        return
    original = getattr(HypothesisProvider, "_maybe_draw_constant", None)
    if original is None or getattr(original, "_is_ours", False):
        return

    def draw(self: Any, *args: Any, **kwargs: Any) -> Any:
        return None if _ours.get() else original(self, *args, **kwargs)

    draw._is_ours = True  # type: ignore[attr-defined]
    HypothesisProvider._maybe_draw_constant = draw  # type: ignore[method-assign]
