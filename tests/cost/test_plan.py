"""Prices, published times and arithmetic of a plan."""

import pytest

from pocketclip.cost.plan import (
    Throughput,
    checkpoint_bytes,
    estimated_throughput,
    find_hardware,
    hardware_table,
    hours_and_dollars,
    published_run,
)
from pocketclip.errors import UserError
from pocketclip.hardware import describe_hardware


def test_every_price_has_a_source_and_a_date() -> None:
    table = hardware_table()
    assert {"rtx4090x2", "a100", "h100", "laptop-cpu-2", "this"} <= table.keys()
    for name, machine in table.items():
        assert machine.price_source, name
        assert (machine.price_date != "") == (machine.dollars_per_hour is not None), name
        assert (machine.peak_source != "") == (machine.peak_teraflops is not None), name
    assert table["this"].fits(describe_hardware())
    with pytest.raises(UserError, match=r"Unknown hardware 'a10'. Did you mean 'a100'\?"):
        find_hardware("a10")


def test_the_published_run_costs_what_was_published() -> None:
    run = published_run("s_smke/pretrain", "rtx4090x2")
    assert run is not None
    rate = Throughput.exactly(run.throughput, "published", "x")
    samples = round(run.samples_per_epoch * run.num_epochs)
    (hours, low, high), dollars = hours_and_dollars(samples, rate, find_hardware("rtx4090x2").dollars_per_hour)
    assert hours == low == high == pytest.approx(11.2)
    assert dollars == pytest.approx(15.5, rel=0.01)
    assert samples // 256 == 89_273
    assert published_run("s_smke/pretrain", "a100") is None
    assert published_run("something") is None


def test_an_estimate_has_a_range_that_holds_a_published_speed() -> None:
    """The B/32 of open_clip on an A100: 7.39 GMACs forward, 773 samples a second."""
    rate = estimated_throughput(2 * 3 * 7.39e9, 312)
    assert rate.low < 773 < rate.high
    assert rate.low < rate.value < rate.high
    assert "15% of 312 TFLOPS (8% to 35%" in rate.source
    (hours, shortest, longest), dollars = hours_and_dollars(3_600_000, rate, None)
    assert shortest < hours < longest
    assert dollars is None


def test_a_checkpoint_holds_weights_moments_and_the_average() -> None:
    assert checkpoint_bytes(10, 4, with_average=False) == 4 * (10 + 8)
    assert checkpoint_bytes(10, 4, with_average=True) == 4 * (20 + 8)
