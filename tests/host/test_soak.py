"""The first prompts of a soak; all of it: python -m tests.fuzz.soak."""

from __future__ import annotations

from tests.fuzz.soak import WEIGHTS_BYTES, Soak, soak
from tests.host.server import Server


def test_forty_prompts_are_right_or_refused_and_free_gives_the_weights_back(
    server: Server,
) -> None:
    result = Soak()
    soak(server, 40, result)
    assert sum(result.outcomes.values()) == 40
    assert result.outcomes["right"] > 30 and result.outcomes["refused"] == 1
    before, after = result.weights
    assert before - after > WEIGHTS_BYTES
