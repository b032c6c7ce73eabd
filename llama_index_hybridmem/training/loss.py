"""What a step of training lowers: the answer's loss, and the distance from the base; knows no data and no run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_IGNORED = -100  # label of what is not learned, as in torch


def answer_trainer() -> Any:
    """TRL's trainer, with the output layer computed where something is learned, and with the divergence from the base.

    TRL computes logits of every token: on a model of 135M parameters half of a step's time on a CPU, for the few tokens
    of an answer.
    """
    from trl.trainer.sft_trainer import SFTTrainer

    class AnswerTrainer(SFTTrainer):
        def __init__(self, *args: Any, kl: float = 0.0, **kwargs: Any) -> None:
            self.kl = kl
            super().__init__(*args, **kwargs)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if return_outputs:
                return super().compute_loss(model, inputs, True, num_items_in_batch)  # type: ignore[no-untyped-call]
            bare = self.accelerator.unwrap_model(model)
            config: Any = getattr(bare, "active_peft_config", None)
            loss = answer_loss(
                model,
                inputs,
                num_items_in_batch,
                kl=self.kl if model.training else 0.0,
                virtual=config.num_virtual_tokens if config is not None and config.is_prompt_learning else 0,
                bare=bare,
            )
            scale = self.accelerator.num_processes if num_items_in_batch is not None else 1
            return loss * scale if self.args.average_tokens_across_devices else loss

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:  # the report says more
            return None

    return AnswerTrainer


def answer_loss(
    model: Any,
    inputs: Mapping[str, Tensor],
    count: Any = None,
    *,
    kl: float = 0.0,
    virtual: int = 0,
    bare: Any = None,
) -> Tensor:
    """Mean negative log-likelihood of the learned tokens, and how far the model moved from its base on them.

    Args:
        model: of PEFT or transformers; its forward takes ``logits_to_keep``.
        inputs: input_ids, attention_mask and labels, each (rows, tokens).
        count: learned tokens of the whole step, over which the mean is taken; None: of these rows.
        kl: weight of KL(model || base), in nats a token (arXiv 2512.22337); the model must be an adapter's.
        virtual: tokens that the model puts in front by itself.
        bare: the model without what several processes wrap it in; None: it is not wrapped.
    """
    import torch
    import torch.nn.functional as functional

    labels = functional.pad(inputs["labels"], (0, 1), value=_IGNORED)[:, 1:]
    places = (labels != _IGNORED).any(0).nonzero()[:, 0]
    learned = labels[:, places]
    given = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"], "use_cache": False}
    logits = model(**given, logits_to_keep=places + virtual).logits.float()
    total = functional.cross_entropy(logits.flatten(0, 1), learned.flatten(), ignore_index=_IGNORED, reduction="sum")
    if kl:
        adapted = model if bare is None else bare
        with torch.no_grad(), adapted.disable_adapter():
            before = adapted(**given, logits_to_keep=places).logits.float().log_softmax(-1)
        now = logits.log_softmax(-1)
        apart = (now.exp() * (now - before)).sum(-1)
        total = total + kl * (apart * (learned != _IGNORED)).sum()
    items = (learned != _IGNORED).sum() if count is None else torch.as_tensor(count, device=total.device)
    return total / items.clamp(min=1)
