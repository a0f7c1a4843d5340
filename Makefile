# Set-up and checks in one command each: `make test` needs Python 3.11 with venv, and make.
#
#   make test    install into $(VENV) if need be, then the quick tests
#   make lint    formatter, linter, type checker
#   make check   lint and test
#   make slow    the tests marked slow
#   make vllm    the tests marked vllm, on real servers from $(VLLM_VENV), which it builds first (3.4 GB on the disk)
#   make demo    recipes/embedded.yaml: the embedded pair, end to end
#   make regress every method on the embedded pair, compared with results/baselines/embedded
#   make baseline  makes that baseline anew
#   make report  results/tables from the committed results; make report-check says whether they are stale
#   make docs    the documentation, into site/; a warning is an error
#   make reference  docs/reference from the code
#
# The install is repeated only when one of $(INSTALL_INPUTS) changed. VENV, PYTHON, CONSTRAINTS, EXTRAS, WORKERS
# and PYTEST_ARGS can be given: `make test PYTEST_ARGS="-k registration"`. Without git the tests of the checkout are skipped.

VENV ?= .venv
PYTHON ?= $(firstword $(shell command -v python3.11 || command -v python3))
CONSTRAINTS ?= constraints.txt
EXTRAS ?= docs,test
WORKERS ?= 2
VLLM_VENV ?= .venv-vllm
PYTEST_ARGS ?=

RUN := $(VENV)/bin/python -m
INSTALL_INPUTS := pyproject.toml constraints.txt s2t_eval/startup.pth s2t_eval/__init__.py
INSTALLED := $(VENV)/.s2t-eval-installed

# Nothing here needs the network after the install. Neighbouring tests stay in one process, since those of a file
# share what they train or decode. One thread a test process: two workers of torch with all cores each are slower than one.
export HF_HUB_OFFLINE := 1
export HF_DATASETS_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
test slow vllm: export OMP_NUM_THREADS := 1

.PHONY: install test slow vllm lint style types format check demo regress baseline report report-check docs reference clean

# pip compiles on one core. Uncompiled, every process that imports transformers takes 14 s longer to start where
# PYTHONDONTWRITEBYTECODE is set.
install: $(INSTALLED)

$(INSTALLED): $(INSTALL_INPUTS)
	$(VENV)/bin/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(RUN) pip install --disable-pip-version-check --no-compile -c $(CONSTRAINTS) -e ".[$(EXTRAS)]"
	$(RUN) compileall -qq -j 0 $(VENV)/lib || true
	touch $@

test: install
	$(RUN) pytest -q -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

slow: install
	$(RUN) pytest -q -m slow $(PYTEST_ARGS)

# One process: every test uses the same two servers.
vllm: export VLLM_VENV := $(abspath $(VLLM_VENV))
vllm: install
	$(RUN) scripts.build_vllm_environment $(VLLM_VENV)
	$(RUN) pytest -q -m vllm $(PYTEST_ARGS)

lint: style types

style: install
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: install
	$(RUN) scripts.type_check

format: install
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

check: lint test

demo: install
	$(RUN) s2t_eval reproduce embedded --out runs/demo

# Deterministic, so any changed text, score or count fails; so does a grader that judges a committed text anew.
regress: export OMP_NUM_THREADS := 1
regress: install
	$(RUN) scripts.run_embedded_baseline --out runs/regress
	$(RUN) s2t_eval compare results/baselines/embedded runs/regress --fail_on regression cost change
	$(RUN) s2t_eval regrade results/baselines/embedded --check

baseline: export OMP_NUM_THREADS := 1
baseline: install
	$(RUN) scripts.run_embedded_baseline --out results/baselines/embedded --calibrate

# Seconds are left out, because those of the committed runs were measured on busy machines. A table holds runs of
# one commit, dtype and limit, so each comparison has pages of its own. The runs of MIXED were made before results
# recorded a commit.
REPORT := $(RUN) s2t_eval report --no-times
ONE_COMMIT := embedded-rlkd gsm8k-qwen-400-599 gsm8k-qwen-compared gsm8k-qwen-compared-200 gsm8k-qwen-h100 paper-qwen-40
MIXED := gsm8k-qwen gsm8k-qwen-200 tah-qwen-100
report_page = && $(REPORT) results/baselines/$(2) --title "Committed results: $(2)" --out $(1)/$(2)
report_into = $(REPORT) results/baselines/embedded --title "Committed results" \
	--trace results/baselines/embedded/traces/*.jsonl --out $(1) \
	$(foreach name,$(ONE_COMMIT),$(call report_page,$(1),$(name))) \
	$(foreach name,$(MIXED),$(call report_page,$(1),$(name)) --mixed)

report: install
	$(call report_into,results/tables)

report-check: install
	rm -rf runs/tables
	$(call report_into,runs/tables) > /dev/null
	diff -rq results/tables runs/tables || { echo "results/tables is stale: make report, and commit"; exit 1; }

# The variable silences a notice of Material about the successor of MkDocs.
docs: export NO_MKDOCS_2_WARNING := 1
docs: install
	$(RUN) mkdocs build --strict --quiet --site-dir site

reference: install
	$(RUN) scripts.generate_reference

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache
