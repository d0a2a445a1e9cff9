"""A SavedModel -> a session of TensorFlow, with the graph that its operations are looked up in."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.engine.library import EngineError, Library
from deploy.engine.unregistered import Unregistered, is_unregistered
from deploy.engine.unregistered import load as load_in_part
from deploy.wire.field_scan import fields
from deploy.wire.session_pb2 import ConfigProto

_GRAPH_DEF, _OBJECT_GRAPH_DEF = 2, 7  # numbers of MetaGraphDef's fields


@dataclass(frozen=True, slots=True)
class Loaded:
    """What has to be deleted in the end: TF_Graph and TF_Session.

    metagraph: the serialized MetaGraphDef without its graph. unregistered: which runs can't be, if some can't.
    """

    graph: int
    session: int
    metagraph: bytes
    unregistered: Unregistered | None = None


def load_model(tf: Library, directory: str | Path, tags: Sequence[str], intra_op: int, inter_op: int) -> Loaded:
    """Load the model. Raises EngineError."""
    options = _options(tf, intra_op, inter_op)
    try:
        try:
            return _load(tf, directory, tags, options)
        except EngineError as error:
            if not is_unregistered(error):
                raise
            return _load_in_part(tf, directory, tags, options, error)
    finally:
        tf.DeleteSessionOptions(options)


def _options(tf: Library, intra_op: int, inter_op: int) -> int:
    """TF_SessionOptions."""
    config = ConfigProto(intra_op_parallelism_threads=intra_op,
                         inter_op_parallelism_threads=inter_op).SerializeToString()
    status, options = tf.NewStatus(), tf.NewSessionOptions()
    try:
        tf.SetConfig(options, config, len(config), status)
        tf.check(status)
    except BaseException:
        tf.DeleteSessionOptions(options)
        raise
    finally:
        tf.DeleteStatus(status)
    return int(options)


def _load(tf: Library, directory: str | Path, tags: Sequence[str], options: int) -> Loaded:
    graph, status, metagraph = tf.NewGraph(), tf.NewStatus(), tf.NewBuffer()
    names = (ctypes.c_char_p * len(tags))(*[tag.encode() for tag in tags])
    try:
        session = tf.LoadSessionFromSavedModel(options, None, os.fsencode(directory), names, len(tags), graph,
                                               metagraph, status)
        tf.check(status)
    except BaseException:
        tf.DeleteBuffer(metagraph)
        tf.DeleteGraph(graph)
        raise
    finally:
        tf.DeleteStatus(status)
    return Loaded(int(graph), int(session), _without_graph(tf.take(metagraph)))


def _load_in_part(tf: Library, directory: str | Path, tags: Sequence[str], options: int, error: EngineError) -> Loaded:
    graph = int(tf.NewGraph())
    try:
        session, metagraph, missing = load_in_part(tf, graph, directory, tags, options=options, error=error)
    except BaseException:
        tf.DeleteGraph(graph)
        raise
    return Loaded(graph, session, _without_graph(metagraph), missing)


def _without_graph(data: bytes) -> bytes:
    """A serialized MetaGraphDef without graph_def and object_graph_def, which TensorFlow keeps in its own form."""
    return b"".join([data[start:end] for number, start, _, end in fields(data, 0, len(data), skip=_GRAPH_DEF)
                     if number != _OBJECT_GRAPH_DEF])
