"""A folder, sent to the Hugging Face Hub as a dataset; nothing is ever sent unless asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trajweight.errors import ConfigError, MissingError, TrajweightError

if TYPE_CHECKING:
    from pathlib import Path

_LOGIN: Final = "Log in with `hf auth login`, or set HF_TOKEN to a token that may write."


def push_to_hub(
    folder: Path,
    repo_id: str,
    *,
    private: bool = True,
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Send all files of a folder to a dataset on the Hub, in one commit.

    The dataset is made where there is none. One that is there and public is not sent to unless
    ``private`` is false: what was once public cannot be taken back.

    Args:
        folder: The folder, with the card as its ``README.md``.
        repo_id: ``name`` or ``owner/name``.
        private: Whether only its owner may see it.
        token: Of the user; by default the one they are logged in with.
        endpoint: Of another hub than the public one.

    Returns:
        Where it can be seen.

    Raises:
        ConfigError: If the folder or the name cannot be used, or the dataset is public.
        MissingError: If nobody is logged in, or the Hub cannot be reached.
        TrajweightError: If the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    if not (folder / "README.md").is_file():
        message = f"{folder} has no README.md, which is the card of a dataset."
        raise ConfigError(message, hint="Send the folder of an export.")
    api = HfApi(endpoint=endpoint, token=token)
    # Whatever library speaks HTTP under the client, its errors are of this class.
    unreachable: tuple[Any, ...] = (HfHubHTTPError.__bases__[0], ConnectionError)
    try:
        if token is None and api.token is None:
            api.whoami()  # with no token at all it says so itself
        url = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        repo_id = url.repo_id
        if private and not api.dataset_info(repo_id).private:
            message = f"the dataset {repo_id} is already on the Hub, and public."
            raise ConfigError(message, hint="Name another, or say that it may be public.")
        api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            repo_type="dataset",
            commit_message="Weighted trajectories, by trajweight",
        )
    except HFValidationError as error:
        message = f"{repo_id!r} is no name of a dataset: {error}"
        raise ConfigError(message, hint="Name it as OWNER/NAME.") from error
    except LocalTokenNotFoundError as error:
        message = "nobody is logged in to the Hugging Face Hub."
        raise MissingError(message, hint=_LOGIN) from error
    except OfflineModeIsEnabled as error:
        message = "HF_HUB_OFFLINE is set, so nothing is sent to the Hub."
        raise MissingError(message, hint="Unset it.") from error
    except HfHubHTTPError as error:
        raise _refusal(repo_id, error.response.status_code, error.server_message) from error
    except unreachable as error:
        message = f"the Hub cannot be reached: {' '.join(str(error).split())}"
        raise MissingError(message, hint="Check the network, and try again.") from error
    return str(url)


def _refusal(repo_id: str, status: int, said: str | None) -> TrajweightError:
    """What the Hub's refusal means."""
    why = f" ({said})" if said else ""
    if status == 401:
        return MissingError(f"the Hub does not accept the token{why}.", hint=_LOGIN)
    if status == 403:
        message = f"the token may not write to {repo_id}{why}."
        return TrajweightError(message, hint="Use a token with the right to write, or your name.")
    if status == 404:
        message = f"there is no {repo_id}, or the token may not see it{why}."
        return TrajweightError(message, hint="Check the owner before the slash.")
    return TrajweightError(f"the Hub refused {repo_id} with status {status}{why}.")
