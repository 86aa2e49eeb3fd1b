# The worker as an image: an environment from the lock file, on a slim base, run by nobody in particular.
# docker build -t aimicromind-worker .
ARG BASE_IMAGE=docker.io/library/python:3.13-slim-trixie

FROM ${BASE_IMAGE} AS build
ARG UV_VERSION=0.13.9
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PROJECT_ENVIRONMENT=/opt/aimicromind \
    UV_PYTHON_DOWNLOADS=never \
    UV_SYSTEM_CERTS=1
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir "uv==${UV_VERSION}"
WORKDIR /src
# What the lock file names changes less often than our own code, so it has a layer of its own.
COPY pyproject.toml uv.lock ./
COPY schemas/pyproject.toml schemas/
COPY testing/pyproject.toml testing/
COPY worker/pyproject.toml worker/
RUN /opt/uv/bin/uv sync --frozen --no-dev --package aimicromind-worker --extra demo --extra otel --no-install-workspace
COPY schemas schemas
COPY testing testing
COPY worker worker
RUN /opt/uv/bin/uv sync --frozen --no-dev --package aimicromind-worker --extra demo --extra otel --no-editable

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="aimicromind-worker" \
      org.opencontainers.image.description="The RabbitMQ worker for AiMicromind streaming predictions" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY --from=build /opt/aimicromind /opt/aimicromind
ENV PATH=/opt/aimicromind/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /opt/aimicromind
# A number, so that Kubernetes can tell without looking that it is not root.
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; probe = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('AIMICROMIND_HEALTH_PORT') or 8080), timeout=4); probe.request('GET', '/livez'); sys.exit(probe.getresponse().status != 200)"]
ENTRYPOINT ["aimicromind-worker"]
CMD ["run"]
