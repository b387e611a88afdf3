"""Chat templates, rendered as transformers renders them, without transformers: scoring starts in a second that way."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from reward_model.common.messages import Message

SENTINEL = "314159265358979"  # a text that stands in no template


class TemplateRefuses(ValueError):
    """The chat template does not render this conversation (most often, roles that do not alternate)."""

    reason = "refused_by_template"  # under which such rows are counted


class TurnDropped(TemplateRefuses):
    """The chat template renders the conversation without one of its turns."""

    reason = "dropped_turn"


def render_chat(
    template: str,
    messages: Sequence[Message],
    special_tokens: Mapping[str, str],
    *,
    add_generation_prompt: bool = False,
) -> str:
    """The conversation as text.

    Args:
        template: Jinja source.
        messages: the turns.
        special_tokens: what the template knows by name (bos_token, eos_token and so on).
        add_generation_prompt: whether to open an answer.

    Raises:
        TemplateRefuses: the template does not take it.
    """
    try:
        return _compiled(template).render(
            messages=[dict(message) for message in messages],
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **special_tokens,
        )
    except (jinja2.TemplateError, TypeError, KeyError, IndexError, ValueError) as error:
        raise TemplateRefuses(f"the chat template refuses the conversation: {error}") from None


@lru_cache(maxsize=1024)
def dropped_turns(
    template: str, roles: tuple[str, ...], special_tokens: tuple[tuple[str, str], ...]
) -> tuple[int, ...]:
    """The places of the turns that the template leaves out, without an error, of conversations with these roles.

    Args:
        template: Jinja source.
        roles: of the turns.
        special_tokens: names and texts, as for `render_chat`.
    """
    contents = [f"{SENTINEL}{place:06}" for place in range(len(roles))]
    messages = [Message(role=role, content=content) for role, content in zip(roles, contents, strict=True)]
    try:
        rendered = render_chat(template, messages, dict(special_tokens))
    except TemplateRefuses:  # which is told of the conversation itself
        return ()
    return tuple(place for place, content in enumerate(contents) if content not in rendered)


@lru_cache(maxsize=8)
def _compiled(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlocks, LoopControlExtension]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    return environment.from_string(template)


class _GenerationBlocks(Extension):
    """`{% generation %}` marks what the assistant said, for training on it; here its body is rendered as it is."""

    tags = {"generation"}  # noqa: RUF012  (jinja2's own way)

    def parse(self, parser: Parser) -> nodes.Node:
        """Take the block up to its end."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Macro) -> str:
        return str(caller())


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter's options in transformers."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
