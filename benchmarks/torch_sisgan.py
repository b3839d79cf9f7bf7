"""SISGAN's networks (encoder B), objective and update in PyTorch, for benchmarks.systems to run beside ours.
PyTorch is no requirement of the project: pip install torch."""

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.torch_simgan import SLOPE, BatchNorm, Peer, Residual, conv, correlation, descend, join, kl_to_normal
from simgan_tf.configs.sisgan import Config


class Normed(nn.Module):
    """A convolution without a bias, behind `doubled` repeated pixels, and the batch norm behind it."""

    def __init__(self, before: int, width: int, kernel: int, stride: int = 1, doubled: bool = False) -> None:
        super().__init__()
        self.conv, self.norm, self.doubled = conv(before, width, kernel, stride), BatchNorm(width), doubled

    def forward(self, x: torch.Tensor, update: bool = True) -> torch.Tensor:
        return self.norm(self.conv(F.interpolate(x, scale_factor=2.0) if self.doubled else x), update)


class Generator(nn.Module):
    """simgan_tf.methods.sisgan.Generator. Parameters stand in the same order."""

    def __init__(self, config: Config, embedding_size: int) -> None:
        super().__init__()
        c, trunk = config.width, 4 * config.width
        self.conv1 = conv(3, c, 3, bias=True)
        self.conv2, self.conv3 = Normed(c, 2 * c, 4, 2), Normed(2 * c, trunk, 4, 2)
        self.to_mean, self.to_log_sigma = (nn.Linear(embedding_size, config.ca_size, bias=False) for _ in range(2))
        self.fuse = Normed(trunk + config.ca_size, trunk, 3)
        self.units = nn.ModuleList(Residual(trunk) for _ in range(config.units))
        self.up1, self.up2 = Normed(trunk, 2 * c, 3, doubled=True), Normed(2 * c, c, 3, doubled=True)
        self.to_image = conv(c, 3, 3, bias=True)

    def forward(self, image, embedding, noise):
        x = F.relu(self.conv3(F.relu(self.conv2(F.relu(self.conv1(image))))))
        mean = F.leaky_relu(self.to_mean(embedding), SLOPE)
        log_sigma = F.leaky_relu(self.to_log_sigma(embedding), SLOPE)
        x = self.fuse(join(x, mean + log_sigma.exp() * noise))
        for unit in self.units:
            x = unit(x, True)
        return torch.tanh(self.to_image(F.relu(self.up2(F.relu(self.up1(x)))))), mean, log_sigma


class Discriminator(nn.Module):
    """simgan_tf.methods.sisgan.Discriminator: logits of pictures with each of several texts, looked at once."""

    def __init__(self, config: Config, embedding_size: int) -> None:
        super().__init__()
        d, stages = config.d_width, config.image_size.bit_length() - 3
        widths = [min(d << i, 8 * d) for i in range(stages)]
        self.conv0 = conv(3, d, 4, 2, bias=True)
        self.stages = nn.ModuleList(Normed(widths[i - 1], widths[i], 4, 2) for i in range(1, stages))
        last, inner = widths[-1], widths[-1] // 4
        self.bottleneck = nn.ModuleList([Normed(last, inner, 1), Normed(inner, inner, 3), Normed(inner, last, 3)])
        self.text = nn.Linear(embedding_size, config.text_size)
        self.fuse = Normed(last + config.text_size, 8 * d, 1)
        self.to_logit = nn.Conv2d(8 * d, 1, 4)

    def forward(self, image: torch.Tensor, *texts: torch.Tensor, update: bool = True) -> list[torch.Tensor]:
        x = self.conv0(image)
        for stage in self.stages:
            x = stage(F.leaky_relu(x, SLOPE), update)
        first, second, third = self.bottleneck
        y = F.leaky_relu(second(F.leaky_relu(first(x, update), SLOPE), update), SLOPE)
        x = F.leaky_relu(x + third(y, update), SLOPE)
        heard = [F.leaky_relu(self.text(text), SLOPE) for text in texts]
        return [self.to_logit(F.leaky_relu(self.fuse(join(x, text), update), SLOPE)).flatten() for text in heard]


def cross_entropy(logits: torch.Tensor, target: float) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


class SISGAN(Peer):
    """The update, from one forward pass of G as ours."""

    def __init__(self, config: Config, embedding_size: int, compiled: bool = False) -> None:
        super().__init__(config, Generator(config, embedding_size), Discriminator(config, embedding_size), compiled)

    def train_step(self, rows: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One update of D, then one of G; the terms and figures that our step returns. rows: of our `prepare`."""
        image, relevant = rows["image"], rows["relevant"]
        edited, mean, log_sigma = self.call_generator(image, relevant, rows["noise"])
        real, mismatched = self.call_discriminator(image, rows["matching"], rows["mismatching"])
        (wrong,) = self.call_discriminator(edited.detach(), relevant)
        terms = {
            "d_real": cross_entropy(real, 1.0),
            "d_mismatched": 0.5 * cross_entropy(mismatched, 0.0),
            "d_edited": 0.5 * cross_entropy(wrong, 0.0),
        }
        d_loss = sum(terms.values())
        descend(self.d_optimizer, d_loss)

        self.discriminator.requires_grad_(False)  # no gradient of D's weights in the update of G
        (logit,) = self.call_discriminator(edited, relevant, update=False)
        g_terms = {
            "g_adversarial": cross_entropy(logit, 1.0),
            "g_kl": self.config.kl_weight * kl_to_normal(mean, log_sigma),
        }
        g_loss = sum(g_terms.values())
        descend(self.g_optimizer, g_loss)
        self.discriminator.requires_grad_(True)
        terms |= {**g_terms, "d_loss": d_loss, "g_loss": g_loss, "score_real": real.mean(),
                  "score_mismatched": mismatched.mean(), "score_edited": wrong.mean(),
                  "source_correlation": correlation(edited, image)}  # fmt: skip
        return {name: term.detach() for name, term in terms.items()}
