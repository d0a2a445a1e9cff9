# Bakes published models and their server's config files into any serving image: an immutable release.
#
# `tfs image build` streams the context, puts the wanted versions' digests into labels, verifies the image with the
# smoke test and only then tags it. There each version is a COPY, and so a layer, of its own: the next release's image has
# the same layers for the versions that stay, and they are built, pushed and pulled once. By hand, with `models/<name>/<version>/` and `config/` in a directory:
#
#   docker build -f docker/serving.Dockerfile --build-arg BASE_IMAGE=tensorflow/serving:2.20.0 DIRECTORY
#
# The server has no handler for SIGTERM, which the system then keeps from a process with pid 1: `docker stop` would wait
# and kill. So pid 1 is a shell that hands it on, or ends, and the container with it, while there is no server yet; with
# an init process (docker run --init, init: true) it does no harm. Flags after the image's name replace those of CMD, as
# for any image.
#
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges:true \
#     -p 127.0.0.1:8500:8500 -p 127.0.0.1:8501:8501 IMAGE
ARG BASE_IMAGE=tensorflow/serving:2.20.0
FROM ${BASE_IMAGE}
COPY models /models
COPY config /etc/tfs
ENV HOME=/tmp
USER 65534:65534
EXPOSE 8500 8501
ENTRYPOINT ["/bin/sh", "-c", \
  "trap 'exit 143' TERM INT HUP QUIT; /usr/bin/tensorflow_model_server \"$@\" & server=$!; \
  trap 'kill -TERM $server' TERM INT HUP QUIT; wait $server; \
  code=$?; while kill -0 $server 2>/dev/null; do wait $server; code=$?; done; exit $code", "tensorflow_model_server"]
CMD ["--port=8500", "--rest_api_port=8501", "--model_config_file=/etc/tfs/models.config"]
