"""Label Studio's protocol, CVAT's function, and search in an index."""

from __future__ import annotations

import base64
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from refseg.apps.serve.api.brush import pack
from refseg.apps.serve.api.label_studio import expressions_of, read_interface
from refseg.apps.serve.cvat import ReferringFunction, create, mask_points
from refseg.errors import ImageError, RefsegError
from refseg.inference.segmentation import Segmentation
from tests.apps.serve.conftest import MODEL, encoded, scene, segmenter

Serve = Callable[..., TestClient]

INTERFACE = """<View><Image name="picture" value="$photo"/>
<TextArea name="said" toName="picture"/>
<{kind} name="thing" toName="picture"><Label value="target"/><Label value="other"/></{kind}></View>"""


def unpack(packed: list[int], height: int, width: int) -> NDArray[np.bool_]:
    """Label Studio's `rle`, read bit by bit as @thi.ng/rle-pack describes it."""
    bits = "".join(f"{byte:08b}" for byte in packed)
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    count, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        repeated, size = take(1), sizes[take(2)]
        length = take(size) + 1
        values += [take(word)] * length if repeated else [take(word) for _ in range(length)]
    pixels = np.array(values, dtype=np.uint8).reshape(height, width, 4)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 3] > 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 70_000), (40, 60)])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_packed_masks_are_read_back(shape: tuple[int, int], share: float) -> None:
    mask = np.random.default_rng(1).random(shape) < share
    mask[:, : shape[1] // 2] = share > 0.5  # long runs, too
    assert np.array_equal(unpack(pack(mask), *shape), mask)


def data_address() -> str:
    return "data:image/png;base64," + base64.b64encode(encoded(scene().image)).decode()


def task(**data: Any) -> dict[str, Any]:
    return {"id": 7, "data": {"photo": data_address(), **data}}


def predict(client: TestClient, kind: str, *tasks: dict[str, Any], context: Any = None) -> Any:
    body = {"tasks": list(tasks), "label_config": INTERFACE.format(kind=kind), "params": {"context": context}}
    return client.post("/label-studio/predict", json=body)


def test_a_project_connects(serve: Serve) -> None:
    client = serve()
    assert client.get("/label-studio/health").json()["status"] == "UP"
    body = {"project": "3.17", "schema": INTERFACE.format(kind="BrushLabels"), "hostname": "", "access_token": ""}
    assert MODEL in client.post("/label-studio/setup", json=body).json()["model_version"]
    assert client.post("/label-studio/webhook", json={"action": "ANNOTATION_CREATED"}).status_code == 200
    assert client.post("/label-studio/predict", json={"tasks": []}).json() == {"results": []}


def test_regions_of_every_kind(serve: Serve) -> None:
    client = serve()
    direct = segmenter()(scene().image, "all chairs")
    found = {}
    for kind in ("BrushLabels", "PolygonLabels", "RectangleLabels"):
        [result] = predict(client, kind, task(expression="all chairs")).json()["results"]
        assert 0 < result["score"] <= 1
        for region in result["result"]:
            assert (region["from_name"], region["to_name"]) == ("thing", "picture")
            assert (region["original_width"], region["original_height"]) == (480, 480)
            assert region["type"] == kind.lower()
            assert region["value"][kind.lower()] == ["target"]
        found[kind] = [region["value"] for region in result["result"]]
    masks = [unpack(value["rle"], 480, 480) for value in found["BrushLabels"]]
    assert len(masks) == len(direct.instances) == 2
    assert (np.any(masks, axis=0) ^ direct.mask).mean() < 1e-3
    for value, instance in zip(found["RectangleLabels"], direct.instances, strict=True):
        corner = np.array([value["x"], value["y"], value["x"] + value["width"], value["y"] + value["height"]]) * 4.8
        assert corner == pytest.approx(instance.box, abs=2)
    assert all(0 <= place <= 100 for value in found["PolygonLabels"] for point in value["points"] for place in point)


def test_what_a_person_types_comes_first(serve: Serve) -> None:
    client = serve()
    context = {"result": [{"type": "textarea", "value": {"text": ["the pink chair"]}}]}
    [result] = predict(client, "BrushLabels", task(expression="all chairs"), context=context).json()["results"]
    assert result["result"] == []
    [waiting] = predict(client, "BrushLabels", task()).json()["results"]
    assert (waiting["result"], waiting["score"]) == ([], 0.0)


def test_where_expressions_come_from() -> None:
    interface = read_interface(INTERFACE.format(kind="BrushLabels"))
    assert expressions_of(interface, {"expressions": ["a", "b"]}, {}) == [("a", "target"), ("b", "target")]
    assert expressions_of(interface, {"caption": "c"}, {}) == [("c", "target")]
    without = read_interface(
        INTERFACE.format(kind="BrushLabels").replace('<TextArea name="said" toName="picture"/>', "")
    )
    assert expressions_of(without, {}, {}) == [("target", "target"), ("other", "other")]
    shown = '<View><Text name="t" value="$said"/>' + INTERFACE.format(kind="BrushLabels").removeprefix("<View>")
    assert expressions_of(read_interface(shown), {"said": "d"}, {}) == [("d", "target")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<View", "not valid XML"),
        ("<View></View>", "Image"),
        ('<View><Image name="a" value="$a"/></View>', "BrushLabels"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "declarations"),
        ("<View>" + " " * 300_000 + "</View>", "larger"),
    ],
)
def test_interfaces_that_cannot_be_used_are_named(serve: Serve, text: str, said: str) -> None:
    reply = serve().post("/label-studio/predict", json={"tasks": [task(text="a")], "label_config": text})
    assert reply.status_code == 422
    assert said in reply.json()["error"]["message"]


