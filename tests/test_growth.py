"""Growth and training steps: what is timed is right, curves end where they must, and pictures are those of results."""

import json

import numpy as np
import pytest
import torch

from benchmarks import growth, growth_families, growth_pictures, readme, results, training_steps
from benchmarks.evidence import pictures
from benchmarks.growth_families import BATCHES, FAMILIES, Family, Method
from divergences.kernels import Gaussian
from estimators.ops import native, pairwise

EVERY = {family.key: family for family in FAMILIES + BATCHES}
TINY = {"n": (40, 80), "B": (1, 3)}


def family(*methods):
    return Family("key", "title", "n", 1, 1e-3, lambda n: (n,), methods)


def method(name, answer, bytes=lambda n: 8 * n):
    return Method(name, lambda n: lambda: answer(n), bytes)


@pytest.mark.parametrize("key", EVERY)
def test_peers_that_are_installed_answer_as_ours(key):
    given = EVERY[key]
    # Of fewer points the values of geomloss are coarser: it has no rule to stop, and is left out there.
    for curve in growth.measured(given, TINY[given.size])["curves"]:
        if curve["name"] != "geomloss":
            assert curve["sizes"] == list(TINY[given.size]) and not curve["left_out"] and not curve["end"], curve


def test_ours_are_the_sums_and_distances_that_the_titles_say():
    x, y = growth_families.drawn(30)
    gaps = x.double()[:, None].numpy() - y.double().numpy()
    K = np.exp(-np.square(gaps).sum(-1) / 20)
    assert growth_families.pair_sum(x, y) == pytest.approx(K.sum(), rel=1e-6)
    found = EVERY["neighbours"].methods[0].prepared(y.double(), x.double())()
    assert found == pytest.approx(np.sort(np.linalg.norm(gaps, axis=-1), axis=1)[:, :5], rel=1e-12)
    x, y = growth_families.on_the_line(30)
    gaps = np.sort(x[:, 0].numpy()) - np.sort(y[:, 0].numpy())
    assert EVERY["line"].methods[0].prepared(x, y)() == pytest.approx(np.abs(gaps).mean(), rel=1e-12)


def test_a_curve_ends_before_a_call_that_is_expected_to_be_too_long(monkeypatch):
    clock = {"now": 0.0}
    ran = []

    def now():
        clock["now"] += 1e-6
        return clock["now"]

    def slow(n):
        ran.append(n)
        clock["now"] += n / 10  # seconds
        return 1.0

    monkeypatch.setattr(growth.time, "perf_counter", now)
    found = growth.measured(family(method("ours", lambda n: 1.0), method("peer", slow)), (1, 10, 100, 1000), limit=50)
    ours, peer = found["curves"]
    assert ours["sizes"] == [1, 10, 100, 1000] and ours["end"] == ""
    assert peer["sizes"] == [1, 10, 100] and peer["end"] == "100 s expected at 1000" and max(ran) == 100
    assert peer["seconds"] == pytest.approx([0.1, 1, 10], rel=1e-3)


def test_what_grows_faster_than_the_family_is_expected_to_go_on_so():
    curve = growth.Curve(method("ours", lambda n: 1.0), family())
    curve.sizes, curve.seconds = [10, 100], [0.01, 10.0]  # n³
    assert curve.expected(1000) == pytest.approx(10_000)


def test_memory_errors_and_wrong_answers_are_left_out_and_named():
    def fails(n):
        raise RuntimeError("no room")

    given = family(
        method("ours", lambda n: [1.0, 2.0]),
        method("wrong", lambda n: [1.0, 2.0 if n < 20 else 2.1]),
        method("none", lambda n: [1.0, float("nan")]),
        method("large", lambda n: [1.0, 2.0], lambda n: 1e10 * n),
        method("broken", fails),
    )
    ours, wrong, none, large, broken = growth.measured(given, (1, 10, 100))["curves"]
    assert ours["sizes"] == [1, 10, 100]
    assert wrong["sizes"] == [1, 10] and wrong["left_out"] == [{"size": 100, "apart": "0.05"}]
    assert none["sizes"] == [] and [row["apart"] for row in none["left_out"]] == ["nan"] * 3
    assert large["sizes"] == [1] and large["end"] == "100 GB estimated at 10"
    assert broken["sizes"] == [] and broken["end"] == "RuntimeError at 1: no room"


