"""POST /v1/segment: pictures and expressions in one request, nothing kept."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from refseg.apps.serve.api.answers import answer_body
from refseg.apps.serve.api.models import ERRORS, Question, SegmentRequest, SegmentResponse
from refseg.apps.serve.errors import ServeError
from refseg.apps.serve.pictures import decode_base64
from refseg.apps.serve.settings import Settings
from refseg.apps.serve.state import State, share_of, state_of

router = APIRouter(tags=["answers"])

FORM = {
    "type": "object",
    "required": ["image", "text"],
    "properties": {
        "image": {"type": "array", "items": {"type": "string", "format": "binary"}, "description": "picture files"},
        "text": {"type": "array", "items": {"type": "string"}, "description": "expressions"},
        "model": {"type": "string"},
        "threshold": {"type": "number", "minimum": 0, "maximum": 1},
        "no_target_threshold": {"type": "number", "minimum": 0, "maximum": 1},
        "masks": {"type": "string", "enum": ["rle", "png", "polygons", "none"], "default": "rle"},
    },
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": SegmentRequest.model_json_schema(),
                "examples": {
                    "one picture": {"value": {"images": ["iVBORw0KGgo..."], "texts": ["the dog on the left"]}},
                    "polygons": {"value": {"images": ["iVBORw0KGgo..."], "texts": ["the dog"], "masks": "polygons"}},
                },
            },
            "multipart/form-data": {"schema": FORM},
        },
    }
}


@dataclass(frozen=True)
class Upload:
    """A picture of a request, still encoded; or why it is none."""

    name: str | None
    data: bytes
    error: ServeError | None = None


@router.post(
    "/v1/segment",
    summary="Segment what expressions refer to in pictures",
    description="Every expression is asked of every picture. A picture that cannot be read has an error in the place "
    "of its answers; where it is the only one, the response is that error.",
    responses={200: {"model": SegmentResponse}, **ERRORS, 415: ERRORS[400]},
    openapi_extra=BODY,
)
async def segment(request: Request) -> Response:
    state = state_of(request)
    question, uploads = await read_question(request, state.settings)
    texts = question.checked_texts(state.settings)
    model = state.model_name(question.model)
    if len(texts) * len(uploads) > state.settings.queue:
        raise ServeError(
            "invalid",
            f"{len(uploads)} pictures x {len(texts)} expressions: at most {state.settings.queue} in one request",
        )
    # All at once, so that the pictures of one request make a batch, too.
    found = await asyncio.gather(*(_answer(request, state, each, texts, model, question) for each in uploads))
    errors = [error for _, error in found if error is not None]
    if len(errors) == len(found) and len({error.code for error in errors}) == 1:
        raise errors[0]
    body = {"model": model, "images": [values for values, _ in found]}
    return Response(await state.in_pool(lambda: json.dumps(body).encode()), media_type="application/json")


async def _answer(
    request: Request, state: State, upload: Upload, texts: list[str], model: str, question: Question
) -> tuple[dict[str, Any], ServeError | None]:
    """The entry of one picture, and its error if it has one."""
    try:
        if upload.error is not None:
            raise upload.error
        picture = await state.decode(upload.data, share_of(request))
        answers = await state.segment(request, picture, texts, model, question.thresholds)
    except ServeError as error:
        return {"name": upload.name, **error.body()}, error
    bodies = await state.in_pool(lambda: [answer_body(answer, question.masks) for answer in answers])
    return {"name": upload.name, "width": picture.width, "height": picture.height, "answers": bodies}, None


async def read_question(request: Request, settings: Settings) -> tuple[SegmentRequest, list[Upload]]:
    """A request of either kind. Raises `ServeError` for one that is neither, or does not fit its description."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        question = _validated(await request.body())
        uploads = [_upload(text) for text in question.images]
    elif kind == "multipart/form-data":
        question, uploads = await _read_form(request, settings)
    else:
        raise ServeError("unsupported", "send application/json or multipart/form-data")
    if len(uploads) > settings.max_images:
        raise ServeError("invalid", f"{len(uploads)} pictures; at most {settings.max_images} in one request")
    return question, uploads


def _upload(text: str) -> Upload:
    try:
        return Upload(None, decode_base64(text))
    except ServeError as error:
        return Upload(None, b"", error)


async def _read_form(request: Request, settings: Settings) -> tuple[SegmentRequest, list[Upload]]:
    uploads: list[Upload] = []
    values: dict[str, Any] = {}
    texts: list[str] = []
    most_fields = 8 + settings.max_texts
    async with request.form(max_files=settings.max_images, max_fields=most_fields, max_part_size=1 << 16) as form:
        for name, value in form.multi_items():
            if name in ("image", "images") and isinstance(value, UploadFile):
                uploads.append(Upload(value.filename or None, await value.read()))
            elif name in ("text", "texts") and isinstance(value, str):
                texts.append(value)
            elif isinstance(value, str):
                values[name] = value
            else:
                raise ServeError("invalid", f"{name}: a file is wanted for image alone")
    if not uploads:
        raise ServeError("invalid", "image: a picture file is wanted")
    placeholders = ["" for _ in uploads]
    return _validated(json.dumps({**values, "texts": texts, "images": placeholders}).encode()), uploads


def _validated(body: bytes) -> SegmentRequest:
    try:
        return SegmentRequest.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False, include_input=False)) from error


def invalid(faults: list[Any]) -> ServeError:
    """The refusal of a body, from pydantic's list of faults; what was sent is not repeated."""
    if faults and faults[0]["type"] == "json_invalid":
        return ServeError("bad_request", "the body is not valid JSON")
    fields = [
        {
            "field": ".".join(str(part) for part in fault["loc"] if part not in ("body", "query", "path"))[:100],
            "message": fault["msg"],
        }
        for fault in faults[:20]
    ]
    first = fields[0] if fields else {"field": "", "message": "the request does not fit its description"}
    where = f"{first['field']}: " if first["field"] else ""
    return ServeError("invalid", f"{where}{first['message']}", fields=fields)
