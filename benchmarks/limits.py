"""What the figures must keep to; ``make bench`` fails where one does not."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.measure import Figure

AT_LEAST = {  # times better than the peer
    "mariadb.backup.vs_shell": 3.5,
    "postgres.backup.vs_shell": 3.5,
    "mariadb.backup.vs_bare_dump": 1 / 1.6,
    "postgres.backup.vs_bare_dump": 1 / 1.2,
    "mariadb.backup_and_verify.vs_shell": 2.7,
    "postgres.backup_and_verify.vs_shell": 2.7,
    "mariadb.backup_size.vs_shell": 1 / 1.05,
    "postgres.backup_size.vs_shell": 1 / 1.05,
    "bucket.snapshot.second_of_1_percent.vs_first": 10.0,
}
AT_MOST = {
    "mariadb.backup_memory.growth": 64.0,  # MiB
    "postgres.backup_memory.growth": 64.0,
    "bucket.snapshot.second_copied": 200.0,
    "bucket.snapshot.first_memory_growth": 64.0,
    "bucket.snapshot.second_memory_growth": 64.0,
    "catalog.list_memory.of_100000": 200.0,
    "catalog.status_memory.of_100000": 200.0,
    "catalog.prune_plan_memory.of_100000": 200.0,
    "catalog.list_growth.of_4_times": 4.4,  # linear, and what a machine's other work adds
    "catalog.status_growth.of_4_times": 4.4,
    "catalog.prune_plan_growth.of_4_times": 4.4,
    "demo.snapshot.trigger_to_completed": 15.0,  # seconds
}


def beyond(figures: Iterable[Figure]) -> list[str]:
    """Figures that do not keep to their limit, in words."""
    told = []
    for each in figures:
        least, most = AT_LEAST.get(each.name), AT_MOST.get(each.name)
        if least is not None and (each.ratio or 0.0) < least:
            told.append(f"{each.name}: {each.ratio} times {each.peer}, and is to be at least {least:.3g}")
        if most is not None and each.value > most:
            told.append(f"{each.name}: {each.value:g} {each.unit}, and is to be at most {most:g}")
    return told
