"""Settings are read from the environment, and invalid ones are refused in one line."""

import re
from pathlib import Path

import pytest

from app.environment import check_keys, read_settings
from app.lists import HostRule
from app.settings import SHIPPED_MODELS, Settings, SettingsError
from model.gate import MAX_LOSS_DB


def test_defaults_match_the_documentation() -> None:
    settings = read_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)


def test_a_setting_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESRGAN_PORT", "9000")
    assert read_settings().port == 9000


def test_an_unknown_setting_is_refused_with_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESRGAN_PROT", "9000")
    with pytest.raises(SettingsError, match=r"unknown setting ESRGAN_PROT, .*the settings are .*ESRGAN_PORT"):
        read_settings()


@pytest.mark.parametrize(("name", "value"), [("PORT", "70000"), ("PORT", "http"), ("CODEC_THREADS", "0")])
def test_a_wrong_value_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"ESRGAN_{name}", value)
    with pytest.raises(SettingsError, match=f"ESRGAN_{name}='{value}'") as refusal:
        read_settings()
    assert "\n" not in str(refusal.value)


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESRGAN_JOBS_DATABASE", "host=db user=esrgan password=S3cret")
    with pytest.raises(SettingsError, match="ESRGAN_JOBS_DATABASE: ") as refusal:
        read_settings()
    assert "S3cret" not in str(refusal.value)
    assert "S3cret" not in repr(Settings(jobs_database="postgresql://esrgan:S3cret@db/esrgan"))


def test_settings_cannot_be_changed_after_the_start() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]  # must raise


def _written(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default in (None, ()) else str(default)


def test_the_example_file_lists_every_setting_with_its_default_and_sets_none() -> None:
    example = (SHIPPED_MODELS.parent.parent / ".env.example").read_text(encoding="utf-8")
    listed = dict(re.findall(r"(?m)^#(ESRGAN_\w+)=(.*)$", example))
    defaults = {f"ESRGAN_{name.upper()}": _written(field.default) for name, field in Settings.model_fields.items()}
    assert listed == defaults | {"ESRGAN_MODELS": "model/weights"}
    # A whole copy as `.env` sets nothing: in containers some names mean something else, and have other defaults.
    assert [line for line in example.splitlines() if line and not line.startswith("#")] == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_this_machine_alone_no_keys_are_needed(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("ESRGAN_HOST", host)
    assert read_settings().keys is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "server.example"])
