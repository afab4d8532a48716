"""A drill as JUnit XML, which every CI shows: a suite a source, a case a check.

Failed is a failure; what could not be verified is an error, so that no reader takes it for passed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree as xml

from engine.drill.verdict import FAILED, PROVEN, UNVERIFIED, Check, DrillResult
from engine.names import iso

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(result: DrillResult) -> bytes:
    """The document."""
    root = xml.Element("testsuites", name=f"restore drill of {result.site}", time=f"{result.rto_seconds:.3f}")
    for source in result.sources:
        cases = [(f"{source.source}.{piece.database}", check) for piece in source.pieces for check in piece.checks]
        cases += [(source.source, check) for check in source.checks]
        suite = _suite(root, source.source, cases, result)
        notes = [*source.notes, *(f"{piece}: {note}" for piece in source.pieces for note in piece.notes)]
        if notes:
            xml.SubElement(suite, "system-out").text = _text("\n".join(notes))
    if result.checks or result.notes:
        suite = _suite(root, result.site, [(result.site, check) for check in result.checks], result)
        if result.notes:
            xml.SubElement(suite, "system-out").text = _text("\n".join(result.notes))
    xml.indent(root)
    text = xml.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _suite(root: xml.Element, name: str, cases: Iterable[tuple[str, Check]], result: DrillResult) -> xml.Element:
    cases = list(cases)
    suite = xml.SubElement(
        root, "testsuite", name=_text(name), timestamp=iso(result.begun_at), tests=str(len(cases)),
        failures=str(sum(check.verdict == FAILED for _, check in cases)),
        errors=str(sum(check.verdict == UNVERIFIED for _, check in cases)),
        time=f"{sum(check.seconds for _, check in cases):.3f}",
    )  # fmt: skip
    for about, check in cases:
        case = xml.SubElement(
            suite, "testcase", classname=_text(about), name=_text(f"{check.rung}: {check.what}"),
            time=f"{check.seconds:.3f}",
        )  # fmt: skip
        if check.verdict == PROVEN:
            xml.SubElement(case, "system-out").text = _text(check.said)
        else:
            kind = "failure" if check.verdict == FAILED else "error"
            told = xml.SubElement(case, kind, message=_text(check.said), type=check.verdict)
            told.text = _text(check.words)
    return suite


def _text(words: str) -> str:
    return _NO_XML.sub("?", words)
