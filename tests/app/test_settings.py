from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from app.errors import ConfigError
from app.settings import Settings, settings_from


def test_defaults() -> None:
    settings = settings_from({}, {})
    assert settings == Settings()
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 8000)
    assert settings.max_body == 5 * 1024 * 1024


def test_every_field_has_a_reader_and_a_name() -> None:
    texts = {
        "kafka": "a:1,b:2",
        "redis": "redis://h:1/0",
        "http": "0.0.0.0:80",
        "query": "10.0.0.1:81",
        "data": "/d",
        "config": "c.toml",
        "partitions": "4",
        "geoip": "g.mmdb",
        "public_url": "https://r.example/",
        "snapshots": "s",
        "log_level": "DEBUG",
        "max_body": "2048",
        "secret": "x" * 16,
        "kafka_port": "9092",
        "redis_port": "6379",
        "burst_links": "4",
        "burst_ms": "1000",
        "click_after_ms": "0",
        "open_after_ms": "0",
        "session_timeout_s": "6.5",
    }
    # What is found, and set by nobody.
    assert set(texts) == set(Settings.__struct_fields__) - {"installation"}
    settings = settings_from({f"REPORTS_{name.upper()}": text for name, text in texts.items()}, {})
    assert settings == Settings(
        kafka="a:1,b:2",
        redis="redis://h:1/0",
        http="0.0.0.0:80",
        query="10.0.0.1:81",
        data=Path("/d"),
        config=Path("c.toml"),
        partitions=4,
        geoip="g.mmdb",
        public_url="https://r.example",
        snapshots="s",
        log_level="debug",
        max_body=2048,
        secret=b"x" * 16,
        kafka_port=9092,
        redis_port=6379,
        burst_links=4,
        burst_ms=1000,
        click_after_ms=0,
        open_after_ms=0,
        session_timeout_s=6.5,
    )


def test_the_environment_wins_over_the_file_and_an_empty_value_is_none() -> None:
    file: dict[str, object] = {"partitions": 4, "http": "127.0.0.1:1"}
    assert settings_from({"REPORTS_PARTITIONS": "16", "REPORTS_HTTP": ""}, file) == Settings(
        partitions=16, http="127.0.0.1:1"
    )


def test_other_variables_do_not_matter() -> None:
    assert settings_from({"PATH": "/bin", "REPORT": "x"}, {}) == Settings()


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("REPORTS_PARTITION", "8"),
        ("REPORTS_partitions", "8"),
        ("REPORTS_PARTITIONS", "eight"),
        ("REPORTS_PARTITIONS", "0"),
        ("REPORTS_PARTITIONS", "8.0"),
        ("REPORTS_PARTITIONS", "٨"),
        ("REPORTS_PARTITIONS", "9" * 5000),
        ("REPORTS_KAFKA", "broker"),
        ("REPORTS_KAFKA", "broker:0"),
        ("REPORTS_KAFKA", "a:1,,b:2"),
        ("REPORTS_KAFKA", "kafka://a:1"),
        ("REPORTS_REDIS", "localhost:6379"),
        ("REPORTS_REDIS", "http://localhost"),
        ("REPORTS_REDIS", "redis://h:notaport"),
        ("REPORTS_HTTP", "8000"),
        ("REPORTS_HTTP", "h:65536"),
        ("REPORTS_PUBLIC_URL", "reports.example"),
        ("REPORTS_LOG_LEVEL", "loud"),
        ("REPORTS_MAX_BODY", "12"),
        ("REPORTS_SECRET", "short"),
        ("REPORTS_KAFKA_PORT", "-1"),
        ("REPORTS_SESSION_TIMEOUT_S", "nan"),
        ("REPORTS_SESSION_TIMEOUT_S", "0.5"),
        ("REPORTS_GEOIP", "a\x00b"),
    ],
)
def test_a_wrong_variable_is_refused_in_one_line_that_names_it(variable: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_from({variable: text}, {})
    assert caught.value.setting == variable
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("partition", 8),
        ("PARTITIONS", 8),
        ("partitions", True),
        ("partitions", 8.0),
        ("partitions", [8]),
        ("http", 8000),
        ("data", ""),
        ("session_timeout_s", True),
        ("session_timeout_s", float("nan")),
        ("secret", "x" * 20),
        ("config", "other.toml"),
    ],
)
def test_a_wrong_key_in_the_file_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_from({}, {name: value})
    assert caught.value.setting == f"settings.{name}"


def test_its_repr_shows_no_secret() -> None:
    settings = Settings(secret=b"topsecret", redis="redis://user:hidden@h:1/0", kafka="a:1")
    assert "topsecret" not in repr(settings)
    assert "hidden" not in repr(settings)
    assert "a:1" in repr(settings)


def test_it_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Settings().partitions = 3  # type: ignore[misc]
    assert msgspec.structs.replace(Settings(), partitions=3).partitions == 3
