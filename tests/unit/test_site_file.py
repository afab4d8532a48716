"""Site files: what they may say, and the sentence for everything they may not."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from deployments import site_file
from deployments.environment import fill, read_dotenv
from deployments.yaml_lines import parse
from engine.config import SiteConfig
from engine.errors import ConfigError, UnknownName

KEY = "not-a-real-key-but-long-enough-for-a-test"
SECRET = "Zq7-fake-secret-value"
MINIMAL = f"site: tiny\nvault:\n  root: /tmp/tiny\n  keys: {{main: {KEY}}}\n"
WORKSET = {
    "MYSQL_ROOT_PASSWORD": "fake",
    "BACKUP_ENCRYPTION_KEY": KEY,
    "DO_SPACES_KEY": "fake",
    "DO_SPACES_SECRET": "fake",
    "DO_SPACES_BUCKET": "bucket",
    "DO_SPACES_REGION": "fra1",
}
WORKBENCH = {
    "BACKUP_ENCRYPTION_KEY": KEY,
    "DO_SPACES_ACCESS_KEY": "fake",
    "DO_SPACES_SECRET_KEY": "fake",
    "DO_SPACES_BUCKET": "bucket",
    "DO_SPACES_REGION": "fra1",
    "AWS_ACCESS_KEY": "fake",
    "AWS_SECRET_KEY": "fake",
}
DEMO = {
    "DEMO_ROOT": "/tmp/demo",
    "DEMO_MARIADB_PORT": "3307",
    "DEMO_MARIADB_PASSWORD": "fake",
    "DEMO_POSTGRES_PORT": "5433",
    "DEMO_POSTGRES_PASSWORD": "fake",
    "DEMO_BACKUP_KEY": KEY,
    "DEMO_S3_ENDPOINT": "http://127.0.0.1:9",
    "DEMO_S3_KEY": "fake",
    "DEMO_S3_SECRET": "fake",
}

Load = Callable[..., SiteConfig]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Write a text as a site file and load it with exactly the environment given."""
    monkeypatch.chdir(tmp_path)

    def write_and_load(text: str, **env: str) -> SiteConfig:
        path = tmp_path / "tiny.yaml"
        path.write_text(text)
        return site_file.load(path, env)

    return write_and_load


