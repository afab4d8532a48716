"""What belongs to a database but is in no dump of it: owner, rights, settings, comment, locale.

They are kept as plain facts in the manifest, in a form that fits any database name, and as SQL for
people (``psql -v database=app -f …``) beside the dump.
"""

from __future__ import annotations

import re
from typing import Any

from engine.postgres.connection import Connection, translated
from engine.postgres.quoting import ident, literal

Properties = dict[str, Any]

# Settings whose value is a list of names, each to be quoted by itself.
_LISTS = {
    "search_path",
    "temp_tablespaces",
    "local_preload_libraries",
    "session_preload_libraries",
    "shared_preload_libraries",
    "unix_socket_directories",
}
_ELEMENT = re.compile(r'\s*("(?:[^"]|"")*"|[^,]*)\s*(?:,|$)')

_FACTS = """
SELECT pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, d.datconnlimit,
       d.datistemplate, t.spcname, shobj_description(d.oid, 'pg_database'), to_jsonb(d), d.datacl IS NULL
FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = %s
"""
_RIGHTS = """
SELECT coalesce(pg_get_userbyid(nullif(a.grantee, 0)), ''), a.privilege_type, a.is_grantable
FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = %s ORDER BY 1, 2
"""
_SETTINGS = """
SELECT coalesce(r.rolname, ''), setting
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole,
LATERAL unnest(s.setconfig) WITH ORDINALITY AS one(setting, place) WHERE d.datname = %s ORDER BY 1, place
"""
# Every role that an object of this database names: as owner, grantee, in a policy or a default privilege.
# The bootstrap superuser is pinned and so in no list.
_ROLES = """
SELECT r.rolname FROM pg_roles r WHERE r.oid = 10 OR r.oid IN (
    SELECT s.refobjid FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass AND (
        s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        OR s.classid = 'pg_database'::regclass
          AND s.objid = (SELECT oid FROM pg_database WHERE datname = current_database())))
  OR r.oid IN (SELECT s.setrole FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
               WHERE d.datname = current_database())
ORDER BY 1
"""


def read(connection: Connection, database: str) -> Properties:
    """The facts of one database of this server."""
    with translated(f"reading the properties of {database}"):
        row = connection.execute(_FACTS, [database]).fetchone()
        assert row is not None, database
        owner, encoding, collate, ctype, limit, template, tablespace, comment, raw, default_rights = row
        rights = connection.execute(_RIGHTS, [database]).fetchall()
        settings = connection.execute(_SETTINGS, [database]).fetchall()
    provider = {"c": "libc", "i": "icu", "b": "builtin"}[raw.get("datlocprovider", "c")]
    return {
        "owner": owner,
        "encoding": encoding,
        "collate": collate,
        "ctype": ctype,
        "locale_provider": provider,
        "locale": raw.get("datlocale") or raw.get("daticulocale") or "",
        "icu_rules": raw.get("daticurules") or "",
        "collation_version": raw.get("datcollversion") or "",
        "tablespace": tablespace,
        "connection_limit": limit,
        "is_template": template,
        "comment": comment or "",
        "default_rights": default_rights,
        "rights": [
            {"role": role, "privilege": privilege, "grantable": grantable} for role, privilege, grantable in rights
        ],
        "settings": [
            {"role": role, "name": text.partition("=")[0], "value": text.partition("=")[2]} for role, text in settings
        ],
    }


def roles(connection: Connection) -> list[str]:
    """Every role that something in the connected database refers to."""
    with translated("listing the roles in use"):
        return [row[0] for row in connection.execute(_ROLES)]


