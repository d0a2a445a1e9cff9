"""Rules about how functions call each other: TensorFlow expands calls before it runs them, in circles for ever.

Seen with TensorFlow 2.21: circles and chains of 5,000 functions end the process; a chain of 200 takes 2 s to expand,
of 500 26 s, of 1,000 86 s. Chains of models are a few functions long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from deploy.checks.findings import Finding, Where
from deploy.checks.graph import Graph
from deploy.checks.rules import RULES
from deploy.savedmodel.flow import MAIN

_DEEPEST = 200
_MOST = 100_000  # calls, each counted as often as it is made


def check(graph: Graph) -> Iterator[Finding]:
    """All findings about calls, of the functions that nothing calls, too: TensorFlow optimizes all of them."""
    rule = RULES["ends-server"]
    order, circle = _ordered(graph.callees)
    if circle:
        shown = " -> ".join((*circle[:3], *(("...",) if len(circle) > 3 else ()), circle[0]))
        yield rule.found(f"functions call each other in a circle: {shown}", Where(function=circle[0]))
        return
    deepest, most = _measured(graph, order)
    if deepest > _DEEPEST:
        yield rule.found(f"functions call each other {deepest:,} deep, and TensorFlow takes minutes or crashes beyond "
                         f"{_DEEPEST}", Where(file="saved_model.pb"))
    if most > _MOST:
        yield rule.found(f"functions call functions that call functions, {most:.3g} calls in all, and TensorFlow "
                         "expands each of them", Where(file="saved_model.pb"))


def _ordered(callees: Mapping[str, set[str]]) -> tuple[list[str], list[str]]:
    """All scopes, callees first, and nothing; or, where there is a circle, the functions of one."""
    order: list[str] = []
    done: set[str] = set()
    for start in callees:
        path, inside = [(start, iter(sorted(callees[start])))], {start}
        while path and start not in done:
            name, rest = path[-1]
            following = next((callee for callee in rest if callee not in done), None)
            if following is None:
                path.pop()
                inside.discard(name)
                done.add(name)
                order.append(name)
            elif following in inside:
                names = [each for each, _ in path]
                return [], names[names.index(following):]
            else:
                path.append((following, iter(sorted(callees[following]))))
                inside.add(following)
    return order, []


def _measured(graph: Graph, order: list[str]) -> tuple[int, int]:
    """The longest chain of calls, and the number of calls that the main graph or a function expands to."""
    depth, size = dict[str, int](), dict[str, int]()
    for name in order:
        scope = graph.outline.scopes[name]
        called = [function for _, function in scope.calls if function in size]
        depth[name] = (name != MAIN) + max((depth[function] for function in graph.callees[name]), default=0)
        size[name] = sum(1 + size[function] for function in called)
    return max(depth.values(), default=0), max(size.values(), default=0)
