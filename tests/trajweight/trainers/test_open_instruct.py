from __future__ import annotations

import json
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given

from tests.trajweight.trainers.chat import canonical, through_parquet
from tests.trajweight.trainers.dialogues import TOOLS, Message, dialogues, example, plan
from trajweight.trainers import target_named

OPEN_INSTRUCT = target_named("open-instruct")


@given(dialogues())
def test_a_row_comes_back_from_its_parquet_file_as_the_conversation(turns: list[Message]) -> None:
    row = OPEN_INSTRUCT.row(example(turns, TOOLS), "resample")

    with TemporaryDirectory() as folder:
        read = through_parquet(row, OPEN_INSTRUCT.schema, Path(folder))

    plain = [{key: value for key, value in each.items() if key != "untrained"} for each in turns]
    assert canonical(read["messages"]) == plain
    assert json.loads(read["tools"]) == TOOLS
    assert "weight" not in read


def mixture_in(script: str) -> list[str]:
    words = shlex.split(script.replace("\\\n", " "), comments=True)
    start = words.index("--dataset_mixer_list") + 1
    end = next(i for i in range(start, len(words)) if words[i].startswith("--"))
    return words[start:end]


def test_buckets_are_named_with_whole_numbers_of_rows_that_are_their_rates() -> None:
    names = ("data/bucket-0.parquet", "data/bucket-1.parquet")
    script = OPEN_INSTRUCT.files(plan("buckets", *names, rates=(0.1, 0.9), n_examples=200))[
        "train.sh"
    ]

    assert mixture_in(script) == [names[0], "20", names[1], "180"]


def test_other_files_are_taken_whole_which_open_instruct_writes_with_a_point() -> None:
    script = OPEN_INSTRUCT.files(plan("resample", "data/epoch-000.parquet"))["train.sh"]

    assert mixture_in(script) == ["data/epoch-000.parquet", "1.0"]
    assert "--dataset_skip_cache" in script


def test_weights_are_refused_with_the_nearest_mode() -> None:
    assert {mode: each.nearest for mode, each in OPEN_INSTRUCT.refused.items()} == {
        "native": "resample",
        "adapter": "resample",
        "tokenized": "resample",
    }
    assert not OPEN_INSTRUCT.told(plan("resample")).is_exact
