"""A training that was killed resumes bit for bit as if it had never stopped; checkpoints survive accidents."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

import estimators as est
import gan_zoo as zoo
from gan_zoo.game import Stage
from gan_zoo.train import _Training

QUIET = {"accelerator": "cpu", "progress": False}
POINTS = (
    np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32) @ np.diag([1.0, 5.0, 0.1]).astype(np.float32) + 7
)


def same(a, b):
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


VARIANTS = [(name, {}) for name in zoo.names() if name != "autoencoder"] + [
    ("generator", {"divergence": "sliced_wasserstein"}),
    ("generator", {"divergence": "wasserstein", "critic_steps": 2, "constraint": est.GradientPenalty(1.0)}),
    ("autoencoder", {"divergence": "js"}),
]


@pytest.mark.parametrize(
    ("name", "options"), VARIANTS, ids=[f"{n}-{'-'.join(map(str, o.values()))}" for n, o in VARIANTS]
)
def test_interrupted_and_resumed_is_bit_for_bit_the_same(name, options, tmp_path, monkeypatch):
    whole = zoo.build(name, like=POINTS, seed=1, **options)
    history = zoo.train(whole, POINTS, steps=12, seed=2, log_every=3, **QUIET)

    part = zoo.build(name, like=POINTS, seed=1, **options)
    calls = iter(range(100))
    step = zoo.train.__globals__["_Training"]._step

    def dies(training):
        if next(calls) == 7:
            raise RuntimeError("the power fails")
        return step(training)

    with monkeypatch.context() as patch:
        patch.setattr(zoo.train.__globals__["_Training"], "_step", dies)
        with pytest.raises(RuntimeError, match="the power fails"):
            zoo.train(part, POINTS, steps=12, seed=2, log_every=3, checkpoint_every=5, out=tmp_path, **QUIET)
    resumed, continued = zoo.resume(tmp_path, POINTS, **QUIET)
    assert same(whole, resumed)
    assert continued.rows == history.rows


def step_of(folder):
    try:
        return torch.load(folder / "checkpoint.pt", weights_only=True)["training"]["step"]
    except FileNotFoundError:
        return -1


def test_kill_9_and_resume(tmp_path):
    np.save(tmp_path / "data.npy", POINTS)
    command = [
        sys.executable, "-m", "gan_zoo.cli", "train", "generator", "--data", str(tmp_path / "data.npy"),
        "--divergence", "js", "--steps", "600", "--seed", "3", "--out", str(tmp_path / "run"), "--accelerator", "cpu",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while step_of(tmp_path / "run") < 60:  # the first checkpoint after the start comes at a tenth of the way
        assert time.monotonic() < deadline, "no checkpoint within two minutes"
        assert process.poll() is None, "the training ended before it could be killed"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL

    resumed, history = zoo.resume(tmp_path / "run", **QUIET)
    whole = zoo.build("generator", like=tmp_path / "data.npy", seed=3, divergence="js")
    expected = zoo.train(whole, tmp_path / "data.npy", steps=600, seed=3, **QUIET)
    assert same(whole, resumed)
    assert history.rows == expected.rows


def test_ctrl_c_saves_a_whole_step_and_resumes(tmp_path):
    np.save(tmp_path / "data.npy", POINTS)
    code = (
        "import os, signal, gan_zoo as zoo\n"
        "from gan_zoo.train import _Training\n"
        "step = _Training._step\n"
        "def interrupted(training):\n"
        "    if training.step == 20: os.kill(os.getpid(), signal.SIGINT)\n"
        "    return step(training)\n"
        "_Training._step = interrupted\n"
        f"data = {str(tmp_path / 'data.npy')!r}\n"
        "game = zoo.build('generator', like=data, divergence='energy_distance')\n"
        f"zoo.train(game, data, steps=3000, checkpoint_every=3000, out={str(tmp_path)!r}, progress=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in done.stderr
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (content["training"]["step"], content["training"]["draws"]) == (21, 21)  # the step it came in was finished


def test_sample_needs_the_checkpoint_alone(tmp_path):
    game = zoo.build("generator", like=POINTS, seed=0, divergence="energy_distance")
    zoo.train(game, POINTS, steps=5, out=tmp_path, **QUIET)
    assert torch.equal(zoo.load(tmp_path).sample(7, seed=4), game.sample(7, seed=4))
    assert not torch.equal(game.sample(7, seed=4), game.sample(7, seed=5))


def test_options_and_estimators_are_rebuilt_by_name(tmp_path):
    divergence = est.Variational("squared_hellinger", constraint=est.R1(0.3))
    game = zoo.build("generator", like=POINTS, divergence=divergence, latent=zoo.Uniform(4), batch=32)
    zoo.train(game, POINTS, steps=2, out=tmp_path, **QUIET)
    again = zoo.load(tmp_path)
    assert again.networks["divergence"].constraint == est.R1(0.3)
    assert again.networks["divergence"].divergence.name == "squared_hellinger"
    assert again.plan.batch == 32 and repr(again.laws["z"]) == "Uniform(dim=4)"


def test_own_modules_are_asked_for_by_name(tmp_path):
    own = torch.nn.Linear(16, 3)
    game = zoo.build("generator", like=POINTS, generator=own, divergence="energy_distance")
    assert game.networks["generator"] is not own  # deep-copied
    zoo.train(game, POINTS, steps=3, out=tmp_path, **QUIET)
    with pytest.raises(ValueError, match=r"your own 'generator': pass it as load\(dir, generator=…\)"):
        zoo.load(tmp_path)
    assert same(zoo.load(tmp_path, generator=own), game)


def test_a_damaged_or_foreign_checkpoint_is_named(tmp_path):
    game = zoo.build("generator", like=POINTS)
    zoo.train(game, POINTS, steps=2, out=tmp_path, **QUIET)
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(ValueError, match="checkpoint.pt cannot be read: it is damaged or not a checkpoint"):
        zoo.load(tmp_path)
    torch.save({"weights": torch.ones(2)}, file)
    with pytest.raises(ValueError, match="is not a checkpoint of this library"):
        zoo.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        zoo.load(tmp_path / "nowhere")


def test_a_crash_while_saving_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    game = zoo.build("generator", like=POINTS, divergence="energy_distance")
    zoo.train(game, POINTS, steps=4, out=tmp_path, **QUIET)
    before = zoo.load(tmp_path)

    def full(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space left"):
            zoo.train(game, POINTS, steps=4, out=tmp_path, **QUIET)
    assert same(zoo.load(tmp_path), before)


class Fragile(torch.nn.Linear):
    """A generator that breaks in its n-th call; `build` makes one call before."""

    def __init__(self, n):
        super().__init__(16, 3)
        self.left = n

    def forward(self, z):
        self.left -= 1
        return super().forward(z) * (float("nan") if self.left == 0 else 1.0)


def test_a_non_finite_loss_stops_with_the_terms_name_and_keeps_the_last_checkpoint(tmp_path):
    game = zoo.build("generator", like=POINTS, generator=Fragile(7), divergence="energy_distance")
    message = r"term 'divergence' of player 'generator' became nan at step 6; the checkpoint of step 4 is in"
    with pytest.raises(FloatingPointError, match=message):
        zoo.train(game, POINTS, steps=20, out=tmp_path, **QUIET)
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (kept["training"]["step"], kept["training"]["draws"]) == (4, 4)
    assert all(torch.isfinite(value).all() for value in kept["game"].values())


def test_a_critics_steps_before_the_break_are_not_in_the_checkpoint(tmp_path):
    """Three critic turns precede the model's in each step: the one kept is a whole step, all players together."""
    options = {"divergence": "js", "critic_steps": 3, "seed": 1}
    broken = zoo.build("generator", like=POINTS, generator=Fragile(1 + 4 * 5), **options)
    with pytest.raises(FloatingPointError, match="the checkpoint of step 4"):
        zoo.train(broken, POINTS, steps=20, out=tmp_path, **QUIET)
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["training"]
    assert (kept["step"], kept["draws"]) == (4, 16)


