# The proxy as an image: `docker build -t splitlane .`
#
# CPython 3.14: the newest for which every compiled dependency has a wheel.  3.15 waits for one of orjson.
ARG PYTHON=3.14

# 1. The wheel, whose request path mypyc compiles, and the environment that it is installed in.
#    The full image of the same Debian and the same Python, for its compiler; nothing of it is shipped.
FROM python:${PYTHON}-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY deploy/image/build.lock deploy/image/requirements.lock ./
RUN python3 -m venv /build \
 && /build/bin/pip install --quiet --require-hashes --only-binary :all: -r build.lock
RUN python3 -m venv --without-pip /opt/splitlane \
 && /build/bin/pip --python /opt/splitlane install --quiet --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml hatch_build.py README.md ./
COPY proxy ./proxy
COPY policies ./policies
# Set to 1, it leaves the compiler out: quick to build, and 1.8 times the processor time to run.
ARG SPLITLANE_PURE=
RUN SPLITLANE_PURE=${SPLITLANE_PURE} /build/bin/pip wheel --quiet --no-build-isolation --no-deps --wheel-dir /wheels . \
 && /build/bin/pip --python /opt/splitlane install --quiet --no-index --no-deps /wheels/*.whl \
 && /opt/splitlane/bin/splitlane --version

# 2. What runs: Python, that environment, and a folder to write to.
FROM python:${PYTHON}-slim-trixie
LABEL org.opencontainers.image.title="Splitlane" \
      org.opencontainers.image.description="A sidecar reverse proxy that splits LLM traffic between fine-tuned models and a baseline, provably fairly" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.source="https://github.com/splitlane/splitlane" \
      org.opencontainers.image.documentation="https://github.com/splitlane/splitlane/blob/main/docs/production.md"
COPY --from=build /opt/splitlane /opt/splitlane
# The store and the reports of the shipped policies are relative to this folder.
WORKDIR /var/lib/splitlane
RUN chown 65532:65532 /var/lib/splitlane
ENV PATH=/opt/splitlane/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
VOLUME /var/lib/splitlane
# Data and admin.  Both listen on 127.0.0.1 unless `--listen` or `--admin` says otherwise.
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 CMD ["splitlane", "health"]
ENTRYPOINT ["splitlane"]
CMD ["serve"]
