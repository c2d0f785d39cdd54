# docker build -t smart-imaging-sidecar .
# docker run -p 8080:8080 -v "$PWD/config.yaml:/etc/smart-imaging-sidecar/config.yaml:ro" smart-imaging-sidecar
# Several workers (server.workers) share a catalog below /var/lib/smart-imaging-sidecar; where the file system is read-only, that is
# a volume: --read-only --tmpfs /tmp -v catalog:/var/lib/smart-imaging-sidecar. What they share in memory is in /dev/shm.
# With what draws images in `demo`: --build-arg EXTRAS=demo
# On a base that cannot change under its tag: --build-arg BASE_DIGEST=sha256:…

ARG BASE_DIGEST=""
FROM python:3.13-slim-trixie${BASE_DIGEST:+@$BASE_DIGEST} AS builder

ARG EXTRAS=""
# The time of every file that is installed. (2 February 2020, as hatchling has it in wheels.)
ARG SOURCE_DATE_EPOCH=1580601600
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1

WORKDIR /build
COPY pyproject.toml README.md LICENSE requirements.lock ./
COPY .ci/pins ./.ci/pins
COPY sidecar ./sidecar
# Wheels only: the runtime image has no compiler and no source package may need one. Each has the hash of the lock, but ours, which is
# made here. The environment gets no pip of its own.
RUN python .ci/pins build-system >pins-build \
    && python -m pip install -q --require-hashes --only-binary :all: --no-compile -r pins-build \
    && python -m pip wheel -q --no-deps --no-build-isolation --wheel-dir dist . \
    && python .ci/pins "dependencies${EXTRAS:+,$EXTRAS}" >pins \
    && python -m venv --without-pip /opt/smart-imaging-sidecar \
    && python -m pip --python /opt/smart-imaging-sidecar/bin/python install -q --require-hashes --only-binary :all: --no-compile -r pins \
    && python -m pip --python /opt/smart-imaging-sidecar/bin/python install -q --no-deps --no-compile dist/*.whl \
    && python -m pip --python /opt/smart-imaging-sidecar/bin/python check

# Two thirds of what the wheels bring is for no run: tests, headers, stubs, sources of extensions, debug symbols, and Pillow's
# formats and fonts beyond those that archives render. Shared libraries in *.libs were patched, and do not survive strip.
# No WORKDIR, for the folder has the Python's version in its name. binutils stays in this stage, so its version is left open.
# hadolint ignore=DL3003,DL3008
RUN apt-get update -qq && apt-get install -qq --no-install-recommends binutils >/dev/null \
    && cd /opt/smart-imaging-sidecar/lib/python3*/site-packages \
    && find . -type d -name tests -prune -exec rm -r {} + \
    && find . -type f -regextype egrep -regex '.*\.(a|c|h|ini|pxd|pxi|pyi|pyx)' -delete \
    && find PIL pillow.libs -regextype egrep -regex \
        '.*/(_avif|_imaging(cms|ft|tk)|_webp|lib(avif|brotli|freetype|harfbuzz|lcms2|png16|sharpyuv|webp))[^/]*\.so[^/]*' -delete \
    && find numpy/_core -regextype egrep -regex '.*/(_simd|[a-z_]+_tests)\..*\.so' -delete \
    && rm -rf numpy/distutils numpy/f2py pydicom/benchmarks \
    && { [ "$EXTRAS" = demo ] || rm -r pydicom/data/charset_files pydicom/data/test_files; } \
    && find . -name '*.so' ! -path './*.libs/*' -exec strip --strip-unneeded {} +

# Two builds install the same files: what is compiled knows its source by contents, not by the time of its installation, and
# nothing looks for a newer source, as there is none in an image. What `serve` does not import is not compiled: 12 MB for 0.7 s of
# `check`.
RUN PYTHONHASHSEED=0 python -m compileall -q --invalidation-mode unchecked-hash \
        -x '/(PIL|dicomweb_client|numpy|pydicom)/' /opt/smart-imaging-sidecar/lib \
    && find /opt/smart-imaging-sidecar -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +


FROM python:3.13-slim-trixie${BASE_DIGEST:+@$BASE_DIGEST}

ARG BASE_DIGEST
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="smart-imaging-sidecar" \
      org.opencontainers.image.description="Authorization sidecar that opens a PACS's DICOMweb to SMART on FHIR apps, one patient at a time" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="python:3.13-slim-trixie" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"

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
