"""A spell of silence for libraries that draw bars and chat on stderr."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from huggingface_hub import utils as hub_utils
from transformers import modeling_gguf_pytorch_utils
from transformers.utils import logging as transformers_logging

if TYPE_CHECKING:
    from collections.abc import Iterator

# untyped corners of typed libraries
_hub: Any = hub_utils
_bars: Any = transformers_logging
_gguf: Any = modeling_gguf_pytorch_utils


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No bars and chatter of the libraries on stderr; the state before comes back after."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "transformers")]
    levels = [logger.level for logger in loggers]
    had_bars, had_hub_bars = (
        _bars.is_progress_bar_enabled(),
        not _hub.are_progress_bars_disabled(),
    )
    _bars.disable_progress_bar()
    _hub.disable_progress_bars()
    # the GGUF reader draws with tqdm itself and asks no setting
    gguf_bar = getattr(_gguf, "tqdm", None)
    if gguf_bar is not None:
        _gguf.tqdm = partial(gguf_bar, disable=True)
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if gguf_bar is not None:
            _gguf.tqdm = gguf_bar
        if had_bars:
            _bars.enable_progress_bar()
        if had_hub_bars:
            _hub.enable_progress_bars()
