# Everything runs out of .venv, which is made here; nothing is installed outside of this folder
# (but `make test` installs Chromium and nginx where it may).

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$p; break; }; done)
BIN := .venv/bin
comma := ,
say = @printf '\033[1m==> %s\033[0m\n' "$(1)"

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev web demo up test test-long screenshots bench lint format debian-packages lock clean

help:
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1|/' | column -t -s '|'

setup: .venv/.runtime  ## install what running needs into .venv, and build the pages
	@$(MAKE) --no-print-directory web || echo "the pages could not be built; everything else works without them" >&2
setup-dev: .venv/.dev web/node_modules/.dev web  ## the same with the tools of the tests
web: api/static/index.html  ## build the pages

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found (set PYTHON=...)" >&2; exit 2; }
	$(call say,making .venv with $(PYTHON))
	@$(PYTHON) -m venv .venv || { echo "python -m venv failed (on Debian: apt-get install python3-venv)" >&2; exit 2; }

# pip checks every file against the lock's hashes; the project itself is linked in, without a look at its dependencies.
define install
$(call say,installing $(1): once and then only when it changes)
@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r $(1)
@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
endef

.venv/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	$(call install,requirements.lock)
	@touch $@

.venv/.dev: requirements-dev.lock pyproject.toml | $(BIN)/python
	$(call install,requirements-dev.lock)
	@touch $@ .venv/.runtime

# npm checks every file against the lock's hashes; no package may run a script of its own.
NPM = $(BIN)/python -m cli.web

web/node_modules/.runtime: web/package-lock.json | .venv/.runtime
	$(call say,installing what builds the pages: once and then only when it changes)
	@$(NPM) ci --omit=dev --ignore-scripts --loglevel error
	@touch $@

web/node_modules/.dev: web/package-lock.json | .venv/.runtime
	$(call say,installing what builds and tests the pages)
	@$(NPM) ci --ignore-scripts --loglevel error
	@touch $@ web/node_modules/.runtime

WEB := web/index.html web/vite.config.ts $(shell find web/src -type f -not -name openapi.d.ts)

api/static/index.html: $(WEB) web/node_modules/.runtime
	$(call say,building the pages)
	@$(NPM) run --silent build -- --logLevel warn
	@touch $@

demo: setup  ## start everything with a demo campaign that moves; Ctrl-C ends it
	@$(BIN)/reports geo || true
	@exec $(BIN)/reports demo

up: setup  ## start everything, for real use on one machine; Ctrl-C ends it
	@$(BIN)/reports geo || true
	@exec $(BIN)/reports up

# What uses neither servers nor a clock runs beside the rest, with the time that is left over. Of the tests on real parts
# those that failed are run once more, alone: twice is a failure, and once is told as what it is.
test: setup-dev debian-packages lint  ## all tests: real Kafka, Redis, RocksDB, nginx and Chromium
	$(call say,tests)
	@$(NPM) test --silent
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; trap 'kill $$rest; exit 130' INT TERM; \
	nice -n 19 $(BIN)/python -m pytest -q -m "not alone and not long" >"$$log" 2>&1 & rest=$$!; \
	alone="$(BIN)/python -m pytest -q -o cache_dir=.pytest_cache/alone"; \
	status=0; $$alone -n 2 --dist loadfile --no-loadscope-reorder -m "alone and not long" || status=$$?; \
	beside=0; wait $$rest || beside=$$?; cat "$$log"; \
	if [ $$status = 1 ]; then \
		printf '\033[1m==> %s\033[0m\n' "those that failed, once more"; \
		status=0; $$alone --last-failed --last-failed-no-failures none -m "alone and not long" || status=$$?; \
		[ $$status != 0 ] || echo "FLAKY: passed only the second time, see above; each is a bug, of the test or of the product"; \
	fi; \
	exit $$((status ? status : beside))

test-long: setup-dev debian-packages  ## the long faults and property runs
	$(call say,long tests)
	@$(BIN)/python -m pytest -q -m long --timeout 0

screenshots: setup-dev debian-packages  ## pictures of every page into screenshots/
	@$(BIN)/python -m tests.web.screenshots

bench: setup-dev  ## measure, and print each figure with its goal
	@$(BIN)/python -m bench

# The API's own description as types: only checks need it, builds and tests drop types.
web/src/api/openapi.d.ts: $(shell find api app -name '*.py') web/node_modules/.dev
	@$(BIN)/reports openapi > web/openapi.json
	@$(NPM) run --silent types >/dev/null
	@touch $@

lint: setup-dev web/src/api/openapi.d.ts  ## ruff and mypy; the types and rules of the pages
	$(call say,ruff$(comma) mypy$(comma) and the types and rules of the pages)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(NPM) run --silent check

format: setup-dev  ## let ruff put things right
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# What the tests need and no wheel brings, as `command Debian-package` in pairs.
debian-packages:
	@set -- chromium chromium nginx nginx-light ip iproute2; missing=; \
	while [ $$# -gt 0 ]; do \
		case $$1 in chromium) names="chromium chromium-browser google-chrome";; *) names="$$1 /usr/sbin/$$1";; esac; \
		found=; for name in $$names; do if command -v $$name >/dev/null; then found=1; fi; done; \
		[ -n "$$found" ] || missing="$$missing $$2"; \
		shift 2; \
	done; \
	if [ -z "$$missing" ]; then :; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		printf '\033[1m==> %s\033[0m\n' "installing for the tests:$$missing"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null; } \
			|| echo "could not be installed, and the tests need it:$$missing" >&2; \
	else echo "the tests need what is not here (on Debian: apt-get install$$missing)" >&2; fi

UV_LOCK = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet --extra build

lock: setup-dev  ## resolve the locks anew from pyproject.toml
	@$(UV_LOCK) --output-file requirements.lock
	@$(UV_LOCK) --extra dev --constraint requirements.lock --output-file requirements-dev.lock
	@! grep -n '://' requirements.lock requirements-dev.lock

clean:  ## remove caches and the build folder (.venv and var/ stay)
	@rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.venv/*' -not -path './var/*' -prune -exec rm -rf {} +
