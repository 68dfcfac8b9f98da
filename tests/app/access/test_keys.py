"""The key file, its reload, and the usage of keys: without HTTP, and with a manual clock."""

import logging
from pathlib import Path

import pytest

from app.access.keyring import Keyring
from app.access.keys import NO_LIMITS, Key, KeyLimits, KeysError, Role, find_key, new_key, parse_keys
from app.access.usage import Usage
from app.errors import KeyLimit
from app.settings import SettingsError
from tests.clock import ManualClock

HASH = "sha256:" + "0" * 64


def test_a_new_key_is_found_by_its_token_alone() -> None:
    (token, line), (other, _) = new_key("shop", ["role=operator", "concurrent=4"]), new_key("shop")
    keys = parse_keys(f"# who: the shop\n\n{line}\n")
    assert token not in line
    found = find_key(keys, token)
    assert found is not None
    assert (found.name, found.role, found.limits) == ("shop", Role.OPERATOR, KeyLimits(concurrent=4))
    assert find_key(keys, other) is None
    assert find_key(keys, "") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has no keys"),
        ("# nothing\n", "it has no keys"),
        ("shop", "line 1: after the name shop, write `sha256:`"),
        ("shop sha256:123", "line 1: after the name shop, write `sha256:`"),
        (f"sh/op {HASH}", "line 1: 'sh/op' is not a valid name"),
        (f"\nshop {HASH} rule=operator", "line 2: 'rule=operator' is not an option"),
        (f"shop {HASH} role=king", "'role=king' is not an option; the options are role=caller|monitor|operator"),
        (f"shop {HASH} concurrent=0", "'concurrent=0': the value must be a whole number from 1"),
        (f"shop {HASH} px_per_minute=-1", "'px_per_minute=-1': the value must be a whole number"),
        (f"shop {HASH} px_per_minute=60M", "'px_per_minute=60M': the value must be a whole number"),
        (f"a {HASH}\nb {HASH}", "line 2: the hash of b appears twice"),
        (f"a {HASH}\na sha256:{'1' * 64} concurrent=2", "line 2: another line named a has other options"),
    ],
)
def test_an_invalid_key_file_is_reported_with_the_line(text: str, said: str) -> None:
    with pytest.raises(KeysError) as refusal:
        parse_keys(text)
    assert said in str(refusal.value)


def test_a_new_key_is_not_named_like_an_option() -> None:
    with pytest.raises(KeysError, match="'--help' looks like an option"):
        new_key("--help")


def test_a_name_may_have_two_tokens_while_one_replaces_the_other() -> None:
    (old, first), (new, second) = new_key("shop"), new_key("shop")
    keys = parse_keys(f"{first}\n{second}")
    assert [key.name for token in (old, new) if (key := find_key(keys, token))] == ["shop", "shop"]


def test_a_changed_file_is_reloaded_and_a_broken_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, path = ManualClock(), tmp_path / "keys"
    (old, old_line), (new, new_line) = new_key("old"), new_key("new")
    path.write_text(old_line)
    keyring = Keyring(path, clock)
    assert keyring.find(old)

    for broken in (b"rubbish", b"\xff\xfe", b"", None):
        caplog.clear()
        path.unlink() if broken is None else path.write_bytes(broken)
        for _ in range(3):
            clock.now_s += 2
            assert keyring.find(old)
            assert not keyring.find(new)
        assert [record.levelno for record in caplog.records] == [logging.ERROR]

    replacement = tmp_path / "keys.new"
    replacement.write_text(new_line)
    replacement.replace(path)
    clock.now_s += 2
    assert keyring.find(new)
    assert not keyring.find(old)


def test_a_changed_limit_on_the_bytes_of_jobs_holds_without_requests(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "keys"
    path.write_text(new_key("shop", ["job_bytes=100"])[1])
    keyring = Keyring(path, clock)
    path.write_text(new_key("shop", ["job_bytes=1000"])[1])
    clock.now_s += 2
    assert (keyring.limits("shop").job_bytes, keyring.limits("other")) == (1000, NO_LIMITS)


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ESRGAN_KEYS=.*nowhere: it cannot be read"):
        Keyring(tmp_path / "nowhere")


def limited(limits: KeyLimits) -> tuple[Usage, ManualClock]:
    clock = ManualClock()
    return Usage(Key(name="shop", digest=b"", limits=limits), clock), clock


def test_a_key_has_a_limit_on_concurrent_requests() -> None:
    usage, _ = limited(KeyLimits(concurrent=2))
    usage.begin()
    usage.begin()
    with pytest.raises(KeyLimit, match="2 requests of the key shop are running, and its limit is concurrent=2"):
        usage.begin()
    usage.end(px=1)
    usage.begin()


def test_a_key_has_a_limit_on_requests_per_minute_with_retry_after() -> None:
    usage, clock = limited(KeyLimits(requests_per_minute=6))
    for _ in range(6):
        usage.begin()
    with pytest.raises(KeyLimit, match=r"shop has used up its limit requests_per_minute=6; try again in 10 s") as late:
        usage.begin()
    assert late.value.retry_after_s == 10
    clock.now_s += 10
    usage.begin()
    with pytest.raises(KeyLimit):
        usage.begin()
    clock.now_s += 3600
    for _ in range(6):
        usage.begin()
    with pytest.raises(KeyLimit):
        usage.begin()


def test_a_picture_that_costs_more_than_a_minute_delays_the_next_request() -> None:
    usage, clock = limited(KeyLimits(px_per_minute=1000))
    usage.begin()
    usage.end(px=3000)
    with pytest.raises(KeyLimit, match="px_per_minute=1000") as late:
        usage.begin()
    assert late.value.retry_after_s == 121
    clock.now_s += late.value.retry_after_s
    usage.begin()


def test_a_file_may_begin_with_a_mark_at_the_start_and_after_a_change(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "keys"
    (old, old_line), (new, new_line) = new_key("old"), new_key("new")
    path.write_text(old_line, encoding="utf-8-sig")
    keyring = Keyring(path, clock)
    assert keyring.find(old)
    path.write_text(f"{old_line}\n{new_line}", encoding="utf-8-sig")
    clock.now_s += 2
    assert keyring.find(old)
    assert keyring.find(new)


def test_usage_survives_a_reload_and_is_reset_by_new_limits(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "keys"
    token, line = new_key("shop")
    path.write_text(f"{line} concurrent=1")
    keyring = Keyring(path, clock)
    key = keyring.find(token)
    assert key is not None
    usage = keyring.usage(key)
    for text, same in ((f"# moved\n{line} concurrent=1", True), (f"{line} concurrent=22", False)):
        path.write_text(text)
        clock.now_s += 2
        key = keyring.find(token)
        assert key is not None
        assert (keyring.usage(key) is usage) is same
