"""The demo's figures, kept as a result; `make readme` puts them into the README."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def measure() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "examples.demo", "--out", folder], check=True)
        found: dict[str, Any] = json.loads((Path(folder) / "demo.json").read_text())
    return found
