"""An administrator's way: import, people, overview, looking through, discarding and reopening, export."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from sqlalchemy import select

from refseg.apps.annotate.database.tables import GameSample
from refseg.data import open_dataset


def accepted(play, text, count):
    anna = play("anna", "/write").ready()
    ids = anna.objects[:count]
    anna.write(text, ids).submit(anyway=True)
    play("viktor", "/validate").asked(text).answer(ids).noted("accepted")
    return ids


def test_export_downloads_what_opens_as_a_data_set(play, server, tmp_path):
    accepted(play, "both of the things picked", 2)
    ada = play("ada", "/admin/data")
    expect(ada.page.locator("#card-text")).not_to_be_empty()
    with ada.page.expect_download() as download:
        ada.page.get_by_role("button", name="Download").click()
    download.value.save_as(tmp_path / "export.zip")
    with zipfile.ZipFile(tmp_path / "export.zip") as archive:
        archive.extractall(tmp_path / "export")
    with server.game.database.read() as session:
        split = session.scalars(select(GameSample.split)).one()
    folder = next(path.parent for path in (tmp_path / "export").rglob("instances.json"))
    dataset = open_dataset(folder.parent, folder.name, split)
    assert [sample.text for sample in dataset] == ["both of the things picked"]
    assert not dataset.problems
    assert dataset[0].mask().any()


def test_looking_through_discarding_and_reopening(play, server):
    accepted(play, "two that are accepted", 2)
    ada = play("ada", "/admin/samples")
    rows = ada.page.locator("#rows tr")
    expect(rows).to_have_count(1)
    ada.page.get_by_label("State").select_option("waiting")
    expect(rows).to_contain_text("No sample fits these filters")
    assert "state=waiting" in ada.page.url
    ada.page.get_by_label("State").select_option("accepted")
    expect(rows).to_contain_text("two that are accepted")
    ada.page.get_by_role("link", name="two that are accepted").click()
    expect(ada.page.locator("#state")).to_have_text("accepted")
    assert len(ada.selected) == 2
    ada.page.get_by_role("button", name="Discard").click()
    dialog = ada.page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("the mask is broken")
    dialog.get_by_role("button", name="Discard").click()
    expect(ada.page.locator("#state")).to_have_text("discarded")
    expect(ada.page.locator("#history")).to_contain_text("the mask is broken")
    ada.page.get_by_role("button", name="Reopen").click()
    dialog.get_by_label("Reason").fill("it was not")
    dialog.get_by_role("button", name="Reopen").click()
    expect(ada.page.locator("#state")).to_have_text("waiting")
    play("vera", "/validate").asked("two that are accepted")


def test_people_are_added_changed_and_closed(play, server, browser):
    ada = play("ada", "/admin/people")
    ada.page.get_by_role("button", name="Add a person").click()
    dialog = ada.page.get_by_role("dialog", name="Add a person")
    dialog.get_by_label("Name").fill("mei")
    dialog.get_by_label("Password").fill("short")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.locator(".problem")).to_be_visible()
    dialog.get_by_label("Password").fill("correct horse 7")
    dialog.get_by_label("validator").uncheck()
    dialog.get_by_role("button", name="Save").click()
    expect(ada.page.get_by_role("row", name="mei")).to_contain_text("annotator")
    mei = play("mei", "/write").ready()
    expect(mei.page.get_by_role("navigation", name="Pages").get_by_role("link")).to_have_text(
        ["Write", "Mine", "Leaderboard", "Help"]
    )
    mei.go("/admin")
    expect(mei.page.get_by_role("heading", name="Not for this account")).to_be_visible()
    ada.page.get_by_role("button", name="Change mei").click()
    closing = ada.page.get_by_role("dialog", name="mei")
    closing.get_by_label("may log in").uncheck()
    closing.get_by_role("button", name="Save").click()
    expect(ada.page.get_by_role("row", name="mei")).to_contain_text("closed")


@pytest.mark.parametrize("name", ["street.png", "straße <b>1</b>.png"])
def test_import_in_the_browser(play, server, tmp_path, name):
    picture = io.BytesIO()
    Image.fromarray(np.full((60, 90, 3), 128, np.uint8)).save(picture, "PNG")
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.writestr(name, picture.getvalue())
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 20], "area": 600, "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": name, "width": 90, "height": 60}],
        "annotations": [{**annotation, "segmentation": [[10, 10, 40, 10, 40, 30, 10, 30]]}],
        "categories": [{"id": 1, "name": "car"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    ada = play("ada", "/admin/data")
    ada.page.get_by_label("Objects: a COCO-style file").set_input_files(tmp_path / "instances.json")
    ada.page.get_by_label("Pictures, in one archive").set_input_files(tmp_path / "pictures.zip")
    ada.page.locator("#split").fill("street")
    ada.page.get_by_role("button", name="Import").click()
    expect(ada.page.locator("#import-result")).to_contain_text("1 picture, 1 object and 0 sentences imported")
    ada.page.locator("#pictures").set_input_files({"name": "x.zip", "mimeType": "application/zip", "buffer": b"no zip"})
    ada.page.get_by_role("button", name="Import").click()
    expect(ada.page.locator("#import-result .problem")).to_be_visible()


def test_overview_counts(play, server):
    accepted(play, "two things for the figures", 2)
    ada = play("ada", "/admin")
    expect(ada.page.locator("#totals")).to_contain_text("accepted1")
    expect(ada.page.locator("#agreement")).to_contain_text("100 %")
    expect(ada.page.locator("#split-rows tr")).not_to_have_count(0)
    expect(ada.page.locator("#days svg rect")).to_have_count(3)
    ada.go("/admin/log")
    expect(ada.page.locator("#rows")).to_contain_text("match")
    ada.page.get_by_role("radio", name="Security").check(force=True)
    expect(ada.page.locator("#rows")).to_contain_text("login")
