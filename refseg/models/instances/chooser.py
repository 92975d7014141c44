"""Which proposals an expression means: its parts evaluated over the proposals, exact where those are certain.

For a phrase, with the fit f_i of proposal i to its noun (the best of its classes' probabilities times the noun's
weights), the evidence is a sum of terms, each with a learnt weight that starts at a rule's value:

    E_i = w_fit log f_i + w_area log area_i + sum of places, order, size, colours and relations

Places, order and size are relative: standard deviations from the mean of what fits the noun, and soft ranks among it
(the number of fitting proposals that lie farther out), so that "leftmost", "second from the left" and "middle" are
exact on certain proposals and degrade with their scores. One thing: the proposal of most evidence. Several: the first
`count`, or all whose evidence is near that of a plain member. Nothing: the no-target logit grows with a poor fit of
the best proposal, a colour that is plainly another, a rank or number that is not reached, and a relation that does not
hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from refseg.models.instances.config import ChooserConfig
from refseg.models.instances.evidence import (
    PERSON,
    RULES,
    TINY,
    Evaluated,
    Layout,
    colour_share,
    counts_among,
    margins,
    noun_fit,
    number,
    standardised,
)
from refseg.models.instances.expression import Expression, Phrase, Relation
from refseg.models.instances.places import Among, place_evidence
from refseg.models.instances.relations import related
from refseg.models.instances.vocabulary import GARMENTS, PARTITIVES, PRONOUNS
from refseg.models.instances.words import Meaning

__all__ = ["Candidates", "Choice", "Chooser"]

SURE = 0.58
"""Fit from which a proposal is so certainly a thing of the noun that another one cannot be the outermost before it."""
EXCLUDABLE = 0.2
"""Share of the best fit to a noun below which a proposal is not what "but not" means by it."""
COLOUR_SHARE, TRAIT_SHARE = 0.25, 0.1
"""Share of its pixels that a thing of a colour, and a person in clothes of it, is expected to show at least."""


@dataclass(frozen=True)
class Candidates:
    """The proposals of one picture as the chooser sees them."""

    class_probs: Float[Tensor, "K A"]
    colours: Float[Tensor, "K 11"]
    layout: Layout
    drawn: float = 0.0
    """See `Proposals.drawn`."""

    def __len__(self) -> int:
        return len(self.class_probs)


@dataclass
class Choice:
    """The answer to one expression.

    `logits` (K,): above 0 are chosen. `evidence` (P, K): of each of the P phrases, for the losses. `no_target_logit`:
    above 0 nothing is meant. `labels` (K,): the class each proposal was taken for. `reasons` say in words why the
    answer is none, where something speaks for that.
    """

    logits: Tensor
    evidence: Tensor
    no_target_logit: Tensor
    labels: Tensor
    reasons: list[str] = field(default_factory=list)
    several: bool = False
    """Whether a set was asked for."""


class Chooser(nn.Module):
    """Evaluates parsed expressions over proposals; `means` gives a noun's classes (a `Lexicon`)."""

    rules: Tensor

    def __init__(self, config: ChooserConfig, means: Callable[[str], Meaning]) -> None:
        super().__init__()
        self.config = config
        self.means = means
        values = torch.tensor(list(RULES.values()))
        self.names = tuple(RULES)
        self.weights = nn.Parameter(values.clone(), requires_grad=config.trained)
        self.register_buffer("rules", values)

    def forward(self, expression: Expression, candidates: Candidates) -> Choice:
        """The choice among K proposals (K may be 0)."""
        if not len(candidates):
            empty = candidates.class_probs.new_zeros(0)
            far = candidates.class_probs.new_tensor(20.0)
            return Choice(empty, empty[None], far, empty.long(), ["nothing was detected in the picture"])
        weight = dict(zip(self.names, self.weights.unbind(0), strict=True))
        parts = [self._answer(phrase, candidates, weight) for phrase in expression.phrases]
        if len(parts) == 1:
            return parts[0]
        # A union is there as soon as one of its parts is.
        first = min(parts, key=lambda part: number(part.no_target_logit))
        there = [part for part in parts if number(part.no_target_logit) <= 0] or [first]
        logits = torch.stack([part.logits for part in there])
        chosen = logits.argmax(0)
        labels = torch.stack([part.labels for part in there]).gather(0, chosen[None])[0]
        return Choice(
            logits.amax(0),
            torch.cat([part.evidence for part in parts]),
            torch.stack([part.no_target_logit for part in parts]).amin(),
            labels,
            first.reasons,
        )

    def _answer(self, phrase: Phrase, candidates: Candidates, weight: dict[str, Tensor]) -> Choice:
        found = self._evaluate(phrase, candidates, weight)
        penalty = found.penalty
        reasons = found.reasons
        evidence = found.evidence
        if phrase.excluded is not None:
            out = self._excluded(phrase.excluded, found, candidates, weight)
            logits = self._members(found, weight) if phrase.many else margins(evidence - 1e3 * out, 1)
            logits = torch.where(out, -logits.abs() - 1, logits)
        elif phrase.count > 1 and not phrase.relations:
            ranked = evidence + 4 * found.member.clamp(min=TINY).log().clamp(min=-3)
            logits = margins(ranked, min(phrase.count, len(ranked)))
            short = (phrase.count - 0.3 - found.member.sum()).clamp(min=0)
            penalty = penalty + weight["none_short"] * short * (found.member.sum() > 0.5)
            if number(short) > 0.5:
                reasons = [*reasons, f"there are not {phrase.count} of them"]
            if phrase.count > len(ranked):
                penalty = penalty + weight["none_short"]
        elif phrase.many:
            logits = self._members(found, weight)
        else:
            logits = margins(evidence, 1)
        several = phrase.many or phrase.count > 1
        if several and not (logits > 0).any():
            # A set of which nothing is plainly a member still has its best candidate.
            allowed = logits > -20 if phrase.excluded is None else ~out
            if allowed.any():
                first = int(torch.where(allowed, evidence, evidence.new_tensor(-1e4)).argmax())
                logits = torch.where(
                    torch.arange(len(logits), device=logits.device) == first, logits.abs() + 1e-3, logits
                )
        return Choice(logits, evidence[None], penalty, found.labels, reasons, several)

    def _members(self, found: Evaluated, weight: dict[str, Tensor]) -> Tensor:
        """Logits of sets: a member is plainly of the noun, no double, and what else is said holds of it."""
        most = found.fit.max()
        least = torch.maximum(weight["member"] * most, torch.minimum(weight["least_member"], most))
        logits = 4 * (found.fit.clamp(min=TINY) / least.clamp(min=TINY)).log() + 0.1
        logits = torch.minimum(logits, 3 * (found.absolute + 0.9))
        return torch.where(found.member > 0, logits, -4.0 - found.fit.new_zeros(()))

    def _excluded(
        self, phrase: Phrase, base: Evaluated, candidates: Candidates, weight: dict[str, Tensor]
    ) -> Bool[Tensor, " K"]:
        """What is excluded of the members: the best of the phrase, all of them if it is a plural; nothing that is
        plainly no thing of its noun ("the cat, not the dog")."""
        out = self._evaluate(phrase, candidates, weight, within=base.member)
        if phrase.many and phrase.count == 0:
            return self._members(out, weight) > 0
        best = margins(out.evidence + 2 * base.member.clamp(min=TINY).log(), max(1, phrase.count)) > 0
        return best & (out.fit > EXCLUDABLE * out.fit.max())

    def _evaluate(
        self,
        phrase: Phrase,
        candidates: Candidates,
        weight: dict[str, Tensor],
        within: Tensor | None = None,
    ) -> Evaluated:
        layout = candidates.layout
        fit, labels, noun_penalty, reasons = self._fit(phrase, candidates, weight)
        penalty = noun_penalty
        best = fit.max().clamp(min=TINY)
        doubles = layout.doubles(fit.detach())
        share = fit / best
        member = torch.sigmoid(14 * (share - weight["member"].detach())) * (fit > 0.02) * ~doubles
        if within is not None:
            member = member * within
        evidence = weight["fit"] * (fit + TINY).log() + weight["area"] * (layout.area + TINY).log()
        if within is not None:
            evidence = evidence + 3 * within.clamp(min=TINY).log()
        absolute = torch.zeros_like(fit)
        soft = share.square() * ~doubles
        if self.config.colours:
            for words, name in ((phrase.colours, "trait_colour" if self._is_worn(phrase) else "colour"),):
                if words:
                    shown = colour_share(words, candidates.colours)
                    usual = TRAIT_SHARE if name == "trait_colour" else COLOUR_SHARE
                    log = ((shown + 0.02) / (usual + 0.02)).log().clamp(-2.0, 0.7)
                    among = standardised(shown, soft)
                    most = (shown * (share > 0.5)).max()
                    against = ((shown + 0.03) / (most + 0.03)).log().clamp(-3.0, 0.3)
                    evidence = evidence + weight[name] * (0.6 * against + 0.5 * among)
                    absolute = absolute + log.clamp(max=0)
                    # Colours narrow what ranks and places are counted among.
                    soft = soft * (0.1 + shown).clamp(max=1)
                    if counts_among(phrase):
                        member = member * torch.sigmoid((log + 0.8) / 0.25)
        shown_otherwise = self._not_coloured(phrase, candidates) if self.config.colours else None
        if shown_otherwise is not None:
            name = "trait_colour" if self._is_worn(phrase) else "colour"
            evidence = evidence + weight[name] * shown_otherwise
            absolute = absolute + shown_otherwise.clamp(max=0)
        linked = torch.zeros_like(fit)
        if self.config.relations:
            for link in phrase.relations:
                found = self._relation(link, candidates, weight)
                if found is None:
                    continue
                log, mismatch = found
                penalty = penalty + mismatch
                linked = linked + log
                absolute = absolute + 0.6 * log.clamp(max=0)
            evidence = evidence + weight["relation"] * linked
        if self.config.places and (phrase.places or phrase.rank is not None or phrase.size):
            sure = member * torch.sigmoid((fit - SURE) / 0.05)
            shares = soft if self.config.relative else torch.ones_like(soft)
            placed = place_evidence(phrase, Among(layout, shares, member, sure), weight)
            evidence = evidence + placed.evidence
            absolute = absolute + placed.absolute
            penalty = penalty + placed.missing
            reasons = reasons + placed.reasons
        # The least that speaks against any one thing: what is meant has the noun, the colour and the relation at once.
        against = -weight["none_fit"] * ((fit + TINY) / (fit.max() + TINY)).log()
        if phrase.colours and self.config.colours:
            shown = colour_share(phrase.colours, candidates.colours)
            worn = self._is_worn(phrase)
            usual = TRAIT_SHARE if worn else COLOUR_SHARE
            wrong = (-((shown + 0.01) / (usual + 0.01)).log() - 0.3).clamp(0, 2.5)
            counts = weight["none_trait_colour" if worn else "none_colour"]
            counts = torch.maximum(counts, weight["none_drawn_colour"] * candidates.drawn)
            against = against + counts * wrong
            if number(wrong[fit >= 0.5 * fit.max()].min()) > 1:
                reasons = [*reasons, f"none is {' and '.join(phrase.colours)}"]
        if shown_otherwise is not None:
            against = against + weight["none_colour"] * (-shown_otherwise - 0.7).clamp(0, 2.5)
            if number(shown_otherwise[fit >= 0.5 * fit.max()].max()) < -1.5:
                reasons = [*reasons, f"all are {' and '.join(phrase.not_colours)}"]
        if phrase.relations and self.config.relations:
            against = against + weight["none_relation"] * (-linked - 1.2).clamp(0, 3)
        penalty = penalty + against.min()
        return Evaluated(fit, member, evidence, absolute, penalty, penalty - noun_penalty, labels, reasons)

    def _not_coloured(self, phrase: Phrase, candidates: Candidates) -> Tensor | None:
        """Log of how far each proposal lacks the colours that it is said not to have (-3 to 0); None where there are
        none. A share of the colour that counts as showing it leaves nothing of that."""
        if not phrase.not_colours:
            return None
        usual = TRAIT_SHARE if self._is_worn(phrase) else COLOUR_SHARE
        shown = (colour_share(phrase.not_colours, candidates.colours) / usual).clamp(max=1)
        return (1 - 0.95 * shown).log()

    def _is_worn(self, phrase: Phrase) -> bool:
        """Whether a phrase's colours are those of clothes, which are a part of what is proposed at best."""
        if phrase.traits or phrase.head in GARMENTS:
            return True
        return bool(phrase.head) and any(
            index == PERSON for index, share in self.means(phrase.head).weights if share >= 0.9
        )

    def _fit(
        self, phrase: Phrase, candidates: Candidates, weight: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, list[str]]:
        """How well each proposal fits the noun (0 to 1), as which class, the no-target logit that follows, reasons."""
        probabilities = candidates.class_probs
        reasons: list[str] = []
        meaning = self.meaning(phrase)
        if meaning is None:  # no noun: anything
            fit, labels = probabilities.max(1)
            if _says_nothing(phrase):
                return fit, labels, fit.new_tensor(4.0), ["no word of the expression names or describes anything"]
            base = weight["none_bias"] - weight["none_fit"] * ((fit.max() + TINY) / self.config.least_score).log()
            return fit, labels, base, reasons
        if not meaning.known:
            fit, labels = probabilities.max(1)
            stated = bool(phrase.places or phrase.rank or phrase.colours)
            penalty = fit.new_tensor(4.0 if meaning.how == "none" and not stated else 1.0 if not stated else -0.5)
            why = f"“{meaning.word}” is none of the things that the detector knows"
            return 0.3 * fit, labels, penalty, [why]
        fit, labels = noun_fit(meaning, probabilities)
        if phrase.also:
            for noun in phrase.also:
                other = self.means(noun)
                if other.known:
                    more, more_labels = noun_fit(other, probabilities)
                    more = weight["also"] * more
                    labels = torch.where(more > fit, more_labels, labels)
                    fit = torch.maximum(fit, more)
        best = fit.max()
        penalty = weight["none_bias"] - weight["none_fit"] * ((best + TINY) / self.config.least_score).log()
        if number(best) < self.config.least_score:
            reasons.append(f"no {meaning.read_as or meaning.word} was detected")
        return fit, labels, penalty, reasons

    def meaning(self, phrase: Phrase) -> Meaning | None:
        """The meaning of the phrase's noun; of no noun, of an unknown word that may be one."""
        if phrase.head and phrase.head not in PRONOUNS:
            meaning = self.means(phrase.head)
            if meaning.known or not phrase.also:
                if not meaning.known and phrase.head in PARTITIVES:
                    return None
                return meaning
        if phrase.head in PRONOUNS or phrase.traits:
            if phrase.traits and not phrase.head:
                return self.means(phrase.traits[-1])
            return None
        if phrase.unknown:
            found = [self.means(word) for word in (" ".join(phrase.unknown), *reversed(phrase.unknown))]
            known = next((meaning for meaning in found if meaning.known), None)
            return known or next((meaning for meaning in found if meaning.how == "none"), found[-1])
        return None

    def _relation(
        self, link: Relation, candidates: Candidates, weight: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor] | None:
        """Log plausibility of a relation for each proposal, and what speaks against the anchors' being there; None
        where an anchor is unknown."""
        anchors = []
        for phrase in link.anchors:
            meaning = self.meaning(phrase)
            if (meaning is None and not phrase.places and not phrase.rank) or (
                meaning is not None and not meaning.known
            ):
                return None
            anchors.append(self._evaluate(phrase, candidates, weight))
        return related(link, anchors, candidates.layout, self.config.least_score)


def _says_nothing(phrase: Phrase) -> bool:
    """Whether nothing of the phrase was read: no letters that words are made of, or none but "what is"."""
    said = (
        phrase.head,
        phrase.colours,
        phrase.not_colours,
        phrase.size,
        phrase.places,
        phrase.rank,
        phrase.relations,
        phrase.traits,
    )
    return not any(said) and not phrase.many and phrase.excluded is None
