"""Rules about what a graph does: ops of interest, in the main graph and in functions, and who reaches them."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.checks import policy, targets
from deploy.checks.reachability import Reachability, Reached, asked, callees, dense
from deploy.checks.rules import RULES, Finding, Severity, Where
from deploy.checks.targets import Target
from deploy.savedmodel import flow, reader
from deploy.savedmodel.flow import MAIN, Outline
from deploy.savedmodel.scanning import GraphFile
from deploy.wire.dtypes import BYTES_SUFFIX
from deploy.wire.model_pb2 import NodeDef

_ONLY_WHEN_ASKED = frozenset({"training-op"})
"""Rules about what a request does; at load it does no harm."""

_ONLY_AT_LOAD = frozenset({"load-ends"})
"""Rules about what the load does; a request that takes long ends by its deadline."""

_FOLLOWED = 20  # signatures that are followed each for itself
_SUMMARIES = "writes-summaries"

_STRING = 7  # DT_STRING
_WHOLE = frozenset({3, 4, 5, 6, 9, 17, 22, 23})  # DT_INT32, DT_UINT8, ... the integers
_STATE = "changes-state"
_DETAILED = policy.BATCH_NORMS | {policy.XLA_MODULE, flow.VARIABLE}


@dataclass(frozen=True, slots=True)
class Place:
    """A node with an op of interest. In functions it stands for all nodes with that op."""

    op: str
    scope: str
    node: str
    reached: Reached

    @property
    def where(self) -> Where:
        signature = self.reached.signatures[0] if self.reached.signatures else ""
        return Where(signature, self.scope, self.node, "" if signature or self.scope else "saved_model.pb")


class Graph:
    """One graph, its outline, and what is known of it; what takes a second look is found when it is asked for."""

    def __init__(self, path: Path, target: Target) -> None:
        self.target = target
        self.grown = targets.grown(target.version)
        self.kernels = targets.kernels(target)
        keep = frozenset(policy.interesting()) | _DETAILED | self.grown | reader.KEPT
        self.file = GraphFile(path, target.tags)
        self.outline: Outline = self.file.outline(keep, target.oplist.callers | reader.CALLERS,
                                                  frozenset(target.oplist.ops), limits=self.kernels.limits)

    @functools.cached_property
    def reachability(self) -> Reachability:
        """Who reaches what."""
        return Reachability(self.outline, self.main_inputs, self.callees)

    @functools.cached_property
    def main_inputs(self) -> dict[str, list[str]]:
        """The inputs of the main graph's nodes."""
        return self.file.main_inputs()

    @functools.cached_property
    def callees(self) -> dict[str, set[str]]:
        """The functions that each scope names."""
        return callees(self.outline)

    @functools.cached_property
    def fed(self) -> set[str]:
        """The nodes of the main graph that requests fill in, whatever else they are."""
        return {info.name.partition(":")[0] for _, signature in asked(self.outline.graph)
                for info in dense(signature.inputs.values())}

    def place(self, op: str, scope: str, node: str) -> Place:
        """A node and who reaches it."""
        return Place(op, scope, node, self.reachability.of(scope, node))

    def places(self, op: str) -> Iterator[Place]:
        """Nodes of `op`: each one of the main graph, the first one of each function."""
        main = {node.name for scope, node in self.outline.kept if scope == MAIN and node.op == op}
        for scope, members in self.outline.scopes.items():
            if op in members.ops:
                for node in sorted(main | {members.ops[op]}) if scope == MAIN else [members.ops[op]]:
                    yield self.place(op, scope, node)

    def nodes(self, wanted: frozenset[str]) -> Iterator[tuple[str, NodeDef]]:
        """(scope, node) of some of the ops that are kept."""
        return ((scope, node) for scope, node in self.outline.kept if node.op in wanted)


