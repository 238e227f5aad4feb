"""Signals: where they are raised, and where they wait."""

import signal
from collections.abc import Iterator

import pytest

from devudp_model.system import interrupts


@pytest.fixture(autouse=True)
def not_ignored() -> Iterator[None]:
    """SIGINT is ignored in what a shell has started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_is_raised_at_once() -> None:
    with interrupts.noted():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupts.seen()


def test_where_locks_are_it_waits_for_the_check() -> None:
    with interrupts.noted(), interrupts.held():
        signal.raise_signal(signal.SIGINT)
        assert interrupts.seen()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        interrupts.check()  # once


def test_work_in_between_is_interrupted() -> None:
    with interrupts.noted(), interrupts.held():
        with pytest.raises(KeyboardInterrupt), interrupts.held(False):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # waits again
        with pytest.raises(KeyboardInterrupt), interrupts.held(False):
            pytest.fail("what waited is raised before the work begins")


def test_afterwards_all_is_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts.noted(), interrupts.held():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
