"""Stacked critics: B problems as one, with the results of a loop over them."""

import copy

import pytest
import torch
from torch import nn

import estimators as est
from estimators.neural.critics import default_critic
from estimators.neural.stacking import Stacked, named_weights


def problems(B=3, n=60, d=2):
    generator = torch.Generator().manual_seed(B)
    x, y = torch.randn(2, B, n, d, dtype=torch.float64, generator=generator)
    return x + torch.arange(B)[:, None, None], y  # each another difference


def networks(B=3, d=2):
    space = est.Space((d,))
    return [default_critic(space, torch.Generator().manual_seed(b)) for b in range(B)]


def test_a_stack_computes_what_its_networks_compute_and_gives_them_back():
    nets, (x, _) = networks(), problems()
    stack = Stacked(nets)
    alone = torch.stack([net(points) for net, points in zip(nets, x, strict=True)])
    torch.testing.assert_close(stack(x), alone, atol=1e-6, rtol=1e-6)
    for net, back in zip(nets, stack.unstacked(), strict=True):
        for name, value in net.state_dict().items():
            assert torch.equal(value, back.state_dict()[name])
    assert len(copy.deepcopy(stack)) == len(stack) == 3
    assert [name for name, _ in named_weights(stack)] == [name for name, _ in named_weights(nets[0])]


def test_a_network_of_a_stack_gets_its_own_gradient_alone():
    nets, (x, _) = networks(), problems()
    stack = Stacked(nets)
    stack(x).square().mean((-2, -1)).sum().backward()
    for b, (net, points) in enumerate(zip(nets, x, strict=True)):
        net(points).square().mean().backward()
        for (_, weight), stacked in zip(named_weights(net), stack.weights, strict=True):
            torch.testing.assert_close(weight.grad, stacked.grad[b], atol=1e-6, rtol=1e-4)


def test_frozen_weights_stay_frozen_and_the_precision_stays():
    nets = [nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).double() for _ in range(2)]
    for net in nets:
        net[0].weight.requires_grad_(False)
    stack = Stacked(nets)
    assert [weight.requires_grad for weight in stack.weights] == [False, True, True, True]
    back = stack.unstacked()[1]
    assert not back[0].weight.requires_grad and back[0].weight.dtype == torch.float64
    x, y = problems(2)
    fitted = est.Variational(critic=stack).fit(x, y, steps=5, progress=False)
    for before, after in zip(nets, fitted.critic.unstacked(), strict=True):
        assert torch.equal(before[0].weight, after[0].weight)
        assert not torch.equal(before[1].weight, after[1].weight)


TRAINED = {
    "variational": est.Variational,
    "log ratio": lambda: est.Variational("js", link="log_ratio"),
    "donsker_varadhan": est.DonskerVaradhan,
    "infonce": est.InfoNCE,
    "minimax": est.MinimaxGAN,
    "hinge": est.Hinge,
    "penalty": lambda: est.KantorovichRubinstein(constraint=est.GradientPenalty(one_sided=True)),
    "penalty on samples": lambda: est.LeastSquares(constraint=est.GradientPenalty(at="samples")),
    "R1": lambda: est.Variational(constraint=est.R1(1.0)),
    "spectral norm": lambda: est.KantorovichRubinstein(constraint=est.SpectralNorm()),
    "sorted pairs": lambda: est.KantorovichRubinstein(constraint=est.GroupSort()),
    "clipping": lambda: est.KantorovichRubinstein(constraint=est.WeightClipping(0.05)),
}


@pytest.mark.parametrize("name", TRAINED)
def test_a_stack_is_trained_to_what_a_loop_gives(name):
    """A few steps: rounding grows with each, as it does between two orders of one sum."""
    x, y = problems()
    stack = TRAINED[name]().fit(x, y, steps=8, batch=16, progress=False)
    for one, a, b in zip(stack.unstacked(), x, y, strict=True):
        alone = TRAINED[name]().fit(a, b, steps=8, batch=16, progress=False)
        with torch.no_grad():
            assert float(one.value(a, b)) == pytest.approx(float(alone.value(a, b)), abs=1e-3)
        assert one.estimate(a, b).bound == alone.estimate(a, b).bound
    with torch.no_grad():
        assert stack.value(x, y).shape == (3,)


def test_each_problem_keeps_its_own_best_weights():
    """The first has no difference to find, and its best critic is an early one whatever the others do."""
    x, y = problems(2, 200)
    pair = est.Variational().fit(x, y, steps=600, progress=False).unstacked()
    alone = est.Variational().fit(x[:1], y[:1], steps=600, progress=False).unstacked()
    with torch.no_grad():
        together, apart = (float(one.value(x[0], y[0])) for one in (pair[0], alone[0]))
    assert together == pytest.approx(apart, abs=1e-3)


def test_wrong_stacks_are_refused_in_one_line():
    x, y = problems()
    with pytest.raises(ValueError, match=r"got none"):
        Stacked([])
    with pytest.raises(ValueError, match=r"one architecture: number 1 differs from number 0"):
        Stacked([nn.Linear(2, 1), nn.Linear(2, 2)])
    for one, other in ((nn.ReLU(), nn.Tanh()), (nn.LeakyReLU(0.1), nn.LeakyReLU(0.2))):
        with pytest.raises(ValueError, match=r"one architecture"):
            Stacked([nn.Sequential(nn.Linear(2, 1), one), nn.Sequential(nn.Linear(2, 1), other)])
    twice = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"no weight in two places"):
        Stacked([nn.Sequential(twice, twice)])
    with pytest.raises(ValueError, match=r"must have weights: got ReLU"):
        Stacked([nn.ReLU()])
    with pytest.raises(ValueError, match=r"\(B, n, d\) and \(B, m, d\)"):
        est.Variational().fit(x, y[:1])
    with pytest.raises(ValueError, match=r"takes one problem"):
        est.EnergyBased(1.0).fit(x, y)
    stack = est.Variational().fit(x, y, steps=2, progress=False)
    with pytest.raises(ValueError, match=r"a stack of 3 critics, as many problems"):
        stack.value(x[0], y[0])
    with pytest.raises(ValueError, match=r"one problem, \(n, d\) and \(m, d\): got \(3, 60, 2\)"):
        stack.unstacked()[0].value(x, y)
    with pytest.raises(ValueError, match=r"a stack of 3 critics: unstacked\(\) gives one estimator"):
        stack.estimate(x[0], y[0])
    with pytest.raises(ValueError, match=r"no stack of critics"):
        est.Variational().unstacked()


@pytest.mark.parametrize("make", [est.Variational, est.DonskerVaradhan, est.InfoNCE])
def test_log_ratios_of_a_stack_are_those_of_its_critics(make):
    x, y = problems()
    stack = make().fit(x, y, steps=20, progress=False)
    points = torch.randn(3, 4, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together = stack.log_ratio(points)
        alone = torch.stack([one.log_ratio(z) for one, z in zip(stack.unstacked(), points, strict=True)])
        assert stack.unstacked()[0].log_ratio(points[0, 0, 0]).shape == ()
    assert together.shape == (3, 4, 5) and together.dtype == torch.float64
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    with pytest.raises(
        ValueError, match=r"points must be \(3, p, d\), some for each critic of the stack: got shape \(5, 2\)"
    ):
        stack.log_ratio(points[0, 0])
