"""`make evidence`: the demo's figures, kept as a result."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import results


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "examples.demo", "--out", folder], check=True)
        found = json.loads((Path(folder) / "demo.json").read_text())
    print(f"written: {results.save('demo', 'make evidence', found)}")


if __name__ == "__main__":
    main()
