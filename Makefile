# Every target works alone on a fresh clone: it makes .venv, installs what it needs at the versions of constraints.txt, runs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test lint accuracy bench bench-gpu evidence readme clean

install: .venv/installed .venv/native

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/native: .venv/installed $(wildcard estimators/ops/native/*.cpp estimators/ops/native/*.h)
	$(BIN)/python -m estimators.ops.native
	touch $@

# The libraries that `make bench` runs beside ours, in an environment of their own.
.venv-peers/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[peers]'
	touch $@

demo: install
	$(BIN)/python -m examples.demo --out demo

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

accuracy: install
	$(BIN)/python -m benchmarks.accuracy

bench: install .venv-peers/installed
	.venv-peers/bin/python -m benchmarks.ops_speed
	.venv-peers/bin/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.growth --draw
	$(BIN)/python -m benchmarks.training_steps
	$(BIN)/python -m benchmarks.exact_speed
	$(BIN)/python -m benchmarks.stacked_speed

# In the environment of the peers too; without a GPU it says so and does nothing.
bench-gpu: install .venv-peers/installed
	.venv-peers/bin/python -m benchmarks.ops_gpu

evidence: install
	$(BIN)/python -m benchmarks.evidence

readme: install
	$(BIN)/python -m benchmarks.readme

clean:
	rm -rf .venv .venv-peers estimators/ops/native/built demo runs
