"""How probable it is that an expression means something in a picture, and what is the most that it can be.

    score = sigmoid(bias + slope v) x 2 sigmoid(-further) x product over anchors a of P(a)

v are the log odds of the noun's likeliest class in the picture as a whole: the largest anywhere, averaged over `VIEWS`
of it. `further` is what the system's exact answer holds against a target besides its noun: the no-target logit less the
least that it can be for the picture's classes (`PhraseSummary`), 0 or more. So a score is never above its value for
further = 0, which needs no proposal: pictures are answered from the highest bound down until no other one can be
among the best. Where something stands to another thing ("with a red bag") that is nowhere, the system says nothing
against it; but a collection has better pictures, so P(a) = sigmoid(bias + slope v(a)) counts too.

The system's own no-target probability answers for one picture that somebody asks about, and has other odds: of names
that it finds in the photographs of a collection, three in ten are there; of scores of .5 to .6, six in ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from refseg.apps.search.proposals import presence_of
from refseg.encoders.vision.nanodet import normalise
from refseg.models.instances.chooser import Chooser
from refseg.models.instances.classes import CLASSES, COCO
from refseg.models.instances.evidence import TINY
from refseg.models.instances.proposals import Proposer, class_columns
from refseg.models.instances.summary import PhraseSummary

__all__ = ["CALIBRATION", "VIEWS", "Calibration", "Classes", "likelihood_codes", "likelihoods"]

VIEWS: tuple[tuple[int, bool], ...] = ((416, False), (416, True), (320, False), (320, True))
"""Side in pixels, and whether mirrored: how a picture is looked at for its likelihoods."""
LOWEST, HIGHEST = -9.0, 4.0
"""Log odds from which and up to which a byte of a likelihood reaches."""


@dataclass(frozen=True)
class Calibration:
    """Constants of the score: a logistic regression on names of COCO's categories; see docs/search.md."""

    bias: float = 1.03
    slope: float = 2.27
    found: float = 0.5
    """Unless --reject says otherwise: the score that one picture has to reach, or nothing is meant in any ..."""
    listed: float = 0.1
    """... and from which on further pictures are listed then."""


CALIBRATION = Calibration()


@dataclass(frozen=True)
class Classes:
    """What N pictures show of every class, a byte each: as the first stage keeps it in memory."""

    presence: UInt8[np.ndarray, "A N"]
    likelihood: UInt8[np.ndarray, "A N"]

    def __len__(self) -> int:
        return self.presence.shape[1]

    def score_bounds(
        self, chooser: Chooser, phrases: Sequence[PhraseSummary], calibration: Calibration = CALIBRATION
    ) -> Float[np.ndarray, " N"]:
        """What no picture's score exceeds."""
        return self.scores(chooser, phrases, self.least_logits(chooser, phrases), calibration)

    def scores(
        self,
        chooser: Chooser,
        phrases: Sequence[PhraseSummary],
        no_target_logits: Float[np.ndarray, " N"],
        calibration: Calibration = CALIBRATION,
    ) -> Float[np.ndarray, " N"]:
        """The scores of answers. Of phrases joined by "and" the likeliest counts."""
        further = np.maximum(no_target_logits - self.least_logits(chooser, phrases), 0)
        known = [self._odds(phrase) for phrase in phrases if phrase.constant is None]
        if known:
            odds = calibration.bias + calibration.slope * np.maximum.reduce(known)
        else:  # no class is meant: what the system says is all that is known
            odds = -self.least_logits(chooser, phrases)
        # A factor and no summand: however surely a car is there, that no red one is stays said.
        score = _sigmoid(odds) * 2 * _sigmoid(-further)
        for phrase in phrases if len(phrases) == 1 else ():
            for anchor in phrase.anchors:
                score = score * self._anchor(anchor, calibration)
        return score.astype(np.float32)

    def select(self, index: Int[np.ndarray, " M"]) -> Classes:
        """The classes of some pictures."""
        return Classes(self.presence[:, index], self.likelihood[:, index])

    def least_logits(self, chooser: Chooser, phrases: Sequence[PhraseSummary]) -> Float[np.ndarray, " N"]:
        """The least that the no-target logits can be."""
        weight = dict(zip(chooser.names, chooser.weights.detach().tolist(), strict=True))
        least = np.full(len(self), np.inf, np.float32)
        for phrase in phrases:
            if phrase.constant is not None:
                least = np.minimum(least, np.float32(phrase.constant))
                continue
            fit = self._largest(phrase)
            logit = weight["none_bias"] - weight["none_fit"] * np.log((fit + TINY) / chooser.config.least_score)
            least = np.minimum(least, logit)
        return least

    def _largest(self, phrase: PhraseSummary) -> Float[np.ndarray, " N"]:
        """The largest of weight x probability over a phrase's classes; over all classes where anything fits."""
        if not phrase.weights:
            return presence_of(self.presence.max(axis=0))
        table = presence_of(np.arange(256, dtype=np.uint8))
        return np.maximum.reduce([weight * table[self.presence[column]] for column, weight in phrase.weights])

    def _odds(self, phrase: PhraseSummary) -> Float[np.ndarray, " N"]:
        """Log odds of the likeliest class that a phrase names."""
        if not phrase.weights:
            return _odds_of(self.likelihood.max(axis=0))
        table = _odds_of(np.arange(256, dtype=np.uint8))
        # Of what is less surely meant the log odds are lower.
        shifts = [(column, float(np.log(max(weight, TINY)))) for column, weight in phrase.weights]
        return np.maximum.reduce([(table + shift)[self.likelihood[column]] for column, shift in shifts])

    def _anchor(self, phrase: PhraseSummary, calibration: Calibration) -> Float[np.ndarray, " N"]:
        """The probability that an anchor is in the picture; 1 of one that no class is meant by."""
        if not phrase.weights:
            return np.ones(len(self), np.float32)
        found = _sigmoid(calibration.bias + calibration.slope * self._odds(phrase))
        for further in phrase.anchors:
            found = found * self._anchor(further, calibration)
        return found


@torch.inference_mode()
def likelihoods(proposer: Proposer, image: UInt8[np.ndarray, "H W 3"], views: int) -> Float[Tensor, " A"]:
    """Log odds of every class in the picture: the largest anywhere, averaged over the first `views` of `VIEWS`."""
    found = []
    for side, mirrored in VIEWS[:views]:
        seen = np.ascontiguousarray(image[:, ::-1]) if mirrored else image
        detected = proposer.detect(normalise([seen], side))
        odds = torch.full((len(CLASSES),), LOWEST)
        odds[: len(COCO)] = detected.logits[0].amax(0)
        odds.scatter_reduce_(0, class_columns(), detected.second_logits[0].amax(0), "amax")
        found.append(odds)
    return torch.stack(found).mean(0)


def likelihood_codes(odds: Float[np.ndarray, " A"]) -> UInt8[np.ndarray, " A"]:
    """Log odds in 8 bits."""
    scaled = (odds - LOWEST) / (HIGHEST - LOWEST) * 255
    return np.rint(scaled).clip(0, 255).astype(np.uint8)


def _odds_of(codes: UInt8[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
    return (LOWEST + codes.astype(np.float32) / 255 * (HIGHEST - LOWEST)).astype(np.float32)


def _sigmoid(values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    return 1 / (1 + np.exp(-values.clip(-60, 60)))
