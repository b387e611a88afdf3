"""Training the embeddings of the tokens that occur, and of no others."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from reward_model.contract.encoder import Group
from reward_model.modeling.devices import world_size
from reward_model.params import TrainParams


@contextmanager
def train_used_embeddings_only(
    groups: Sequence[Group], model: PreTrainedModel, pad_token_id: int, params: TrainParams
) -> Iterator[torch.Tensor]:
    """Leave the model only the embeddings of tokens in `groups` while the context lasts; put all back if it ends well.

    A token that does not occur has no gradient, so AdamW leaves its embedding as it is, unless weights decay: the
    result is the same, and no gradient, moments or time are spent on most of a vocabulary. All stay with another
    optimizer, and where embeddings are not trained, weights decay, several processes share them, or they are computed
    in a way of their own.

    Yields:
        The model's new id of every token, (vocabulary,); 0 for those that do not occur.
    """
    full = model.get_input_embeddings()
    assert isinstance(full, torch.nn.Embedding)
    ids = torch.arange(full.num_embeddings)
    trained_alone = full.weight.requires_grad and world_size() == 1
    is_adamw = params.optim.startswith("adamw_torch")
    if not is_adamw or params.weight_decay or type(full) is not torch.nn.Embedding or not trained_alone:
        yield ids
        return
    used = torch.tensor(sorted({pad_token_id}.union(*(sequence for group in groups for sequence in group))))
    compact_ids = torch.zeros_like(ids)
    compact_ids[used] = ids[: len(used)]
    fixed = full.padding_idx  # its embedding has no gradient
    compact = torch.nn.Embedding.from_pretrained(
        full.weight.detach()[used.to(full.weight.device)],
        freeze=False,
        padding_idx=int(compact_ids[fixed]) if fixed is not None and fixed in used else None,
    )
    model.set_input_embeddings(compact)
    yield compact_ids
    trained = compact.weight.detach()
    full.to(trained.device).weight.data[used.to(trained.device)] = trained
    model.set_input_embeddings(full)
