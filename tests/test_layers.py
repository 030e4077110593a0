"""Imports run one way: divergences ← estimators ← gan_zoo; ops import only torch (and Triton); imports stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "divergences": {"divergences"},
    "estimators": {"divergences", "estimators"},
    "gan_zoo": {"divergences", "estimators", "gan_zoo"},
}
FILES = [path for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path):
    """The modules that a file imports anywhere, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_from_its_layer_and_below(path):
    package = path.relative_to(ROOT).parts[0]
    for module in imported(path):
        if module.split(".")[0] in ALLOWED:
            assert module.split(".")[0] in ALLOWED[package], f"{path} imports {module}"


OPS = [path for path in FILES if path.is_relative_to(ROOT / "estimators" / "ops")]


@pytest.mark.parametrize("path", OPS, ids=lambda p: str(p.relative_to(ROOT)))
def test_ops_import_only_torch(path):
    own = {"torch", "triton"} | sys.stdlib_module_names
    for module in imported(path):
        assert module.split(".")[0] in own or module.startswith("estimators.ops"), f"{path} imports {module}"


# What is left is between points and the few centres of a model.
OF_CENTRES = {"estimators/neural/lipschitz.py", "estimators/two_sample/local.py"}


def test_torch_cdist_is_called_by_ops_alone():
    above = [path for path in FILES if path.parts[len(ROOT.parts)] != "divergences" and path not in OPS]
    made = {str(path.relative_to(ROOT)) for path in above if "torch.cdist" in path.read_text()}
    assert made == OF_CENTRES


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_import_is_light_and_leaves_the_random_state_alone(package):
    heavy = ["ot", "sklearn", "triton", "matplotlib", "pandas", "pyarrow"]
    code = (
        "import sys, torch, numpy as np\n"
        "before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()\n"
        f"known = set(sys.modules)\nimport {package}\n"
        "assert torch.equal(before[0], torch.get_rng_state()), 'torch random state'\n"
        "assert (before[1] == np.random.get_state()[1]).all(), 'numpy random state'\n"
        "assert before[2] == torch.get_num_threads(), 'threads'\n"
        f"print([name for name in {heavy!r} if name in set(sys.modules) - known])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
