# Two commands from a fresh clone: `make serve` and `make test`. Everything they install stays in .venv.

# Targets share .venv, and only one pip may change it at a time.
.NOTPARALLEL:

VENV := .venv
PYTHON := $(VENV)/bin/python
INTERPRETERS ?= python3.13 python3.12 python3.11 python3
DOCKER := docker
REPLICAS := 2

# `PORT=9000 make serve` and `make serve PORT=9000` are the same.
ifdef PORT
export ESRGAN_PORT := $(PORT)
endif

# glibc returns the memory of every large tensor to the system and faults it in again, which is slow.
JEMALLOC := $(firstword $(wildcard $(addsuffix /libjemalloc.so.2,\
    /usr/lib/$(shell uname -m)-linux-gnu /usr/lib64 /usr/lib /usr/local/lib)))
# jemalloc keeps freed memory, and reuses it for allocations of any size. By default it does not split ranges that are
# over 64 times as large as a request, and has a separate arena for 8 MiB and more: without decay, such a process would
# grow forever (tests/test_allocator.py).
KEEP := MALLOC_CONF=dirty_decay_ms:-1,muzzy_decay_ms:-1,oversize_threshold:0,lg_extent_max_active_fit:30,thp:always
RUN_ONE := env LD_PRELOAD=$(JEMALLOC)
RUN := exec $(RUN_ONE)

