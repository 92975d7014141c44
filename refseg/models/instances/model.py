r"""Instances: a detector proposes things, an exact reading of the expression chooses among them.

    image -> Proposer: K proposals (box, class probabilities, colours, coarse mask) ------.
    expression -> parse -> Expression -> Lexicon: nouns to class weights (names, MiniLM) --+-> Chooser
        -> one logit a proposal, a no-target logit -> fine masks of what is chosen -> the union of them

Modular after MAttNet (Yu et al., CVPR 2018): what is seen and what is meant are apart. The chooser's weights start at
rules (`evidence.RULES`) and are the only parameters of the referring part; detector, masks and text encoder keep
theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from refseg.encoders.text.minilm import MiniLM, read_minilm
from refseg.encoders.text.tokenizer import ByteTokenizer
from refseg.errors import ConfigError, RefsegError
from refseg.geometry import InputConfig
from refseg.models.instances.chooser import Candidates, Choice, Chooser
from refseg.models.instances.classes import CLASSES
from refseg.models.instances.config import InstancesConfig
from refseg.models.instances.evidence import lay_out
from refseg.models.instances.expression import (
    Expression,
    Heard,
    heard,
    parse,
)
from refseg.models.instances.losses import referring_losses
from refseg.models.instances.nouns import NounAnchors, read_anchors, stored_pieces
from refseg.models.instances.proposals import Proposer
from refseg.models.instances.types import Proposals
from refseg.models.instances.words import Lexicon
from refseg.nn.boxes import OUTSIDE, centred, paste_coarse, pixels_of
from refseg.types import Batch, InstancePredictions, NamedMap, Output, Panels, Targets, TextFeatures, Tokens

__all__ = [
    "ExpressionFeatures",
    "ImageState",
    "Instances",
    "build_instances",
    "choice_maps",
    "is_spelled",
    "letters_of",
    "load_language",
    "picture_of",
    "remarks_of",
]


BYTES = ByteTokenizer()


@dataclass(frozen=True)
class ExpressionFeatures(TextFeatures):
    """Text features with the parsed expressions; `concepts` are each expression's weights of the classes."""

    expressions: tuple[Expression, ...] = ()

    def select(self, rows: Int[Tensor, " S"]) -> ExpressionFeatures:
        """The features of the expressions with these numbers, which may repeat."""
        chosen = super().select(rows)
        return ExpressionFeatures(
            chosen.words,
            chosen.sentence,
            chosen.mask,
            chosen.concepts,
            chosen.word_concepts,
            tuple(self.expressions[number] for number in rows.tolist()),
        )


@dataclass
class ImageState:
    """One image, encoded for all its expressions; fine masks are kept once made."""

    image: UInt8[np.ndarray, "h w 3"]
    """The image without padding, at the network's input size."""
    proposals: Proposals
    candidates: Candidates
    content: tuple[int, int, int, int]
    """Rows and columns (top, left, bottom, right) of the input that hold it."""
    masks: dict[int, Float[np.ndarray, "h w"]] = field(default_factory=dict)
    input_size: tuple[int, int] | None = None
    """Height and width of the input with its padding; None where only `content` is known."""


