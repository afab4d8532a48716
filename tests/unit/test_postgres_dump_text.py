"""A dump is read the same however it is cut into chunks, and only real COPY blocks count."""

from __future__ import annotations

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from engine.postgres.dump_text import DumpScanner, Piece

DUMP = rb"""--
-- PostgreSQL database dump
--

\restrict token

SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);

--
-- Name: f(); Type: FUNCTION; Schema: public; Owner: app
--

CREATE FUNCTION public.f() RETURNS void LANGUAGE plpgsql AS $body$
-- Name: fake; Type: TABLE DATA; Schema: public; Owner: app
COPY public.fake (a) FROM stdin;
1
\.
-- PostgreSQL database dump complete
\connect elsewhere
$$ '" /* $body
$body$;

COMMENT ON FUNCTION public.f() IS 'it''s
COPY public.fake2 (a) FROM stdin;
\.
';
COMMENT ON FUNCTION public.f() IS  E'back\\slash \'quoted''
COPY public.fake3 (a) FROM stdin;
';
/* COPY in a comment
COPY public.fake4 (a) FROM stdin;
*/
CREATE VIEW public.v AS SELECT "a""b
COPY public.fake5 (a) FROM stdin;
", $1x FROM t;

--
-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: app
--

COPY public.t (a, "odd ) ""col") FROM stdin;
1	\\.
2	-- Name: x; Type: TABLE; Schema: public; Owner: y
3	'
\\.	$$
\.


--
-- Data for Name: empty; Type: TABLE DATA; Schema: public; Owner: app
--

COPY public.empty (a) FROM stdin;
\.


COPY "od""d.s"."new
line"  FROM stdin;


\.

--
-- Name: s; Type: SEQUENCE SET; Schema: public; Owner: app
--

SELECT pg_catalog.setval('public."s''q"', 42, true);


--
-- PostgreSQL database dump complete
--

\unrestrict token

"""
ROWS = {"public.t": 4, "public.empty": 0, '"od""d.s".new\nline': 2}


def scan(chunks: list[bytes]) -> tuple[DumpScanner, list[Piece]]:
    scanner = DumpScanner()
    pieces = [piece for chunk in chunks for piece in scanner.feed(chunk)]
    return scanner, [*pieces, *scanner.finish()]


def test_rows_sections_and_the_end_are_found() -> None:
    scanner, pieces = scan([DUMP])
    assert scanner.rows == ROWS
    assert scanner.sequences == {"public.s'q": (42, True)}
    assert scanner.complete
    assert {piece.data for piece in pieces if piece.kind == "meta"} == {b"\\restrict token\n", b"\\unrestrict token\n"}
    assert [piece.data for piece in pieces if piece.kind == "set"] == [b"SET client_encoding = 'UTF8';\n"]
    assert [piece.section.key for piece in pieces if piece.kind == "copy" and piece.section][:2] == [
        "TABLE DATA public.t",
        "TABLE DATA public.empty",
    ]


@given(st.lists(st.integers(1, len(DUMP) - 1), max_size=40))
def test_the_cuts_between_chunks_change_nothing(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(DUMP)]
    scanner, pieces = scan([DUMP[a:b] for a, b in itertools.pairwise(edges)])
    assert b"".join(piece.data for piece in pieces) == DUMP
    assert (scanner.rows, scanner.complete, scanner.sequences) == (ROWS, True, {"public.s'q": (42, True)})


def test_one_byte_at_a_time_gives_the_same() -> None:
    scanner, pieces = scan([DUMP[at : at + 1] for at in range(len(DUMP))])
    assert b"".join(piece.data for piece in pieces) == DUMP
    assert scanner.rows == ROWS and scanner.complete


@given(st.integers(0, len(DUMP.rstrip()) - 60))
def test_a_dump_cut_anywhere_is_not_complete(length: int) -> None:
    end = DUMP.rindex(b"-- PostgreSQL database dump complete")
    scanner, _ = scan([DUMP[: min(length, end)]])
    assert not scanner.complete


def test_a_line_taken_out_of_the_rows_is_missed() -> None:
    scanner, _ = scan([re.sub(rb"2\t--.*\n", b"", DUMP)])
    assert scanner.rows["public.t"] == 3