# Compiled libraries, next to their sources, for the packages that are present: the image has no training/. Their names
# differ from those of the modules that load them, because Python would import the libraries instead.
C_SOURCES := $(wildcard app/*/*.c model/*.c model/*/*.c model/*/*/*.c training/*/*.c)
CONVOLUTIONS := model/convolutions/native
NATIVE := $(foreach source,$(C_SOURCES),$(dir $(source))lib$(basename $(notdir $(source))).so)
CFLAGS := -O3 -Wall -Wextra
# As needed: a library that does not use OpenMP must not require it, since the image has only PyTorch's.
OPENMP = $(shell flags='-Wl,--as-needed -fopenmp'; \
    echo 'int main(void) { return 0; }' | $(CC) $$flags -x c - -o /dev/null 2>/dev/null && echo $$flags)

# By default, threads of the network spin while they wait for each other, which takes the CPU from other work, such as
# the encoding of an answer: docs/benchmarks.md.
PATIENT := OMP_WAIT_POLICY=passive

# Tests in which the service or a network chooses its number format.
WHOLE_NETWORKS := tests/model/test_reliable.py tests/model/test_command.py tests/app/http/endpoints/test_upscale.py \
    tests/app/test_ensemble.py tests/app/library/test_fidelity.py tests/test_pth_to_answer.py

.PHONY: help native serve serve-cluster train test test-formats test-oldest coverage check bench bench-gpu gpu-acceptance \
    gpu-wheels gpu-acceptance-offline bench-runtimes \
    bench-bands bench-load bench-fairness bench-jobs bench-memory bench-poster bench-seams bench-png bench-replicas \
    bench-routing bench-history bench-training soak audit openapi vendor lock \
    image clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s  %s\n", $$1, $$2 }' Makefile

native: $(NATIVE) ## compile the C sources (other targets do it if there is a compiler)
	@ls $^ >/dev/null

$(CONVOLUTIONS)/libwinograd.so: $(wildcard $(CONVOLUTIONS)/winograd_*.h $(CONVOLUTIONS)/waiting.h)
$(CONVOLUTIONS)/libamx.so: $(wildcard $(CONVOLUTIONS)/amx_*.h $(CONVOLUTIONS)/waiting.h)
training/native/libconvolutions.so: $(wildcard training/native/*.h) $(CONVOLUTIONS)/amx_unit.h
lib%.so: %.c
	@if ! command -v $(firstword $(CC)) >/dev/null; then rm -f $@; echo "No C compiler ($(CC)): using the slower Python version of $<."; \
	elif $(CC) $(CFLAGS) -fPIC -shared $(OPENMP) -o $@.unfinished.so $<; then mv -f $@.unfinished.so $@; \
	else rm -f $@ $@.unfinished.so; echo "$< does not compile: using its slower Python version."; fi

serve: $(VENV)/base.stamp $(NATIVE) ## run the service on 127.0.0.1:8000 (another port: PORT=9000)
	@$(RUN) $(KEEP) $(PATIENT) $(PYTHON) -m app

serve-cluster: $(VENV)/base.stamp $(NATIVE) ## run several replicas behind HAProxy (Debian: haproxy): REPLICAS=2 PORT=9000
	@$(RUN) $(KEEP) $(PATIENT) $(PYTHON) -m app replicas $(REPLICAS)

train: $(VENV)/train.stamp $(NATIVE) ## train or measure a generator: ARGS="compact_psnr_x4 --data PHOTOS --out runs/mine"
	@$(RUN) $(KEEP) $(PYTHON) -m training $(ARGS)

# All tests run in one process per core, up to four; a selection runs in one. The tests of a file stay together.
PROCESSES = $(shell cores=$$(nproc); echo $$((cores < 4 ? cores : 4)))
test: $(VENV)/dev.stamp $(NATIVE) ## run the tests (a selection: ARGS="-m slow")
	@$(RUN) $(PATIENT) $(PYTHON) -m pytest $(if $(ARGS),$(ARGS),--numprocesses $(PROCESSES) --dist loadfile)

# Each machine measures which number format is fastest, so the tests must pass in all of them. A processor emulates the
# formats that it lacks.
test-formats: $(VENV)/dev.stamp $(NATIVE) ## run the tests of whole networks in each number format
	@for precision in float32 bfloat16 float16; do \
	    $(RUN_ONE) $(PATIENT) $(PYTHON) -m pytest -q --precision $$precision $(WHOLE_NETWORKS) || exit 1; \
	done

# The lower ends of the ranges in pyproject.toml are promises, too.
test-oldest: $(PYTHON) $(NATIVE) ## run the tests with the oldest packages that pyproject.toml allows (needs uv; 6 GB in .venv-oldest)
	@uv venv --quiet --allow-existing --python $(PYTHON) .venv-oldest
	@uv pip compile pyproject.toml --quiet --extra train --extra dev --resolution lowest-direct | \
	    uv pip sync --quiet --python .venv-oldest -
	@$(RUN) $(PATIENT) .venv-oldest/bin/python -m pytest $(ARGS)

# Tracing slows Python down, so tests with limits on CPU time are left out.
coverage: $(VENV)/dev.stamp $(NATIVE) ## run the tests with branch coverage, and fail below the floor in pyproject.toml
	@$(RUN_ONE) $(PATIENT) $(PYTHON) -m coverage run -m pytest --ignore-glob="*test_costs_*" $(ARGS)
	@$(PYTHON) -m coverage report

check: $(VENV)/dev.stamp ## check format, lint and types, also of the examples in docs/
	@$(PYTHON) -m ruff format --check
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m mypy
	@.ci/examples $(PYTHON)

# `bench` runs all benchmarks with the same ARGS, which name the network; each also has its own target. Runtimes are
# measured with their default allocator, the service with that of `make serve`.
BENCH := $(PYTHON) -m benchmarks
bench: $(VENV)/dev.stamp $(VENV)/bench.stamp $(NATIVE) ## measure runtimes, load, fairness, memory, seams and PNG: ARGS="--network 23 --record"
	@$(BENCH) $(ARGS)
	@$(RUN) $(KEEP) $(PATIENT) $(BENCH).load --litserve $(ARGS)
	@$(RUN) $(KEEP) $(PATIENT) $(BENCH).fairness $(ARGS)
	@$(RUN) $(KEEP) $(PATIENT) $(BENCH).memory $(ARGS)
	@$(BENCH).seams $(ARGS)
	@$(RUN) $(KEEP) $(BENCH).png $(ARGS)

bench-gpu: $(VENV)/dev.stamp $(VENV)/bench.stamp $(NATIVE) ## test and measure everything that needs an NVIDIA GPU
	@$(PYTHON) -m pytest -m gpu
	@$(BENCH) --device cuda --network 23 --side 512
	@$(BENCH).load --litserve --network 23
	@$(BENCH).fairness --network 23

gpu-acceptance: $(VENV)/dev.stamp $(VENV)/bench.stamp $(NATIVE) ## run the checks that need a GPU, and write a report (rehearsal: ARGS=--cpu)
	@$(PYTHON) -m benchmarks.acceptance $(ARGS)

# For a machine without network whose own Python has PyTorch, torchvision and Triton. pyvips is published as source only;
# its wheel suits every Python.
FOR_PYTHON := 3.12
FOR_MACHINE := x86_64
MANYLINUX := manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014
gpu-wheels: | $(VENV)/build.stamp ## fetch into wheels/ the packages that gpu-acceptance-offline installs: FOR_PYTHON=3.12 FOR_MACHINE=x86_64
	@rm -rf wheels
	@$(PYTHON) -m pip download --quiet --require-hashes --no-deps --only-binary :all: --no-binary pyvips --dest wheels \
	    --python-version $(FOR_PYTHON) $(MANYLINUX:%=--platform=%_$(FOR_MACHINE)) --requirement requirements/gpu-acceptance.txt
	@$(PYTHON) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir wheels wheels/pyvips-*.tar.gz
	@rm wheels/*.tar.gz

gpu-acceptance-offline: $(NATIVE) ## the same by python3 and the packages in wheels/, without network
	@python3 -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target $(VENV)/offline wheels/*.whl
	@PYTHONPATH=$(CURDIR)/$(VENV)/offline python3 -m benchmarks.acceptance $(ARGS)

bench-runtimes: $(VENV)/dev.stamp $(VENV)/bench.stamp $(NATIVE) ## measure every runtime: ARGS="--network 23 --side 384"
	@$(BENCH) $(ARGS)

BENCHES := bench-bands bench-load bench-fairness bench-jobs bench-memory bench-poster bench-seams bench-png bench-replicas bench-routing
bench-bands: ## measure bands of few rows, alone and next to busy processes
bench-load: ## measure the service under load: ARGS="--litserve eager"
bench-fairness: ## measure a small picture's latency during a large one
bench-jobs: ## measure a small picture's latency while 1,000 jobs wait
bench-memory: ## measure the memory of a stream
bench-poster: ## measure the service's memory during very large pictures: ARGS=--tiny
bench-seams: ## measure and plot the errors of tiles at their edges
bench-replicas: ## compare replicas behind HAProxy with a single one: ARGS="--replicas 2 --threads 1"
bench-routing: ## simulate ways to choose a replica: ARGS="--devices 4 8"
bench-png: ## measure PNG encoders: ARGS="--folder PHOTOS"
$(BENCHES): bench-%: $(VENV)/dev.stamp $(VENV)/bench.stamp $(NATIVE)
	@$(RUN) $(KEEP) $(PATIENT) $(BENCH).$* $(ARGS)

bench-history: $(VENV)/dev.stamp $(VENV)/bench.stamp ## plot the results in benchmarks/results/ over time (recorded with ARGS=--record)
	@$(BENCH).history $(ARGS)

soak: $(VENV)/dev.stamp $(NATIVE) ## watch the service's memory under good and bad callers: ARGS="--minutes 10"
	@$(RUN) $(KEEP) $(BENCH).soak $(ARGS)

bench-training: $(VENV)/dev.stamp $(NATIVE) ## measure training steps: ARGS="--data PHOTOS"
	@$(RUN) $(KEEP) $(PYTHON) -m benchmarks.training $(ARGS)

audit: $(VENV)/dev.stamp ## check the service's dependencies, including HEIC, for known vulnerabilities (needs the network)
	@$(PYTHON) -m pip_audit --requirement requirements/image.txt --disable-pip --progress-spinner off

openapi: $(VENV)/base.stamp ## rewrite docs/openapi.json from the code
	@$(PYTHON) -m app openapi > docs/openapi.json

vendor: ## update the files of npm packages in app/http/static/, from each vendored.json there
	@.ci/vendor $(patsubst %/,%,$(dir $(wildcard app/http/static/*/vendored.json)))