def refused(load: Load, text: str, **env: str) -> str:
    """The whole of what a person sees when a site file is refused; it never holds the secret."""
    with pytest.raises(ConfigError) as caught:
        load(text, **env)
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown, "a secret is in the error"
    assert KEY not in shown, "a key is in the error"
    assert caught.value.__cause__ is None and caught.value.__context__ is None, "an inner error rides along"
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize(("name", "env"), [("workset", WORKSET), ("workbench", WORKBENCH), ("demo", DEMO)])
def test_each_shipped_site_loads_from_its_own_environment_names_alone(
    name: str, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = site_file.load(site_file.SHIPPED / f"{name}.yaml", env)
    assert config.site == name
    assert config.vault.keys.keys["main"] == SecretStr(KEY)
    assert site_file.warnings(config) == []


@pytest.mark.parametrize(("name", "env"), [("workset", WORKSET), ("workbench", WORKBENCH), ("demo", DEMO)])
def test_each_shipped_site_lists_every_name_that_is_not_set(
    name: str, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        site_file.load(site_file.SHIPPED / f"{name}.yaml", {})
    for each in env:
        assert f"  {each}: used by " in caught.value.message


def test_workset_keeps_its_folders_and_its_compose_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = site_file.load(site_file.SHIPPED / "workset.yaml", WORKSET)
    assert (config.vault.root, config.vault.path) == ("/var/backups", "{site}/{directory}")
    assert config.vault.directories["mysql/daily"] == "database"
    assert config.vault.retention == {"daily": "30d", "binlogs": "7d"}
    assert config.mysql[0].service == "mysql" and config.mysql[0].databases == ["workset"]
    spaces = config.vault.replicas[0]
    assert (spaces.path, spaces.endpoint_url) == ("backups/{directory}", "https://fra1.digitaloceanspaces.com")


def test_workbench_dates_its_copies_and_keeps_them_infrequent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = site_file.load(site_file.SHIPPED / "workbench.yaml", WORKBENCH)
    assert (config.vault.root, config.vault.path) == ("/opt/workbench/backups", "{tier}")
    spaces, aws = config.vault.replicas
    assert all(str(replica.path).endswith("{yyyy}/{mm}/{dd}") for replica in (spaces, aws))
    assert (aws.storage_class, aws.endpoint_url, spaces.storage_class) == ("STANDARD_IA", None, None)
    assert (aws.cold_class, spaces.cold_class) == ("GLACIER", None)
    assert config.postgres[0].container == "workbench-postgres"
    assert config.postgres[0].password is None, "an empty ${NAME:-} is the same as no setting"


@pytest.mark.parametrize(("name", "env"), [("workset", WORKSET), ("workbench", WORKBENCH)])
def test_the_shipped_sites_are_watched_and_tell_whoever_the_environment_names(
    name: str, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = site_file.SHIPPED / f"{name}.yaml"
    config = site_file.load(file, env)
    assert config.alerts == [] and config.watch.ping.get_secret_value() == ""
    assert "nobody is told of failures" in site_file.untold(config)
    assert (config.watch.logs, config.drill.rpo) == ("15m", "15m")
    server = config.servers()[0]
    ages = config.watch.ages_of_tiers(server.name, server.databases[0])
    assert set(ages) >= {"daily", "weekly", "monthly"} and ("hourly" in ages) == (name == "workbench")
    set_ = {"ALERT_WEBHOOK_URL": "https://hooks.invalid/x", "ALERT_MAIL_URL": "mailtos://a", "WATCH_PING": "https://p"}
    config = site_file.load(file, {**env, **set_})
    assert [each.name for each in config.alerts] == ["mail", "webhook"] and not site_file.untold(config)
    assert config.watch.ping.get_secret_value() == "https://p"


def test_an_alert_is_left_out_only_where_its_address_was_to_come_from_the_environment(load: Load) -> None:
    left_out = 'alerts: [{name: gone, url: "${NONE:-}"}, {name: odd, url: "${URL}", levels: [panic]}]\n'
    assert load(MINIMAL + 'alerts: {name: gone, url: "${NONE:-}"}\n').alerts == []
    told = refused(load, MINIMAL + left_out, URL="https://hooks.invalid")
    assert "line 5" in told and "alerts[1].levels" in told
    assert "lacks url" in refused(load, MINIMAL + "alerts: {name: own}\n")
    half = 'alerts: {name: p, kind: pagerduty, integration_key: "${NONE:-}", api_key: "${KEY}"}\n'
    assert "lacks integration_key" in refused(load, MINIMAL + half, KEY="x")


def test_a_flat_and_a_nested_key_ring_mean_the_same(load: Load) -> None:
    flat = load(f"site: a\nvault: {{root: /r, keys: {{current: new, new: {KEY}, old: x{KEY}}}}}\n")
    nested = load(f"site: a\nvault: {{root: /r, keys: {{current: new, keys: {{new: {KEY}, old: x{KEY}}}}}}}\n")
    assert flat == nested
    assert flat.vault.keys.current == "new" and set(flat.vault.keys.keys) == {"new", "old"}


def test_the_only_key_of_a_ring_is_the_current_one(load: Load) -> None:
    assert load(MINIMAL.replace("main:", "k2025:")).vault.keys.current == "k2025"


def test_of_several_keys_the_current_one_must_be_named(load: Load) -> None:
    assert "say which one new backups use" in refused(load, MINIMAL.replace("{main", "{old: aaa, main"))


def test_a_current_key_that_is_not_in_the_ring_gets_the_nearest_name(load: Load) -> None:
    told = refused(load, MINIMAL.replace("{main", "{current: mian, main"))
    assert "line 4" in told and "Did you mean 'main'?" in told


def test_a_site_without_a_key_is_told_how_to_make_one(load: Load) -> None:
    assert "openssl rand -base64 48" in refused(load, "site: a\nvault: {root: /r}\n")


def test_a_short_key_is_warned_about_with_how_to_make_a_better_one(load: Load) -> None:
    config = load(MINIMAL.replace(KEY, "short"))
    (warning,) = site_file.warnings(config)
    assert "'main' has 5 characters, fewer than 32" in warning and "openssl rand" in warning
    assert "short" not in warning


def test_one_server_or_a_list_of_servers_may_stand_under_mysql_and_postgres(load: Load) -> None:
    one = load(MINIMAL + "mysql: {databases: [a]}\npostgres: {}\n")
    assert [source.name for source in one.sources()] == ["mysql", "postgres"]
    many = load(MINIMAL + "mysql:\n  - {name: crm}\n  - {name: shop, port: 3307}\n")
    assert [(source.name, source.port) for source in many.mysql] == [("crm", 0), ("shop", 3307)]


def test_every_unset_name_is_listed_once_with_every_place_that_uses_it(load: Load) -> None:
    told = refused(load, MINIMAL + "mysql:\n  user: ${WHO}\n  password: ${PASS}\npostgres:\n  user: ${WHO}\n")
    assert "uses 2 names that are not set" in told
    assert "  PASS: used by mysql.password (line 7)" in told
    assert "  WHO: used by mysql.user (line 6), postgres.user (line 9)" in told


def test_wrong_settings_are_told_together_with_the_names_that_are_not_set(load: Load) -> None:
    told = refused(
        load,
        "site: tiny\nvault:\n  root: /tmp/tiny\n  rooot: /x\n  keys: {current: main, main: '${BACKUP_KEY}'}\n"
        "mysql:\n  password: ${PASS}\n  hots: db\n  port: ${PORT}\npostgres: {port: many}\n",
    )
    assert "uses 3 names that are not set" in told and "has 3 wrong settings" in told
    assert "line 4: vault.rooot is no setting of vault. Did you mean 'root'?" in told
    assert "line 8: mysql.hots is no setting of mysql. Did you mean 'host'?" in told
    assert "line 10: postgres.port must be a whole number" in told
    assert told.count(", line ") == 3, "a value that is only unset is told as wrong too"


def test_a_name_that_is_set_but_empty_counts_as_unset_and_is_said_to_be_empty(load: Load) -> None:
    assert "PASS (set, but empty)" in refused(load, MINIMAL + "mysql: {password: '${PASS}'}\n", PASS="")


def test_a_default_is_taken_where_a_name_is_unset_or_empty(load: Load) -> None:
    text = MINIMAL + "mysql: {host: '${HOST:-db.local}', port: '${PORT:-3310}'}\n"
    assert (load(text).mysql[0].host, load(text, PORT="").mysql[0].port) == ("db.local", 3310)
    assert load(text, HOST="h", PORT="1").mysql[0].host == "h"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_a_secret_from_the_environment_arrives_as_it_is_whatever_it_holds(secret: str) -> None:
    assert fill({"a": ["${X}"]}, {"X": secret}).data == {"a": [secret]}


def test_a_dollar_brace_can_be_written_as_text(load: Load) -> None:
    assert load(MINIMAL + "mysql: {user: 'a$${B}$c'}\n").mysql[0].user == "a${B}$c"


@pytest.mark.parametrize("odd", ["${NA-ME}", "${NAME-default}", "${NAME", "${}", "${1A}"])
def test_a_reference_that_cannot_be_read_is_refused_with_its_place(load: Load, odd: str) -> None:
    told = refused(load, MINIMAL + f"mysql: {{user: '{odd}'}}\n", NAME="x")
    assert "mysql.user (line 5)" in told and "${NAME:-default}" in told


def test_values_come_from_a_dotenv_beside_the_site_file_and_the_environment_wins(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HOST=from-file\nWHO=me\n")
    config = load(MINIMAL + "mysql: {host: '${HOST}', user: '${WHO}'}\n", HOST="from-environment")
    assert (config.mysql[0].host, config.mysql[0].user) == ("from-environment", "me")


def test_the_dotenv_beside_the_site_file_wins_over_the_one_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    for folder in (site, elsewhere):
        folder.mkdir()
        (folder / ".env").write_text(f"WHO={folder.name}\nONLY_{folder.name.upper()}=yes\n")
    (site / "a.yaml").write_text(MINIMAL + "mysql: {user: '${WHO}', host: '${ONLY_ELSEWHERE}'}\n")
    monkeypatch.chdir(elsewhere)
    config = site_file.load(site / "a.yaml", {})
    assert (config.mysql[0].user, config.mysql[0].host) == ("site", "yes")


def test_a_named_dotenv_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MINIMAL)
    with pytest.raises(ConfigError, match=r"other\.env cannot be read"):
        site_file.load(tmp_path / "a.yaml", {}, tmp_path / "other.env")


def test_a_dotenv_reads_as_people_write_them(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(
        b'\xef\xbb\xbf# comment\r\nA=plain\r\nexport B = spaced \n\nC="two\\nlines \\"q\\" # no" # yes\n'
        b"D='$as ${it} is' # yes\nE=p#ss$word # comment\nF=\nG=a=b==\nH= # nothing\n"
    )
    assert read_dotenv(file) == {
        "A": "plain",
        "B": "spaced",
        "C": 'two\nlines "q" # no',
        "D": "$as ${it} is",
        "E": "p#ss$word",
        "F": "",
        "G": "a=b==",
        "H": "",
    }


@pytest.mark.parametrize("line", [SECRET, f'A="{SECRET}', f"A='{SECRET}", f"A-B={SECRET}"])
def test_a_wrong_dotenv_line_is_named_by_number_and_not_quoted(tmp_path: Path, line: str) -> None:
    (tmp_path / ".env").write_text("OK=1\n" + line + "\n")
    with pytest.raises(ConfigError, match=r"line 2") as caught:
        read_dotenv(tmp_path / ".env")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("retension: {daily: 30d}", "line 5: vault.retension is no setting of vault. Did you mean 'retention'?"),
        (
            "replicas: [{name: s, bukket: b, bucket: c}]",
            "vault.replicas[0].bukket is no setting of vault.replicas[0]. Did you mean 'bucket'?",
        ),
        ("retention: {dialy: 30d}", "vault.retention.dialy names no tier. Did you mean 'daily'?"),
        ("retention: {daily: soon}", "vault.retention.daily must be an age such as 24h"),
        (
            "replicas: [{name: s, bucket: b, retention: {dialy: 3d}}]",
            "vault.replicas[0].retention.dialy names no tier. Did you mean 'daily'?",
        ),
        (
            "replicas: [{name: s, bucket: b, retention: {daily: 0d}}]",
            "vault.replicas[0].retention.daily must be an age such as 24h",
        ),
        ("directories: {mysql/dialy: d}", "vault.directories.mysql/dialy names no tier. Did you mean 'daily'?"),
        ("compression: lz4", "vault.compression must be one of 'gzip' or 'zstd', not 'lz4'"),
        ("iterations: 500", "vault.iterations must be at least 10000, not '500'"),
        ("replicas: {name: s}", "vault.replicas must be a list, such as [one, two], not a mapping"),
        ("replicas: [{name: s}]", "replica s needs a bucket, or the directory of another disk, and not both"),
        ("replicas: [{name: local, bucket: b}]", "replica name 'local' is taken"),
    ],
)
def test_a_wrong_vault_setting_is_named_with_its_line_and_what_is_allowed(load: Load, text: str, says: str) -> None:
    told = refused(load, MINIMAL + f"  {text}\n")
    assert says in told and "tiny.yaml, line " in told


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vualt: 1", "vualt is no setting of a site file. Did you mean 'vault'?"),
        (f"mysql: {{pasword: {SECRET}}}", "mysql.pasword is no setting of mysql. Did you mean 'password'?"),
        (f"mysql: [{{pasword: {SECRET}}}]", "mysql[0].pasword is no setting of mysql[0]. Did you mean 'password'?"),
        (f"mysql: {SECRET}", "mysql must be a mapping of settings, or a list of such"),
        (f"mysql: {{password: [{SECRET}]}}", "mysql.password must be text, not a list"),
        (f"postgres: {{password: {{a: {SECRET}}}}}", "postgres.password must be text, not a mapping"),
        ("mysql: {port: many}", "mysql.port must be a whole number, not 'many'"),
        ("mysql: {timeout_seconds: 0}", "mysql.timeout_seconds must be more than 0"),
        ("postgres: {format: tar}", "postgres.format must be one of 'plain' or 'custom', not 'tar'"),
        ("mysql: {databases: shop}", "mysql.databases must be a list, such as [one, two], not 'shop'"),
        ("mysql: [{name: a}, {name: a}]", "two sources are called a"),
        ("postgres: {name: mysql}\nmysql: {}", "two sources are called mysql"),
    ],
)
def test_a_wrong_setting_is_told_in_words_without_its_secrets(load: Load, text: str, says: str) -> None:
    assert says in refused(load, MINIMAL + text + "\n")


