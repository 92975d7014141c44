"""Counters in Prometheus' format; with several workers, of all of them (`PROMETHEUS_MULTIPROC_DIR`)."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder in which workers share their counters; it is set before prometheus is imported."""
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


def exposition(registry: CollectorRegistry) -> bytes:
    """The counters of `registry`, or of all workers where they share a folder."""
    if os.environ.get(FOLDER):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return generate_latest(registry)


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "refseg_requests", "Requests by route and HTTP status", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "refseg_request_seconds", "From a request's first byte to its response's last", ["route"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.refused = Counter("refseg_refused", "Requests refused with 429, by reason", ["reason"], registry=registry)
        self.cancelled = Counter("refseg_cancelled", "Requests whose client left before their turn", registry=registry)
        self.batch = Histogram(
            "refseg_batch_expressions", "Expressions computed at once", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        self.batch_seconds = Histogram(
            "refseg_batch_seconds", "Time of one batch", ["kind"], buckets=SECONDS, registry=registry
        )
        self.waiting = self._gauge("refseg_queue_expressions", "Expressions that wait for their turn")
        self.kept = self._gauge("refseg_pictures_kept", "Pictures that are kept encoded")
        self.kept_bytes = self._gauge("refseg_pictures_bytes", "Memory of the pictures that are kept")
        self.request_bytes = self._gauge("refseg_request_bytes", "Memory of bodies and pictures of requests in work")

    def text(self) -> bytes:
        """All counters, as `/metrics` sends them."""
        return exposition(self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, multiprocess_mode="livesum", registry=self.registry)
