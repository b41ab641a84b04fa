"""TRL: its `SFTTrainer` drops a weight column in silence, so an export brings a subclass along."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from trajweight.trainers.protocol import Refusal, Target, Told
from trajweight.trainers.training_script import (
    LORA,
    NAME,
    READER,
    WEIGHTED,
    Parts,
    acts,
    conversation,
    training_script,
    traps,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.trainers.protocol import Example, Mode, Plan, Row

_ADAPTER: Final = ("weighted_sft_trainer.py", "weighted_trainer.py", READER)

_BUILD: Final = f"""\
    dtype = torch.bfloat16 if has_gpu and not settings.full else torch.float32
    model = AutoModelForCausalLM.from_pretrained(settings.model, dtype=dtype)
    lora = {LORA}
    config = SFTConfig(
        output_dir=settings.output,
        seed=settings.seed,
        num_train_epochs=@epochs taken@,
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch,
        per_device_eval_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulation,
        train_sampling_strategy=@sampling@,
        learning_rate=settings.lr,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,  # of all steps
        bf16=has_gpu,
        gradient_checkpointing=has_gpu,
        max_length=None,  # the rows are cut already
        packing=False,
        logging_steps=1,
        eval_strategy="no" if evaluation is None else "epoch",
        save_strategy="epoch",
        report_to="none",
    )
@trainer@(
        model=model,
        args=config,
        train_dataset=train,
        eval_dataset=evaluation,
        processing_class=tokenizer,
        peft_config=None if settings.full else lora,
@more@
    )
"""
_STOCK: Final = "    return SFTTrainer"
_CHOSEN: Final = """\
    if settings.unweighted:
        trainer, weighing = SFTTrainer, {}
    else:
        trainer, weighing = WeightedSFTTrainer, {"objective": settings.objective}
    return trainer"""
_LOAD_TOKENIZER: Final = """\
    tokenizer = AutoTokenizer.from_pretrained(settings.model)
    try:
        template = get_training_chat_template(tokenizer)
    except ValueError:  # TRL has none for this family
        template = None"""


class Trl(Target):
    """TRL's SFTTrainer from 1.16 on, with a subclass of ours that heeds weights."""

    name = "trl"
    title = "TRL SFTTrainer"
    checked = ("trl 1.16.0", "transformers 5.23.0", "peft 0.21.2")
    modes: ClassVar[tuple[Mode, ...]] = ("adapter", "resample", "filter", "tokenized")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        "native": Refusal("TRL reads no weight: it drops the column in silence.", "adapter"),
        "buckets": Refusal("TRL draws from one dataset and knows no rates.", "resample"),
    }
    keeps_turn_flags = True
    adapters: ClassVar[Mapping[Mode, tuple[str, ...]]] = {
        mode: _ADAPTER if mode in WEIGHTED else (READER,) for mode in modes
    }
    probe = "trl"

    def row(self, example: Example, mode: Mode) -> Row:
        """Messages, tools and in mode adapter the weight."""
        return conversation(example, mode)

    def files(self, plan: Plan) -> Mapping[str, str]:
        """The script that trains."""
        is_weighted, is_tokenized = plan.mode in WEIGHTED, plan.mode == "tokenized"
        imports = [
            "from chat_rows import conversations",
            *(["from datasets import load_dataset"] if is_tokenized else []),
            "from peft import LoraConfig",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "from trl import SFTConfig, SFTTrainer",
            "from trl.chat_template_utils import get_training_chat_template",
            *(["from weighted_sft_trainer import WeightedSFTTrainer"] if is_weighted else []),
        ]
        counts = "each counting by its weight" if is_weighted else "all of them counting alike"
        parts = Parts(
            does=f"Fine-tune a model with TRL on the trajectories beside this, {counts}.",
            imports="\n".join(imports),
            build=_BUILD.replace("@trainer@", _CHOSEN if is_weighted else _STOCK).replace(
                "@more@\n", "        **weighing,\n" if is_weighted else ""
            ),
            load_tokenizer=_LOAD_TOKENIZER,
            fallback="template",
        )
        return {NAME: training_script(plan, parts)}

    def told(self, plan: Plan) -> Told:
        """What acts, and what would undo it."""
        own = {
            "adapter": (_DROPS, _NO_PACKING),
            "tokenized": (_DROPS,),
        }.get(plan.mode, ())
        return Told(
            acts=acts(plan.mode, "WeightedSFTTrainer", "SFTTrainer"),
            command=f"python {NAME}",
            install="pip install 'trl>=1.16' 'transformers>=5.19' peft",
            traps=(*traps(plan.mode), *own),
            is_exact=plan.mode in WEIGHTED,
        )


_DROPS: Final = (
    "The stock SFTTrainer drops the column `weight`, or `loss_weights`, without a word: whoever "
    "replaces the trainer in the script trains without weights."
)
_NO_PACKING: Final = (
    "`packing=True` is refused, since packed rows have no place for a weight; mode tokenized gives "
    "each token its own, which can be packed."
)
