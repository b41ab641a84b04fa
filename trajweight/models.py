"""A base model and its tokenizer, found by alias, folder or hub id.

The default alias is looked for in our cache, then in an installed package, then on the hub; when
none works, one error names the remedies. The weights are loaded once, in the precision that the
device is good at. Code that comes with a model is never run.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import huggingface_hub
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from trajweight import embedded
from trajweight.devices import choose_device, choose_dtype
from trajweight.embedded import DEFAULT_MODEL, HUB_ID
from trajweight.errors import ConfigError, MissingError, TemplateError
from trajweight.processes import ALONE, Processes
from trajweight.quiet import quiet_libraries
from trajweight.tiny import build_tiny

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from trajweight.progress import Progress

TINY_MODEL: Final = "tiny"

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_HUB_TIMEOUT_S: Final = 10.0
#: Files up to this size count whole in a fingerprint; of larger ones, both ends.
_WHOLE_BYTES: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A base model, ready for forward passes, and what to say about it.

    Attributes:
        model: In evaluation mode, on ``device``, in ``dtype``.
        tokenizer: With a chat template and a padding token.
        name: Alias, folder or hub id, as recorded in a run.
        fingerprint: Tells one content from another: a hub commit, or a hash of the files.
        device: Where the weights are.
        dtype: Precision of the weights.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    fingerprint: str
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to load from, and whether the network may be asked."""

    location: str
    fingerprint: str
    is_local: bool


def load_model(
    name: str = DEFAULT_MODEL,
    *,
    device: str = "auto",
    dtype: str = "auto",
    progress: Progress,
    offline: bool | None = None,
    processes: Processes = ALONE,
) -> LoadedModel:
    """Load a causal language model and its tokenizer.

    Args:
        name: ``smollm2-135m-instruct``, ``tiny``, a folder, or a hub id.
        device: ``auto`` (CUDA, else MPS, else CPU) or a torch device.
        dtype: ``auto``, ``float32`` or ``bfloat16``.
        progress: Told what was found and decided.
        offline: True never asks the network; None follows ``HF_HUB_OFFLINE``.
        processes: Those that load the same model together.

    Raises:
        ConfigError: If the name, the device or the dtype cannot be used.
        MissingError: If the model is not here and cannot be fetched.
        TemplateError: If the tokenizer has no chat template.
    """
    chosen_device = choose_device(device, processes)
    chosen_dtype = choose_dtype(dtype, chosen_device, progress, processes)
    is_offline = _hub_is_off() if offline is None else offline
    progress.start("loading the model")
    if name.lower() == TINY_MODEL:
        name, fingerprint = TINY_MODEL, "tiny-0"
        pair: tuple[PreTrainedModel, PreTrainedTokenizerBase] = build_tiny()
        # Its matrices are so small that handing work between threads takes longer than the work.
        torch.set_num_threads(1)
    else:
        place = _find(name, progress, is_offline=is_offline)
        name = DEFAULT_MODEL if name.lower() == DEFAULT_MODEL else name
        fingerprint = place.fingerprint
        pair = _load(place, name, chosen_dtype)
    model, tokenizer = pair
    _complete(model, tokenizer, name)
    nn.Module.to(model, device=chosen_device, dtype=chosen_dtype).train(mode=False)
    progress.finish()
    progress.say(f"model {name} on {chosen_device} in {str(chosen_dtype).removeprefix('torch.')}")
    return LoadedModel(model, tokenizer, name, fingerprint, chosen_device, chosen_dtype)


