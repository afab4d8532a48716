"""Work side by side, and a stop that reaches all of it."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from engine.abreast import abreast
from engine.errors import Cancelled
from engine.processes import Command, LocalRunner
from engine.progress import silent
from engine.stopping import Stop, heeding


def test_groups_run_side_by_side_and_what_is_in_one_in_order() -> None:
    meeting = threading.Barrier(2, timeout=20)
    done: list[str] = []

    def work(name: str) -> None:
        if name.endswith("1"):
            meeting.wait()  # breaks unless both groups are at work at once
        done.append(name)

    abreast([["a1", "a2"], ["b1", "b2"]], work)
    assert sorted(done) == ["a1", "a2", "b1", "b2"]
    assert done.index("a1") < done.index("a2") and done.index("b1") < done.index("b2")


def test_what_is_raised_ends_its_group_only_and_comes_out_at_the_end() -> None:
    done: list[str] = []

    def work(name: str) -> None:
        if name == "bad":
            raise ValueError("bad")
        done.append(name)

    with pytest.raises(ValueError, match="bad"):
        abreast([["bad", "never"], ["one", "two"]], work)
    assert done == ["one", "two"]


def test_an_interrupt_kills_the_programs_and_ends_the_loops_of_every_thread() -> None:
    ends: dict[str, BaseException] = {}
    begun = threading.Barrier(3, timeout=20)

    def program() -> None:
        with LocalRunner().start(Command(("sleep", "600"))) as process:
            begun.wait()
            process.wait()

    def loop() -> None:
        progress = heeding(silent, "a loop")
        begun.wait()
        while True:
            time.sleep(0.01)
            progress("turn", 0)

    def work(name: str) -> None:
        try:
            {"program": program, "loop": loop}[name]()
        except BaseException as error:
            ends[name] = error

    def interrupt() -> None:
        begun.wait()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            abreast([["program", "never"], ["loop", "never"]], work)
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert {name: type(error) for name, error in ends.items()} == {"program": Cancelled, "loop": Cancelled}


def test_what_is_registered_after_the_stop_is_done_at_once_and_what_was_taken_back_never() -> None:
    stop, done = Stop(), list[str]()
    forget = stop.register(lambda: done.append("taken back"))
    forget()
    stop.register(lambda: done.append("before"))
    stop.set()
    stop.register(lambda: done.append("after"))
    assert done == ["before", "after"]
