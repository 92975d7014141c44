"""One command from data to weights: every stage, resumed, with what is held out left out."""

import io
import json
from functools import partial

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from refseg.encoders.vision import mobilenet, nanodet_weights
from refseg.encoders.vision.mobilenet import DeepLabTrunk
from refseg.encoders.vision.nanodet import NanoDet, NanoDetConfig
from refseg.errors import CheckpointError, ConfigError, DataError
from refseg.inference.predictor import load
from refseg.models.instances.config import DetectorConfig, ProposalConfig
from refseg.models.instances.evidence import RULES
from refseg.models.instances.masks import MaskDecoderConfig
from refseg.training.instances.assemble import assemble
from refseg.training.instances.cache import ProposalCache
from refseg.training.instances.recipe import (
    chooser_weights,
    load_proposer,
    read_recipe,
    read_sources,
    run_recipe,
    train_referring,
)
from tests.support.instance_pictures import two_discs

TINY = DetectorConfig(
    NanoDetConfig(stem_width=24, widths=(8, 12, 16), depths=(1, 1, 1), pyramid=96, side=64),
    ProposalConfig(min_score=0.0, most=5),
    MaskDecoderConfig(coarse=16, middle=8, fine=4),
)
TEXT = """
detector_weights = "nanodet.safetensors"
trunk_weights = "deeplab.safetensors"
without = ["apart/instances.json"]
[[sources]]
name = "photos"
file = "photos/instances.json"
images = "photos/images"
[[sources]]
name = "coco"
file = "coco/instances.json"
images = "coco/images"
split_field = "split2017"
[detector]
steps = 1
batch_size = 2
side = 64
shares = {photos = 2.0}
[masks]
steps = 1
batch_size = 2
crop = 33
fine_share = 0.0
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Data and published tensors of tiny networks."""
    folder = tmp_path_factory.mktemp("recipe")
    two_discs(folder / "photos", 3, extra={"coco_id": 7})
    two_discs(folder / "coco", 2, extra={"coco_id": 7, "split2017": "val"})
    two_discs(folder / "apart", 1)
    torch.manual_seed(0)
    detector = [f"{each}.conv" for each in nanodet_weights._execution_order(TINY.detector)]
    for name, module, order in (
        ("nanodet", NanoDet(TINY.detector), detector),
        ("deeplab", DeepLabTrunk(), list(mobilenet._deeplab_order())),
    ):
        digits, infix = (3, ".conv") if name == "nanodet" else (2, "")
        state = {
            f"{number:0{digits}d}{infix}.{what}": module.state_dict()[f"{each}.{what}"].clone()
            for number, each in enumerate(order)
            for what in ("weight", "bias")
        }
        if name == "deeplab":
            state |= {"54.weight": torch.zeros(21, 256, 1, 1), "54.bias": torch.zeros(21)}
        save_file(state, folder / f"{name}.safetensors")
    (folder / "recipe.toml").write_text(TEXT)
    return folder


def test_all_stages_run_once(home, tmp_path):
    # Photograph 7 is held out in coco, so that its copies in photos are too; what is left is made trainable here.
    text = TEXT.replace('split_field = "split2017"', "").replace('without = ["apart/instances.json"]', "")
    (home / "all.toml").write_text(text)
    recipe = read_recipe(home / "all.toml")
    said = io.StringIO()
    run = partial(run_recipe, recipe, tmp_path, config=TINY, console=Console(file=said, width=200))
    seen = []

    def referring(state):
        seen.append(state)
        with ProposalCache(state.cache) as cache:
            assert cache.keys() == {picture.key for picture in state.pictures}
        (tmp_path / "referring.bin").write_bytes(b"x" * 100_000)
        return [tmp_path / "referring.bin"]

    state = run(referring=referring)
    assert seen[0].out == tmp_path
    assert len(state.pictures) == 5
    for name in ("detector", "masks", "cache", "referring"):
        assert f"\n{name}: " in "\n" + said.getvalue()
    assert "referring: 0.0 s, 0.1 MB" in said.getvalue()
    before = (tmp_path / "masks.safetensors").read_bytes()
    said.truncate(0)
    run()
    assert said.getvalue().count("is there already") == 2
    assert (tmp_path / "masks.safetensors").read_bytes() == before
    image = state.pictures[0].image()
    again = load_proposer(tmp_path, TINY).propose(image)
    torch.testing.assert_close(again.boxes, state.proposer.propose(image).boxes)


