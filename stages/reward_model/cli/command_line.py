"""Command lines whose mistakes are told in a line."""

import argparse
from typing import NoReturn

from reward_model.common.errors import UserError


class Parser(argparse.ArgumentParser):
    """Tells of a wrong command line in one line."""

    def error(self, message: str) -> NoReturn:
        """End with exit status 2."""
        raise UserError(f"{message} ({self.prog} --help shows the options)")
