"""YAML as people mean it: a key that stands twice, or isn't text, is a mistake with a line, not a lost value."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from deploy.errors import SpecError

MOST_BYTES = 1 << 20  # a thousand models take about 100 kB


def read_yaml(text: bytes | str) -> Any:
    """The data of one YAML document. Raises SpecError naming line and column."""
    if len(text) > MOST_BYTES:
        raise SpecError(f"expected at most {MOST_BYTES:,} bytes, got {len(text):,}", hint="is it the right file?")
    try:
        return yaml.load(text, _Loader)  # noqa: S506 -- a SafeLoader
    except yaml.reader.ReaderError as e:
        encoding = getattr(e, "encoding", "")
        raise SpecError(f"not valid YAML: it isn't text in {'UTF-8' if 'utf' not in encoding else encoding.upper()}",
                        hint="save it as UTF-8") from None
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise SpecError(f"not valid YAML: {where}{_problem(e)}") from None
    except RecursionError:
        raise SpecError("not valid YAML: it is nested too deeply") from None
    except (ValueError, OverflowError) as e:  # a number of thousands of digits, a 13th month
        raise SpecError(f"not valid YAML: {str(e).partition(';')[0]}") from None


def _problem(error: yaml.YAMLError) -> str:
    problem = str(getattr(error, "problem", None) or error)
    return f"{problem}; indent with spaces" if r"'\t'" in problem else problem


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses what it would lose."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> Any:
        made = super().construct_yaml_int(node)
        if re.fullmatch(r"[-+]?(0[0-9_]+|[0-9_]+(:[0-5]?[0-9])+)", node.value):
            raise SpecError(f"line {node.start_mark.line + 1}: YAML reads {node.value} as the number {made}",
                            hint=f"write {made}, or put it in quotes if it is text: '{node.value}'")
        return made


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _check_keys(node: yaml.MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise SpecError(f"line {line}: expected a name as key, got a {key.id}")
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.tag != "tag:yaml.org,2002:str":
            kind = key.tag.rpartition(":")[2].replace("bool", "true or false").replace("null", "nothing")
            raise SpecError(f"line {line}: the key {key.value} isn't text: YAML reads it as {kind}",
                            hint=f"put it in quotes: '{key.value}'")
        if key.value in lines:
            raise SpecError(f"line {line}: the key {key.value!r} stands in line {lines[key.value]} already",
                            hint="one of the two would be lost; merge them")
        lines[key.value] = line
