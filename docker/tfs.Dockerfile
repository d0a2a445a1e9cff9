# The command line `tfs` as an image, for CI runners without Python, and for pods: it mirrors repositories from object stores
# and watches servers there. No TensorFlow, so it checks, compares contracts, renders, asks servers and changes what they
# serve, and doesn't export or run models. Built from the checkout's root:
#
#   docker build -f docker/tfs.Dockerfile -t tfs-deploy/tfs .
#
# BASE_IMAGE: any Debian or Ubuntu with Python 3.10 or newer and its venv module. If pip needs a proxy, a certificate or a
# package index of your own, put that into a base image (ENV PIP_CERT, PIP_INDEX_URL, ...).
#
# What it writes (config files, reports) belongs to the user that runs it:
#
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" tfs-deploy/tfs configure --spec serving.yaml
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS build
COPY docker/requirements.py /build/docker/
COPY .ci/requirements.txt /build/.ci/
RUN python3 -m venv /build/venv \
 && python3 /build/docker/requirements.py tfs > /build/tfs.requirements.txt \
 && /build/venv/bin/pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile --no-deps \
      --require-hashes --only-binary :all: --target /opt/tfs -r /build/tfs.requirements.txt \
 && rm -rf /opt/tfs/bin /opt/tfs/numpy/*/tests /opt/tfs/numpy/tests /opt/tfs/kubernetes/aio
COPY deploy /opt/tfs/deploy
RUN python3 -m compileall -q /opt/tfs \
 && mkdir -p /opt/tfs/bin \
 && printf '#!/bin/sh\nexec python3 -m deploy "$@"\n' > /opt/tfs/bin/tfs \
 && chmod 755 /opt/tfs/bin/tfs

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="tfs-deploy command line" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/tfs /opt/tfs
COPY --from=build /opt/tfs/bin/ /usr/bin/
ENV PYTHONPATH=/opt/tfs PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /work
USER 65534:65534
ENTRYPOINT ["/usr/bin/tfs"]
CMD ["--help"]
