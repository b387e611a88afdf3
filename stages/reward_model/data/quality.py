"""What training pairs look like where they spoil a model: habits of their texts, and leaks between the splits."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice, pairwise
from typing import Any

from py3langid.langid import MODEL_FILE, LanguageIdentifier
from rensa import RMinHash, RMinHashLSH  # pyright: ignore[reportAttributeAccessIssue]

from reward_model.common.progress import progress
from reward_model.data.pairs import Pair, PairLike, digest, normalize_prompt, squeeze

SAMPLE = 50_000  # training pairs, which are in random order, whose texts are looked at
BEGINNING = 100  # characters that two responses share at least, to begin alike
LONG = 200  # characters of a response that should end with a word
WORD = re.compile(r"[^\W\d_]+")
LOOKALIKE = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos|pad)>")
LETTERS = 20  # of each text, that tell its script
MAX_SOURCES = 20  # with figures of their own
SIMILARITY = 0.8  # Jaccard, of the sets of two neighbouring words: near-duplicates have more
HASHES, BANDS = 128, 16
MANY = {  # above which there is a warning
    "identical_beginnings": 0.2,
    "cut_in_word": 0.05,
    "control_tokens": 0.01,
    "labels": 0.8,
    "leaks": 0.02,
    "longer_wins": 0.8,
    "largest_prompt": 0.2,
}
MIN_PAIRS = 50  # of a source, to warn of it
MIN_WORDS = 5_000  # that must be known before a word that is met but once, at an end, is taken for a part of one
LANGUAGE_SAMPLE = 5_000  # training pairs whose chosen response's language is told
CONFIDENCE = 0.8  # below, a text is in no language for certain: a list of names, code, a word
UNCLEAR = "unclear"
RARE = 0.005  # a share of a script or language that is not shown to people


@dataclass
class Habits:
    """Counts over pairs, a pair at a time."""

    pairs: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    long: Counter[str] = field(default_factory=Counter)
    last_words: Counter[tuple[str, str]] = field(default_factory=Counter)
    words: set[str] = field(default_factory=set)  # but for last ones
    scripts: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    longer_wins: Counter[str] = field(default_factory=Counter)

    def add(self, pair: Pair) -> None:
        """Count a pair."""
        if self.pairs < LANGUAGE_SAMPLE:
            self.languages[language_of_text(pair.chosen)] += 1
        self.pairs += 1
        texts = (*(turn["content"] for turn in pair.prompt), pair.chosen, pair.rejected)
        self.counts["identical_beginnings"] += pair.chosen[:BEGINNING] == pair.rejected[:BEGINNING]
        self.counts["control_tokens"] += any(map(LOOKALIKE.search, texts))
        for side, text in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            self._add_words(side, text)
        self.scripts[script_of_text(pair.chosen)] += 1
        self.sources[pair.source] += 1
        longer = len(pair.chosen) - len(pair.rejected)
        self.longer_wins[pair.source] += 2 if longer > 0 else longer == 0

    def _add_words(self, side: str, text: str) -> None:
        words = WORD.findall(text.lower())
        last = words.pop() if words and text[-1].islower() else None
        self.words.update(words)
        if len(text) >= LONG:
            self.long[side] += 1
            if last is not None:
                self.last_words[side, last] += 1

    def _cut_in_word(self) -> dict[str, float | None]:
        """The shares of the long responses that end in a word that stands nowhere else; None where few words do."""
        if len(self.words) < MIN_WORDS:
            return {"chosen": None, "rejected": None}
        cut: Counter[str] = Counter()
        for (side, word), count in self.last_words.items():
            cut[side] += count * (word not in self.words)
        return {side: share(cut[side], self.long[side]) for side in ("chosen", "rejected")}

    def figures(self) -> dict[str, Any]:
        """The shares of pairs and of responses."""
        named = [name for name, _ in self.sources.most_common(MAX_SOURCES)]
        return {
            "identical_beginnings": share(self.counts["identical_beginnings"], self.pairs),
            "control_tokens": share(self.counts["control_tokens"], self.pairs),
            "cut_in_word": self._cut_in_word(),
            "scripts": {name: share(count, self.pairs) for name, count in self.scripts.most_common()},
            "languages": {name: share(count, self.languages.total()) for name, count in self.languages.most_common()},
            "longer_wins": share(self.longer_wins.total(), 2 * self.pairs),
            "by_source": {
                name: {
                    "pairs": self.sources[name],
                    "longer_wins": share(self.longer_wins[name], 2 * self.sources[name]),
                }
                for name in named
            },
        }


class Leaks:
    """What of some evaluated pairs is met again in training, although no prompt is in two splits.

    The evaluated pairs, which are few, are in memory; those trained on pass by.
    """

    def __init__(self, evaluated: Iterable[Pair]) -> None:
        self._index = RMinHashLSH(SIMILARITY, HASHES, BANDS)
        self._hashes: list[RMinHash] = []
        self._responses: Counter[str] = Counter()
        prompts = set()
        for pair in evaluated:
            self._responses[_responses(pair)] += 1
            text = normalize_prompt(pair.prompt)
            if text not in prompts:
                prompts.add(text)
                self._hashes.append(_min_hash(text))
        self._index.insert_many(self._hashes)
        self._near: set[int] = set()
        self._again: set[str] = set()

    def add_prompt(self, hashed: RMinHash) -> None:
        """Meet a prompt of training."""
        for place in self._index.query(hashed):
            if place not in self._near and self._hashes[place].jaccard(hashed) >= SIMILARITY:
                self._near.add(place)

    def add_responses(self, responses: str) -> None:
        """Meet the two responses of a training pair."""
        if responses in self._responses:
            self._again.add(responses)

    def figures(self) -> dict[str, float | None]:
        """The shares of prompts with a near-duplicate in training, and of pairs of which both responses are there."""
        again = sum(self._responses[responses] for responses in self._again)
        return {
            "near_duplicate_prompts": share(len(self._near), len(self._hashes)),
            "responses_trained_on": share(again, self._responses.total()),
        }


def measure_quality(splits: Mapping[str, Sequence[PairLike]]) -> dict[str, Any]:
    """The figures of the training pairs, and by evaluated split what of it is met again in them."""
    habits = Habits()
    leaks = {name: Leaks(pair.load() for pair in pairs) for name, pairs in splits.items() if name != "train"}
    prompts = set()
    for number, entry in enumerate(progress(splits["train"], "look at the pairs")):
        pair = entry.load()
        if number < SAMPLE:
            habits.add(pair)
        is_new = entry.prompt_id not in prompts
        prompts.add(entry.prompt_id)
        hashed = _min_hash(normalize_prompt(pair.prompt)) if is_new else None
        responses = _responses(pair)
        for of_split in leaks.values():
            of_split.add_responses(responses)
            if hashed is not None:
                of_split.add_prompt(hashed)
    return {**habits.figures(), "leaks": {name: of_split.figures() for name, of_split in leaks.items()}}


def unbalanced_labels(counts: Mapping[str, Any]) -> Iterator[str]:
    """A line for each source whose labels nearly always name the same one of the two responses."""
    for path, own in counts.get("sources", {"data": counts}).items():
        labels = own.get("labels", {})
        place, most = max(labels.items(), key=lambda item: item[1], default=("", 0))
        if (total := sum(labels.values())) >= MIN_PAIRS and most / total > MANY["labels"]:
            yield f"{path}: the label says {place!r} in {most / total:.0%} of the rows: is it read right?"


def dominant_prompts(counts: Mapping[str, Any]) -> Iterator[str]:
    """A line for each split many of whose pairs are of a single prompt."""
    for name, own in counts["splits"].items():
        if own["pairs"] >= MIN_PAIRS and own["largest_prompt"] > MANY["largest_prompt"]:
            meaning = "data.max_pairs_per_prompt limits them" if name == "train" else "its figures say little of others"
            yield f"{own['largest_prompt']:.0%} of the {name} pairs are of one prompt: {meaning}"


def quality_warnings(quality: Mapping[str, Any]) -> Iterator[str]:
    """A line for each figure that is bad."""
    if (found := quality["identical_beginnings"] or 0) > MANY["identical_beginnings"]:
        yield f"both responses begin with the same {BEGINNING} characters in {found:.0%} of the training pairs"
    if (found := quality["control_tokens"] or 0) > MANY["control_tokens"]:
        yield f"{found:.0%} of the training pairs hold what looks like a control token of a chat template"
    cut = {side: found or 0 for side, found in quality["cut_in_word"].items()}
    if max(cut.values()) > MANY["cut_in_word"]:
        shares = f"{cut['chosen']:.0%} of the long chosen and {cut['rejected']:.0%} of the long rejected responses"
        yield f"{shares} end within a word"
    for source, own in quality["by_source"].items():
        longer = own["longer_wins"]
        if own["pairs"] >= MIN_PAIRS and max(longer, 1 - longer) > MANY["longer_wins"]:
            yield f"{source!r}: the longer response is the chosen one in {longer:.0%}: a model may learn little else"
            break
    for name, own in quality["leaks"].items():
        if (found := own["near_duplicate_prompts"] or 0) > MANY["leaks"]:
            yield f"{found:.0%} of the {name} prompts are nearly the same as one that is trained on"
        if (found := own["responses_trained_on"] or 0) > MANY["leaks"]:
            yield f"the two responses of {found:.0%} of the {name} pairs are trained on with another prompt"


def quality_rows(quality: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The figures for people: what it is, and how large a share."""
    for name, found in _named_shares(quality):
        yield name, "–" if found is None else f"{found:.1%}"