def test_a_folder_does_not_resume_an_earlier_training(tmp_path):
    first = zoo.build("generator", like=POINTS, divergence="mmd")
    zoo.train(first, POINTS, steps=3, out=tmp_path, **QUIET)
    second = zoo.build("generator", like=POINTS, generator=Fragile(2), divergence="sliced_wasserstein")
    with pytest.raises(FloatingPointError, match="checkpoint of step 0"):
        zoo.train(second, POINTS, steps=3, out=tmp_path, **QUIET)
    game = zoo.load(tmp_path, generator=Fragile(0))
    assert repr(game.networks["divergence"]).startswith("SlicedWasserstein")


def test_what_is_stored_cannot_be_overridden_and_own_modules_must_fit(tmp_path):
    game = zoo.build("generator", like=POINTS, generator=torch.nn.Linear(16, 3))
    zoo.train(game, POINTS, steps=2, out=tmp_path, **QUIET)
    with pytest.raises(ValueError, match="'lr' is stored in the checkpoint; own modules asked for: generator"):
        zoo.load(tmp_path, generator=torch.nn.Linear(16, 3), lr=5.0)
    with pytest.raises(ValueError, match=r"does not fit the modules given \(generator\)"):
        zoo.load(tmp_path, generator=torch.nn.Sequential(torch.nn.Linear(16, 4), torch.nn.Linear(4, 3)))


def test_other_data_are_not_resumed(tmp_path):
    game = zoo.build("generator", like=POINTS, divergence="energy_distance")
    zoo.train(game, POINTS, steps=3, out=tmp_path, **QUIET)
    with pytest.raises(ValueError, match="data are not those this training began with"):
        zoo.resume(tmp_path, POINTS + 1, **QUIET)


