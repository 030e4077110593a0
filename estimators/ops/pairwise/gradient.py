"""`row_sums` with its gradient, for a path that can take sums and slopes of pairs but has no derivatives itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from estimators.ops.pairwise.forms import Term


class Sums(NamedTuple):
    """What a path gives, with y None where it is x; points, strides and leading axes of any kind that it admits."""

    sums: Callable[..., Tensor]  # (terms, x, y, w, exclude) -> Σ_j w_j k(x_i, y_j), (..., n), in float64
    slopes: Callable[..., Tensor]  # (terms, x, y, w, exclude) -> Σ_j w_j ∂k(x_i, y_j)/∂x_i, (..., n, d), a new tensor


def row_sums(
    by: Sums,
    terms: Sequence[Term],
    x: Tensor,
    y: Tensor,
    y_weights: Tensor | None,
    exclude_self: bool,
    twin: Callable[..., Tensor],
) -> Tensor:
    """Σ_j w_j Σ_t f_t(‖x_i − y_j‖²), (..., n), in float64; second derivatives are those of ``twin``, torch's."""
    given = (None if y is x else y, y_weights)
    kept = tuple((f, a, s.detach().clone() if isinstance(s, Tensor) else s, q) for f, a, s, q in terms)
    return _RowSums.apply(x, *given, by, kept, exclude_self, twin)


def is_plain(*tensors: Tensor) -> bool:
    """Whether their numbers can be read: no transform of torch.func, no batched gradients, no subclass."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    kinds = all(type(t) in (Tensor, torch.nn.Parameter) for t in tensors)
    return kinds and not any(torch._C._functorch.is_legacy_batchedtensor(t) for t in tensors)


class _RowSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor | None, w: Tensor | None, by: Sums, terms: Any, exclude: bool, twin: Any
    ) -> Tensor:
        ctx.save_for_backward(x, y, w)
        ctx.how = by, terms, exclude, twin
        return by.sums(terms, x, y, w, exclude)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, y, w), (by, terms, exclude, twin), (g,) = ctx.saved_tensors, ctx.how, grads
        if torch.is_grad_enabled() or not is_plain(g):
            return (*_again(twin, x, y, w, g), None, None, None, None)
        to_x, to_y, to_w = ctx.needs_input_grad[:3]
        found: list[Tensor | None] = [None, None, None]
        if to_x:
            of_rows = found[0] = _times(by.slopes(terms, x, y, w, exclude), g)
            if y is None:  # a row and a column
                of_rows += _times(by.slopes(terms, x, None, g, exclude), w)
        if to_y:
            found[1] = _times(by.slopes(terms, y, x, g, exclude), w)
        if to_w:
            found[2] = by.sums(terms, x if y is None else y, None if y is None else x, g, exclude)
        parts = [
            None if part is None else part.sum_to_size(p.shape).to(p.dtype)
            for part, p in zip(found, (x, y, w), strict=True)
        ]
        return (*parts, None, None, None, None)


def _times(slopes: Tensor, factor: Tensor | None) -> Tensor:
    """In place: slopes times a factor of each point."""
    return slopes if factor is None else slopes.mul_(factor.unsqueeze(-1).to(slopes.dtype))


def _again(twin: Any, x: Tensor, y: Tensor | None, w: Tensor | None, g: Tensor) -> list[Tensor | None]:
    """The gradient as a function that has one itself."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, of which none is a function of another, as y may be of x.
        views = [None if t is None else t.view_as(t) for t in (x, y, w)]
        sums = twin(views[0], views[0] if y is None else views[1], views[2]).double()
        wanted = [view for view in views if view is not None and view.requires_grad]
        found = iter(torch.autograd.grad(sums, wanted, g, create_graph=create_graph))
    return [next(found) if view is not None and view.requires_grad else None for view in views]
