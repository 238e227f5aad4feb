# make demo    restores the images in samples/
# make test    runs the tests
# make check   looks for mistakes in style and types
#
# make test-fast   runs the tests that need no ComfyUI, start no process and take no seconds
#
# make test-host   runs tests/host/: the nodes, the texts, and in a real ComfyUI (0.3.75)
#   COMFYUI_TREE=FOLDER make test-host       in the ComfyUI of that folder, of any newer version
#   COMFYUI_FRONTEND=1.58.1 make test-host   with that version of its page
#
# make fuzz MINUTES=10   attacks it with damaged files, odd names, signals: see tests/fuzz/README.md
#
# Each makes what it needs in .venv first; nothing outside this folder is touched.
# Another Python than python3: make test PYTHON=python3.12
# Some tests only:             make test PYTEST=tests/model/test_tasks.py
# Another torch:               make test CONSTRAINTS=FILE, with a line like torch==2.6.0 in it

PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
MINUTES ?= 10
RUN := .venv/bin/python
# Tests are compiled once, not by each run, and each process, again.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test test-fast test-host fuzz check clean
.NOTPARALLEL:

demo: .venv/standalone.stamp
	$(RUN) -m devudp_model.cli restore samples --out demo --compare --overwrite
	@echo "Results: demo/*.jpg   Before and after, side by side: demo/*.compare.jpg"

# One process has ComfyUI's tests, the other the rest, file by file: tests/conftest.py.
test: .venv/test.stamp
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

test-fast: .venv/test.stamp
	$(RUN) -m pytest -n logical --maxprocesses 4 --dist worksteal -m "not comfyui and not slow" $(PYTEST)

test-host: .venv/test.stamp
	$(RUN) -m pytest tests/host $(PYTEST)

fuzz: .venv/test.stamp
	$(RUN) -m tests.fuzz --minutes $(MINUTES)

check: .venv/test.stamp .venv/check.stamp
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m pyright --pythonpath $(RUN)

# The stem is the name of an extra in pyproject.toml.
.venv/%.stamp: pyproject.toml $(CONSTRAINTS)
	test -x $(RUN) || $(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
	@echo "Installing what '$*' needs into .venv: minutes, the first time"
	$(RUN) -m pip install --quiet --constraint $(CONSTRAINTS) --editable ".[$*]"
	touch $@

clean:
	rm -rf .venv demo
