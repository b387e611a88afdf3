"""Conversations that a trainer has rendered already: text whose control tokens are control tokens."""

from typing import cast

from reward_model.contract.encoder import PROBE, Encoder, TokenIds, encode_text, shared_prefix_length
from reward_model.contract.truncation import truncate


class RenderedTextEncoder:
    """Encodes rendered conversations as `Encoder.encode` does the same ones in messages.

    Args:
        encoder: with the model's chat template.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        contract, answered = encoder.contract, encoder.render(PROBE)
        self._closing = answered.rpartition(PROBE[-1]["content"])[2]  # what the template writes after a response
        # A pad token that is no other token, too, may follow it.
        is_pad = contract.pad_token_id != contract.end_token_id
        self._pad_token = cast(str, encoder.tokenizer.id_to_token(contract.pad_token_id)) if is_pad else None
        asked = encoder.render(PROBE[:1], add_generation_prompt=True).encode()
        opened = asked[: shared_prefix_length([asked, answered.encode()])].decode(errors="ignore")
        # What the template writes between a prompt and its response.
        self._response_opening = opened.rpartition(PROBE[0]["content"])[2]

    def encode(self, text: str) -> TokenIds:
        """The token ids of a rendered conversation, cut to the model's limit; the last is the end token.

        After the end token blanks are left out, where the template has none, and so is padding. Where it is missing
        (generation stopped at a limit) it is added.
        """
        ids = self._ids(self._closed(text))
        max_length = self._encoder.contract.max_length
        if len(ids) > max_length:
            before, opening, _ = text.rpartition(self._response_opening)
            prompt_length = shared_prefix_length([self._ids(before + opening), ids])
            [ids], _ = truncate([ids], prompt_length, max_length)
        return ids

    def _closed(self, text: str) -> str:
        """The text with what the template writes after a response, once, and nothing more."""
        if self._pad_token:
            text = _without_padding(text, self._pad_token)
        end = self._closing.rstrip()
        if end and text.rstrip().endswith(end):
            return text.rstrip().removesuffix(end) + self._closing
        return text.removesuffix(self._closing) + self._closing

    def _ids(self, text: str) -> TokenIds:
        return encode_text(self._encoder.tokenizer, text)


def _without_padding(text: str, pad_token: str) -> str:
    """The text without all pad tokens at its end, and the blanks after each."""
    end = len(text)
    while True:
        last = end
        while last and text[last - 1].isspace():
            last -= 1
        if not text.endswith(pad_token, 0, last):
            return text[:end]
        end = last - len(pad_token)
