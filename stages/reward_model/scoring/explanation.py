"""What a reward comes from: the head read at every token of a response, and the response without each of its sentences.

The two are of different kinds. Without a sentence a response is scored as any other. At the tokens before the last
one the head was never trained to be read: what it gives there is a hint, not the reward of the text so far.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from reward_model.contract.encoder import EncodedResponses, Encoder, TokenIds, shared_prefix_length
from reward_model.scoring.prompts import Prompt, as_messages
from reward_model.scoring.scorer import Scorer

STRONG, WEAK = 0.5, 0.2  # of the largest move within the responses to a prompt
MAX_PARTS = 64  # of a response: with more sentences, neighbours are left out together
# Up to the next sentence. No run of characters is read twice, however long it is.
SENTENCE_END = re.compile(r"""(?<![.!?…])[.!?…]++[)\]"'”’»]*+\s+|[。！？]+[」』”’）]*\s*|\n\s*""")


@dataclass(frozen=True)
class TokenValue:
    """The reward head read at a token.

    Attributes:
        text: what the token adds to the text; nothing, if a character of several tokens is not complete yet.
        value: in the unit of the rewards. At the last token it is the reward, elsewhere a hint.
    """

    text: str
    value: float


@dataclass(frozen=True)
class Omission:
    """The response without one of its sentences.

    Attributes:
        sentence: what is left out.
        reward: of the response without it.
        change: that reward minus the reward of the response; below zero, the sentence raises the reward.
        cut: whether the model did not see all of the sentence, since the response was too long.
    """

    sentence: str
    reward: float
    change: float
    cut: bool


@dataclass(frozen=True)
class Explanation:
    """A response to a prompt.

    Attributes:
        reward: its reward.
        before: the head read at the prompt's last token; None if no token of the prompt was left.
        tokens: those that the model saw, what the chat template puts after the response included.
        sentences: in their order; none of a response of one sentence, of which nothing would be left.
        tokens_cut: tokens left out of the middle of the response.
        cut_at: the place in `tokens` where they are missing; None if none are.
    """

    reward: float
    before: float | None
    tokens: list[TokenValue]
    sentences: list[Omission]
    tokens_cut: int
    cut_at: int | None

    def moves(self) -> list[float]:
        """How far each token moves the head's value."""
        values = [token.value for token in self.tokens]
        before = values[0] if self.before is None else self.before
        return [after - before for before, after in pairwise([before, *values])]


@dataclass(frozen=True)
class MarkedText:
    """The characters that a token completes.

    Attributes:
        place: of the token in `Explanation.tokens`.
        follows_cut: whether `Explanation.tokens_cut` tokens are missing before it.
        move: how far it, and tokens before it that complete none, move the head's value.
        is_strong, is_weak: whether that is far, or not so far, beside the largest move; neither of most texts.
    """

    place: int
    text: str
    follows_cut: bool
    move: float
    is_strong: bool
    is_weak: bool


def largest_move(explanations: Sequence[Explanation]) -> float:
    """Of tokens within the responses: those into a response and out of it are far larger."""
    return max((abs(move) for each in explanations for move in each.moves()[1:-1]), default=0.0)


def marked_texts(explanation: Explanation, largest: float) -> Iterator[MarkedText]:
    """The response as the model saw it, in parts.

    Args:
        explanation: of the response.
        largest: the move that others are measured by.
    """
    move, is_cut = 0.0, False
    for place, (token, own) in enumerate(zip(explanation.tokens, explanation.moves(), strict=True)):
        move += own
        is_cut = is_cut or place == explanation.cut_at
        if token.text:  # else the character is complete with a later token
            strength = abs(move) / largest if largest else 0.0
            yield MarkedText(place, token.text, is_cut, move, strength >= STRONG, WEAK <= strength < STRONG)
            move, is_cut = 0.0, False


def explain(scorer: Scorer, prompt: Prompt, responses: Sequence[str]) -> list[Explanation]:
    """Explain the reward of each response to `prompt`; all texts are cut alike.

    Raises:
        UserError: as `Scorer.encode`, or the backend cannot read the head at every token.
    """
    parts = [own if len(own := split_response(response)) > 1 else [] for response in responses]
    shorter = [[without_part(own, place) for place in range(len(own))] for own in parts]
    encoded = scorer.encode(prompt, [*responses, *(text for own in shorter for text in own)])
    [rewards] = scorer.rewards([encoded.ids])
    ends = list(accumulate(map(len, parts), initial=len(responses)))
    seen = [_SeenTokens(scorer.encoder, prompt, response, encoded, n) for n, response in enumerate(responses)]
    return [
        _explanation(scorer, tokens, own, reward, rewards[start:end])
        for tokens, own, reward, (start, end) in zip(seen, parts, rewards, pairwise(ends), strict=False)
    ]


