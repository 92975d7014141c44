"""The API: what is asked and what is answered."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from starlette.testclient import TestClient

from refseg.apps.serve.api.models import AnswerBody, ErrorBody
from refseg.apps.serve.app import create_app
from refseg.apps.serve.errors import STATUS
from refseg.apps.serve.settings import Settings
from refseg.data.rle import decode
from refseg.errors import ConfigError
from refseg.inference.segmentation import Segmentation
from tests.apps.serve.conftest import MODEL, bomb, encoded, scene, segmenter

Serve = Callable[..., TestClient]
TEXTS = ["red car", "all chairs", "the pink chair"]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def same(body: dict[str, Any], answer: Segmentation) -> bool:
    """Whether a response's answer is that one: the mask to the pixel but for ties of float arithmetic in batches."""
    mask = decode(body["mask"])
    return (
        body["text"] == answer.text
        and body["no_target"] == answer.no_target
        and bool((mask ^ answer.mask).mean() < 1e-4)
        and abs(body["no_target_score"] - answer.no_target_score) < 1e-3
        and len(body["instances"]) == len(answer.instances)
    )


@pytest.fixture(scope="module")
def direct() -> list[Segmentation]:
    return segmenter()(scene().image, TEXTS)


def test_forms_and_json_answer_as_the_model_does(serve: Serve, direct: list[Segmentation]) -> None:
    client = serve()
    data = encoded(scene().image)
    form = client.post("/v1/segment", files={"image": ("scene.png", data)}, data={"text": TEXTS})
    by_json = client.post("/v1/segment", json={"images": [b64(data)], "texts": TEXTS})
    assert form.status_code == by_json.status_code == 200, form.text
    assert form.json()["model"] == MODEL
    [entry] = form.json()["images"]
    assert (entry["name"], entry["width"], entry["height"]) == ("scene.png", 480, 480)
    assert by_json.json()["images"][0]["answers"] == entry["answers"]
    assert direct[0].mask.any()
    assert direct[2].no_target
    for body, answer in zip(entry["answers"], direct, strict=True):
        AnswerBody.model_validate(body)
        assert same(body, answer)
        assert Segmentation.from_dict(body).text == answer.text


def test_masks_in_all_forms_are_the_same_mask(serve: Serve) -> None:
    client = serve()
    found = {}
    for form in ("rle", "png", "polygons", "none"):
        question = {"image": b64(encoded(scene().image)), "text": "all chairs", "masks": form}
        [answer] = client.post("/v1/segment", json=question).json()["images"][0]["answers"]
        found[form] = answer["mask"]
        assert len(answer["instances"]) == 2
    mask = decode(found["rle"])
    assert np.array_equal(np.asarray(Image.open(BytesIO(base64.b64decode(found["png"])))), mask)
    filled = coco.decode(coco.merge(coco.frPyObjects(found["polygons"], 480, 480))).astype(bool)
    assert np.array_equal(filled, mask)
    assert found["none"] is None


def test_a_bad_picture_fails_alone_among_others(serve: Serve) -> None:
    client = serve()
    good = b64(encoded(scene().image))
    images = [good, b64(b"#!/bin/sh\nrm -rf /"), "http://127.0.0.1/x.png", good]
    reply = client.post("/v1/segment", json={"images": images, "texts": ["red car"]})
    assert reply.status_code == 200
    entries = reply.json()["images"]
    assert [("error" in entry) for entry in entries] == [False, True, True, False]
    assert entries[1]["error"]["code"] == entries[2]["error"]["code"] == "invalid"
    alone = client.post("/v1/segment", json={"images": images[1:2], "texts": ["red car"]})
    assert alone.status_code == 422
    cut = encoded(scene().image)[:2000]
    assert client.post("/v1/segment", files={"image": cut}, data={"text": "a car"}).status_code == 422


