"""Findings as Prometheus reads them: the text format 0.0.4, for a textfile collector or any scraper of files.

Source of the format: Prometheus' exposition formats, text-based.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from engine.stores.local_errors import speaking_of
from engine.watch.findings import Look
from engine.whole import replace_file

_UNITS = {"s": "seconds", "B": "bytes", "%": "percent", "": "count"}


def text(look: Look, now: datetime) -> str:
    """Every finding's level (0 ok, 1 warning, 2 critical, 3 unknown) and its figure, and when the look was taken."""
    lines = [
        "# HELP backup_flows_condition How bad a condition is: 0 ok, 1 warning, 2 critical, 3 unknown.",
        "# TYPE backup_flows_condition gauge",
    ]
    lines += [f"backup_flows_condition{_labels(look.site, each.condition, each.about)} {int(each.level)}"
              for each in look.findings]  # fmt: skip
    for unit, name in _UNITS.items():
        figures = [each for each in look.findings if each.unit == unit and each.value is not None]
        if figures:
            metric = f"backup_flows_condition_{name}"
            lines += [f"# HELP {metric} The figure behind a condition.", f"# TYPE {metric} gauge"]
            lines += [f"{metric}{_labels(look.site, each.condition, each.about)} {each.value:g}" for each in figures]
    lines += [
        "# HELP backup_flows_watched_at_seconds When a site was last looked at, in seconds since 1970.",
        "# TYPE backup_flows_watched_at_seconds gauge",
        f'backup_flows_watched_at_seconds{{site="{_escaped(look.site)}"}} {now.timestamp():.0f}',
    ]
    return "\n".join(lines) + "\n"


def write(path: Path, look: Look, now: datetime) -> None:
    """Whole or not at all: a scraper never reads half of it. Readable for everybody; no secrets stand in it.

    Raises:
        StoreError, DiskFull: It cannot be written there.
    """
    with speaking_of("write to", path, path.parent):
        replace_file(path, text(look, now), mode=0o644)


def _labels(site: str, condition: str, about: str) -> str:
    return f'{{site="{_escaped(site)}",condition="{_escaped(condition)}",about="{_escaped(about)}"}}'


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
