"""Compile the Triton kernels of transport for a GPU that need not be there, and print what became of each case.

Run by `test_transport_triton.py` in a process of its own, as `triton_ptx.py` is.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import triton
from triton.backends.nvidia.compiler import get_ptxas
from triton_ptx import HOPPER

from estimators.ops.sinkhorn import triton as ours
from estimators.ops.sinkhorn import triton_kernels

DOUBLES = ("F", "G", "log_v", "log_w", "numbers", "out")
# kernel, dtype, coordinates, precision, order, and whether x is y
CASES = {
    "differences": ("softmin", torch.float32, 10, "accurate", 2, False),
    "in float64": ("softmin", torch.float64, 64, "accurate", 0, False),
    "products": ("softmin", torch.float32, 64, "accurate", 2, True),
    "products of many coordinates": ("softmin", torch.float32, 200, "accurate", 1, False),
    "tf32": ("softmin", torch.float32, 64, "tf32", 2, False),
    "slopes by differences": ("slopes", torch.float64, 10, "accurate", 1, False),
    "slopes by products": ("slopes", torch.float32, 64, "accurate", 0, True),
    "slopes in tf32": ("slopes", torch.float32, 200, "tf32", 2, False),
}


def compiled(name):
    """What Triton makes of a case, for contiguous points."""
    kind, dtype, d, precision, order, same = CASES[name]
    kernel = getattr(triton_kernels, f"{kind}_kernel")
    constants = ours.constants(kind, torch.empty(1, d, dtype=dtype), precision, order, same)
    options = {option: constants.pop(option) for option in ("num_warps", "num_stages")}
    constants |= {"x_d": 1, "y_d": 1}
    letter = {torch.float32: "*fp32", torch.float64: "*fp64"}[dtype]
    signature, aligned = {}, {}
    for k, argument in enumerate(kernel.arg_names):
        pointer = argument in DOUBLES or argument in ("x", "y", "centre", "active")
        signature[argument] = letter if pointer else "i32"
        signature[argument] = "*fp64" if argument in DOUBLES else signature[argument]
        signature[argument] = "*i32" if argument == "active" else signature[argument]
        signature[argument] = "constexpr" if argument in constants else signature[argument]
        if pointer or (d % 16 == 0 and argument in ("d", "x_b", "x_n", "y_b", "y_m")):
            aligned[(k,)] = [["tt.divisibility", 16]]
    values = {(kernel.arg_names.index(argument),): value for argument, value in constants.items()}
    source = triton.compiler.ASTSource(kernel, signature=signature, constexprs=values, attrs=aligned)
    return triton.compile(source, target=HOPPER, options=options)


def spilled(ptx):
    """Bytes of registers that the assembler stores elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.ptx")
        path.write_text(ptx)
        command = [get_ptxas(90).path, "-v", "--gpu-name=sm_90a", path, "-o", Path(folder, "kernel.cubin")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return max(int(size) for size in re.findall(r"(\d+) bytes spill stores", said))


if __name__ == "__main__":
    found = {}
    for name in CASES:
        start = time.perf_counter()
        ptx = compiled(name).asm["ptx"]
        found[name] = {"tf32": "tf32" in ptx, "spilled": spilled(ptx)}
        print(f"{name}: {time.perf_counter() - start:.1f} s, {found[name]}", file=sys.stderr)
    print(json.dumps(found))
