"""What the console scripts share: a parser and a way to run a command whose errors are one line and exit status 2."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

_EXPECTED = (
    ValueError,
    TypeError,
    OSError,
    NotImplementedError,
    ImportError,
    MemoryError,
    ArithmeticError,
    RuntimeError,
)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        self.exit(2, f"{self.prog.split()[0]}: error: {message}; see `{self.prog} --help`\n")


def run(parser: Parser, argv: Sequence[str] | None) -> int:
    """Run the command that ``parser`` finds in ``argv`` and return its exit status.

    Each command sets ``run``, a function of the parsed arguments that returns a status. An interrupt gives 130.
    """
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # --help, or a usage error that was already printed
        return int(stop.code or 0)
    command: Callable[[argparse.Namespace], int] = arguments.run
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an answer carries its own notes
            status = command(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of a pipe has seen enough; Python must not fail again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except _EXPECTED as error:
        print(f"{parser.prog}: error: {_one_line(error)}", file=sys.stderr)
        return 2


def _one_line(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
