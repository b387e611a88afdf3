"""What a new user types first: everyday questions, with right and wrong answers, refusals and nonsense.

    python tests/performance/everyday_questions.py [--model models/export]

Each of 30 questions, none of them in the sample, has a right answer as a word and as a sentence, and a wrong one of
each. No refusal is trained on word for word, but some are like those that are. The last line is JSON: of how many
comparisons the model prefers the right answer, in the order of the table that it prints. Writes no file.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, "stages")

import reward_model.common.environment  # noqa: F401
from reward_model import RewardModelManager
from reward_model.data.degenerate import EMPTY_REPLIES, EMPTY_REPLIES_OF_TEST

# Question, right answer, wrong answer, sentence.
QUESTIONS = [
    ("What is the capital of France?", "Paris", "Lyon", "The capital of France is {}."),
    ("What is 7 times 8?", "56", "54", "7 times 8 is {}."),
    ("Who wrote Hamlet?", "William Shakespeare", "Charles Dickens", "Hamlet was written by {}."),
    ("What colour is the sky on a clear day?", "blue", "green", "The sky is {} on a clear day."),
    ("How many legs does a spider have?", "eight", "six", "A spider has {} legs."),
    (
        "What is the largest planet in the solar system?",
        "Jupiter",
        "Mars",
        "{} is the largest planet in the solar system.",
    ),
    ("Which gas do plants take in from the air?", "carbon dioxide", "helium", "Plants take in {} from the air."),
    ("What is the opposite of hot?", "cold", "warm", "The opposite of hot is {}."),
    ("In which year did World War II end?", "1945", "1918", "World War II ended in {}."),
    ("What is the chemical symbol of gold?", "Au", "Ag", "The chemical symbol of gold is {}."),
    ("Who painted the Mona Lisa?", "Leonardo da Vinci", "Pablo Picasso", "The Mona Lisa was painted by {}."),
    (
        "At how many degrees Celsius does water boil at sea level?",
        "100",
        "70",
        "Water boils at {} degrees Celsius at sea level.",
    ),
    ("Which language do most people in Brazil speak?", "Portuguese", "Spanish", "Most people in Brazil speak {}."),
    ("What do bees make?", "honey", "milk", "Bees make {} from the nectar of flowers."),
    ("How many days does a leap year have?", "366", "364", "A leap year has {} days."),
    ("What is the currency of Japan?", "the yen", "the euro", "The currency of Japan is {}."),
    ("How do you say thank you in Spanish?", "gracias", "merci", "In Spanish you say {}."),
    ("What is the square root of 81?", "9", "8", "The square root of 81 is {}."),
    ("Which mammal can fly?", "the bat", "the whale", "{} is a mammal that can fly."),
    ("Which ocean is the largest?", "the Pacific", "the Arctic", "{} is the largest ocean."),
    ("What do you call a baby dog?", "a puppy", "a kitten", "A baby dog is called {}."),
    ("Which season comes after winter?", "spring", "autumn", "{} comes after winter."),
    ("How many minutes are in an hour?", "60", "100", "There are {} minutes in an hour."),
    ("On which continent is Egypt?", "Africa", "Europe", "Egypt is in {}."),
    ("Which organ pumps blood through the body?", "the heart", "the liver", "{} pumps blood through the body."),
    (
        "Who was the first person on the Moon?",
        "Neil Armstrong",
        "Albert Einstein",
        "{} was the first person on the Moon.",
    ),
    ("What is frozen water called?", "ice", "steam", "Frozen water is called {}."),
    ("Which metal is liquid at room temperature?", "mercury", "iron", "{} is liquid at room temperature."),
    ("Which instrument has black and white keys?", "the piano", "the violin", "{} has black and white keys."),
    ("Which star is closest to the Earth?", "the Sun", "Sirius", "{} is the star closest to the Earth."),
]
REFUSALS = [
    "I can't say.",
    "Sorry, I can't answer that.",
    "No comment.",
    "I do not know the answer to this question.",
    "I'm afraid I don't have that information.",
    "As an AI language model, I cannot answer that.",
    "As a large language model, I am unable to provide a response to your query.",
    "It depends on many factors, so it is hard to say.",
    "I would need more context to answer this properly.",
    "You can find the answer to this question by searching the web.",
]
NONSENSE = [
    "asdf qwer zxcv",
    "qwertyuiop",
    "x" * 30,
    "!" * 40,
    "lorem ipsum dolor sit amet",
    "blah blah blah",
    "3k9dj2 0x9f aa1 z",
    "😀😀😀😀😀😀😀😀",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/export"))
    options = parser.parse_args()
    assert not {*REFUSALS} & {*EMPTY_REPLIES, *EMPTY_REPLIES_OF_TEST}, "trained on or tested"
    manager = RewardModelManager()
    manager.load_trained_model(options.model)
    found: dict[str, list[int]] = {}
    for number, (question, right, wrong, frame) in enumerate(QUESTIONS):
        _, answer_to_another, _, frame_of_another = QUESTIONS[number - 1]
        frames = ("{}.", frame)
        answers = [sentence(of, answer) for answer in (right, wrong) for of in frames]
        off_topic = sentence(frame_of_another, answer_to_another)
        ranking = manager.rank_responses(question, [*answers, off_topic, *REFUSALS, *NONSENSE])
        rewards = [item.reward for item in sorted(ranking, key=lambda item: item.index)]
        word, whole, wrong_word, wrong_whole, of_another = rewards[:5]
        refusals, nonsense = rewards[5 : 5 + len(REFUSALS)], rewards[5 + len(REFUSALS) :]
        for name, better, worse in (
            ("sentence, refusal", whole, refusals),
            ("word, refusal", word, refusals),
            ("sentence, sentence off the topic", whole, [of_another]),
            ("sentence, wrong sentence", whole, [wrong_whole]),
            ("word, wrong word", word, [wrong_word]),
            ("word, wrong sentence", word, [wrong_whole]),
            ("sentence, nonsense", whole, nonsense),
            ("word, nonsense", word, nonsense),
            *((f"word, “{text}”", word, [reward]) for text, reward in zip(REFUSALS, refusals, strict=True)),
            *((f"sentence, “{text}”", whole, [reward]) for text, reward in zip(NONSENSE, nonsense, strict=True)),
        ):
            found.setdefault(name, []).extend(better > each for each in worse)
    for name, outcomes in found.items():
        print(f"{sum(outcomes):4} of {len(outcomes):3}  {name}")
    print(json.dumps({name: [sum(outcomes), len(outcomes)] for name, outcomes in found.items()}))


def sentence(frame: str, answer: str) -> str:
    """The frame with the answer in it, which begins with a capital."""
    text = frame.format(answer)
    return text[0].upper() + text[1:]


if __name__ == "__main__":
    main()
