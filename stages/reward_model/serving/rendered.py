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
        self._end_token = cast(str, encoder.tokenizer.id_to_token(encoder.contract.end_token_id))
        asked = encoder.render(PROBE[:1], add_generation_prompt=True).encode()
        opened = asked[: shared_prefix_length([asked, encoder.render(PROBE).encode()])].decode(errors="ignore")
        # What the template writes between a prompt and its response.
        self._response_opening = opened.rpartition(PROBE[0]["content"])[2]

    def encode(self, text: str) -> TokenIds:
        """The token ids of a rendered conversation, cut to the model's limit; the last is the end token.

        Blanks after the end token are left out, and where it is missing (generation stopped at a limit) it is added.
        """
        stripped = text.rstrip()
        text = stripped if stripped.endswith(self._end_token) else text + self._end_token
        ids = self._ids(text)
        max_length = self._encoder.contract.max_length
        if len(ids) > max_length:
            before, opening, _ = text.rpartition(self._response_opening)
            prompt_length = shared_prefix_length([self._ids(before + opening), ids])
            [ids], _ = truncate([ids], prompt_length, max_length)
        return ids

    def _ids(self, text: str) -> TokenIds:
        return encode_text(self._encoder.tokenizer, text)
