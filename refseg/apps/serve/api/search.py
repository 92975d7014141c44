"""GET /v1/search: pictures of the index that an expression finds. There where an index is given."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from refseg.apps.serve.api.models import NOT_FOUND, AskRequest, HitBody, SearchResponse
from refseg.apps.serve.errors import ServeError
from refseg.apps.serve.searching import Searcher
from refseg.apps.serve.state import state_of
from refseg.errors import RefsegError

router = APIRouter(prefix="/v1/search", tags=["search"])


@router.get(
    "",
    summary="Find pictures of the index",
    description="Best first; `nothing` where no picture holds what is meant.",
    responses=NOT_FOUND,
)
async def search(
    request: Request,
    text: Annotated[str, Query(min_length=1, examples=["the man on the left with a red bag"])],
    top: Annotated[int, Query(ge=1, le=200)] = 20,
) -> SearchResponse:
    state, searcher = state_of(request), _searcher(request)
    [cleaned] = AskRequest(texts=[text]).checked_texts(state.settings)
    try:
        found, names = await state.in_pool(searcher.search, cleaned, top)
    except RefsegError as error:
        raise ServeError("invalid", str(error)) from error
    hits = [
        HitBody(
            path=str(hit.path),
            score=float(hit.score),
            no_target_score=float(hit.no_target_score),
            boxes=[[float(value) for value in box] for box in hit.boxes],
            picture=f"v1/search/pictures/{name}",
        )
        for hit, name in zip(found.hits, names, strict=True)
    ]
    return SearchResponse(text=cleaned, hits=hits, nothing=bool(found.nothing), looked_at=int(found.looked_at))


@router.get(
    "/pictures/{name}",
    summary="A picture that was found",
    description="As JPEG; `longest` makes it smaller, the header X-Picture-Size says the size of the original.",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, **NOT_FOUND},
)
async def picture(
    request: Request,
    name: Annotated[str, Path(max_length=64)],
    longest: Annotated[int | None, Query(ge=16, le=4096)] = None,
) -> Response:
    try:
        found = await state_of(request).in_pool(_searcher(request).read, name, longest)
    except RefsegError as error:
        raise ServeError("not_found", str(error)) from error
    if found is None:
        raise ServeError("not_found", "no recent search found such a picture")
    data, (width, height) = found
    headers = {"Cache-Control": "private, max-age=3600", "X-Picture-Size": f"{width}x{height}"}
    return Response(data, media_type="image/jpeg", headers=headers)


def _searcher(request: Request) -> Searcher:
    state = state_of(request)
    state.check_ready()
    if state.searcher is None:
        raise ServeError("not_found", "this server has no index; start it with --index")
    return state.searcher
