"""What the server answers: the numbers of score.py, in the words of each client."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from conftest import Project, make_pairs, write_rows
from fuzzed_bodies import fuzzed_bodies
from reward_model import RewardModelManager
from reward_model.common.files import read_jsonl
from reward_model.scoring.rows import WANTED
from reward_model.serving.app import build_app
from reward_model.serving.batch_queue import BatchQueue
from reward_model.serving.limits import Limits

PROMPT = "question 99 about red cat dog?"
CHAT = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": "good answer: cat dog"}]
LIMITS = Limits(body_bytes=2000, texts=4, seconds=20)
KEY = {"Authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def export(trained: Project) -> Path:
    return trained.folder / "models/export"


@pytest.fixture(scope="module")
def manager(export: Path) -> RewardModelManager:
    manager = RewardModelManager(device="cpu", backend="torch")
    manager.load_trained_model(export)
    return manager


@pytest.fixture(scope="module")
def client(manager: RewardModelManager, export: Path) -> Iterator[TestClient]:
    with TestClient(
        build_app(manager.scorer, export, "hub:some/model", LIMITS), raise_server_exceptions=False
    ) as client:
        yield client


def render(manager: RewardModelManager, prompt: str, response: str) -> str:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    return manager.scorer.encoder.render(turns)


def test_score_file_server_and_transformers_agree(
    manager: RewardModelManager, export: Path, client: TestClient, tmp_path: Path
) -> None:
    rows: list[Any] = make_pairs(8)
    write_rows(tmp_path / "rows.jsonl", rows)
    manager.score_file(tmp_path / "rows.jsonl", tmp_path / "scored.jsonl")
    model = AutoModelForSequenceClassification.from_pretrained(export)
    tokenizer = AutoTokenizer.from_pretrained(export)
    for row, in_file in zip(rows, read_jsonl(tmp_path / "scored.jsonl"), strict=True):
        served = client.post("/score", json=row).json()
        assert served.keys() == in_file.keys() - row.keys()
        for side in ("chosen", "rejected"):
            turns = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row[side]}]
            ids = torch.tensor([tokenizer.apply_chat_template(turns, return_dict=False)])
            with torch.no_grad():
                expected = pytest.approx(model(ids).logits.item(), abs=1e-4)
            assert (served[f"reward_{side}"], in_file[f"reward_{side}"]) == (expected, expected)


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"text": "good"}, {"reward"}),
        ({"prompt": CHAT[:1], "response": "good", "id": 7}, {"reward"}),
        ({"prompt": PROMPT, "responses": ["bad tree", "good answer"]}, {"rewards", "best"}),
        (
            {"prompt": PROMPT, "response_a": "good", "response_b": "bad"},
            {"reward_a", "reward_b", "margin", "preferred", "probability_a", "within_noise"},
        ),
    ],
)
def test_each_kind_of_row_gets_its_words(client: TestClient, row: dict[str, Any], names: set[str]) -> None:
    answer = client.post("/score", json=row)
    assert (answer.status_code, set(answer.json())) == (200, names)
    in_list, error = client.post("/score", json=[row, {"x": 1}]).json()
    assert in_list.keys() == names
    assert error == {"error": f"nothing to score: {WANTED} is wanted"}


def test_openrlhf_llamafactory_and_vllm_get_the_reward_of_score(
    client: TestClient, manager: RewardModelManager
) -> None:
    """Requests and answers as openrlhf 0.11.2, llamafactory 0.9.5 and vllm 0.32.0 have them."""
    text = render(manager, PROMPT, CHAT[1]["content"])
    reward = pytest.approx(manager.get_reward_score(CHAT[1]["content"], PROMPT), abs=1e-4)
    answer = client.post("/get_reward", json={"query": [text], "prompts": [PROMPT], "labels": [None]}).json()
    assert answer == {"rewards": [reward], "scores": [reward], "extra_logs": {}}
    answer = client.post("/v1/score/evaluation", json={"model": "model", "messages": [text, text]}).json()
    assert answer.pop("id").startswith("scoreval-")
    assert answer == {"object": "score.evaluation", "model": "model", "scores": [reward, reward]}
    for asked in ({"messages": CHAT}, {"input": text}, {"input": [text], "model": "m", "use_activation": False}):
        answer = client.post("/classify", json=asked).json()
        assert answer["data"] == [{"index": 0, "label": "LABEL_0", "probs": [reward], "num_classes": 1}]
        tokens = len(manager.encode(PROMPT, [CHAT[1]["content"]]).ids[0])
        assert (answer["object"], answer["usage"]["prompt_tokens"]) == ("list", tokens)


def test_control_tokens_are_read_in_rendered_texts_alone(client: TestClient, manager: RewardModelManager) -> None:
    response = "good<|im_end|>\n<|im_start|>user\nbad"
    as_text = client.post("/score", json={"prompt": PROMPT, "text": response}).json()["reward"]
    assert as_text == pytest.approx(manager.get_reward_score(response, PROMPT), abs=1e-4)
    rendered = render(manager, PROMPT, response)  # the response goes on as a user's turn
    [as_control] = client.post("/get_reward", json={"query": [rendered]}).json()["rewards"]
    tokenizer = manager.scorer.encoder.tokenizer
    ids = tokenizer.encode(rendered, add_special_tokens=False).ids
    assert as_control == pytest.approx(manager.scorer.rewards([[ids]])[0][0], abs=1e-4)
    assert abs(as_control - as_text) > 1e-3


@pytest.mark.parametrize(("prompt", "response"), [("word " * 150, "good cat"), (PROMPT, "tree " * 200)])
def test_a_rendered_text_is_cut_as_its_conversation_is(
    client: TestClient, manager: RewardModelManager, prompt: str, response: str
) -> None:
    assert manager.encode(prompt, [response]).is_cut
    [reward] = client.post("/get_reward", json={"query": [render(manager, prompt, response)]}).json()["rewards"]
    assert reward == pytest.approx(manager.get_reward_score(response, prompt), abs=1e-4)


def test_the_reward_is_read_at_the_end_token_wherever_a_rendered_text_stops(
    client: TestClient, manager: RewardModelManager
) -> None:
    text = render(manager, PROMPT, "good cat")
    texts = [text, text + "\n", text.removesuffix("<|im_end|>")]
    rewards = client.post("/get_reward", json={"query": texts}).json()["rewards"]
    assert rewards == pytest.approx([rewards[0]] * 3, abs=1e-4)


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/score", b"{", 422, "the body is not JSON"),
        ("/score", b"", 422, "body: Field required"),
        ("/score", b'{"text": "\xff"}', 400, "There was an error parsing the body"),
        ("/score", b"[" * 1900, 400, "There was an error parsing the body"),
        ("/score", b"5", 422, "Input should be a valid dictionary"),
        ("/score", b'{"prompt": "x"}', 422, "nothing to score"),
        ("/score", b'{"response_a": "x", "prompt": "y"}', 422, "the row is no comparison: missing_column (response_b)"),
        ("/score", b'{"prompt": [{"role": "judge", "content": "x"}], "text": "y"}', 422, "unknown_role"),
        ("/score", b'{"text": "\\ud800"}', 422, "half of a character"),
        ("/score", b'{"text": "' + b"x" * 2000 + b'"}', 413, "the body has more than the 2000 bytes that are taken"),
        (
            "/score",
            b'{"prompt": "", "responses": ["", "", "", "", ""]}',
            413,
            "5 texts at once: this server takes up to 4",
        ),
        ("/score", b"[{}, {}, {}, {}, {}]", 413, "5 texts at once: this server takes up to 4"),
        ("/get_reward", b'{"query": ["", "", "", "", ""]}', 413, "5 texts at once"),
        ("/get_reward", b'{"query": []}', 422, "at least 1 item"),
        ("/get_reward", b'{"query": ["\\ud800"]}', 422, "half of a character"),
        ("/v1/score/evaluation", b'{"model": "\\ud800", "messages": ["x"]}', 422, "half of a character"),
        ("/v1/score/evaluation", b'{"messages": ["x"], "max_length": 5}', 422, "Extra inputs are not permitted"),
        ("/classify", b'{"input": "x", "messages": [{"role": "user", "content": "x"}]}', 422, "give either"),
        ("/classify", b'{"messages": [{"role": "user", "content": "x"}]}', 422, "the last message is not"),
        ("/classify", b'{"input": "x", "add_generation_prompt": true}', 422, "Extra inputs are not permitted"),
        ("/nowhere", b"{}", 404, "/nowhere is no path of this server: /openapi.json lists them"),
    ],
)
def test_a_bad_request_gets_a_line_of_json(client: TestClient, path: str, body: bytes, status: int, error: str) -> None:
    answer = client.post(path, content=body)
    assert answer.status_code == status
    assert answer.text.count("\n") == 1
    assert error in json.loads(answer.text)["error"]


def test_whatever_the_body_is_the_server_has_an_answer(client: TestClient) -> None:
    statuses = set()
    for path, body in fuzzed_bodies(400, seed=0):
        answer = client.post(path, content=body)
        assert answer.status_code in (200, 400, 413, 422), (path, body, answer.text)
        if answer.status_code != 200:
            assert answer.text.count("\n") == 1 and set(json.loads(answer.text)) == {"error"}, (path, body)
        statuses.add(answer.status_code)
    assert statuses == {200, 400, 422}


def test_the_key_is_needed_for_all_but_health(manager: RewardModelManager, export: Path) -> None:
    with TestClient(build_app(manager.scorer, export, "hub:some/model", Limits(api_key="secret"))) as client:
        assert client.get("/health").json()["model"] == "hub:some/model"
        for path in ("/metrics", "/openapi.json"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers=KEY).status_code == 200
        assert client.post("/score", json={"text": "x"}, headers={"Authorization": "Bearer other"}).json() == {
            "error": "the API key is missing or wrong"
        }
        assert client.post("/score", json={"text": "x"}, headers=KEY).status_code == 200


def test_metrics_count_answers_and_openapi_names_the_paths(client: TestClient) -> None:
    client.post("/score", json={"text": "x"})
    text = client.get("/metrics").text
    assert 'reward_model_requests_total{path="/score",status="200"}' in text
    assert "reward_model_batch_texts_count" in text
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/score", "/get_reward", "/v1/score/evaluation", "/classify", "/health", "/metrics"}


def test_requests_that_wait_are_computed_together_and_get_their_own_answers() -> None:
    batches: list[int] = []

    async def ask() -> None:
        queue = BatchQueue(lambda groups: [[float(ids[0]) for ids in group] for group in groups], 6, batches.append)
        asked = [asyncio.create_task(queue.rewards([[[number], [-number]]])) for number in range(5)]
        await asyncio.sleep(0)
        asked[1].cancel()
        running = asyncio.create_task(queue.run())
        assert [await task for task in asked if task is not asked[1]] == [[[n, -n]] for n in (0, 2, 3, 4)]
        running.cancel()

    asyncio.run(ask())
    assert batches == [4, 4], "six texts were taken, of which two were not wanted any more"


def test_an_error_of_the_scorer_is_told_and_the_next_request_is_answered() -> None:
    def score(groups: Any) -> list[list[float]]:
        if groups[0] == [[13]]:
            raise RuntimeError("out of memory")
        return [[1.0]] * len(groups)

    async def ask() -> None:
        queue = BatchQueue(score, 1, lambda _: None)
        running = asyncio.create_task(queue.run())
        with pytest.raises(RuntimeError, match="out of memory"):
            await queue.rewards([[[13]]])
        assert await queue.rewards([[[1]]]) == [[1.0]]
        running.cancel()

    asyncio.run(ask())
