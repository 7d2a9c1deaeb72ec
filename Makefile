# The commands of .ci/run, one by one, in an environment with `pip install -c constraints.txt -e ".[dev]"`.

PYTHON ?= python
BENCH ?= latency

.PHONY: test lint types docs bench ci

test:
	$(PYTHON) -m pytest

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:  # on the wheel, where modeling/ stands in its place
	rm -rf build
	$(PYTHON) -m build -q --wheel --outdir build/types .
	$(PYTHON) -m zipfile -e build/types/*.whl build/types/unpacked
	cd build/types/unpacked && $(PYTHON) -m mypy --config-file $(CURDIR)/pyproject.toml -p p2l_sdk

docs:  # into site/
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

bench:  # one program of benchmarks/: make bench BENCH=serving
	$(PYTHON) benchmarks/$(BENCH).py

ci:  # everything, in fresh environments
	.ci/run
