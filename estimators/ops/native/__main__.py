"""`python -m estimators.ops.native`: build the CPU library of the ops, for each instruction set of this machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys

from estimators.ops.native import BASELINE, BUILT, FLAGS, SOURCES, X86, InstructionSet, file_of


def build(compiler: str, kind: InstructionSet) -> str:
    """What the compiler had to say against it; nothing where the library is built."""
    target = file_of(kind)
    if target.exists():
        return ""
    BUILT.mkdir(exist_ok=True)
    for stale in BUILT.glob(f"{kind.name.lower()}-*"):
        stale.unlink()
    unfinished = target.with_suffix(f".{os.getpid()}")  # renamed when whole: another process may load at any moment
    command = [compiler, *FLAGS, *kind.flags, f"-DBYTES={kind.bytes}", *map(str, SOURCES), "-o", str(unfinished)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip().splitlines()[0] if done.stderr.strip() else f"exit status {done.returncode}"
    unfinished.replace(target)
    return ""


def main() -> int:
    """Build all that this machine can; a machine without a compiler is no error, as torch does the same sums."""
    names = [os.environ.get("CXX", ""), "g++", "clang++", "c++"]
    compiler = next((found for name in names if name and (found := shutil.which(name))), None)
    if compiler is None:
        print("no C++ compiler (CXX, g++, clang++, c++): the ops run on torch, with the same results and more slowly")
        return 0
    kinds = (*X86, BASELINE) if platform.machine() in ("x86_64", "AMD64") else (BASELINE,)
    for kind in kinds:
        try:
            wrong = build(compiler, kind)
        except OSError as error:  # such as a folder that only an administrator may write to
            wrong = str(error)
        print(f"{kind.name}: {wrong or file_of(kind)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
