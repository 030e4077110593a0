"""Compile the Triton kernels for a GPU that need not be there, and print which cases multiply in TF32.

Run by `test_pairwise_triton.py` in a process of its own, without Triton's interpreter, which compiles nothing.
"""

import json
import sys
import time

import torch
import triton
from triton.backends.compiler import GPUTarget

from estimators.ops.pairwise import triton as ours
from estimators.ops.pairwise import triton_kernels

HOPPER = GPUTarget("cuda", 90, 32)
GAUSSIAN = {"FORMS": (0,), "SQUARINGS": (0,), "COUNT": 1}
ALL = {"FORMS": (0, 1, 2, 3, 4, 5, 6), "SQUARINGS": (0, 2, 0, 0, 0, 0, 0), "COUNT": 7}
POINTERS = ("x", "y", "w", "ox", "oy", "centre", "terms", "free")
# kernel, dtype, coordinates, precision, terms, and whether x is y, i ≠ j, weighted; moments
CASES = {
    "differences": ("sums", torch.float32, 10, "accurate", ALL, (True, True, True), False),
    "moments": ("sums", torch.float64, 1, "accurate", GAUSSIAN, (False, False, True), True),
    "products": ("sums", torch.float32, 64, "accurate", GAUSSIAN, (True, False, False), False),
    "slopes by differences": ("slopes", torch.float64, 64, "accurate", ALL, (False, False, True), False),
    "slopes of one coordinate": ("slopes", torch.float32, 1, "accurate", GAUSSIAN, (True, True, False), False),
    "slopes by products": ("slopes", torch.float32, 64, "accurate", GAUSSIAN, (True, True, True), False),
    "tf32": ("sums", torch.float32, 64, "tf32", GAUSSIAN, (False, False, False), False),
    "slopes in tf32": ("slopes", torch.float32, 200, "tf32", GAUSSIAN, (False, False, True), False),
}


def compiled(name, arch=HOPPER):
    """What Triton makes of a case, for contiguous points."""
    kind, dtype, d, precision, terms, (same, exclude, weighted), moments = CASES[name]
    kernel = getattr(triton_kernels, f"{kind}_kernel")
    constants = ours.constants(kind, torch.empty(1, d, dtype=dtype), precision)
    options = {option: constants.pop(option) for option in ("num_warps", "num_stages")}
    constants |= {**terms, "SAME": same, "EXCLUDE": exclude, "WEIGHTED": weighted, "x_d": 1, "y_d": 1, "w_m": 1}
    constants |= {"d": 1, "x_n": 1, "y_m": 1} if d == 1 else {}  # Triton takes a 1 for a constant
    constants |= {"MOMENTS": moments} if kind == "sums" else {}
    letter = {torch.float32: "*fp32", torch.float64: "*fp64"}[dtype]
    signature, aligned = {}, {}
    for k, argument in enumerate(kernel.arg_names):
        pointer = argument in POINTERS or argument.startswith("out")
        signature[argument] = "constexpr" if argument in constants else letter if pointer else "i32"
        signature[argument] = "*fp64" if argument.startswith("out") else signature[argument]
        if pointer or (d % 16 == 0 and argument in ("d", "x_b", "x_n", "y_b", "y_m")):
            aligned[(k,)] = [["tt.divisibility", 16]]
    values = {(kernel.arg_names.index(argument),): value for argument, value in constants.items()}
    source = triton.compiler.ASTSource(kernel, signature=signature, constexprs=values, attrs=aligned)
    return triton.compile(source, target=arch, options=options)


if __name__ == "__main__":
    found = {}
    for name in CASES:
        start = time.perf_counter()
        found[name] = "tf32" in compiled(name).asm["ptx"]
        print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
    print(json.dumps(found))
