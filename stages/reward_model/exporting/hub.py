"""The exported model on the Hugging Face hub."""

from pathlib import Path

from reward_model.common.errors import UserError
from reward_model.common.files import CHECKSUMS_FILE, MODEL_SUFFIXES

# What a loader may take for a part of a model, in any folder of the repository.
REPLACED = [CHECKSUMS_FILE, *(f"*{end}" for end in (*sorted(MODEL_SUFFIXES), ".bin", ".gguf", ".model", ".pt", ".txt"))]


def push_to_hub(folder: Path, name: str, *, private: bool) -> str:
    """Upload the files of `folder` as the model `name`, which is made if it does not exist.

    The files of a model that was there before are replaced; files of other kinds stay, such as pictures. Needs a token
    with the right to write, as `hf auth login` or the variable HF_TOKEN give it.

    Returns:
        The address of the commit.

    Raises:
        UserError: the name is no OWNER/NAME, the hub cannot be reached or refuses, or the model should be private and
            is there already for all to see.
    """
    # Imported here, and with no module that sets HF_HUB_OFFLINE.
    import httpx2 as httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        api = HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        if private and not api.model_info(name).private:
            raise UserError(f"{name} is public: give --public to push to it, or another name")
        commit = api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Reward model", delete_patterns=REPLACED
        )
    except HFValidationError as error:
        raise UserError(f"{name!r} is no name on the hub: {error}") from None
    except (HfHubHTTPError, httpx.HTTPError, OfflineModeIsEnabled, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"cannot push to {name}: {reason}; a token to write is needed (`hf auth login`)") from None
    return commit.commit_url
