"""Bodies of requests that no client means: values of wrong types, odd characters, damaged JSON."""

import json
import random
from collections.abc import Iterator
from typing import Any

PATHS = ("/score", "/get_reward", "/v1/score/evaluation", "/classify")
NAMES = (
    *("text", "prompt", "response", "responses", "chosen", "rejected", "response_a", "response_b", "query", "prompts"),
    *("labels", "model", "messages", "input", "user", "use_activation", "role", "content", "error", "", "\ud800", "x"),
)
TEXTS = (
    *("", " ", "good", "user", "assistant", "judge", "\x00", "\ud800", "\udfff\ud800", "🙂\u200d", "<|im_end|>"),
    *("\ufeff", "<|im_start|>user\n", "[]", "NaN", "@chat.json", "{{ messages }}", "word " * 40, "\u202e", "\ue000"),
)
NUMBERS = (0, -1, 1.5, 1e308, 10**400, float("nan"), float("-inf"), True, False, None)
DAMAGED = (
    *(b"", b"\xff\xfe", b'{"text": "\xff"}', b'{"text": "\xed\xa0\x80"}', b"NaN", b"[" * 1500, b'{"a":' * 300, b"\x00"),
    *('{"text": "x"}'.encode("utf-16"), b'\xef\xbb\xbf{"text": "x"}', b"9" * 1500, b'{"text": "x"}{}'),
)


def fuzzed_bodies(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield paths and bodies, of up to some thousand bytes; the same for the same seed."""
    rng = random.Random(seed)
    for _ in range(count):
        path = rng.choice(PATHS)
        if rng.random() < 0.1:
            yield path, rng.choice(DAMAGED)
            continue
        body = json.dumps(_request(rng), ensure_ascii=rng.random() < 0.7).encode("utf-8", "surrogatepass")
        yield path, _damage(rng, body) if rng.random() < 0.2 else body


def _request(rng: random.Random) -> Any:
    if rng.random() < 0.5:
        chat = [{"role": rng.choice(TEXTS), "content": _value(rng, 2)} for _ in range(rng.randint(0, 3))]
        name = rng.choice(("prompt", "messages", "chosen", "rejected", "query", "input"))
        return {name: chat} | {rng.choice(NAMES): _value(rng, 0) for _ in range(rng.randint(0, 3))}
    return _value(rng, 0)


def _value(rng: random.Random, depth: int) -> Any:
    kind = rng.random()
    if depth > 3 or kind < 0.5:
        return rng.choice(TEXTS) if rng.random() < 0.7 else rng.choice(NUMBERS)
    if kind < 0.7:
        return [_value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    return {rng.choice(NAMES): _value(rng, depth + 1) for _ in range(rng.randint(0, 4))}


def _damage(rng: random.Random, body: bytes) -> bytes:
    """The body with a few bytes changed, or cut."""
    damaged = bytearray(body)
    for _ in range(rng.randint(1, 3)):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged[: rng.randint(1, len(damaged))])
