# docker build -t smart-imaging-sidecar .
# docker run -p 8080:8080 -v "$PWD/config.yaml:/etc/smart-imaging-sidecar/config.yaml:ro" smart-imaging-sidecar
# Several workers (server.workers) share a catalog below /var/lib/smart-imaging-sidecar; where the file system is read-only, that is
# a volume: --read-only --tmpfs /tmp -v catalog:/var/lib/smart-imaging-sidecar. What they share in memory is in /dev/shm.
# With what draws images in `demo`: --build-arg EXTRAS=demo

FROM python:3.13-slim-trixie AS builder

ARG EXTRAS=""
# The time of every file that is installed. (2 February 2020, as hatchling has it in wheels.)
ARG SOURCE_DATE_EPOCH=1580601600
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore

WORKDIR /build
COPY pyproject.toml README.md LICENSE requirements.lock ./
COPY sidecar ./sidecar
# Wheels only: the runtime image has no compiler and no source package may need one. The environment gets no pip of its own.
# Two builds install the same files: what is compiled knows its source by contents, not by the time of its installation, and
# nothing looks for a newer source, as there is none in an image.
RUN python -m pip wheel -q --no-deps --wheel-dir dist . \
    && python -m venv --without-pip /opt/smart-imaging-sidecar \
    && python -m pip --python /opt/smart-imaging-sidecar/bin/python install -q --only-binary :all: --no-compile \
        --constraint requirements.lock "$(echo dist/*.whl)${EXTRAS:+[$EXTRAS]}" \
    && PYTHONHASHSEED=0 python -m compileall -q --invalidation-mode unchecked-hash /opt/smart-imaging-sidecar/lib \
    && find /opt/smart-imaging-sidecar -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +


FROM python:3.13-slim-trixie

ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="smart-imaging-sidecar" \
      org.opencontainers.image.description="Authorization sidecar that opens a PACS's DICOMweb to SMART on FHIR apps, one patient at a time" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="python:3.13-slim-trixie"

ENV PATH=/opt/smart-imaging-sidecar/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# What comes with the base and could install more is of no use here.
RUN python -m pip uninstall -q -y --root-user-action ignore pip \
    && rm -r "$(python -c 'import ensurepip; print(*ensurepip.__path__)')" \
    && groupadd --gid 10001 sidecar \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin sidecar \
    && install -d --owner 10001 --group 10001 --mode 700 /var/lib/smart-imaging-sidecar

# All of /opt, as a folder that is named here would get the time of the build.
COPY --from=builder /opt /opt

# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 10001:10001
WORKDIR /

# 8080: the public API; 9090: metrics and health, for the inside only.
EXPOSE 8080 9090

HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:9090/healthz', timeout=4)"]

ENTRYPOINT ["smart-imaging-sidecar"]
CMD ["serve", "--config", "/etc/smart-imaging-sidecar/config.yaml"]
