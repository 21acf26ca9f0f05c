# Every target sets up what it needs on first use (see README.md) and can be run again after an interruption.
METHOD ?= lwl
DEMO ?=
# Tests and demo talk over DDS on this machine only.
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.DEFAULT_GOAL := help
.PHONY: help demo clicks test lint bench shell setup clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## synthetic sequence -> node over DDS -> out/demo (METHOD=lwl|null|..., DEMO="more options")
	tools/env vos-ros demo --method $(METHOD) $(DEMO)

clicks: ## no map: one click on each of three objects -> followed objects, in out/clicks
	tools/env vos-ros demo --clicks 3 --out out/clicks --set segmentation.seed_with=one_point $(DEMO)

test: ## the test suite (minutes); TESTS="-k name" picks, TESTS="-m slow" runs the long ones
	tools/env python -m pytest $(TESTS)

lint: ## ruff (rules and format), mypy --strict, import-linter
	tools/env ruff check .
	tools/env ruff format --check .
	tools/env mypy
	tools/env lint-imports

bench: ## times of the parts on this machine
	tools/env vos-ros bench

shell: ## a shell in the environment
	tools/env $${SHELL:-bash}

setup: ## only the set-up
	tools/env true

clean: ## removes environment, builds and outputs
	rm -rf .venv .underlay .workspace build install log out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
