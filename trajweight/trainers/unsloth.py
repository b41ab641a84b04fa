"""unsloth: it replaces the loss of the trainer it patches, so weights can only act by copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from trajweight.trainers.protocol import Refusal, Target, Told
from trajweight.trainers.training_script import (
    NAME,
    READER,
    Parts,
    acts,
    conversation,
    training_script,
    traps,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.trainers.protocol import Example, Mode, Plan, Row

_LOAD: Final = """\
    model, tokenizer = FastLanguageModel.from_pretrained(
        settings.model,
        max_seq_length=settings.max_length,
        load_in_4bit=False,
        full_finetuning=settings.full,
    )"""
_BUILD: Final = """\
    if not settings.full:
        model = FastLanguageModel.get_peft_model(
            model, r=32, lora_alpha=64, random_state=settings.seed
        )
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
        bf16=has_gpu and torch.cuda.is_bf16_supported(),
        fp16=has_gpu and not torch.cuda.is_bf16_supported(),
        max_length=settings.max_length,
        packing=False,
        logging_steps=1,
        eval_strategy="no" if evaluation is None else "epoch",
        save_strategy="epoch",
        report_to="none",
    )
    return SFTTrainer(
        model=model,
        args=config,
        train_dataset=train,
        eval_dataset=evaluation,
        processing_class=tokenizer,
    )
"""
_FIRST: Final = """\
from unsloth import FastLanguageModel  # isort: skip - before all that it patches
"""
_IMPORTS: Final = "from chat_rows import conversations\nfrom trl import SFTConfig, SFTTrainer"


class Unsloth(Target):
    """unsloth over TRL: resampled files, the stock trainer as unsloth patches it."""

    name = "unsloth"
    title = "unsloth"
    checked = ("unsloth 2026.10.7 (read, not run: it needs a GPU)", "trl 1.15.0")
    modes: ClassVar[tuple[Mode, ...]] = ("resample", "filter")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        "native": Refusal("unsloth reads no weight.", "resample"),
        "adapter": Refusal(
            "unsloth computes the loss in kernels of its own and holds transformers below 5.18 and "
            "trl below 1.16, older than WeightedTrainer and WeightedSFTTrainer need.",
            "resample",
        ),
        "buckets": Refusal("unsloth draws from one dataset and knows no rates.", "resample"),
        "tokenized": Refusal("Its trainer takes no weight of a token.", "resample"),
    }
    keeps_turn_flags = True
    adapters: ClassVar[Mapping[Mode, tuple[str, ...]]] = dict.fromkeys(modes, (READER,))

    def row(self, example: Example, mode: Mode) -> Row:
        """Messages and tools."""
        return conversation(example, mode)

    def files(self, plan: Plan) -> Mapping[str, str]:
        """The script that trains."""
        parts = Parts(
            does="Fine-tune a model with unsloth on the trajectories beside this.",
            first_imports=_FIRST,
            imports=_IMPORTS,
            build=_BUILD,
            load_tokenizer=_LOAD,
        )
        return {NAME: training_script(plan, parts)}

    def told(self, plan: Plan) -> Told:
        """That copies act."""
        return Told(
            acts=acts(plan.mode, "", "SFTTrainer, as unsloth patches it,"),
            command=f"python {NAME}",
            install="pip install unsloth",
            traps=(
                *traps(plan.mode),
                "The script was read against unsloth 2026.10.7 and never run: unsloth needs a GPU.",
            ),
            is_exact=False,
        )
