"""The evidence: pieces run, the kept results say what is claimed, and pictures and page are those of the results."""

import json
import math

import numpy as np
import pytest
import torch

import estimators as est
from benchmarks import results
from benchmarks.evidence import page, parallel_lines, pictures, vanishing_gradient
from benchmarks.pages import made


class Sloped(torch.nn.Module):
    """V(u) = 3u₁ + 4u₂ + 1, whose gradient has norm 5."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))

    def forward(self, points):
        return points @ self.weight + 1


@pytest.mark.parametrize(
    ("loss", "slope"),
    [
        (est.MinimaxGAN, lambda v: 0.5 / (1 + np.exp(-v))),  # of −½ log(1 − σ(v))
        (est.NonSaturatingGAN, lambda v: 1 / (1 + np.exp(v))),  # of −log σ(v)
        (est.KantorovichRubinstein, np.ones_like),
    ],
)
def test_the_gradient_of_a_point_is_its_losses_derivative_and_no_mean_over_the_batch(loss, slope):
    y = torch.linspace(-2, 2, 10).reshape(5, 2)
    v = y.numpy() @ np.array([3.0, 4.0]) + 1
    found = vanishing_gradient.gradient_norm(loss(Sloped()), torch.zeros(3, 2), y)
    assert found == pytest.approx(5 * slope(v).mean(), rel=1e-5)


def test_the_minimax_gradient_falls_and_that_of_wasserstein_critics_does_not():
    found = vanishing_gradient.measure(steps=(0, 20, 150), seeds=(0,))
    assert found["truth"] == pytest.approx({"js": math.log(2), "wasserstein": 0.5}, abs=1e-12)
    claims = found["claims"]
    assert claims["minimax"]["largest_over_last"][0] > 100
    assert claims["non_saturating"]["first_over_last"][0] < 0.1
    for critic in ("gradient_penalty", "group_sort"):
        assert 0.8 < claims[critic]["last"] < 1.2 and claims[critic]["largest_over_last"][0] < 2
    assert max(map(max, found["gradient"]["group_sort"])) <= 1 + 1e-5  # 1-Lipschitz by proof
    assert max(map(max, found["value"]["group_sort"])) <= 0.5 + 3 * 0.01  # E f − E f of 512 points, sd of f ≤ 0.2
    assert np.array(found["accuracy"])[:, -1] == 1
    assert vanishing_gradient.draw(found).axes and "factor" in vanishing_gradient.reading(found)


def test_parallel_lines_say_what_is_infinite_and_what_was_refused(monkeypatch):
    monkeypatch.setattr(parallel_lines, "TRAINING", 100)
    found = parallel_lines.measure(thetas=(-0.5, 0.0, 0.5), n=60)
    json.dumps(found, allow_nan=False)
    _, same, apart = found["rows"]
    assert same["exact"] == {"kl": 0.0, "total_variation": 0.0, "js": 0.0, "wasserstein": 0.0}
    assert apart["exact"] == pytest.approx(
        {"kl": "inf", "total_variation": 1.0, "js": math.log(2), "wasserstein": 0.5}, abs=1e-12
    )
    kl = apart["estimated"]["kl"]["estimate"]
    assert kl["bound"] == "lower" and kl["interval"][1] == "inf"
    for row in found["rows"]:
        for method in (m for by_method in row["estimated"].values() for m in by_method.values()):
            assert method["interval"] is not None or any(note.startswith("no interval") for note in method["notes"])
    assert parallel_lines.draw(found).axes and parallel_lines.reading(found)


def test_the_kept_gradients_hold_in_every_seed():
    found = results.read("vanishing_gradient")
    assert len(found["seeds"]) >= 5 and found["claims"] == {
        name: vanishing_gradient.claim(np.array(norms)) for name, norms in found["gradient"].items()
    }
    assert found["claims"]["minimax"]["first_over_last"][1] > 1e3  # the least over seeds: orders of magnitude
    for critic in ("gradient_penalty", "group_sort"):
        assert found["claims"][critic]["largest_over_last"][2] < 1.5


def test_the_kept_sweep_counts_its_own_intervals():
    found = results.read("parallel_lines")
    assert found["claims"] == parallel_lines.claims(found["rows"])
    assert [row["exact"] for row in found["rows"]] == [parallel_lines.exact(row["theta"]) for row in found["rows"]]


@pytest.mark.parametrize("name", page.PICTURED)
def test_the_picture_is_drawn_from_the_kept_result(name):
    assert pictures.source(name) == pictures.digest(results.read(name)), f"run `python -m benchmarks.evidence {name}`"


def test_the_page_is_made_from_the_results():
    text = page.PAGE.read_text()
    assert made(text, page.SECTIONS) == text, "run `make evidence`"
    assert all(f"<!-- {name} -->" in text and f"<!-- end {name} -->" in text for name in page.SECTIONS)
