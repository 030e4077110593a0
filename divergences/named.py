"""Every divergence by its name: the rows of the f-divergence table first, then the others."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from divergences._generator import ROWS, FDivergence
from divergences._spec import Written

ALIASES = {"chi2": "pearson_chi2"}
_OTHERS: dict[str, Named] = {}


@dataclass(frozen=True)
class Named(Written):
    """A divergence that is no f-divergence, with its parameters. Called on two laws it is their exact value.

    ``is_symmetric``: D(P‖Q) = D(Q‖P). ``is_metric``: with its default parameters it obeys the triangle inequality.
    ``upper_bound``: no pair exceeds it.

    Example:
        >>> import divergences as dv
        >>> order_two = dv.get("renyi", alpha=2)
        >>> order_two([1.0, 0.0], [0.5, 0.5]) == dv.renyi([1.0, 0.0], [0.5, 0.5], alpha=2)
        True
    """

    name: str
    function: Callable[..., Any]
    is_symmetric: bool
    is_metric: bool
    upper_bound: float
    arguments: dict[str, Any] = field(default_factory=dict)

    def __call__(self, p: Any, q: Any, **options: Any) -> Any:
        """Return the exact D(P‖Q) of two known laws; the function of that name documents it."""
        return self.function(p, q, **self.arguments, **options)

    @property
    def written(self) -> dict[str, Any]:
        """The arguments of `get`."""
        return {"name": self.name, **self.arguments}

    @property
    def public_name(self) -> str:
        """`get` rebuilds it."""
        return "divergences.get"

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"


def other(
    is_symmetric: bool, is_metric: bool, upper_bound: float = float("inf")
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a public function of two laws its place among the names."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        _OTHERS[name] = Named(name, function, is_symmetric, is_metric, upper_bound)
        return function

    return register


def get(name: str, **parameters: Any) -> Any:
    """Return the divergence of that name: ``get("alpha", alpha=0.5)`` is ``Alpha(0.5)``.

    The names of the f-divergences give an `FDivergence`, the others a `Named`.

    Raises:
        ValueError: no divergence has that name; the closest names come first.
        TypeError: a required parameter is missing, or one is unknown.
    """
    key = ALIASES.get(name, name)
    if key in ROWS:
        return ROWS[key](**parameters)
    if key in _OTHERS:
        return _with(_OTHERS[key], parameters)
    closest = difflib.get_close_matches(str(name).casefold(), names(), n=len(names()), cutoff=0)
    raise ValueError(f"unknown divergence {name!r}: choose from {', '.join(closest)}")


def f_divergence_named(divergence: Any) -> FDivergence:
    """Return the f-divergence of that name, or the object itself; a TypeError for what is none."""
    found = get(divergence) if isinstance(divergence, str) else divergence
    if not isinstance(found, FDivergence):
        raise TypeError(f"divergence must be an f-divergence, by name or as an object: got {divergence!r}")
    return found


def names() -> tuple[str, ...]:
    """Return the names that `get` knows: the f-divergences in the order of their table, then the others."""
    return (*ROWS, *_OTHERS)


def required(name: str) -> dict[str, bool]:
    """Return the parameters that `get` takes for a name, and whether it cannot do without.

    Raises:
        ValueError: no divergence has that name.

    Example:
        >>> required("alpha"), required("kl")
        ({'alpha': True}, {})
    """
    key = ALIASES.get(name, name)
    if key in ROWS:
        known = list(inspect.signature(ROWS[key]).parameters.values())
    elif key in _OTHERS:
        known = list(inspect.signature(_OTHERS[key].function).parameters.values())[2:]
    else:
        get(name)  # raises with the nearest names
        known = []
    return {p.name: p.default is p.empty for p in known if p.name not in ("cost", "method", "base")}


def _with(divergence: Named, parameters: dict[str, Any]) -> Named:
    options = required(divergence.name)
    unknown = set(parameters) - set(options)
    if unknown:
        raise TypeError(f"{divergence.name} has no parameter {sorted(unknown)[0]!r}: choose from {sorted(options)}")
    for parameter, needed in options.items():
        if needed and parameter not in parameters:
            raise TypeError(f"{divergence.name}: missing a required argument: {parameter!r}")
    return Named(**{**vars(divergence), "arguments": parameters})
