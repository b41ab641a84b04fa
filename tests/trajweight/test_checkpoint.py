from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trajweight.checkpoint import KEPT, Checkpoints, DamagedError, packed, unpacked
from trajweight.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)


@st.composite
def tensors(draw) -> Tensor:
    """Of any bytes, shape and precision; some are views that lie in memory in another order."""
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    dtype = draw(st.sampled_from(DTYPES))
    count = math.prod(shape) * dtype.itemsize
    content = draw(st.binary(min_size=count, max_size=count))
    if dtype is torch.bool:
        content = bytes(byte & 1 for byte in content)
    raw = torch.frombuffer(bytearray(content), dtype=torch.uint8) if count else torch.zeros(0)
    tensor = raw.to(torch.uint8).view(dtype).reshape(shape)
    return tensor.T if tensor.ndim == 2 and draw(st.booleans()) else tensor


keys = st.text(max_size=5) | st.integers()
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | tensors()
)
values = st.recursive(
    leaves,
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.lists(inside, max_size=3).map(tuple)
        | st.dictionaries(keys, inside, max_size=3)
    ),
    max_leaves=12,
)


def is_same(one: Any, two: Any) -> bool:
    """Same types, same order of keys, same bits."""
    if type(one) is not type(two):
        return False
    if isinstance(one, Tensor):
        raw = [each.contiguous().reshape(-1).view(torch.uint8) for each in (one, two)]
        return one.dtype == two.dtype and one.shape == two.shape and torch.equal(*raw)
    if isinstance(one, float):
        both_nan = math.isnan(one) and math.isnan(two)
        return both_nan or struct.pack("d", one) == struct.pack("d", two)
    if isinstance(one, dict):
        return list(one) == list(two) and all(is_same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(is_same, one, two))
    return bool(one == two)


@given(state=st.dictionaries(keys, values, max_size=4))
def test_what_is_saved_comes_back_to_the_last_bit(tmp_path_factory, state) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / "1.safetensors"
    path.write_bytes(packed(state, {"seed": "1"}))

    fingerprint, found = unpacked(path)

    assert fingerprint == {"seed": "1"}
    assert is_same(found, state)


def newest(checkpoints: Checkpoints, said: list[str] | None = None) -> dict[str, Any]:
    """The newest state, which is there."""
    found = checkpoints.newest((said if said is not None else []).append)
    assert found is not None
    return found


def test_the_state_of_a_generator_goes_on_drawing_the_same(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    torch.rand(5, generator=generator)
    checkpoints = Checkpoints(tmp_path, {})
    checkpoints.save({"generator": generator.get_state()})
    expected = torch.rand(5, generator=generator)

    found = newest(checkpoints)
    other = torch.Generator()
    other.set_state(found["generator"])

    assert torch.equal(torch.rand(5, generator=other), expected)


def test_an_optimizer_goes_on_with_the_same_steps(tmp_path: Path) -> None:
    def made() -> tuple[torch.nn.Parameter, torch.optim.AdamW]:
        parameter = torch.nn.Parameter(torch.ones(4))
        return parameter, torch.optim.AdamW([parameter], lr=0.1)

    def walked(parameter, optimizer, steps: int) -> Tensor:
        for _ in range(steps):
            parameter.grad = parameter.detach().sin()
            optimizer.step()
        return parameter.detach().clone()

    parameter, optimizer = made()
    walked(parameter, optimizer, 3)
    Checkpoints(tmp_path, {}).save(
        {"parameter": parameter.detach(), "optimizer": optimizer.state_dict()}
    )
    expected = walked(parameter, optimizer, 3)

    found = newest(Checkpoints(tmp_path, {}))
    parameter, optimizer = made()
    parameter.data.copy_(found["parameter"])
    optimizer.load_state_dict(found["optimizer"])

    assert torch.equal(walked(parameter, optimizer, 3), expected)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"a": [1, {2}]}, r"state\['a'\]\[1\] is a set"),
        ({"a": {(1, 2): 0}}, r"state\['a'\] is a dict"),
        ({"a": {True: 0}}, r"state\['a'\] is a dict"),
        ({"a": print}, r"state\['a'\] is a builtin_function"),
    ],
)
def test_what_cannot_be_held_is_refused_by_its_place(tmp_path: Path, state, said) -> None:
    with pytest.raises(TypeError, match=said):
        Checkpoints(tmp_path, {}).save(state)

    assert not list(tmp_path.iterdir())


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", {})

    for step in range(5):
        checkpoints.save({"step": step})

    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["000004.safetensors", "000005.safetensors"]
    assert len(names) == KEPT
    assert newest(checkpoints) == {"step": 4}


def test_without_checkpoints_there_is_no_state(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", {}).newest(print) is None


def saved(folder: Path, n: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(folder, {"seed": "1"})
    for step in range(n):
        checkpoints.save({"step": step, "x": torch.arange(6.0).reshape(2, 3)})
    return checkpoints


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_torn_file_is_passed_over_with_a_note(tmp_path: Path, share) -> None:
    checkpoints = saved(tmp_path)
    said: list[str] = []
    last = tmp_path / "000002.safetensors"
    content = last.read_bytes()
    last.write_bytes(content[: int(share * len(content))])

    found = newest(checkpoints, said)

    assert found["step"] == 0
    assert len(said) == 1
    assert said[0].startswith("checkpoint 000002.safetensors is passed over: it cannot be read")


@given(data=st.data())
def test_a_file_with_a_changed_byte_is_never_taken_for_whole(tmp_path_factory, data) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    saved(folder, n=1)
    path = folder / "000001.safetensors"
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)

    with pytest.raises((DamagedError, RunError)):
        unpacked(path)


def test_what_a_killed_write_left_behind_is_swept_away(tmp_path: Path) -> None:
    left = tmp_path / ".000001.safetensors.0badcafe.part"
    left.write_bytes(b"half")
    mine = tmp_path / "notes.txt"
    mine.write_text("mine")

    checkpoints = saved(tmp_path)

    assert not left.exists()
    assert mine.exists()
    assert newest(checkpoints)["step"] == 1


def test_if_no_file_is_whole_the_work_begins_at_the_beginning(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path)
    said: list[str] = []
    for path in tmp_path.iterdir():
        path.write_bytes(b"")

    assert checkpoints.newest(said.append) is None
    assert len(said) == 2


@pytest.mark.parametrize(
    ("fingerprint", "said"),
    [
        ({"seed": "2"}, "seed was 1 and is 2"),
        ({}, "seed was 1 and is None"),
        ({"seed": "1", "torch": "3"}, "torch was None and is 3"),
    ],
)
def test_a_state_of_another_run_is_refused_and_says_why(tmp_path, fingerprint, said) -> None:
    saved(tmp_path)

    with pytest.raises(RunError, match=said) as caught:
        Checkpoints(tmp_path, fingerprint).newest(print)

    assert "000002.safetensors" in caught.value.message
    assert "--force" in caught.value.hint


def test_a_format_of_another_version_is_refused(tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("trajweight.checkpoint.FORMAT", "2")
        checkpoints = saved(tmp_path)

    with pytest.raises(RunError, match="of format 2; this trajweight reads 1"):
        checkpoints.newest(print)
