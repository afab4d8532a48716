"""What a private PostgreSQL is made from, without a server: tars, chains of segments, settings, its log's words."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import BackupError, IntegrityError, LogGap, OutsideWindow, ToolMissing
from engine.postgres.commits import Commit, around, parse
from engine.scratch import postgres_log
from engine.scratch.postgres_files import ASIDE, Found, data_members, end_of, is_log_name, members, refuse_gaps
from engine.scratch.postgres_settings import Goal, as_text, harmless, preloaded

MIB = 1024 * 1024


def archive(*entries: tuple[str, bytes | str | None], kind: bytes = tarfile.SYMTYPE) -> bytes:
    """A tar: a file for bytes, a directory for None, a link (of ``kind``) to a text."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = kind, content
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def pieces(data: bytes, size: int = 700) -> Iterator[bytes]:
    yield from (data[at : at + size] for at in range(0, len(data), size))


def unpacked(data: bytes) -> dict[str, bytes]:
    return {each.path: b"".join(each.chunks) for each in members(pieces(data), "base.tar")}


@given(
    st.dictionaries(
        st.text("abc/", min_size=1, max_size=8).map(lambda s: "d/" + s.strip("/")), st.binary(max_size=3000)
    )
)
def test_what_is_in_a_tar_comes_out_of_it(files: dict[str, bytes]) -> None:
    wanted = {name: data for name, data in files.items() if "//" not in name and not name.endswith("/")}
    assert unpacked(archive(*wanted.items())) == wanted


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "base/../../out"])
def test_a_name_that_leads_out_is_refused(name: str) -> None:
    with pytest.raises(IntegrityError, match="leads out"):
        unpacked(archive((name, b"x")))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("base/1", tarfile.SYMTYPE),
        ("base/1", tarfile.LNKTYPE),
        ("fifo", tarfile.FIFOTYPE),
        ("pg_tblspc/1", tarfile.LNKTYPE),
    ],
)
def test_only_files_and_directories_are_made(name: str, kind: bytes) -> None:
    with pytest.raises(IntegrityError, match="neither a file nor a directory"):
        unpacked(archive((name, "/etc/passwd"), kind=kind))


def test_the_link_of_a_tablespace_is_passed_over() -> None:
    assert unpacked(archive(("pg_tblspc/16384", "/far/away"), ("PG_VERSION", b"15\n"))) == {"PG_VERSION": b"15\n"}


def test_a_tar_that_was_cut_off_is_refused() -> None:
    data = archive(("a", b"x" * 5000))
    with pytest.raises(IntegrityError, match="ends in the middle"):
        unpacked(data[:3000])


def test_a_data_directory_is_made_harmless_on_the_way() -> None:
    data = archive(
        ("PG_VERSION", b"15\n"),
        ("postgresql.auto.conf", b"archive_command = 'rm -rf /'\n"),
        ("standby.signal", b""),
        ("pg_wal/000000010000000000000002", b"w"),
        ("tablespace_map", b"16384 /srv/odd\\\nplace\n16385 /srv/b\\\\c\n"),
    )
    found = Found()
    made = {
        each.path: b"".join(each.chunks)
        for each in data_members(pieces(data), found, lambda old: {oid: f"/new/{oid}" for oid in old})
    }
    assert made["tablespace_map"] == b"16384 /new/16384\n16385 /new/16385\n"
    assert made[ASIDE] and "postgresql.auto.conf" not in made and "standby.signal" not in made
    assert found.tablespaces() == {"16384": "/srv/odd\nplace", "16385": "/srv/b\\c"}
    assert found.segments() == ["000000010000000000000002"]
    with pytest.raises(IntegrityError, match="backup_label"):
        _ = found.start_segment


def segment(number: int, size: int, timeline: int = 1) -> str:
    per = 0x1_0000_0000 // size
    return f"{timeline:08X}{number // per:08X}{number % per:08X}"


