"""The rules, by name, and what they find. Names are stable: specs and command lines allow findings by them."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from deploy.errors import SpecError


class Severity(enum.Enum):
    """error: refused, unless it is allowed with a reason. warning: shown. note: shown when asked for."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a version; what doesn't apply is empty. file: relative to what was checked."""

    signature: str = ""
    function: str = ""
    node: str = ""
    file: str = ""

    def __str__(self) -> str:
        named = (("signature", self.signature), ("function", self.function), ("node", self.node), ("", self.file))
        return ", ".join(f"{kind} {name}".strip() for kind, name in named if name)

    def to_json(self) -> dict[str, str]:
        """Only what applies."""
        return {key: value for key in ("signature", "function", "node", "file") if (value := getattr(self, key))}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule says of one place.

    message: a sentence with what was seen. fix: what to do. allowed: the reason why it is accepted, None if it isn't.
    subject: the name of a file outside of the version, if the finding is about one.
    """

    rule: str
    severity: Severity
    message: str
    fix: str
    where: Where = Where()
    allowed: str | None = None
    subject: str = ""

    @property
    def refuses(self) -> bool:
        return self.severity is Severity.ERROR and self.allowed is None

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"rule": self.rule, "severity": self.severity.value, "message": self.message, "fix": self.fix,
                "where": self.where.to_json(), "allowed": self.allowed}

Group = Literal["servable", "loads", "safe"]
ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE


@dataclass(frozen=True, slots=True)
class Rule:
    """A thing that is checked. severity: the usual one; a finding may be milder. fixed: can't be allowed."""

    name: str
    group: Group
    severity: Severity
    title: str
    reason: str
    fix: str
    fixed: bool = False

    def found(self, message: str, where: Where = Where(), *, severity: Severity | None = None, fix: str = "",
              subject: str = "") -> Finding:
        """A finding of this rule."""
        return Finding(self.name, severity or self.severity, message, fix or self.fix, where, subject=subject)

