"""What a plan says before anything is done: the steps that the release would take, in the words that the spec has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from deploy.backends.base import silent
from deploy.errors import SpecError
from deploy.rollout.goals import Strategy, forward
from deploy.rollout.plan import make_plan, strategy_of
from deploy.types import Serving


def test_a_plan_of_what_is_served_already_has_no_step() -> None:
    served = Serving(frozenset({2}), {"stable": 2})
    context: Any = SimpleNamespace(model=SimpleNamespace(name="m"), named=lambda: served)
    plan = make_plan(context, "rollout", forward(served, 2, Strategy()), "", silent)
    assert plan.ok and plan.steps == ()
    assert plan.to_json()["notes"] == ["nothing to do: it is served like that already"]


@pytest.mark.parametrize("step", ["soak", "hold", "bake_before"])
def test_a_pause_before_a_step_that_there_is_not_is_refused_in_the_words_that_were_given(step: str) -> None:
    part: Any = SimpleNamespace(label="stable", canary_label="canary", comparison=True, soak=0, hold=0)
    with pytest.raises(SpecError, match=f"there is no step '{step}' to pause before"):
        strategy_of(SimpleNamespace(rollout=part), [step])  # type: ignore[arg-type]
