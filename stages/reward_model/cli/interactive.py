"""An interactive session: a prompt, its responses, a result, and again."""

import importlib.util
import io
import sys
from collections.abc import Callable

from reward_model.cli.display import comparison_report, cuts_report, ranking_report
from reward_model.common.errors import UserError
from reward_model.scoring.manager import RewardModelManager
from reward_model.scoring.prompts import as_messages, read_prompt

HELP = """\
Give a prompt, then its responses; an empty line after the last one shows the result, as does the end of the input.
One response gets a reward, two are compared, more are ranked.
  several lines   end a line with \\ to go on in the next one; in a terminal Alt-Enter does it too, and pasted text
                  keeps its lines
  a chat          @chat.json as the prompt: a file with a list of role and content
  earlier input   arrow up
  /model [DIR]    say which model is used, or use another: a folder, or hub:NAME
  /again          start over with a new prompt
  /help, /quit    this text; leave (as do Ctrl-C, and Ctrl-D, which shows the result first)"""


class Leave(Exception):
    """The session is to end at once."""


class StartOver(Exception):
    """What was typed so far is not wanted."""


class InteractiveSession:
    """Ask until the user leaves. An error is reported and ends nothing.

    Args:
        load: gives a manager with the model of a folder or hub:NAME, and tells what there is to say of it.
        model: what to begin with, as `load` takes it.
        ask: shows a label and returns what was typed; EOFError is the end of the input, KeyboardInterrupt ends the
            session at once.
    """

    def __init__(self, load: Callable[[str], RewardModelManager], model: str, ask: Callable[[str], str]) -> None:
        self.manager = load(model)
        self.model = model
        self._load = load
        self._ask = ask
        self._is_over = False

    def run(self) -> None:
        """Ask for prompts and responses until /quit, Ctrl-C or the end of the input, which is as an empty line."""
        _say("Which answer is better? Give a prompt, then its responses. /help explains, /quit leaves.")
        try:
            while not self._is_over:
                try:
                    self._one_prompt()
                except StartOver:
                    continue
                except UserError as error:
                    _say(f"error: {error}")
        except (Leave, KeyboardInterrupt):
            _say("")

    def _one_prompt(self) -> None:
        prompt = read_prompt(self._answer("prompt> "))
        if not as_messages(prompt):
            return
        responses: list[str] = []
        while response := self._answer(f"response {chr(ord('A') + len(responses) % 26)}> "):
            responses.append(response)
        calibration, unit = self.manager.calibration, self.manager.unit
        if len(responses) == 1:
            print(f"{self.manager.unit} {self.manager.get_reward_score(responses[0], prompt):+.4f}", flush=True)
        elif len(responses) == 2:
            result = self.manager.compare_responses(prompt, *responses)
            print(comparison_report(result, (responses[0], responses[1]), calibration, unit), flush=True)
        elif responses:
            print(ranking_report(self.manager.rank_responses(prompt, responses), calibration, unit), flush=True)
        note = cuts_report(self.manager, prompt, responses) if responses else None
        if note:
            _say(note)

    def _answer(self, label: str) -> str:
        """What was typed at `label`; commands are carried out, and the label shown again."""
        while True:
            text = self._line(label)
            while text.endswith("\\"):
                text = text[:-1] + "\n" + self._line("... ")
            if not text.startswith("/"):
                return text.strip("\n")
            try:
                self._command(*text.split(maxsplit=1))
            except UserError as error:
                _say(f"error: {error}")

    def _line(self, label: str) -> str:
        """What was typed at `label`; nothing once the input is over."""
        if not self._is_over:
            try:
                return self._ask(label)
            except EOFError:
                self._is_over = True
                _say("")
        return ""

    def _command(self, name: str, argument: str = "") -> None:
        if name == "/quit":
            raise Leave
        if name == "/again":
            raise StartOver
        if name == "/help":
            _say(HELP)
        elif name == "/model":
            if argument:
                self.manager = self._load(argument.strip())
                self.model = argument.strip()
            _say(f"model {self.model} ({self.manager.computes_on})")
        else:
            _say(f"error: {name} is no command (/help tells which are; a space in front makes it text)")


def asker() -> Callable[[str], str]:
    """How to ask here: with editing and history in a terminal, else line by line."""
    if sys.stdin.isatty() and sys.stderr.isatty() and importlib.util.find_spec("prompt_toolkit"):
        return _terminal_asker()
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # what is not UTF-8 is reported when it is scored
    return _ask_for_line


def _terminal_asker() -> Callable[[str], str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    from prompt_toolkit.output import create_output

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    # Results alone go to stdout.
    session: PromptSession[str] = PromptSession(multiline=True, key_bindings=keys, output=create_output(sys.stderr))
    return session.prompt


def _ask_for_line(label: str) -> str:
    print(label, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
