"""The console script ``gan-zoo``: names, train, resume, sample."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from estimators.console import Parser, run
from estimators.writing import write_atomically
from gan_zoo.checkpoint import FILE

_EXAMPLES = """examples:
  gan-zoo names
  gan-zoo train generator --data images.npy --divergence sinkhorn --steps 2000 --out runs/a
  gan-zoo resume runs/a
  gan-zoo sample runs/a -n 64 --out samples.png
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0, or 2 with one line on standard error, or 130 when interrupted."""
    return run(_parser(), argv)


def _parser() -> Parser:
    parser = Parser(
        prog="gan-zoo",
        description="Train a generator or an auto-encoder with a divergence of your choice, and sample from it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="names | train | resume | sample")

    names = commands.add_parser("names", help="list the variants and the divergences")
    names.add_argument("--json", action="store_true", help="print JSON")
    names.set_defaults(run=_names)

    train = commands.add_parser("train", help="train a variant on data", epilog=_EXAMPLES,
                                formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    train.add_argument("name", metavar="NAME", help="a variant; `gan-zoo names` lists them")
    train.add_argument("--data", required=True, help=".npy or .npz file, or a folder of images")
    train.add_argument("--divergence", help="what is minimised, for the variants that let you choose")
    train.add_argument("--steps", type=int, default=2000, help="generator steps (default 2000)")
    train.add_argument("--batch", type=int, help="points a minibatch (default: the variant's)")
    train.add_argument("--lr", type=float, help="learning rate (default: the variant's)")
    train.add_argument("--latent", type=int, help="latent coordinates (default: the variant's)")
    train.add_argument("--seed", type=int, default=0, help="of weights, minibatches and noise (default 0)")
    train.add_argument("--out", default="runs/latest", help="folder of the checkpoint (default runs/latest)")
    _device(train)
    train.add_argument("--json", action="store_true", help="print the last row of the history as JSON")
    train.set_defaults(run=_train)

    resume = commands.add_parser("resume", help="continue an interrupted training to its last step")
    resume.add_argument("dir", metavar="DIR", help="the folder given to train --out")
    resume.add_argument("--data", help="the data, where the training did not have a path or it has moved")
    _device(resume)
    resume.add_argument("--json", action="store_true", help="print the last row of the history as JSON")
    resume.set_defaults(run=_resume)

    sample = commands.add_parser("sample", help="sample from a trained model; the data are not needed")
    sample.add_argument("dir", metavar="DIR", help="the folder given to train --out")
    sample.add_argument("-n", type=int, default=64, help="how many (default 64)")
    sample.add_argument("--seed", type=int, default=0, help="of the sample (default 0)")
    sample.add_argument("--out", required=True, help="a .npy file, or .png for a grid of images")
    sample.set_defaults(run=_sample)
    return parser


def _device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--accelerator", default="auto", help="auto, cpu or cuda (default auto)")


def _names(options: argparse.Namespace) -> int:
    import estimators as est
    import gan_zoo as zoo

    if options.json:
        print(json.dumps({"variants": zoo.names(), "divergences": est.names()}))
        return 0
    print("variants:    " + " ".join(zoo.names()))
    print("divergences: " + " ".join(est.names()))
    return 0


def _train(options: argparse.Namespace) -> int:
    import gan_zoo as zoo

    chosen = {name: getattr(options, name) for name in ("divergence", "batch", "lr", "latent")}
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    game = zoo.build(options.name, like=options.data, seed=options.seed, **given)
    with _resumable(options.out):
        history = zoo.train(
            game, options.data, steps=options.steps, seed=options.seed, out=options.out, accelerator=options.accelerator
        )
    return _report(history, options.out, options.json)


def _resume(options: argparse.Namespace) -> int:
    import gan_zoo as zoo

    with _resumable(options.dir):
        _, history = zoo.resume(options.dir, options.data, accelerator=options.accelerator)
    return _report(history, options.dir, options.json)


@contextlib.contextmanager
def _resumable(folder: str) -> Iterator[None]:
    """Say how to go on where a training is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        if (Path(folder) / FILE).exists():
            print(f"\ncheckpoint in {folder}; go on with: gan-zoo resume {folder}", file=sys.stderr)
        raise


def _report(history: Any, out: str, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"out": out, **history.rows[-1]}))
    else:
        print(f"{history!r}\ncheckpoint in {out}; sample with: gan-zoo sample {out} -n 64 --out samples.npy")
    return 0


def _sample(options: argparse.Namespace) -> int:
    import gan_zoo as zoo
    from estimators.report.page import png
    from gan_zoo.pictures import mosaic

    out = Path(options.out)
    if out.suffix not in (".npy", ".png"):
        raise ValueError(f"--out must end in .npy or .png: got {options.out!r}")
    samples = zoo.load(options.dir).sample(options.n, seed=options.seed).numpy()
    if out.suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, samples)
        content = buffer.getvalue()
    else:
        colour = samples.ndim == 4 and samples.shape[1] == 3
        content = png(np.kron(mosaic(samples), np.ones((4, 4, 1) if colour else (4, 4))))  # four dots a pixel
    write_atomically(out, content)
    print(f"{len(samples)} samples of shape {samples.shape[1:]} in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