def _explanation(
    scorer: Scorer, seen: "_SeenTokens", parts: Sequence[str], reward: float, others: Sequence[float]
) -> Explanation:
    """Of one response: its tokens, its parts, its reward, and the reward without each part."""
    values = scorer.token_values(seen.ids)
    tokens = [TokenValue(*each) for each in zip(seen.texts, values[seen.start :], strict=True)]
    starts = accumulate(map(len, parts), initial=0)
    sentences = [
        Omission(part, other, other - reward, seen.misses(start, start + len(part)))
        for part, other, start in zip(parts, others, starts, strict=False)
    ]
    before = values[seen.start - 1] if seen.start else None
    return Explanation(reward, before, tokens, sentences, seen.cut, seen.cut_at)


class _SeenTokens:
    """The tokens of a response that are left after truncation.

    Attributes:
        ids: the whole sequence.
        start: the place in it of the response's first token.
        texts: what each token of the response adds to the text.
        cut: how many are left out of the middle.
        cut_at: the place among them where they are missing; None if none are.
    """

    def __init__(self, encoder: Encoder, prompt: Prompt, response: str, encoded: EncodedResponses, number: int) -> None:
        unlimited = encoder.with_max_length(sys.maxsize)
        # The response may be empty, so prompt and closing are what two others share; templates may refuse an empty one.
        whole, *probes = unlimited.encode(as_messages(prompt), [response, "x", "y"]).ids
        prompt_length = shared_prefix_length([whole, *probes])
        closing = shared_prefix_length([ids[prompt_length:][::-1] for ids in probes])
        texts = decode_tokens(encoder.tokenizer, whole[prompt_length:])
        self.ids, self.cut = encoded.ids[number], encoded.response_tokens_cut[number]
        first = encoded.prompt_tokens_cut
        cut_from = first + shared_prefix_length([self.ids, whole[first:]])
        kept = [*range(first, cut_from), *range(cut_from + self.cut, len(whole))]
        self.start = sum(place < prompt_length for place in kept)
        self.texts = [texts[place - prompt_length] for place in kept[self.start :]]
        head = max(cut_from - prompt_length, 0)
        self.cut_at = head if self.cut else None
        # The characters of the response that are seen stand before the one and after the other.
        self._missing_from = len("".join(texts[:head])) if self.cut else len(response)
        self._missing_to = len(response) - len("".join(texts[head + self.cut : len(texts) - closing]))

    def misses(self, start: int, end: int) -> bool:
        """Whether truncation took any of the characters of the response from `start` to `end`."""
        return start < self._missing_to and end > self._missing_from


def decode_tokens(tokenizer: Tokenizer, ids: TokenIds) -> list[str]:
    """What each token adds to the text of those before it."""
    stream = DecodeStream(skip_special_tokens=False)
    return [stream.step(tokenizer, token) or "" for token in ids]


def split_response(response: str) -> list[str]:
    """The sentences of a response, or `MAX_PARTS` runs of them; joined they are the response."""
    sentences = split_sentences(response)
    size = -(-len(sentences) // MAX_PARTS) or 1
    return ["".join(sentences[first : first + size]) for first in range(0, len(sentences), size)]


def split_sentences(text: str) -> list[str]:
    """The sentences and lines of a text, each with the blanks after it; joined they are the text.

    What has no letter (the number of a list's item, a rule) goes with the sentence after it.
    """
    ends = [
        match.end()
        for match in SENTENCE_END.finditer(text)
        if "\n" in match.group() or not text[match.end() : match.end() + 1].islower()  # "e.g. this" goes on
    ]
    sentences, waiting = [], ""
    for start, end in pairwise([0, *ends, len(text)]):
        waiting += text[start:end]
        if any(map(str.isalpha, text[start:end])):
            sentences.append(waiting)
            waiting = ""
    if waiting and sentences:
        sentences[-1] += waiting
        return sentences
    return [*sentences, waiting] if waiting else sentences


def without_part(parts: Sequence[str], place: int) -> str:
    """The text without one of its parts, and without blanks that it would then end in."""
    before, after = "".join(parts[:place]), "".join(parts[place + 1 :])
    return before + after if after else before.rstrip()
