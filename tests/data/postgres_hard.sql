-- What breaks dumps of PostgreSQL, in one database. Roles come from the test: app_owner, app_reader,
-- analyst, and one with an odd name. Loads on PostgreSQL 15 and newer, as a superuser.
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE EXTENSION pg_trgm;

CREATE SCHEMA workbench AUTHORIZATION app_owner;
CREATE SCHEMA bronze AUTHORIZATION app_owner;
CREATE SCHEMA silver;
CREATE SCHEMA gold;
CREATE SCHEMA audit;
CREATE SCHEMA "od""d. schéma 'q'";

CREATE TYPE workbench.mood AS ENUM ('sad', 'ok', 'it''s "great"', '🙂');
CREATE DOMAIN workbench.positive AS integer CHECK (VALUE > 0);
CREATE TYPE workbench.point3 AS (x double precision, y double precision, label text);

CREATE TABLE workbench.everything (
    id bigint GENERATED ALWAYS AS IDENTITY (START WITH 1000 INCREMENT BY 7) PRIMARY KEY,
    note text,
    raw bytea,
    doc json,
    docb jsonb,
    price numeric(20, 6),
    huge numeric,
    ratio double precision,
    doubled numeric GENERATED ALWAYS AS (price * 2) STORED,
    born date,
    seen timestamptz,
    stays interval,
    tags text[],
    grid integer[][],
    mood workbench.mood DEFAULT 'ok',
    strong workbench.positive,
    place workbench.point3,
    span tstzrange,
    bits bit varying(16),
    mail citext UNIQUE,
    attributes hstore,
    address inet,
    uid uuid,
    photo oid
);
COMMENT ON TABLE workbench.everything IS E'it''s a table;\n-- Name: fake; Type: TABLE DATA; Schema: public; Owner: nobody\nCOPY public.fake (a) FROM stdin;\n\\.\n';
COMMENT ON COLUMN workbench.everything.note IS 'naïve ☃ "quoted"';

INSERT INTO workbench.everything (note, raw, doc, docb, price, huge, ratio, born, seen, stays, tags, grid, mood,
    strong, place, span, bits, mail, attributes, address, uid)