def test_the_chooser_is_trained_from_what_is_cached(home, tmp_path):
    """Sentences of every picture, expanded once, weights that are the rules' or better; a second run does nothing."""
    text = TEXT.replace('split_field = "split2017"', "").replace('without = ["apart/instances.json"]', "")
    (home / "spoken.toml").write_text(text + "[referring]\nsteps = 4\nlook_every = 2\nheld_back = 0.4\nper_image = 2\n")
    recipe, said = read_recipe(home / "spoken.toml"), io.StringIO()
    console = Console(file=said, width=200)

    def referring(state):
        return train_referring(state, recipe, None, console)

    run_recipe(recipe, tmp_path, config=TINY, console=console, referring=referring)
    report = json.loads((tmp_path / "chooser.json").read_text())
    assert report["sentences"] > 0
    assert report["weights"].keys() == RULES.keys()
    weights = chooser_weights(tmp_path / "chooser.safetensors")
    if not report["trained"]:
        assert torch.equal(weights, torch.tensor(list(RULES.values())))
    expanded = (tmp_path / "sentences.sqlite").read_bytes()
    run_recipe(recipe, tmp_path, config=TINY, console=console, referring=referring)
    assert "chooser.safetensors is there already" in said.getvalue()
    (tmp_path / "chooser.safetensors").unlink()
    run_recipe(recipe, tmp_path, config=TINY, console=console, referring=referring)
    assert torch.equal(chooser_weights(tmp_path / "chooser.safetensors"), weights)
    assert (tmp_path / "sentences.sqlite").read_bytes() == expanded
    folder = assemble(tmp_path / "model", load_proposer(tmp_path, TINY), None, weights=weights)
    assert torch.allclose(load(str(folder)).model.chooser.weights, weights, rtol=2**-10)


def test_a_photograph_held_out_once_is_held_out_everywhere(home):
    pictures = read_sources(read_recipe(home / "recipe.toml"))
    assert [picture.split for picture in pictures] == ["without"] * 3 + ["val2017"] * 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("trunk_weights", "trunk", "trunk_weights"),
        ('trunk_weights = "deeplab.safetensors"', "", "trunk_weights is missing"),
        ("steps = 1", "stepps = 1", "stepps"),
        ("crop = 33", "crop = 34", "crop=34"),
        ('name = "photos"', 'nam = "photos"', "nam"),
    ],
)
def test_a_slip_in_the_recipe_is_named(home, old, new, said):
    (home / "slip.toml").write_text(TEXT.replace(old, new))
    with pytest.raises(ConfigError, match=said):
        read_recipe(home / "slip.toml")


def test_missing_and_damaged_weights_are_named(home, tmp_path):
    (home / "lost.toml").write_text(TEXT.replace('"nanodet.', '"lost.').replace('split_field = "split2017"', ""))
    with pytest.raises(CheckpointError, match=r"lost\.safetensors"):
        run_recipe(read_recipe(home / "lost.toml"), tmp_path, config=TINY, console=Console(file=io.StringIO()))
    (tmp_path / "detector.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=r"detector\.safetensors"):
        load_proposer(tmp_path, TINY)


def test_nothing_to_learn_from_is_said(home, tmp_path):
    with pytest.raises(DataError, match="no picture to learn from"):
        run_recipe(read_recipe(home / "recipe.toml"), tmp_path, config=TINY, console=Console(file=io.StringIO()))
