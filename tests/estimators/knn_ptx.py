"""Compile the Triton kernels of nearest neighbours for a GPU that need not be there, and print what became of each.

Run by `test_knn_triton.py` in a process of its own, as `triton_ptx.py` is.
"""

import json
import sys
import time

import torch
import triton
from transport_ptx import spilled
from triton_ptx import HOPPER

from estimators.ops.knn import triton as ours
from estimators.ops.knn import triton_kernels

INTEGERS = {"near": "*i32", "count": "*i32", "own": "*i32", "index": "*i64"}
# kernel, dtype, coordinates, metric, neighbours
CASES = {
    "products": ("products", torch.float16, 64, "euclidean", 5),
    "products of many coordinates": ("products", torch.float16, 200, "euclidean", 5),
    "differences": ("differences", torch.float32, 3, "euclidean", 5),
    "differences of one coordinate": ("differences", torch.float32, 1, "cityblock", 5),
    "differences of many coordinates": ("differences", torch.float32, 64, "chebyshev", 5),
    "closest": ("closest", torch.float32, 64, "euclidean", 5),
    "closest of many": ("closest", torch.float32, 64, "euclidean", 64),
    "measure": ("measure", torch.float32, 64, "euclidean", 5),
    "measure of one coordinate": ("measure", torch.float32, 1, "euclidean", 5),
    "measure in float64": ("measure", torch.float64, 10, "cityblock", 64),
    "smallest": ("smallest", torch.float32, 64, "euclidean", 5),
    "smallest of many": ("smallest", torch.float64, 64, "chebyshev", 64),
}


def compiled(name):
    """What Triton makes of a case, for contiguous points."""
    kind, dtype, d, metric, k = CASES[name]
    kernel = getattr(triton_kernels, f"{kind}_kernel")
    points = torch.empty(1, 10_000, d)
    how = ours.constants(points, points, k, "halves" if kind == "products" else "differences")
    warps = how["warps"] if kind in ("products", "differences") else 2 if kind == "measure" else 4
    options = {"num_warps": warps}
    how |= {"GROUP": ours.GROUP, "METRIC": ours.METRICS.index(metric), "EXCLUDE": True, "FEW": ours.WIDTH}
    how |= {"BK": how["BD"] if kind == "measure" else how["BK"]}
    constants = {argument: how[argument] for argument in kernel.arg_names if argument.isupper()}
    ones = ("x_d", "y_d") if kind == "measure" else ()
    ones += ("d", "x_n", "y_m") if d == 1 else ()
    constants |= {one: 1 for one in ones if one in kernel.arg_names}  # Triton takes a 1 for a constant
    d = -(-d // how["BK"]) * how["BK"] if kind == "products" else d
    letter = {torch.float16: "*fp16", torch.float32: "*fp32", torch.float64: "*fp64"}[dtype]
    pointers = {"x": letter, "y": letter, "distance": letter, "gap": "*fp64", **INTEGERS}
    pointers |= dict.fromkeys(("term", "low", "spread", "slack"), "*fp32")
    signature, aligned = {}, {}
    for at, argument in enumerate(kernel.arg_names):
        signature[argument] = pointers.get(argument, "fp32" if argument == "stretch" else "i32")
        signature[argument] = "constexpr" if argument in constants else signature[argument]
        if argument in pointers or (d % 16 == 0 and argument in ("d", "x_b", "x_n", "y_b", "y_m")):
            aligned[(at,)] = [["tt.divisibility", 16]]
    values = {(kernel.arg_names.index(argument),): value for argument, value in constants.items()}
    source = triton.compiler.ASTSource(kernel, signature=signature, constexprs=values, attrs=aligned)
    return triton.compile(source, target=HOPPER, options=options)


if __name__ == "__main__":
    found = {}
    for name in CASES:
        start = time.perf_counter()
        asm = compiled(name).asm
        ptx = asm["ptx"]
        found[name] = {"tf32": "tf32" in ptx, "halves": ".f32.f16.f16" in ptx, "spilled": spilled(ptx)}
        print(f"{name}: {time.perf_counter() - start:.1f} s, {found[name]}", file=sys.stderr)
    print(json.dumps(found))
