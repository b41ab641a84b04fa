"""The adapter trained once more from the base with the final weights, for the user to keep.

The search trains its adapter on weights that were still moving; this one sees the frozen weights
from its first step, over the whole vocabulary, and is written in PEFT's own layout with a card.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajweight.errors import ConfigError
from trajweight.features import set_adapter
from trajweight.inner import InnerLevel
from trajweight.problem import Weighing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from trajweight.config import RetrainConfig, RunConfig
    from trajweight.problem import Problem
    from trajweight.progress import Progress
    from trajweight.student import Student

#: The adapter's name on the base; its folder in the run has no name of its own.
RETRAINED = "retrained"
#: Of a number of batches that is whole but for the last bits of a float.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Retrained:
    """How the training went.

    Attributes:
        steps: Inner steps.
        epochs: Passes over the training rows.
        base_loss: Of the rows that judge, under the base model, in nats a token.
        loss: The same under the new adapter.
        judged_by: dev, or validation where there are no dev rows.
    """

    steps: int
    epochs: float
    base_loss: float
    loss: float
    judged_by: str

    def as_facts(self) -> dict[str, Any]:
        """For the report."""
        return {
            "steps": self.steps,
            "epochs": self.epochs,
            "base_loss": self.base_loss,
            "loss": self.loss,
            "judged_by": self.judged_by,
        }


def retrain(
    problem: Problem,
    weights: Tensor,
    config: RunConfig,
    *,
    untrained: Sequence[Tensor],
    dev: Sequence[int],
    progress: Progress,
) -> Retrained:
    """Train an adapter from the base on the weighted rows, and see what it came to.

    Args:
        problem: Of the adapter `RETRAINED`, over the whole vocabulary.
        weights: Of the synthetic training rows, mean one. Shape (n,).
        config: Settings; the section ``retrain`` has the epochs and the rate.
        untrained: The adapter before any training.
        dev: Rows that judge; the validation rows do where there are none.
        progress: Told of every step.

    Raises:
        DivergenceError: If losses or gradients stay non-finite.
    """
    judge = list(dev) or list(problem.validation)
    set_adapter(problem.linears, untrained)
    base_loss = float(problem.evaluate(judge).mean())
    steps = train_whole(problem, weights, config, untrained=untrained, progress=progress)
    return Retrained(
        steps=steps,
        epochs=config.retrain.epochs,
        base_loss=base_loss,
        loss=float(problem.evaluate(judge).mean()),
        judged_by="dev" if dev else "validation",
    )


def train_whole(
    problem: Problem,
    weights: Tensor,
    config: RunConfig,
    *,
    untrained: Sequence[Tensor],
    progress: Progress,
    stage: str = "retraining",
) -> int:
    """Train an adapter from before any training, with decaying rate; gives the steps.

    The arguments are those of `retrain`; ``stage`` is what the training is called.

    Raises:
        DivergenceError: If losses or gradients stay non-finite.
    """
    settings, size = config.retrain, config.inner.batch_size
    set_adapter(problem.linears, untrained)
    inner = InnerLevel(problem, config.inner, seed=config.seed)
    rows, steps = problem.training, steps_of(problem, config)
    weighing = Weighing(problem)
    progress.start(stage, steps)
    for step in range(steps):
        for group in inner.optimizer.param_groups:
            group["lr"] = rate_at(step, steps, settings)
        batch = inner.next_batch(rows, size=size)
        loss = inner.step(batch, weighing.of(batch, weights))
        progress.advance(loss=loss)
    progress.finish()
    return steps


def steps_of(problem: Problem, config: RunConfig) -> int:
    """Inner steps of a training; an epoch that is not full is."""
    batches = config.retrain.epochs * len(problem.training) / config.inner.batch_size
    return max(1, math.ceil(batches - _ROUNDING))


def on_real_rows_alone(problem: Problem, config: RunConfig) -> tuple[Problem, RunConfig]:
    """The same training without synthetic rows: as many steps, so that real rows come more often.

    Args:
        problem: With real training rows.
        config: Settings.
    """
    alone = replace(problem, left_out=frozenset(problem.synthetic))
    epochs = steps_of(problem, config) * config.inner.batch_size / max(len(alone.training), 1)
    return alone, replace(config, retrain=replace(config.retrain, epochs=epochs))


def rate_at(step: int, steps: int, settings: RetrainConfig) -> float:
    """Linear warm-up over the first steps, then a half cosine down to a tenth of the rate."""
    warm = max(1, round(settings.warmup_share * steps))
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return settings.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


def save_adapter(student: Student, folder: Path, *, base_model: str, card: str) -> None:
    """Write the adapter as PEFT loads it, with its card, whole and then renamed.

    Args:
        student: Holds the adapter `RETRAINED`.
        folder: To write; one that is there is replaced.
        base_model: Hub id or folder of the base, for the adapter's own configuration.
        card: The text of ``README.md``.

    Raises:
        ConfigError: If ``folder`` is there and is no adapter.
    """
    if folder.exists() and not (folder / "adapter_config.json").is_file():
        message = f"{folder} is there already, and is no adapter"
        raise ConfigError(message, hint="Move it away.")
    adapted = student.backbone.adapted
    if adapted is None:
        message = "there is no adapter to save"
        raise ConfigError(message)
    adapted.peft_config[RETRAINED].base_model_name_or_path = base_model
    adapted.peft_config[RETRAINED].inference_mode = True
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        # The embeddings are not trained; to look whether they were, peft would ask the hub.
        adapted.save_pretrained(scratch, selected_adapters=[RETRAINED], save_embedding_layers=False)
        made = Path(scratch) / RETRAINED
        (made / "README.md").write_text(card, encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        made.replace(folder)


def card_of(facts: dict[str, Any], *, base_model: str, version: str) -> str:
    """The model card: what it was trained on, how it did, and how to load it."""
    trained: dict[str, Any] = facts["retrained"]
    return f"""---
base_model: {base_model}
library_name: peft
pipeline_tag: text-generation
tags: [lora, trajweight]
---

# A LoRA adapter trained on weighted trajectories

Made by trajweight {version}, which implements the scheme of the abstract of BOOST
(arXiv 2605.24743): every synthetic trajectory counts by a weight that was learned on held-out real
ones. The weights are in the run's `weights.parquet`.

| | |
| --- | --- |
| base model | {base_model} |
| training rows | {facts["n_real"]} real, {facts["n_synthetic"]} synthetic |
| weights | {facts["selected"]}, ESS/n {facts["ess_fraction"]:.2f} |
| objective | {facts["objective"]} |
| steps | {trained["steps"]} ({trained["epochs"]:g} epochs) |
| {trained["judged_by"]} loss of the base model | {trained["base_loss"]:.3f} nats a token |
| {trained["judged_by"]} loss with this adapter | {trained["loss"]:.3f} nats a token |

The loss is the mean over the assistant tokens of each trajectory. It says how well the adapter
imitates the held-out real trajectories; how well it acts in the environment was not measured.

```python
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("path/of/this/folder")
```
"""