VALUES
  (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  ('', ''::bytea, '{}', '{}', 0, 0, 0, '0001-01-01 BC', '-infinity', '0', '{}', '{}', 'sad', 1,
   ROW(0, -0.0, '')::workbench.point3, 'empty', B'', '', '', '0.0.0.0', '00000000-0000-0000-0000-000000000000'),
  (E'line one\nline two\r\n\ttab \\ backslash \\. \\N 😀 𝔘𝔫𝔦', decode(repeat('00ff5c0a0d', 200), 'hex'),
   '{"a":  1, "a": 2, "text": "\u00e9 \\n"}', '{"nested": {"list": [1, null, "ü😀"]}}', 12345678901234.567891,
   1e300::numeric, 'NaN', 'infinity', '294276-12-31 23:59:59.999999+00', '178000000 years -1 mon 3 days 04:05:06.7',
   ARRAY['a,b', 'c"d', NULL, '{x}', E'back\\slash'], '{{1,2},{3,4}}', '🙂', 42,
   ROW(1e308, 'Infinity', 'a,"b"')::workbench.point3, '[2020-01-01,infinity)', B'10110', 'Some.One@Example.org',
   'a=>1, "b c"=>NULL, "d\"e"=>"f,g"', '2001:db8::/32', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'),
  (E'\\.', E'\\\\x', '"\\."', '"\\."', -0.000001, 'Infinity', '-Infinity', '-infinity', 'infinity', '-1 days', ARRAY[E'\n'],
   NULL, E'it''s "great"', 2147483647, NULL, NULL, NULL, 'x@y', NULL, NULL, NULL);
INSERT INTO workbench.everything (note, price) SELECT 'bulk ' || n || repeat('.', n % 97), n / 3.0 FROM generate_series(1, 3000) n;
CREATE INDEX everything_trgm ON workbench.everything USING gin (note gin_trgm_ops);
CREATE UNIQUE INDEX everything_part ON workbench.everything (lower(note)) WHERE note LIKE 'only%';
CREATE STATISTICS workbench.everything_stat (dependencies) ON note, price FROM workbench.everything;

-- Foreign keys in a cycle, and one to itself.
CREATE TABLE bronze.teams (id serial PRIMARY KEY, name text NOT NULL, lead integer);
CREATE TABLE bronze.people (id serial PRIMARY KEY, team integer NOT NULL REFERENCES bronze.teams DEFERRABLE INITIALLY DEFERRED,
    boss integer REFERENCES bronze.people ON DELETE SET NULL, name text);
ALTER TABLE bronze.teams ADD FOREIGN KEY (lead) REFERENCES bronze.people DEFERRABLE INITIALLY DEFERRED;
BEGIN;
INSERT INTO bronze.teams (name, lead) SELECT 'team ' || n, n FROM generate_series(1, 20) n;
INSERT INTO bronze.people (team, boss, name) SELECT 1 + n % 20, nullif(n % 5, 0), 'person ' || n FROM generate_series(1, 500) n;
COMMIT;
ALTER TABLE bronze.teams OWNER TO app_owner;
ALTER TABLE bronze.people OWNER TO app_owner;

-- Partitions, two levels, one of them default; inheritance of the old kind.
CREATE TABLE silver.events (at timestamptz NOT NULL, kind text NOT NULL, body jsonb) PARTITION BY RANGE (at);
CREATE TABLE silver.events_2024 PARTITION OF silver.events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (kind);
CREATE TABLE silver."events 2024 click" PARTITION OF silver.events_2024 FOR VALUES IN ('click');
CREATE TABLE silver.events_2024_rest PARTITION OF silver.events_2024 DEFAULT;
CREATE TABLE silver.events_other PARTITION OF silver.events DEFAULT;
CREATE INDEX ON silver.events (at);
INSERT INTO silver.events SELECT timestamptz '2024-06-01' + n * interval '1 hour', CASE n % 3 WHEN 0 THEN 'click' ELSE 'view' END,
    jsonb_build_object('n', n) FROM generate_series(1, 6000) n;
CREATE TABLE silver.animals (name text);
CREATE TABLE silver.dogs (breed text) INHERITS (silver.animals);
INSERT INTO silver.animals VALUES ('generic');
INSERT INTO silver.dogs VALUES ('rex', 'mutt'), ('fido', NULL);

CREATE VIEW gold.people_by_team AS SELECT t.name AS team, count(*) AS people FROM bronze.people p JOIN bronze.teams t ON t.id = p.team GROUP BY 1;
CREATE VIEW gold.tricky AS SELECT E'a\\b''c' AS literal, 'COPY x FROM stdin;' AS words, id FROM workbench.everything WHERE note <> E'\\';
CREATE MATERIALIZED VIEW gold.monthly AS SELECT date_trunc('month', at) AS month, count(*) FROM silver.events GROUP BY 1;
CREATE MATERIALIZED VIEW gold.not_filled AS SELECT 1 AS one WITH NO DATA;
CREATE UNIQUE INDEX ON gold.monthly (month);

CREATE TABLE audit.log (id bigserial, at timestamptz DEFAULT now(), what text);
CREATE FUNCTION audit.note_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $body$
BEGIN
  -- Lines that look like a dump's own, inside of a body:
  /*
--
-- Name: people; Type: TABLE DATA; Schema: bronze; Owner: app_owner
--
COPY bronze.people (id) FROM stdin;
1
\.
-- PostgreSQL database dump complete
\connect postgres
  */
  INSERT INTO audit.log (what) VALUES (TG_OP || ' ' || $q$on 'people'$q$);
  RETURN COALESCE(NEW, OLD);
END
$body$;
CREATE TRIGGER people_changed AFTER INSERT OR UPDATE OR DELETE ON bronze.people FOR EACH ROW EXECUTE FUNCTION audit.note_change();
CREATE FUNCTION workbench.total(min numeric DEFAULT 0) RETURNS numeric STABLE
  BEGIN ATOMIC SELECT sum(price) FROM workbench.everything WHERE price > min; SELECT sum(huge) FROM workbench.everything; END;
CREATE PROCEDURE workbench.clean() LANGUAGE sql AS $$ DELETE FROM audit.log WHERE at < now() - interval '1 year' $$;
CREATE AGGREGATE workbench.product(numeric) (SFUNC = numeric_mul, STYPE = numeric, INITCOND = '1');
CREATE RULE no_delete AS ON DELETE TO audit.log DO INSTEAD NOTHING;

CREATE TABLE workbench.empty (a int, b text);
CREATE TABLE workbench.nothing ();
INSERT INTO workbench.nothing DEFAULT VALUES;
CREATE UNLOGGED TABLE workbench.fast (n int);
INSERT INTO workbench.fast VALUES (1), (2);
CREATE TABLE "od""d. schéma 'q'"."ta.ble ""with"" 'all' ☃" ("col.1" int PRIMARY KEY, "Col "" 2" text, "select" text DEFAULT 'it''s');
INSERT INTO "od""d. schéma 'q'"."ta.ble ""with"" 'all' ☃" VALUES (1, 'x', DEFAULT), (2, NULL, NULL);
CREATE TABLE public."new
line" (a int);
INSERT INTO public."new
line" VALUES (1), (2), (3);
CREATE SEQUENCE workbench."my seq" START 5 INCREMENT -3 MINVALUE -1000 MAXVALUE 1000 CYCLE;
SELECT nextval('workbench."my seq"'), nextval('workbench."my seq"');
CREATE SEQUENCE workbench.unused;

-- Rights, row security, default privileges.
ALTER TABLE workbench.everything OWNER TO app_owner;
GRANT USAGE ON SCHEMA bronze, silver TO app_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA bronze TO app_reader WITH GRANT OPTION;
GRANT SELECT (note, price), UPDATE (note) ON workbench.everything TO analyst;
GRANT EXECUTE ON FUNCTION workbench.total(numeric) TO "odd role ""x""";
REVOKE EXECUTE ON FUNCTION workbench.total(numeric) FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO analyst;
ALTER DEFAULT PRIVILEGES FOR ROLE app_owner IN SCHEMA bronze GRANT SELECT ON TABLES TO analyst;
ALTER DEFAULT PRIVILEGES FOR ROLE app_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER TABLE bronze.people ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_team ON bronze.people FOR SELECT TO app_reader USING (team = current_setting('app.team', true)::int);
CREATE POLICY odd ON bronze.people TO "odd role ""x""" USING (name <> 'x''y');

-- Large objects.
SELECT lo_from_bytea(0, decode(repeat('deadbeef00', 5000), 'hex')) AS photo \gset
UPDATE workbench.everything SET photo = :photo WHERE id = 1000;
COMMENT ON LARGE OBJECT :photo IS 'a photo';
GRANT SELECT ON LARGE OBJECT :photo TO app_reader;
SELECT lo_from_bytea(0, '');

-- An event trigger that would write down every definition made.
CREATE FUNCTION audit.note_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit.log (what) VALUES (TG_TAG); END $$;
REFRESH MATERIALIZED VIEW gold.monthly;
CREATE EVENT TRIGGER note_ddl ON ddl_command_end EXECUTE FUNCTION audit.note_ddl();
CREATE PUBLICATION changes FOR TABLE bronze.teams;
UPDATE bronze.people SET name = name || '!' WHERE id <= 10;
