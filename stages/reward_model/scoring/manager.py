"""The Python API: load a trained reward model; score texts, comparisons and files.

Needs torch and transformers, or onnxruntime, once a model is loaded.
"""

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reward_model.common.errors import UserError
from reward_model.contract.encoder import EncodedResponses, Encoder
from reward_model.data.row_formats import Columns, InvalidRow, parse_sides
from reward_model.evaluation.calibration import Calibration
from reward_model.scoring.model_folder import find_model, is_made_here, model_digest
from reward_model.scoring.prompts import Prompt
from reward_model.scoring.scorer import Backend, Comparison, RankedResponse, Scorer

if TYPE_CHECKING:
    from reward_model.scoring.explanation import Explanation
    from reward_model.scoring.file_scoring import FileReport

CHOICES = {
    "device": ("auto", "cuda", "mps", "cpu"),
    "precision": ("fp32", "bf16", "auto"),
    "backend": ("auto", "torch", "onnx"),
}
MIN_LENGTH = 8  # tokens, as `tokenize.max_length`


class RewardModelManager:
    """A trained reward model, ready to score. Rewards are in logits; only differences for one prompt mean something.

    Safe to call from several threads: one computes at a time, with all of the machine's cores.
    """

    def __init__(
        self,
        device: str = "auto",
        precision: str = "fp32",
        batch_size: int = 8,
        backend: str = "auto",
        *,
        normalize: bool = False,
        max_length: int | None = None,
    ) -> None:
        """Choose how to compute.

        Args:
            device: auto, cuda, mps or cpu.
            precision: fp32, bf16, or auto (bf16 where the hardware is fast at it).
            batch_size: prompts computed at a time, with all their responses. Rewards do not depend on it.
            backend: torch; onnx, which starts faster, on the CPU in the precision of the exported file; auto is torch
                where it is installed.
            normalize: give rewards as z-scores: 0 is the mean reward of the validation responses, 1 their standard
                deviation. Models that were not evaluated cannot be loaded then.
            max_length: tokens that texts are cut to; None: all that the model takes, which is the most.

        Raises:
            UserError: an argument is out of range.
        """
        for name, value in {"device": device, "precision": precision, "backend": backend}.items():
            if value not in CHOICES[name]:
                raise UserError(f"{name} {value!r} is none of {', '.join(CHOICES[name])}")
        if batch_size < 1:
            raise UserError(f"the batch size must be 1 or more, not {batch_size}")
        if max_length is not None and max_length < MIN_LENGTH:
            raise UserError(f"the max length must be {MIN_LENGTH} tokens or more, not {max_length}")
        if backend == "auto" and importlib.util.find_spec("torch") is None:
            backend = "onnx"
        if backend == "onnx" and (device in ("cuda", "mps") or precision == "bf16"):
            raise UserError("the backend onnx computes on the CPU, in the exported precision: take torch for others")
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.backend = backend
        self.normalize = normalize
        self._max_length = max_length
        self._scorer: Scorer | None = None
        self._made_here = True
        self._limit_of_model = 0

    def load_trained_model(self, path: str | Path) -> tuple[Any, Any]:
        """Load the model that the scores come from. If that fails, the one loaded before stays.

        A reward model made elsewhere will do, a sequence classifier with one label and a chat template: the contract is
        then what its files imply, and nothing is calibrated. It takes the backend torch.

        Args:
            path: the model's folder; or hub:NAME or hub:NAME@REVISION.

        Returns:
            The sequence classifier (one label) and its tokenizer, whose chat template is part of the contract, as
            transformers has them; with the backend onnx, onnxruntime's session and the tokenizers library's tokenizer.

        Raises:
            UserError: there is no reward model in `path`, its files are not those that were saved, the device is not
                on this machine, the backend is not installed, rewards cannot be normalized, or the model takes fewer
                tokens than `max_length`.
        """
        folder = find_model(str(path))
        return self._load_onnx(folder) if self.backend == "onnx" else self._load_torch(folder)

    def _load_torch(self, folder: Path) -> tuple[Any, Any]:
        try:
            from reward_model.contract.base_tokenizer import load_transformers_tokenizer
            from reward_model.scoring.torch_backend import TorchBackend
        except ModuleNotFoundError as error:
            raise UserError(f"{error.name} is not installed: pip install '.[torch]', or take --backend onnx") from None
        backend, encoder = TorchBackend.load(folder, self.device, self.precision)
        tokenizer = load_transformers_tokenizer(folder)
        self._score_with(backend, encoder, folder)
        return backend.model, tokenizer

    def _load_onnx(self, folder: Path) -> tuple[Any, Any]:
        from reward_model.scoring.onnx_backend import OnnxBackend

        backend, encoder = OnnxBackend.load(folder)
        self._score_with(backend, encoder, folder)
        return backend.session, encoder.tokenizer

    def _score_with(self, backend: Backend, encoder: Encoder, folder: Path) -> None:
        made_here = is_made_here(folder)
        calibration = Calibration.load(folder) if made_here else Calibration()
        if self.normalize and not (calibration.pairs and calibration.reward_std):
            raise UserError(f"{folder} has no mean and deviation of rewards, so they cannot be normalized")
        fingerprint = f"{model_digest(folder)} {backend.name}{' z-scores' if self.normalize else ''}"
        limit, wanted = encoder.contract.max_length, self._max_length
        if wanted is not None and wanted != limit:
            if wanted > limit:
                raise UserError(f"the max length {wanted} is more than the {limit} tokens that {folder} takes")
            encoder = encoder.with_max_length(wanted)
            fingerprint += f", up to {wanted} tokens"
        given = calibration.of_z_scores() if self.normalize else calibration
        z_scores_by = calibration if self.normalize else None
        self._scorer = Scorer(backend, encoder, given, self.batch_size, fingerprint, z_scores_by)
        self._made_here = made_here
        self._limit_of_model = limit

    @property
    def scorer(self) -> Scorer:
        """What computes the rewards, for servers.

        Raises:
            UserError: no model is loaded.
        """
        return self._loaded()

    @property
    def computes_on(self) -> str:
        """The backend, device and precision in use.

        Raises:
            UserError: no model is loaded.
        """
        return self._loaded().backend.name

    @property
    def unit(self) -> str:
        """What the rewards are called."""
        return "z-score" if self.normalize else "reward"

    @property
    def notes(self) -> list[str]:
        """What is to be known of the loaded model's rewards, beyond what they always are.

        Raises:
            UserError: no model is loaded.
        """
        notes, z_scores_by = [], self._loaded().z_scores_by
        if not self._made_here:
            notes.append(
                "the model was not made here: conversations are rendered with its own chat template, up to "
                f"{self.max_length} tokens; it is not calibrated, so there are no probabilities"
            )
        if self.max_length < self._limit_of_model:
            notes.append(f"texts are cut to {self.max_length} tokens, although the model takes {self._limit_of_model}")
        if z_scores_by is not None:
            notes.append(
                f"rewards are z-scores, by the mean {z_scores_by.reward_mean:.4g} and the standard deviation "
                f"{z_scores_by.reward_std:.4g} of the responses of {z_scores_by.pairs} validation pairs"
            )
        return notes

    @property
    def calibration(self) -> Calibration:
        """What the loaded model's margins are worth; of z-scores, if rewards are normalized.

        Raises:
            UserError: no model is loaded.
        """
        return self._loaded().calibration

    @property
    def max_length(self) -> int:
        """Tokens of prompt and response that are scored; what is longer is cut.

        Raises:
            UserError: no model is loaded.
        """
        return self._loaded().encoder.contract.max_length

    def encode(self, prompt: Prompt, responses: Sequence[str]) -> EncodedResponses:
        """The token ids of which the rewards are computed, and how many were left out of texts that are too long.

        Raises:
            UserError: as `get_reward_score`.
        """
        return self._loaded().encode(prompt, responses)

    def get_reward_score(self, text: str, prompt: Prompt = "") -> float:
        """The reward of `text` as the assistant's answer to `prompt` (a user's message, or a chat; "": none).

        Raises:
            UserError: no model is loaded, the prompt is no chat, the text cannot be encoded, or the model's chat
                template refuses the prompt.
        """
        scorer = self._loaded()
        [[reward]] = scorer.rewards([scorer.encode(prompt, [text]).ids])
        return reward

    def compare_responses(self, prompt: Prompt, response_a: str, response_b: str) -> Comparison:
        """Say which of two responses to `prompt` the model prefers, and how sure that is.

        Raises:
            UserError: as `get_reward_score`.
        """
        scorer = self._loaded()
        [(reward_a, reward_b)] = scorer.rewards([scorer.encode(prompt, [response_a, response_b]).ids])
        return scorer.compare(reward_a, reward_b)

    def rank_responses(self, prompt: Prompt, responses: Sequence[str]) -> list[RankedResponse]:
        """Order responses to one prompt, the best first, equal ones as given.

        Raises:
            UserError: as `get_reward_score`, or there are no responses.
        """
        if isinstance(responses, str):  # a sequence of letters
            raise UserError("the responses are one text: a list of texts is wanted")
        scorer = self._loaded()
        [rewards] = scorer.rewards([scorer.encode(prompt, responses).ids])
        return scorer.rank(responses, rewards)

    def explain_rewards(self, prompt: Prompt, responses: Sequence[str]) -> "list[Explanation]":
        """What the reward of each response comes from: the head read along it, and the response without each sentence.

        Takes the backend torch. `scoring.explanation` says what the two mean.

        Raises:
            UserError: as `rank_responses`, or the backend is ONNX.
        """
        from reward_model.scoring.explanation import explain

        return explain(self._loaded(), prompt, responses)

    def score_pairs(self, pairs: Iterable[Mapping[str, Any]]) -> list[Comparison]:
        """Score preference pairs; in each comparison a is chosen and b is rejected.

        Args:
            pairs: objects with prompt, chosen and rejected, in any form that the prepare stage takes.

        Returns:
            A comparison for each pair, in their order.

        Raises:
            UserError: as `get_reward_score`, or one is no pair; says which.
        """
        scorer = self._loaded()
        groups = []
        for number, pair in enumerate(pairs):
            if not isinstance(pair, Mapping):
                raise UserError(f"pair {number} cannot be scored: an object with prompt, chosen and rejected is wanted")
            try:
                prompt, chosen, rejected = parse_sides(dict(pair), Columns())
                groups.append(scorer.encode(prompt, [chosen, rejected]).ids)
            except InvalidRow as reason:
                raise UserError(f"pair {number} cannot be scored: {reason.detail}") from None
            except UserError as error:
                raise UserError(f"pair {number} cannot be scored: {error}") from None
        return [scorer.compare(chosen, rejected) for chosen, rejected in scorer.rewards(groups)]

    def score_file(
        self,
        source: str | Path,
        target: str | Path,
        *,
        resume: bool = False,
        progress: bool = False,
        stdio_format: str = "jsonl",
    ) -> "FileReport":
        """Score the rows of a file into another, in constant memory; `file_scoring` tells of the columns.

        Args:
            source: JSONL, CSV or Parquet, or `-` for stdin. Rows have text, prompt + response,
                prompt + chosen + rejected, or prompt + responses.
            target: JSONL, CSV or Parquet, or `-` for stdout; gets all columns of `source`, and the rewards.
            resume: continue what an interrupted call began.
            progress: show a progress bar on stderr.
            stdio_format: of stdin and stdout, jsonl or csv.

        Returns:
            How many rows were scored, how many could not be, and of how many something was left out.

        Raises:
            UserError: no model is loaded, a file cannot be read or written, or it has nothing to score.
        """
        from reward_model.scoring.file_scoring import score_rows_of_file

        return score_rows_of_file(
            self._loaded(),
            str(source),
            str(target),
            resume=resume,
            progress=progress,
            stdio_format=stdio_format,
        )

    def _loaded(self) -> Scorer:
        if self._scorer is None:
            raise UserError('no model is loaded: call load_trained_model("models/export") first')
        return self._scorer
