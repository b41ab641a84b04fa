from __future__ import annotations

import signal

import pytest

from trajweight.interruption import Interrupted, Interruption


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_wish_to_end_is_honoured_at_once(number, code) -> None:
    with pytest.raises(Interrupted) as caught:
        Interruption().ask(number)

    assert caught.value.exit_code == code


def test_a_deferred_wish_waits_until_it_is_heeded() -> None:
    interruption, reached = Interruption(), []

    def work() -> None:
        with interruption.deferred():
            interruption.ask(signal.SIGINT)
            reached.append("the end of the step")
            interruption.heed()
            reached.append("the next step")

    with pytest.raises(Interrupted):
        work()

    assert reached == ["the end of the step"]


def test_a_deferred_wish_waits_no_longer_than_the_block() -> None:
    interruption, reached = Interruption(), []

    def work() -> None:
        with interruption.deferred():
            interruption.ask(signal.SIGTERM)
            reached.append("the end of the block")
        reached.append("what comes after")

    with pytest.raises(Interrupted) as caught:
        work()

    assert reached == ["the end of the block"]
    assert caught.value.signal == signal.SIGTERM


def test_a_second_wish_is_honoured_at_once() -> None:
    interruption, reached = Interruption(), []

    def work() -> None:
        with interruption.deferred():
            interruption.ask(signal.SIGINT)
            reached.append("first")
            interruption.ask(signal.SIGTERM)
            reached.append("second")

    with pytest.raises(Interrupted) as caught:
        work()

    assert reached == ["first"]
    assert caught.value.exit_code == 143


def test_without_a_wish_nothing_ends() -> None:
    interruption = Interruption()

    with interruption.deferred():
        interruption.heed()

    interruption.heed()
    assert interruption.signal == 0


def test_no_handler_for_errors_swallows_a_wish_to_end() -> None:
    assert not issubclass(Interrupted, Exception)
