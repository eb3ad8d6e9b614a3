"""Counts from several processes add up, whoever is asked."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from radiolith import metrics


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    metrics.share(1)
    yield
    metrics.share(1)


def samples() -> dict[tuple[str, str], float]:
    text = metrics.text({"radiolith_free_bytes": ("Free.", 12.0)}).decode()
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # the children only count and leave
def test_two_forked_processes_are_summed() -> None:
    metrics.share(3)
    children: list[int] = []
    for row in (1, 2):
        child = os.fork()
        if child == 0:
            metrics.use_row(row)
            for _ in range(100 * row):
                metrics.objects_received.add("stored")
            metrics.commit_objects.observe(3)
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    metrics.objects_received.add("stored", 5)
    assert metrics.objects_received.total("stored") == 305
    assert metrics.commit_objects.count() == 2
    assert samples()["radiolith_objects_received_total", "stored"] == 305


def test_histogram_buckets_are_cumulative_and_inclusive() -> None:
    for amount in (0.5, 1.0, 1.5, 600.0):
        metrics.commit_objects.observe(amount)
    found = samples()
    assert found["radiolith_commit_objects_bucket", "1.0"] == 2
    assert found["radiolith_commit_objects_bucket", "2.0"] == 3
    assert found["radiolith_commit_objects_bucket", "512.0"] == 3
    assert found["radiolith_commit_objects_bucket", "+Inf"] == 4
    assert found["radiolith_commit_objects_sum", ""] == 603.0


def test_a_row_is_never_outside_the_mapping() -> None:
    metrics.share(2)
    with pytest.raises(IndexError):
        metrics.use_row(2)


def test_an_undeclared_label_is_an_error() -> None:
    with pytest.raises(KeyError):
        metrics.http_requests.add("600")


def test_the_text_has_gauges_and_every_metric() -> None:
    found = samples()
    assert found["radiolith_free_bytes", ""] == 12.0
    assert ("radiolith_damaged_reads_total", "") in found


def test_a_gauge_goes_down_and_a_successor_begins_at_zero() -> None:
    metrics.share(2)
    metrics.dimse_open.add(3, "incoming")
    metrics.dimse_open.add(-1, "incoming")
    metrics.use_row(1)
    metrics.dimse_open.add(5, "incoming")
    assert samples()["radiolith_dimse_open_associations", "incoming"] == 7
    metrics.use_row(0)
    assert metrics.dimse_open.total("incoming") == 5
    assert metrics.dimse_open.total("outgoing") == 0


def test_several_labels_are_several_labels() -> None:
    metrics.dimse_operations.add("outgoing,C-STORE,failure")
    metrics.dimse_seconds.observe(0.5, "incoming,C-FIND")
    text = metrics.text().decode()
    assert 'radiolith_dimse_operations_total{direction="outgoing",service="C-STORE",status="failure"} 1.0' in text
    assert 'radiolith_dimse_seconds_count{direction="incoming",service="C-FIND"} 1.0' in text