def load_tokenizer(
    name: str = DEFAULT_MODEL, *, progress: Progress, offline: bool | None = None
) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer alone.

    Args:
        name: As for `load_model`.
        progress: Told what was found.
        offline: True never asks the network; None follows ``HF_HUB_OFFLINE``.

    Raises:
        ConfigError: If the name cannot be used.
        MissingError: If the model is not here and cannot be fetched.
        TemplateError: If the tokenizer has no chat template.
    """
    if name.lower() == TINY_MODEL:
        return build_tiny()[1]
    place = _find(name, progress, is_offline=_hub_is_off() if offline is None else offline)
    with _faults_told(place, name), quiet_libraries():
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            place.location, **_loading(place)
        )
    _require_template(tokenizer, name)
    return tokenizer


# --- where it is ---------------------------------------------------------------------------------


def _find(name: str, progress: Progress, *, is_offline: bool) -> _Place:
    if name.lower() == DEFAULT_MODEL:
        return _find_default(progress, is_offline=is_offline)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _find_folder(folder)
    if folder.exists() or folder.is_absolute() or name.startswith((".", "~")):
        why = f"--model {name}: {'not a folder' if folder.exists() else 'no such folder'}"
        raise ConfigError(why, hint=_NAMES)
    if not _HUB_NAME.fullmatch(name):
        why = f"--model {name!r}: neither an alias, nor a folder, nor the form of a hub id"
        raise ConfigError(why, hint=_NAMES)
    return _find_on_hub(name, is_offline=is_offline)


_NAMES = f"Pass {DEFAULT_MODEL}, {TINY_MODEL}, a folder with config.json, or a hub id OWNER/NAME."


def _find_default(progress: Progress, *, is_offline: bool) -> _Place:
    try:
        folder = embedded.embedded_model(progress)
    except MissingError as error:
        absent = error.message
    else:
        return _Place(str(folder), f"gguf-sha256:{embedded.GGUF_SHA256}", is_local=True)
    try:
        return _find_on_hub(HUB_ID, is_offline=is_offline)
    except MissingError as error:
        why = f"the default model {DEFAULT_MODEL} is not here: {absent}; {error.message}"
        hint = (
            f"Either `{embedded.REMEDY}`, or give access to the hub, or pass --model PATH with a "
            "folder that holds a model."
        )
        raise MissingError(why, hint=hint) from error


def _find_folder(folder: Path) -> _Place:
    if not (folder / "config.json").is_file():
        why = f"--model {folder}: the folder has no config.json, so it holds no model"
        raise ConfigError(why, hint=_NAMES)
    return _Place(str(folder), f"files-sha256:{_fingerprint(folder)}", is_local=True)


def _find_on_hub(name: str, *, is_offline: bool) -> _Place:
    """Ask the hub for the commit once, so that a dead network costs one try instead of twelve."""
    reason = "the hub is switched off (offline)"
    if not is_offline:
        try:
            info = huggingface_hub.HfApi().model_info(name, timeout=_HUB_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001  its HTTP library changes with its version
            reason = _one_line(error)
        else:
            return _Place(name, f"hub-commit:{info.sha}", is_local=False)
    try:
        folder = huggingface_hub.snapshot_download(name, local_files_only=True)
    except Exception as error:
        why = f"{name} is not in the hub's local cache and cannot be fetched: {reason}"
        hint = "Check the name and the network, or pass --model PATH with a folder."
        raise MissingError(why, hint=hint) from error
    return _Place(folder, f"hub-commit:{Path(folder).name}", is_local=True)


def _hub_is_off() -> bool:
    values = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in ("1", "ON", "YES", "TRUE") for value in values)


def _fingerprint(folder: Path) -> str:
    """Hash of names, sizes and contents of a model folder; of large files both ends only."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as stream:
            digest.update(stream.read(_WHOLE_BYTES))
            stream.seek(max(_WHOLE_BYTES, size - _WHOLE_BYTES))
            digest.update(stream.read(_WHOLE_BYTES))
    return digest.hexdigest()


# --- loading -------------------------------------------------------------------------------------


def _load(
    place: _Place, name: str, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    with _faults_told(place, name), quiet_libraries():
        options = _loading(place)
        tokenizer = AutoTokenizer.from_pretrained(place.location, **options)
        model = AutoModelForCausalLM.from_pretrained(place.location, dtype=dtype, **options)
    return model, tokenizer


def _loading(place: _Place) -> dict[str, Any]:
    """What transformers is told about where to look and what not to run."""
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": place.is_local}
    if not place.is_local:
        options["revision"] = place.fingerprint.removeprefix("hub-commit:")
    return options


@contextmanager
def _faults_told(place: _Place, name: str) -> Iterator[None]:
    """Say in words what goes wrong with somebody else's files."""
    try:
        yield
    except Exception as error:  # a stranger's files and network fail in every way there is
        why = f"--model {name}: cannot be loaded as a causal language model: {_one_line(error)}"
        if place.is_local:
            raise ConfigError(why, hint=_NAMES) from error
        hint = "Check the name and the network, or pass another model."
        raise MissingError(why, hint=hint) from error


def _complete(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse what cannot be worked with; give a padding token; leave no local path behind.

    Raises:
        TemplateError: If there is no chat template.
        ConfigError: If the tokenizer knows tokens that the model does not.
    """
    _require_template(tokenizer, name)
    n_rows = cast("nn.Embedding", model.get_input_embeddings()).num_embeddings
    if len(tokenizer) > n_rows:
        why = f"--model {name}: the tokenizer has {len(tokenizer)} tokens, the model {n_rows}"
        raise ConfigError(why, hint="Model and tokenizer do not belong together; pass another.")
    if tokenizer.pad_token_id is None:  # padding is masked, so any token the model knows will do
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config._name_or_path = name
    tokenizer.name_or_path = name


def _require_template(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    if not tokenizer.chat_template:
        why = f"--model {name}: its tokenizer has no chat template"
        raise TemplateError(
            why, hint="Pass an instruct or chat model; base models often have none."
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
