"""Requests and answers, each as its own client writes it."""

import time
from typing import Annotated, Any, Literal, Self
from uuid import uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from reward_model.common.messages import is_unicode


def _check_unicode(text: str) -> str:
    if not is_unicode(text):
        raise ValueError("half of a character (a lone surrogate), which no tokenizer takes")
    return text


Text = Annotated[str, AfterValidator(_check_unicode)]
RenderedTexts = Annotated[
    list[Text], Field(min_length=1, description="conversations rendered with the model's chat template")
]


class RewardRequest(BaseModel):
    """As OpenRLHF asks a remote reward model; what the prompts and labels are is of no matter to the reward."""

    query: RenderedTexts
    prompts: Any = None
    labels: Any = None


class RewardAnswer(BaseModel):
    """What OpenRLHF reads: the rewards, twice."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, float] = {}


class ScoreEvaluationRequest(BaseModel):
    """As LLaMA-Factory asks a reward model's server."""

    model_config = ConfigDict(extra="forbid")

    model: Text = "model"
    messages: RenderedTexts


class ScoreEvaluation(BaseModel):
    """What LLaMA-Factory reads."""

    id: str = Field(default_factory=lambda: f"scoreval-{uuid4().hex}")
    object: Literal["score.evaluation"] = "score.evaluation"
    model: str
    scores: list[float]


class ChatMessage(BaseModel):
    """A turn."""

    role: Text
    content: Text


class ClassifyRequest(BaseModel):
    """As vLLM's clients ask: `input`, a rendered text or several, or `messages`, a conversation.

    `model` and `user` are taken and left alone; so is `use_activation`, since a reward has none.
    """

    model_config = ConfigDict(extra="forbid")

    input: Text | RenderedTexts | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1)] | None = None
    model: Text | None = None
    user: Text | None = None
    use_activation: bool | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.input is None) == (self.messages is None):
            raise ValueError("give either input or messages")
        return self


class Classification(BaseModel):
    """The reward of a text, as the only one of `probs`; it is no probability."""

    index: int
    label: str
    probs: list[float]
    num_classes: int = 1


class Usage(BaseModel):
    """Tokens that were read, after cutting."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None


class ClassifyAnswer(BaseModel):
    """As vLLM answers."""

    id: str = Field(default_factory=lambda: f"classify-{uuid4().hex}")
    object: Literal["list"] = "list"
    created: int = Field(default_factory=lambda: int(time.time()))
    model: str
    data: list[Classification]
    usage: Usage


class Health(BaseModel):
    """The model, what computes, and whether rewards are z-scores."""

    status: Literal["ok"] = "ok"
    model: str
    computes_on: str
    max_length: int
    normalized: bool
