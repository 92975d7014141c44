"""Requests and responses of the API, as its OpenAPI description shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from refseg.apps.serve.engine import Thresholds
from refseg.apps.serve.errors import STATUS, ServeError
from refseg.apps.serve.settings import Settings
from refseg.errors import RefsegError

Masks = Literal["rle", "png", "polygons", "none"]
Probability = Annotated[float, Field(ge=0, le=1)]

RLE = {"size": [2, 3], "counts": "2203"}


class Question(BaseModel):
    """What every request says beside its pictures."""

    model_config = ConfigDict(extra="forbid")

    texts: list[str] = Field(min_length=1, description="expressions", examples=[["the red car", "two dogs"]])
    model: str | None = Field(default=None, description="a name of /v1/models; the first one where left out")
    threshold: Probability | None = Field(
        default=None, description="a pixel counts above this probability (the model's)"
    )
    no_target_threshold: Probability | None = Field(
        default=None, description="no-target probability above which the answer is none (the model's)"
    )
    masks: Masks = Field(
        default="rle",
        description="COCO run-length encoding, PNG in base64 (white on black), polygons ([[x, y, x, y, ...]], which "
        "fill exactly the mask by the even-odd rule), or none",
    )

    @model_validator(mode="before")
    @classmethod
    def _one(cls, values: Any) -> Any:
        """`text` stands for `texts` of one, `image` for `images` of one."""
        if isinstance(values, dict):
            values = dict(values)
            for one, several in (("text", "texts"), ("image", "images")):
                if one in values and several not in values and several in cls.model_fields:
                    values[several] = [values.pop(one)]
        return values

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds, for jobs."""
        return Thresholds(self.threshold, self.no_target_threshold)

    def checked_texts(self, settings: Settings) -> list[str]:
        """The expressions, cleaned. Raises `ServeError` for too many, too long and empty ones."""
        from refseg.inference.predictor import clean_text

        if len(self.texts) > settings.max_texts:
            raise ServeError("invalid", f"{len(self.texts)} expressions; at most {settings.max_texts} at once")
        for text in self.texts:
            if len(text) > settings.max_letters:
                message = f"an expression of {len(text):,} letters; at most {settings.max_letters} are taken"
                raise ServeError("invalid", message)
        try:
            return [clean_text(text) for text in self.texts]
        except RefsegError as error:
            raise ServeError("invalid", str(error)) from error


class AskRequest(Question):
    """Expressions about a picture that is kept."""


class SegmentRequest(Question):
    """Pictures, and expressions that are asked of each."""

    images: list[str] = Field(
        min_length=1,
        description="pictures in base64, or data: addresses; nothing is fetched",
        examples=[["iVBORw0KGgoAAAANSUhEUgAA..."]],
    )


class Rle(BaseModel):
    """A mask as COCO run-length encoding."""

    size: list[int] = Field(description="height, width", examples=[[480, 640]])
    counts: str


class InstanceBody(BaseModel):
    """One thing of an answer."""

    label: str
    score: float
    area: int = Field(description="pixels")
    box: list[float] = Field(description="left, top, right, bottom in pixels")
    mask: Rle | str | list[list[float]] | None = Field(description="as `masks` says")


class AnswerBody(BaseModel):
    """The answer to one expression."""

    text: str
    no_target: bool = Field(description="nothing in the picture is meant")
    no_target_score: float = Field(description="probability that nothing is meant")
    score: float = Field(description="mean probability of the mask's pixels")
    size: list[int] = Field(description="height, width of the picture")
    area: int
    boxes: list[list[float]]
    mask: Rle | str | list[list[float]] | None
    instances: list[InstanceBody]
    remarks: list[str] = Field(description="words that were not used, and why an answer is none")


class Fault(BaseModel):
    """Why a request, or one picture of it, was refused."""

    code: str = Field(json_schema_extra={"enum": list(STATUS)})
    message: str
    details: dict[str, Any] = {}


class ErrorBody(BaseModel):
    """The body of every response of 400 and more."""

    error: Fault


class ImageAnswers(BaseModel):
    """One picture's answers, or what is wrong with it."""

    name: str | None = None
    width: int | None = None
    height: int | None = None
    answers: list[AnswerBody] | None = None
    error: Fault | None = None


class SegmentResponse(BaseModel):
    """The answers, picture by picture, in the order of the request."""

    model: str
    images: list[ImageAnswers]


class AskResponse(BaseModel):
    """The answers in the order of the expressions."""

    model: str
    width: int
    height: int
    answers: list[AnswerBody]


class KeptImage(BaseModel):
    """A picture that is kept encoded."""

    id: str = Field(examples=["Vb2nXo5rSWe0a1kq3mZ9dA"])
    width: int
    height: int
    model: str
    seconds: float = Field(description="how long it is kept after its last use")


class ModelBody(BaseModel):
    """A model that is served."""

    name: str
    system: str
    encodes_once: bool = Field(description="whether further expressions about a picture cost little")
    threshold: float
    no_target_threshold: float


class ModelsResponse(BaseModel):
    """The models; the first one answers where a request names none."""

    models: list[ModelBody]


class Example(BaseModel):
    """A drawn picture to try, and what to ask about it."""

    id: int
    width: int
    height: int
    description: str
    texts: list[str]


class HitBody(BaseModel):
    """A picture of the collection."""

    path: str
    score: float
    no_target_score: float
    boxes: list[list[float]] = Field(description="left, top, right, bottom in pixels of the picture")
    picture: str = Field(description="the address of the picture, below this server's")


class SearchResponse(BaseModel):
    """What an expression finds in the index, best first."""

    text: str
    hits: list[HitBody]
    nothing: bool
    looked_at: int


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": description}
    for status, description in {
        400: "not a request as described",
        401: "a key is wanted",
        413: "the request or a picture is too large",
        422: "a picture that cannot be read, or a value out of range",
        429: "busy: come back after the seconds in Retry-After",
        500: "a fault of the server",
        503: "the models are being loaded, or the server stops",
    }.items()
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {
    **ERRORS,
    404: {"model": ErrorBody, "description": "it is not there, or was forgotten"},
}
