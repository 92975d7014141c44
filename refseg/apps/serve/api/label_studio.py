"""Label Studio's ML-backend protocol at /label-studio: pre-annotation, and answers to what a person types.

A project's labelling interface says what is asked and what is wanted back:

    <View>
      <Image name="image" value="$image"/>
      <TextArea name="expression" toName="image" editable="true"/>   <!-- interactive: what a person types -->
      <BrushLabels name="mask" toName="image"><Label value="target"/></BrushLabels>
    </View>

Results are regions of `BrushLabels`, `PolygonLabels` or `RectangleLabels`, whichever the interface has (the first of
them). Expressions come from the person's TextArea; without one from the task's data, under `expression`, `expressions`,
`text`, `caption` or the field that a `Text` of the interface shows; without those each label's name is asked, and its
regions carry that label.

Pictures come as data: addresses, or from Label Studio's own folder (`--pictures DIR`: local files and uploads).
Nothing is fetched from the network.
"""

from __future__ import annotations

import urllib.parse
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, ConfigDict, Field

from refseg import __version__
from refseg.apps.serve.api.brush import pack
from refseg.apps.serve.api.models import ERRORS, AskRequest
from refseg.apps.serve.engine import Thresholds
from refseg.apps.serve.errors import ServeError
from refseg.apps.serve.pictures import decode_base64
from refseg.apps.serve.settings import MB
from refseg.apps.serve.state import State, share_of, state_of
from refseg.data.contours import loops_of
from refseg.inference.segmentation import Instance, Segmentation

router = APIRouter(prefix="/label-studio", tags=["Label Studio"])

REGIONS = {"BrushLabels": "brushlabels", "PolygonLabels": "polygonlabels", "RectangleLabels": "rectanglelabels"}
FIELDS = ("expressions", "expression", "text", "caption")
MAX_CONFIG = 1 << 18
FEWEST = 8
"""Pixels of the smallest outline that becomes a polygon."""


class SetupRequest(BaseModel):
    """What Label Studio sends when a project connects."""

    model_config = ConfigDict(extra="allow")
    project: str | int | None = None
    label_schema: str = Field("", alias="schema", description="the labelling interface")


class PredictRequest(BaseModel):
    """Tasks to annotate; `params.context` holds what a person has drawn or typed."""

    model_config = ConfigDict(extra="allow")
    tasks: list[dict[str, Any]] = Field(max_length=256)
    label_config: str = ""
    params: dict[str, Any] | None = None


@dataclass(frozen=True)
class Interface:
    """What a labelling interface asks for."""

    image: str
    """Name of the Image tag ..."""
    value: str
    """... and the task's field that it shows."""
    control: str
    """Name of the tag whose regions are wanted ..."""
    kind: str
    """... and its tag."""
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    """Fields of the task that Text tags show."""
    areas: tuple[str, ...]
    """Names of TextArea tags."""


@router.get("/", include_in_schema=False)
@router.get("/health", summary="That the backend runs", description="Label Studio asks when a model is connected.")
async def health(request: Request) -> dict[str, str]:
    state_of(request).check_ready()
    return {"status": "UP", "model_class": "refseg"}


@router.post("/setup", summary="A project connects", description="Says the version of the model.", responses=ERRORS)
async def setup(request: Request, body: Annotated[SetupRequest, Body()]) -> dict[str, str]:
    if body.label_schema:
        read_interface(body.label_schema)
    return {"model_version": _version(state_of(request))}


@router.post(
    "/predict",
    summary="Annotate tasks",
    description="One prediction a task, in order; without an expression, an empty one.",
    responses=ERRORS,
)
async def predict(request: Request, body: Annotated[PredictRequest, Body()]) -> dict[str, Any]:
    state = state_of(request)
    if not body.tasks:
        return {"results": []}
    interface = read_interface(body.label_config)
    context = (body.params or {}).get("context") or {}
    # One after the other: a project's tasks come by the hundred, and others want their turn, too.
    results = [await _predict(request, state, interface, task, context) for task in body.tasks]
    return {"results": results}


@router.post("/webhook", summary="Something happened in a project", description="Nothing is learnt from it here.")
async def webhook() -> dict[str, str]:
    return {"status": "ok"}


async def _predict(
    request: Request, state: State, interface: Interface, task: dict[str, Any], context: dict[str, Any]
) -> dict[str, Any]:
    data = task.get("data")
    if not isinstance(data, dict):
        raise ServeError("invalid", f"task {task.get('id')}: it has no data")
    asked = expressions_of(interface, data, context)
    asked = [(text, label) for text, label in asked if text.strip()]
    version = _version(state)
    if not asked:
        return {"result": [], "score": 0.0, "model_version": version}
    texts = AskRequest(texts=[text for text, _ in asked]).checked_texts(state.settings)
    source = await state.in_pool(_read, state, data.get(interface.value), f"task {task.get('id')}")
    picture = await state.decode(source, share_of(request))
    answers = await state.segment(request, picture, texts, state.model_name(None), Thresholds())
    share_of(request).take(-3 * picture.width * picture.height)
    labels = [label for _, label in asked]
    regions = await state.in_pool(_regions, interface, answers, labels)
    scores = [answer.score for answer in answers]
    return {"result": regions, "score": round(sum(scores) / len(scores), 6), "model_version": version}


