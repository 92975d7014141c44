"""Import and export for administrators in a browser; the command line does the same without limits of size."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal, no_type_check

from fastapi import File, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse
from sqlalchemy.orm import Session
from starlette.background import BackgroundTask

from refseg.apps.annotate.api import api_router, models, responses
from refseg.apps.annotate.api.models import ResponseModel, respond
from refseg.apps.annotate.auth.access import Administrator, GameDep, refuse
from refseg.apps.annotate.auth.audit import record
from refseg.apps.annotate.database.tables import GameSample
from refseg.apps.annotate.services.card import card_markdown, make_card
from refseg.apps.annotate.services.disk import check_room, refusal_of
from refseg.apps.annotate.services.exporting import CLOSED, export_archive
from refseg.apps.annotate.services.importing import ImportResult, import_source
from refseg.apps.annotate.services.seen import note_all_seen
from refseg.apps.annotate.services.uploads import save_annotations, unpack_pictures
from refseg.errors import RefsegError

router = api_router("data sets")

_SHOWN = 200


class ImportReport(ResponseModel):
    """What an import brought."""

    pictures: int
    objects: int
    sentences: int
    plain: int
    """Pictures without masks among them: they wait for editors."""
    problems: list[str]


@router.post("/admin/import", response_model=ImportReport)
@no_type_check  # FastAPI describes the files by its own class, and hands over the one below it
def import_upload(
    request: Request,
    game: GameDep,
    person: Administrator,
    pictures: Annotated[UploadFile, File(description="a .zip file of the pictures")],
    annotations: Annotated[
        UploadFile | None, File(description="a COCO-style .json file; none: masks are made here")
    ] = None,
    project: Annotated[str, Form(max_length=60)] = "",
    split: Annotated[str, Form(max_length=40, pattern=r"^[A-Za-z0-9_.-]+$")] = "train",
) -> Any:
    """Import pictures, with a COCO-style file of their objects or without."""
    with tempfile.TemporaryDirectory(dir=game.settings.data, prefix="upload-") as folder:
        home = Path(folder)
        try:
            images = home / "images"
            given = annotations is not None and bool(annotations.filename)
            source = save_annotations(annotations.file, home / "instances.json") if given else images
            unpack_pictures(pictures.file, images, game.settings)
            brought = import_source(
                game, source, images=images if given else None, split=split, actor=person.id, project=project or None
            )
        except (RefsegError, zipfile.BadZipFile) as error:
            message = str(error).replace(str(home), "upload")
            wrong = refusal_of(error, "invalid", message, "annotations")
            if wrong.code == "disk_full":
                raise wrong from None
            raise refuse(request, "bad_upload", wrong, person.id) from None
        problems = [str(problem).replace(str(home), "upload") for problem in brought.problems[:_SHOWN]]
    return respond(game, ImportReport, {**_counts(brought), "problems": problems})


def _counts(brought: ImportResult) -> dict[str, int]:
    return {name: getattr(brought, name) for name in ("pictures", "objects", "sentences", "plain")}


@router.get("/admin/card")
def card(game: GameDep, person: Administrator, split: models.SplitQuery = None) -> dict[str, Any]:
    """The data card of an export made now, with its text."""
    with game.database.read() as session:
        numbers = make_card(session, game, split)
    return {**numbers, "markdown": card_markdown(numbers)}


@router.get(
    "/admin/export",
    response_class=FileResponse,
    responses={200: {"content": {"application/zip": {}}, "description": "the archive"}, **responses(409)},
)
def download(
    game: GameDep,
    person: Administrator,
    format: Annotated[Literal["grefcoco", "refcoco", "jsonl"], Query()] = "grefcoco",
    split: models.SplitQuery = None,
    verdicts: Annotated[bool, Query()] = False,
) -> FileResponse:
    """The accepted samples as a .zip file; with `verdicts` also the others that are closed, and all answers. Whoever
    asks is not given them to validate when they are reopened."""
    check_room(game.settings)
    known = GameSample.state.in_(CLOSED if verdicts else ("accepted",))
    folder = Path(tempfile.mkdtemp(dir=game.settings.data, prefix="export-"))
    try:
        count = export_archive(game, folder / "export.zip", format, split, verdicts)
    except RefsegError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise refusal_of(error, "not_allowed") from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    details = {"format": format, "split": split, "sentences": count}

    def keep(session: Session) -> None:
        record(session, game, person.id, "data", None, "export", details=details)
        note_all_seen(session, game, person.id, known)

    game.database.write(keep)
    return FileResponse(
        folder / "export.zip",
        media_type="application/zip",
        filename=f"{format}.zip",
        background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True),
    )
