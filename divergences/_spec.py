"""Objects that can be written down: a public name and the constructor's arguments rebuild an equal object.

Divergences, kernels, constraints and estimators follow one convention: every constructor argument is kept on the
object under its own name. From it come the repr, the specification stored in checkpoints, and the way back.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import numpy as np
from torch import nn

_PACKAGES = ("divergences", "estimators", "gan_zoo")  # a specification may name nothing outside these


class Written:
    """An object that a public name and the arguments ``written`` rebuild."""

    @property
    def written(self) -> dict[str, Any]:
        """What the public name is called with."""
        raise NotImplementedError

    @property
    def public_name(self) -> str:
        """Where it is found, such as ``divergences.get``."""
        raise NotImplementedError


class Specified(Written):
    """An object whose constructor's arguments are its attributes of the same names."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments by name, as they are on the object."""
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        parameters = list(inspect.signature(type(self).__init__).parameters.values())[1:]
        return {p.name: getattr(self, p.name) for p in parameters if p.kind in named}  # no constructor has *args

    @property
    def written(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return self.arguments

    @property
    def public_name(self) -> str:
        """Where the object's constructor is found, such as ``estimators.MMD``."""
        module, _, submodule = type(self).__module__.partition(".")
        return (
            f"{module}.kernels.{type(self).__name__}" if submodule == "kernels" else f"{module}.{type(self).__name__}"
        )

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={_shown(value)}" for name, value in self.arguments.items())
        return f"{type(self).__name__}({given})"


def _shown(value: Any) -> str:
    """``value`` as code; of a network of many lines its kind alone."""
    network = isinstance(value, nn.Module) and not isinstance(value, Specified)
    return f"{type(value).__name__}(…)" if network else repr(value)


def to_spec(value: Any) -> Any:
    """Return what rebuilds ``value``, as plain JSON types. Raises TypeError for anything that has no public name."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [to_spec(item) for item in value]
    if isinstance(value, Written) and _is_public(value):
        arguments = {name: to_spec(argument) for name, argument in value.written.items()}
        return {"object": value.public_name, "arguments": arguments}
    raise TypeError(f"{type(value).__name__} cannot be stored by name and arguments")


def _is_public(value: Written) -> bool:
    """Whether the public name leads back to this class; it does not for a class of the user's own."""
    module, _, name = value.public_name.rpartition(".")
    if module.split(".")[0] not in _PACKAGES:
        return False
    found = getattr(importlib.import_module(module), name, None)
    return found is type(value) or inspect.isfunction(found)  # a row of a table is a function


def from_spec(spec: Any) -> Any:
    """Return the object that `to_spec` wrote. Only public names of this library are looked up."""
    if isinstance(spec, list):
        return tuple(from_spec(item) for item in spec)
    if not isinstance(spec, dict):
        return spec
    module, _, name = spec["object"].rpartition(".")
    if module.split(".")[0] not in _PACKAGES or name.startswith("_"):
        raise ValueError(f"a specification names {spec['object']!r}, which is not a public name of this library")
    return getattr(importlib.import_module(module), name)(
        **{argument: from_spec(value) for argument, value in spec["arguments"].items()}
    )
