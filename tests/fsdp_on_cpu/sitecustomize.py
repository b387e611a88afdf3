"""Stand-in for GPUs: lets accelerate shard a model over CPU processes, where it would ignore the setting.

Python imports a module of this name by itself when its folder is in PYTHONPATH.
"""

import sys
from typing import Any

sys.path.insert(0, "stages")

import reward_model.common.environment  # noqa: F401

# The environment comes before torch.
# isort: split
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

_original = AcceleratorState.__init__


def _init(self: AcceleratorState, *arguments: Any, fsdp_plugin: Any = None, **options: Any) -> None:
    """As accelerate does for GPUs."""
    _original(self, *arguments, fsdp_plugin=fsdp_plugin, **options)
    if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin
        if self._mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self._mixed_precision)


AcceleratorState.__init__ = _init
