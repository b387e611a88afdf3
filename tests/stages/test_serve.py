"""serve.py as a process: its start, its mistakes in a line, its end."""

import http.client
import json
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest

import serve
from conftest import Project
from reward_model.common.errors import run


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run serve.py's main, which must end in status 2; what it says."""

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["serve.py", *arguments])
        with pytest.raises(SystemExit) as end:
            run(serve.main, exit_status=2)
        assert end.value.code == 2
        return capsys.readouterr().err

    return call


def test_mistakes_are_a_line(trained: Project, fails: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained.folder)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        assert fails("--port", number) == (
            f"error: cannot listen on 127.0.0.1, port {number}: Address already in use; --host and --port name others\n"
        )
    assert "port 8000: no such address; --host" in fails("--host", "ü" * 70)
    assert fails("--model", "models/none").startswith("error: no trained model in models/none, which is no folder")
    assert (
        fails("--port", "70000") == "error: argument --port: '70000' is no port (serve.py --help shows the options)\n"
    )
    assert "is no whole number from 1 on" in fails("--max-texts", "0")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert fails() == "error: uvicorn is not installed: pip install '.[serve]'\n"


def test_it_listens_here_alone_and_answers_what_it_has_taken_before_it_ends(trained: Project) -> None:
    command = [sys.executable, "stages/serve.py", "--port", "0", "--backend", "onnx"]
    with subprocess.Popen(command, cwd=trained.folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("models/export (onnx, cpu) on http://127.0.0.1:")
        connection = http.client.HTTPConnection(line.split("http://")[1].split(",")[0])
        connection.request("GET", "/health")
        assert json.loads(connection.getresponse().read())["status"] == "ok"
        rows = json.dumps([{"text": f"good {number}"} for number in range(200)])
        connection.putrequest("POST", "/score")
        connection.putheader("Content-Length", str(len(rows)))
        connection.endheaders(rows[:100].encode())
        # The server has read the first part: it answers another connection after that.
        other = http.client.HTTPConnection(connection.host, connection.port)
        other.request("GET", "/metrics")
        assert "reward_model_requests_under_way 2.0" in other.getresponse().read().decode()
        process.send_signal(signal.SIGTERM)
        connection.send(rows[100:].encode())
        answer = connection.getresponse()
        assert (answer.status, len(json.loads(answer.read()))) == (200, 200)
        assert process.wait(20) == -signal.SIGTERM
        assert process.stderr.read() == ""
