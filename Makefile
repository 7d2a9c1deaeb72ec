# The commands of .ci/run, one by one, in an environment with `pip install -c constraints.txt -e ".[dev]"`.

PYTHON ?= python
BENCH ?= latency

.PHONY: test lint types docs bench locks ci

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

UV = build/uv/bin/uv pip compile -q --generate-hashes --universal --python-version 3.11 --no-annotate --no-header
locks:  # locks/*.txt: the versions of constraints.txt with the hashes of PyPI, for every platform
	$(PYTHON) -m venv build/uv && build/uv/bin/pip install -q uv
	$(UV) pyproject.toml -c constraints.txt --extra serve --extra redis --extra prices -o locks/serve.txt >/dev/null
	$(UV) pyproject.toml -c constraints.txt --extra all -o locks/all.txt >/dev/null

ci:  # everything, in fresh environments
	.ci/run
