"""Counters in Prometheus' format for `GET /metrics`; with several workers, of all of them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.types import Scope

from refseg.apps.annotate.database.tables import Draft, GameSample, Picture
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.disk import free_bytes
from refseg.apps.annotate.services.overview import sample_states
from refseg.apps.serve.metrics import SECONDS, exposition


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "refseg_game_requests", "Requests by route, method and HTTP status", ["route", "method", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "refseg_game_request_seconds", "From a request's head to its response's last byte", ["route"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """One more request; addresses that no route has are counted together."""
        route = getattr(scope.get("route"), "path", None) or "other"
        self.requests.labels(route, scope["method"] if route != "other" else "", status).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self, game: Game, session: Session) -> bytes:
        """The counters, and how the game stands now."""
        return exposition(self.registry) + generate_latest(_standing(game, session))


def _standing(game: Game, session: Session) -> CollectorRegistry:
    registry = CollectorRegistry()
    samples = Gauge("refseg_game_samples", "Samples by state", ["state"], registry=registry)
    for state, number in sample_states(session).items():
        samples.labels(state).set(number)
    now = game.clock()
    for name, text, table, conditions in (
        ("pictures", "Pictures", Picture, ()),
        ("pictures_held", "Pictures that somebody writes about", Picture, (Picture.lease_until >= now,)),
        ("samples_held", "Samples that somebody validates", GameSample, (GameSample.lease_until >= now,)),
        ("drafts", "Drafts", Draft, ()),
    ):
        number = session.scalar(select(func.count()).select_from(table).where(*conditions)) or 0
        Gauge(f"refseg_game_{name}", text, registry=registry).set(number)
    Gauge("refseg_game_disk_free_bytes", "Room in the data folder", registry=registry).set(
        free_bytes(game.settings.data)
    )
    return registry
