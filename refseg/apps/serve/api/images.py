"""/v1/images: a picture is sent and encoded once, and asked as often as one likes."""

from __future__ import annotations

from io import BytesIO
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Request
from fastapi.responses import Response
from starlette.datastructures import UploadFile

from refseg.apps.serve.api.answers import answers_json
from refseg.apps.serve.api.models import NOT_FOUND, AskRequest, AskResponse, KeptImage
from refseg.apps.serve.errors import ServeError
from refseg.apps.serve.pictures import decode_base64
from refseg.apps.serve.state import share_of, state_of

router = APIRouter(prefix="/v1/images", tags=["pictures that are kept"])

BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "string", "format": "binary"}},
                }
            },
            "application/json": {
                "schema": {"type": "object", "required": ["image"], "properties": {"image": {"type": "string"}}},
                "example": {"image": "iVBORw0KGgoAAAANSUhEUgAA..."},
            },
        },
    }
}
Id = Annotated[str, Path(description="of the response to POST /v1/images", max_length=64)]


@router.post(
    "",
    status_code=201,
    summary="Keep a picture, encoded",
    description="The picture itself as the body, as a form's field `image`, or as base64 in JSON.",
    responses={201: {"model": KeptImage}, **NOT_FOUND, 415: NOT_FOUND[400]},
    openapi_extra=BODY,
)
async def keep(request: Request, model: Annotated[str | None, Query(max_length=200)] = None) -> KeptImage:
    state = state_of(request)
    name = state.model_name(model)
    data = await _read_picture(request)
    picture = await state.decode(data, share_of(request))
    kept = await state.in_pool(state.store.add, picture, data)
    try:
        await state.encoded(request, kept, name)
    except BaseException:
        state.store.remove(kept.id)  # nobody knows its id
        raise
    return KeptImage(
        id=kept.id, width=picture.width, height=picture.height, model=name, seconds=state.settings.cache_seconds
    )


@router.post(
    "/{id}/ask",
    summary="Segment what expressions refer to in a picture that is kept",
    description="A request whose client leaves before its turn is not computed.",
    responses={200: {"model": AskResponse}, **NOT_FOUND},
)
async def ask(
    request: Request,
    id: Id,
    question: Annotated[AskRequest, Body(examples=[{"texts": ["the red car"], "masks": "polygons"}])],
) -> Response:
    state = state_of(request)
    texts = question.checked_texts(state.settings)
    model = state.model_name(question.model)
    kept = await state.kept(id, share_of(request))
    answers = await state.ask(request, kept, texts, model, question.thresholds)
    head = {"model": model, "width": kept.picture.width, "height": kept.picture.height}
    return Response(await state.in_pool(answers_json, head, answers, question.masks), media_type="application/json")


@router.get(
    "/{id}/picture",
    summary="The picture, upright, as JPEG",
    description="For pictures that a browser cannot show itself.",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, **NOT_FOUND},
)
async def picture(request: Request, id: Id) -> Response:
    state = state_of(request)
    kept = await state.kept(id, share_of(request))

    def encode() -> bytes:
        buffer = BytesIO()
        kept.picture.save(buffer, format="JPEG", quality=92)
        return buffer.getvalue()

    return Response(await state.in_pool(encode), media_type="image/jpeg")


@router.delete(
    "/{id}",
    status_code=204,
    summary="Forget a picture",
    description="With several workers the copies of the others are forgotten when their time is over.",
    responses=NOT_FOUND,
)
async def forget(request: Request, id: Id) -> Response:
    if not state_of(request).store.remove(id):
        raise ServeError("not_found", "there is no such picture, or it was forgotten already")
    return Response(status_code=204)


async def _read_picture(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind == "application/octet-stream":
        return await request.body()
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=4, max_part_size=1 << 16) as form:
            value = form.get("image")
            if not isinstance(value, UploadFile):
                raise ServeError("invalid", "image: a picture file is wanted")
            return await value.read()
    if kind == "application/json":
        try:
            values = await request.json()
        except (ValueError, RecursionError) as error:  # brackets in brackets without end
            raise ServeError("bad_request", "the body is not valid JSON") from error
        if not isinstance(values, dict) or not isinstance(values.get("image"), str):
            raise ServeError("invalid", "image: a picture in base64 is wanted")
        return decode_base64(values["image"])
    raise ServeError("unsupported", "send the picture itself (image/...), multipart/form-data or application/json")
