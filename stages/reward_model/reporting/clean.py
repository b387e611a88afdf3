"""Characters that neither HTML nor XML has a form for."""

MAX_NAME = 200  # characters of a source's name that are shown
# Control characters are shown as their pictures, all but tab and line feed.
REPLACED = {code: 0x2400 + code for code in range(32) if code not in (9, 10)}
REPLACED |= dict.fromkeys([*range(0x7F, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], 0xFFFD)


def clean(text: str) -> str:
    """The text with something to see in place of such characters, and with line feeds as the only line ends."""
    return text.replace("\r\n", "\n").translate(REPLACED)
