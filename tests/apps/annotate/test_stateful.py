"""The game against a model of it in memory: any order of moves by any people leads both to the same place."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select

from refseg.apps.annotate.database.tables import Audit, Award, Day, GameSample, Object, Picture, Verdict
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.services import leases, tasks
from refseg.apps.annotate.services.judging import Judgement, judge
from refseg.apps.annotate.services.moves import administer
from refseg.apps.annotate.services.submitting import Submission, submit
from refseg.apps.annotate.states import LIVE, OPEN, POINTS
from tests.support.small_games import add_people, make_game

PLAYERS = ("anna", "viktor", "vera", "otto")
LEASE = 900


@dataclass
class ModelSample:
    """What the model knows of a sample."""

    author: str
    picture: int
    targets: frozenset[int]
    state: str = "waiting"
    judges: set[str] = field(default_factory=set)
    holder: str | None = None
    until: float = 0.0
    awarded: bool = False


class PlayedGame(RuleBasedStateMachine):
    """Each rule is one request; the model says what must come of it."""

    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.game = make_game(self.folder / "game", lease_seconds=LEASE)
        self.people = add_people(self.game, *PLAYERS)
        self.samples: dict[int, ModelSample] = {}
        self.pictures: dict[str, tuple[int, str]] = {}
        self.picture_until: dict[int, float] = {}
        self.holding: dict[str, tuple[int, str]] = {}
        self.points = dict.fromkeys(PLAYERS, 0)
        self.sent: dict[tuple[str, str], tuple[Any, int]] = {}
        self.number = 0
        self.moves = 0

    def teardown(self) -> None:
        self.game.database.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def now(self) -> float:
        return self.game.clock()

    def write(self, work: Any) -> Any:
        return self.game.database.write(work)

    def objects_of(self, picture: int) -> list[int]:
        with self.game.database.read() as session:
            return list(session.scalars(select(Object.id).where(Object.picture_id == picture).order_by(Object.id)))

    @initialize()
    def some_work(self) -> None:
        for name in PLAYERS[:2]:
            self.take_picture(name)
            self.submit(name, 1, False)

    @rule(name=st.sampled_from(PLAYERS))
    def take_picture(self, name: str) -> None:
        lease = self.write(lambda session: leases.take_picture(session, self.game, self.people[name]))
        others = {
            picture
            for who, (picture, _) in self.pictures.items()
            if who != name and self.picture_until[picture] >= self.now
        }
        if lease is None:
            assert name not in self.pictures
            assert len(others) == 4
            return
        assert lease.item_id not in others, "two people hold one picture"
        if name in self.pictures:
            assert lease.item_id == self.pictures[name][0], "a held picture comes again"
        for who in [who for who, (picture, _) in self.pictures.items() if picture == lease.item_id and who != name]:
            del self.pictures[who]
        self.pictures[name] = (lease.item_id, lease.id)
        self.picture_until[lease.item_id] = lease.until

    @rule(name=st.sampled_from(PLAYERS), mask=st.integers(0, 15), keep=st.booleans())
    def submit(self, name: str, mask: int, keep: bool) -> None:
        if name not in self.pictures:
            return
        picture, lease = self.pictures[name]
        objects = self.objects_of(picture)
        targets = tuple(number for place, number in enumerate(objects) if mask >> place & 1)
        self.number += 1
        words = f"thing called {'abcdefghijklmnopqrstuvwxyz'[self.number % 26] * (1 + self.number // 26)}"
        given = Submission(lease, f"key-{self.number:06d}", words, targets, not targets, None, keep)
        sample, held, replayed = self.write(lambda session: submit(session, self.game, self.people[name], given))
        assert not replayed
        self.samples[sample.id] = ModelSample(name, picture, frozenset(targets))
        self.sent[name, given.client_key] = (given, sample.id)
        self.moves += 1
        if keep:
            assert held is not None
            self.picture_until[picture] = self.now + LEASE
        else:
            del self.pictures[name]

    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        if not self.sent:
            return
        (name, _), (given, number) = data.draw(st.sampled_from(sorted(self.sent.items(), key=lambda item: item[0])))
        if isinstance(given, Submission):
            sample, _, replayed = self.write(lambda session: submit(session, self.game, self.people[name], given))
            assert (sample.id, replayed) == (number, True)
        else:
            verdict, replayed = self.write(lambda session: judge(session, self.game, self.people[name], number, given))
            assert (verdict.sample_id, replayed) == (number, True)

    @rule(name=st.sampled_from(PLAYERS))
    def take_sample(self, name: str) -> None:
        lease = self.write(lambda session: leases.take_sample(session, self.game, self.people[name]))
        mine = self.holding.get(name)
        free = {
            number
            for number, sample in self.samples.items()
            if sample.state in OPEN
            and sample.author != name
            and name not in sample.judges
            and (sample.holder in (None, name) or sample.until < self.now)
        }
        if lease is None:
            assert not free, "somebody waits for work that is there"
            return
        number = lease.item_id
        assert number in free
        if mine is not None and mine[0] in free and self.samples[mine[0]].holder == name:
            assert number == mine[0]
        sample = self.samples[number]
        if sample.holder not in (None, name):
            self.holding.pop(sample.holder, None)
        self.holding[name] = (number, lease.id)
        sample.holder, sample.until = name, lease.until
        with self.game.database.read() as session:
            shown = tasks.task_of(session, self.people[name], lease)
        assert set(shown["sample"]) == {"id", "text"}

    @rule(name=st.sampled_from(PLAYERS), answer=st.sampled_from(["same", "other", "none", "reject"]))
    def answer(self, name: str, answer: str) -> None:
        if name not in self.holding:
            return
        number, lease = self.holding.pop(name)
        sample = self.samples[number]
        objects = self.objects_of(sample.picture)
        other = frozenset(objects) - sample.targets or frozenset(objects[:1])
        targets = {"same": sample.targets, "other": other, "none": frozenset(), "reject": frozenset()}[answer]
        self.number += 1
        reject = answer == "reject"
        given = Judgement(
            lease, f"key-{self.number:06d}", reject, tuple(sorted(targets)), not targets and not reject,
            "ambiguous" if reject else None,
        )  # fmt: skip
        verdict, _ = self.write(lambda session: judge(session, self.game, self.people[name], number, given))
        self.sent[name, given.client_key] = (given, number)
        self.moves += 1
        sample.judges.add(name)
        sample.holder = None
        if reject:
            wanted, sample.state = "rejected", "rejected"
        elif targets == sample.targets:
            wanted, sample.state = "matched", "accepted"
            self.points[sample.author] += POINTS["accepted"]
            sample.awarded = True
        else:
            wanted = "differed"
            sample.state = "second" if sample.state == "waiting" else "discarded"
        self.points[name] += POINTS[wanted]
        assert verdict.result == wanted

    @rule(data=st.data(), move=st.sampled_from(["reopen", "discard"]))
    def administer(self, data: st.DataObject, move: str) -> None:
        if not self.samples:
            return
        number = data.draw(st.sampled_from(sorted(self.samples)))
        sample = self.samples[number]
        possible = sample.state not in OPEN if move == "reopen" else sample.state != "discarded"
        work = lambda session: administer(session, self.game, number, move, 1, "because")  # noqa: E731
        if not possible:
            with pytest.raises(GameError, match="cannot be moved"):
                self.write(work)
            return
        self.write(work)
        self.moves += 1
        sample.state = "waiting" if move == "reopen" else "discarded"
        if sample.awarded:
            self.points[sample.author] -= POINTS["accepted"]
            sample.awarded = False
        if sample.holder is not None:
            self.holding.pop(sample.holder, None)
            sample.holder = None

    @rule(name=st.sampled_from(PLAYERS), skip=st.booleans())
    def give_back_picture(self, name: str, skip: bool) -> None:
        if name not in self.pictures:
            return
        _, lease = self.pictures.pop(name)
        self.write(lambda session: leases.release(session, self.game, self.people[name], lease, False))

    @rule(name=st.sampled_from(PLAYERS))
    def renew(self, name: str) -> None:
        if name not in self.holding:
            return
        number, lease = self.holding[name]
        found = self.write(lambda session: leases.renew(session, self.game, self.people[name], lease))
        assert found.item_id == number
        self.samples[number].until = found.until

    @rule(seconds=st.sampled_from([10, LEASE + 1]))
    def wait(self, seconds: int) -> None:
        self.game.clock.now += seconds  # type: ignore[attr-defined]

    @rule(target=keys, name=st.sampled_from(PLAYERS))
    def judge_without_lease(self, name: str) -> Any:
        given = Judgement("made-up", "key-made-up", False, (), True)
        for number in list(self.samples)[:1]:
            with pytest.raises(GameError, match="taken by somebody else"):
                self.write(lambda session, number=number: judge(session, self.game, self.people[name], number, given))
        return multiple()

    @invariant()
    def the_database_says_the_same(self) -> None:
        with self.game.database.read() as session:
            states = {row[0]: row[1] for row in session.execute(select(GameSample.id, GameSample.state))}
            assert states == {number: sample.state for number, sample in self.samples.items()}
            points = {
                row[0]: row[1]
                for row in session.execute(select(Day.person_id, func.sum(Day.points)).group_by(Day.person_id))
            }
            assert {name: int(points.get(number, 0)) for name, number in self.people.items()} == self.points
            given = {
                row[0]: row[1]
                for row in session.execute(select(Award.person_id, func.sum(Award.points)).group_by(Award.person_id))
            }
            assert {key: int(value) for key, value in given.items() if value} == {
                key: int(value) for key, value in points.items() if value
            }
            audited = session.scalar(select(func.count()).where(Audit.entity == "sample"))
            assert audited == self.moves, "each change of state has one row"
            own = (
                select(func.count())
                .select_from(Verdict)
                .join(GameSample)
                .where(Verdict.validator_id == GameSample.author_id)
            )
            assert session.scalar(own) == 0
            for picture, live in session.execute(select(Picture.id, Picture.samples)):
                assert live == sum(s.picture == picture and s.state in LIVE for s in self.samples.values())


def test_the_game_is_its_model() -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        PlayedGame,
        settings=settings(max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=checks),
    )


@pytest.mark.slow
def test_the_game_is_its_model_for_longer() -> None:
    checks = list(HealthCheck)
    run_state_machine_as_test(
        PlayedGame,
        settings=settings(max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=checks),
    )