def test_requests_of_others_are_answered_in_the_same_batch_as_a_bad_one(serve: Serve) -> None:
    """Eight at once, one of them no picture: seven answers and one 422, from few batches."""
    client = serve(max_batch=8)
    state = client.app.state.serve  # type: ignore[attr-defined]
    data = [encoded(scene().image)] * 7 + [b"no picture"]
    statuses: list[int] = []

    def ask(picture: bytes) -> None:
        statuses.append(client.post("/v1/segment", files={"image": picture}, data={"text": "red car"}).status_code)

    threads = [threading.Thread(target=ask, args=(each,)) for each in data]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(statuses) == [200] * 7 + [422]
    batches = state.metrics.registry.get_sample_value("refseg_batch_expressions_count")
    expressions = state.metrics.registry.get_sample_value("refseg_batch_expressions_sum")
    assert expressions == 7
    assert batches < 7


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"texts": []}, "texts"),
        ({"texts": ["   "]}, "empty"),
        ({"texts": ["x" * 501]}, "501 letters"),
        ({"texts": ["a"] * 33}, "33 expressions"),
        ({"texts": ["a"], "threshold": 1.5}, "threshold"),
        ({"texts": ["a"], "masks": "jpeg"}, "masks"),
        ({"texts": ["a"], "model": "nobody"}, "not served"),
        ({"texts": ["a"], "colour": "red"}, "colour"),
        ({"texts": "a"}, "texts"),
    ],
)
def test_values_out_of_range_are_named(serve: Serve, question: dict[str, Any], said: str) -> None:
    reply = serve().post("/v1/segment", json={"images": [b64(encoded(scene().image))], **question})
    assert reply.status_code == 422
    assert said in reply.json()["error"]["message"]
    ErrorBody.model_validate_json(reply.text)


