"""Files that pytest need not open for their examples: those that only Triton can import, where it is not installed."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("triton") else ["estimators/ops/*/triton_*.py"]
