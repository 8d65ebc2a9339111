# `make lab` and `make test` need Python 3.11 to 3.14 with pip and venv, and nothing else. `make help` lists all.
PYTHON ?= python3
VENV := .venv/bin/python

.PHONY: help lab reset stop test test-notebooks check format record learner-copy bench site environment clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1:\t/p' Makefile | expand -t 17

lab: environment  ## open your copy of the notebooks, work/, in JupyterLab; ARGS="--no-browser --port 8899" for it
	@$(VENV) .ci/lab.py $(ARGS)

reset:  ## put work/ aside under a dated name and make a new copy of the notebooks
	@"$(PYTHON)" .ci/work.py reset

stop:  ## end Dask's workers that a killed kernel of this folder has left, and nothing else
	@"$(PYTHON)" .ci/stop.py

test: environment check  ## run every check and test; sets itself up on first use
	@$(VENV) -m pytest

test-notebooks:  ## test notebooks and GPU code with PYTHON=/path/to/python; installs nothing
	@"$(PYTHON)" -m pytest -m "not setup"

check: environment  ## lint the code and check the notebooks' format
	@$(VENV) -m ruff check .
	@$(VENV) -m ruff format --check .
	@$(VENV) -m tests.books

format: environment  ## bring code and notebooks into their canonical format
	@$(VENV) -m ruff check --fix .
	@$(VENV) -m ruff format .
	@$(VENV) -m tests.books --fix

record: environment  ## run the notebooks here and keep their outputs (on a GPU, or FORCE=1)
	@$(VENV) -m tests.record $(if $(FORCE),--force) $(BOOKS)

learner-copy: environment  ## make learner/, a copy to hand out: no outputs, no solutions
	@$(VENV) .ci/learner.py

bench: environment  ## time k-means, engines x sizes x devices, and keep the figures in data/
	@$(VENV) -m tests.bench

site: environment  ## write the notebooks as web pages, with their recorded outputs, to site/
	@$(VENV) .ci/site.py

environment:
	@"$(PYTHON)" .ci/environment.py

clean:  ## remove the environment and what the tools left
	rm -rf .venv .pytest_cache .ruff_cache site
