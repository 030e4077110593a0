"""Lipschitz constants: proven ones hold, normalised layers against an SVD, and W1 from below by proven critics."""

import math

import pytest
import torch
from torch import nn

import estimators as est
from estimators.neural.constraints import input_gradients
from estimators.neural.critics import default_critic, mlp
from estimators.neural.lipschitz import Cones, MaxMin, lipschitz_constant


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def points(n, d, seed=0):
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


def slopes(critic, n=400, d=3, seed=1):
    return input_gradients(critic, 3 * points(n, d, seed).float()).norm(dim=-1).detach()


def steps(critic, constraint, lr, times=30, d=3):
    optimizer = torch.optim.Adam(critic.parameters(), lr=lr)
    for seed in range(times):
        x, y = (points(64, d, 2 * seed + side).float() for side in (0, 1))
        optimizer.zero_grad()
        (critic(y).mean() - critic(x + 1).mean()).backward()
        optimizer.step()
        constraint.update_(critic)


@pytest.mark.parametrize("hidden", [(8,), (32, 32), (7, 16, 5)])
def test_no_slope_exceeds_the_proven_constant(hidden):
    for seed in range(5):
        critic = nn.Sequential(mlp(3, 1, hidden, slope=0.2, generator=generator(seed)))
        assert float(slopes(critic).max()) <= lipschitz_constant(critic)
    space = est.Space.of(points(50, 3) * torch.tensor([1.0, 5.0, 0.1]))
    critic = default_critic(space, generator())
    assert float(slopes(critic).max()) <= lipschitz_constant(critic)
    assert lipschitz_constant(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))) == math.inf


def test_the_constant_of_a_linear_map_is_its_largest_singular_value():
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.tensor([[3.0, 0.0], [4.0, 5.0]])  # singular values √45 and √5
    assert lipschitz_constant(layer) == pytest.approx(math.sqrt(45), rel=1e-12)
    assert lipschitz_constant(nn.Sequential(layer, nn.LeakyReLU(3.0), layer)) == pytest.approx(135, rel=1e-12)


class Residual(nn.Sequential):
    def forward(self, points):
        return points + super().forward(points)


def test_a_network_with_a_forward_of_its_own_is_not_proven():
    assert lipschitz_constant(Residual(nn.Linear(3, 3))) == math.inf
    assert lipschitz_constant(nn.Sequential(nn.Linear(3, 3), Residual(nn.ReLU()))) == math.inf


def test_a_hook_ends_the_proof():
    for change in (
        lambda layer: layer.register_forward_hook(lambda module, given, found: 100 * found),
        lambda layer: layer.register_forward_pre_hook(lambda module, given: (100 * given[0],)),
        lambda layer: setattr(layer, "forward", lambda points: 100 * points[:, :1]),
    ):
        network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        assert lipschitz_constant(network) < math.inf
        change(network[0])
        assert lipschitz_constant(network) == math.inf


def test_what_is_proven_is_the_function_that_was_evaluated():
    """In training mode each pass moves a normalised weight: the constant must be of the weight at rest."""
    critic = est.SpectralNorm().wrap(nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1)).double())
    first = critic[0].parametrizations.weight
    with torch.no_grad():
        first.original.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        first[0].u.copy_(torch.tensor([0.8, 0.6]))  # far from the largest singular vector, (0, 1)
    estimator = est.KantorovichRubinstein(critic, est.SpectralNorm())
    estimator.fitted = estimator.wrapped = True
    x, y = points(200, 2) + 1, points(200, 2, 1)
    critic.eval()
    expected = float((critic(x).mean() - critic(y).mean()).detach()) / (2 / 2.08**0.5)  # σ is |Wᵀu| = √(0.8² + 1.2²)
    critic.train()
    assert estimator.estimate(x, y, seed=0).value == pytest.approx(expected, rel=1e-6)  # u is in single precision


def test_sorting_pairs_changes_no_value_and_no_norm():
    v = points(20, 7)
    sorted_ = MaxMin()(v)
    assert torch.equal(sorted_.sort(-1).values, v.sort(-1).values)
    assert (sorted_[:, :3] >= sorted_[:, 3:6]).all() and torch.equal(sorted_[:, 6], v[:, 6])


@pytest.mark.parametrize("sign", [-1, 1])
def test_cones_are_no_steeper_than_1_whatever_their_weights(sign):
    cones = Cones(points(30, 4), sign)
    with torch.no_grad():
        cones.heights.copy_(5 * points(30, 1, 3)[:, 0])
    u, v = points(500, 4, 5), 10 * points(500, 4, 6)
    assert ((cones(u) - cones(v)).abs() <= (u - v).norm(dim=-1) * (1 + 1e-12)).all()
    by_hand = min((u[0] - c).norm().item() + h.item() for c, h in zip(cones.centers, cones.heights, strict=True))
    assert cones(u[:1]).item() == pytest.approx(sign * by_hand, rel=1e-12)


def test_a_spectral_weight_is_the_weight_over_its_largest_singular_value():
    for layer in (nn.Linear(5, 3), nn.Linear(3, 6), nn.Conv2d(2, 4, 3)):
        raw = layer.weight.detach().clone()
        critic = est.SpectralNorm().wrap(nn.Sequential(layer))
        largest = float(torch.linalg.svdvals(raw.flatten(1)).max())
        torch.testing.assert_close(critic[0].weight, raw / largest, rtol=1e-4, atol=1e-5)