def test_a_value_from_the_environment_is_not_quoted_even_where_the_setting_is_no_secret(load: Load) -> None:
    assert (
        refused(load, MINIMAL + "mysql: {port: '${PORT}'}\n", PORT=SECRET).count("mysql.port must be a whole number")
        == 1
    )


def test_all_wrong_settings_are_told_at_once_in_the_order_of_the_file(load: Load) -> None:
    told = refused(load, "site: Big Site\nvault: {rot: /r, keys: {main: k}}\nmysql: {port: x}\n")
    assert "4 wrong settings" in told
    lines = [line.split("line ")[1].split(":")[0] for line in told.splitlines() if ".yaml, line" in line]
    assert lines == ["1", "2", "2", "3"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("site: a\nsite: b\n", "line 2: site stands here a second time (first: line 1)"),
        ("site: a\nmysql:\n  user: b\n  user: c\n", "line 4: mysql.user stands here a second time"),
        (f"site: *{SECRET}\n", "line 1, column 7: found undefined alias"),
        (f"site: !{SECRET} x\n", "a value starts with !"),
        ("a: !!python/object/apply:os.system ['true']\n", "tags are not used here"),
        ("a: &x [*x]\n", "an alias repeats without end"),
        (f"site: {{a: {SECRET}\n", "is not valid YAML: line 2"),
        (f"\tsite: {SECRET}\n", "line 1, column 1"),
        ("{a: {b: c}}: d\n", "a key must be plain text"),
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        (f"- {SECRET}\n", "is not a mapping of settings"),
        ("a: 1\n---\nb: 2\n", "is not valid YAML"),
        ("a: \0\n", "a character that YAML does not allow"),
    ],
)
def test_what_is_no_proper_yaml_is_refused_with_its_line(load: Load, text: str, says: str) -> None:
    told = refused(load, text)
    assert says in told


