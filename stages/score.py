"""Score text with the trained reward model.

python stages/score.py                                          a few examples
python stages/score.py --text "Your text here"
python stages/score.py --prompt "Question" --response_a "Good answer" --response_b "Bad answer"
python stages/score.py --prompt "Question" --responses "An answer" "Another" "A third"
python stages/score.py --prompt @chat.json --text "The next turn"
python stages/score.py --prompt "Question" --text "An answer" --explain
python stages/score.py --input pairs.jsonl --output scored.jsonl
python stages/score.py --input rows/ --output scored/ --workers 4
python stages/score.py --interactive
python stages/score.py --model hub:NAME --text "Your text here"  another reward model, made here or elsewhere

A --text that begins with a dash is given as --text="-like this".
"""

import argparse
import importlib.util
import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reward_model.cli.command_line import Once, Parser, load_manager
from reward_model.cli.examples import EXAMPLES
from reward_model.common.errors import UserError, run
from reward_model.scoring.model_folder import find_model, has_exact_onnx

if TYPE_CHECKING:
    from reward_model.scoring.explanation import Explanation
    from reward_model.scoring.file_scoring import FileReport
    from reward_model.scoring.manager import RewardModelManager
    from reward_model.scoring.prompts import Prompt


def main() -> None:
    arguments = parse_arguments()
    if arguments.workers is not None:
        score_shards(arguments)
        return
    if arguments.interactive:
        interact(arguments)
        return
    if arguments.input is not None:  # before a model is loaded
        from reward_model.scoring.row_sinks import check_files

        check_files(arguments.input[0], arguments.output, arguments.format)
    manager = load(arguments, arguments.model)
    if arguments.input is not None:
        score_file(manager, arguments)
    elif arguments.prompt is None and arguments.text is None:
        for prompt, *responses in EXAMPLES:
            print(f"prompt: {prompt}")
            print(format_score(manager, arguments, prompt, responses, None), end="\n\n")
    else:
        from reward_model.cli.display import cuts_report

        prompt, responses = parse_request(arguments)
        explanations = manager.explain_rewards(prompt, responses) if arguments.explain else None
        print(format_score(manager, arguments, prompt, responses, explanations))
        if explanations is not None and not arguments.json:
            show_explanations(manager, arguments, explanations)
        if note := cuts_report(manager, prompt, responses):
            print(note, file=sys.stderr)


def load(arguments: argparse.Namespace, model: str) -> "RewardModelManager":
    """A manager with `model`, a folder or hub:NAME, and with the backend that suits it and the options."""
    folder = find_model(model)
    return load_manager(arguments, folder, choose_backend(arguments, folder))


def choose_backend(arguments: argparse.Namespace, folder: Path) -> str:
    """The backend that answers first: torch takes longer to import than onnxruntime to score a few texts."""
    wanted = arguments.backend == "auto" and not arguments.explain
    small_work = arguments.input is None and arguments.device in ("auto", "cpu") and arguments.dtype == "fp32"
    if wanted and small_work and importlib.util.find_spec("onnxruntime") is not None and has_exact_onnx(folder):
        return "onnx"
    return arguments.backend


def parse_arguments() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: options that do not go together.
    """
    parser = Parser(
        prog="score.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    what = parser.add_argument_group("what to score")
    what.add_argument("--text", action=Once, help="a text, alone or as the answer to --prompt")
    what.add_argument("--prompt", action=Once, help="what the responses answer: text, or @FILE.json with a chat")
    what.add_argument("--response_a", "--response-a", action=Once, metavar="A", help="the first response to compare")
    what.add_argument("--response_b", "--response-b", action=Once, metavar="B", help="the second response to compare")
    what.add_argument("--responses", action=Once, nargs="+", metavar="R", help="responses to rank, the best first")
    what.add_argument("--interactive", action="store_true", help="ask for prompts and responses, one after another")
    files = parser.add_argument_group(
        "files",
        "Rows with text, prompt + response, prompt + response_a + response_b, prompt + chosen + rejected, or prompt + "
        "responses keep their columns, and get rewards; one that cannot be scored gets an error, and the status is 1.",
    )
    files.add_argument("--input", nargs="+", metavar="FILE", help=".jsonl, .csv or .parquet; - for stdin")
    files.add_argument(
        "--output", metavar="FILE", help=".jsonl, .csv or .parquet (of .jsonl only .jsonl); - for stdout"
    )
    files.add_argument("--format", choices=["jsonl", "csv"], default="jsonl", help="of stdin and stdout")
    files.add_argument("--resume", action="store_true", help="continue an interrupted --output")
    add_workers(parser)
    add_how(parser)
    arguments = parser.parse_args()
    check_combination(arguments)
    return arguments


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the options that score many files in parallel."""
    group = parser.add_argument_group(
        "many files in parallel",
        "With --workers, --input takes files, folders and patterns, and --output is a folder, which gets a file of the "
        "same name for each. The same command goes on after an interruption. Needs Ray: pip install '.[ray]'.",
    )
    group.add_argument("--workers", type=int, metavar="N", help="processes that compute, each with a model of its own")
    group.add_argument(
        "--ray-address", metavar="ADDRESS", help="of a Ray cluster, HOST:PORT or auto (default: this machine alone)"
    )


