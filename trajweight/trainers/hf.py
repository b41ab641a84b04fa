"""Plain transformers: its `Trainer` gives no weight to its loss, so a subclass goes along."""

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

_ADAPTER: Final = ("weighted_trainer.py", READER)

_BUILD: Final = f"""\
    set_seed(settings.seed)  # of the adapter's first numbers
    dtype = torch.bfloat16 if has_gpu and not settings.full else torch.float32
    model = AutoModelForCausalLM.from_pretrained(settings.model, dtype=dtype)
    if not settings.full:
        lora = {LORA}
        model = get_peft_model(model, lora)
        model.enable_input_require_grads()  # for gradient checkpointing
    config = TrainingArguments(
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
        logging_steps=1,
        eval_strategy="no" if evaluation is None else "epoch",
        prediction_loss_only=True,
        save_strategy="epoch",
        report_to="none",
    )
@trainer@(
        model=model,
        args=config,
        train_dataset=train,
        eval_dataset=evaluation,
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
@more@
    )
"""
_STOCK: Final = "    return Trainer"
_CHOSEN: Final = """\
    if settings.unweighted:
        trainer, weighing = Trainer, {}
    else:
        trainer, weighing = WeightedTrainer, {"objective": settings.objective}
    return trainer"""
_TRANSFORMERS: Final = (
    "AutoModelForCausalLM",
    "AutoTokenizer",
    "DataCollatorForSeq2Seq",
    "Trainer",
    "TrainingArguments",
    "set_seed",
)


class HuggingFace(Target):
    """transformers' own Trainer from 5.19 on, with a subclass of ours that heeds weights."""

    name = "hf"
    title = "transformers Trainer"
    checked = ("transformers 5.23.0", "peft 0.21.2")
    modes: ClassVar[tuple[Mode, ...]] = ("adapter", "resample", "filter", "tokenized")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        "native": Refusal(
            "The Trainer removes a weight column, and its compute_loss_func never sees one.",
            "adapter",
        ),
        "buckets": Refusal("The Trainer draws from one dataset and knows no rates.", "resample"),
    }
    keeps_turn_flags = True
    adapters: ClassVar[Mapping[Mode, tuple[str, ...]]] = {
        mode: _ADAPTER if mode in WEIGHTED else (READER,) for mode in modes
    }
    probe = "hf"

    def row(self, example: Example, mode: Mode) -> Row:
        """Messages, tools and in mode adapter the weight."""
        return conversation(example, mode)

    def files(self, plan: Plan) -> Mapping[str, str]:
        """The script that trains."""
        is_weighted, is_tokenized = plan.mode in WEIGHTED, plan.mode == "tokenized"
        names = "".join(f"    {name},\n" for name in _TRANSFORMERS)
        imports = [
            "from chat_rows import conversations",
            *(["from datasets import load_dataset"] if is_tokenized else []),
            "from peft import LoraConfig, get_peft_model",
            f"from transformers import (\n{names})",
            *(["from weighted_trainer import WeightedTrainer"] if is_weighted else []),
        ]
        counts = "each counting by its weight" if is_weighted else "all of them counting alike"
        parts = Parts(
            does=f"Fine-tune a model with transformers on the trajectories beside this, {counts}.",
            imports="\n".join(imports),
            build=_BUILD.replace("@trainer@", _CHOSEN if is_weighted else _STOCK).replace(
                "@more@\n", "        **weighing,\n" if is_weighted else ""
            ),
        )
        return {NAME: training_script(plan, parts)}

    def told(self, plan: Plan) -> Told:
        """What acts, and what would undo it."""
        own: tuple[str, ...] = ()
        if plan.mode in WEIGHTED:
            own = (
                "The stock Trainer removes the column `weight`, or `loss_weights`, without a word: "
                "whoever replaces the trainer in the script trains without weights.",
            )
        return Told(
            acts=acts(plan.mode, "WeightedTrainer", "Trainer"),
            command=f"python {NAME}",
            install="pip install 'transformers>=5.19' 'accelerate>=1.15' datasets peft",
            traps=(*traps(plan.mode), *own),
            is_exact=plan.mode in WEIGHTED,
        )