@given(
    st.sampled_from([1, 16, 64, 1024]),
    st.integers(1, 5000),
    st.integers(1, 40),
    st.integers(0, 39),
    st.lists(st.integers(1, 39), max_size=3),
)
def test_a_missing_segment_is_named_and_a_whole_chain_is_not_refused(
    mib: int, first: int, length: int, lost: int, switches: list[int]
) -> None:
    size = mib * MIB
    names = [segment(first + n, size, 1 + sum(n >= at for at in switches)) for n in range(length)]
    assert refuse_gaps(names[0], [*names, "00000002.history"], size) == names[-1]
    assert end_of(names[-1], size) == (first + length) * size
    if 0 < lost < length - 1:
        with pytest.raises(LogGap) as caught:
            refuse_gaps(names[0], names[:lost] + names[lost + 1 :], size)
        assert names[lost][8:] in caught.value.message


@pytest.mark.parametrize("name", ["../x", "000000010000000000000001.partial", "00000001000000000000000g", "x", ""])
def test_only_names_of_the_log_are_laid_ready(name: str) -> None:
    assert not is_log_name(name)


def test_a_moment_keeps_its_microseconds_and_is_told_in_utc() -> None:
    from datetime import timezone

    moment = datetime(2026, 11, 22, 11, 0, 0, 123456, tzinfo=timezone(timedelta(hours=1)))
    settings = Goal(time=moment, inclusive=False).settings()
    assert settings["recovery_target_time"] == "2026-11-22 10:00:00.123456+00"
    assert settings["recovery_target_inclusive"] == "off"
    assert settings["recovery_target_action"] == "promote"
    assert "recovery_target_inclusive" not in Goal().settings()


def test_settings_are_at_least_the_primarys() -> None:
    settings = harmless("/w", 17, {"max_connections setting": "500"}, ["timescaledb"], durable=False)
    assert settings["max_connections"] == "500"
    assert settings["timescaledb.max_background_workers"] == "0"
    assert settings["event_triggers"] == "off"
    assert "event_triggers" not in harmless("/w", 15, {}, [], durable=True)
    assert "fsync" not in harmless("/w", 15, {}, [], durable=True)
    assert as_text({"a": "it's \\ so"}) == "a = 'it''s \\\\ so'\n"


def test_the_libraries_of_the_source_are_known() -> None:
    texts = [
        "#shared_preload_libraries = 'no'\nshared_preload_libraries = 'a'\n",
        " Shared_Preload_Libraries='b, \"c\"' # x",
    ]
    assert preloaded(texts) == ["b", "c"]
    assert preloaded(["shared_preload_libraries = ''\n"]) == []


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("FATAL:  requested recovery stop point is before consistent recovery point", OutsideWindow),
        ("FATAL:  WAL ends before end of online backup", LogGap),
        ('FATAL:  could not access file "timescaledb": No such file or directory', ToolMissing),
        ("PANIC:  could not locate a valid checkpoint record", LogGap),
    ],
)
def test_why_a_recovery_failed_is_told_in_words(words: str, kind: type[BackupError]) -> None:
    error = postgres_log.failure(f"2026-11-22 10:00:00 UTC [1] {words}\n", "this host", "the end of the log")
    assert type(error) is kind
    assert words.partition(":  ")[2] in error.message
    assert error.kept


def test_commits_are_read_and_chosen_around_a_moment() -> None:
    line = (
        b"rmgr: Transaction len (rec/tot):     34/    34, tx:        848, lsn: 0/03001D08, prev 0/03001CC8, "
        b"desc: COMMIT 2026-11-22 04:50:51.785967 UTC; inval msgs: catcache 7"
    )
    at = datetime(2026, 11, 22, 4, 50, 51, 785967, tzinfo=UTC)
    assert parse(line) == Commit(at, 848, "0/03001D08")
    assert parse(line.replace(b"COMMIT", b"ABORT")) is None
    commits = [Commit(at + timedelta(seconds=n), n, "0/1") for n in range(10)]
    before, after = around(iter(commits), commits[4].at, 2)
    assert [each.transaction for each in before] == [3, 4]
    assert [each.transaction for each in after] == [5, 6]
