"""Words of amounts."""

import pytest

from pocketclip.errors import UserError
from pocketclip.study.fit.limits import BYTES, MILLISECONDS, SECONDS, Limits, read_amount, told_bytes, told_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20min", 1200),
        ("20m", 1200),
        ("20 min", 1200),
        ("2 minutes", 120),
        ("90s", 90),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1.5h", 5400),
        ("0.5 hours", 1800),
        (".5h", 1800),
        ("1d", 86400),
        ("1e3s", 1000),
        ("20MIN", 1200),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert read_amount("--budget", text, SECONDS, "20min") == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "count"),
    [("25MB", 25e6), ("25mb", 25e6), ("25MiB", 25 * 2**20), ("4GB", 4e9), ("4 GiB", 4 * 2**30), ("512kB", 512e3)],
)
def test_sizes(text: str, count: float) -> None:
    assert read_amount("--size", text, BYTES, "25MB") == count


@pytest.mark.parametrize(("text", "milliseconds"), [("10ms", 10), ("0.01s", 10), ("500us", 0.5)])
def test_latencies(text: str, milliseconds: float) -> None:
    assert read_amount("--latency", text, MILLISECONDS, "10ms") == pytest.approx(milliseconds)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("20", "of which unit"),
        ("1h30", "of which unit"),
        ("", "should be an amount"),
        (" ", "should be an amount"),
        ("soon", "should be an amount"),
        ("min", "should be an amount"),
        ("20 parsecs", "unknown unit 'parsecs'"),
        ("20min!", "should be an amount"),
        ("0min", "above 0"),
        ("0s", "above 0"),
        ("-5min", "above 0"),
        ("1h-5m", "above 0"),
        ("1e999s", "above 0"),
        ("nan", "should be an amount"),
    ],
)
def test_what_is_no_time_is_refused_with_an_example(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        read_amount("--budget", text, SECONDS, "20min, 90s or 1h30m")
    assert "--budget" in str(refused.value)
    assert "20min" in str(refused.value)


def test_every_limit_names_its_option() -> None:
    words = {"budget": "5min", "latency": "10ms", "size": "25MB", "memory": "4GB"}
    read = Limits.read(**words)
    assert (read.budget_seconds, read.latency_ms, read.size_bytes, read.memory_bytes) == (300, 10, 25e6, 4e9)
    for option in words:
        with pytest.raises(UserError, match=f"--{option} 7: of which unit"):
            Limits.read(**{**words, option: "7"})


def test_amounts_as_they_are_told() -> None:
    assert [told_time(value) for value in (45, 120, 1200, 5400, 7200)] == ["45 s", "2 min", "20 min", "90 min", "2 h"]
    assert told_time(9000) == "2 h 30 min"
    assert [told_bytes(value) for value in (25e6, 4e9)] == ["25.0 MB", "4.0 GB"]
