"""Checkpoints: one file, replaced whole, from which a game can be sampled, or its training resumed bit for bit."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from estimators.space import Space
from gan_zoo.game import Game

FILE = "checkpoint.pt"
_FORMAT = "divergence-toolkit game 1"


def save(folder: Path, game: Game, training: dict[str, Any]) -> None:
    """Write the game and the state of its training. A crash at any moment leaves the previous file whole."""
    content = {
        "format": _FORMAT,
        "recipe": game.plan.recipe,
        "space": game.space.to_dict(),
        "game": game.state_dict(),
        "training": training,
    }
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / (FILE + ".new")
    with open(fresh, "wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, folder / FILE)


def read(folder: str | Path) -> dict[str, Any]:
    """The content of a folder's checkpoint. No code in it is run.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: the file is damaged or of another origin.
    """
    path = Path(folder) / FILE
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint in {folder}: expected {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} cannot be read: it is damaged or not a checkpoint of this library ({reason})"
        ) from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"{path} is not a checkpoint of this library: expected the format {_FORMAT!r}")
    return content


def restore(content: dict[str, Any], own: dict[str, Any]) -> Game:
    """The game of a checkpoint; ``own`` has the modules that a checkpoint does not store, by option name."""
    from gan_zoo.build import assemble

    recipe = content["recipe"]
    if missing := [name for name in recipe["own"] if name not in own]:
        raise ValueError(f"this game was built with your own {missing[0]!r}: pass it as load(dir, {missing[0]}=…)")
    if unknown := [name for name in own if name not in recipe["own"]]:
        asked = ", ".join(recipe["own"]) or "none"
        raise ValueError(f"{unknown[0]!r} is stored in the checkpoint; own modules asked for: {asked}")
    game = assemble(recipe["name"], Space.from_dict(content["space"]), recipe["seed"], recipe["options"], own)
    try:
        game.load_state_dict(content["game"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"the checkpoint does not fit the modules given ({', '.join(own) or 'none'}): {reason}"
        ) from None
    return game
