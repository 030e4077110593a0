"""`make readme`: the README's tables, made from `benchmarks/results/`. ``--check`` says whether they are up to date."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks import results
from benchmarks.accuracy import TITLES
from benchmarks.accuracy.goals import GOALS
from benchmarks.pages import ROOT, main, table
from estimators.report import number


def source(found: dict[str, Any]) -> str:
    machine = found["machine"]
    return (
        f"Measured by `{found['command']}` on {machine['processor']}, {machine['cores']} cores, "
        f"Python {machine['python']}, torch {machine['versions']['torch']}, {machine['measured']}."
    )


def demo(found: dict[str, Any]) -> str:
    compared = []
    for name, comparison in found["comparisons"].items():
        joint = {row["metric"]: row for row in comparison["joint"]}
        test, mmd, sliced = joint["test of equality"], joint["MMD²"], joint["sliced Wasserstein W2"]
        compared.append([
            name, number(test["p"]), f"{number(mmd['statistic'])} {interval(mmd['interval'])}",
            f"{number(sliced['statistic'])} {interval(sliced['interval'])}",
        ])  # fmt: skip
    floor = found["floor"]
    trained = [["other real digits", "–", "–", "–", value(floor["sliced_wasserstein"]), p_value(floor)]]
    for model in found["models"]:
        before, after = model["before"]["sliced_wasserstein"], model["after"]["sliced_wasserstein"]
        trained.append([
            model["title"], str(model["steps"]), f"{model['seconds']:.0f}", number(before["value"]), value(after),
            p_value(model["after"]),
        ])  # fmt: skip
    return "\n\n".join([
        table(["samples", "p (999 permutations)", "MMD² [95%]", "sliced W2 [95%]"], compared),
        table(["model", "steps", "seconds", "sliced W2 before", "sliced W2 [95%]", "two-sample p"], trained),
        f"Distances are to held-out digits, in pixel values. The demo took {found['seconds']:.0f} s. " + source(found),
    ])  # fmt: skip


def accuracy(found: dict[str, Any]) -> str:
    rows, goals = [], []
    for goal in TITLES:
        measured = found["goals"].get(goal, {"rows": [], "tier": "full"})
        verdicts = [row["met"] for row in measured["rows"]]
        left = len(list(GOALS[goal](measured["tier"] == "full"))) - len(verdicts)
        counts = [str(verdicts.count(v)) for v in (True, False, None)]
        goals.append([goal, TITLES[goal], *counts, str(left), measured["tier"] if verdicts else "–"])
        for row in measured["rows"]:
            met = {True: "met", False: "**short**", None: "undecided"}[row["met"]]
            cells = [goal, row["problem"], row["method"], str(row["n"]), row["figure"], row["bar"] or "–", met]
            rows.append([cell.replace("|", "\\|") for cell in cells] + [str(row["repetitions"])])
    heads = ["goal", "problem", "method", "n", "figure", "bar", "", "repetitions"]
    machines = {source({**found, "machine": measured["machine"]}) for measured in found["goals"].values()}
    return "\n\n".join([
        table(["goal", "what", "rows met", "short", "undecided", "not measured", "repetitions"], goals),
        "<details><summary>Every row: figure, bar and repetitions</summary>",
        table(heads, rows),
        "</details>",
        " ".join(sorted(machines)),
    ])  # fmt: skip


def exact_speed(found: dict[str, Any]) -> str:
    passes: dict[str, list[str]] = {}
    for row in found["rows"]:
        name, reference = row["name"].split(" / ")
        passes.setdefault(name, [f"{row['milliseconds']:.0f}"]).append(f"{row['ratio']:.1f}")
    heads = ["probability vectors", "ms", "of (p·q).sum(-1)", "of p.log()"]
    pairs = [
        [row["name"], f"{row['milliseconds']:.0f}", f"{row['reference']:.0f}", f"{1 / row['ratio']:.0f}"]
        for row in found["gaussians"]
    ]
    return "\n\n".join([
        table(heads, [[name, *cells] for name, cells in passes.items()]),
        table(["10,000 pairs of Gaussians, d = 16", "batch, ms", "loop, ms", "times faster"], pairs),
        f"Medians of calls in turn, {found['threads']} threads. " + source(found),
    ])  # fmt: skip


def speed(found: dict[str, Any]) -> str:
    return timed(found, f"Medians of calls in turn, {found['threads']} threads. ")


def gpu(found: dict[str, Any]) -> str:
    """Bars are those of an H200: another GPU's figures are held to none."""
    device = found["device"]
    about = f"Medians, by the clock of {device['gpu']}, driver {device['driver']}, CUDA {device['cuda']}, Triton "
    rows = found["rows"]
    if "H200" not in device["gpu"]:
        rows = [
            row | {"verdict": "–" if row["verdict"] in ("must", "stretch", "short") else row["verdict"]} for row in rows
        ]
    return timed(found | {"rows": rows}, f"{about}{device['triton']}. ")