def check(graph: Graph) -> Iterator[Finding]:
    """All findings about what the graph's ops do."""
    present = {op for scope in graph.outline.scopes.values() for op in scope.ops}
    for op in sorted(present & graph.target.oplist.ops.keys() | present & policy.interesting().keys()):
        told_of = policy.rule(op)
        if told_of is None:
            continue
        rule, does = told_of
        if rule == _STATE:
            yield from _state(graph, op, does)
        elif not (_by_name(op) or (graph.target.gpu and policy.needs_gpu(op))):
            yield from _judged(rule, f"{op} {does}", list(graph.places(op)))
    if flow.VARIABLE in graph.outline.scopes[MAIN].ops:
        yield from _unrestored(graph)
    if present & policy.BATCH_NORMS:
        yield from _batch_norms(graph)
    if policy.XLA_MODULE in present:
        yield from _modules(graph)
    if not graph.target.compiles:
        yield from _compiled(graph)
    if present & policy.ENCODERS:
        yield from _bytes_out(graph)


def _by_name(op: str) -> bool:
    """Whether what it does to a file depends on the file's name."""
    return op in policy.names_of() and policy.effect(op).does != "prints"


def _judged(rule: str, text: str, places: list[Place]) -> Iterator[Finding]:
    """One finding for each severity, of the first place that has it."""
    by: dict[Severity, list[Place]] = defaultdict(list)
    for place in places:
        severity = _severity(rule, place)
        if severity is not None:
            by[severity].append(place)
    for severity, same in by.items():
        yield from finding_at(rule, text, same, severity)


def finding_at(rule: str, text: str, places: list[Place], severity: Severity, subject: str = "") -> Iterator[Finding]:
    """One finding about the first of several places."""
    more = f"; so in {len(places) - 1} more place{'s' * (len(places) > 2)}" if len(places) > 1 else ""
    yield RULES[rule].found(f"{text}, {_when(places[0])}{more}", places[0].where, severity=severity,
                            subject=subject)


def _severity(rule: str, place: Place) -> Severity | None:
    reached, usual = place.reached, RULES[rule].severity
    if rule in _ONLY_AT_LOAD:
        return usual if reached.load else None
    if reached.request:
        return usual
    if place.op in policy.SAVER:  # every SavedModel has them: for saving, and for restoring at load
        written = RULES[rule].name == "file-write"
        return usual if reached.instead or (reached.load and written) else None
    if reached.load:
        return None if rule in _ONLY_WHEN_ASKED else usual
    return unreached(rule, place)


def unreached(rule: str, place: Place) -> Severity | None:
    """How bad it is where neither a request nor the load comes.

    Nodes of the main graph are run if they are reached and else never, and so is what only they call. A function that
    nothing calls may have a way in that isn't known here.
    """
    if rule not in policy.REMARKABLE:
        return None
    if place.reached.instead:
        return RULES[rule].severity
    usual = rule == "python-function" or policy.effect(place.op).does == _SUMMARIES  # in methods that train
    return Severity.WARNING if place.reached.idle or usual else RULES[rule].severity


def _when(place: Place) -> str:
    names = place.reached.signatures
    if names:
        return f"when {' or '.join(names[:3])}{' or others' if len(names) > 3 else ''} is asked for"
    if place.reached.load:
        return "when the server loads the model"
    if place.reached.instead:
        return "when the runtime takes it instead of another function"
    return "when the model is saved" if place.reached.save else "though no signature comes there"


def _unrestored(graph: Graph) -> Iterator[Finding]:
    """Variables that a request uses and that loading doesn't fill. Where restoring is no call (TF 1), it names them."""
    calls = {node for node, _ in graph.outline.scopes[MAIN].calls}
    if graph.outline.graph.saver_def.restore_op_name not in calls:
        return
    used = (graph.place(node.op, scope, node.name) for scope, node in graph.nodes(frozenset({flow.VARIABLE}))
            if scope == MAIN)
    lost = sorted((place for place in used if place.reached.request and not place.reached.load),
                  key=lambda place: place.node)
    if lost:
        yield RULES["unrestored"].found(
            f"loading doesn't fill {len(lost)} variables, the first is {lost[0].node}: every request to "
            f"{lost[0].reached.signatures[0]} fails", lost[0].where)


