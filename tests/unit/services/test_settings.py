"""The configuration: where values come from, what is refused, and that the message names the variable."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.settings import EngineSettings, QueueSettings, Settings, load_settings

TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine, and the token that every process needs."""
    monkeypatch.delenv("ALIGNX_SECRETS_DIR", raising=False)
    for name in Settings.model_fields:
        for variable in (f"ALIGNX_{name.upper()}", *_nested(name)):
            monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("ALIGNX_INTERNAL_TOKEN", TOKEN)


def _nested(block: str) -> list[str]:
    fields: dict[str, Any] = getattr(Settings.model_fields[block].annotation, "model_fields", {})
    return [f"ALIGNX_{block.upper()}__{field.upper()}" for field in fields]


def test_a_variable_reaches_its_field_and_the_rest_keep_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNX_REDIS__URL", "redis://elsewhere:1/2")
    monkeypatch.setenv("ALIGNX_QUEUE__SHARDS", "16")
    monkeypatch.setenv("ALIGNX_GATEWAY__CORS_ORIGINS", '["https://a.example"]')
    monkeypatch.setenv("ALIGNX_LOG__LEVEL", "DEBUG")
    monkeypatch.setenv("ALIGNX_HOME_OF_SOMETHING_ELSE", "ignored")
    settings = load_settings()
    assert settings.internal_token.get_secret_value() == TOKEN
    assert (settings.redis.url, settings.queue.shards) == ("redis://elsewhere:1/2", 16)
    assert (settings.gateway.cors_origins, settings.log.level) == (("https://a.example",), "DEBUG")
    assert settings.queue.lease_ms == QueueSettings().lease_ms
    assert settings.engine == EngineSettings()


def test_secrets_come_from_files_named_like_the_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALIGNX_INTERNAL_TOKEN")
    monkeypatch.setenv("ALIGNX_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("ALIGNX_ENGINE__MODEL", "tiny")
    (tmp_path / "ALIGNX_INTERNAL_TOKEN").write_text("from-a-file-and-long")
    (tmp_path / "alignx_engine__api_key").write_text("engine-key\n")
    (tmp_path / "ALIGNX_GATEWAY__BOOTSTRAP_KEY").write_text("ax_admin_secret")
    settings = load_settings()
    assert settings.internal_token.get_secret_value() == "from-a-file-and-long"
    assert settings.engine.api_key is not None
    assert settings.engine.api_key.get_secret_value() == "engine-key"
    assert settings.engine.model == "tiny"  # beside the file of the same block
    assert settings.gateway.bootstrap_key is not None
    monkeypatch.setenv("ALIGNX_INTERNAL_TOKEN", TOKEN)
    assert load_settings().internal_token.get_secret_value() == TOKEN  # a variable goes first


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNX_ENGINE__API_KEY", "a-canary")
    shown = repr(load_settings()) + load_settings().model_dump_json()
    assert TOKEN not in shown
    assert "canary" not in shown


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ALIGNX_INTERNAL_TOKEN", "short", "at least 16"),
        ("ALIGNX_QUEUE__SHARDS", "0", "greater than or equal to 1"),
        ("ALIGNX_QUEUE__SHARDS", "many", "valid integer"),
        ("ALIGNX_SERVER__PORT", "65536", "less than or equal to 65535"),
        ("ALIGNX_LOG__LEVEL", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("ALIGNX_REDIS__ULR", "redis://x", "Extra inputs"),
        ("ALIGNX_ENGINE__EMBEDDINGS_URL", "http://embeddings:8080/v1", "Extra inputs"),
        ("ALIGNX_RESPONSE__FUSE_ENGINE", "0.5", "Extra inputs"),
        ("ALIGNX_RESPONSE__USER_HEADERS", '["X-User", "X-AlignX-Tenant"]', "'X-AlignX-Tenant' is no name of a header"),
        ("ALIGNX_RESPONSE__USER_HEADERS", '["Authorization"]', "'Authorization' is no name of a header"),
        ("ALIGNX_RESPONSE__USER_HEADERS", '["X-Api-Key"]', "'X-Api-Key' is no name of a header"),
        (
            "ALIGNX_SUMMARY__PROMPTS",
            "official",
            "alignxplore-plus, or name a file; there is no file 'official'",
        ),
        ("ALIGNX_RESPONSE__SELECTION_PROMPTS", "/", "or name a file"),
    ],
)
def test_a_value_that_is_not_valid_ends_the_process_and_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as caught:
        load_settings()
    head, line = str(caught.value).splitlines()
    assert head == "The configuration is not valid:"
    assert line.startswith(f"  {variable}: ")
    assert said in line


def test_the_token_has_no_default_and_every_problem_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALIGNX_INTERNAL_TOKEN")
    monkeypatch.setenv("ALIGNX_ENGINE__URL", "ftp://engine")
    monkeypatch.setenv("ALIGNX_QUEUE__HEARTBEAT_MS", "9000")
    with pytest.raises(SystemExit) as caught:
        load_settings()
    lines = str(caught.value).splitlines()[1:]
    assert sorted(line.split(":")[0].strip() for line in lines) == [
        "ALIGNX_ENGINE",
        "ALIGNX_INTERNAL_TOKEN",
        "ALIGNX_QUEUE",
    ]


@pytest.mark.parametrize("url", ["http://127.0.0.1:8100/v1", "https://engine.example/v1", "profile"])
def test_an_engine_is_a_url_or_the_profile(url: str) -> None:
    assert EngineSettings(url=url).enabled == (url != "profile")


@pytest.mark.parametrize("url", ["engine:8100", "Profile", ""])
def test_another_engine_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="url must be 'profile' or start with http:// or https://, not"):
        EngineSettings(url=url)


def test_a_lease_outlives_two_heartbeats() -> None:
    assert QueueSettings(lease_ms=1_000, heartbeat_ms=500).heartbeat_ms == 500
    with pytest.raises(ValidationError, match=r"heartbeat_ms \(501\) must be at most half of lease_ms \(1000\)"):
        QueueSettings(lease_ms=1_000, heartbeat_ms=501)


def test_traces_need_an_address_and_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNX_TRACING__ENDPOINT", "http://127.0.0.1:4318")
    assert load_settings().tracing.endpoint == "http://127.0.0.1:4318"
    for absent in (lambda _: None, _raising):  # the package without its part, and no package at all
        monkeypatch.setattr("services.settings.find_spec", absent)
        with pytest.raises(SystemExit, match=r"ALIGNX_TRACING__ENDPOINT: .*pip install 'alignx\[tracing\]'"):
            load_settings()
    monkeypatch.setenv("ALIGNX_TRACING__ENDPOINT", "collector:4318")
    with pytest.raises(SystemExit, match=r"ALIGNX_TRACING__ENDPOINT: .*must start with http:// or https://"):
        load_settings()


def _raising(name: str) -> None:
    raise ModuleNotFoundError(name)
