"""The gradient of a batch, summed bucket by bucket, in as many pieces as memory has room for."""

import zlib

import torch

from transformer_mt.config import Training
from transformer_mt.data.batching import Bucket
from transformer_mt.errors import is_out_of_memory
from transformer_mt.model.encoder_decoder import EncoderDecoder
from transformer_mt.special import PAD
from transformer_mt.terminal import warn
from transformer_mt.training.loss import Loss, choice_loss, guided_loss, smoothed_cross_entropy
from transformer_mt.training.teacher_forcing import own_places, teacher_ratio

_CHOICES = 0.1  # the weight of what trains choices (λ of Xu et al. 2015): its noise would drown all other gradients


class Gradient:
    """Leaves the gradient of batches in the parameters of a model, scaled up by ``scaler`` in float16.

    ``most_positions`` is what a bucket may have, once memory has run out; before, it is None.
    """

    def __init__(
        self, model: EncoderDecoder, settings: Training, scaler: torch.amp.GradScaler, seed: int, rank: int | None
    ) -> None:
        self.model, self.settings, self.scaler = model, settings, scaler
        self.device = model.projection.device
        self.most_positions: int | None = None
        self._seed, self._rank = seed, () if rank is None else (rank,)

    def add(self, buckets: list[Bucket], step: int, tokens: int) -> tuple[float, float]:
        """Add the gradient of the sum of losses over ``tokens``; return the sums of loss and nll.

        What memory does not suffice for is tried again in halves.
        """
        while True:
            buckets = [part for bucket in buckets for part in self._fitting(bucket)]
            smoothed, nll = torch.zeros(2, device=self.device)
            for number, bucket in enumerate(buckets):
                torch.manual_seed(derive_seed(self._seed, "dropout", step, number, *self._rank))
                try:
                    loss = self._backward(bucket, step, tokens)
                except Exception as error:
                    if not is_out_of_memory(error) or len(bucket.rows) == 1:
                        raise
                    self.most_positions = bucket.positions // 2
                    break
                smoothed += loss.smoothed.detach()
                nll += loss.nll.sum()
            else:
                return float(smoothed), float(nll)
            self._start_again(step)

    def _fitting(self, bucket: Bucket) -> list[Bucket]:
        """A bucket in parts that memory suffices for, as far as is known."""
        if self.most_positions is None or bucket.positions <= self.most_positions or len(bucket.rows) == 1:
            return [bucket]
        return [part for number in range(2) for part in self._fitting(bucket.part(number, 2))]

    def _start_again(self, step: int) -> None:
        """Forget what a step has done before memory ran out: the gradient of one bucket may be there in part."""
        self.model.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        warn(
            f"step {step}: out of memory; batches of more than {self.most_positions:,} positions are split from now on "
            "(lower training.device_tokens)"
        )

    def _backward(self, bucket: Bucket, step: int, tokens: int) -> Loss:
        batch = bucket.collate().to(self.device)
        target = batch.target_out.flatten()
        real = (target != PAD).nonzero()[:, 0]  # [M]
        own = own_places(batch.target_in.shape, teacher_ratio(step, self.settings.teacher_forcing), self.device)
        decoded = self.model(batch.source, batch.target_in, own=own, attention=batch.guide is not None)
        hidden = decoded.hidden.flatten(0, 1).index_select(0, real)  # [M, D]
        loss = smoothed_cross_entropy(hidden, self.model.projection, target[real], self.settings.label_smoothing)
        total = loss.smoothed
        if decoded.choice is not None and decoded.baseline is not None:
            choices = choice_loss(decoded.choice, decoded.baseline, loss.nll, real, told=decoded.told)
            total = total + _CHOICES * choices
        if decoded.attention is not None and batch.guide is not None:
            total = total + self.settings.guided_alignment * guided_loss(decoded.attention, batch.guide)
        self.scaler.scale(total / tokens).backward()  # type: ignore[no-untyped-call]
        return loss


def derive_seed(seed: int, *purpose: object) -> int:
    """A seed for one purpose at one place: a pure function, so that no generator's state need be saved."""
    return zlib.crc32(repr((seed, *purpose)).encode())