def test_other_bodies_are_refused(serve: Serve) -> None:
    client = serve(max_images=2)
    picture = encoded(np.zeros((8, 8, 3), np.uint8))
    assert client.post("/v1/segment", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
    assert client.post("/v1/segment", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415
    assert client.post("/v1/segment", data={"text": "a"}, files={"other": b"x"}).status_code == 422
    many = [("image", ("a.png", picture)) for _ in range(3)]
    assert client.post("/v1/segment", files=many, data={"text": "a"}).status_code == 400
    question = {"images": [b64(picture)] * 3, "texts": ["a"]}
    assert client.post("/v1/segment", json=question).status_code == 422
    assert client.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert client.get("/v1/segment").status_code == 405


def test_too_much_is_refused_before_it_is_read(serve: Serve) -> None:
    client = serve(max_body=1, max_pixels=10_000)

    def endless() -> Any:
        for _ in range(64):
            yield bytes(1 << 18)

    headers = {"Content-Type": "image/png"}
    assert client.post("/v1/images", content=bytes((1 << 20) + 1), headers=headers).status_code == 413
    reply = client.post("/v1/images", content=endless(), headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_large")
    large = bomb()
    assert client.post("/v1/images", content=large, headers=headers).status_code == 413
    assert client.post("/v1/segment", files={"image": large}, data={"text": "a"}).status_code == 413
    assert client.app.state.serve.budget.used == 0  # type: ignore[attr-defined]


def test_a_full_queue_answers_429_before_the_body_is_read(serve: Serve) -> None:
    client = serve(queue=32)
    state = client.app.state.serve  # type: ignore[attr-defined]
    state.engine._waiting = 32
    reply = client.post("/v1/images", content=encoded(scene().image), headers={"Content-Type": "image/png"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "busy")
    assert int(reply.headers["Retry-After"]) >= 1
    state.engine._waiting = 0
    assert 'refseg_refused_total{reason="queue"} 1.0' in client.get("/metrics").text


def test_a_picture_is_kept_and_asked(serve: Serve, direct: list[Segmentation]) -> None:
    client = serve()
    data = encoded(scene().image)
    for kept in (
        client.post("/v1/images", content=data, headers={"Content-Type": "image/png"}),
        client.post("/v1/images", files={"image": data}),
        client.post("/v1/images", json={"image": b64(data)}),
    ):
        assert kept.status_code == 201, kept.text
        assert (kept.json()["width"], kept.json()["height"], kept.json()["model"]) == (480, 480, MODEL)
    address = f"/v1/images/{kept.json()['id']}"
    reply = client.post(f"{address}/ask", json={"texts": TEXTS})
    assert all(same(body, answer) for body, answer in zip(reply.json()["answers"], direct, strict=True))
    forced = client.post(f"{address}/ask", json={"text": "red car", "threshold": 0.0, "no_target_threshold": 1.0})
    assert forced.json()["answers"][0]["area"] == 480 * 480
    none = client.post(f"{address}/ask", json={"text": "red car", "no_target_threshold": 0.0}).json()["answers"][0]
    assert none["no_target"]
    assert none["area"] == 0
    upright = Image.open(BytesIO(client.get(f"{address}/picture").content))
    assert upright.size == (480, 480)
    metrics = client.app.state.serve.metrics.registry  # type: ignore[attr-defined]
    assert metrics.get_sample_value("refseg_batch_seconds_count", {"kind": "encode"}) == 3
    assert client.delete(address).status_code == 204
    assert client.post(f"{address}/ask", json={"text": "red car"}).status_code == 404
    assert client.delete(address).status_code == 404
    assert client.post("/v1/images/..%2f..%2fetc/ask", json={"text": "a"}).status_code == 404


def test_words_that_are_not_known_are_remarked(serve: Serve) -> None:
    question = {"image": b64(encoded(scene().image)), "text": "qwrtzpl vbnmkjh"}
    [answer] = serve().post("/v1/segment", json=question).json()["images"][0]["answers"]
    assert answer["no_target"]
    assert answer["remarks"]


def test_a_client_that_leaves_is_not_computed_for(running: Callable[..., Any]) -> None:
    """Requests are cut while the engine is busy: none of them reaches the model."""
    import http.client

    server = running()
    engine = server.state.engine
    from refseg.apps.serve.engine import Job

    begun, go = threading.Event(), threading.Event()
    engine.submit(Job("hold", 1, lambda jobs: [begun.set() or go.wait(20)], "hold"))
    assert begun.wait(10)
    host = server.url.removeprefix("http://")
    body = json.dumps({"images": [b64(encoded(scene().image))], "texts": ["red car"]}).encode()
    connections = []
    for _ in range(3):
        connection = http.client.HTTPConnection(host)
        connection.request("POST", "/v1/segment", body, {"Content-Type": "application/json"})
        connections.append(connection)
    _until(lambda: engine.waiting == 3)
    for connection in connections:
        connection.close()
    time.sleep(0.3)
    go.set()
    metrics = server.state.metrics.registry
    _until(lambda: metrics.get_sample_value("refseg_cancelled_total") == 3)
    assert metrics.get_sample_value("refseg_batch_expressions_count") == 1  # the one that held
    assert metrics.get_sample_value("refseg_requests_total", {"route": "/v1/segment", "status": "499"}) == 3


def _until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_keys_are_asked_for(serve: Serve, tmp_path: Any) -> None:
    file = tmp_path / "keys"
    file.write_text("# one a line\n\n0123456789abcdef-one\n0123456789abcdef-two\n")
    client = serve(api_key_file=str(file))
    for path in ("/healthz", "/readyz", "/", "/static/js/main.js"):
        assert client.get(path).status_code == 200, path
    assert client.get("/v1/models").status_code == 401
    assert client.post("/v1/segment").json()["error"]["code"] == "key_required"
    basic = base64.b64encode(b"label-studio:0123456789abcdef-two").decode()
    for headers in (
        {"Authorization": "Bearer 0123456789abcdef-one"},
        {"X-API-Key": "0123456789abcdef-two"},
        {"Authorization": f"Basic {basic}"},
    ):
        assert client.get("/v1/models", headers=headers).status_code == 200
    assert client.get("/v1/models", headers={"X-API-Key": "0123456789abcdef"}).status_code == 401
    assert client.get("/metrics").status_code == 401


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), ("# none\n", "no key"), ("short\n", "16")])
def test_bad_key_files_are_named(tmp_path: Any, content: str | None, said: str) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=said):
        Settings(api_key_file=str(file))


