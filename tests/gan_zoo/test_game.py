"""The game's mechanics: shared draws, one gradient a player, batches as a function of (seed, i), bounds, options."""

import numpy as np
import pytest
import torch

import divergences as dv
import estimators as est
import gan_zoo as zoo
from gan_zoo.data import Minibatches, mix, points
from gan_zoo.game import Draw

POINTS = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
QUIET = {"accelerator": "cpu", "progress": False}


def draw_of(game, n=16):
    x = torch.as_tensor(POINTS[:n])
    return Draw(game, n, torch.Generator().manual_seed(0), {"x": x})


def test_a_law_is_evaluated_once_a_draw():
    game = zoo.build("generator", like=POINTS)
    draw = draw_of(game)
    assert draw["y"] is draw["y"] and draw["z"] is draw["z"]
    assert not torch.equal(draw["z"], Draw(game, 16, torch.Generator().manual_seed(1))["z"])


def test_only_the_active_player_gets_a_gradient_and_a_critic_step_builds_no_graph_in_the_generator():
    game = zoo.build("generator", like=POINTS, divergence="js")
    critic, generator = game.plan.stages[0].phases
    draw = draw_of(game)
    turn = game.gradients(critic, draw, 0.0)
    assert list(turn.gradients) == ["critic"] and "critic" in turn.logged and "value" in turn.metrics["critic"]
    assert not draw["y"].requires_grad
    turn = game.gradients(generator, draw_of(game), 0.0)
    assert list(turn.gradients) == ["generator"] and all(bool((g != 0).any()) for g in turn.gradients["generator"])


