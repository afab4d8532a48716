# Every target does its own set-up. `make` alone prints what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
# The tests start a Docker engine and servers that run as their own users: that takes root.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env)
# Test files run side by side, each process with servers of its own: most of them wait more than they work.
WORKERS ?= 4
COMPILE := .venv/bin/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --build-deps-for editable \
	--constraint requirements/pins.txt

.PHONY: help setup demo demo-stop test soak bench lint lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F'\t' '{printf "make %-10s %s\n", $$1, $$2}'

setup: ## install all that the project needs: system packages and .venv
	@scripts/setup.sh dev

demo: ## back up, destroy and restore real databases, on a real Prefect server; leaves the UI up
	@scripts/setup.sh run
	@$(PYTHON) -m deployments.demo

demo-stop: ## stop what the demo left running and delete its data
	@scripts/setup.sh run
	@$(PYTHON) -m deployments.demo stop

test: ## every test, against real servers (of long trials a seeded sample)
	@scripts/setup.sh dev
	@$(AS_ROOT) $(PYTHON) -W ignore::RuntimeWarning -m tests.servers.images >/dev/null
	@$(AS_ROOT) $(PYTHON) -m tests.servers.n8n >/dev/null
	@$(AS_ROOT) env BACKUP_FLOWS_SAMPLE=1 $(PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

soak: ## the long trials at full count; writes docs/soak.md
	@scripts/setup.sh dev
	@$(AS_ROOT) $(PYTHON) -W ignore::RuntimeWarning -m tests.servers.images >/dev/null
	@$(AS_ROOT) $(PYTHON) -m tests.servers.n8n >/dev/null
	@$(AS_ROOT) env BACKUP_FLOWS_SOAK=1 $(PYTHON) -m pytest -m "soak or sampled or one_server" $(ARGS)

bench: ## side by side with what people use today; writes benchmarks/results.json
	@scripts/setup.sh dev
	@$(AS_ROOT) $(PYTHON) -m benchmarks

lint: ## formatting, rules, types, import contract, workflow files
	@scripts/setup.sh dev
	@status=0; for check in "ruff check ." "ruff format --check ." mypy lint-imports \
		"zizmor --offline --quiet .github deployments/github" "python -m tests.actionlint" \
		"check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/pre-deploy-snapshot.yml" \
		"check-jsonschema --builtin-schema vendor.github-actions deployments/github/action.yml"; do \
		.venv/bin/$$check || { status=1; echo "lint: $$check failed" >&2; }; done; exit $$status

lock: ## compile the requirements locks anew; UPGRADE=1 for newer releases
	@scripts/setup.sh dev
	@$(COMPILE) $(if $(UPGRADE),--upgrade) --output-file requirements/run.txt pyproject.toml
	@$(COMPILE) $(if $(UPGRADE),--upgrade) --extra dev --output-file requirements/dev.txt pyproject.toml
	@! grep -nE '^ *(-i|-f|--(index-url|extra-index-url|find-links|trusted-host))|https?://' requirements/run.txt requirements/dev.txt

clean: ## delete what was made in the tree (.venv, caches); built images stay in ~/.cache/backup-flows
	@rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
