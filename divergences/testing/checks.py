"""`check_divergence`, `check_metric` and `check_estimator`: which laws are asked, of what arguments, and the answer."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

from divergences.testing.engine import falsify
from divergences.testing.law import Law, Laws, LawViolation, Scope, laws
from divergences.testing.simplex import Range
from divergences.testing.strategies import allowed, counted

ARGUMENTS = ("vectors", "point_clouds", "gaussians", "kernels")
MEANINGS = {
    "upper_bound": "the largest value that the function can take",
    "reverse": "the function R with D(P, Q) = R(Q, P)",
    "degree": "the power of the scale",
    "truth": "the exact divergence of two torch laws",
    "rate": "the power of n with which the error falls",
}


def check_divergence(
    fn: Any,
    laws: str | Iterable[str] = "all",
    examples: int = 200,
    *,
    on: str | None = None,
    n: Range = (2, 6),
    d: Range = (1, 3),
    zeros: bool = True,
    least: float = 1e-9,
    rtol: float = 1e-9,
    atol: float = 1e-12,
    seed: int = 0,
    upper_bound: float | None = None,
    reverse: Callable[..., Any] | None = None,
    degree: float | None = None,
) -> None:
    """Check that a function D(P, Q) obeys the laws of a divergence, on examples that Hypothesis finds and shrinks.

    "all" is identity, non_negativity, data_processing, joint_convexity and permutation_invariance; `laws` has the table
    of all others, which are asked for by name. The function gets 1-D float64 arrays of probabilities (exact zeros or
    entries ≥ ``least``) and returns a float, a 0-d array or a 0-d tensor; inf is a value, NaN is not. All laws run, and
    the first that fails is raised, with the names of the others.

    = and ≤ hold within atol + rtol·size, which is what double precision leaves of a sum over a few outcomes; inf ≤ inf
    holds. D > 0 is strict. A rooted value needs a larger ``atol``: see `check_metric`; a float32 result has 16 of its
    own ε for rtol.

    Args:
        fn: D, called as ``fn(p, q)`` unless the law says otherwise, or the name of a row of the table.
        laws: "all" or names. A companion such as ``upper_bound`` adds its law to "all".
        examples: how many for each law.
        on: "vectors", "point_clouds", "gaussians" or "kernels"; None is the first that all the laws know.
        n: the number of outcomes or points, an integer or (low, high).
        d: the dimension of points and Gaussians, the same.
        zeros: whether entries may be exactly 0.
        least: the smallest positive entry.
        rtol: relative tolerance.
        atol: absolute tolerance.
        seed: another one tries other examples; the same one always tries the same.
        upper_bound: what `bounded` compares with.
        reverse: what `reversal` compares with.
        degree: of `scaling`, 1 by default.

    Raises:
        LawViolation: a law fails; the message starts with its name and has the counter-example and both sides.
        TypeError: the function cannot be called as a law needs, or a companion is missing or asked of no law.
        ValueError: an unknown law, or sizes out of range.

    Example:
        >>> import numpy as np
        >>> from divergences import testing
        >>> def squared_distance(p, q):
        ...     return np.sum((p - q) ** 2)
        >>> testing.check_divergence(squared_distance, ["identity", "joint_convexity"])
        >>> testing.check_divergence(squared_distance, ["data_processing"])
        Traceback (most recent call last):
        divergences.testing.law.LawViolation: data_processing: D(PK, QK) ≤ D(P, Q) for every Markov kernel K
        ...
    """
    __tracebackhide__ = True
    companions = {"upper_bound": upper_bound, "reverse": reverse, "degree": degree}
    scope = Scope("", counted("n", n), counted("d", d), allowed(n, zeros, least))
    _run(
        _named(fn),
        "divergence",
        laws,
        ARGUMENTS if on is None else (on,),
        scope,
        companions,
        examples,
        seed,
        rtol,
        atol,
    )


def check_metric(
    fn: Any,
    laws: str | Iterable[str] = "all",
    examples: int = 200,
    *,
    on: str | None = None,
    n: Range = (2, 6),
    d: Range = (1, 3),
    zeros: bool = True,
    least: float = 1e-9,
    rtol: float = 1e-9,
    atol: float = 1e-7,
    seed: int = 0,
    upper_bound: float | None = None,
    degree: float | None = None,
) -> None:
    """Check that a function is a metric: "all" is identity, non_negativity, symmetry and triangle_inequality.

    Arguments and errors are those of `check_divergence`, and further laws may be asked for by name. A metric may be the
    root of a sum that cancels, and the root of rounding, √1e-16, is 1e-8: so ``atol`` is 1e-7, and near pairs of
    vectors are not nearer than total variation 1e-6.

    Example:
        >>> import numpy as np
        >>> from divergences import testing
        >>> testing.check_metric(lambda p, q: np.abs(p - q).sum() / 2)
        >>> testing.check_metric(lambda x, y: np.linalg.norm(x.mean(0) - y.mean(0)), ["symmetry"], on="point_clouds")
    """
    __tracebackhide__ = True
    companions = {"upper_bound": upper_bound, "degree": degree}
    scope = Scope("", counted("n", n), counted("d", d), allowed(n, zeros, least, 1e-6))
    _run(_named(fn), "metric", laws, ARGUMENTS if on is None else (on,), scope, companions, examples, seed, rtol, atol)


def check_estimator(
    estimator: Any,
    laws: str | Iterable[str] = "all",
    examples: int = 25,
    *,
    n: Range = (8, 24),
    d: Range = (1, 3),
    kind: str = "torch",
    rtol: float = 1e-9,
    atol: float = 1e-9,
    seed: int = 0,
    truth: Callable[..., Any] | None = None,
    rate: float | None = None,
    degree: float | None = None,
) -> None:
    """Check an estimator from samples, ``estimator(x, y)`` with x (..., n, d) and y (..., m, d), and its `estimate`.

    "all" is order_of_points, batch_is_loop, same_kind, no_side_effects and float32. Others are asked for by name:
    symmetry, zero_at_equality, translation_invariance, scaling, half_precision, equal_weights, weights_are_repetition,
    gradients, complete_estimate, bound_holds, error_shrinks. Nothing is known of the estimator but how it is called.
    Errors are those of `check_divergence`.

    Args:
        estimator: what is checked; laws about `estimate` need ``estimate(x, y, seed=)``.
        laws: "all" or names.
        examples: how many for each law.
        n: the number of points of each sample, an integer or (low, high).
        d: the dimension, the same.
        kind: what it is called with, "torch" (float64 tensors) or "numpy".
        rtol: relative tolerance; larger for what is solved iteratively.
        atol: absolute tolerance.
        seed: another one tries other examples.
        truth: a function of two torch laws that gives the exact divergence, for bound_holds and error_shrinks.
        rate: the power of n with which the error falls, for error_shrinks (40 calls an example, half with n = 1000).
        degree: the power of the unit of length in the value, for scaling; 0 by default.

    Example:
        >>> from divergences import testing
        >>> def mean_gap(x, y):
        ...     gap = ((x.mean(-2) - y.mean(-2)) ** 2).sum(-1)
        ...     return float(gap) if gap.ndim == 0 and not hasattr(gap, "detach") else gap
        >>> testing.check_estimator(mean_gap)
    """
    __tracebackhide__ = True
    if kind not in ("torch", "numpy"):
        raise ValueError(f'kind must be "torch" or "numpy": got {kind!r}')
    scope = Scope("samples", counted("n", n), counted("d", d), kind=kind)
    companions = {"truth": truth, "rate": rate, "degree": degree}
    _run(estimator, "estimator", laws, ("samples",), scope, companions, examples, seed, rtol, atol)


def _run(
    fn: Any,
    group: str,
    names: str | Iterable[str],
    kinds: tuple[str, ...],
    scope: Scope,
    companions: dict[str, Any],
    examples: int,
    seed: int,
    rtol: float,
    atol: float,
) -> None:
    __tracebackhide__ = True
    _checked(fn, kinds, examples, rtol, atol)
    given = {name: value for name, value in companions.items() if value is not None}
    on, chosen = choose(group, names, kinds, given)
    for law in chosen:
        fits(law, fn, given)
    violations, passed = [], []
    for law in chosen:
        its_own = {name: given[name] for name in law.companions if name in given}
        found = falsify(law, fn, scope._replace(on=on), its_own, examples, seed, (rtol, atol))
        if found is None:
            passed.append(law.name)
        else:
            violations.append(found)
    if violations:
        error: LawViolation = violations[0]
        error.failed, error.passed = tuple(violations), tuple(passed)
        raise error


def _named(fn: Any) -> Any:
    if not isinstance(fn, str):
        return fn
    from divergences import get

    return get(fn)


def _checked(fn: Any, kinds: tuple[str, ...], examples: Any, rtol: Any, atol: Any) -> None:
    if not callable(fn):
        raise TypeError(f"a function is needed: got {type(fn).__name__}")
    if kinds != ("samples",) and not set(kinds) <= set(ARGUMENTS):
        raise ValueError(f"on must be one of {', '.join(ARGUMENTS)}: got {kinds[0]!r}")
    if isinstance(examples, bool) or not isinstance(examples, int) or examples < 1:
        raise ValueError(f"examples must be a positive integer: got {examples!r}")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be non-negative and finite: got {value!r}")


def choose(group: str, names: str | Iterable[str], kinds: tuple[str, ...], given: dict[str, Any]) -> tuple[str, Laws]:
    """Return the kind of argument and the laws that were asked for. Raises ValueError or TypeError."""
    if names == "all":
        on = kinds[0]
        on_it = [law for law in laws() if on in law.on]
        everything = Laws(law for law in on_it if group in law.groups or set(given) & set(law.companions))
        return on, _with_companions(everything, given)
    wanted = tuple(
        str(name).replace("-", "_").replace(" ", "_") for name in ([names] if isinstance(names, str) else names)
    )
    if not wanted:
        raise ValueError("laws must be 'all' or at least one name: got none")
    known = Laws(law for law in laws() if set(kinds) & set(law.on))
    for name in wanted:
        if name not in known.names:
            close = difflib.get_close_matches(name, known.names, n=len(known), cutoff=0)
            raise ValueError(f"unknown law {name!r}: choose from {', '.join(dict.fromkeys(close))}")
    for on in kinds:
        found = Laws(law for name in wanted for law in known if law.name == name and on in law.on)
        if len(found) == len(wanted):
            return on, _with_companions(found, given)
    about = "; ".join(f"{law.name} is about {' or '.join(law.on)}" for law in known if law.name in wanted)
    raise ValueError(f"these laws are about different arguments, check them in separate calls: {about}")


def _with_companions(found: Laws, given: dict[str, Any]) -> Laws:
    unused = set(given) - {name for law in found for name in law.companions}
    if unused:
        raise TypeError(f"{min(unused)}= is of no use to {', '.join(found.names)}")
    return found


def fits(law: Law, fn: Any, given: dict[str, Any]) -> None:
    """Raise TypeError where the function or the companions are not what the law needs."""
    for name, needed in law.companions.items():
        if needed and name not in given:
            raise TypeError(f"{law.name} needs {name}=, {MEANINGS.get(name, 'its companion')}")
    lacks = [method for method in law.methods if not callable(getattr(fn, method, None))]
    if lacks:
        raise TypeError(f"{law.name} needs an object with a method {lacks[0]}: got {type(fn).__name__}")
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # some builtins have none
        return
    try:
        signature.bind(*law.call.split(", "))
    except TypeError as error:
        name = getattr(fn, "__name__", type(fn).__name__)
        raise TypeError(f"{law.name} calls fn({law.call}), and {name} cannot be called so: {error}") from None