def test_numpy_numbers_are_numbers(tmp_path):
    game = zoo.build("generator", like=POINTS, lr=np.float64(1e-3), latent=np.int64(4), seed=np.int64(3))
    zoo.train(game, POINTS, steps=np.int64(2), seed=np.int64(1), batch=np.int32(32), out=tmp_path, **QUIET)
    assert same(zoo.load(tmp_path), game)


def test_an_estimator_of_ones_own_plugs_in_and_is_asked_for(tmp_path):
    class Mine(est.EnergyDistance):
        pass

    game = zoo.build("generator", like=POINTS, divergence=Mine())
    zoo.train(game, POINTS, steps=2, out=tmp_path, **QUIET)
    with pytest.raises(ValueError, match=r"your own 'divergence'"):
        zoo.load(tmp_path)
    assert same(zoo.load(tmp_path, divergence=Mine()), game)


def test_resume_in_a_second_stage(tmp_path):
    """Stages of 5 and 7 steps: a training that stopped at step 9 goes on in the second, with its optimizers."""

    def build():
        game = zoo.build("generator", like=POINTS, divergence="energy_distance", seed=1)
        (stage,) = game.plan.stages
        game.plan.stages = [Stage(stage.phases, 5), Stage(stage.phases, 7)]
        return game

    whole = build()
    zoo.train(whole, POINTS, steps=12, **QUIET)
    part = build()
    training = _Training(part, POINTS, settings(12), Fabric(accelerator="cpu", devices=1), tmp_path)
    for _ in range(9):
        training._step()
    training._save()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    again = build()
    again.load_state_dict(state["game"])
    rest = _Training(again, POINTS, settings(12), Fabric(accelerator="cpu", devices=1), None)
    rest.restore(state["training"])
    assert rest.stage == 1
    rest.run(False)
    assert same(whole, again)
    assert rest.optimizers["generator"].optimizer.state_dict()["state"][0]["step"] == 7  # Adam began afresh


def settings(steps):
    return {"steps": steps, "seed": 0, "batch": 128, "checkpoint_every": 100, "log_every": 20, "data": None}


def test_frozen_layers_of_ones_own_stay_frozen(tmp_path):
    own = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    own[0].requires_grad_(False)
    game = zoo.build("generator", like=POINTS, generator=own, divergence="energy_distance")
    zoo.train(game, POINTS, steps=3, **QUIET)
    first, last = game.networks["generator"][0], game.networks["generator"][2]
    assert torch.equal(first.weight, own[0].weight) and not first.weight.requires_grad
    assert not torch.equal(last.weight, own[2].weight) and last.weight.requires_grad


def test_mixed_precision_is_resumed_as_mixed_precision(tmp_path):
    whole = zoo.build("generator", like=POINTS, divergence="sliced_wasserstein", seed=1)
    zoo.train(whole, POINTS, steps=6, precision="bf16-mixed", out=tmp_path / "a", **QUIET)
    content = torch.load(tmp_path / "a" / "checkpoint.pt", weights_only=True)
    assert content["training"]["settings"]["precision"] == "bf16-mixed"
    with pytest.raises(ValueError, match="precision must be one of 32-true, bf16-mixed: got '16-true'"):
        zoo.train(whole, POINTS, steps=1, precision="16-true", **QUIET)


def test_the_command_line_reports_json_and_one_line_errors(tmp_path, capsys):
    from gan_zoo.cli import main

    np.save(tmp_path / "data.npy", POINTS)
    out = str(tmp_path / "run")
    train = ["train", "generator", "--data", str(tmp_path / "data.npy"), "--steps", "3", "--out", out, "--json"]
    assert main(train) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 3
    assert main(["sample", out, "-n", "5", "--out", str(tmp_path / "s.npy")]) == 0
    assert np.load(tmp_path / "s.npy").shape == (5, 3)
    capsys.readouterr()
    bad = POINTS.copy()
    bad[5, 1] = np.nan
    np.save(tmp_path / "bad.npy", bad)
    for arguments, message in [
        (["train", "generatr", "--data", str(tmp_path / "data.npy")], "did you mean 'generator'?"),
        (["train", "generator", "--data", str(tmp_path / "none.npy")], "no such file or folder"),
        (["train", "generator", "--data", str(tmp_path / "bad.npy")], "NaN"),
        (["train", "generator", "--data", str(tmp_path / "data.npy"), "--divergence", "mdd"], "did you mean 'mmd'?"),
        (["sample", str(tmp_path / "nowhere"), "--out", str(tmp_path / "s.npy")], "no checkpoint in"),
        (["sample", out, "--out", str(tmp_path / "s.gif")], "must end in .npy or .png"),
        (["sample", out, "--out", str(tmp_path / "s.png")], "images must have shape"),
    ]:
        assert main(arguments) == 2
        error = capsys.readouterr().err.strip()
        assert error.count("\n") == 0 and message in error, error