def test_on_other_addresses_keys_or_explicit_permission_are_needed(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("ESRGAN_HOST", host)
    settings = read_settings()  # which commands that open no port need no more than
    with pytest.raises(SettingsError, match=r"ESRGAN_HOST=.* ESRGAN_KEYS to .* ESRGAN_ALLOW_ANONYMOUS=true"):
        check_keys(settings)
    check_keys(settings.model_copy(update={"allow_anonymous": True}))
    check_keys(settings.model_copy(update={"keys": Path("keys")}))


@pytest.mark.parametrize("value", ["127.0.0.1", ":8000", "127.0.0.1:0", "127.0.0.1:99999", "host:port"])
def test_a_published_address_has_a_host_and_a_port(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ESRGAN_PUBLISHED", value)
    with pytest.raises(SettingsError, match="it must be HOST:PORT"):
        read_settings()


@pytest.mark.parametrize(("value", "expected"), [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:8000", ("::1", 8000))])
def test_a_published_address_is_taken_apart(value: str, expected: tuple[str, int]) -> None:
    assert Settings(published=value).published == expected


WRONG_HOSTS = [
    "https://hooks.example.com",
    "hooks.example.com/path",
    "*example.com",
    "*.",
    "hooks.*.com",
    "hooks.example.com.",
    "hooks.example.com:",
    "hooks.example.com:0",
    "hooks.example.com:65536",
    "hooks.example.com:https",
    "user@example.com",
    "10.0.0.0/8",
    "2001:db8::1:9000",
    "a.example b.example",
    "b\u00fccher.example",
]


@pytest.mark.parametrize("host", WRONG_HOSTS)
@pytest.mark.parametrize("name", ["ESRGAN_FETCH_HOSTS", "ESRGAN_WEBHOOK_HOSTS"])
def test_a_host_that_would_match_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, host: str) -> None:
    monkeypatch.setenv(name, f"a.example, {host}")
    with pytest.raises(SettingsError, match=f"^{name}=.*{re.escape(host)} is not a host such as hooks.example.com"):
        read_settings()


def test_hosts_are_listed_with_commas() -> None:
    hosts = ["*", "minio", "Hooks.Example.com:8443", "*.a_b.example", "127.0.0.1:9000", "[::1]", "[2001:db8::1]:9000"]
    assert Settings(fetch_hosts=" , ".join([*hosts, ""])).fetch_hosts == tuple(map(HostRule.of, hosts))


SERVICE_LINKS = {
    "ESRGAN_SERVICE_HOST": "10.0.0.1",
    "ESRGAN_SERVICE_PORT": "80",
    "ESRGAN_SERVICE_PORT_HTTP_METRICS": "9100",
    "ESRGAN_PORT": "tcp://10.0.0.1:80",
    "ESRGAN_PORT_80_TCP": "tcp://10.0.0.1:80",
    "ESRGAN_PORT_80_TCP_PROTO": "tcp",
    "ESRGAN_PORT_80_TCP_PORT": "80",
    "ESRGAN_PORT_80_TCP_ADDR": "10.0.0.1",
    "ESRGAN_SERVE_SERVICE_HOST": "10.0.0.2",
    "ESRGAN_SERVE_PORT": "tcp://[fd00::2]:8000",
    "ESRGAN_GRAFANA_PORT": "udp://10.0.0.3:3000",
    "ESRGAN_GRAFANA_PORT_3000_TCP_ADDR": "10.0.0.3",
    "ESRGAN_GRAFANA_PORT_53_UDP": "udp://10.0.0.3:53",
    "ESRGAN_MAX_SERVICE_PORT": "1",
}
"""Variables in every container of a namespace with Services esrgan, esrgan-serve, esrgan-grafana and esrgan-max."""


def test_kubernetes_service_variables_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICE_LINKS.items():
        monkeypatch.setenv(name, value)
    assert read_settings() == Settings.model_construct()


def test_a_port_set_next_to_service_variables_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (SERVICE_LINKS | {"ESRGAN_PORT": "9000"}).items():
        monkeypatch.setenv(name, value)
    assert read_settings().port == 9000


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("ESRGAN_SERVE_PORT", "9000", "ESRGAN_PORT"),
        ("ESRGAN_PORTS", "tcp://10.0.0.1:80", "ESRGAN_PORT"),
        ("esrgan_max_pictures_px", "1", "ESRGAN_MAX_PICTURE_PX"),
        ("ESRGAN_MODEL", "a", "ESRGAN_MODELS"),
        ("ESRGAN_PROT", "9000", "ESRGAN_PORT"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_right_one(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, meant: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"unknown setting {name}, .*; did you mean {meant}[?] the settings are"):
        read_settings()


def test_a_setting_like_no_other_is_refused_without_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESRGAN_FOO", "1")
    with pytest.raises(SettingsError, match="unknown setting ESRGAN_FOO, misspelt or of another version; the set"):
        read_settings()


def test_a_setting_of_a_newer_version_is_refused_without_a_far_fetched_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Settings.model_fields, "threads")  # an older version has HEAD_S, and nothing nearer
    monkeypatch.setenv("ESRGAN_THREADS", "2")
    with pytest.raises(SettingsError, match="unknown setting ESRGAN_THREADS, misspelt or of another version; the set"):
        read_settings()


def test_an_address_where_a_number_belongs_is_still_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESRGAN_CODEC_THREADS", "tcp://10.0.0.1:80")
    with pytest.raises(SettingsError, match="ESRGAN_CODEC_THREADS"):
        read_settings()


def test_the_service_and_the_commands_refuse_the_same_networks() -> None:
    assert Settings.model_fields["max_loss_db"].default == MAX_LOSS_DB == 10
