"""Score text with the trained reward model.

python stages/score.py                                      a few examples
python stages/score.py --text "Your text here"
python stages/score.py --prompt "Question" --response_a "Good answer" --response_b "Bad answer"
python stages/score.py --interactive
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from reward_model.errors import UserError, run

if TYPE_CHECKING:
    from reward_model.manager import RewardModelManager

EXAMPLES = [
    (
        "How to cook pasta?",
        "Boil water, add salt, cook the pasta for the time on the packet, drain it and toss it with your sauce.",
        "I don't know.",
    ),
    (
        "What is the capital of France?",
        "The capital of France is Paris.",
        "France is a country in Europe with many cities.",
    ),
    (
        "Give me one tip for sleeping better.",
        "Go to bed and get up at the same time every day, also at weekends: your body clock needs the routine.",
        "sleep sleep sleep sleep sleep sleep sleep sleep sleep sleep sleep sleep sleep sleep",
    ),
]


def main() -> None:
    arguments = parse_arguments()
    if not (arguments.model / "config.json").exists():
        raise UserError(f"no trained model in {arguments.model}: run `make repro`, which trains and exports one")
    import reward_model.environment  # noqa: F401
    from reward_model.manager import RewardModelManager

    manager = RewardModelManager(device=arguments.device)
    manager.load_trained_model(arguments.model)
    if arguments.interactive:
        interact(manager)
    elif arguments.text is not None:
        print(f"{manager.get_reward_score(arguments.text, arguments.prompt or ''):.4f}")
    elif arguments.prompt is not None:
        print(comparison(manager, arguments.prompt, arguments.response_a, arguments.response_b))
    else:
        print("\n\n".join(comparison(manager, *example) for example in EXAMPLES))


def parse_arguments() -> argparse.Namespace:
    """Read the command line; wrong combinations end with a usage line and exit status 2."""
    parser = argparse.ArgumentParser(
        prog="score.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", help="a text to score, alone or as the answer to --prompt")
    parser.add_argument("--prompt", help="what the responses answer")
    parser.add_argument("--response_a", "--response-a", help="the first response to compare")
    parser.add_argument("--response_b", "--response-b", help="the second response to compare")
    parser.add_argument("--interactive", action="store_true", help="ask for prompts and responses, one after another")
    parser.add_argument("--model", type=Path, default=Path("models/export"), help="folder of the exported model")
    parser.add_argument("--device", choices=["auto", "cuda", "mps", "cpu"], default="auto", help="where to compute")
    arguments = parser.parse_args()
    both = arguments.response_a is not None and arguments.response_b is not None
    if (arguments.response_a is not None or arguments.response_b is not None) and not (both and arguments.prompt):
        parser.error("to compare give --prompt, --response_a and --response_b")
    if arguments.prompt is not None and arguments.text is None and not both:
        parser.error("--prompt needs --response_a and --response_b, or --text")
    return arguments


def comparison(manager: "RewardModelManager", prompt: str, response_a: str, response_b: str) -> str:
    """Two responses and which of them is preferred, for people."""
    result = manager.compare_responses(prompt, response_a, response_b)
    verdict = {
        "a": f"A is preferred, with probability {result.probability_a:.0%}",
        "b": f"B is preferred, with probability {1 - result.probability_a:.0%}",
        "tie": "a tie",
    }[result.preferred]
    return (
        f"prompt  {prompt}\n"
        f"A {result.reward_a:+8.3f}  {response_a}\n"
        f"B {result.reward_b:+8.3f}  {response_b}\n"
        f"-> {verdict} (margin {result.margin:+.3f})"
    )


def interact(manager: "RewardModelManager") -> None:
    """Compare pairs typed in until an empty prompt, Ctrl-D or Ctrl-C."""
    print("Compare two responses to a prompt. An empty prompt, Ctrl-D or Ctrl-C ends.", file=sys.stderr)
    try:
        while prompt := input("prompt> ").strip():
            response_a, response_b = input("response A> "), input("response B> ")
            try:
                print(comparison(manager, prompt, response_a, response_b))
            except UserError as error:
                print(f"error: {error}", file=sys.stderr)
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stderr)


if __name__ == "__main__":
    run(main, exit_status=2)
