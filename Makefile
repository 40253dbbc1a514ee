# The recipes of a maintainer's day. Each line may as well be typed by hand; docs/contributing.md explains them.

PYTHON = .venv/bin/python
unexport PYTHONDONTWRITEBYTECODE  # the tests start many processes, each of which would compile everything
.DEFAULT_GOAL = help
.PHONY: help setup test tests reliability lint fix types docs site benchmarks release ci clean

help:  ## list the recipes
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup:  ## make .venv, with everything that the recipes below need
	python3 -m venv .venv
	.venv/bin/pip install -q -c constraints.txt -e '.[test,docs,examples,browser,readers,lake,fleet]' build coverage mypy 'pyright[nodejs]' ruff

test:  ## the everyday tests, in three minutes
	$(PYTHON) -m pytest

tests:  ## these and the slow ones
	$(PYTHON) -m pytest -m "not (reliability or browser or services or openapi or lake or fleet)"

reliability:  ## the reliability goals, for minutes
	$(PYTHON) -m pytest -m reliability

lint:  ## check style and formatting
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

fix:  ## fix what the linter can fix, and format
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

types:  ## check the types
	.venv/bin/mypy --strict np6_async tests/typing_checks.py examples/timeline examples/fastapi_events examples/worker
	.venv/bin/pyright --pythonpath $(PYTHON) np6_async tests/typing_checks.py

docs:  ## build the documentation into docs/_build/html
	$(PYTHON) -m sphinx -q -W --keep-going -b html docs docs/_build/html

site:  ## build the documentation of every release and of main into docs/_build/site
	$(PYTHON) -m sphinx_polyversion docs/versions.py

benchmarks:  ## measure, for 15 minutes
	.venv/bin/pip install -q -r benchmarks/requirements.txt
	$(PYTHON) -m benchmarks

release:  ## build and check what a release uploads (docs/release.md)
	rm -rf dist
	$(PYTHON) -m build
	.venv/bin/pip install -q twine
	.venv/bin/twine check --strict dist/*

ci:  ## everything that must hold before a change lands, for half an hour
	bash .ci/run

clean:  ## remove what the recipes made, .venv excepted
	rm -rf dist docs/_build .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
