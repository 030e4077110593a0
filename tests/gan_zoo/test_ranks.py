"""Two processes train one model: the ranks agree to the last bit, and what they learn is right."""

import json
import subprocess
import sys

import pytest

CODE = """
import json, os, sys
import numpy as np, torch
import estimators as est, gan_zoo as zoo
points = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32) + 5
game = zoo.build("generator", like=points, divergence=sys.argv[1], seed=0, batch=32)
x = torch.as_tensor(points)
before = est.EnergyDistance()(x, game.sample(400, seed=1)).item()
zoo.train(game, points, steps=100, seed=0, accelerator="cpu", devices=2, progress=False)
after = est.EnergyDistance()(x, game.sample(400, seed=1)).item()
weights = [p.double().sum().item() for p in game.parameters()]
with open(f"{sys.argv[2]}/rank{os.environ.get('LOCAL_RANK', '0')}.json", "w") as file:
    json.dump({"before": before, "after": after, "weights": weights}, file)
"""


@pytest.mark.parametrize("divergence", ["energy_distance", "js"])  # pooled samples; a mean over the batch with a critic
def test_two_ranks_agree_and_learn(divergence, tmp_path):
    (tmp_path / "train.py").write_text(CODE)
    command = [sys.executable, str(tmp_path / "train.py"), divergence, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert first["after"] < first["before"] / 10
