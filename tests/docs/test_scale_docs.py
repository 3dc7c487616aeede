"""docs/scale.md: its table of costs is what comes out of the measured rates."""

from __future__ import annotations

import re
from dataclasses import astuple

import pytest

from bench.cost import (
    PERFORMANCE,
    PricedKind,
    Prices,
    cost_table,
    estimate_cost,
    read_measured_kinds,
)
from tests.conftest import REPOSITORY

SCALE = (REPOSITORY / "docs" / "scale.md").read_text(encoding="utf-8")
KINDS = read_measured_kinds(PERFORMANCE.read_text(encoding="utf-8"))


def test_the_table_is_what_comes_out() -> None:
    assert [kind.name for kind in KINDS] == ["as they are", "2 MP", "12 MP"]
    assert f"\n{cost_table(KINDS, Prices())}\n" in SCALE


def test_the_prices_are_those_that_were_assumed() -> None:
    prices = Prices()
    assert f"| Assumed on {prices.date} |" in SCALE
    given = re.findall(r"^\| .* \| \$([\d.]+) \|$", SCALE, re.MULTILINE)
    assert [float(price) for price in given] == list(astuple(prices)[1:])


def test_costs_add_up() -> None:
    prices = Prices(core_hour=0.1, thousand_reads=0.001, thousand_writes=0.01, gigabyte_out=0.05)
    cost = estimate_cost(
        PricedKind("made up", rate=10, size=1_000_000), prices, photos=3_600_000, cores=100
    )
    assert cost.core_hours == 100
    assert cost.compute == pytest.approx(10)
    assert cost.terabytes == pytest.approx(3.6)
    assert cost.gigabits == pytest.approx(8)
    assert cost.out == pytest.approx(180)
    # 3,600,000 reads, 3,600 listings and 3,516 parts.
    assert cost.requests == pytest.approx(3.6 + 0.036 + 0.035, abs=0.001)


def test_the_speed_of_one_large_machine_is_that_of_its_cores() -> None:
    small, large = KINDS[0].rate * 64, KINDS[-1].rate * 64
    assert f"labels {round(small, -2):,.0f} small photos a second" in " ".join(SCALE.split())
    assert f"or {round(large, -1):,.0f} of 12 megapixels" in " ".join(SCALE.split())
