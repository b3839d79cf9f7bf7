"""SIMGAN's default networks, objective and update in PyTorch, for the other benchmarks to run beside ours.
PyTorch is no requirement of the project: pip install torch."""

import contextlib
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from simgan_tf.configs.base import Base
from simgan_tf.configs.simgan import Config

SLOPE = 0.2  # of leaky ReLU, as in simgan_tf/layers.py; batch norm's momentum 0.1 and epsilon 1e-5 are PyTorch's own


class BatchNorm(nn.Module):
    """Batch norm whose batch statistics enter the moving ones only with `update`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, x: torch.Tensor, update: bool = True) -> torch.Tensor:
        moving = (self.mean, self.variance) if update or not self.training else (None, None)
        return F.batch_norm(x, *moving, self.weight, self.bias, training=self.training, momentum=0.1, eps=1e-5)


def conv(before: int, width: int, kernel: int, stride: int = 1, bias: bool = False) -> nn.Module:
    """3x3 of stride 1, 4x4 of stride 2, or 1x1: a padding of (kernel - 1) // 2 is TensorFlow's SAME for all three."""
    return nn.Conv2d(before, width, kernel, stride, (kernel - 1) // 2, bias=bias)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv(width, width, 3), BatchNorm(width)
        self.conv2, self.norm2 = conv(width, width, 3), BatchNorm(width)

    def forward(self, x: torch.Tensor, update: bool) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x), update))
        return F.relu(x + self.norm2(self.conv2(y), update))


class Generator(nn.Module):
    """simgan_tf.methods.simgan.Generator with the default switches. Parameters stand in the same order."""

    def __init__(self, config: Config, embedding_size: int) -> None:
        super().__init__()
        c, trunk = config.width, 4 * config.width
        self.conv1 = conv(3, c, 3, bias=True)
        self.conv2, self.norm2 = conv(c, 2 * c, 4, 2), BatchNorm(2 * c)
        self.conv3, self.norm3 = conv(2 * c, trunk, 4, 2), BatchNorm(trunk)
        self.to_mean, self.to_log_sigma = (nn.Linear(embedding_size, config.ca_size) for _ in range(2))
        self.fuse, self.fuse_norm = conv(trunk + config.ca_size, trunk, 3), BatchNorm(trunk)
        self.units = nn.ModuleList(Residual(trunk) for _ in range(config.units))
        self.up1, self.up_norm1 = nn.ConvTranspose2d(trunk, 2 * c, 4, 2, 1, bias=False), BatchNorm(2 * c)
        self.up2, self.up_norm2 = nn.ConvTranspose2d(2 * c, c, 4, 2, 1, bias=False), BatchNorm(c)
        self.to_image = conv(c, 3, 3, bias=True)

    def forward(self, image, embedding, noise, update: bool = True):
        x = F.relu(self.conv1(image))
        x = F.relu(self.norm2(self.conv2(x), update))
        x = F.relu(self.norm3(self.conv3(x), update))
        with torch.autocast("cpu", enabled=False):
            mean = F.leaky_relu(self.to_mean(embedding), SLOPE)
            log_sigma = F.leaky_relu(self.to_log_sigma(embedding), SLOPE)
            code = mean + log_sigma.exp() * noise
        x = F.relu(self.fuse_norm(self.fuse(join(x, code)), update))
        for unit in self.units:
            x = unit(x, update)
        x = F.relu(self.up_norm1(self.up1(x), update))
        x = F.relu(self.up_norm2(self.up2(x), update))
        return torch.tanh(self.to_image(x).float()), mean, log_sigma


class Discriminator(nn.Module):
    """simgan_tf.methods.simgan.Discriminator with the default switches (layout a)."""

    def __init__(self, config: Config, embedding_size: int) -> None:
        super().__init__()
        d, widest = config.d_width, 8 * config.d_width
        widths = [min(d << i, widest) for i in range(config.image_size.bit_length() - 3)]
        self.text = nn.Linear(embedding_size, config.text_size)
        self.trunk = nn.ModuleList()
        for i, (before, width) in enumerate(zip([3, *widths[:-1]], widths, strict=True)):
            self.trunk.append(conv(before, width, 4, 2, bias=i == 0))
            if i:
                self.trunk.append(BatchNorm(width))
        self.fuse, self.fuse_norm = conv(widths[-1] + config.text_size, 8 * d, 1), BatchNorm(8 * d)
        self.score = nn.Conv2d(8 * d, 1, 4)

    def forward(self, image, embedding, update: bool = True) -> torch.Tensor:
        x, *layers = self.trunk[0](image), *self.trunk[1:]
        x = F.leaky_relu(x, SLOPE)
        for convolve, norm in zip(layers[::2], layers[1::2], strict=True):
            x = F.leaky_relu(norm(convolve(x), update), SLOPE)
        text = F.leaky_relu(self.text(embedding), SLOPE)
        x = F.leaky_relu(self.fuse_norm(self.fuse(join(x, text)), update), SLOPE)
        return self.score(x).float().flatten()


