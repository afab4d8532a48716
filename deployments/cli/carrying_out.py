"""What restores of one source have in common: show the plan, have it confirmed, carry it out, say what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from deployments.cli.run import Outcome, Run

if TYPE_CHECKING:
    from engine.site import Site


class Plan(Protocol):
    """What a restore would do."""

    def lines(self) -> list[str]: ...

    def as_dict(self) -> dict[str, Any]: ...


class Result(Protocol):
    """What a restore did."""

    @property
    def notes(self) -> list[str]: ...


P = TypeVar("P", bound=Plan)
R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Restore(Generic[P, R]):
    """How one kind of source is restored.

    Attributes:
        question: What a person is asked at a terminal to confirm the plan; empty where nothing has to be.
        check: Whether what was given confirms it; see ``check_confirmation`` of the plan's module.
        run: Carries it out.
        show, facts: What came of it, for a person and for scripts; notes are shown by ``carry_out``.
    """

    question: Callable[[P], str]
    check: Callable[[P, str], bool]
    run: Callable[..., R]
    show: Callable[[Run, R], None]
    facts: Callable[[R], dict[str, Any]]


def carry_out(run: Run, site: Site, plan: P, how: Restore[P, R], confirm: str, dry_run: bool) -> Outcome:
    """Raises ConfirmationNeeded, and what the restore raises."""
    for line in plan.lines():
        run.out.say(line)
    if dry_run:
        return Outcome({"dry_run": True, "plan": plan.as_dict()})
    question = how.question(plan)
    approved = how.check(plan, confirm or (run.ask(question) if question else ""))
    with run.out.progress() as progress:
        result = how.run(site, plan, approved=approved, progress=progress, tell=run.out.tell)
    how.show(run, result)
    for note in result.notes:
        run.out.say(f"Note: {note}")
    return Outcome({"dry_run": False, "plan": plan.as_dict(), **how.facts(result)})
