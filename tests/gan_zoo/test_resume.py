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

import estimators as est
import gan_zoo as zoo

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


def test_kill_9_and_resume(tmp_path):
    np.save(tmp_path / "data.npy", POINTS)
    command = [
        sys.executable, "-m", "gan_zoo.cli", "train", "generator", "--data", str(tmp_path / "data.npy"),
        "--divergence", "js", "--steps", "600", "--seed", "3", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoint.pt").exists():  # the first checkpoint comes at a tenth of the way
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
        "import os, signal, threading, sys, gan_zoo as zoo\n"
        f"data = {str(tmp_path / 'data.npy')!r}\n"
        "game = zoo.build('generator', like=data, divergence='energy_distance')\n"
        "threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        f"zoo.train(game, data, steps=3000, checkpoint_every=3000, out={str(tmp_path)!r}, progress=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in done.stderr
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert 0 < content["training"]["step"] < 3000


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


def test_a_non_finite_loss_stops_with_the_terms_name_and_keeps_the_last_good_state(tmp_path):
    class Fragile(torch.nn.Linear):
        calls = 0

        def forward(self, z):
            Fragile.calls += 1
            return super().forward(z) * (float("nan") if Fragile.calls == 6 else 1.0)

    game = zoo.build("generator", like=POINTS, generator=Fragile(16, 3), divergence="energy_distance")
    with pytest.raises(
        FloatingPointError, match=r"term 'divergence' of player 'generator' became nan at step 6; the last"
    ):
        zoo.train(game, POINTS, steps=20, out=tmp_path, **QUIET)
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert kept["training"]["step"] == 5
    assert all(torch.isfinite(value).all() for value in kept["game"].values())


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
