"""Instances over another model's proposals: the chooser's reading, on things of any name.

    picture -> InstanceProposer.encode_picture ----------.
    expression -> ask: names ("zebra"), phrases of them -+-> propose: boxes, scores, masks of each name
        -> one candidate a thing, with a score of each name -> Chooser -> masks of what is chosen

The detector of `Instances` is not used; its mask head makes masks of boxes that come without one. Tensors and their
names are those of `Instances`, so that a chooser trained over a proposer is saved as, and loaded into, that system.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn

from refseg.encoders.vision.proposers import InstanceProposer
from refseg.errors import RefsegError
from refseg.models.instances.candidates import Crop, Gathered, Things, gather, things_of
from refseg.models.instances.chooser import Candidates, Choice, Chooser
from refseg.models.instances.classes import CLASSES
from refseg.models.instances.concepts import Asked, Named, ask, exclusive
from refseg.models.instances.evidence import lay_out
from refseg.models.instances.expression import (
    Phrase,
    heard,
)
from refseg.models.instances.losses import referring_losses
from refseg.models.instances.model import BYTES, Instances, choice_maps, is_spelled, letters_of, picture_of, remarks_of
from refseg.models.instances.proposals import colour_shares
from refseg.models.instances.types import COLOURS
from refseg.nn.boxes import OUTSIDE, centred, pixels_of
from refseg.types import Batch, InstancePredictions, NamedMap, Output, Panels, Targets, TextFeatures, Tokens

__all__ = ["AskedFeatures", "ProposedInstances", "ProposedState"]

SIZE = 1344
"""Pictures of a longer side are made smaller before masks are pasted; a proposer sees them as they are."""
LEAST_COVERED = 0.05
"""Share of a box from which the mask head's mask of it counts."""


@dataclass(frozen=True)
class AskedFeatures(TextFeatures):
    """Text features with the expressions and what is asked for each."""

    asked: tuple[Asked, ...] = ()

    def select(self, rows: Int[Tensor, " S"]) -> AskedFeatures:
        """The features of the expressions with these numbers, which may repeat."""
        chosen = super().select(rows)
        asked = tuple(self.asked[number] for number in rows.tolist())
        return AskedFeatures(chosen.words, chosen.sentence, chosen.mask, asked=asked)


@dataclass
class ProposedState:
    """One image for all its expressions; what was found of a name is kept."""

    image: UInt8[np.ndarray, "h w 3"]
    """Without padding, at the network's input size."""
    content: tuple[int, int, int, int]
    """Rows and columns (top, left, bottom, right) of the input that hold it."""
    input_size: tuple[int, int]
    encoded: object
    """As the proposer made it, of a picture of `picture_size` (height, width)."""
    picture_size: tuple[int, int]
    found: dict[str, Things] = field(default_factory=dict)
    made: dict[tuple[float, ...], Float[np.ndarray, "h w"]] = field(default_factory=dict)
    """Mask logits of boxes that came without a mask."""