def read_interface(text: str) -> Interface:
    """The interface of a labelling configuration. Raises `ServeError` (422) for one that has no picture, or no tag for
    regions."""
    if len(text) > MAX_CONFIG or "<!DOCTYPE" in text.upper() or "<!ENTITY" in text.upper():
        raise ServeError("invalid", "label_config: larger than any interface, or with declarations, which are not read")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, UnicodeError) as error:  # half of a surrogate pair
        raise ServeError("invalid", f"label_config: not valid XML ({error})") from error
    tags = list(root.iter())
    images = [tag for tag in tags if tag.tag == "Image" and tag.get("name")]
    if not images:
        raise ServeError("invalid", 'label_config: an <Image name="image" value="$image"/> is wanted')
    names = {tag.get("name"): tag for tag in images}
    controls = [tag for tag in tags if tag.tag in REGIONS and tag.get("name") and tag.get("toName") in names]
    if not controls:
        raise ServeError("invalid", f"label_config: one of {', '.join(REGIONS)} for the Image is wanted")
    control = controls[0]
    image = names[control.get("toName")]
    return Interface(
        image=image.get("name", ""),
        value=image.get("value", "$image").lstrip("$"),
        control=control.get("name", ""),
        kind=control.tag,
        labels=tuple(tag.get("value", "") for tag in control.iter("Label")),
        texts=tuple(tag.get("value", "").lstrip("$") for tag in tags if tag.tag == "Text"),
        areas=tuple(tag.get("name", "") for tag in tags if tag.tag == "TextArea"),
    )


def expressions_of(interface: Interface, data: dict[str, Any], context: dict[str, Any]) -> list[tuple[str, str]]:
    """(expression, label of its regions); see the module for where expressions come from."""
    label = interface.labels[0] if interface.labels else ""
    typed: list[str] = []
    for result in context.get("result") or []:
        value = result.get("value") if isinstance(result, dict) else None
        words = value.get("text") if isinstance(value, dict) else None
        typed += [words] if isinstance(words, str) else [word for word in words or [] if isinstance(word, str)]
    if typed:
        return [(text, label) for text in typed]
    for name in (*FIELDS, *interface.texts):
        found = data.get(name)
        if isinstance(found, str):
            return [(found, label)]
        if isinstance(found, list) and found and all(isinstance(each, str) for each in found):
            return [(text, label) for text in found]
    if interface.areas:  # somebody will type
        return []
    return [(text, text) for text in interface.labels]


def _read(state: State, address: object, where: str) -> bytes:
    """A task's picture, encoded. Raises `ServeError` for what is neither sent along nor in Label Studio's folder."""
    if not isinstance(address, str) or not address:
        raise ServeError("invalid", f"{where}: its data has no picture")
    if address[:5].lower() == "data:":
        return decode_base64(address)
    path = _local(state.settings.pictures, address)
    if path is None:
        raise ServeError(
            "invalid",
            f"{where}: {address[:200]} is not fetched; send data: addresses, or start the server with --pictures DIR "
            "for local files and uploads",
        )
    try:
        size = path.stat().st_size
        if size > state.settings.max_body * MB:
            raise ServeError("too_large", f"{where}: the picture is larger than {state.settings.max_body} MB")
        return path.read_bytes()
    except OSError as error:
        raise ServeError("invalid", f"{where}: {address[:200]} cannot be read ({error.strerror})") from error


def _local(folder: str, address: str) -> Path | None:
    """Where an address of Label Studio lies in its folder; None for other addresses and those that lead out of it."""
    if not folder:
        return None
    parts = urllib.parse.urlsplit(address)
    if parts.path.endswith("/data/local-files/"):
        name = urllib.parse.parse_qs(parts.query).get("d", [""])[0]
    elif "/data/upload/" in parts.path:
        name = "upload/" + urllib.parse.unquote(parts.path.partition("/data/upload/")[2])
    else:
        return None
    root = Path(folder).resolve()
    try:
        path = (root / name).resolve()
    except (OSError, ValueError):
        return None
    return path if path.is_relative_to(root) and path != root else None


def _regions(interface: Interface, answers: list[Segmentation], labels: list[str]) -> list[dict[str, Any]]:
    regions: list[dict[str, Any]] = []
    for answer, label in zip(answers, labels, strict=True):
        for instance in answer.instances:
            for value in _values(interface.kind, instance):
                regions.append(
                    {
                        "id": f"refseg{len(regions)}",
                        "from_name": interface.control,
                        "to_name": interface.image,
                        "type": REGIONS[interface.kind],
                        "original_width": instance.size[1],
                        "original_height": instance.size[0],
                        "image_rotation": 0,
                        "score": round(instance.score, 6),
                        "value": {**value, REGIONS[interface.kind]: [label] if label else []},
                    }
                )
    return regions


def _values(kind: str, instance: Instance) -> list[dict[str, Any]]:
    """An instance as values of Label Studio's regions: a polygon for each part, without holes, which it has not."""
    height, width = instance.size
    if kind == "BrushLabels":
        return [{"format": "rle", "rle": pack(instance.mask)}]
    if kind == "RectangleLabels":
        left, top, right, bottom = (float(value) for value in instance.box)
        return [
            {
                "x": 100 * left / width,
                "y": 100 * top / height,
                "width": 100 * (right - left) / width,
                "height": 100 * (bottom - top) / height,
                "rotation": 0,
            }
        ]
    row, column = instance.corner
    outlines = [loop for loop in loops_of(instance.region) if _area(loop) >= FEWEST]
    return [
        {"points": [[100 * (x + column) / width, 100 * (y + row) / height] for x, y in loop], "closed": True}
        for loop in outlines
    ]


def _area(loop: list[tuple[int, int]]) -> float:
    """Pixels inside an outline; holes, which run the other way, are negative."""
    pairs = zip(loop, [*loop[1:], loop[0]], strict=True)
    return sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in pairs) / 2


def _version(state: State) -> str:
    return f"{state.model_names[0]} (refseg {__version__})"
