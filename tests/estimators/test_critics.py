"""Critics: penalties on paper, the variational objective at the oracle critic, lower bounds that stay below."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import divergences as dv
import estimators as est
from estimators.neural.constraints import interpolates
from estimators.neural.fitting import split

ROWS = [name for name in est.names() if isinstance(est.as_estimator(name), est.Variational)]


class Linear(torch.nn.Module):
    """f(x) = wᵀx, whose gradient is w everywhere."""

    def __init__(self, *w):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def forward(self, x):
        return x @ self.w


def samples(n, m, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(k, d, generator=generator, dtype=torch.float64) for k in (n, m))


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (est.GradientPenalty(10.0), 10 * (5 - 1) ** 2),
        (est.GradientPenalty(10.0, one_sided=True), 10 * (5 - 1) ** 2),
        (est.GradientPenalty(2.0, center=0.0, at="samples"), 2 * 25),
        (est.GradientPenalty(1.0, center=7.0), 4),
        (est.GradientPenalty(1.0, one_sided=True, center=7.0), 0),
        (est.R1(3.0), 3 / 2 * 25),
    ],
    ids=repr,
)
def test_the_penalty_of_a_linear_critic_is_the_one_on_paper(constraint, expected):
    x, y = samples(6, 9, 2)
    critic = Linear(3.0, 4.0)  # ‖w‖ = 5
    penalty = constraint.penalty(critic, x, y, torch.Generator().manual_seed(0))
    assert float(penalty.detach()) == pytest.approx(expected, abs=1e-12)
    penalty.backward()  # d/dw λ(‖w‖ − c)² = 2λ(‖w‖ − c) w/‖w‖; for ‖w‖² it is 2λw
    if isinstance(constraint, est.R1):
        torch.testing.assert_close(critic.w.grad, constraint.weight * critic.w.detach())
    else:
        scale = 2 * constraint.weight * (5 - constraint.center) / 5
        scale = 0.0 if constraint.one_sided and constraint.center > 5 else scale
        torch.testing.assert_close(critic.w.grad, scale * critic.w.detach())


def test_each_pair_has_its_own_interpolate_and_the_norm_is_per_sample():
    x, y = torch.zeros(500, 2), torch.ones(500, 2)
    u = interpolates(x, y, torch.Generator().manual_seed(0))
    assert torch.equal(u[:, 0], u[:, 1]) and len(u[:, 0].unique()) > 450
    assert abs(float(u.mean()) - 0.5) < 4 / math.sqrt(12 * 500)


def test_weight_clipping_follows_the_step():
    estimator = est.KantorovichRubinstein(Linear(3.0, -4.0), est.WeightClipping(0.5))
    estimator.update_({})
    assert estimator.critic.w.tolist() == [0.5, -0.5]


@pytest.mark.parametrize("name", ROWS)
def test_the_variational_value_at_the_oracle_critic_is_the_divergence(name):
    """P = N(0, 1), Q = N(½, 1), with V such that g(V) = T*(p/q); the truth comes from quadrature or closed forms."""
    d = dv.get(name)
    x, y = samples(200_000, 200_000, 1)
    y = y + 0.5

    class Oracle(torch.nn.Module):
        def forward(self, points):
            log_r = (0.125 - points / 2).squeeze(-1)
            if name == "total_variation":
                return 80 * log_r.sign()  # T* = ½ sign(r − 1), which ½ tanh(v/2) reaches at large v
            low, high = torch.full_like(log_r, -60.0), torch.full_like(log_r, 60.0)
            if name == "pearson_chi2":
                return 2 * torch.expm1(log_r)  # g is the identity here, T* = 2(r − 1)
            for _ in range(60):  # log_ratio is increasing: bisection
                middle = (low + high) / 2
                above = d.log_ratio(middle) > log_r
                low, high = torch.where(above, low, middle), torch.where(above, middle, high)
            return (low + high) / 2

    estimator = est.Variational(name, critic=Oracle())
    a, b = estimator.pieces(x, y)
    stderr = float((a.var() / len(a) + b.var() / len(b)).sqrt())
    normal = torch.distributions.Normal
    truth = float(d(normal(torch.tensor(0.0).double(), 1.0), normal(torch.tensor(0.5).double(), 1.0)))
    assert abs(float(estimator(x, y)) - truth) < 4 * stderr + 1e-9
    assert stderr < 0.02


def test_minimax_gan_at_the_optimal_discriminator_is_minus_log_4_plus_2_jsd():
    x, y = samples(200_000, 200_000, 1)

    class Optimal(torch.nn.Module):
        def forward(self, points):  # logit of D* = p/(p + q) is log p/q, for N(0, 1) and N(1, 1)
            return 0.5 - points

    gan = est.MinimaxGAN(Optimal())
    y = y + 1
    loss, _ = gan.critic_loss(x, y)
    truth = 0.1114214822  # JS of the two, nats
    # The critic maximises twice the bound on JS; the game's value is that less log 4.
    assert float(-loss) == pytest.approx(2 * truth, abs=0.005)
    D = torch.sigmoid(0.5 - x), torch.sigmoid(0.5 - y)
    value = float(D[0].log().mean() + (1 - D[1]).log().mean())
    assert value == pytest.approx(-math.log(4) + 2 * float(gan(x, y)), abs=1e-9)
    assert value == pytest.approx(-math.log(4) + 2 * truth, abs=0.005)


def test_the_non_saturating_loss_draws_either_side_across():
    x, y = (points.requires_grad_() for points in samples(50, 50, 2))
    gan = est.NonSaturatingGAN(Linear(1.0, 0.0))
    gan(x, y).backward()
    assert (y.grad[:, 0] < 0).all() and (x.grad[:, 0] > 0).all()  # down the gradient: y up in D, x down
    far = torch.full((5, 2), -40.0, dtype=torch.float64).requires_grad_()
    gan(x.detach(), far).backward()
    assert float(far.grad[:, 0].abs().min()) > 0.19  # 1/5 a point: it does not saturate where D is sure
    saturated = torch.full((5, 2), -40.0, dtype=torch.float64).requires_grad_()
    est.MinimaxGAN(Linear(1.0, 0.0))(x.detach(), saturated).backward()
    assert float(saturated.grad.abs().max()) < 1e-15


@pytest.mark.parametrize("name", ROWS)
def test_the_objective_is_finite_for_sure_critics(name):
    """|V| = 40 in single precision: finite wherever the true value is representable."""
    d = dv.get(name)
    for v in (-40.0, 40.0):
        t = torch.tensor([v], requires_grad=True)
        for value in (d.activation(t), d.conjugate_of_activation(t)):
            assert torch.isfinite(value).all()
            assert torch.isfinite(torch.autograd.grad(value.sum(), t, retain_graph=True)[0]).all()


@pytest.mark.parametrize("name", ["kl", "js", "squared_hellinger"])
def test_the_lower_limit_stays_below_the_truth(name):
    """Ten trainings on N(1, 1) ‖ N(0, 1): a valid 95% limit exceeds the truth in four of ten once in 1,000 times."""
    truth = {"kl": 0.5, "js": 0.1114214822, "squared_hellinger": 2 * (1 - math.exp(-1 / 8))}[name]
    above = printed = total = 0
    x, y = (torch.stack(side) for side in zip(*(samples(600, 600, 1, seed) for seed in range(10)), strict=True))
    fitted = est.Variational(name).fit(x[:, :400] + 1, y[:, :400]).unstacked()
    for one, new_x, new_y in zip(fitted, x[:, 400:] + 1, y[:, 400:], strict=True):
        found = one.estimate(new_x, new_y)
        assert found.bound == "lower"
        if found.interval is None:
            assert any("no interval" in note for note in found.notes)
            continue
        printed += 1
        assert found.interval[1] == dv.get(name).upper_bound
        above += found.interval[0] > truth
        total += found.value
    assert printed >= 5 and above < 4
    assert total / printed > truth / 2  # it found something


def test_the_wasserstein_critic_finds_a_shift_whatever_its_sign_and_scale():
    for seed, (shift, scale) in enumerate([(-1.0, 1e-4), (50.0, 1e6)]):
        x, y = samples(600, 600, 1, seed)
        found = est.KantorovichRubinstein().estimate(scale * (x + shift), scale * y, seed=seed)
        assert found.value == pytest.approx(abs(shift) * scale, rel=0.25)
        assert found.bound == "lower" and found.interval[0] < abs(shift) * scale


def test_a_penalty_certifies_nothing():
    x, y = samples(300, 300, 1)
    found = est.KantorovichRubinstein(constraint=est.GradientPenalty(one_sided=True)).estimate(x + 1, y, seed=0)
    assert abs(found.value - 1) < 4 * found.stderr and found.bound == "consistent"
    assert found.interval is None and "does not certify" in " ".join(found.notes)


def test_a_bound_that_the_clip_set_says_so():
    x, y = samples(200, 200, 1)
    found = est.Variational("kl").estimate(x + 30, y, seed=0)  # the truth is 450
    assert found.interval is None or found.interval[0] < 450
    assert any("the log ratio is clipped on" in note for note in found.notes)


def test_fit_then_estimate_says_that_the_data_must_be_new_and_estimate_stores_nothing():
    x, y = samples(300, 300, 2)
    estimator = est.Variational("kl")
    estimator.estimate(x, y, seed=0)
    assert estimator.critic is None and not estimator.fitted
    estimator.fit(x, y, steps=60)
    assert estimator.critic is not None
    assert any("has not seen" in note for note in estimator.estimate(x + 0.1, y, seed=0).notes)


def test_the_same_seed_gives_the_same_estimate_and_the_global_state_is_left_alone():
    x, y = samples(200, 200, 2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (est.Variational("js").estimate(x, y + 1, seed=3).value for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)


def test_held_out_values_are_without_dropout_and_small_samples_are_refused():
    x, y = samples(60, 60, 2)
    critic = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Dropout(0.5), torch.nn.Linear(32, 1)).double()
    estimator = est.Variational("js", critic=critic)
    estimator.fitted = True
    assert estimator.estimate(x, y, seed=0).value == estimator.estimate(x, y, seed=0).value
    with pytest.raises(ValueError, match="x and y need at least 20 points each.*: got 8 and 60"):
        est.Variational("js").estimate(x[:8], y)


def test_a_short_fit_keeps_what_it_learned_and_leaves_frozen_layers_frozen():
    x, y = samples(200, 200, 2)
    critic = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    critic[0].requires_grad_(False)
    first, last = critic[0].weight.clone(), critic[2].weight.detach().clone()
    est.Variational("js", critic=critic).fit(x + 1, y, steps=20)  # fewer steps than there are between two checks
    assert torch.equal(critic[0].weight, first) and not critic[0].weight.requires_grad
    assert not torch.equal(critic[2].weight, last)


def test_a_split_is_disjoint_and_complete():
    x, y = torch.arange(30.0)[:, None], torch.arange(20.0)[:, None]
    first, second = split(x, y, 2 / 3, torch.Generator().manual_seed(0))
    assert sorted(torch.cat([first.x, second.x]).flatten().tolist()) == list(range(30))
    assert len(first.y) == 13


def test_sized_leaves_the_original_alone():
    estimator = est.Variational("kl")
    built = estimator.sized(est.Space((3,)))
    assert estimator.critic is None and built.critic is not None
    clone = copy.deepcopy(built)
    assert torch.equal(clone(torch.ones(4, 3), torch.zeros(4, 3)), built(torch.ones(4, 3), torch.zeros(4, 3)))


def test_an_offset_is_taken_off_before_single_precision_rounds_it():
    x, y = samples(400, 400, 2)
    near = est.Variational("kl").estimate(x + 1, y, seed=0).value
    far = est.Variational("kl").estimate(x + 1 + 1e6, y + 1e6, seed=0).value
    assert far == pytest.approx(near, rel=1e-3)


def test_bad_critics_and_calls_are_refused_in_one_line():
    x, y = samples(20, 20, 2)
    with pytest.raises(ValueError, match="has no critic yet: call fit"):
        est.Variational("kl")(x, y)
    with pytest.raises(ValueError, match=r"the critic must give one value a point, \(20,\): got shape \(20, 2\)"):
        est.Variational("kl", critic=torch.nn.Linear(2, 2).double())(x, y)
    with pytest.raises(ValueError, match="takes one problem"):
        est.Variational("kl", critic=Linear(1.0, 1.0))(x[None], y[None])
    with pytest.raises(ValueError, match="c must be positive: got 0"):
        est.WeightClipping(0)
    with pytest.raises(ValueError, match='at must be "interpolates" or "samples"'):
        est.GradientPenalty(at="everywhere")
    with pytest.raises(ValueError, match="needs at least 10 points"):
        est.Variational("kl").fit(x[:3], y)
    with pytest.raises(ValueError, match="y has 1 NaN"):
        bad = y.clone()
        bad[7, 0] = np.nan
        est.Variational("kl").estimate(x, bad)


@pytest.mark.parametrize("make", [est.Variational, est.DonskerVaradhan, est.MinimaxGAN])
def test_points_that_fit_has_seen_get_no_interval(make):
    x, y = samples(100, 100, 2)
    fitted = make().fit(x[:60], y[:60], steps=20, progress=False)
    again = fitted.estimate(x[40:], y)
    assert again.interval is None and again.bound == "consistent"
    assert any("fit has seen 60% of these points" in note for note in again.notes)
    assert not any("has seen" in note and "%" in note for note in fitted.estimate(x[60:], y[60:]).notes)
    second = fitted.fit(x[60:80], y[60:80], steps=5, progress=False)  # it has not forgotten the first
    assert any("fit has seen 80%" in note for note in second.estimate(x, y).notes)
    atoms = (x > 0).double(), (y > 0.5).double()  # values of a law of atoms are the same in every sample
    counts = make().fit(atoms[0][:60], atoms[1][:60], steps=20, progress=False).estimate(atoms[0][60:], atoms[1][60:])
    assert not any("%" in note and "has seen" in note for note in counts.notes)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be at least 1: got 0"),
        ({"batch": "8"}, TypeError, "batch must be an integer: got str '8'"),
        ({"patience": -1}, ValueError, "patience must be at least 1"),
        ({"lr": 0.0}, ValueError, "lr must be positive: got 0.0"),
        ({"seed": "a"}, TypeError, "seed must be an integer"),
    ],
)
def test_options_of_fit_are_named(options, error, message):
    x, y = samples(30, 30, 2)
    with pytest.raises(error, match=message):
        est.Variational().fit(x, y, **options)


def test_critics_that_are_none_or_take_other_points_are_named():
    x, y = samples(30, 30, 2)
    with pytest.raises(TypeError, match=r"critic must be an nn.Module: got function"):
        est.Variational(critic=lambda z: z).fit(x, y)
    with pytest.raises(TypeError, match=r"constraint must be one, such as est.R1\(\): got str"):
        est.Variational(constraint="r1").fit(x, y)
    with pytest.raises(ValueError, match=r"the critic takes no points of shape \(24, 2\)"):
        est.Variational(critic=nn.Linear(3, 1)).fit(x, y)
    fitted = est.Variational().fit(x, y, steps=2, progress=False)
    with pytest.raises(ValueError, match=r"the critic takes no points of shape \(4, 5\)"):
        fitted.log_ratio(np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"points has 1 NaN"):
        fitted.log_ratio(np.array([[np.nan, 0.0]]))


def test_points_seen_get_the_value_over_the_slope_all_the_same():
    x, y = samples(60, 60, 2)
    steep = nn.Linear(2, 1).double()
    with torch.no_grad():
        steep.weight.copy_(torch.tensor([[30.0, 40.0]]))
    critic = est.KantorovichRubinstein(steep, est.GradientPenalty(0.0)).fit(x + 1, y, steps=1, lr=1e-9, progress=False)
    found = critic.estimate(x + 1, y)
    along = (x + 1 - y) @ torch.tensor([0.6, 0.8], dtype=torch.float64)
    assert found.interval is None and found.value == pytest.approx(float(along.mean()))


def test_a_fitted_critic_is_written_on_one_line():
    x, y = samples(40, 40, 2)
    fitted = est.Variational().fit(x[:20], y[:20], steps=2, progress=False)
    assert "critic=Sequential(…)" in repr(fitted) and "\n" not in fitted.estimate(x[20:], y[20:]).estimator
