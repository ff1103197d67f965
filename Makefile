# Truecopy: `make run` and `make test` are all a newcomer needs. Nothing here needs root or Docker.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RCLONE := $(BIN)/rclone
CONFIG ?= config/backup_config.json
PROCESSES ?= auto
# Without its cache every interpreter compiles all it imports, and every pytest rewrites all tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-slow check bench faults faults-full docs data clean

run: $(READY) data ## mirror the sample (data/source) to data/mirror, twice, and show what is known of it
	$(BIN)/truecopy --config $(CONFIG) plan
	$(BIN)/truecopy --config $(CONFIG) run --once
	$(BIN)/truecopy --config $(CONFIG) run --once
	$(BIN)/truecopy --config $(CONFIG) status

test: $(READY) ## every test that this machine can run, in PROCESSES processes
	$(BIN)/python -m pytest --numprocesses=$(PROCESSES) $(PYTEST_ARGS)

test-slow: $(READY) ## the whole sweeps, of which `make test` runs a fixed share
	$(BIN)/python -m pytest -m slow --timeout=7200 $(PYTEST_ARGS)

check: $(READY) ## lint, types, architecture, dependencies, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/python tests/repo/generate.py --check
	$(BIN)/python tests/monitoring/generate_grafana.py --check

bench: $(READY) $(RCLONE) ## against rsync, rclone, cp and the original's loop; BENCH_ARGS=--help says what can be asked for
	$(BIN)/python tests/bench/run.py $(BENCH_ARGS)

faults: $(READY) ## what goes wrong, and what each tool makes of it; as root; FAULTS_ARGS=--help says what can be asked for
	$(BIN)/python tests/faults/matrix/run.py $(FAULTS_ARGS)

faults-full: $(READY) ## every fault in every place: the whole sweeps, of which CI runs a share, and then the matrix; hours
	$(BIN)/python -m pytest -m slow --timeout=14400 tests/faults tests/state tests/engine $(PYTEST_ARGS)
	$(BIN)/python tests/faults/matrix/run.py $(FAULTS_ARGS)

docs: $(READY) ## write the generated tables and the schema anew
	$(BIN)/python tests/repo/generate.py
	$(BIN)/python tests/monitoring/generate_grafana.py

data: ## the folders of the sample config, with something in the source
	@mkdir -p data/source data/mirror data/logs
	@[ -n "$$(ls -A data/source)" ] || cp -a config/sample/. data/source/

$(READY): requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# A peer of the benchmark: the rclone of a distribution may be years old.
$(RCLONE): requirements-bench.lock $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $<
	@touch $@

clean: ## forget the environment and caches; data/ stays
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
