"""Questions to trainers: each file asks one, in that trainer's own Python environment.

A probe imports torch, the standard library and its trainer, never trajweight. It defines
``PACKAGES``, the distributions whose versions count, the trainer first, and

    gradient(export: Path, model: Path, micro_batch: int) -> dict[str, torch.Tensor]

the gradient by parameter that one optimiser step over all rows of an export sees, scaled as the
trainer scales it: all the work between the files and that gradient is the trainer's own.
"""
