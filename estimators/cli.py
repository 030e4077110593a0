"""The command `divergences`: compare two data sets, estimate one divergence, test equality, list what there is."""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from estimators.console import Parser, run

if TYPE_CHECKING:
    from estimators.tables import Table

_FILES = "a .csv, .tsv, .parquet, .npy or .npz file, or a folder of images"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 ok, 1 a difference found where asked to say so, 2 an error.

    Example:
        >>> main(["compare", "missing.csv", "also_missing.csv"])
        2
    """
    return run(_parser(), argv)


def _parser() -> Parser:
    parser = Parser(
        prog="divergences",
        description="Compare two samples: do they differ, how much, where, and can that be trusted?",
        epilog="examples:\n"
        "  divergences compare reference.csv current.csv --html report.html\n"
        "  divergences estimate kl reference.npy current.npy --method knn\n"
        "  divergences test reference.parquet current.parquet --statistic mmd\n"
        "  divergences list",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="{compare,estimate,test,list}", required=True)

    compare = _command(
        commands,
        "compare",
        _compare,
        "column by column and jointly, with effects, p-values and a report",
        "A column differs if its adjusted p-value is at most --alpha and its effect at least --min-effect.\n\n"
        "examples:\n"
        "  divergences compare reference.csv current.csv\n"
        "  divergences compare ref.parquet cur.parquet --html report.html --seed 1\n"
        "  divergences compare ref.csv cur.csv --columns age,income --fail-on-difference",
    )
    _sides(compare)
    compare.add_argument("--html", metavar="OUT", help="write the report, one self-contained page, to this file")
    compare.add_argument(
        "--columns", metavar="A,B", type=_names, help='only these columns; "a,b" in quotes is one name'
    )
    compare.add_argument(
        "--categorical", metavar="A,B", type=_names, default=[], help="columns of labels, even if numbers"
    )
    compare.add_argument(
        "--na", metavar="TEXTS", type=_names, help="texts that mean missing (default: empty, NA, NaN, null)"
    )
    compare.add_argument("--permutations", metavar="N", type=int, default=999, help="for each test (default 999)")
    compare.add_argument("--alpha", metavar="A", type=float, default=0.05, help="level of the tests (default 0.05)")
    compare.add_argument(
        "--min-effect", metavar="E", type=float, default=0.05, help="smallest effect that counts (default 0.05)"
    )
    compare.add_argument(
        "--fail-on-difference",
        action="store_true",
        help="exit with status 1 if a column differs (in values, kind or missing rate), is on one side only, or the "
        "joint test rejects",
    )
    _common(compare)

    estimate = _command(
        commands,
        "estimate",
        _estimate,
        "one divergence D(P‖Q), P the reference and Q the current data",
        "examples:\n"
        "  divergences estimate kl reference.npy current.npy --method knn\n"
        "  divergences estimate wasserstein reference.csv current.csv --option order=2 --confidence 0.99\n"
        "  divergences estimate sinkhorn reference.csv current.csv --drop-missing --json",
    )
    estimate.add_argument("name", metavar="NAME", help="the divergence; see `divergences list`")
    _sides(estimate)
    estimate.add_argument("--method", metavar="M", default="auto", help="how to estimate it (default auto)")
    estimate.add_argument("--confidence", metavar="C", type=float, default=0.95, help="of the interval (default 0.95)")
    estimate.add_argument(
        "--option",
        metavar="KEY=VALUE",
        type=_option,
        action="append",
        default=[],
        help="an argument of the divergence or of its estimator, such as alpha=2 or order=2; may be repeated",
    )
    _incomplete(estimate)
    _common(estimate)

    test = _command(
        commands,
        "test",
        _test,
        "a permutation test of P = Q, all columns together",
        "examples:\n"
        "  divergences test reference.csv current.csv\n"
        "  divergences test reference.npy current.npy --statistic mmd --seed 1\n"
        "  divergences test before.csv after.csv --statistic mmd --strata site --early-stopping",
    )
    _sides(test)
    test.add_argument("--statistic", metavar="S", default="auto", help="see `divergences list` (default auto)")
    test.add_argument("--permutations", metavar="N", type=int, default=999, help="number of permutations (default 999)")
    test.add_argument(
        "--early-stopping", action="store_true", help="stop at the 20th permutation that is at least the observed value"
    )
    test.add_argument("--clusters", metavar="COLUMN", help="ids of rows that depend on each other: permuted as a whole")
    test.add_argument(
        "--strata", metavar="COLUMN", help="ids of strata (sites, pairs): labels are permuted within each"
    )
    _incomplete(test)
    _common(test)

    names = _command(
        commands, "list", _list, "the names of divergences and statistics", "example:\n  divergences list --json"
    )
    names.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _command(commands: Any, name: str, run: Any, summary: str, epilog: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    return command


def _sides(command: argparse.ArgumentParser) -> None:
    command.add_argument("reference", metavar="REF", help=f"the reference, P: {_FILES}")
    command.add_argument("current", metavar="CUR", help="the current data, Q, in any of these forms")


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", metavar="N", type=int, default=0, help="all randomness comes from it (default 0)")
    command.add_argument("--json", action="store_true", help="print JSON")


def _incomplete(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--drop-missing",
        dest="nan_policy",
        action="store_const",
        const="omit",
        default="raise",
        help="drop rows with a missing value, and say how many (default: an error)",
    )


def _option(text: str) -> tuple[str, Any]:
    """``key=value``, the value a number or another literal of JSON, or else text."""
    key, sign, value = text.partition("=")
    if not (key.isidentifier() and sign):
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, such as alpha=2: got {text!r}")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _names(text: str) -> list[str]:
    return next(csv.reader([text], skipinitialspace=True), [])


def _compare(arguments: argparse.Namespace) -> int:
    from estimators.compare import compare
    from estimators.tables import NA_VALUES
    from estimators.writing import check_destination

    if arguments.html:
        check_destination(arguments.html)  # before the work, not after it
    found = compare(
        arguments.reference,
        arguments.current,
        seed=arguments.seed,
        alpha=arguments.alpha,
        min_effect=arguments.min_effect,
        permutations=arguments.permutations,
        columns=arguments.columns,
        categorical=arguments.categorical,
        na_values=NA_VALUES if arguments.na is None else arguments.na,
    )
    if arguments.html:
        found.to_html(arguments.html, command=_repeat(arguments))
    if arguments.json:
        print(found.to_json())
    else:
        print(found)
        print()
        for row in found.joint:
            print(_joint_line(row))
        if arguments.html:
            print(f"\nreport: {arguments.html}")
    return 1 if arguments.fail_on_difference and found.difference_found else 0


def _repeat(arguments: argparse.Namespace) -> str:
    """The command line that makes the comparison again."""
    words = ["divergences", "compare", arguments.reference, arguments.current, "--html", arguments.html]
    words += ["--seed", str(arguments.seed), "--permutations", str(arguments.permutations)]
    words += ["--alpha", f"{arguments.alpha:g}", "--min-effect", f"{arguments.min_effect:g}"]
    for option, names in (
        ("--columns", arguments.columns),
        ("--categorical", arguments.categorical),
        ("--na", arguments.na),
    ):
        if names:
            words += [option, ",".join(f'"{name}"' if "," in name else name for name in names)]
    return shlex.join(words)


def _joint_line(row: dict[str, Any]) -> str:
    if row["error"] is not None:
        return f"{row['metric']}: not computed ({row['error']})"
    parts = [f"{row['metric']} = {row['statistic']:.4g}"]
    if row["interval"] is not None:
        parts.append("interval [{:.4g}, {:.4g}]".format(*row["interval"]))
    if row["p"] is not None:
        parts.append(f"p = {row['p']:.3g}")
    return ", ".join(parts) + (f" ({row['unit']})" if row["unit"] else "")


def _estimate(arguments: argparse.Namespace) -> int:
    from estimators import registry

    a, b = _tables(arguments)
    found = registry.estimate(
        a.matrix(arguments.nan_policy),
        b.matrix(arguments.nan_policy),
        arguments.name,
        method=arguments.method,
        seed=arguments.seed,
        confidence=arguments.confidence,
        nan_policy=arguments.nan_policy,
        **dict(arguments.option),
    )
    print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False) if arguments.json else found)
    return 0


def _test(arguments: argparse.Namespace) -> int:
    from estimators.two_sample import two_sample_test

    a, b = _tables(arguments)
    clusters, strata = (_ids(a, b, name) for name in (arguments.clusters, arguments.strata))
    points = [name for name in a.columns if name not in (arguments.clusters, arguments.strata)]
    found = two_sample_test(
        a.select(points).matrix(arguments.nan_policy),
        b.select(points).matrix(arguments.nan_policy),
        statistic=arguments.statistic,
        permutations=arguments.permutations,
        seed=arguments.seed,
        early_stopping=arguments.early_stopping,
        clusters=clusters,
        strata=strata,
        nan_policy=arguments.nan_policy,
    )
    print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False) if arguments.json else found)
    return 0


def _ids(a: Table, b: Table, name: str | None) -> tuple[Sequence[Any], Sequence[Any]] | None:
    """The column ``name`` of both sides."""
    if name is None:
        return None
    here, there = (table.select([name]).columns[name].values.tolist() for table in (a, b))
    return here, there


def _tables(arguments: argparse.Namespace) -> tuple[Table, Table]:
    """Both sides with the same columns, in the order of the reference."""
    from estimators.tables import listed, read

    a, b = read(arguments.reference, "the reference"), read(arguments.current, "the current data")
    for here, there in ((a, b), (b, a)):
        alone = [name for name in here.columns if name not in there.columns]
        if alone:
            raise ValueError(
                f"both sides must have the same columns: {here.source} has {len(here.columns)} and {there.source} has "
                f"{len(there.columns)}; only in {here.source}: {listed(alone, 3)}"
            )
    return a, b.select(list(a.columns))


def _list(arguments: argparse.Namespace) -> int:
    import divergences
    from estimators import registry
    from estimators.two_sample import NAMES

    known = registry.names()
    found = {
        "estimate": list(known),
        "more": [name for name in divergences.names() if name not in known and name != "kolmogorov_smirnov"],
        "exact": list(divergences.names()),
        "test": list(NAMES),
    }
    if arguments.json:
        print(json.dumps(found, indent=2))
        return 0
    titles = {
        "estimate": "divergences that can be estimated from samples",
        "more": "estimated from samples alone, some with --option, such as alpha=2",
        "exact": "divergences with exact values, some with parameters",
        "test": "statistics of `divergences test`",
    }
    for key, title in titles.items():
        print(f"{title}:\n  " + "\n  ".join(found[key]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