def _state(graph: Graph, op: str, does: str) -> Iterator[Finding]:
    """What a request changes. Whole numbers are mostly counters and seeds: Keras draws new ones in inference, too."""
    by: dict[Severity, list[Place]] = defaultdict(list)
    for scope, node in graph.nodes(frozenset({op})):
        place = graph.place(op, scope, node.name)
        if place.reached.request:
            whole = {node.attr[key].type for key in ("dtype", "T") if key in node.attr} & _WHOLE
            by[Severity.NOTE if whole else Severity.WARNING].append(place)
    for severity, places in by.items():
        yield from finding_at(_STATE, f"{op} {does}", places, severity)


def _batch_norms(graph: Graph) -> Iterator[Finding]:
    """Batch normalization with the batch's own statistics; `is_training` is true where it isn't said."""
    places = [graph.place(node.op, scope, node.name) for scope, node in graph.nodes(policy.BATCH_NORMS)
              if "is_training" not in node.attr or node.attr["is_training"].b]
    reached = [place for place in places if place.reached.request]
    if reached:
        yield RULES["training-op"].found(
            f"{reached[0].op} normalizes with the statistics of the request's batch ({len(reached)} of them), "
            f"{_when(reached[0])}: a row's answer depends on the other rows", reached[0].where,
            severity=Severity.WARNING)


def _modules(graph: Graph) -> Iterator[Finding]:
    """Compiled modules (JAX) name the platforms that they run on; none named: all."""
    needed = "CUDA" if graph.target.gpu else "CPU"
    for scope, node in graph.nodes(frozenset({policy.XLA_MODULE})):
        platforms = [name.decode(errors="replace") for name in node.attr["platforms"].list.s]
        place = graph.place(node.op, scope, node.name)
        if platforms and not {needed, "CPU"} & set(platforms) and place.reached.request:
            yield RULES["host-only-op"].found(
                f"{node.op} was compiled for {', '.join(platforms)} and the server has {needed}, {_when(place)}",
                place.where, fix="convert it for CPU, too: native_serialization_platforms=('cpu',)")
        version, newest = node.attr["version"].i, graph.target.oplist.xla_module
        if version > newest:
            yield RULES["xla-version"].found(
                f"{node.op} has version {version} of JAX's calling convention, and TensorFlow {graph.target.version} "
                f"runs those up to {newest}", place.where)
        disabled = [name.decode(errors="replace") for name in node.attr["disabled_checks"].list.s]
        if disabled:
            yield RULES["xla-version"].found(f"{node.op} was made with the checks {', '.join(disabled)} disabled, so "
                                             "what is stable between versions of XLA isn't known of it", place.where,
                                             severity=Severity.WARNING, fix="export it without disabled checks")


def _compiled(graph: Graph) -> Iterator[Finding]:
    """What a request makes XLA compile: the op of JAX's modules, and calls of functions with jit_compile."""
    places = [graph.place(node.op, scope, node.name) for scope, node in graph.nodes(frozenset({policy.XLA_MODULE}))]
    places += [graph.place(f"a call of {called}", scope, node) for scope, members in graph.outline.scopes.items()
               for node, called in members.calls if called in graph.outline.compiled]
    reached = [place for place in places if place.reached.request]
    if reached:
        yield from finding_at("xla-compilation", f"{reached[0].op} is compiled by XLA, which a server does with "
                              "--xla_cpu_compilation_enabled only", reached, Severity.WARNING)


def _bytes_out(graph: Graph) -> Iterator[Finding]:
    """String outputs that hold bytes need a name that ends in `_bytes`, else REST answers with broken JSON strings."""
    texts = {name: [key for key, info in signature.outputs.items()
                    if info.dtype == _STRING and not key.endswith(BYTES_SUFFIX)]
             for name, signature in graph.outline.graph.signature_def.items()}
    for name in sorted(name for name, plain in texts.items() if plain)[:_FOLLOWED]:
        plain = texts[name]
        encoders = [(scope, op) for scope in sorted(graph.reachability.scopes_of(name))
                 for op in graph.outline.scopes[scope].ops.keys() & policy.ENCODERS]
        if encoders:
            yield RULES["rest-reachable"].found(
                f"{encoders[0][1]} makes bytes, and output {plain[0]!r} goes out as text over REST", Where(name),
                fix=f"if it holds bytes, call it {plain[0]}{BYTES_SUFFIX}: then it goes out as base64")
