"""Where results are kept: JSON with the hardware and versions they were measured on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from estimators.writing import write_atomically

FOLDER = Path(__file__).parent / "results"
_PACKAGES = (
    "torch", "numpy", "scipy", "POT", "scikit-learn", "lightning-fabric", "pykeops", "geomloss", "ott-jax", "jax",
    "triton",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """The processor, its cores, and the versions that matter."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "measured": datetime.now(UTC).date().isoformat(),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def save(name: str, command: str, found: dict[str, Any]) -> Path:
    """Write ``found`` under results/ with the command that measures it again and the machine."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    write_atomically(path, json.dumps({"command": command, "machine": machine(), **found}, indent=1) + "\n")
    return path


def read(name: str) -> dict[str, Any] | None:
    """A result, or None where it was not measured."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None
