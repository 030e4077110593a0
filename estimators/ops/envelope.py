"""Derivatives of optimal transport without differentiating a solver: the envelope theorem."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Envelope(torch.autograd.Function):
    """The optimal value of a transport problem, whose derivatives are the plan (in C) and the potentials (in a, b).

    C and the plan are (..., n, m), or of one problem the (K,) pairs that the plan uses.
    """

    @staticmethod
    def forward(ctx: Any, C: Tensor, a: Tensor, b: Tensor, value: Tensor, plan: Tensor, f: Tensor, g: Tensor) -> Tensor:
        """The value, as it is."""
        ctx.save_for_backward(C, plan, f, g)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The plan for C, the potentials for a and b."""
        C, plan, f, g = ctx.saved_tensors
        if torch.is_grad_enabled():
            plan = Fixed.apply(plan, C)
        of_plan = grad.reshape(grad.shape + (1,) * (plan.ndim - grad.ndim))
        return of_plan * plan, grad[..., None] * f, grad[..., None] * g, None, None, None, None


class Fixed(torch.autograd.Function):
    """A plan that is no function of the cost as far as autograd can tell: its derivative is refused, not taken as 0."""

    @staticmethod
    def forward(ctx: Any, plan: Tensor, C: Tensor) -> Tensor:
        """The plan, as it is."""
        return plan.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        """Refused."""
        raise RuntimeError("transport has first derivatives only: the plan's own derivative is not implemented")
