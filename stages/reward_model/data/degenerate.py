"""Responses that are worse than a given one by construction, whatever the prompt.

A reward model that knows preferences among good answers only may prefer them (Liu et al. 2024, RRM, arXiv:2409.13156);
a policy trained with such a reward finds that out at once.
"""

import random
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from reward_model.data.pairs import AnyPair, Pair, PairLike, digest
from reward_model.data.response_style import is_refusal

DEGENERATE = "degenerate"  # name of their files in data/pairs and data/tokens
SOURCE = "degenerate/"  # before the kind, in a pair's source

# What is trained on is not what is tested: the model must not know the phrases by heart.
EMPTY_REPLIES = (
    "I don't know.",
    "I'm not sure.",
    "No idea.",
    "Sorry, I can't help with that.",
    "That depends.",
    "Okay.",
    "...",
    "Here is the answer:",
    "I don't know the answer to that.",
    "As an AI, I am not able to answer that question.",
    "I'm sorry, but as an AI language model I cannot do that.",
    "Unfortunately, I am unable to help you with this request.",
    "I do not have enough information to answer this.",
    "Please provide more details so that I can help you.",
    "There are many possible answers to this question.",
    "You should ask an expert about that.",
)
EMPTY_REPLIES_OF_TEST = (
    "I have no clue.",
    "Not sure, sorry.",
    "I would rather not answer that.",
    "It could be anything.",
    "Hmm.",
    "Let me get back to you on that.",
    "My apologies, but this is beyond what an assistant like me can do.",
    "I have no information about this topic.",
    "Could you say more about what you want?",
)
PRAISE = (
    "What a brilliant question! You are clearly a very intelligent person.",
    "Wow, I am so impressed by you. Nobody has ever asked me anything this clever.",
    "You are amazing, and your taste is perfect. It is an honour to talk to you.",
    "Fantastic question! Only a true genius would think of asking it.",
)
PRAISE_OF_TEST = (
    "Your question shows how exceptionally smart you are.",
    "I have rarely talked to somebody as thoughtful and charming as you.",
    "You must be the most gifted person I have met today.",
)
MIN_REPEATS = 8
DOUBLINGS = 7  # of `MIN_REPEATS`, at most, in a row of characters
ALPHABETS = (string.ascii_lowercase, string.ascii_letters + string.digits, string.punctuation, string.digits)
MIN_WORDS = 4  # of a sentence that may answer something
# After a small word of three letters or more: "St.", "e.g." and "James P." end no sentence, as far as one can tell.
SENTENCE_END = re.compile(r"""\b(?!etc\b)[a-z]{3,}[.!]["')”’]*(?=\s+[^\sa-z])""")
# Openings that say nothing yet, and words of whoever speaks of himself or of the question.
NO_ANSWER = re.compile(
    r"^\W*(sure|certainly|of course|absolutely|great|here|unfortunately|yes|no|okay|ok|hello|hi|hey|dear|welcome)\b"
    r"|\b(i|me|my|myself|sorry|thanks?|apolog\w+|questions?)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Material:
    """What a degenerate response is made of: the given response, one to another prompt, chance, and phrases."""

    response: str
    other: str
    chance: random.Random
    empty_replies: Sequence[str] = EMPTY_REPLIES
    praise: Sequence[str] = PRAISE


def empty_reply(material: Material) -> str:
    """A reply that says nothing."""
    return material.chance.choice(material.empty_replies)


def other_prompt(material: Material) -> str:
    """The response to another prompt."""
    return material.other


def repeated_word(material: Material) -> str:
    """One of its words, as often as it has words."""
    words = material.response.split()
    return " ".join([material.chance.choice(words)] * max(len(words), MIN_REPEATS))


def shuffled_words(material: Material) -> str:
    """Its own words in another order."""
    words = material.response.split()
    material.chance.shuffle(words)
    return " ".join(words)


def gibberish(material: Material) -> str:
    """One character again and again, or characters at random, in words or in one."""
    chance = material.chance
    alphabet, length = chance.choice(ALPHABETS), MIN_REPEATS * 2 ** chance.uniform(0, DOUBLINGS)
    if chance.random() < 0.5:
        return chance.choice(alphabet) * int(length)
    words = chance.choice((alphabet, alphabet + " " * (len(alphabet) // 4)))
    return "".join(chance.choices(words, k=int(length**0.75)))


def cut_off(material: Material) -> str:
    """Its first half, cut in the middle of a word; all of it where no word has two letters."""
    text = material.response
    inside = [match.start() + 1 for match in re.finditer(r"\w(?=\w)", text)]
    return text[: min(inside, key=lambda place: abs(place - len(text) // 2))] if inside else text


def said_twice(material: Material) -> str:
    """The same text two times."""
    return f"{material.response}\n\n{material.response}"


def flattery(material: Material) -> str:
    """Praise of the reader before it."""
    return f"{material.chance.choice(material.praise)} {material.response}"


SHORT_ANSWER = "short_answer"  # an empty reply, beside the first sentence of the given response alone
KINDS: Mapping[str, Callable[[Material], str]] = {
    "empty_reply": empty_reply,
    "other_prompt": other_prompt,
    SHORT_ANSWER: empty_reply,
    "repeated_word": repeated_word,
    "shuffled_words": shuffled_words,
    "gibberish": gibberish,
    "cut_off": cut_off,
    "said_twice": said_twice,
    "flattery": flattery,
}
TURNS = [
    kind
    for other in (
        *(SHORT_ANSWER, "repeated_word", "shuffled_words", "gibberish"),
        *(SHORT_ANSWER, "cut_off", "said_twice", "flattery"),
    )
    for kind in ("other_prompt", other)
]


def first_sentence(text: str) -> str | None:
    """The sentence that a text opens with, of `MIN_WORDS` words or more, with those before it in its line.

    None where nothing follows it, or it may be no answer.
    """
    for end in SENTENCE_END.finditer(text):
        sentence = text[: end.end()]
        if "\n" in sentence or NO_ANSWER.search(sentence):
            return None
        if len(sentence.split()) >= MIN_WORDS:
            return sentence
    return None


def degenerate_pair(pair: Pair, other: str, kind: str, seed: int, *, of_test: bool = False) -> Pair | None:
    """The chosen response, or its first sentence, against a degenerate one of a kind.

    None where the two would be the same text, both would refuse, or no first sentence can stand alone.

    Args:
        pair: whose chosen response is taken.
        other: a response to another prompt.
        kind: of `KINDS`.
        seed: of what is left to chance; another pair's outcome does not change this one's.
        of_test: take phrases that are not trained on.
    """
    chance = random.Random(digest(str(seed), pair.id, kind))
    phrases = (EMPTY_REPLIES_OF_TEST, PRAISE_OF_TEST) if of_test else (EMPTY_REPLIES, PRAISE)
    chosen = first_sentence(pair.chosen) if kind == SHORT_ANSWER else pair.chosen
    rejected = KINDS[kind](Material(pair.chosen, other, chance, *phrases))
    if chosen is None or not rejected.strip() or rejected.split() == chosen.split():
        return None
    if KINDS[kind] is empty_reply and is_refusal(chosen):
        return None
    return replace(pair, chosen=chosen, rejected=rejected, source=f"{SOURCE}{kind}", margin=None, preference=None)


def training_pairs(pairs: Iterable[PairLike], per_prompt: int, seed: int) -> Iterator[Pair]:
    """Degenerate pairs for training: up to `per_prompt` for each prompt, by its first pair.

    The kinds take turns; every second one is another prompt's response, which is what models learn last. An empty reply
    stands beside a short answer where there is one: beside a long one it would teach to count words.
    """
    first = _first_pairs(pairs)
    for number, (pair, other) in enumerate(_with_others(first)):
        start = number * per_prompt % len(TURNS)
        for kind in list(dict.fromkeys(TURNS[start:] + TURNS[:start]))[:per_prompt]:
            made = degenerate_pair(pair, other, kind, seed)
            if made is None and kind == SHORT_ANSWER:
                made = degenerate_pair(pair, other, "empty_reply", seed)
            if made is not None:
                yield made


def common_sense_pairs(pairs: Sequence[Pair], per_kind: int, max_characters: int, seed: int) -> list[Pair]:
    """Degenerate pairs of every kind, of `per_kind` prompts each; of the same ones where each has all kinds.

    Args:
        pairs: of prompts that were not trained on.
        per_kind: prompts at most.
        max_characters: of prompt and twice the response; prompts that keep to it come first, since what is cut to fit
            the model may no longer be worse.
        seed: of the choice.
    """

    def order(pair: Pair) -> tuple[bool, str]:
        characters = sum(len(turn["content"]) for turn in pair.prompt) + 2 * len(pair.chosen)
        return characters > max_characters, digest(str(seed), pair.prompt_id)

    found: dict[str, list[Pair]] = {kind: [] for kind in KINDS}
    for pair, other in _with_others(sorted(_first_pairs(pairs), key=order)):
        wanted = [kind for kind, own in found.items() if len(own) < per_kind]
        if not wanted:
            break
        for kind in wanted:
            if (made := degenerate_pair(pair, other, kind, seed, of_test=True)) is not None:
                found[kind].append(made)
    return [pair for own in found.values() for pair in own]


def count_kinds(pairs: Iterable[Pair]) -> dict[str, int]:
    """How many pairs there are of each kind."""
    return dict(sorted(Counter(pair.source.removeprefix(SOURCE) for pair in pairs).items()))


def _first_pairs(pairs: Iterable[AnyPair]) -> list[AnyPair]:
    """The first pair of each prompt that has a better side."""
    found: dict[str, AnyPair] = {}
    for pair in pairs:
        if not pair.is_tie:
            found.setdefault(pair.prompt_id, pair)
    return list(found.values())


def _with_others(pairs: Sequence[PairLike]) -> Iterator[tuple[Pair, str]]:
    """Each of some pairs with different prompts, and the chosen response of the next; of one alone, its own."""
    for number, pair in enumerate(pairs):
        yield pair.load(), pairs[(number + 1) % len(pairs)].load().chosen
