"""Two processes train one model: the ranks agree to the last bit, and what they learn is right."""

import json
import subprocess
import sys

import pytest

CODE = """
import json, os, sys
import numpy as np, torch
import estimators as est, gan_zoo as zoo
divergence = getattr(est, sys.argv[1])() if hasattr(est, sys.argv[1]) else sys.argv[1]
points = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32) + 5
game = zoo.build("generator", like=points, divergence=divergence, seed=0, batch=32)
x = torch.as_tensor(points)
before = est.EnergyDistance()(x, game.sample(400, seed=1)).item()
zoo.train(game, points, steps=int(sys.argv[3]), seed=0, accelerator="cpu", devices=2, progress=False)
after = est.EnergyDistance()(x, game.sample(400, seed=1)).item()
weights = [value.double().sum().item() for value in game.state_dict().values()]
with open(f"{sys.argv[2]}/rank{os.environ.get('LOCAL_RANK', '0')}.json", "w") as file:
    json.dump({"before": before, "after": after, "weights": weights}, file)
"""


def on_two_ranks(divergence, steps, folder):
    (folder / "train.py").write_text(CODE)
    command = [sys.executable, str(folder / "train.py"), divergence, str(folder), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("divergence", ["energy_distance", "js"])  # pooled samples; a mean over the batch with a critic
def test_two_ranks_agree_and_learn(divergence, tmp_path):
    first, second = on_two_ranks(divergence, 100, tmp_path)
    assert first == second
    assert first["after"] < first["before"] / 10


def test_a_controller_moves_alike_on_two_ranks(tmp_path):
    """BEGAN's k, a buffer that follows the metrics of each step and not its gradients."""
    first, second = on_two_ranks("BoundaryEquilibrium", 10, tmp_path)
    assert first == second
