from __future__ import annotations

import pytest
from click.testing import CliRunner

from batch.cli.main import cli
from batch.cli.options import file_options
from batch.errors import ExitCode, UsageError
from batch.limits import parse_duration
from batch.options import FileLimits, Options, parse_max_file_size, parse_max_pixels


@pytest.mark.parametrize(
    ("text", "pixels"),
    [("100M", 100_000_000), ("1G", 10**9), ("250K", 250_000), ("1", 1), ("25000000", 25_000_000)],
)
def test_pixels(text: str, pixels: int) -> None:
    assert parse_max_pixels(text) == pixels


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.5M", "100 M", "100m", "1MB", "1MiB", "M", "1T", "1M\n", "9999999G"]
)
def test_other_text_is_not_a_number_of_pixels(text: str) -> None:
    with pytest.raises(UsageError, match=r"--max-pixels .* is not a number of pixels") as raised:
        parse_max_pixels(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512M", 2**29),
        ("512MiB", 2**29),
        ("500MB", 500_000_000),
        ("1K", 1024),
        ("1KB", 1000),
        ("2G", 2**31),
        ("2GiB", 2**31),
        ("2GB", 2 * 10**9),
        ("12345", 12345),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_max_file_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "0G", "-1", "1.5M", "1B", "1iB", "M", "9999999G", "1mb"])
def test_other_text_is_not_a_size(text: str) -> None:
    with pytest.raises(UsageError, match=r"--max-file-size .* is not a size"):
        parse_max_file_size(text)


def test_the_defaults_of_the_command_are_those_of_python() -> None:
    command = file_options(lambda: None)
    defaults = {p.name: p.default for p in vars(command)["__click_params__"]}
    assert (
        FileLimits(
            parse_duration(str(defaults["decode_timeout"]), "--decode-timeout"),
            parse_max_pixels(str(defaults["max_pixels"])),
            parse_max_file_size(str(defaults["max_file_size"])),
        )
        == FileLimits()
    )
    assert Options().file_limits == FileLimits()


@pytest.mark.parametrize(
    "given", [("--decode-timeout", "0s"), ("--max-pixels", "x"), ("--max-file-size", "1T")]
)
def test_the_command_refuses_invalid_limits_before_it_starts(given: tuple[str, str]) -> None:
    ran = CliRunner().invoke(cli, ["nowhere", *given])
    assert ran.exit_code == ExitCode.USAGE
    assert f"{given[0]} {given[1]} is no" in ran.stderr


@pytest.mark.parametrize("limits", [(0, 1, 1), (1, -1, 1), (1, 1, 0), (0.5, 1, 1), (True, 1, 1)])
def test_invalid_file_limits_are_refused(limits: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match="whole numbers of at least 1"):
        FileLimits(*limits)