def test_local_files_and_no_others(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "media"
    (folder / "upload" / "3").mkdir(parents=True)
    (folder / "street").mkdir()
    for place in (folder / "upload/3/a b.png", folder / "street/c.png", tmp_path / "secret.png"):
        place.write_bytes(encoded(scene().image))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    client = serve(pictures=str(folder))

    def ask(address: str) -> Any:
        return predict(client, "RectangleLabels", {"id": 1, "data": {"photo": address, "text": "red car"}})

    for address in ("/data/upload/3/a%20b.png", "/data/local-files/?d=street/c.png"):
        reply = ask(address)
        assert reply.status_code == 200, reply.text
        assert reply.json()["results"][0]["result"]
    for address in (
        "/data/local-files/?d=../secret.png",
        "/data/local-files/?d=/etc/passwd",
        "/data/local-files/?d=link.png",
        "/data/local-files/?d=",
        "/data/upload/../../secret.png",
        "/data/local-files/?d=street/nowhere.png",
        "http://127.0.0.1:1/a.png",
        "s3://bucket/a.png",
    ):
        reply = ask(address)
        assert reply.status_code == 422, address
        assert "task 1" in reply.json()["error"]["message"]
    assert predict(serve(), "BrushLabels", {"id": 2, "data": {"text": "a"}}).status_code == 422


@pytest.fixture
def cvat(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The part of cvat-sdk that is used, where it is not installed: plain objects."""
    try:
        import cvat_sdk.auto_annotation as real
    except ImportError:
        real = types.ModuleType("cvat_sdk.auto_annotation")
        real.label_spec = lambda name, id: {"name": name, "id": id}  # type: ignore[attr-defined]
        real.DetectionFunctionSpec = lambda labels: types.SimpleNamespace(labels=labels)  # type: ignore[attr-defined]
        for kind in ("mask", "polygon"):
            make = lambda label, points, kind=kind: {"type": kind, "label_id": label, "points": points}  # noqa: E731
            setattr(real, kind, make)
        package = types.ModuleType("cvat_sdk")
        package.auto_annotation = real  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "cvat_sdk", package)
        monkeypatch.setitem(sys.modules, "cvat_sdk.auto_annotation", real)
    return real


@dataclass
class Context:
    conf_threshold: float | None = None
    conv_mask_to_poly: bool = False
    frame_name: str = "a.png"


def test_cvat_gets_a_label_for_each_expression_and_a_shape_for_each_thing(cvat: Any) -> None:
    mask = np.zeros((20, 30), bool)
    mask[3:9, 4:12] = True
    mask[5, 6] = False
    mask[12:15, 20:28] = True
    answers = [Segmentation(np.zeros_like(mask), no_target=True, text="a"), Segmentation(mask, score=0.6, text="b")]
    function = ReferringFunction(["a", "b"], lambda image: answers)
    assert [label["name"] for label in function.spec.labels] == ["a", "b"]
    picture = Image.new("RGB", (30, 20))
    shapes = function.detect(Context(), picture)
    assert [shape["label_id"] for shape in shapes] == [1, 1]
    found = np.zeros_like(mask)
    for shape in shapes:
        *runs, left, top, right, bottom = map(int, shape["points"])
        flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        found[top : bottom + 1, left : right + 1] |= flat.reshape(bottom - top + 1, right - left + 1)
    assert np.array_equal(found, mask)
    outlines = function.detect(Context(conv_mask_to_poly=True), picture)
    assert [len(shape["points"]) for shape in outlines] == [8, 8]  # holes are left out
    assert function.detect(Context(conf_threshold=0.7), picture) == []


def test_cvat_masks_begin_with_what_is_not_chosen() -> None:
    [instance] = Segmentation(np.eye(3, dtype=bool) | np.eye(3, k=1, dtype=bool)).instances
    assert mask_points(instance) == [0, 2, 2, 2, 2, 1, 0, 0, 2, 2]


@pytest.mark.parametrize("text", ["", " ; ", "a;b;a"])
def test_cvat_without_sensible_expressions(text: str) -> None:
    with pytest.raises(RefsegError, match="expressions"):
        create(text)


@dataclass
class Hit:
    path: str
    score: float
    no_target_score: float
    boxes: Any


@dataclass
class Found:
    hits: list[Hit]
    nothing: bool
    looked_at: int


class Collection:
    """An index of two pictures of a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def search(self, text: str, top: int = 20) -> Found:
        if text == "error":
            raise ImageError("the index is damaged")
        hits = [
            Hit(str(self.root / "one.png"), 0.9, 0.1, np.array([[1.0, 2.0, 30.0, 40.0]])),
            Hit(str(self.root / "gone.png"), 0.8, 0.2, []),
        ]
        return Found([] if text == "zebra" else hits[:top], text == "zebra", 2)


def test_search(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(encoded(Image.new("RGB", (80, 40))))
    client = serve(index=Collection(tmp_path))
    reply = client.get("/v1/search", params={"text": "  the   dog "}).json()
    assert (reply["text"], reply["nothing"], reply["looked_at"]) == ("the dog", False, 2)
    first, second = reply["hits"]
    assert first["boxes"] == [[1.0, 2.0, 30.0, 40.0]]
    picture = client.get("/" + first["picture"], params={"longest": 20})
    assert picture.headers["X-Picture-Size"] == "80x40"
    assert picture.headers["Content-Type"] == "image/jpeg"
    assert client.get("/" + second["picture"]).status_code == 404
    assert client.get("/v1/search/pictures/one.png").status_code == 404
    assert len(client.get("/v1/search", params={"text": "dog", "top": 1}).json()["hits"]) == 1
    assert client.get("/v1/search", params={"text": "zebra"}).json()["nothing"]
    assert client.get("/v1/search", params={"text": "error"}).status_code == 422
    for values in ({}, {"text": ""}, {"text": "a", "top": 0}, {"text": "x" * 600}):
        assert client.get("/v1/search", params=values).status_code == 422
    assert "&quot;search&quot;: true" in client.get("/").text
    assert "&quot;search&quot;: false" in serve().get("/").text
    assert serve().get("/v1/search", params={"text": "dog"}).status_code == 404
