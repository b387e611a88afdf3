"""Serve the trained reward model over HTTP.

python stages/serve.py
python stages/serve.py --host 0.0.0.0 --port 9000 --api-key KEY

POST /score                what score.py takes, as JSON
POST /get_reward           OpenRLHF's remote reward model
POST /v1/score/evaluation  LLaMA-Factory's reward server
POST /classify             vLLM's
GET  /health, /metrics, /openapi.json
"""

import argparse
import os
import socket
import sys
from typing import TYPE_CHECKING

from reward_model.cli.command_line import Parser, load_manager
from reward_model.common.errors import UserError, run
from reward_model.scoring.model_folder import find_model

if TYPE_CHECKING:
    from reward_model.serving.limits import Limits

API_KEY_VARIABLE = "REWARD_MODEL_API_KEY"


def main() -> None:
    arguments = parse_arguments()
    name, folder = arguments.model, find_model(arguments.model)
    try:
        import uvicorn

        from reward_model.serving.app import build_app
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install '.[serve]'") from None
    limits = read_limits(arguments)
    with listen(arguments.host, arguments.port) as listener:
        manager = load_manager(arguments, folder, arguments.backend)
        config = uvicorn.Config(
            build_app(manager.scorer, folder, name, limits),
            log_level="warning",
            access_log=False,
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=int(limits.seconds) + 1,
        )
        print(f"{name} ({manager.computes_on}) on {url(listener)}, Ctrl-C ends", file=sys.stderr, flush=True)
        uvicorn.Server(config).run(sockets=[listener])


def parse_arguments() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: it is wrong.
    """
    parser = Parser(
        prog="serve.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--model", metavar="DIR", default="models/export", help="folder of the model, or hub:NAME (%(default)s)"
    )
    parser.add_argument("--normalize", action="store_true", help="rewards as z-scores, as in score.py")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all (%(default)s)")
    parser.add_argument("--port", type=port, default=8000, help="0 for any that is free (%(default)s)")
    parser.add_argument("--api-key", metavar="KEY", help=f"what clients must give; or set {API_KEY_VARIABLE}")
    how = parser.add_argument_group("how to compute")
    how.add_argument(
        "--backend",
        choices=["auto", "torch", "onnx"],
        default="auto",
        help="onnx starts in a second or two, torch computes faster what comes together; auto: torch if it is there",
    )
    how.add_argument("--device", choices=["auto", "cuda", "mps", "cpu"], default="auto", help="as in score.py")
    how.add_argument("--dtype", choices=["fp32", "bf16", "auto"], default="fp32", help="as in score.py")
    how.add_argument("--batch-size", type=positive, default=8, help="prompts computed at a time (%(default)s)")
    how.add_argument("--max-length", type=positive, metavar="N", help="tokens to cut texts to, as in score.py")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-body-mb", type=positive, default=2, help="megabytes of a request (%(default)s)")
    limits.add_argument("--max-texts", type=positive, default=256, help="texts of a request (%(default)s)")
    limits.add_argument("--max-requests", type=positive, default=256, help="requests at a time (%(default)s)")
    limits.add_argument("--timeout", type=positive, default=120, help="seconds for a request (%(default)s)")
    return parser.parse_args()


def port(text: str) -> int:
    """A port number, or 0."""
    if not (text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def positive(text: str) -> int:
    """A number from 1 on."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def read_limits(arguments: argparse.Namespace) -> "Limits":
    """The limits that were asked for."""
    from reward_model.serving.limits import Limits

    api_key = os.environ.get(API_KEY_VARIABLE) if arguments.api_key is None else arguments.api_key
    if api_key == "":
        raise UserError(f"the key is empty: leave out --api-key and {API_KEY_VARIABLE}, or give one")
    return Limits(
        body_bytes=arguments.max_body_mb * 2**20,
        texts=arguments.max_texts,
        requests=arguments.max_requests,
        seconds=arguments.timeout,
        api_key=api_key,
    )


def listen(host: str, number: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UserError: the port is taken, or the address is not of this machine.
    """
    try:
        return socket.create_server((host, number), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, TypeError) as error:  # TypeError: a name that cannot be encoded
        reason = str(error.strerror) if isinstance(error, OSError) else "no such address"
        reason = reason.partition(" (while ")[0]  # create_server says again where it tried to
        raise UserError(f"cannot listen on {host}, port {number}: {reason}; --host and --port name others") from None


def url(listener: socket.socket) -> str:
    """Where clients find the server."""
    host, number, *_ = listener.getsockname()
    return f"http://{f'[{host}]' if ':' in host else host}:{number}"


if __name__ == "__main__":
    run(main, exit_status=2)
