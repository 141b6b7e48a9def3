# make demo: the main job on the embedded stub, with the real OpenAI SDK as the client.
# make test: lint, types and every test.  Both set up from nothing, and run the checkout as it is.
# make soak: ten minutes of an ordinary bad day, MINUTES=60 for an hour.
# make test-compiled, make soak, make bench, make bench-…: the same on an installed wheel, whose request path is compiled.
PYTHON   ?= python3
VENV     ?= .venv
BIN      := $(VENV)/bin
COMPILED := $(VENV)-compiled
PACKAGED := pyproject.toml hatch_build.py $(shell find proxy policies -name '*.py' -o -name '*.yaml' -o -name '*.json' -o -path '*/page/*.*')

.PHONY: demo test test-compiled lint lock sbom audit rehearse soak chaos fuzz \
	bench bench-features bench-check bench-experiment clean

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

# What is measured runs on the system's own Python where it is of the same version and can compile: like the image's it
# was built with profile guidance, and a plain build, as pyenv makes it, takes a tenth more for the same.
SYSTEMS := import os, sys; v = "python%d.%d" % sys.version_info[:2]; \
	print("/usr/bin/" + v if os.path.exists("/usr/bin/" + v) and os.path.exists("/usr/include/" + v + "/Python.h") else sys.executable)
COMPILED_PYTHON ?= $(shell $(PYTHON) -c '$(SYSTEMS)')

# The wheel; behind it on the path this folder, for bench and tests, and what the other environment has.
PACKAGES := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
$(COMPILED)/.ready: $(VENV)/.ready $(PACKAGED)
	$(COMPILED_PYTHON) -m venv --clear --without-pip $(COMPILED)
	$(BIN)/pip --python $(COMPILED) install --quiet --disable-pip-version-check --no-deps .
	(pwd; $(BIN)/python $(PACKAGES)) > "$$($(COMPILED)/bin/python $(PACKAGES))/behind.pth"
	touch $@

demo: $(VENV)/.ready
	$(BIN)/splitlane demo

# Four at a time, for they wait more than they work; then, one after the other, what measures time.
# What fails is looked at once more by itself, and said: three at most, for a busy machine stands still now and then.
IN_PARALLEL := --numprocesses 4 --dist worksteal -m 'not alone'
SECOND_LOOK = || { test $$? -eq 1 && $(BIN)/python -m pytest --last-failed --second-look 3; }
test: $(VENV)/.ready lint
	$(BIN)/python -m pytest --cache-clear $(IN_PARALLEL) $(SECOND_LOOK)
	$(BIN)/python -m pytest -m alone $(SECOND_LOOK)

# The request path itself, by its units and between sockets.
ON_WHEEL := --import-mode=append tests/split tests/budget tests/exchange tests/wire/test_chunk.py tests/upstream/test_chunks.py \
	$(foreach part,fallback stream framing cost,$(wildcard tests/integration/test_$(part)*.py))
# Safe path and appended imports: `proxy` is the installed one, in the tests and in what they start.
test-compiled: export PYTHONSAFEPATH = 1
test-compiled: $(COMPILED)/.ready
	$(COMPILED)/bin/splitlane --version | grep -F '(compiled)'
	$(COMPILED)/bin/splitlane demo
	$(COMPILED)/bin/python -m pytest $(IN_PARALLEL) $(ON_WHEEL)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

MINUTES ?= 10
soak: $(COMPILED)/.ready
	$(COMPILED)/bin/python -m bench.soak --minutes $(MINUTES)

# The rivals come into .rivals/.  QUICK=1: under two minutes, beside nginx and rolter only.
bench: $(COMPILED)/.ready
	$(COMPILED)/bin/python -m bench.install $(if $(QUICK),rolter)
	$(COMPILED)/bin/python -m bench $(if $(QUICK),--quick)

bench-features: $(COMPILED)/.ready
	$(COMPILED)/bin/python -m bench features

# Has the request path become slower than bench/floors.json says?
bench-check: $(COMPILED)/.ready
	$(COMPILED)/bin/python -m bench.check

bench-experiment: $(VENV)/.ready
	$(BIN)/python -m bench.experiment

# All faults at once against a running proxy with a store: half a minute, SECONDS=600 for longer.  CI runs two seconds of it.
chaos: $(VENV)/.ready
	$(BIN)/python -m bench.chaos --seconds $(or $(SECONDS),30)

# Search for inputs that break a law, each target for so many seconds: make fuzz SECONDS=600 TARGETS="sse splice"
fuzz: $(VENV)/.ready
	$(BIN)/pip install --quiet --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz run --seconds $(or $(SECONDS),60) $(TARGETS)

# The image's pinned and hashed dependencies, anew.
lock:
	deploy/image/lock.sh
	$(PYTHON) deploy/image/sbom.py

# What is in the image, for whoever must know: deploy/image/sbom.cdx.json, CycloneDX.
sbom:
	$(PYTHON) deploy/image/sbom.py

# Known vulnerabilities of what is locked.  Needs PyPI itself, and fails where it cannot be asked.
audit:
	deploy/image/audit.sh

# The Dockerfile, carried out without an engine: minutes, as root.  CI runs only its last stage, in tests/deploy.
rehearse:
	$(PYTHON) deploy/image/rehearse.py

clean:
	rm -rf $(VENV) $(COMPILED) build bench/run .rivals