@pytest.mark.parametrize(
    "fields", [{"models": ()}, {"queue": 0}, {"max_batch": 0}, {"queue": 8}, {"models": ("a/x", "b/x")}]
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Settings(**fields)


def test_settings_survive_the_way_to_a_worker() -> None:
    settings = Settings(models=("a", "b"), allowed_hosts=("x",), max_wait=3.5)
    assert Settings.from_json(settings.to_json()) == settings


def test_models_examples_and_health(serve: Serve) -> None:
    client = serve(segmenters={"one": segmenter(), "two": segmenter()})
    assert [each["name"] for each in client.get("/v1/models").json()["models"]] == ["one", "two"]
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    examples = client.get("/v1/examples").json()
    assert len(examples) == 6
    assert all(example["texts"] for example in examples)
    picture = client.get(f"/v1/examples/{examples[0]['id']}")
    assert Image.open(BytesIO(picture.content)).size == (examples[0]["width"], examples[0]["height"])
    assert client.get("/v1/examples/999").status_code == 404
    question = {"image": b64(encoded(scene().image)), "text": "red car", "model": "two"}
    assert client.post("/v1/segment", json=question).json()["model"] == "two"


def test_a_folder_that_is_no_model_leaves_the_server_not_ready(tmp_path: Any) -> None:
    with TestClient(create_app(Settings(models=(str(tmp_path),)))) as client:
        _until(lambda: bool(client.app.state.serve.failure))  # type: ignore[attr-defined]
        assert client.get("/healthz").status_code == 200
        reply = client.get("/readyz")
        assert reply.status_code == 503
        assert "config.json" in reply.json()["error"]["message"]
        assert client.post("/v1/segment", json={}).status_code == 503


def test_the_page_and_its_headers(serve: Serve) -> None:
    client = serve()
    page = client.get("/")
    assert "refseg" in page.text
    assert "{{" not in page.text
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    for path in ("/static/js/main.js", "/static/css/page.css", "/static/icon.svg"):
        assert client.get(path).headers["X-Content-Type-Options"] == "nosniff"
    assert client.get("/static/../../settings.py").status_code == 404
    without = serve(page=False)
    assert without.get("/").status_code == 404
    assert without.get("/v1/models").status_code == 200


def test_the_page_is_small() -> None:
    from refseg.apps.serve.web.page import FOLDER

    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 300_000


def test_other_hosts_are_refused(serve: Serve) -> None:
    client = serve(allowed_hosts=("refseg.test",))
    assert client.get("/healthz").status_code == 400
    assert client.get("/healthz", headers={"Host": "refseg.test"}).status_code == 200


def test_the_description_says_what_is_answered(serve: Serve) -> None:
    description = serve().get("/openapi.json").json()
    paths = description["paths"]
    assert {"/v1/segment", "/v1/images", "/v1/images/{id}/ask", "/v1/models", "/healthz", "/readyz", "/metrics"} <= set(
        paths
    )
    for path, methods in paths.items():
        for operation in methods.values():
            assert operation["summary"], path
            assert operation["description"], path
    content = paths["/v1/segment"]["post"]["requestBody"]["content"]
    assert content["application/json"]["examples"]
    assert "multipart/form-data" in content
    assert set(paths["/v1/segment"]["post"]["responses"]) >= {"200", "413", "422", "429", "503"}
    assert set(description["components"]["schemas"]["Fault"]["properties"]["code"]["enum"]) == set(STATUS)
    assert "/v1/search" not in paths
