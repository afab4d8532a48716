"""The times of a drill, held against the targets of the site: the whole machine's, and those of single sources."""

from __future__ import annotations

from collections.abc import Sequence

from engine.config import ServerConfig, SiteConfig
from engine.drill.verdict import FAILED, PROVEN, UNVERIFIED, Check, DrillResult, SourceResult
from engine.durations import in_words, seconds_of


def hold(result: DrillResult, config: SiteConfig, *, database: str, newest: bool) -> None:
    """Add a check for every target that this drill can tell something about, and a note for the others.

    Args:
        database: The only one that was drilled; empty: all of each source.
        newest: What is newest was drilled, which is what an RPO is about.
    """
    drilled = {each.source for each in result.sources}
    left_out = [each.name for each in config.sources() if each.name not in drilled]
    site = config.drill
    if site.rto and (database or left_out):
        only = database or ", ".join(each.source for each in result.sources)
        result.notes.append(f"RTO: only {only} was drilled; the target of {site.rto} is for the whole site")
    elif site.rto:
        result.rto = site.rto
        result.checks += _rto("RTO", "everything", site.rto, result.sources)
    for source in result.sources:
        own = site.targets.get(source.source)
        if own is not None:
            source.rto_target, source.rpo_target = "" if database else own.rto, own.rpo
        if own is not None and own.rto and database:
            result.notes.append(
                f"RTO: only {database} was drilled; the target of {own.rto} is for all of {source.source}"
            )
        elif source.rto_target:
            result.checks += _rto(f"RTO of {source.source}", source.source, source.rto_target, [source])
        _hold_rpo(result, config, source, newest)


def _rto(what: str, whose: str, target: str, sources: Sequence[SourceResult]) -> list[Check]:
    """Nothing where nothing was to be restored."""
    pieces = [piece for each in sources for piece in each.pieces]
    timed = [piece for piece in pieces if piece.timed]
    if pieces and not timed:
        return []
    limit, took = seconds_of(target), sum(each.rto_seconds for each in sources)
    guessed = ", ".join(each.source for each in sources if each.past_estimate is not None)
    read = [str(piece) for piece in pieces if not piece.timed]
    but = f" but {', '.join(read)} (only read)" if read else ""
    said = f"{'about ' if guessed else ''}{in_words(took)} for {whose}{but}, the target is {target}"
    if guessed:
        said += f"; the way through the logs of {guessed} is in part estimated, --thorough measures it"
    if sum(each.measured_seconds for each in sources) > limit:
        slowest = sorted(sources, key=lambda each: -each.rto_seconds)
        each = tuple(f"{source.source} took {in_words(source.rto_seconds)}" for source in slowest)
        return [Check("target", what, FAILED, said, each, took)]
    if not (timed and all(piece.restored for piece in timed)):
        return [Check("target", what, UNVERIFIED, "it was not measured: not everything could be restored")]
    return [Check("target", what, UNVERIFIED if took > limit else PROVEN, said, seconds=took)]


def _hold_rpo(result: DrillResult, config: SiteConfig, source: SourceResult, newest: bool) -> None:
    target, known = result.rpo_for(source), source.rpo_seconds
    server = config.source(source.source)
    what = f"RPO of {source.source}"
    if known is None and target and newest and isinstance(server, ServerConfig) and server.point_in_time:
        said = f"what would be lost is not known; the target is {target}"
        result.checks.append(Check("target", what, UNVERIFIED, said))
    elif known is None:
        result.notes.append(f"RPO: nothing of {source.source} can be recovered")
    elif target and newest:
        said = f"the last {in_words(known)} would be lost, the target is {target}"
        result.checks.append(Check("target", what, FAILED if known > seconds_of(target) else PROVEN, said))
