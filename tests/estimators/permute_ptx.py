"""Compile the Triton kernels of permutations for a GPU that need not be there, and print what became of each case.

Run by `test_permute_triton.py` in a process of its own, as `triton_ptx.py` is.
"""

import json
import sys
import time

import torch
import triton
from transport_ptx import spilled
from triton_ptx import ALL, GAUSSIAN, HOPPER

from estimators.ops.permute import triton as ours
from estimators.ops.permute import triton_kernels

# kernel, dtype, coordinates, precision, terms, and whether weighted
CASES = {
    "bins by differences": ("bins", torch.float32, 10, "accurate", ALL, True),
    "bins in float64": ("bins", torch.float64, 64, "accurate", GAUSSIAN, False),
    "bins by products": ("bins", torch.float32, 64, "accurate", GAUSSIAN, False),
    "bins in tf32": ("bins", torch.float32, 200, "tf32", GAUSSIAN, True),
    "tiles by differences": ("tile", torch.float32, 10, "accurate", ALL, True),
    "tiles in float64": ("tile", torch.float64, 3, "accurate", GAUSSIAN, False),
    "tiles by products": ("tile", torch.float32, 64, "accurate", GAUSSIAN, False),
    "tiles in tf32": ("tile", torch.float32, 200, "tf32", GAUSSIAN, True),
}
INTEGERS = ("n", "d", "U", "share", "x_n", "row", "column", "width")
LETTERS = {torch.float32: "*fp32", torch.float64: "*fp64"}


def compiled(name):
    """What Triton makes of a case, for contiguous points."""
    kind, dtype, d, precision, terms, weighted = CASES[name]
    kernel = getattr(triton_kernels, f"{kind}_kernel")
    constants = ours.constants("bins" if kind == "bins" else "tiles", torch.empty(1, d, dtype=dtype), precision)
    options = {option: constants.pop(option) for option in ("num_warps", "num_stages")}
    constants |= {**terms, "WEIGHTED": weighted, "x_d": 1, "w_n": 1}
    letters = {"starts": "*i32", "bins": "*i32", "out": "*fp64"} | {name: "i32" for name in INTEGERS}
    if kind == "tile":
        rows, columns = constants.pop("BM"), constants.pop("BN")
        constants["BI"], constants["BJ"] = (rows, columns) if constants["PRODUCTS"] else (columns, rows)
        constants["PARTS"] = 2 if dtype == torch.float32 and precision == "accurate" else 1
        letters["out"] = "*fp64" if dtype == torch.float64 else "*fp16"
    signature, aligned = {}, {}
    for k, argument in enumerate(kernel.arg_names):
        letter = letters.get(argument, LETTERS[dtype])
        signature[argument] = "constexpr" if argument in constants else letter
        if "*" in letter or argument == "width" or (d % 16 == 0 and argument in ("d", "x_n")):
            aligned[(k,)] = [["tt.divisibility", 16]]
    aligned = {k: found for k, found in aligned.items() if kernel.arg_names[k[0]] not in constants}
    values = {(kernel.arg_names.index(argument),): value for argument, value in constants.items()}
    source = triton.compiler.ASTSource(kernel, signature=signature, constexprs=values, attrs=aligned)
    return triton.compile(source, target=HOPPER, options=options)


if __name__ == "__main__":
    found = {}
    for name in CASES:
        start = time.perf_counter()
        ptx = compiled(name).asm["ptx"]
        found[name] = {"tf32": "tf32" in ptx, "spilled": spilled(ptx)}
        print(f"{name}: {time.perf_counter() - start:.1f} s, {found[name]}", file=sys.stderr)
    print(json.dumps(found))
