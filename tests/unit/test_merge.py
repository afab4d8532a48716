"""Applying a site file again: what the file changed, what a person edited, and telling the two apart."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deployments.merge import merge

SALT = b"0" * 32
VALUES = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3) | st.none(), max_size=3)


def _applied(values: dict[str, Any]) -> dict[str, str]:
    return merge(values, values, {}, SALT).applied


def test_a_change_in_the_file_is_taken() -> None:
    found = merge({"host": "new"}, {"host": "old"}, _applied({"host": "old"}), SALT)
    assert found.changed == {"host": ("old", "new")} and found.values == {"host": "new"} and not found.kept


def test_an_edit_in_the_ui_stays_and_is_told() -> None:
    found = merge({"host": "old"}, {"host": "edited"}, _applied({"host": "old"}), SALT)
    assert found.kept == {"host": ("old", "edited")} and found.values == {"host": "edited"} and not found.changed


def test_an_edit_stays_also_where_the_file_changed_and_is_told_again_the_next_time() -> None:
    last = _applied({"host": "old"})
    found = merge({"host": "new"}, {"host": "edited"}, last, SALT)
    assert found.kept and found.applied == last
    assert merge({"host": "new"}, {"host": "edited"}, found.applied, SALT).kept


def test_force_takes_the_file_s() -> None:
    found = merge({"host": "old"}, {"host": "edited"}, _applied({"host": "old"}), SALT, force=True)
    assert found.values == {"host": "old"} and not found.kept


def test_a_field_that_a_new_release_brings_takes_the_file_s_value() -> None:
    found = merge({"host": "h", "threads": 4}, {"host": "h", "threads": 2}, _applied({"host": "h"}), SALT)
    assert found.changed == {"threads": (2, 4)}


def test_a_digest_does_not_show_the_value() -> None:
    assert "secret" not in str(_applied({"password": "secret"}))


@given(VALUES, VALUES, VALUES, st.booleans())
def test_merging_twice_changes_nothing_the_second_time(
    wanted: dict[str, Any], saved: dict[str, Any], before: dict[str, Any], force: bool
) -> None:
    first = merge(wanted, saved, _applied(before), SALT, force=force)
    second = merge(wanted, first.values, first.applied, SALT)
    assert not second.changed
    assert second.values == first.values