class ProposedInstances(nn.Module):
    """The system `instances` over a proposer."""

    late_fusion = True

    def __init__(self, base: Instances, proposer: InstanceProposer, make_masks: bool = True) -> None:
        """
        Args:
            base: gives chooser, language, and the mask head.
            make_masks: whether boxes without a mask get one from the mask head; otherwise the box is the mask.
        """
        super().__init__()
        self.config = replace(base.config, input=replace(base.config.input, resize="shrink", size=SIZE, divisor=1))
        self.needs = replace(self.config.needs, reads_pictures=True)
        self.make_masks = make_masks
        self.proposer = base.proposer
        self.text = base.text
        self.anchors = base.anchors
        self.chooser = base.chooser
        # Not a part: it is frozen, belongs to its own folder, and is no tensor of this system.
        self.__dict__["instances_of"] = proposer

    instances_of: InstanceProposer

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ProposedInstances:
        """Moves the proposer alone: reading and choosing are small, and stay on the CPU in 32 bits."""
        if isinstance(self.instances_of, nn.Module):
            self.instances_of._apply(fn, recurse)
        return self

    def forward(self, batch: Batch) -> Output:
        """The answers to B expressions, see `decode`."""
        state = self.encode_image(batch.images, batch.pixel_mask)
        return self.decode(state, self.encode_text(batch.tokens), batch.image_index)

    def encode_image(
        self,
        images: Float[Tensor, "N 3 H W"],
        pixel_mask: Bool[Tensor, "N H W"],
        pictures: Sequence[Image.Image] | None = None,
    ) -> list[ProposedState]:
        """N images; `pictures` are what they were made of, which the proposer sees instead where they are given."""
        states = []
        for index, (image, mask) in enumerate(zip(images, pixel_mask, strict=True)):
            pixels, content = picture_of(image, mask, self.config.input)
            picture = Image.fromarray(pixels) if pictures is None else pictures[index]
            with torch.no_grad():
                encoded = self.instances_of.encode_picture(picture)
            sizes = (image.shape[1], image.shape[2]), (picture.height, picture.width)
            states.append(ProposedState(pixels, content, sizes[0], encoded, sizes[1]))
        return states

    def encode_text(self, tokens: Tokens) -> AskedFeatures:
        """Expressions, parsed, with the names to ask."""
        categories = tuple(getattr(self.instances_of, "categories", ()))
        asked = tuple(ask(text, self.chooser.means, is_spelled, categories) for text in BYTES.decode(tokens))
        return AskedFeatures(*letters_of(tokens), tokens.mask, asked=asked)

    def decode(
        self, state: Sequence[ProposedState], text: TextFeatures, image_index: Int[Tensor, " B"] | None = None
    ) -> Output:
        """The answers to B expressions, as those of `Instances`; `remarks` begin with what was asked and found.

        `auxiliary` holds, an entry an expression: `choices` (`Choice`), `boxes` (K, 4) of all candidates in pixels of
        the input, and `asked` ({name: how many were found}).
        """
        if not isinstance(text, AskedFeatures):
            raise RefsegError("a model over proposals decodes what its own encode_text made")
        index = range(len(text.asked)) if image_index is None else image_index.tolist()
        pairs = [(state[number], asked) for number, asked in zip(index, text.asked, strict=True)]
        for image in state:
            self._propose(image, [name for other, asked in pairs if other is image for name in asked.names])
        size = state[0].input_size
        masks, no_target, choices, all_boxes, counts, remarks, seen, used = [], [], [], [], [], [], [], []
        boxes, scores, mask_logits, labels = [], [], [], []
        for image, asked in pairs:
            gathered = self.gathered(image, asked)
            choice = self.choose(image, asked, gathered)
            seen.append(gathered)
            chosen = _chosen(choice, self.config.max_masks)
            logits = torch.full((len(chosen), *size), OUTSIDE)
            top, left, bottom, right = image.content
            for place, row in enumerate(chosen):
                logits[place, top:bottom, left:right] = self._mask(image, gathered.boxes[row], gathered.crops[row])
            masks.append(logits.amax(0) if len(chosen) else logits.new_full(size, OUTSIDE))
            rows = torch.tensor(chosen, dtype=torch.long)
            boxes.append(centred(gathered.boxes[rows]))
            scores.append(gathered.scores[rows].amax(1) if len(chosen) else torch.zeros(0))
            mask_logits.append(logits)
            labels.append([gathered.labels[row] for row in chosen])
            no_target.append(choice.no_target_logit)
            choices.append(choice)
            all_boxes.append(pixels_of(gathered.boxes, image.content))
            counts.append({name: len(image.found[name]) for name in asked.names})
            said = ", ".join(f"{name} ({count} found)" for name, count in counts[-1].items())
            words = heard(asked.expression, self._named(asked).meaning)
            remarks.append([f"asked for: {said}", *remarks_of(asked.expression, choice, words)])
            used.append(list(words.used))
        return Output(
            torch.stack(masks),
            torch.stack(no_target),
            auxiliary={"choices": choices, "boxes": all_boxes, "asked": counts},
            instances=InstancePredictions(boxes, scores, mask_logits, labels),
            remarks=remarks,
            used_words=used,
            maps={
                "proposals": _scored(seen),
                **choice_maps(choices, [g.boxes for g in seen], [g.labels for g in seen]),
            },
        )

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Those of `Instances`; a candidate is a target's if their boxes have an IoU of .5."""
        return referring_losses(self.chooser, self.config.losses, output, targets)

    def gathered(self, image: ProposedState, asked: Asked) -> Gathered:
        """The things of all names of an expression."""
        means = self.chooser.means
        self._propose(image, asked.names)
        found = [image.found[name] for name in asked.names]
        return gather(asked.names, found, lambda one, other: exclusive(one, other, means))

    def choose(self, image: ProposedState, asked: Asked, gathered: Gathered) -> Choice:
        """What an expression says of them."""
        chances = torch.cat([torch.zeros(len(gathered.boxes), len(CLASSES)), gathered.scores], dim=1)
        layout = lay_out(gathered.boxes, image.picture_size)
        candidates = Candidates(chances, self._colours(image, asked, gathered), replace(layout, iou=gathered.iou))
        chooser = self._named(asked)
        least = getattr(self.instances_of, "least_score", None)
        if least is not None:
            chooser.config = replace(chooser.config, least_score=least)
        choice: Choice = chooser(asked.expression, candidates)
        # What was asked and not found is said already.
        return choice if len(gathered.boxes) else replace(choice, reasons=[])

    def _named(self, asked: Asked) -> Chooser:
        """The chooser with the names that were asked as its nouns. A copy shares the weights: several threads may ask
        at once."""
        chooser = copy.copy(self.chooser)
        chooser.means = Named.of(asked.names, self.chooser.means)
        return chooser

    def _propose(self, image: ProposedState, names: Sequence[str]) -> None:
        missing = [name for name in dict.fromkeys(names) if name not in image.found]
        if not missing:
            return
        with torch.no_grad():
            answers = self.instances_of.propose(image.encoded, missing)
        if len(answers) != len(missing):
            raise RefsegError(f"the proposer gave {len(answers)} entries for {len(missing)} names")
        size = (image.image.shape[0], image.image.shape[1])
        for name, detections in zip(missing, answers, strict=True):
            image.found[name] = things_of(detections, name, image.picture_size, size)

    def _mask(self, image: ProposedState, box: Float[Tensor, " 4"], crop: Crop | None) -> Float[Tensor, "h w"]:
        """Mask logits of one thing at the image's size."""
        size = (image.image.shape[0], image.image.shape[1])
        if crop is not None:
            return crop.logits(size, OUTSIDE)
        key = tuple(box.tolist())
        if key not in image.made:
            image.made[key] = self._made(image, box[None])[0]
        return torch.from_numpy(image.made[key])

    def _made(self, image: ProposedState, boxes: Float[Tensor, "k 4"]) -> Float[np.ndarray, "k h w"]:
        """Mask logits of boxes: the mask head's, cut at the box; the box itself without `make_masks`, or where the head
        finds nothing in it, since what was detected is there."""
        height, width = image.image.shape[:2]
        rows = (torch.arange(height) + 0.5) / height
        columns = (torch.arange(width) + 0.5) / width
        x0, y0, x1, y1 = (side[:, None] for side in boxes.unbind(1))
        inside = ((rows >= y0) & (rows <= y1))[:, :, None] & ((columns >= x0) & (columns <= x1))[:, None, :]
        whole = np.where(inside.numpy(), -OUTSIDE, OUTSIDE).astype(np.float32)
        if not self.make_masks:
            return whole
        logits = np.where(inside.numpy(), self.proposer.mask_logits(image.image, boxes), OUTSIDE).astype(np.float32)
        covered = (logits > 0).sum((1, 2)) / np.maximum(inside.numpy().sum((1, 2)), 1)
        return np.where((covered < LEAST_COVERED)[:, None, None], whole, logits)

    def _colours(self, image: ProposedState, asked: Asked, gathered: Gathered) -> Float[Tensor, "K 11"]:
        """Shares of colours; zeros where no colour is said."""
        if not len(gathered.boxes) or not any(_says_colour(phrase) for phrase in asked.expression.phrases):
            return torch.zeros(len(gathered.boxes), len(COLOURS))
        size = (image.image.shape[0], image.image.shape[1])
        samples = []
        for box, crop in zip(gathered.boxes, gathered.crops, strict=True):
            if crop is None:
                logits = self._mask(image, box, None).numpy()
                crop = Crop(0, 0, (255 / (1 + np.exp(-logits))).astype(np.uint8))
            samples.append(crop.sampled(box, size))
        return colour_shares(image.image, gathered.boxes, torch.stack(samples))


def _scored(seen: Sequence[Gathered]) -> NamedMap:
    """What was found of all names, with its scores."""

    def read(index: int) -> Panels:
        found = seen[index]
        scores = found.scores.amax(1) if len(found.boxes) else torch.zeros(0)
        return Panels(scores, found.labels, scores, centred(found.boxes))

    return NamedMap("what was found of the names that were asked", "boxes", read, scale="probability")


def _chosen(choice: Choice, most: int) -> list[int]:
    """Candidates with logits above 0, best first."""
    order = choice.logits.detach().argsort(descending=True, stable=True).tolist()
    return [row for row in order if float(choice.logits[row].detach()) > 0][:most]


def _says_colour(phrase: Phrase) -> bool:
    inner = [anchor for link in phrase.relations for anchor in link.anchors]
    inner += [] if phrase.excluded is None else [phrase.excluded]
    return bool(phrase.colours) or any(_says_colour(part) for part in inner)