def test_aliases_that_multiply_are_stopped() -> None:
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
    )
    with pytest.raises(ConfigError, match="repeats without end"):
        parse(bomb, "bomb.yaml")


def test_anchors_and_merges_work_and_own_settings_win(load: Load) -> None:
    config = load(MINIMAL + "mysql:\n  - &base {name: a, user: u, port: 1}\n  - {<<: *base, name: b}\n")
    assert [(each.name, each.user, each.port) for each in config.mysql] == [("a", "u", 1), ("b", "u", 1)]


@pytest.mark.parametrize("written", ["0123", "1e5", "yes", "2025-01-16", "0x1F", "12:30", "1_000", "'null'", "'~'"])
def test_a_password_stays_the_text_that_was_written(load: Load, written: str) -> None:
    password = load(MINIMAL + f"mysql: {{password: {written}}}\n").mysql[0].password
    assert password is not None and password.get_secret_value() == written.strip("'")


def test_a_setting_left_empty_is_the_same_as_one_left_out(load: Load) -> None:
    config = load(MINIMAL + "mysql:\n  databases:\n  container: ~\n")
    assert config.mysql[0].databases == [] and config.mysql[0].container is None


def test_yes_and_no_and_numbers_are_understood_where_they_belong(load: Load) -> None:
    text = "  replicas: [{name: s, bucket: b, verify_tls: no, threads: 4}]\n"
    assert not load(MINIMAL + text).vault.replicas[0].verify_tls


