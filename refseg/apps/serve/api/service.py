"""What is served, whether it is ready, the counters, and drawn pictures to try."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST

from refseg.apps.serve.api.models import ERRORS, NOT_FOUND, ErrorBody, Example, ModelBody, ModelsResponse
from refseg.apps.serve.errors import ServeError
from refseg.apps.serve.state import state_of

if TYPE_CHECKING:
    from refseg.generation.scenes import Scene

router = APIRouter(tags=["the server"])

SEED, SIZE = 11, 480
EXAMPLES = (0, 3, 4, 12, 14, 19)
"""Numbers of the drawn scenes that are offered."""


@router.get("/healthz", summary="That the server runs", description="Also before the models are loaded.")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get(
    "/readyz",
    summary="Whether the server answers",
    description="503 until the models are loaded.",
    responses={200: {"content": {"application/json": {"example": {"status": "ready"}}}}, 503: {"model": ErrorBody}},
)
async def readyz(request: Request) -> JSONResponse:
    state_of(request).check_ready()
    return JSONResponse({"status": "ready"})


@router.get(
    "/metrics",
    summary="Counters in Prometheus' format",
    description="Of all workers.",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, 401: ERRORS[401]},
)
async def metrics(request: Request) -> Response:
    return Response(state_of(request).metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


@router.get(
    "/v1/models",
    summary="The models that are served",
    description="The first one answers where a request names none.",
    responses=ERRORS,
)
async def models(request: Request) -> ModelsResponse:
    state = state_of(request)
    state.check_ready()
    return ModelsResponse(
        models=[
            ModelBody(
                name=name,
                system=type(segmenter.model).__name__,
                encodes_once=segmenter.late_fusion,
                threshold=segmenter.thresholds.mask,
                no_target_threshold=segmenter.thresholds.no_target,
            )
            for name, segmenter in state.segmenters.items()
        ]
    )


@router.get(
    "/v1/examples",
    summary="Drawn pictures to try",
    description="With expressions that mean one thing, several, and none.",
    responses=ERRORS,
)
async def examples(request: Request) -> list[Example]:
    return list(await state_of(request).in_pool(_described))


@router.get(
    "/v1/examples/{id}",
    summary="A drawn picture",
    description="As PNG.",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **NOT_FOUND},
)
async def example(request: Request, id: Annotated[int, Path()]) -> Response:
    if id not in EXAMPLES:
        raise ServeError("not_found", "there is no such example")
    data = await state_of(request).in_pool(_drawn, id)
    return Response(data, media_type="image/png", headers={"Cache-Control": "public, max-age=86400"})


@lru_cache
def _scene(id: int) -> Scene:
    from refseg.generation.scenes import generate

    return generate(seed=SEED, index=id, size=SIZE)


@lru_cache
def _drawn(id: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(_scene(id).image).save(buffer, format="PNG")
    return buffer.getvalue()


@lru_cache(maxsize=1)
def _described() -> tuple[Example, ...]:
    """The examples, each with its shortest expression of one thing, of several and of none."""
    found = []
    for id in EXAMPLES:
        expressions = sorted(_scene(id).expressions, key=lambda each: -len(each.text))
        texts = {min(len(each.targets), 2): each.text for each in expressions}
        categories = list(dict.fromkeys(thing.category for thing in _scene(id).things))
        description = f"drawn: {', '.join(categories)}"
        chosen = [texts[count] for count in (1, 2, 0) if count in texts]
        found.append(Example(id=id, width=SIZE, height=SIZE, description=description, texts=chosen))
    return tuple(found)