def test_without_an_answer_of_ours_no_peer_goes_on():
    given = family(method("ours", lambda n: 1.0, lambda n: 1e10 * n), method("peer", lambda n: 1.0))
    ours, peer = growth.measured(given, (1, 10))["curves"]
    assert ours["sizes"] == peer["sizes"] == [1] and peer["end"] == "no answer of ours at 10"
    with pytest.raises(RuntimeError, match="ours"):
        growth.measured(family(Method("ours", lambda n: (_ for _ in ()).throw(RuntimeError("ours")), float)), (1,))


def test_it_is_drawn_and_told():
    found = {
        "families": [],
        "batches": [],
        "absent": ["OTT (ott)"],
        "threads": 1,
        "limits": {"seconds": 20, "bytes": 1e9},
    }
    for name, key in (("families", "line"), ("batches", "mmds")):
        found[name].append(growth.measured(EVERY[key], TINY[EVERY[key].size]))
    json.dumps(found, allow_nan=False)
    for part in growth_pictures.PICTURES.values():
        assert len(growth_pictures.draw(found, part).axes) == 2
    text = readme.growth({**found, "command": "make bench", "machine": results.machine()})
    assert "SciPy" in text and "OTT (ott)" in text and "none is extrapolated" in text


def test_labels_do_not_cover_each_other():
    placed = sorted(growth_pictures.spread([0.5, 0.5, 0.5, 0.99, 1.0]))
    assert min(np.diff(placed)) >= growth_pictures.APART - 1e-12 and 0 <= placed[0] and placed[-1] <= 1


@pytest.mark.parametrize("name", growth_pictures.PICTURES)
def test_the_picture_is_drawn_from_the_kept_result(name):
    found = results.read(growth_pictures.RESULT)
    if found is None:
        pytest.skip("growth is not measured")
    assert pictures.source(name) == pictures.digest(found), "run `python -m benchmarks.growth --draw`"


@pytest.mark.skipif(native.library() is None, reason="the library is not built")
@pytest.mark.parametrize("name", training_steps.CASES)
def test_a_step_is_the_same_before_and_after(name):
    case = training_steps.CASES[name]
    assert training_steps.measured(case, 70, repeats=1)["agree"]


@pytest.mark.skipif(native.library() is None, reason="the library is not built")
def test_before_is_torch_and_after_the_library():
    x, y = torch.randn(2, 300, 3, generator=torch.Generator().manual_seed(0))
    with training_steps.way("before"):
        assert pairwise.explain(Gaussian(1.0), x, y).path == "tiled"
    with training_steps.way("after"):
        assert pairwise.explain(Gaussian(1.0), x, y).path == "native"


def test_steps_are_told_and_those_that_differ_are_not_counted():
    rows = [
        {"n": n, "seconds": {"before": 0.2, "after": 0.1}, "ratio": 2.0, "values_apart": 0.0, "gradients_apart": 0.0,
         "agree": n < 200}
        for n in (100, 200)
    ]  # fmt: skip
    case = {"name": "a", "title": "A", "rows": rows, "mib": {"before": 9.0, "after": 1.0}}
    text = readme.training_steps({"cases": [case], "threads": 1, "command": "c", "machine": results.machine()})
    assert "| A | 100 | 200 | 100 | 2× | – |" in text and "**not equal** | 9 → 1 |" in text


@pytest.mark.parametrize("name", ["growth", "training_steps"])
def test_sections_say_where_nothing_is_measured(name, monkeypatch, tmp_path):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    assert readme.section(name) == "Not measured yet."
