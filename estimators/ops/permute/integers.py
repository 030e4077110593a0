"""Quadratic forms of labels ±1 by the library: half of the matrix in whole steps of 16 bits, added up exactly."""

from __future__ import annotations

import ctypes
import math
from typing import NamedTuple

import torch
from torch import Tensor

from estimators.ops import native

STEPS = 32_766  # of the largest entry
LABELLINGS = 96  # of a task
FAILURE = 1e-12  # probability that a random labelling is beyond the bound


class Rounded(NamedTuple):
    """A symmetric matrix less its diagonal in whole steps."""

    N: int
    panels: Tensor  # int16, as the library reads them
    step: float
    rest: float  # what rounding in the precision of K adds to |e_ij|, in the units of K
    squares: float  # Σ_{i<j} e_ij² of what rounding left, in steps
    errors: Tensor  # Σ_{j≠i} e_ij, (N,), in steps
    rows: Tensor  # Σ_{j≠i} K_ij, (N,)

    def forms(self, labels: Tensor) -> Tensor:
        """Q = Σ_{i≠j} K_ij v_i v_j of labellings (C, N), True for v = 1, to within `bound`; (C,) in float64.

        With μ the mean of v and u = v − μ, vᵀEv of the error E is uᵀEu + 2μ·1ᵀEv − μ²·1ᵀE1: the last two are known.

        Raises:
            ValueError: labels that are not booleans, or not of N points.
        """
        check_labels(labels, self.N, self.panels.device)
        labels = labels.contiguous()
        C, c = len(labels), _library().c
        width = -(-self.N // c.label_width()) * c.label_width()
        v, found = torch.empty(C, width, dtype=torch.int16), torch.zeros(C, dtype=torch.int64)
        tasks = -(-C // LABELLINGS)

        def run(worker: int, task: int) -> None:
            begin, end = task * LABELLINGS, min(C, (task + 1) * LABELLINGS)
            part = ctypes.c_int64(self.N), ctypes.c_int64(begin), ctypes.c_int64(end)
            c.label_signs(_pointer(labels), *part, _pointer(v))
            c.label_forms(_pointer(self.panels), part[0], _pointer(v), *part[1:], _pointer(found))

        # A product of 16 bits is a tenth of the work of a coordinate of a pair.
        native.share_out(tasks, native.threads(tasks, 0.05 * C * self.N**2), run)
        q = 2 * found.double()
        total = labels.sum(-1).double()
        mu = 2 * total / self.N - 1
        if bool((mu != 0).any()):
            of_v = 2 * (labels.double() @ self.errors) - self.errors.sum()
            q += 2 * mu * of_v - mu.square() * self.errors.sum()
        return q * self.step

    def bound(self, n: int) -> float:
        """What |error| of `forms` a uniform labelling with n of N labels True exceeds with probability 1e-12 at most.

        The error is X = Σ_{i≠j} E_ij u_i u_j with E given and u random. For independent labels, True with probability
        p = n/N, X has mean 0, standard deviation σ = √2 (1 − μ²)‖E‖_F and degree 2, so that for every r > 2

            E|X|^r ≤ ((r − 1) λ^(2/r − 1))^r σ^r,   λ = min(p, 1 − p),  and without λ's factor for p = ½

        (hypercontractivity). By Markov P(|X| ≥ tσ) ≤ E|X|^r/(tσ)^r, and drawing exactly n, which has a probability of
        at least 1/√(8Np(1 − p)), makes it larger by no more than that root. It holds for any E, however ties or heavy
        tails shape it, but for labels that are drawn without looking at E: not for the observed labelling.

        References: O'Donnell 2014, Analysis of Boolean functions, the hypercontractivity theorems of chapters 9 (p = ½)
        and 10; Ash 1965, lemma 4.7.1 (the root).
        """
        N, other = self.N, self.N - n
        if min(n, other) == 0:
            return math.inf
        share, root = min(n, other) / N, math.sqrt(8 * n * other / N)
        t = min(
            (r - 1) * (1.0 if n == other else share ** (2 / r - 1)) * (root / FAILURE) ** (1 / r) for r in range(3, 100)
        )
        norm = self.step * math.sqrt(2 * self.squares) + N * self.rest
        return t * math.sqrt(2) * 4 * n * other / N**2 * norm


def check_labels(labels: Tensor, N: int, device: torch.device) -> None:
    """That labellings are of N points.

    Raises:
        ValueError: they are not.
    """
    if labels.dtype != torch.bool or labels.ndim != 2 or labels.shape[1] != N or labels.device != device:
        raise ValueError(
            f"labels must be booleans (C, {N}), one a point, on {device}: got {labels.dtype} of shape "
            f"{tuple(labels.shape)} on {labels.device}"
        )


def why_not(K: Tensor) -> str:
    """What keeps the library from this matrix; nothing where it can."""
    if not native.is_plain(K):
        return "the matrix is not a plain tensor on the CPU"
    if K.dtype not in native.SUFFIX:
        return f"a matrix of {K.dtype}"
    if K.ndim != 2 or len(K) != K.shape[-1] or K.stride(-1) != 1 or not len(K):
        return f"not one square matrix in rows: shape {tuple(K.shape)}, strides {K.stride()}"
    if native.library() is None:
        return "the library is not built: python -m estimators.ops.native"
    return ""


def rounded(K: Tensor, shift: float) -> Rounded:
    """Half of K in steps; no bound holds where it is not finite, or varies by little more than its own rounding."""
    c, N = _library().c, len(K)
    low, high = (float(v) for v in K.aminmax())
    step = max(high - shift, shift - low) / STEPS
    rest = 2 * torch.finfo(K.dtype).eps * (max(high, -low) + abs(shift))
    W = c.label_width()
    count = -(-N // W)
    panels = torch.empty(W * W * (count * (count + 1) // 2), dtype=torch.int16)
    if not (1e-30 < step < 1e30 and rest < step / 2):  # false for NaN
        return Rounded(N, panels.zero_(), 0.0, math.inf, 0.0, *torch.zeros(2, N, dtype=torch.float64))
    call = _library().of("quantise", K.dtype)
    threads = native.threads(count, N**2)
    (errors, rows), squares = torch.zeros(2, threads, N, dtype=torch.float64), [0.0] * count

    def run(worker: int, panel: int) -> None:
        squares[panel] = call(
            _pointer(K), ctypes.c_int64(N), ctypes.c_int64(K.stride(0)), ctypes.c_double(step), ctypes.c_double(shift),
            ctypes.c_int64(panel), ctypes.c_int64(panel + 1), _pointer(panels), _pointer(errors[worker]),
            _pointer(rows[worker]),
        )  # fmt: skip

    native.share_out(count, threads, run)
    return Rounded(N, panels, step, rest, sum(squares), errors.sum(0), step * rows.sum(0))


def _library() -> native.Library:
    found = native.library()
    assert found is not None  # `why_not` was asked
    for dtype in native.SUFFIX:
        found.of("quantise", dtype).restype = ctypes.c_double
    found.c.label_width.restype = ctypes.c_int64
    return found


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
