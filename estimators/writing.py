"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write ``content``, text as UTF-8, to ``path`` so that a reader finds all of it or what was there before."""
    folder = check_destination(path)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp makes a private file; the answer is as readable as any other
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def check_destination(path: str | os.PathLike[str]) -> str:
    """The folder that a file at ``path`` would be written to.

    Raises:
        FileNotFoundError: there is no such folder; IsADirectoryError: ``path`` is a folder itself.
    """
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"no such folder: {folder}")
    if os.path.isdir(path):
        raise IsADirectoryError(f"{os.fspath(path)} is a folder; expected the name of a file")
    return folder
