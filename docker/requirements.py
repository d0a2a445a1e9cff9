"""requirements.py modelserver|tfs: prints the entries of .ci/requirements.txt that an image needs.

Those of the embedded server are docker/modelserver.requirements.txt, written by `make requirements`; those of the
command line are picked while its image is built. They are installed without dependencies, so everything is named here.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

NAMES = {
    "modelserver": {
        "ai-edge-litert", "backports-strenum", "flatbuffers", "google-crc32c", "hpack", "httptools",
        "ml-dtypes", "numpy", "orjson", "protobuf", "pysimdjson", "tensorflow", "tensorflow-cpu", "tqdm",
        "typing-extensions", "uvloop"},
    "tfs": {
        "blake3", "certifi", "charset-normalizer", "click", "docker", "google-crc32c", "grpcio", "idna",
        "markdown-it-py", "mdurl", "ml-dtypes", "msgspec", "numpy", "orjson", "packaging", "protobuf", "psutil",
        "pygments", "pyyaml", "requests", "rich", "typing-extensions", "urllib3",
        # repositories in object stores and on other machines, signatures
        "azure-core", "azure-identity", "bcrypt", "botocore", "cffi", "cryptography", "google-api-core", "google-auth",
        "google-cloud-core", "google-cloud-storage", "google-resumable-media", "googleapis-common-protos", "invoke",
        "jmespath", "msal", "msal-extensions", "obstore", "opentelemetry-api", "paramiko", "proto-plus", "pyasn1",
        "pyasn1-modules", "pycparser", "pyjwt", "pynacl", "python-dateutil", "six",
        # clusters
        "annotated-types", "durationpy", "kubernetes", "oauthlib", "pydantic", "pydantic-core", "requests-oauthlib",
        "typing-inspection", "websocket-client"},
}
HEADERS = {
    "modelserver": """\
# What the embedded server's image needs, and nothing else; written by `make requirements` (docker/requirements.py).
# Installed without dependencies; of TensorFlow only the shared libraries are kept.""",
    "tfs": "# What the command line's image needs, and nothing else.",
}

if __name__ == "__main__":
    image = sys.argv[1] if len(sys.argv) > 1 else "modelserver"
    locked = (Path(__file__).parents[1] / ".ci" / "requirements.txt").read_text()
    entries = re.split(r"\n(?=[A-Za-z])", locked.strip())
    print(HEADERS[image], *(e for e in entries if re.split(r"[=; ]", e)[0] in NAMES[image]), sep="\n")