def join(features: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    code = code.to(features.dtype)[:, :, None, None].expand(-1, -1, *features.shape[2:])
    return torch.cat([features, code], 1)


def copy_weights(network: nn.Module, arrays: Iterable[np.ndarray]) -> None:
    """Fills a network's parameters from the trainable weights of ours, in their order."""
    for parameter, array in zip(network.parameters(), arrays, strict=True):
        if array.ndim == 4:  # [h, w, in, out], and [h, w, out, in] of a transposed one, both to [last, third, h, w]
            array = array.transpose(3, 2, 0, 1)
        elif array.ndim == 2:
            array = array.T
        if parameter.shape != array.shape:
            raise ValueError(f"parameter {tuple(parameter.shape)} does not take an array {array.shape}")
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(array.copy()))


def optimizer(config: Base, network: nn.Module) -> torch.optim.Optimizer:
    """Adam as ours, by PyTorch's one kernel for all parameters."""
    betas = config.beta1, config.beta2
    return torch.optim.Adam(network.parameters(), config.learning_rate, betas, config.adam_epsilon, fused=True)


def correlation(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Pearson's correlation of all values of two batches of pictures."""
    with torch.no_grad():
        return torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]


def as_images(array: np.ndarray) -> torch.Tensor:
    """[B, H, W, 3] as PyTorch's [B, 3, H, W], in the same order in memory."""
    return torch.from_numpy(array).permute(0, 3, 1, 2)


def kl_to_normal(mean: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    return (0.5 * ((2 * log_sigma).exp() + mean.square() - 1) - log_sigma).mean()


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


class Peer:
    """Both networks and both optimizers. compiled: the networks' calls, by torch.compile."""

    def __init__(self, config: Base, generator: nn.Module, discriminator: nn.Module, compiled: bool) -> None:
        self.config, self.generator, self.discriminator = config, generator, discriminator
        for network in (generator, discriminator):
            network.to(memory_format=torch.channels_last)
        self.g_optimizer, self.d_optimizer = optimizer(config, generator), optimizer(config, discriminator)
        self.call_generator, self.call_discriminator = (
            torch.compile(network, dynamic=False) if compiled else network for network in (generator, discriminator)
        )


class SIMGAN(Peer):
    """The update in PyTorch's fastest ways. precision: float32, or mixed_bfloat16 by autocast."""

    def __init__(self, config: Config, embedding_size: int, precision: str, compiled: bool = False) -> None:
        super().__init__(config, Generator(config, embedding_size), Discriminator(config, embedding_size), compiled)
        self.bf16 = precision == "mixed_bfloat16"

    def autocast(self) -> contextlib.AbstractContextManager:
        return torch.autocast("cpu", torch.bfloat16) if self.bf16 else contextlib.nullcontext()

    def train_step(self, image, matching, mismatching, noise, forwards: int = 1) -> dict[str, torch.Tensor]:
        """One update of D, then one of G: from one forward pass of G as ours, or from two as the relatives do.

        Returns the terms and figures that our train_step returns.
        """
        config, generator, discriminator = self.config, self.call_generator, self.call_discriminator
        with self.autocast():
            if forwards == 1:
                edited, mean, log_sigma = generator(image, mismatching, noise)
                constant = edited.detach()
            else:
                with torch.no_grad():
                    constant, _, _ = generator(image, mismatching, noise)
            real_score = discriminator(image, matching)
            mismatched_score = discriminator(image, mismatching)
            edited_score = discriminator(constant, mismatching)
        terms = {
            "d_real": (real_score - 1).square().mean(),
            "d_mismatched": mismatched_score.square().mean(),
            "d_edited": edited_score.square().mean(),
        }
        d_loss = terms["d_real"] + terms["d_mismatched"] + terms["d_edited"]
        descend(self.d_optimizer, d_loss)

        self.discriminator.requires_grad_(False)  # no gradient of D's weights in the update of G
        with self.autocast():
            if forwards == 2:
                edited, mean, log_sigma = generator(image, mismatching, noise)
            score = discriminator(edited, mismatching, update=False)
            reconstructed, _, _ = generator(edited, matching, torch.zeros_like(noise), update=False)
        terms["g_adversarial"] = (score - 1).square().mean()
        terms["g_cycle"] = config.cycle_weight * (reconstructed - image).abs().mean()
        terms["g_kl"] = config.kl_weight * kl_to_normal(mean, log_sigma)
        g_loss = terms["g_adversarial"] + terms["g_cycle"] + terms["g_kl"]
        descend(self.g_optimizer, g_loss)
        self.discriminator.requires_grad_(True)
        return {
            **{name: term.detach() for name, term in terms.items()},
            "d_loss": d_loss.detach(),
            "g_loss": g_loss.detach(),
            "score_real": real_score.detach().mean(),
            "score_mismatched": mismatched_score.detach().mean(),
            "score_edited": edited_score.detach().mean(),
            "source_correlation": correlation(edited, image),
        }

    def edit(self, image, embedding, noise) -> torch.Tensor:
        """x_hat of G in inference mode; set `generator.eval()` once before."""
        with torch.inference_mode(), self.autocast():
            return self.call_generator(image, embedding, noise)[0]
