"""Files: the game's are its own, for its owner alone, and pictures say nothing but what is seen."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from sqlalchemy import select

from refseg.apps.annotate.database.tables import Picture
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.exporting import export
from refseg.apps.annotate.services.importing import import_source
from refseg.apps.annotate.services.metadata import stripped
from refseg.apps.annotate.services.pictures import picture_path
from refseg.apps.annotate.settings import Settings
from tests.apps.annotate.test_data_sets import coco_file
from tests.support.small_games import SIZE, make_game, open_game, play

SECRET = b"Ada's camera 52.5N"


def exif_of(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = SECRET.decode(), orientation
    exif.get_ifd(0x8825)[1], exif.get_ifd(0x8825)[2] = "N", (52.0, 30.0, 0.0)
    return exif


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 255, (*SIZE, 3), dtype=np.uint8))


def jpeg(**more: object) -> bytes:
    packed = io.BytesIO()
    picture().save(packed, "JPEG", exif=exif_of(), comment=SECRET, xmp=SECRET, icc_profile=b"colours" * 9, **more)
    return packed.getvalue() + b"\xff\xd8 a preview, " + SECRET


def png() -> bytes:
    packed, words = io.BytesIO(), PngImagePlugin.PngInfo()
    words.add_text("Author", SECRET.decode())
    words.add_itxt("XML:com.adobe.xmp", SECRET.decode(), zip=False)
    picture().save(packed, "PNG", exif=exif_of(), pnginfo=words)
    return packed.getvalue() + SECRET


def webp(**more: object) -> bytes:
    packed = io.BytesIO()
    picture().save(packed, "WEBP", exif=exif_of().tobytes(), xmp=SECRET, **more)
    return packed.getvalue()


def gif() -> bytes:
    packed = io.BytesIO()
    frames = [picture().convert("P"), picture().rotate(180).convert("P")]
    frames[0].save(packed, "GIF", save_all=True, append_images=frames[1:], loop=3, comment=SECRET)
    return packed.getvalue()


KINDS: dict[str, Callable[[], bytes]] = {
    "jpg": jpeg, "progressive.jpg": lambda: jpeg(progressive=True), "png": png, "webp": webp,
    "lossless.webp": lambda: webp(lossless=True), "gif": gif,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_picture_is_left(kind: str) -> None:
    content = KINDS[kind]()
    assert SECRET in content
    bare = stripped(content)
    assert bare is not None
    assert SECRET not in bare
    assert b"Exif" not in bare
    assert b"EXIF" not in bare
    assert stripped(bare) == bare
    with Image.open(io.BytesIO(content)) as before, Image.open(io.BytesIO(bare)) as after:
        assert after.format == before.format
        assert not after.getexif()
        assert after.info.get("icc_profile") == before.info.get("icc_profile")
        assert getattr(after, "n_frames", 1) == getattr(before, "n_frames", 1)
        for frame in range(getattr(after, "n_frames", 1)):
            before.seek(frame)
            after.seek(frame)
            assert np.array_equal(np.asarray(before.convert("RGB")), np.asarray(after.convert("RGB")))


def test_files_that_are_cut_short_are_not_stripped() -> None:
    for make in KINDS.values():
        content = make()
        for length in range(0, min(len(content) - len(SECRET), 400), 7):
            assert stripped(content[:length]) is None or length > 390, "no exception, and nothing made up"
    assert stripped(b"") is None
    assert stripped(b"BM not one of these") is None


def imported(folder: Path, name: str, content: bytes, **more: bool) -> tuple[Game, Path, Path]:
    source = coco_file(folder / "coco")
    text = source.read_text().replace("1.jpg", name)
    source.write_text(text)
    given = folder / "coco" / name
    given.write_bytes(content)
    game = open_game(Settings(folder / "game"))
    import_source(game, source, **more)
    with game.database.read() as session:
        row = session.scalars(select(Picture).where(Picture.number == 1)).one()
    return game, given, picture_path(game.settings, row)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_place_and_camera_stay_outside(tmp_path: Path, kind: str) -> None:
    game, given, stored = imported(tmp_path, f"one.{kind}", KINDS[kind]())
    assert stored.suffix == f".{kind}"
    assert SECRET not in stored.read_bytes()
    with Image.open(given) as before, Image.open(stored) as after:
        assert np.array_equal(np.asarray(before.convert("RGB")), np.asarray(after.convert("RGB")))
    play(game, 4)
    export(game, tmp_path / "out", "grefcoco")
    assert not any(SECRET in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    game.database.close()


def test_a_turned_picture_keeps_nothing_either(tmp_path: Path) -> None:
    packed = io.BytesIO()
    picture().transpose(Image.Transpose.ROTATE_90).save(packed, "JPEG", exif=exif_of(6))
    game, _, stored = imported(tmp_path, "one.jpg", packed.getvalue())
    assert stored.suffix == ".png"
    assert SECRET not in stored.read_bytes()
    with Image.open(stored) as after:
        assert not after.getexif()
    game.database.close()


def test_metadata_can_be_kept(tmp_path: Path) -> None:
    game, given, stored = imported(tmp_path, "one.jpg", jpeg(), keep_metadata=True)
    assert stored.read_bytes() == given.read_bytes()
    game.database.close()


@pytest.mark.parametrize("keep", [False, True])
def test_what_happens_to_the_original_does_not_reach_the_game(tmp_path: Path, keep: bool) -> None:
    game, given, stored = imported(tmp_path, "one.jpg", jpeg(), keep_metadata=keep)
    play(game, 4)
    export(game, tmp_path / "out", "grefcoco")
    exported = tmp_path / "out" / "images" / "train2014" / stored.name
    content = stored.read_bytes()
    with given.open("r+b") as handle:
        handle.truncate(3)
    assert stored.read_bytes() == content
    assert exported.read_bytes() == content
    with exported.open("r+b") as handle:
        handle.truncate(3)
    assert stored.read_bytes() == content
    game.database.close()


def test_the_same_picture_comes_back_as_the_same(tmp_path: Path) -> None:
    game, _, _ = imported(tmp_path, "one.jpg", jpeg())
    play(game, 4)
    export(game, tmp_path / "out", "grefcoco")
    again = import_source(game, tmp_path / "out")
    assert again.pictures == 0
    assert {problem.kind for problem in again.problems} == {"known_picture"}
    game.database.close()


def test_others_cannot_read_the_game(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        game = make_game(tmp_path / "fresh")
        game.database.close()
        opened = Game.open(Settings(tmp_path / "new"))
        opened.settings.secret()
        opened.database.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    for path in (tmp_path / "new").iterdir():
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_a_game_that_others_could_read_is_closed(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game")
    game.database.close()
    (tmp_path / "game").chmod(0o755)
    (tmp_path / "game" / "game.db").chmod(0o644)
    opened = Game.open(Settings(tmp_path / "game"))
    opened.database.close()
    assert stat.S_IMODE((tmp_path / "game").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "game" / "game.db").stat().st_mode) == 0o600


def test_a_folder_with_other_things_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    (tmp_path / "shared" / "notes.txt").write_text("others read this")
    opened = Game.open(Settings(tmp_path / "shared"))
    opened.database.close()
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "shared" / "game.db").stat().st_mode) == 0o600