_ALL = (
    Rule("complete", "servable", ERROR, "The files are a whole SavedModel",
         "TensorFlow Serving takes a version without its variables for a good one, and then fails every request",
         "copy or export the version again", fixed=True),
    Rule("unrestored", "servable", ERROR, "Loading fills every variable that requests use",
         "tf.saved_model.save keeps each variable of a Keras 3 model twice and restores one of them: the model loads, "
         "and every request fails",
         "save it with model.export(), or publish it with `tfs export`, which saves it again"),
    Rule("graph-size", "servable", ERROR, "The graph stays under protobuf's limit",
         "a protobuf message ends at 2 GiB; a bigger saved_model.pb can't be parsed by any server",
         "keep weights in variables instead of constants"),
    Rule("serve-tag", "servable", ERROR, "A graph is tagged `serve`",
         "the server loads the graph with the tags of --saved_model_tags, by default `serve`",
         "save it with the tag `serve`, publish it with `tfs export --tags`, which tags it anew, or start the server "
         "with --saved_model_tags and allow this"),
    Rule("default-signature", "servable", ERROR, "There is a signature serving_default",
         "a request that names no signature asks for serving_default, and fails without one",
         "name one of the signatures serving_default when saving, or publish it with "
         "`tfs export --default-signature`"),
    Rule("sendable", "servable", ERROR, "Signatures take and give dense tensors of numbers or strings",
         "a request holds TensorProtos: resources, variants, quantized types and sparse tensors have no form there",
         "take and return dense tensors: tf.sparse.to_dense, ragged.to_tensor, a cast"),
    Rule("batch-free", "servable", ERROR, "The first dimension of inputs is free",
         "with a fixed first dimension only that many rows can be asked for, and the server's batching can't be used",
         "trace the signature with None as the first dimension"),
    Rule("asset-encoding", "servable", WARNING, "Text assets are plain UTF-8",
         "TensorFlow reads bytes: a byte order mark becomes a part of the first line, and no line of UTF-16 text is "
         "found",
         "save the file as UTF-8 without a byte order mark, and export again"),
    Rule("rest-reachable", "servable", WARNING, "Signatures can be called over REST",
         "JSON has no form for some dtypes and for raw bytes, and REST needs an input",
         "call it through gRPC, or change the signature"),
    Rule("method", "servable", ERROR, "Classify and regress signatures can be answered",
         "Classify and Regress take tf.Examples as one vector of strings and answer with scores, classes or outputs of "
         "one row each; other signatures fail every such request",
         "give the signature the inputs and outputs of its method, or tensorflow/serving/predict as its method"),
    Rule("batching", "servable", ERROR, "What is batched can be put together and taken apart",
         "the server's batching joins requests along the first dimension and splits the answers; a scalar, or an "
         "output with another first dimension, fails every request, and a warm-up request ends the server",
         "serve it without server/batching, or give the signature tensors with a first dimension for the batch"),
    Rule("python-function", "servable", ERROR, "No Python functions in the graph",
         "tf.py_function and tf.numpy_function call back into the Python that saved the model: a server has none",
         "write it with TensorFlow ops, or compute it before the request"),
    Rule("training-op", "servable", ERROR, "Requests don't train",
         "optimizer steps and batch statistics make an answer depend on other requests",
         "export the model in inference mode: training=False, without the train step"),
    Rule("changes-state", "servable", WARNING, "Requests don't change variables or tables",
         "replicas drift apart, a restart forgets it, and answers depend on other requests",
         "export in inference mode (Keras models with augmentation layers: `tfs export` does, model.export() doesn't), "
         "and keep state outside of the model"),
    Rule("host-only-op", "servable", ERROR, "No ops that need other hardware or a running input pipeline",
         "TPU, cuDNN and collective ops have no kernel there, and a queue that nobody fills never answers",
         "export the model for inference on CPU, with inputs as arguments"),
    Rule("unknown-op", "loads", ERROR, "The server has every op",
         "a graph with an op that isn't registered doesn't load",
         "serve it with an image that has the op's library, or export without the op"),
    Rule("no-kernel", "loads", ERROR, "The server's device can run every op",
         "an op without a kernel for the device, or for the type, loads, and every request that comes to it fails",
         "cast to a type that the op takes, export without the op, or serve it on a GPU where that has the kernel"),
    Rule("unknown-attribute", "loads", ERROR, "The server's ops have every attribute",
         "an attribute that a newer TensorFlow added isn't known to an older server, which refuses the node",
         "export with the server's TensorFlow, or serve with a newer image"),
    Rule("graph-version", "loads", ERROR, "The graph admits the server's version",
         "a graph says the oldest consumer that may load it, and those that mustn't",
         "export with the server's TensorFlow, or serve with a newer image"),
    Rule("producer-newer", "loads", NOTE, "The graph isn't newer than the server",
         "TensorFlow promises that newer servers load older graphs, not the reverse",
         "export with the server's TensorFlow, or serve with a newer image"),
    Rule("server-version", "loads", WARNING, "There is an op list of the server's version",
         "without one, the nearest version's list is used",
         "name a version that there is a list of, or make one with deploy/checks/oplists/make_oplist.py"),
    Rule("xla-version", "loads", ERROR, "The server runs the version of JAX's modules",
         "XlaCallModule has a version; a server whose TensorFlow is older than the module's refuses each request",
         "serve it with a newer image, or export with JAX_EXPORT_CALLING_CONVENTION_VERSION set to the server's"),
    Rule("xla-compilation", "loads", WARNING, "What XLA compiles is served with the flag for it",
         "without --xla_cpu_compilation_enabled each such request fails with `XLA compilation disabled`, and so does a "
         "load with warm-up requests",
         "serve it with server: {flags: {xla_cpu_compilation_enabled: true}}; for Keras, compile(jit_compile=False)"),
    Rule("tflite-op", "loads", ERROR, "TFLite models use ops that TensorFlow Serving registers",
         "TensorFlow Serving registers TFLite's builtin ops and ParseExample: no custom and no Select-TF ops",
         "convert with builtin ops only, or serve the SavedModel itself"),
    Rule("tflite-alone", "loads", WARNING, "A version is a SavedModel, or its server prefers TFLite",
         "a server loads a version that consists of a model.tflite with --prefer_tflite_model only",
         "serve it with server: {flags: {prefer_tflite_model: true}}; `tfs up` asks for that"),
    Rule("tflite-warmup", "loads", ERROR, "The warm-up requests fit model.tflite, too",
         "a server with --prefer_tflite_model sees only the first graph of that file, and refuses a version whose "
         "warm-up file asks for another signature",
         "remove these records with `tfs goldens remove`, export again, or serve without prefer_tflite_model"),
    Rule("load-ends", "loads", ERROR, "Loading comes to an end by itself",
         "a loop or a dataset that runs when the server loads the model may go on for ever, and no deadline ends it",
         "compute it before saving, and keep the result in a variable or an asset"),
    Rule("warm-up", "loads", ERROR, "The server takes the version's warm-up requests",
         "a server replays them when it loads the version, and a wrong one fails the load or ends the server",
         "export the version again, or remove the record with `tfs goldens remove`"),
    Rule("ends-server", "safe", ERROR, "Nothing ends the server's process",
         "one model that ends the process takes all other models with it",
         "remove it from what is exported"),
    Rule("opaque", "safe", ERROR, "What the graph does can be known",
         "what is hidden in a tensor, or is done by an op that nobody has looked at, can't be checked",
         "write it with ordinary ops"),
    Rule("file-write", "safe", ERROR, "Nothing writes files",
         "a request or a load would write where the server may write",
         "remove it from what is exported"),
    Rule("file-read", "safe", ERROR, "Nothing reads files but the model's own",
         "a request or a load would read what the server may read; elsewhere the file may not be there",
         "pass the contents in the request, or make the file an asset"),
    Rule("network", "safe", ERROR, "Nothing opens connections",
         "a request or a load would talk to other machines from inside the server",
         "remove it from what is exported"),
    Rule("remote-call", "safe", ERROR, "Nothing runs on another device or process by name",
         "RemoteCall runs a function where a tensor says", "call the function directly"),
    Rule("debug-op", "safe", ERROR, "No debugger's ops",
         "they dump tensors to files or to a remote debugger", "export the graph without the debugger"),
    Rule("log-op", "safe", WARNING, "Requests aren't printed",
         "tf.print writes what it is given, users' data perhaps, to the server's log for each request",
         "remove tf.print from what is exported"),
    Rule("asset-path", "safe", ERROR, "Files of the version lie inside of it",
         "a path that leads out of the version reads other files, or is missing elsewhere",
         "save the file as an asset: tf.saved_model.Asset, or assets_collection in TF 1"),
    Rule("keras-code", "safe", ERROR, "A Keras archive holds no code",
         "a Lambda layer's bytecode, or a function named in the file, runs when the file is loaded",
         "replace it by a layer class of your own, or export the model object from your code"),
    Rule("keras-pickle", "safe", ERROR, "A Keras archive holds no pickles",
         "loading a pickle runs what it says", "save the model again with model.save('name.keras')"),
    Rule("archive-path", "safe", ERROR, "An archive's members stay inside of it",
         "a member named with .. or / is written elsewhere when it is unpacked",
         "save the model again with model.save('name.keras')"),
)

RULES: Mapping[str, Rule] = {rule.name: rule for rule in _ALL}
"""All rules by name, in the order of reports."""


def check_allowances(allow: Mapping[str, str], path: str = "") -> dict[str, str]:
    """`allow` (rule: reason) if all rules exist and have a reason. Raises SpecError."""
    for name, reason in allow.items():
        here = f"{path}/{name}" if path else f"allow {name}"
        if name not in RULES:
            near = difflib.get_close_matches(name, RULES, n=1)
            raise SpecError("there is no such rule", path=here,
                            hint=f"did you mean {near[0]!r}?" if near else f"there are {', '.join(RULES)}",
                            id="bad-allowance")
        if not reason.strip():
            raise SpecError("the reason is missing", path=here, hint=f"say why: {name}=reason", id="bad-allowance")
        if RULES[name].fixed:
            raise SpecError("this can't be allowed", path=here, hint=RULES[name].reason, id="bad-allowance")
    return dict(allow)