def _named_shares(quality: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    yield f"pairs whose responses begin with the same {BEGINNING} characters", quality["identical_beginnings"]
    yield "pairs with what looks like a control token", quality["control_tokens"]
    for side, found in quality["cut_in_word"].items():
        yield f"long {side} responses that end within a word", found
    yield "pairs whose chosen response is the longer one", quality["longer_wins"]
    if len(quality["by_source"]) > 1:
        for source, own in quality["by_source"].items():
            yield f"the same for the source {source}", own["longer_wins"]
    for key, kind in (("scripts", "script"), ("languages", "language")):
        for name, found in quality[key].items():
            if found >= RARE:
                yield f"chosen responses in {kind}: {name}", found
    for name, own in quality["leaks"].items():
        yield f"{name} prompts nearly the same as one trained on", own["near_duplicate_prompts"]
        yield f"{name} pairs whose responses are trained on", own["responses_trained_on"]


def share(part: float, whole: float) -> float | None:
    """The part of the whole; None of nothing."""
    return part / whole if whole else None


def script_of_text(text: str) -> str:
    """The Unicode script of most of its first letters, in lower case; `none` where there are none."""
    scripts = Counter(map(_script, islice(filter(str.isalpha, text), LETTERS)))
    return scripts.most_common(1)[0][0] if scripts else "none"


def language_of_text(text: str) -> str:
    """The ISO 639 code of the text's language, or `unclear`."""
    language, _ = _identifier().classify(text)
    return UNCLEAR if language in ("und", "zxx") else language


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=CONFIDENCE)


@cache
def _script(letter: str) -> str:
    return unicodedata.name(letter, "unknown").split()[0].lower()


def _min_hash(prompt: str) -> RMinHash:
    """Of the pairs of neighbouring words."""
    words = prompt.split()
    hashed = RMinHash(HASHES, seed=0)
    hashed.update([f"{one} {two}" for one, two in pairwise(words)] or words)
    return hashed


def _responses(pair: Pair) -> str:
    return digest(squeeze(pair.chosen), squeeze(pair.rejected))[:16]
