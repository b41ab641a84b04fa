"""Files that were damaged on purpose, in every way a curator's files may be.

Each case is a function of a seed alone, so that one that fails can be made again.
"""

from __future__ import annotations

import bz2
import copy
import gzip
import io
import json
import lzma
import random
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMATS: Final = Path(__file__).parent.parent / "sample_data" / "formats"
#: Values that no field expects.
JUNK: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 10**30, 1e308, float("nan"), float("inf"), "", " ", "x" * 5000),
    *("\x00\x1b[31m", "\u202e", "<|im_start|>assistant", [], {}, [[]], [None], {"": None}),
    *({"role": 5}, [{"role": "assistant", "content": {"a": 1}}], "[1", '{"a": NaN}', "\ud800"),
)
DEPTHS: Final = (100, 1000, 5000)


def originals(folder: Path = FORMATS) -> list[Path]:
    """The sound files that damage begins with."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def bomb(files: Sequence[tuple[str, bytes]], seed: int) -> tuple[str, bytes]:
    """A small file that would fill a memory: one of these takes as long as a thousand others."""
    chance = random.Random(seed)
    name, data = chance.choice(files)
    inside = data + bytes([chance.choice((0, 32, 91, 120))]) * (128 << 20)
    return name, chance.choice((gzip.compress, lzma.compress))(inside)


def damaged(files: Sequence[tuple[str, bytes]], seed: int) -> tuple[str, bytes]:
    """One case: a name and what the file of that name holds."""
    chance = random.Random(seed)
    name, data = chance.choice(files)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        data = chance.choice(DAMAGES)(data, files, chance)
    return name, data


def _truncated(data: bytes, _: Any, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _bits_flipped(data: bytes, _: Any, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _each in range(chance.choice((1, 1, 8, 64)) if changed else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _bytes_put_in(data: bytes, _: Any, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    strange = (b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\n", b"\r", b"]", b"}", b'"', b",", b"NaN")
    return data[:at] + chance.choice(strange) * chance.choice((1, 1, 3, 1000)) + data[at:]


def _cut_out(data: bytes, _: Any, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    return data[:start] + data[start + chance.choice((1, 10, 500)) :]


def _spliced(data: bytes, files: Sequence[tuple[str, bytes]], chance: random.Random) -> bytes:
    other = chance.choice(files)[1]
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]


def _lines_mixed(data: bytes, files: Sequence[tuple[str, bytes]], chance: random.Random) -> bytes:
    lines = [*data.split(b"\n"), *chance.choice(files)[1].split(b"\n")]
    chance.shuffle(lines)
    return b"\n".join(lines)


def _other_encoding(data: bytes, _: Any, chance: random.Random) -> bytes:
    text = data.decode("utf-8", "replace")
    half = chance.randrange(len(text) + 1)
    code = chance.choice(("utf-16", "utf-16-be", "latin-1", "cp1252", "utf-8-sig", "utf-32"))
    return text[:half].encode("utf-8") + text[half:].encode(code, "replace")


def _packed(data: bytes, _: Any, chance: random.Random) -> bytes:
    packed = chance.choice((gzip.compress, bz2.compress, lzma.compress))(data)
    return packed[: chance.choice((len(packed), chance.randrange(len(packed) + 1)))]


def _archive(data: bytes, files: Sequence[tuple[str, bytes]], chance: random.Random) -> bytes:
    stream = io.BytesIO()
    names = ("header.json", "samples/a_epoch_1.json", "../../outside.json", "/etc/outside", "a/b")
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in chance.sample(names, chance.randrange(1, len(names) + 1)):
            held = chance.choice((data, chance.choice(files)[1], b"0" * (4 << 20)))
            archive.writestr(name, held)
    return stream.getvalue()


def _deep(data: bytes, _: Any, chance: random.Random) -> bytes:
    depth = chance.choice(DEPTHS)
    nested = chance.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth))
    at = data.find(b":", chance.randrange(len(data) + 1)) + 1
    return data[:at] + nested + b"," + data[at:]


def _huge_number(data: bytes, _: Any, chance: random.Random) -> bytes:
    at = data.find(b":", chance.randrange(len(data) + 1)) + 1
    digits = chance.choice((b"9" * 25, b"9" * 6000, b"1e999", b"-1e-999", b"0." + b"3" * 400))
    return data[:at] + digits + b"," + data[at:]


def _restructured(data: bytes, _: Any, chance: random.Random) -> bytes:
    """JSON that is sound, and wrong: values changed, dropped, moved, or put in twice."""
    values = _values(data)
    for _each in range(chance.choice((1, 1, 2, 5))):
        _change(values, chance)
    ending = chance.choice(("lines", "lines", "array", "document"))
    if ending == "lines":
        return b"\n".join(map(_text, values))
    return _text(values if ending == "array" or len(values) != 1 else values[0])


def _change(value: Any, chance: random.Random) -> None:
    """Change one place, deep or shallow."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = chance.choice(keys)
        if isinstance(value[key], dict | list) and chance.random() < 0.8:
            value = value[key]
            continue
        if chance.random() < 0.3:
            del value[key]
        elif isinstance(value, dict) and chance.random() < 0.3:
            value[chance.choice(("", "messages", "role", "content", key + "_"))] = value.pop(key)
        else:
            # Copied, since what is put in may be changed in its turn, and JUNK must not.
            value[key] = copy.deepcopy(chance.choice((*JUNK, value[chance.choice(keys)])))
        return


def _values(data: bytes) -> list[Any]:
    try:
        return [json.loads(data)]
    except (ValueError, RecursionError):
        pass
    found = []
    for line in data.split(b"\n"):
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return found


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()


#: The dear ones stand here once, the structural ones often.
DAMAGES: Final = (
    *(_truncated, _bits_flipped, _bytes_put_in, _cut_out, _spliced, _lines_mixed) * 4,
    *(_other_encoding, _packed, _deep, _huge_number) * 2,
    *(_restructured,) * 14,
    _archive,
)
