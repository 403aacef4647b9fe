# One image for every process: `run <modules>`, `prepare`, `dlq`. Engines and development tools are not in it; packages come from lock files
# with hashes. Versions are fixed here; for a release, pin the two bases by digest with --build-arg. A second one, by `--target loadtests`,
# is for visitors from outside (charts/loadtests) and holds nothing of the platform.
ARG PYTHON=python:3.11.14-slim-bookworm
ARG NODE=node:22.12.0-bookworm-slim

FROM ${NODE} AS console
WORKDIR /console
COPY console/.npmrc console/package.json console/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY console/ ./
RUN npm run build

FROM ${PYTHON} AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
WORKDIR /build
# Packages first: they change more rarely than the sources, and the layer is kept. uv takes a quarter of pip's time for them.
COPY requirements.image.lock requirements.build.lock ./
RUN python -m venv /tools \
    && /tools/bin/pip install --require-hashes --no-deps --only-binary :all: --requirement requirements.build.lock \
    && python -m venv --without-pip /venv \
    && /tools/bin/uv pip install --python /venv --compile-bytecode --require-hashes --no-deps --only-binary :all: --requirement requirements.image.lock
COPY pyproject.toml README.md LICENSE ./
COPY protos/topics/ protos/topics/
COPY services/ services/
COPY operators/ operators/
RUN /tools/bin/hatchling build --target wheel --directory /wheels \
    && /tools/bin/uv pip install --python /venv --compile-bytecode --no-deps --no-index /wheels/*.whl

FROM ${PYTHON} AS loadtests
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
COPY requirements.loadtests.lock ./
RUN python -m venv /venv \
    && /venv/bin/pip install --require-hashes --no-deps --only-binary :all: --requirement requirements.loadtests.lock \
    && /venv/bin/pip uninstall --yes pip setuptools
COPY loadtests/ loadtests/
# Read-only as well; what is written goes to /tmp.
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
USER 10001:10001
ENTRYPOINT ["locust", "--locustfile", "loadtests/scenarios/visitors.py"]
CMD ["--help"]

# The last stage is what a build without a target makes.
FROM ${PYTHON} AS runtime
COPY --from=packages /venv /venv
COPY --from=console /console/dist /app/console
# What is written goes to /data and /tmp, which are volumes on a cluster; the image itself may be read-only.
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    GATEWAY_CONSOLE=/app/console
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["groundswell"]
CMD ["--help"]