def test_power_iteration_follows_a_moving_weight_and_rests_in_evaluation():
    constraint = est.SpectralNorm()
    critic = constraint.wrap(mlp(3, 1, (16, 16), generator=generator()))
    steps(critic, constraint, lr=1e-2)
    for _ in range(20):
        critic(points(4, 3).float())  # a few passes more, with the weights at rest
    for layer in (0, 2, 4):
        assert float(torch.linalg.matrix_norm(critic[layer].weight.detach(), 2)) == pytest.approx(1, abs=2e-3)
    critic.eval()
    u = critic[0].parametrizations.weight[0].u.clone()
    critic(points(4, 3).float())
    assert torch.equal(u, critic[0].parametrizations.weight[0].u)


def test_the_gradient_passes_through_the_largest_singular_value():
    """d/dW of ⟨A, W/σ⟩ is A/σ − ⟨A, W⟩uvᵀ/σ² (Miyato et al. 2018, eq. (12))."""
    W, A = points(4, 3), points(4, 3, 1)
    layer = nn.Linear(3, 4, bias=False).double()
    layer.weight.data = W.clone()
    wrapped = est.SpectralNorm().wrap(layer).eval()
    (A * wrapped.weight).sum().backward()
    U, S, Vh = torch.linalg.svd(W)
    expected = A / S[0] - (A * W).sum() * torch.outer(U[:, 0], Vh[0]) / S[0] ** 2
    torch.testing.assert_close(wrapped.parametrizations.weight.original.grad, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("lr", [est.GroupSort.rate, 0.3])
def test_a_network_of_sorted_pairs_never_exceeds_1_and_reaches_it(lr):
    constraint = est.GroupSort()
    space = est.Space.of(points(100, 3) * torch.tensor([1.0, 4.0, 0.2]))
    critic = constraint.wrap(default_critic(space, generator()))
    for times in (0, 100):
        steps(critic, constraint, lr, times)
        assert lipschitz_constant(critic) == pytest.approx(1, abs=1e-5)
        assert float(slopes(critic).max()) <= 1 + 1e-5
    if lr < 0.1:
        between = points(400, 3) + torch.rand(400, 1, generator=generator())  # the shift that it was trained on
        assert float(input_gradients(critic, between.float()).detach().norm(dim=-1).mean()) > 0.95


def test_the_gradient_of_an_orthonormal_weight_lies_in_its_tangent():
    critic = est.GroupSort().wrap(nn.Sequential(nn.Linear(5, 3, bias=False)).double())
    (points(3, 5) * critic[0].weight).sum().backward()
    W, G = critic[0].weight.detach(), critic[0].parametrizations.weight.original.grad
    torch.testing.assert_close(W @ W.T, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(G @ W.T + W @ G.T, torch.zeros(3, 3, dtype=torch.float64))
    A = points(3, 5)
    torch.testing.assert_close(G, A - (A @ W.T + W @ A.T) @ W / 2)


def test_networks_that_cannot_be_proven_are_refused_by_the_name_of_the_layer():
    with pytest.raises(ValueError, match=r"GroupSort needs a critic .*: got LayerNorm"):
        est.GroupSort().wrap(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1)))
    with pytest.raises(ValueError, match="SpectralNorm needs a critic with linear layers: got ReLU"):
        est.SpectralNorm().wrap(nn.ReLU())


W1 = {
    "shift d=1": (lambda x: x + 1.0, 1, 1.0),
    "shift d=5": (lambda x: x + 1.0, 5, math.sqrt(5)),
    # E‖2Z‖ − E‖Z‖, a coupling and a potential at once: √2 Γ(3/2)/Γ(1) for d = 2
    "scale d=2": (lambda x: 2 * x, 2, math.sqrt(math.pi / 2)),
}


@pytest.mark.parametrize("problem", W1)
def test_proven_critics_are_below_w1_and_near_it(problem):
    move, d, truth = W1[problem]
    x, y = points(3000, d, 1), points(3000, d, 2)
    found = est.KantorovichRubinstein().estimate(move(x), y, seed=0)
    assert found.bound == "lower" and found.interval[1] == math.inf
    assert found.interval[0] < truth
    assert found.value == pytest.approx(truth, rel=0.05)
    assert any("proven Lipschitz constant 1" in note for note in found.notes)


def test_scale_offset_and_order_of_the_constants_divide_out():
    x, y = points(400, 2, 1) + 1, points(400, 2, 2)
    near = est.KantorovichRubinstein(constraint=est.GroupSort()).estimate(x, y, seed=0)
    small = est.KantorovichRubinstein(constraint=est.GroupSort()).estimate(2**-10 * x, 2**-10 * y, seed=0)
    assert small.value == pytest.approx(2**-10 * near.value, rel=1e-9)  # no digit of the data is lost
    far = est.KantorovichRubinstein(constraint=est.GroupSort()).estimate(x + 1e6, y + 1e6, seed=0)
    assert abs(far.value - near.value) < near.stderr  # some are, and training makes more of it
    steep = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1)).double()
    with torch.no_grad():
        steep[0].weight.mul_(50)
    normalised = est.KantorovichRubinstein(steep, est.SpectralNorm()).estimate(x, y, seed=0)
    assert normalised.bound == "lower" and normalised.interval[0] < math.sqrt(2)
    strange = nn.Sequential(nn.Linear(2, 8), nn.LayerNorm(8), nn.Linear(8, 1)).double()
    unproven = est.KantorovichRubinstein(strange, est.SpectralNorm()).estimate(x, y, seed=0)
    assert unproven.interval is None and "no Lipschitz constant" in " ".join(unproven.notes)
