"""Shared by the tests of the path "triton", with and without a GPU."""

import torch

EPS = torch.finfo(torch.float32).eps


def drawn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def sums_and_slopes(op, kernel, x, y, w, **options):
    """Row sums, and the gradient of a weighted sum of them in x, y and w; y None is x."""
    given = [None if t is None else t.detach().clone().requires_grad_() for t in (x, y, w)]
    sums = op(kernel, given[0], given[0] if y is None else given[1], given[2], **options)
    g = drawn(x.shape[-2], dtype=sums.dtype, seed=9).to(sums.device)
    return sums.detach(), torch.autograd.grad(sums, [t for t in given if t is not None], g.expand_as(sums))


def clustered(d):
    """Points in two clusters, 1000 apart and 0.01 wide, in float32: what a product rounds is 1000²·6e-8 = 0.06."""
    centres = torch.zeros(24, d)
    centres[::2, 0] = 1000.0
    return (drawn(24, d, seed=1) * 0.01 / d**0.5).float() + centres


def to_tf32(points):
    """Rounded to the 11 bits of TF32."""
    bits = points.float().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)