# Each lock is constrained by the previous one, so that all of them can be installed together, in any order. `build` has what
# pyvips names in `build-system`; that of gpu-acceptance has no PyTorch, nor what comes with torchvision.
LOCK := uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --fork-strategy fewest \
    --generate-hashes --no-emit-index-url --custom-compile-command "make lock" $(ARGS)
lock: ## rewrite requirements/ from pyproject.toml with uv (newest versions: ARGS=--upgrade)
	@$(LOCK) --output-file requirements/base.txt
	@printf '%s\n' cffi pkgconfig setuptools | $(LOCK:pyproject.toml=-) --constraint requirements/base.txt \
	    --output-file requirements/build.txt
	@$(LOCK) --extra train --constraint requirements/base.txt --output-file requirements/train.txt
	@$(LOCK) --extra train --extra dev --constraint requirements/train.txt --output-file requirements/dev.txt
	@printf '%s\n' numpy pillow torch | $(LOCK) --extra gpu-acceptance --constraint requirements/dev.txt \
	    --excludes /dev/stdin --output-file requirements/gpu-acceptance.txt
	@$(LOCK) --extra bench --constraint requirements/dev.txt --output-file requirements/bench.txt
	@$(LOCK) --extra otel --constraint requirements/dev.txt --output-file requirements/otel.txt
	@$(LOCK) --extra heic --extra spandrel --constraint requirements/dev.txt --output-file requirements/image.txt
	@$(LOCK) --extra cluster --constraint requirements/dev.txt --output-file requirements/cluster.txt
	@$(LOCK) --extra postgres --extra s3 --constraint requirements/dev.txt --output-file requirements/jobs.txt

image: ## build the container image esrgan-serve
	@$(DOCKER) build --tag esrgan-serve .

clean: ## remove .venv, wheels, compiled libraries and caches; runs/ stays
	@rm -rf $(VENV) wheels $(NATIVE) .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp newer than its lock: the lock is installed. A new .venv has no stamps. pyvips is published as source only, and is
# built by the packages of build.txt: pip would otherwise fetch the newest ones, without a hash.
INSTALL := $(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes
$(VENV)/build.stamp: requirements/build.txt | $(PYTHON)
	@$(INSTALL) --requirement $<
	@touch $@

$(VENV)/%.stamp: requirements/%.txt | $(VENV)/build.stamp
	@echo "Installing requirements/$*.txt into $(VENV); the first time this fetches several GB."
	@$(INSTALL) --no-build-isolation --requirement $<
	@touch $@

$(PYTHON):
	@for python in $(INTERPRETERS); do \
	    $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	        && exec $$python -m venv --clear $(VENV); \
	done; \
	echo "No Python 3.11 or newer with venv and pip was found: install python3 and python3-venv, then try again." >&2; exit 1
