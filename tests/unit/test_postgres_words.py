"""Names, labels, selections and settings as PostgreSQL writes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.postgres.dump_text import Piece, Section
from engine.postgres.feed import Feed
from engine.postgres.properties import create_statement, statements
from engine.postgres.quoting import label, literal, split_label
from engine.postgres.schema import Fingerprint, differences
from engine.postgres.selection import Chosen
from engine.source import Selection

NAME = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1)
PROPERTIES: dict[str, Any] = {
    "owner": "app",
    "encoding": "UTF8",
    "collate": "C",
    "ctype": "C",
    "locale_provider": "icu",
    "locale": "de-x-y",
    "icu_rules": "",
    "connection_limit": -1,
    "is_template": False,
    "comment": "",
    "default_rights": True,
    "rights": [],
    "settings": [],
}


@given(NAME, NAME)
def test_a_label_gives_back_its_two_names(schema: str, table: str) -> None:
    assert split_label(label(schema, table)) == (schema, table)


def test_two_tables_never_share_a_label() -> None:
    assert label("a.b", "c") != label("a", "b.c")
    assert label("public", "t t") == "public.t t"


def test_a_backslash_in_a_constant_survives_either_string_mode() -> None:
    assert literal("a\\b'c") == " E'a\\\\b''c'"
    assert literal("it's") == "'it''s'"


@pytest.mark.parametrize(
    "name, value, shown",
    [
        ("search_path", '"$user", public, "a,""b"', "'$user', 'public', 'a,\"b'"),
        ("search_path", '""', "''"),
        ("work_mem", "7MB", "'7MB'"),
        ("app.list", "a, b", "'a, b'"),
    ],
)
def test_a_setting_is_written_as_the_server_reads_it(name: str, value: str, shown: str) -> None:
    last = statements({**PROPERTIES, "settings": [{"role": "", "name": name, "value": value}]}, '"db"')[-1]
    assert last.endswith(f" TO {shown}")


def test_a_copy_is_made_with_the_locale_of_its_original() -> None:
    assert "LOCALE_PROVIDER icu ICU_LOCALE 'de-x-y'" in create_statement(PROPERTIES, "x", 15)
    assert "LOCALE_PROVIDER" not in create_statement(PROPERTIES, "x", 14)


def test_choosing_a_partitioned_table_chooses_its_partitions() -> None:
    chosen = Chosen(Selection(tables=("s.parent",)), {"s.leaf": ["s.parent", "s.middle"]})
    assert chosen.table("s.leaf") and not chosen.table("s.other")


def test_a_foreign_key_needs_both_ends() -> None:
    section = Section("a a_fk", "FK CONSTRAINT", "s", "app")
    sql = b'ALTER TABLE ONLY s.a\n    ADD CONSTRAINT a_fk FOREIGN KEY (b) REFERENCES s."b c"(id);\n'
    piece = Piece("sql", sql, section)
    assert Chosen(Selection(tables=("s.a", "s.b c")), {}).takes(piece)
    assert not Chosen(Selection(tables=("s.a",)), {}).takes(piece)


def test_what_an_older_server_or_psql_does_not_know_is_left_out_with_a_note() -> None:
    passed: list[bytes] = []
    feed = Feed(
        passed.append, Chosen(Selection(), {}), knows_restrict=False, settings={"default_tablespace"}, tablespaces=set()
    )
    feed.take(
        b"\\restrict x\nSET transaction_timeout = 0;\nSET default_tablespace = fast;\nSELECT 1;\n"
        b"-- PostgreSQL database dump complete\n\\unrestrict x\n"
    )
    feed.finish()
    assert b"".join(passed) == b"SET default_tablespace = '';\nSELECT 1;\n-- PostgreSQL database dump complete\n"
    assert len(feed.notes) == 3


def test_the_order_of_grants_is_no_difference_but_their_content_is() -> None:
    def parts(*lines: bytes) -> dict[str, str]:
        fingerprint = Fingerprint()
        fingerprint.take(Piece("sql", b"\n".join(lines), Section("TABLE t", "ACL", "s", "app")))
        return fingerprint.parts()

    assert parts(b"GRANT A;", b"GRANT B;") == parts(b"GRANT B;", b"GRANT A;")
    assert differences(parts(b"GRANT A;"), parts(b"GRANT B;")) == ["ACL s.TABLE t is defined differently"]
