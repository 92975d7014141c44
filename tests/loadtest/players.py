"""Scripted players: they play the game over HTTP as its pages do, for the tests and for `python -m tests.loadtest`.

Each is a thread's: one connection, one source of chance, and a `watch` function that is told of every request and its
answer. What they write carries its meaning as a number ("the dog marked 48213"), so that a second player can find what
the first one meant without being told.
"""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from refseg.apps.annotate.states import REASONS
from refseg.errors import RefsegError

_SIZES = (0, 0, 1, 1, 1, 1, 1, 2, 2, 3)
"""How many objects a sentence means, by the last digit of its number."""


@dataclass(frozen=True)
class Exchange:
    """One request and its answer.

    `route` names the request in tables ("PUT draft"); `started` and `ended` are seconds since 1970, `seconds` what the
    player waited to the last byte; `status` is 0 where no answer came; `body` is parsed JSON, None for anything else.
    """

    who: str
    route: str
    method: str
    path: str
    sent: Any
    started: float
    ended: float
    seconds: float
    status: int
    body: Any
    text: str

    @property
    def good(self) -> bool:
        """Whether the answer is a yes."""
        return 200 <= self.status < 400


class Client:
    """A player's connection.

    Args:
        url: the game's address.
        who: the player's name.
        watch: told of each exchange, in this thread.
        token: a script's token; without one, `log_in` gives a cookie.
        patience: seconds for which a request is sent again, the same each time, when no answer came or the server is
            busy; 0 sends each once.
        stopped: true when waiting is over.
    """

    def __init__(
        self, url: str, who: str, watch: Callable[[Exchange], None], *, token: str = "", patience: float = 0.0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        secure = url.startswith("https:")  # reading certificates takes a while
        self.http = httpx2.Client(base_url=url, timeout=60, headers=headers, verify=secure, trust_env=secure)
        self.who, self.watch, self.patience, self.stopped = who, watch, patience, stopped

    def close(self) -> None:
        """Close the connection."""
        self.http.close()

    def call(self, route: str, method: str, path: str, sent: Any = None, form: Any = None) -> Exchange:
        """One request, repeated as `patience` says; the last exchange. `sent` goes as JSON."""
        end = time.monotonic() + self.patience
        while True:
            found = self._once(route, method, path, sent, form)
            self.watch(found)
            if found.status not in (0, 503) or time.monotonic() >= end or self.stopped():
                return found
            time.sleep(0.02)

    def log_in(self, password: str) -> None:
        """Log in by the form; raises `RefsegError` when that fails."""
        form = {"name": self.who, "password": password, "csrf_token": self._token("GET /login", "/login")}
        found = self.call("POST /login", "POST", "/login", form=form)
        if found.status != 303:
            raise RefsegError(f"{self.who} could not log in: {found.status} {found.text[:200]}")
        self.http.headers["X-CSRF-Token"] = self._token("GET /", "/")

    def _token(self, route: str, path: str) -> str:
        found = self.call(route, "GET", path)
        match = re.search(r'name="csrf-token" content="(\w+)"', found.text)
        if match is None:
            raise RefsegError(f"{path} holds no token: {found.status} {found.text[:200]}")
        return match.group(1)

    def _once(self, route: str, method: str, path: str, sent: Any, form: Any) -> Exchange:
        started, clock = time.time(), time.perf_counter()
        status, body, text = 0, None, ""
        try:
            answer = self.http.request(method, path, json=sent, data=form)
            kind = answer.headers.get("content-type", "")
            status = answer.status_code
            text = "" if kind.startswith("image/") else answer.text
            body = answer.json() if kind.startswith("application/json") else None
        except httpx2.TransportError as error:
            status, text = 0, repr(error)
        seconds = time.perf_counter() - clock
        return Exchange(self.who, route, method, path, sent, started, time.time(), seconds, status, body, text)


class Player:
    """What one person does, one step after the other.

    Args:
        client: the connection, logged in.
        rng: chance of this player's own.
        pause: called where a person thinks, types or looks.
        pages: also load the pages and pictures, as a browser does.
    """

    def __init__(
        self, client: Client, rng: random.Random, pause: Callable[[], None] = lambda: None, pages: bool = False
    ) -> None:
        self.client, self.rng, self.pause, self.pages = client, rng, pause, pages
        self.last: tuple[str, str, Any] | None = None

    def take(self, kind: str) -> Any:
        """The task of a kind that comes next, None where there is none."""
        if self.pages:
            self.client.call(f"GET /{kind}", "GET", f"/{kind}")
        found = self.client.call(f"POST {kind}/next", "POST", f"/api/v1/{kind}/next", {})
        task = found.body["task"] if found.good else None
        if task is not None and self.pages:
            self.client.call("GET image", "GET", task["picture"]["url"])
        return task

    def write(self, keep: bool = False) -> Exchange | None:
        """Write a sentence about the picture that comes, saving drafts; now and then one lent from another picture."""
        task = self.take("write")
        return None if task is None else self._sentence(task, task["lease"]["id"], keep)

    def write_two(self) -> None:
        """Write a sentence, stay on the picture, write another."""
        task = self.take("write")
        if task is None:
            return
        found = self._sentence(task, task["lease"]["id"], True)
        if found is not None and found.good and found.body["lease"] is not None:
            self._sentence({**task, "draft": None}, found.body["lease"]["id"], False)

    def validate(self) -> Exchange | None:
        """Answer the sample that comes: mostly what it means, at times something else, or a rejection."""
        task = self.take("validate")
        if task is None:
            return None
        self.pause()
        objects = [item["id"] for item in task["objects"]]
        meant = meaning(task["sample"]["text"], objects)
        luck = self.rng.random()
        body: dict[str, Any] = {"lease_id": task["lease"]["id"], "client_key": str(uuid.uuid4())}
        if luck < 0.1:
            body |= {"decision": "reject", "reason": self.rng.choice(list(REASONS)), "note": ""}
        else:
            chosen = meant if luck < 0.75 else self.rng.sample(objects, 1)
            if self.rng.random() < 0.5:
                self.save_draft("validate", task, {"targets": chosen})
                self.pause()
            body |= {"decision": "select", "targets": chosen, "no_target": not chosen}
        return self._submit("POST verdict", f"/api/v1/samples/{task['sample']['id']}/verdict", body)

    def put_back(self, kind: str, skip: bool) -> None:
        """Take an item and give it back."""
        task = self.take(kind)
        if task is not None:
            self.pause()
            path = f"/api/v1/leases/{task['lease']['id']}/release"
            self.client.call("POST release", "POST", path, {"skip": skip})

    def leave(self, kind: str) -> None:
        """Take an item, begin a draft, hold on once, and go away without a word."""
        task = self.take(kind)
        if task is None:
            return
        self.save_draft(kind, task, {"targets": [task["objects"][0]["id"]]})
        self.client.call("POST renew", "POST", f"/api/v1/leases/{task['lease']['id']}/renew")

    def repeat(self) -> Exchange | None:
        """Send the last submission or verdict once more."""
        return None if self.last is None else self.client.call(self.last[0], "POST", *self.last[1:])

    def peek(self, sample_id: int) -> None:
        """Ask for what is another's: a sample, its help, drafts; answers that say yes are found by whoever watches."""
        for route, path in (
            ("GET sample", f"samples/{sample_id}"), ("GET help", f"samples/{sample_id}/help"),
            ("GET draft", f"drafts/validate/{sample_id}"), ("GET draft", f"drafts/write/{sample_id}"),
        ):  # fmt: skip
            self.client.call(route, "GET", f"/api/v1/{path}")

    def look(self, administers: bool = False) -> None:
        """Look at the first page, the leaderboard and one's own sentences; administrators at theirs."""
        for page, calls in (
            ("/", ("me", "leaderboard?period=day")), ("/mine", ("me/samples", "drafts")),
            ("/leaderboard", ("leaderboard?period=all",)),
        ):  # fmt: skip
            self._page(page, calls)
            self.pause()
        if administers:
            self._page("/admin", ("admin/overview",))
            self.pause()
            self._page("/admin/samples", ("admin/samples?state=accepted&kind=counting",))

    def save_draft(self, kind: str, task: Any, content: dict[str, Any]) -> Exchange:
        """Save a draft of the task's item over the one that is there."""
        draft = task["draft"] or {"revision": 0}
        sent = {"revision": draft["revision"], "content": {**content, "note": f"private to {self.client.who}"}}
        found = self.client.call("PUT draft", "PUT", f"/api/v1/drafts/{kind}/{task['lease']['item_id']}", sent)
        if found.good:
            task["draft"] = {"revision": found.body["revision"]}
        return found

    def _sentence(self, task: Any, lease_id: str, keep: bool) -> Exchange | None:
        picture = task["picture"]["id"]
        objects = [item["id"] for item in task["objects"]]
        number = self.rng.randrange(10_000, 1_000_000_000)
        words = f"the {self.rng.choice(task['objects'])['name']}"
        lent = None
        if self.rng.random() < 0.15:
            found = self.client.call("GET suggestions", "GET", f"/api/v1/pictures/{picture}/suggestions?count=5")
            if found.good and found.body["items"]:
                lent = self.rng.choice(found.body["items"])
                words, number = re.sub(r" marked \d+", "", lent["text"])[:120], number - number % 10
        elif self.rng.random() < 0.3:
            self.client.call("GET sentences", "GET", f"/api/v1/pictures/{picture}/sentences")
        text = f"{words} marked {number}"
        chosen = meaning(text, objects)
        self.pause()
        key = str(uuid.uuid4())
        self.save_draft("write", task, {"text": text[: len(text) // 2], "targets": chosen, "client_key": key})
        self.pause()
        self.save_draft("write", task, {"text": text, "targets": chosen, "client_key": key})
        check = {"picture_id": picture, "text": text, "targets": chosen, "no_target": not chosen}
        self.client.call("POST check", "POST", "/api/v1/check", check)
        self.pause()
        body = {"lease_id": lease_id, "client_key": key, "text": text, "targets": chosen, "no_target": not chosen}
        return self._submit(
            "POST samples", "/api/v1/samples", {**body, "suggestion_id": lent and lent["id"], "keep": keep}
        )

    def _submit(self, route: str, path: str, body: dict[str, Any]) -> Exchange:
        self.last = (route, path, body)
        return self.client.call(route, "POST", path, body)

    def _page(self, page: str, calls: Sequence[str]) -> None:
        if self.pages:
            self.client.call(f"GET {page}", "GET", page)
        for call in calls:
            self.client.call(f"GET {call.split('?')[0]}", "GET", f"/api/v1/{call}")


def meaning(text: str, objects: Sequence[int]) -> list[int]:
    """The objects that a scripted sentence means: its number says how many, and draws them."""
    numbers = re.findall(r"\d+", text)
    number = int(numbers[-1]) if numbers else 0
    return sorted(random.Random(number).sample(sorted(objects), min(_SIZES[number % 10], len(objects))))
