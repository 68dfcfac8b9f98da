FROM python:3.11-slim-bookworm AS compiled
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev make
WORKDIR /srv
COPY Makefile .
COPY model model
COPY app app
COPY LICENSE .
# COPY keeps modes: a clone under a umask of 077 has files that the user of the service could not read.
RUN make native && chmod --recursive a+rX model app LICENSE

FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

# glibc hands the memory of every large tensor back and faults it in again, which costs a CPU much time. On a GPU, Triton
# compiles its launcher with gcc, the C headers and Python.h, which this image has.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libjemalloc2 \
    && rm -rf /var/lib/apt/lists/*
ENV LD_PRELOAD=libjemalloc.so.2 \
    MALLOC_CONF=dirty_decay_ms:-1,muzzy_decay_ms:-1,oversize_threshold:0,lg_extent_max_active_fit:30,thp:always
# Threads that wait for one another by spinning keep the processor from whom they wait for: docs/benchmarks.md.
ENV OMP_WAIT_POLICY=passive

# By far the largest layer, and the one that changes least. PyTorch asks for the name and the home of its user. `image` is
# `base` with a reader of HEIC, and with networks of other architectures; without: `--build-arg REQUIREMENTS=base`.
ARG REQUIREMENTS=image
# pyvips is published as source only: `build` locks what builds it, which pip would otherwise fetch without a hash.
COPY requirements/build.txt /tmp/build.txt
COPY requirements/${REQUIREMENTS}.txt /tmp/requirements.txt
RUN install="python -m pip install --no-cache-dir --root-user-action=ignore --disable-pip-version-check --require-hashes" \
    && $install --requirement /tmp/build.txt \
    && $install --no-build-isolation --requirement /tmp/requirements.txt \
    && rm /tmp/build.txt /tmp/requirements.txt \
    && useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin esrgan \
    && install --directory --owner esrgan --group root --mode 770 /var/cache/esrgan /var/lib/esrgan

# Triton's kernels, CUDA's own; has to be writable, and executable, on a GPU.
ENV TRITON_CACHE_DIR=/var/cache/esrgan/triton \
    CUDA_CACHE_PATH=/var/cache/esrgan/cuda \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

WORKDIR /srv
COPY --from=compiled /srv/model model
COPY --from=compiled /srv/app app
COPY --from=compiled /srv/LICENSE .

USER esrgan
ENV ESRGAN_HOST=0.0.0.0 \
    ESRGAN_LOG_FORMAT=json \
    ESRGAN_JOBS_FOLDER=/var/lib/esrgan
VOLUME /var/lib/esrgan
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=8s --start-period=2m CMD ["python", "-m", "app", "health"]
CMD ["python", "-m", "app"]