def test_a_site_file_that_is_not_there_is_answered_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'workset'"):
        site_file.load(tmp_path / "worset")


def test_a_file_that_is_no_text_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"site: \xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        site_file.load(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        site_file.load(tmp_path)


def test_a_site_is_found_by_path_by_name_by_environment_and_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert site_file.find("workset", {}) == site_file.SHIPPED / "workset.yaml"
    with pytest.raises(ConfigError, match="Which site") as caught:
        site_file.find(None, {})
    assert "workbench.yaml" in caught.value.remedy
    (tmp_path / "prefect.yaml").write_text("name: no site\n")
    (tmp_path / "mine.yaml").write_text(MINIMAL)
    assert site_file.find(None, {}).name == "mine.yaml"
    assert site_file.find("mine", {}).name == "mine.yaml"
    assert site_file.find(None, {"BACKUPS_SITE": "workset"}) == site_file.SHIPPED / "workset.yaml"
    (tmp_path / "other.yaml").write_text(MINIMAL)
    with pytest.raises(ConfigError, match="2 in this directory"):
        site_file.find(None, {})
    with pytest.raises(UnknownName, match="Did you mean 'mine.yaml'"):
        site_file.find("mnie.yaml", {})


def test_the_models_themselves_do_not_quote_what_they_refuse() -> None:
    with pytest.raises(ValidationError) as caught:
        SiteConfig.model_validate({"site": "a", "vault": {"root": "/r", "keys": SECRET}})
    assert SECRET not in str(caught.value)