def create_statement(properties: Properties, database: str, server_major: int) -> str:
    """``CREATE DATABASE`` from template0 with the same encoding and locale.

    Owner and rights are not set: a copy is its maker's alone until it takes production's place.
    """
    parts = [f"CREATE DATABASE {ident(database)} TEMPLATE template0 ENCODING {literal(properties['encoding'])}"]
    parts.append(f"LC_COLLATE {literal(properties['collate'])} LC_CTYPE {literal(properties['ctype'])}")
    provider, locale = properties["locale_provider"], properties["locale"]
    if server_major >= 15:
        parts.append(f"LOCALE_PROVIDER {provider}")
        if provider == "icu" and locale:
            parts.append(f"ICU_LOCALE {literal(locale)}")
        if provider == "builtin" and locale:
            parts.append(f"BUILTIN_LOCALE {literal(locale)}")
        if server_major >= 16 and properties["icu_rules"]:
            parts.append(f"ICU_RULES {literal(properties['icu_rules'])}")
    return " ".join(parts)


def statements(properties: Properties, database: str) -> list[str]:
    """SQL that gives a database these properties. ``database`` is already an identifier in SQL."""
    return [
        *_owner(properties, database),
        *_rights(properties, database),
        *_others(properties, database),
        *(_setting(each, database) for each in properties["settings"]),
    ]


def as_sql(properties: Properties) -> bytes:
    """The same for people, for ``psql -v ON_ERROR_STOP=1 -v database=NAME -f``."""
    lines = [
        "-- Owner, rights and settings of the database, for psql -v ON_ERROR_STOP=1 -v database=NAME",
        f"-- It was created with: {create_statement(properties, 'NAME', 16 if properties['icu_rules'] else 15)}",
        *statements(properties, ':"database"'),
    ]
    return "\n".join([*(line if line.startswith("--") else f"{line};" for line in lines), ""]).encode()


def _owner(properties: Properties, database: str) -> list[str]:
    return [f"ALTER DATABASE {database} OWNER TO {ident(properties['owner'])}"]


def _rights(properties: Properties, database: str) -> list[str]:
    owner = ident(properties["owner"])
    if properties["default_rights"]:
        return [
            f"REVOKE ALL ON DATABASE {database} FROM PUBLIC, {owner}",
            f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO PUBLIC",
            f"GRANT ALL ON DATABASE {database} TO {owner}",
        ]
    lines = [f"REVOKE ALL ON DATABASE {database} FROM PUBLIC, {owner}"]
    for right in properties["rights"]:
        option = " WITH GRANT OPTION" if right["grantable"] and right["role"] not in ("", properties["owner"]) else ""
        role = ident(right["role"]) if right["role"] else "PUBLIC"
        lines.append(f"GRANT {right['privilege']} ON DATABASE {database} TO {role}{option}")
    return lines


def _others(properties: Properties, database: str) -> list[str]:
    comment = literal(properties["comment"]) if properties["comment"] else "NULL"
    lines = [
        f"COMMENT ON DATABASE {database} IS {comment}",
        f"ALTER DATABASE {database} WITH CONNECTION LIMIT {int(properties['connection_limit'])}",
    ]
    if properties["is_template"]:
        lines.append(f"ALTER DATABASE {database} WITH IS_TEMPLATE true")
    return lines


def _setting(setting: dict[str, str], database: str) -> str:
    name, value = setting["name"], setting["value"]
    if name.lower() in _LISTS:
        shown = ", ".join(literal(each) for each in _elements(value)) or "''"
    else:
        shown = literal(value)
    target = (
        f"ALTER ROLE {ident(setting['role'])} IN DATABASE {database}"
        if setting["role"]
        else f"ALTER DATABASE {database}"
    )
    variable = ".".join(ident(part) for part in name.split("."))
    return f"{target} SET {variable} TO {shown}"


def _elements(value: str) -> list[str]:
    """The names of a list setting, as the catalog stores it: quoted where they need it."""
    elements, at = [], 0
    while at < len(value):
        found = _ELEMENT.match(value, at)
        assert found is not None
        text = found[1].strip()
        elements.append(text[1:-1].replace('""', '"') if text.startswith('"') else text)
        at = found.end()
    return elements
