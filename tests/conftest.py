"""Shared by all tests: the digits, the thread count, Triton's interpreter, and the marker for GPU tests."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # the tests run in parallel processes
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is first imported


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's digits as images in [0, 1], in an order fixed by seed 0: (1197 to train on, 600 held out)."""
    from sklearn.datasets import load_digits

    images = (load_digits().images / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    return images[order[:1197]], images[order[1197:]]