@pytest.mark.parametrize("divergence", est.names())
def test_the_gradient_of_a_players_loss_is_that_of_its_terms(divergence):
    """Against a plain backward pass through the same loss, on the same draw."""
    game = zoo.build("generator", like=POINTS, divergence=divergence, seed=3)
    phase = game.plan.stages[0].phases[-1]
    found = game.gradients(phase, draw_of(game), 0.0).gradients
    game.networks.requires_grad_(True)
    game.zero_grad()
    draw = draw_of(game)
    game.networks["divergence"](draw["x"], draw["y"], generator=draw.generator).backward()
    for gradient, parameter in zip(found["generator"], game.networks["generator"].parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_minibatches_are_epochs_without_repetition_and_a_function_of_seed_and_index():
    stream = torch.arange(10.0)[:, None]
    batches = Minibatches(stream, 3, seed=5)
    first = [batches[i] for i in range(3)]
    assert len(set(torch.cat(first).flatten().tolist())) == 9
    again = Minibatches(stream, 3, seed=5)
    assert torch.equal(again[7], batches[7]) and torch.equal(again[1], first[1])
    assert not torch.equal(Minibatches(stream, 3, seed=6)[0], first[0])


def test_no_two_uses_share_a_stream_of_randomness():
    seeds = [mix("weights", 0), mix("epoch", 0, 0), mix("epoch", 0, 1), mix("draw", 0, 0, 0), mix("draw", 0, 1, 0)]
    seeds += [mix("draw", 0, 0, 1), mix("weights", 1), mix("epoch", 1, 0), mix("draw", 1, 0, 0), mix("epoch", 0)]
    assert len(set(seeds)) == len(seeds)


def test_data_find_their_space():
    flat, space = points(np.full((4, 8, 8), 255, dtype=np.uint8))
    assert flat.shape == (4, 64) and flat.max() == 1 and (space.shape, space.low, space.high) == ((8, 8), 0.0, 1.0)
    _, space = points(POINTS)
    assert space.low is None and np.allclose(space.center, POINTS.mean(0), atol=0.1)
    assert np.allclose(space.scale, POINTS.std(0), rtol=0.15)
    _, far = points(np.concatenate([POINTS, [[1e9] * POINTS.shape[1]]]))  # one far point is no unit
    assert np.allclose(far.center, space.center, atol=0.1) and np.allclose(far.scale, space.scale, rtol=0.15)
    _, space = points(np.random.default_rng(0).uniform(-1, 1, size=(9, 1, 4, 4)))
    assert (space.low, space.high) == (-1.0, 1.0)


@pytest.mark.parametrize("divergence", ["sinkhorn", "energy_distance", "js"])
def test_every_coordinate_counts_whatever_its_unit(divergence):
    data = POINTS.astype(np.float64) * [1e4, 1e-4, 1] + [1e6, 0, -5]
    game = zoo.build("generator", like=data, divergence=divergence, batch=200)
    zoo.train(game, data, steps=400, **QUIET)
    y = game.sample(2000, seed=0).double().numpy()
    assert np.all(np.abs(y.mean(0) - data.mean(0)) < 0.4 * data.std(0))
    assert np.all(np.abs(np.log(y.std(0) / data.std(0))) < np.log(1.6))


@pytest.mark.parametrize("name", zoo.names())
def test_an_unknown_option_lists_the_valid_ones(name):
    with pytest.raises(ValueError, match=rf"'{name}' has no option 'optimiser'; its options are .*latent"):
        zoo.build(name, like=POINTS, optimiser="sgd")


def test_bad_calls_name_the_argument():
    with pytest.raises(ValueError, match="unknown variant 'wgangp'; did you mean 'wgan_gp'"):
        zoo.build("wgangp", like=POINTS)
    with pytest.raises(ValueError, match="unknown divergence 'sinkhron'; did you mean 'sinkhorn'"):
        zoo.build("generator", like=POINTS, divergence="sinkhron")
    with pytest.raises(ValueError, match=r"generator must map \(n, 16\) to \(n, 3\); of .* it made RuntimeError"):
        zoo.build("generator", like=POINTS, generator=torch.nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"encoder must map .*; of \(2, 3\) it made \(2, 5\)"):
        zoo.build("autoencoder", like=POINTS, encoder=torch.nn.Linear(3, 5))
    with pytest.raises(ValueError, match="lr must be positive: got -1"):
        zoo.build("generator", like=POINTS, lr=-1)
    with pytest.raises(ValueError, match="has no gradient to train with"):
        zoo.build("generator", like=POINTS, divergence=est.NearestNeighbor())
    with pytest.raises(TypeError, match="generator must be a torch.nn.Module: got str"):
        zoo.build("generator", like=POINTS, generator="mlp")
    with pytest.raises(ValueError, match="need a divergence with a critic"):
        zoo.build("generator", like=POINTS, divergence="mmd", constraint=est.R1())
    game = zoo.build("generator", like=POINTS)
    with pytest.raises(ValueError, match=r"points of shape \(3,\), as the game was built: got \(2,\)"):
        zoo.train(game, POINTS[:, :2], steps=1, **QUIET)
    with pytest.raises(ValueError, match="steps must be at least 1: got 0"):
        zoo.train(game, POINTS, steps=0, **QUIET)
    with pytest.raises(ValueError, match="batch must be at least 1: got -5"):
        zoo.train(game, POINTS, steps=1, batch=-5, **QUIET)
    with pytest.raises(ValueError, match='a mapping of streams needs "x": got a, b'):
        zoo.train(game, {"a": POINTS, "b": POINTS}, steps=1, **QUIET)
    with pytest.raises(ValueError, match="z must have n = 5 rows: got 3"):
        game.sample(5, z=np.zeros((3, 16)))
    with pytest.raises(ValueError, match="n must be at least 1: got 0"):
        game.sample(0)
    with pytest.raises(ValueError, match="no law 'c' to fix"):
        game.sample(2, c=1)
    bad = POINTS.copy()
    bad[3] = np.inf
    with pytest.raises(ValueError, match="data has 3 infinite or non-finite value"):
        zoo.build("generator", like=bad)
    with pytest.raises(ValueError, match="the Bernoulli likelihood needs images"):
        zoo.build("vae", like=POINTS, likelihood="bernoulli")


def test_a_law_can_be_fixed_when_sampling():
    game = zoo.build("generator", like=POINTS, latent=2)
    z = np.zeros((4, 2))
    y = game.sample(4, z=z)
    assert torch.equal(y[0], y[3])


def test_training_touches_no_global_state():
    torch.manual_seed(11)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    game = zoo.build("generator", like=POINTS, divergence="js")
    zoo.train(game, POINTS, steps=3, **QUIET)
    game.sample(3)
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads


def test_the_vaes_kl_and_likelihood_are_the_textbook_ones():
    game = zoo.build("vae", like=POINTS, latent=2)
    draw = draw_of(game)
    mean, log_variance = draw["posterior"].chunk(2, -1)
    terms = {term.name: draw.evaluate(term)[0] for term in game.plan.terms}
    kl = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(-1).mean()  # Kingma and Welling 2014, appendix B
    torch.testing.assert_close(terms["kl"], kl)
    likelihood = game.networks["likelihood"]
    normal = torch.distributions.Normal(likelihood.mean(draw["reconstruction"]), (likelihood.log_variance / 2).exp())
    torch.testing.assert_close(terms["nll"], -normal.log_prob(draw["x"]).sum(-1).mean())


@pytest.mark.parametrize("estimator", [est.AdversarialMMD(), est.DonskerVaradhan(), est.MinimaxGAN()], ids=repr)
def test_ranks_join_their_samples_where_a_critics_loss_is_no_mean_over_the_batch(estimator):
    """One of two ranks, whose other has drawn the same points plus 1."""
    game = zoo.build("generator", like=POINTS, divergence=estimator)
    critic, _ = game.plan.stages[0].phases
    x = torch.as_tensor(POINTS[:16])
    draw = Draw(game, 16, torch.Generator().manual_seed(0), {"x": x}, gather=lambda s: torch.cat([s, s + 1]))
    game.gradients(critic, draw, 0.0)
    y = draw["y"].detach()
    if not isinstance(estimator, est.MinimaxGAN):
        x, y = torch.cat([x, x + 1]), torch.cat([y, y + 1])
    network = game.networks["divergence"]
    for term in game.plan.terms:
        generator = torch.Generator().manual_seed(0)
        loss = network(x, y) if term.name == "divergence" else network.critic_loss(x, y, generator=generator)[0]
        torch.testing.assert_close(draw.evaluate(term)[0], loss)


VARIATIONAL = [name for name in est.names() if isinstance(est.as_estimator(name), est.Variational)]


@pytest.mark.parametrize("name", [*VARIATIONAL, "energy_distance"])
def test_an_f_divergence_object_does_what_its_name_does(name):
    by_name = zoo.build("generator", like=POINTS, divergence=name, seed=0)
    by_object = zoo.build("generator", like=POINTS, divergence=dv.get(name), seed=0)
    assert repr(by_name.networks["divergence"]) == repr(by_object.networks["divergence"])