def timed(found: dict[str, Any], about: str) -> str:
    """Seconds, bars and verdicts, whatever they were taken on."""
    rows = []
    for row in found["rows"]:
        ours, unit = row["seconds"].get("ours"), row["unit"]
        others = "; ".join(f"{name} {number(value)}" for name, value in row["seconds"].items() if name != "ours")
        bars = ", ".join(f"{bar:g}{unit}" for bar in (row["must"], row["stretch"]) if bar is not None)
        rows.append([
            row["key"], row["title"], "–" if ours is None else number(ours), others or "–",
            "–" if row["figure"] is None else f"{row['figure']:.3g}{unit}", bars,
            row["verdict"] if row["verdict"] in ("must", "stretch", "–") else f"**{row['verdict']}**",
            row["note"] or "–",
        ])  # fmt: skip
    heads = ["", "what", "ours, s", "others, s", "figure", "must, stretch", "reached", "checked"]
    left = ", ".join(found["not_measured"])
    return "\n\n".join([
        table(heads, rows),
        about + (f"Not measured: {left}. " if left else "") + source(found),
    ])  # fmt: skip


def stacked_speed(found: dict[str, Any]) -> str:
    """Whether 64 critics are trained five times as fast as one by one."""
    rows = [
        [row["estimator"], str(row["batch"]), f"{row['loop_seconds']:.1f}", f"{row['stack_seconds']:.1f}",
         f"{row['ratio']:.1f}", f"{row['largest_difference']:.0e}", "met" if row["ratio"] >= 5 else "**short**"]
        for row in found["rows"]
    ]  # fmt: skip
    heads = ["critic", "batch", "loop, s", "stack, s", "times faster", "values differ by", "bar: 5 times"]
    about = f"{found['critics']} critics on {found['points']} points each, {found['steps']} steps. "
    return "\n\n".join([table(heads, rows), about + source(found)])


def growth(found: dict[str, Any]) -> str:
    """The two pictures, how many times as fast ours is at the largest size of each peer, and what is not in them."""
    rows, outside = [], [f"not installed: {name}" for name in found["absent"]]
    for family in found["families"] + found["batches"]:
        ours = dict(zip(*(family["curves"][0][key] for key in ("sizes", "seconds")), strict=True))
        for k, curve in enumerate(family["curves"]):
            outside += [
                f"{family['title']}: {curve['name']} at {family['size']} = {row['size']:,}, {row['apart']} apart"
                for row in curve["left_out"]
            ]
            if not curve["sizes"]:
                rows.append([family["title"], curve["name"], "–", "–", "–", curve["end"] or "–"])
                continue
            size, seconds = curve["sizes"][-1], curve["seconds"][-1]
            ratio = "–" if k == 0 else f"{seconds / ours[size]:.3g}×"
            reached = f"{family['size']} = {size:,}"
            rows.append([family["title"], curve["name"], reached, number(seconds), ratio, curve["end"] or "–"])
    families = found["families"] + found["batches"]
    tolerances = "; ".join(f"{family['title']}: {family['tolerance']:g}" for family in families)
    heads = ["what", "who", "largest size", "seconds", "ours is faster there", "why it ends"]
    about = (
        f"Each curve ends before a call that is expected to take {found['limits']['seconds']:g} s or "
        f"{found['limits']['bytes'] / 1e9:g} GB; none is extrapolated. A point counts only where its answer is ours "
        f"to a tolerance ({tolerances}), of its largest number. ε of transport is a hundredth of the "
        f"mean cost. Left out: {'; '.join(outside) or 'none'}. Threads: {found['threads']}. "
    )
    return "\n\n".join([
        "![Time against the number of points](benchmarks/results/growth.png)",
        "![Time against the number of problems](benchmarks/results/growth_batches.png)",
        "<details><summary>Where each curve ends</summary>",
        table(heads, rows),
        "</details>",
        about + source(found),
    ])  # fmt: skip


def training_steps(found: dict[str, Any]) -> str:
    """Milliseconds of a step before and after the library, and its memory."""
    rows = []
    for case in found["cases"]:
        for row in case["rows"]:
            before, after = (number(1e3 * row["seconds"][name]) for name in ("before", "after"))
            last = row is case["rows"][-1]
            mib = " → ".join(f"{case['mib'][name]:.0f}" for name in ("before", "after")) if last else "–"
            apart = f"{row['values_apart']:.0e}, {row['gradients_apart']:.0e}"
            ratio = f"{row['ratio']:.3g}×" if row["agree"] else "**not equal**"
            rows.append([case["title"], str(row["n"]), before, after, ratio, mib, apart])
    heads = [
        "loss and its gradient",
        "n",
        "before, ms",
        "after, ms",
        "times faster",
        "peak MiB",
        "value, gradient apart",
    ]
    return "\n\n".join([table(heads, rows), f"Medians of steps in turn, {found['threads']} threads. " + source(found)])


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "demo": demo,
    "accuracy": accuracy,
    "speed": speed,
    "gpu": gpu,
    "growth": growth,
    "training_steps": training_steps,
    "stacked_speed": stacked_speed,
    "exact_speed": exact_speed,
}


def interval(limits: Sequence[float] | None) -> str:
    return "(no interval)" if limits is None else f"[{number(limits[0])}, {number(limits[1])}]"


def value(estimate: dict[str, Any]) -> str:
    return f"{number(estimate['value'])} {interval(estimate['interval'])}"


def p_value(answers: dict[str, Any]) -> str:
    return number(answers["test"]["p_value"])


def section(name: str) -> str:
    """The table of a result, or that there is none."""
    found = results.read(name)
    return TABLES[name](found) if found else "Not measured yet."


SECTIONS = {name: partial(section, name) for name in TABLES}

if __name__ == "__main__":
    sys.exit(main(ROOT / "README.md", SECTIONS))
