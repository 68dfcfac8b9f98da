"""Settings come from the environment, and nonsense is refused in one line."""

import pytest

from app.settings import SHIPPED_MODELS, Settings, SettingsError, read_settings


def test_defaults_are_those_of_the_documentation() -> None:
    settings = read_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)


def test_a_setting_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESRGAN_PORT", "9000")
    assert read_settings().port == 9000


def test_an_unknown_setting_is_refused_with_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESRGAN_PROT", "9000")
    with pytest.raises(SettingsError, match=r"unknown setting ESRGAN_PROT; .*ESRGAN_PORT"):
        read_settings()


@pytest.mark.parametrize(("name", "value"), [("PORT", "70000"), ("PORT", "http"), ("CODEC_THREADS", "0")])
def test_a_wrong_value_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"ESRGAN_{name}", value)
    with pytest.raises(SettingsError, match=f"ESRGAN_{name}='{value}'") as refusal:
        read_settings()
    assert "\n" not in str(refusal.value)


def test_settings_cannot_be_changed_after_the_start() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]  # what the test is about


def test_the_example_file_lists_every_setting_with_its_default() -> None:
    example = SHIPPED_MODELS.parent.parent / ".env.example"
    lines = [line for line in example.read_text().splitlines() if line and not line.startswith("#")]
    listed = dict(line.split("=", 1) for line in lines)
    defaults = {
        f"ESRGAN_{name.upper()}": "" if field.default is None else str(field.default)
        for name, field in Settings.model_fields.items()
    }
    assert listed == defaults | {"ESRGAN_MODELS": "model/weights"}