def add_how(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how to compute and print."""
    how = parser.add_argument_group("how")
    how.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    how.add_argument(
        "--explain", action="store_true", help="show how the reward moves along a response and without each sentence"
    )
    how.add_argument(
        "--model",
        metavar="DIR",
        default="models/export",
        help="folder of the model, or hub:NAME; made here or elsewhere (%(default)s)",
    )
    how.add_argument(
        "--normalize",
        action="store_true",
        help="rewards as z-scores: 0 is the mean reward of the validation responses, 1 their standard deviation",
    )
    how.add_argument(
        "--backend",
        choices=["auto", "torch", "onnx"],
        default="auto",
        help="onnx starts in a second, torch is faster in the long run; auto: onnx for what is typed, if the model has "
        "it in fp32, torch for files",
    )
    how.add_argument("--device", choices=["auto", "cuda", "mps", "cpu"], default="auto", help="where to compute")
    how.add_argument(
        "--dtype",
        choices=["fp32", "bf16", "auto"],
        default="fp32",
        help="fp32 gives the exact rewards, bf16 close ones, faster on some hardware; auto: bf16 on such hardware",
    )
    how.add_argument(
        "--batch-size",
        type=int,
        default=8,
        help="prompts computed at a time, with up to eight of their responses (%(default)s)",
    )
    how.add_argument(
        "--max-length",
        type=int,
        metavar="N",
        help="cut what is longer than N tokens, prompt included (default: all that the model takes, which is the most)",
    )


def check_combination(given: argparse.Namespace) -> None:
    """Raise a `UserError` unless the options ask for exactly one thing."""
    two = given.response_a is not None or given.response_b is not None
    asked = {
        "--text": given.text is not None,
        "--response_a and --response_b": two,
        "--responses": given.responses is not None,
        "--interactive": given.interactive,
        "--input": given.input is not None,
    }
    chosen = [name for name, is_asked in asked.items() if is_asked]
    if len(chosen) > 1:
        raise UserError(f"{chosen[0]} does not go with {chosen[1]}: give one of them")
    if two and (given.response_a is None or given.response_b is None or given.prompt is None):
        raise UserError("to compare give --prompt, --response_a and --response_b")
    if given.responses is not None and given.prompt is None:
        raise UserError("--responses needs the --prompt that they answer")
    if given.prompt is not None and (given.input is not None or given.interactive):
        raise UserError(f"--prompt does not go with {chosen[0]}, which has prompts of its own")
    if given.prompt is not None and chosen not in (["--text"], ["--responses"], ["--response_a and --response_b"]):
        raise UserError("--prompt needs --response_a and --response_b, --responses, or --text")
    if (given.input is None) != (given.output is None):
        raise UserError("to score a file give both --input and --output")
    if given.resume and given.input is None:
        raise UserError("--resume needs --input and --output")
    check_workers(given)
    for option, is_given in (("--json", given.json), ("--explain", given.explain)):
        if is_given and (given.input is not None or given.interactive or not chosen):
            raise UserError(f"{option} goes with --text, --responses, or --response_a and --response_b")
    if given.explain and given.backend == "onnx":
        raise UserError("--explain reads the head at every token, which ONNX does not give: take --backend torch")


def check_workers(given: argparse.Namespace) -> None:
    """Raise a `UserError` unless the options for many files go together."""
    if given.workers is None:
        if given.ray_address is not None:
            raise UserError("--ray-address needs --workers")
        if given.input is not None and (len(given.input) > 1 or Path(given.input[0]).is_dir()):
            raise UserError("several files and folders are scored with --workers N")
    elif given.workers < 1:
        raise UserError(f"--workers must be 1 or more, not {given.workers}")
    elif given.input is None:
        raise UserError("--workers needs --input and --output")
    elif given.resume:
        raise UserError("--resume does not go with --workers, which always go on where they were interrupted")


def parse_request(arguments: argparse.Namespace) -> tuple["Prompt", list[str]]:
    """The prompt, and what answers it.

    Raises:
        UserError: the prompt names a file that holds no chat.
    """
    from reward_model.scoring.prompts import read_prompt

    prompt = read_prompt(arguments.prompt or "")
    if arguments.text is not None:
        return prompt, [arguments.text]
    return prompt, arguments.responses or [arguments.response_a, arguments.response_b]


def format_score(
    manager: "RewardModelManager",
    arguments: argparse.Namespace,
    prompt: "Prompt",
    responses: list[str],
    explanations: "list[Explanation] | None",
) -> str:
    """The result for a text, two responses or several, for people, or as JSON with the explanations."""
    from reward_model.cli.display import comparison_report, ranking_report

    if arguments.text is not None:
        reward = manager.get_reward_score(arguments.text, prompt)
        result, report = {"reward": reward}, f"{reward:.4f}"
    elif arguments.responses is None:
        comparison = manager.compare_responses(prompt, *responses)
        result = asdict(comparison)
        report = comparison_report(comparison, (responses[0], responses[1]), manager.calibration, manager.unit)
    else:
        ranking = manager.rank_responses(prompt, responses)
        result = {"ranking": [asdict(item) for item in ranking]}
        report = ranking_report(ranking, manager.calibration, manager.unit)
    if not arguments.json:
        return report
    result |= {"normalized": True} if manager.normalize else {}
    return json.dumps(result | ({"explanations": list(map(asdict, explanations))} if explanations else {}))


def show_explanations(
    manager: "RewardModelManager", arguments: argparse.Namespace, explanations: "list[Explanation]"
) -> None:
    """Print explanations for people, named as the result names the responses."""
    from reward_model.cli.explanation import print_explanations

    numbers = [str(number) for number, _ in enumerate(explanations, 1)]
    names = [""] if arguments.text is not None else numbers if arguments.responses else ["A", "B"]
    print()
    print_explanations(explanations, names, manager.unit)


def score_file(manager: "RewardModelManager", arguments: argparse.Namespace) -> None:
    """Score --input into --output; exit status 1 if some rows could not be scored."""
    from reward_model.scoring.file_scoring import rows_done

    done = 0 if arguments.resume else rows_done(arguments.output)
    if done:
        note = f"{arguments.output} was interrupted after {done} rows; without --resume it starts over"
        print(f"note: {note}", file=sys.stderr)
    try:
        report = manager.score_file(
            arguments.input[0],
            arguments.output,
            resume=arguments.resume,
            progress=True,
            stdio_format=arguments.format,
        )
    except KeyboardInterrupt:
        if arguments.output != "-":
            print(f"interrupted: {arguments.output} has whole rows; --resume continues", file=sys.stderr)
        raise
    tell_report(report, arguments.output, manager.max_length)


def score_shards(arguments: argparse.Namespace) -> None:
    """Score all of --input into the folder --output with --workers; exit status 1 if some rows could not be scored."""
    from reward_model.scoring import ray_scoring

    options = ray_scoring.ScorerOptions(
        find_model(arguments.model).resolve(),
        arguments.device,
        arguments.dtype,
        arguments.batch_size,
        arguments.backend,
        arguments.normalize,
        arguments.max_length,
    )
    try:
        report, max_length = ray_scoring.score_shards(
            options, arguments.input, Path(arguments.output), arguments.workers, arguments.ray_address
        )
    except KeyboardInterrupt:
        print(f"interrupted: the same command goes on with {arguments.output}", file=sys.stderr)
        raise
    tell_report(report, arguments.output, max_length)


def tell_report(report: "FileReport", output: str, max_length: int) -> None:
    """Say what became of the rows; exit status 1 if some could not be scored."""
    rows = f"{report.rows} rows scored"
    if report.errors:
        rows = f"{report.rows - report.errors} of {rows}, the others have an `error`"
    print(f"{rows} -> {output}", file=sys.stderr)
    if report.first_error:
        print(f"note: the first is in {report.first_error}", file=sys.stderr)
    if report.cut:
        limit = f"the limit of {max_length} tokens"
        print(f"note: {report.cut} rows were longer than {limit}, and were cut to fit", file=sys.stderr)
    if report.errors:
        raise SystemExit(1)


def interact(arguments: argparse.Namespace) -> None:
    """Ask until the user leaves."""
    from reward_model.cli.interactive import InteractiveSession, asker

    InteractiveSession(partial(load, arguments), arguments.model, asker()).run()


if __name__ == "__main__":
    run(main, exit_status=2)
