"""What a kernel is trained for: the power of its test, by the variance-regularised ratio J."""

from __future__ import annotations

from torch import Tensor

REGULARISER = 1e-4  # λ of J, for kernels with values in [0, 1]


def ratio(k_xx: Tensor, k_yy: Tensor, k_xy: Tensor) -> Tensor:
    """J = MMD²_u / √(σ̂² + λ) from the kernel matrices of n points of each law, (..., n, n).

    With H_ij = k(x_i, x_j) + k(y_i, y_j) − k(x_i, y_j) − k(y_i, x_j), MMD²_u is the mean of H_ij over i ≠ j, and σ̂² =
    4/n³ Σ_i (Σ_j H_ij)² − 4/n⁴ (Σ_ij H_ij)² estimates n times its variance where P ≠ Q. For large n the power of the
    test grows with MMD²/σ.

    References: Liu et al. 2020, eqs. (2), (3) and (5); Sutherland et al. 2017.

    Example:
        >>> import torch
        >>> same, none = torch.ones(3, 3), torch.zeros(3, 3)
        >>> ratio(same, same, none)  # MMD² = 2, and no point differs from another: 2/√λ
        tensor(200.)
    """
    n = k_xx.shape[-1]
    H = k_xx + k_yy - k_xy - k_xy.mT
    sums = H.sum(-1)
    mmd2 = (sums.sum(-1) - H.diagonal(dim1=-2, dim2=-1).sum(-1)) / (n * (n - 1))
    variance = 4 / n**2 * sums.var(-1, correction=0)  # both sums of σ̂², without their cancellation
    return mmd2 / (variance + REGULARISER).sqrt()