class Instances(nn.Module):
    """The model; `build_instances` makes its parts."""

    late_fusion = True
    class_names = CLASSES
    """Of `Choice.labels`."""

    def __init__(
        self,
        config: InstancesConfig,
        proposer: Proposer,
        chooser: Chooser,
        encoder: MiniLM | None = None,
        anchors: NounAnchors | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.needs = config.needs
        self.proposer = proposer.requires_grad_(False)
        self.text = encoder
        self.anchors = anchors
        self.chooser = chooser

    def forward(self, batch: Batch) -> Output:
        """The answers to B expressions, see `decode`."""
        state = self.encode_image(batch.images, batch.pixel_mask)
        return self.decode(state, self.encode_text(batch.tokens), batch.image_index)

    def encode_image(self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]) -> list[ImageState]:
        """Proposals of N images."""
        states = []
        for image, mask in zip(images, pixel_mask, strict=True):
            pixels, content = picture_of(image, mask, self.config.input)
            found = self.proposer.propose(pixels)
            # Proposers work in inference mode; the chooser's gradient needs ordinary tensors, which copies are.
            tensors: dict[str, Any] = {k: v.float().clone() for k, v in vars(found).items() if isinstance(v, Tensor)}
            proposals = replace(found, **tensors)
            candidates = Candidates(
                proposals.class_probs, proposals.colours, lay_out(proposals.boxes, proposals.size), proposals.drawn
            )
            size = (image.shape[1], image.shape[2])
            states.append(ImageState(pixels, proposals, candidates, content, input_size=size))
        return states

    def encode_text(self, tokens: Tokens) -> ExpressionFeatures:
        """Expressions, parsed. `concepts` are each expression's class weights; the vectors of
        words and sentence say nothing."""
        expressions = tuple(parse(text, is_spelled) for text in BYTES.decode(tokens))
        weights = torch.stack([self._concepts(expression) for expression in expressions])
        weights = weights.to(tokens.ids.device)
        return ExpressionFeatures(*letters_of(tokens), tokens.mask, concepts=weights, expressions=expressions)

    def decode(
        self, state: Sequence[ImageState], text: TextFeatures, image_index: Int[Tensor, " B"] | None = None
    ) -> Output:
        """The answers to B expressions.

        `mask_logits` have the input's size: the largest of the chosen instances' logits, -10 where none is near.
        `instances` are the chosen proposals with their class names, `remarks` say what was not read or speaks against a
        target, `used_words` what the answer rests on. `auxiliary` holds, an entry an expression: `choices` (`Choice`),
        and `boxes` (K, 4) of all proposals in pixels of the input.
        """
        if not isinstance(text, ExpressionFeatures):
            raise RefsegError("the model `instances` decodes what its own encode_text made")
        index = range(len(text.expressions)) if image_index is None else image_index.tolist()
        height, width = self._input_size(state)
        masks, no_target, choices, all_boxes, labels, remarks, used = [], [], [], [], [], [], []
        boxes, scores, mask_logits = [], [], []
        for number, expression in zip(index, text.expressions, strict=True):
            image = state[number]
            choice = self.chooser(expression, image.candidates)
            chosen = self._chosen(choice)
            logits = self._masks(image, chosen, (height, width))
            masks.append(logits.amax(0) if len(chosen) else logits.new_full((height, width), OUTSIDE))
            boxes.append(centred(image.proposals.boxes[chosen]))
            scores.append(_scores(image.candidates, choice, chosen))
            mask_logits.append(logits)
            no_target.append(choice.no_target_logit)
            choices.append(choice)
            all_boxes.append(pixels_of(image.proposals.boxes, image.content))
            labels.append([CLASSES[int(choice.labels[row])] for row in chosen])
            words = heard(expression, self.chooser.meaning)
            remarks.append(remarks_of(expression, choice, words))
            used.append(list(words.used))
        return Output(
            torch.stack(masks),
            torch.stack(no_target),
            auxiliary={"choices": choices, "boxes": all_boxes},
            instances=InstancePredictions(boxes, scores, mask_logits, labels),
            remarks=remarks,
            used_words=used,
            maps=choice_maps(
                choices,
                [state[number].proposals.boxes for number in index],
                [[CLASSES[label] for label in choice.labels.tolist()] for choice in choices],
            ),
        )

    def choose(self, state: ImageState, text: TextFeatures) -> tuple[list[Choice], list[list[str]]]:
        """What each of B expressions says of one image's proposals, without masks, and remarks as in `decode`; for
        whoever chooses over more than this image (video)."""
        if not isinstance(text, ExpressionFeatures):
            raise RefsegError("the model `instances` decodes what its own encode_text made")
        choices = [self.chooser(expression, state.candidates) for expression in text.expressions]
        remarks = [
            remarks_of(expression, choice, heard(expression, self.chooser.meaning))
            for expression, choice in zip(text.expressions, choices, strict=True)
        ]
        return choices, remarks

    def masks_of(self, state: ImageState, boxes: Float[Tensor, "k 4"]) -> Float[Tensor, "k H W"]:
        """Mask logits at the input's size of any boxes (x0 y0 x1 y1, 0 to 1 of the image), proposed or not."""
        top, left, bottom, right = state.content
        result = torch.full((len(boxes), *self._input_size([state])), OUTSIDE)
        if len(boxes):
            made = self.proposer.mask_logits(state.image, boxes)
            result[:, top:bottom, left:right] = torch.from_numpy(made)
        return result

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """See `referring_losses`."""
        return referring_losses(self.chooser, self.config.losses, output, targets)

    def _input_size(self, state: Sequence[ImageState]) -> tuple[int, int]:
        """Of the whole input, padding too: whoever reads the logits finds a picture's by its geometry in that."""
        divisor = self.config.input.divisor
        sizes = [
            image.input_size or (-(-image.content[2] // divisor) * divisor, -(-image.content[3] // divisor) * divisor)
            for image in state
        ]
        return max(height for height, _ in sizes), max(width for _, width in sizes)

    def _chosen(self, choice: Choice) -> list[int]:
        """Proposals with logits above 0, best first."""
        order = choice.logits.detach().argsort(descending=True, stable=True).tolist()
        return [row for row in order if float(choice.logits[row].detach()) > 0][: self.config.max_masks]

    def _masks(self, image: ImageState, chosen: list[int], size: tuple[int, int]) -> Float[Tensor, "k H W"]:
        """Mask logits of proposals at the input's size."""
        top, left, bottom, right = image.content
        result = torch.full((len(chosen), *size), OUTSIDE)
        if not self.config.fine_masks or self.training:
            for row, index in enumerate(chosen):
                pasted = paste_coarse(
                    image.proposals.mask_logits[index], image.proposals.boxes[index], (bottom - top, right - left)
                )
                result[row, top:bottom, left:right] = pasted
            return result
        missing = [index for index in chosen if index not in image.masks]
        if missing:
            made = self.proposer.mask_logits(image.image, image.proposals.boxes[missing])
            image.masks.update(zip(missing, made, strict=True))
        for row, index in enumerate(chosen):
            result[row, top:bottom, left:right] = torch.from_numpy(image.masks[index])
        return result

    def _concepts(self, expression: Expression) -> Float[Tensor, " A"]:
        found = torch.zeros(len(CLASSES))
        for phrase in expression.phrases:
            if phrase.head:
                found = torch.maximum(found, self.chooser.means(phrase.head).vector())
        return found


def picture_of(
    image: Float[Tensor, "3 H W"], mask: Bool[Tensor, "H W"], config: InputConfig
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[int, int, int, int]]:
    """The image without padding and normalisation, and where it lies in the input."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    mean, std = (image.new_tensor(part).view(3, 1, 1) for part in (config.mean, config.std))
    values = (image * std + mean)[:, top:bottom, left:right].float()
    pixels = values.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(pixels), (top, left, bottom, right)


def letters_of(tokens: Tokens) -> tuple[Float[Tensor, "B L 1"], Float[Tensor, "B 1"]]:
    """What stands for vectors of words and sentence where expressions are parsed: they say nothing."""
    letters = tokens.ids[..., None].float()
    return letters, letters.sum(dim=1)


def is_spelled(word: str) -> bool:
    """Whether a word is spelt as English spells it, as far as the vocabularies here know."""
    return word in read_anchors() or word in stored_pieces().numbers


def choice_maps(
    choices: Sequence[Choice], boxes: Sequence[Tensor], labels: Sequence[Sequence[str]]
) -> dict[str, NamedMap]:
    """Which proposals are chosen, and each one's share of the evidence for the first phrase that the expression has;
    `boxes` are (K, 4) each, x0 y0 x1 y1, 0 to 1 of the image."""

    def read(index: int, evidence: bool) -> Panels:
        choice = choices[index]
        values = choice.evidence[0].softmax(dim=0) if evidence else choice.logits.sigmoid()
        return Panels(values.detach(), tuple(labels[index]), values.detach(), centred(boxes[index]))

    return {
        "choice": NamedMap(
            "which proposals are chosen: above 0.5", "boxes", lambda index: read(index, False), scale="probability"
        ),
        "evidence": NamedMap("each proposal's share of the evidence", "boxes", lambda index: read(index, True)),
    }


def _scores(candidates: Candidates, choice: Choice, chosen: list[int]) -> Float[Tensor, " k"]:
    """The detector's probability of the class that each chosen proposal was taken for."""
    rows = torch.tensor(chosen, dtype=torch.long)
    return candidates.class_probs[rows, choice.labels[rows]] if len(chosen) else candidates.class_probs.new_zeros(0)


def remarks_of(expression: Expression, choice: Choice, words: Heard) -> list[str]:
    """What a person should be told about an answer, in sentences; mostly nothing. `words`: of the expression."""
    said = [f"“{wrong}” was read as “{right}”" for wrong, right in expression.slips]
    if expression.cut:
        said.append("the expression is longer than the model reads")
    said += [f"“{action}” was read as “{instead}”" for action, instead in words.read_as]
    said += [f"not checked: “{piece}”" for piece in expression.unchecked]
    if words.ignored:
        said.append(f"not used: {', '.join(words.ignored[:6])}")
    if words.ignored or words.read_as or expression.unchecked:
        said.append(f"used: {', '.join(words.used) or 'nothing'}")
    if float(choice.no_target_logit.detach()) > 0:
        said += choice.reasons
    return said


def build_instances(config: InstancesConfig) -> Instances:
    """The model of a configuration with fresh weights; the anchors' vectors are zero until weights are loaded."""
    encoder = anchors = pieces = None
    if config.text is not None:
        pieces = stored_pieces()
        if config.text.vocabulary_size < pieces.vocabulary_size:
            raise ConfigError(
                f"text.vocabulary_size={config.text.vocabulary_size}: {pieces.vocabulary_size} are listed"
            )
        encoder, anchors = MiniLM(config.text), NounAnchors(config.text.hidden_dim)
    lexicon = Lexicon(encoder, pieces, anchors)
    return Instances(config, Proposer(config.detector), Chooser(config.chooser, lexicon), encoder, anchors)


def load_language(model: Instances, folder: str | Path) -> None:
    """Put MiniLM's published weights (a transformers folder of all-MiniLM-L6-v2) into a model, and compute its anchors.

    Raises `CheckpointError` for another folder, `ConfigError` for a model without a text encoder.
    """
    if model.text is None or model.anchors is None:
        raise ConfigError("text=None: this configuration has no language model to load")
    pieces = stored_pieces()
    encoder, _ = read_minilm(folder, bits=model.text.config.bits, pieces=pieces.pieces)
    model.text.load_state_dict(encoder.state_dict())
    model.anchors.fill(model.text, pieces)