def test_every_setting_has_a_sentence_in_the_documentation() -> None:
    text = Path(__file__).parents[2].joinpath("docs", "site-file.md").read_text()
    models = ["VaultConfig", "ObjectStoreConfig", "MySQLConfig", "PostgresConfig", "VolumesConfig", "ImagesConfig"]
    for model in (*models, "HealthCheck"):
        fields = getattr(__import__("engine.config", fromlist=[model]), model).model_fields
        missing = [name for name in fields if f"`{name}`" not in text]
        assert not missing, f"docs/site-file.md says nothing of {model}: {missing}"


def test_volumes_are_one_engine_or_several(tmp_path: Path) -> None:
    head = "site: s\nvault: {root: /v, keys: {main: " + "k" * 40 + "}}\n"
    file = tmp_path / "s.yaml"
    file.write_text(head + "volumes: {volumes: [notebooks, uploads], stop: [jupyter]}\n")
    (found,) = site_file.load(file, {}).volumes
    assert (found.name, found.databases, found.stop) == ("volumes", ["notebooks", "uploads"], ["jupyter"])
    file.write_text(head + "volumes: [{volumes: [a]}, {name: far, docker_host: 'tcp://far:2376', volumes: [a]}]\n")
    assert [each.name for each in site_file.load(file, {}).sources()] == ["volumes", "far"]
    for wrong, words in (("{volumes: [../etc]}", "is no name of a Docker volume"), ("{volume: [a]}", "'volumes'")):
        file.write_text(head + f"volumes: {wrong}\n")
        with pytest.raises(ConfigError, match=words):
            site_file.load(file, {})


def test_config_files_are_named_from_the_start_one_source_or_several(tmp_path: Path) -> None:
    head = "site: s\nvault: {root: /v, keys: {main: " + "k" * 40 + "}}\n"
    file = tmp_path / "s.yaml"
    file.write_text(head + "config: {paths: [/etc/nginx], exclude: ['*.log']}\n")
    assert [(each.name, each.databases) for each in site_file.load(file, {}).config] == [("config", ["config"])]
    file.write_text(head + "config: [{paths: [/etc]}, {name: app, paths: [/opt/app/.env]}]\n")
    assert [each.name for each in site_file.load(file, {}).sources()] == ["config", "app"]
    for wrong in ("[etc/nginx]", "['/']"):
        file.write_text(head + f"config: {{paths: {wrong}}}\n")
        with pytest.raises(ConfigError, match="not absolute|whole machine"):
            site_file.load(file, {})
