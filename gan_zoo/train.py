"""The one training loop. Fabric gives launch, device, precision and optimizers; gradients are taken by the game.

All randomness of a step comes from (seed, draw counter, rank) and minibatch i is a function of (seed, i). So a
checkpoint needs no random state, and a training that was killed resumes as if it had never stopped.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from estimators.neural.fitting import few_threads
from gan_zoo import checkpoint
from gan_zoo.data import Minibatches, fingerprint, mix, streams
from gan_zoo.game import Draw, Game, Metrics, Phase, Stage
from gan_zoo.history import History

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PRECISIONS = ("32-true", "bf16-mixed")


def train(
    game: Game,
    data: Any,
    *,
    steps: int = 2000,
    seed: int = 0,
    out: str | Path | None = None,
    batch: int | None = None,
    checkpoint_every: int | None = None,
    log_every: int = 20,
    accelerator: str = "auto",
    devices: int | str = 1,
    precision: str = "32-true",
    progress: bool = True,
) -> History:
    """Train ``game`` in place and return the history of its terms.

    Args:
        game: made by `build`.
        data: what the game was built ``like``; or a mapping of streams.
        steps: turns of all phases (for a GAN: generator steps).
        seed: of minibatches and noise.
        out: a folder for the checkpoint; without it nothing is written.
        batch: points a minibatch; the variant's own by default.
        checkpoint_every: steps between checkpoints; a tenth of all by default, and the last step always.
        log_every: steps between rows of the history.
        accelerator: "cpu", "cuda", …; "auto" is a CUDA device where there is one, else the CPU.
        devices: how many; with more than one, the script is started once for each.
        precision: "32-true", or "bf16-mixed" for the networks; divergences are computed in full precision.
        progress: show a bar.

    Raises:
        ValueError: the data do not have the game's shape, or an argument is out of range.
        FloatingPointError: a term became non-finite; the message names it, and the last checkpoint in ``out`` is kept.
        KeyboardInterrupt: as it came, after a checkpoint was written.
    """
    counts = {
        "steps": steps,
        "batch": game.plan.batch if batch is None else batch,
        "checkpoint_every": max(steps // 10, 1) if checkpoint_every is None else checkpoint_every,
        "log_every": log_every,
    }
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1: got {value}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}: got {precision!r}")
    settings = {name: int(value) for name, value in counts.items()} | {
        "seed": int(seed),
        "precision": precision,
        "data": str(data) if isinstance(data, str | Path) else None,
    }
    fabric = _fabric(accelerator, devices, precision)
    return _Training(game, data, settings, fabric, None if out is None else Path(out)).run(progress)


def resume(
    out: str | Path,
    data: Any = None,
    *,
    accelerator: str = "auto",
    devices: int | str = 1,
    progress: bool = True,
    **own: Any,
) -> tuple[Game, History]:
    """Continue the training of a folder from its checkpoint to its last step; returns the game and the whole history.

    The weights are those of a training that was never interrupted, bit for bit on a CPU, unless a module of yours draws
    from PyTorch's global random state, as dropout does. ``data`` may be left out where the training had a path; ``own``
    are the modules of yours that the game was built with.

    Raises:
        FileNotFoundError, ValueError: no checkpoint, a damaged one, or other data than it began with.
    """
    content = checkpoint.read(out)
    game = checkpoint.restore(content, own)
    state = content["training"]
    if data is None:
        data = state["settings"]["data"]
        if data is None:
            raise ValueError("data must be given: this training had an array, not a path that could be read again")
    fabric = _fabric(accelerator, devices, state["settings"]["precision"])
    training = _Training(game, data, state["settings"], fabric, Path(out))
    training.restore(state)
    return game, training.run(progress)


def load(out: str | Path, **own: Any) -> Game:
    """The game of a folder's checkpoint, ready to `sample`; ``own`` are the modules of yours that it was built with.

    Raises:
        FileNotFoundError, ValueError: no checkpoint, a damaged one, or an own module that is missing.
    """
    return checkpoint.restore(checkpoint.read(out), own)


class _Training:
    """A game on its way: everything that a checkpoint must hold is an attribute here."""

    def __init__(self, game: Game, data: Any, settings: dict[str, Any], fabric: Fabric, out: Path | None) -> None:
        fabric.launch()
        self.game, self.settings, self.fabric, self.out = game.to(fabric.device), settings, fabric, out
        self.streams = self._open(streams(data, game.space))
        self.step, self.draws, self.stage, self.saved = 0, 0, -1, 0
        self.optimizers: dict[str, Any] = {}
        self.history = History()
        self._ends = _ends(game.plan.stages, settings["steps"])

    def run(self, progress: bool) -> History:
        """Step until the last step, saving on the way; whatever stops it leaves a good state behind."""
        settings, first = self.settings, self.step
        bar = tqdm(
            initial=first,
            total=settings["steps"],
            desc=str(self.game.plan.recipe.get("name", "train")),
            disable=not (progress and self.fabric.is_global_zero),
            mininterval=0.3,
        )
        self.game.train()
        if first == 0:
            self._save()  # so that a folder never resumes what an earlier training left in it
        with few_threads(self.game), bar, _deferred_interrupt() as interrupted:
            try:
                while self.step < settings["steps"]:
                    logged = self._step()
                    last = self.step == settings["steps"]
                    if last or self.step % settings["log_every"] == 0:
                        self.history.rows.append({"step": self.step, **logged})
                        bar.set_postfix_str(
                            " ".join(f"{k} {v:.3g}" for k, v in logged.items() if "." not in k), refresh=False
                        )
                    bar.update()
                    if last or interrupted or self.step % settings["checkpoint_every"] == 0:
                        self._save()
                    if interrupted and not last:
                        raise KeyboardInterrupt
            except FloatingPointError as error:
                kept = f"; the checkpoint of step {self.saved} is in {self.out}" if self.out else ""
                raise FloatingPointError(f"{error} at step {self.step + 1}{kept}") from None
            finally:
                self.game.thaw()
        return self.history

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was saved."""
        self.step, self.draws, self.saved = state["step"], state["draws"], state["step"]
        self.history = History(state["history"])
        if state["stage"] >= 0:
            self._enter(state["stage"])
            for player, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][player])

    def _step(self) -> dict[str, float]:
        """One turn of all phases of the current stage; a phase changes nothing until all its gradients are good."""
        stage = next(i for i, end in enumerate(self._ends) if self.step < end)
        if stage != self.stage:
            self._enter(stage)
        start = self._ends[stage - 1] if stage else 0
        progress = (self.step - start) / (self._ends[stage] - start)
        logged: dict[str, float] = {}
        for phase in self.game.plan.stages[stage].phases:
            for _ in range(phase.repeats):
                logged |= self._turn(phase, progress)
        self.step += 1
        return logged

    def _turn(self, phase: Phase, progress: float) -> dict[str, float]:
        with self.fabric.autocast():
            turn = self.game.gradients(phase, self._draw(), progress)
        for player, parts in turn.gradients.items():
            flat = torch.cat([part.reshape(-1) for part in parts])
            if turn.broken:
                flat.fill_(torch.nan)  # the other ranks see it in the sum and stop as well
            if self.fabric.world_size > 1:
                flat = self.fabric.all_reduce(flat, reduce_op="mean")  # type: ignore[assignment]
            if not bool(torch.isfinite(flat).all()):
                raise FloatingPointError(turn.broken or f"the gradient of player {player!r} became non-finite")
            sizes = [part.numel() for part in parts]
            for parameter, part in zip(self.game.parameters_of(player), flat.split(sizes), strict=True):
                parameter.grad = part.view_as(parameter)
        for player in phase.players:
            optimizer = self.optimizers[player]
            for group in optimizer.param_groups:
                group["lr"] = self.game.plan.players[player].optimizer.rate(progress)
            optimizer.step()
            optimizer.zero_grad()
            self.game.after_step(player, self._averaged(turn.metrics[player]), self.step)
        self.draws += 1
        return turn.logged

    def _averaged(self, metrics: Metrics) -> Metrics:
        """The metrics' means over the ranks, by which a controller moves alike on each."""
        if self.fabric.world_size == 1 or not metrics:
            return metrics
        values = torch.stack([metric.detach().double().reshape(()) for metric in metrics.values()])
        return dict(zip(metrics, self.fabric.all_reduce(values, reduce_op="mean"), strict=True))

    def _draw(self) -> Draw:
        rank, ranks = self.fabric.global_rank, self.fabric.world_size
        seed = self.settings["seed"]
        generator = torch.Generator(self.fabric.device).manual_seed(mix("draw", seed, self.draws, rank))
        given = {name: batches[self.draws * ranks + rank] for name, batches in self.streams.items()}
        n = len(next(iter(given.values())))
        return Draw(self.game, n, generator, given, gather=self._gather if ranks > 1 else None)

    def _gather(self, sample: Tensor) -> Tensor:
        return self.fabric.all_gather(sample, sync_grads=True).flatten(0, 1)  # type: ignore[union-attr]

    def _enter(self, stage: int) -> None:
        self.stage = stage
        players = {player for phase in self.game.plan.stages[stage].phases for player in phase.players}
        self.optimizers = {
            player: self.fabric.setup_optimizers(
                self.game.plan.players[player].optimizer.build(self.game.parameters_of(player))
            )
            for player in sorted(players)
        }

    def _open(self, flat: dict[str, Tensor]) -> dict[str, Minibatches]:
        digest = fingerprint(flat)
        if self.settings.setdefault("fingerprint", digest) != digest:
            raise ValueError("data are not those this training began with, so that it would not go on as it began")
        batch, seed = self.settings["batch"], self.settings["seed"]
        return {name: Minibatches(points.to(self.fabric.device), batch, seed) for name, points in flat.items()}

    def _save(self) -> None:
        if self.out is None or not self.fabric.is_global_zero:
            return
        state = {
            "settings": self.settings,
            "step": self.step,
            "draws": self.draws,
            "stage": self.stage,
            "optimizers": {player: optimizer.state_dict() for player, optimizer in self.optimizers.items()},
            "history": self.history.rows,
        }
        checkpoint.save(self.out, self.game, state)
        self.saved = self.step


def _ends(stages: list[Stage], steps: int) -> list[int]:
    """The step at which each stage ends."""
    total = sum(stage.share for stage in stages)
    shares = [sum(stage.share for stage in stages[: i + 1]) / total for i in range(len(stages))]
    return [round(share * steps) for share in shares]


def _fabric(accelerator: str, devices: int | str, precision: Any) -> Fabric:
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise ImportError('training needs Lightning Fabric: pip install "divergence-toolkit[train]"') from None
    if accelerator == "auto":
        # Not Apple's, which lacks the double precision in which offsets are taken off the data.
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    return Fabric(accelerator=accelerator, devices=devices, precision=precision)


@contextlib.contextmanager
def _deferred_interrupt() -> Iterator[list[int]]:
    """Ctrl-C fills the list instead of raising, so that a step is never left half done; a second one raises at once."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield received
        return

    def note(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before)
