"""TAGAN's networks, objective and update in PyTorch, for benchmarks.systems to run beside ours.
PyTorch is no requirement of the project: pip install torch."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.torch_simgan import SLOPE, Peer, conv, correlation, descend, join, kl_to_normal
from benchmarks.torch_sisgan import Normed, cross_entropy
from simgan_tf.configs.tagan import Config


class Words(nn.Module):
    """simgan_tf.layers.WordEncoder over a fixed table of word vectors [V, E]: PyTorch's own GRU on packed sentences."""

    def __init__(self, table: np.ndarray, size: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.from_numpy(table.copy()))
        self.gru = nn.GRU(table.shape[1], size, batch_first=True, bidirectional=True)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        words, known = self.table[tokens], tokens > 0
        words = words * (words.square().mean(-1, keepdim=True) + 1e-12).rsqrt()
        packed = pack_padded_sequence(words, known.sum(1), batch_first=True, enforce_sorted=False)
        features, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=tokens.shape[1])
        return sum(features.chunk(2, dim=-1)) / 2, known

    @staticmethod
    def mean(features: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        return features.sum(1) / known.sum(1, keepdim=True)


class Unit(nn.Module):
    """A residual unit without a ReLU behind the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Normed(width, width, 3), Normed(width, width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


class Generator(nn.Module):
    """simgan_tf.methods.tagan.Generator without its words. Parameters stand in the same order."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        c, trunk = config.width, 8 * config.width
        self.conv1 = conv(3, c, 3, bias=True)
        self.conv2, self.conv3, self.conv4 = (Normed(c << i, 2 * c << i, 4, 2) for i in range(3))
        self.to_mean, self.to_log_sigma = (nn.Linear(config.hidden_size, config.ca_size) for _ in range(2))
        self.fuse = Normed(trunk + config.ca_size, trunk, 3)
        self.units = nn.ModuleList(Unit(trunk) for _ in range(config.units))
        self.up1, self.up2, self.up3 = (Normed(trunk >> i, trunk >> i + 1, 3, doubled=True) for i in range(3))
        self.to_image = conv(c, 3, 3, bias=True)

    def forward(self, image, embedding, noise):
        features = F.relu(self.conv4(F.relu(self.conv3(F.relu(self.conv2(F.relu(self.conv1(image))))))))
        mean = F.leaky_relu(self.to_mean(embedding), SLOPE)
        log_sigma = F.leaky_relu(self.to_log_sigma(embedding), SLOPE)
        x = F.relu(self.fuse(join(features, mean + log_sigma.exp() * noise)))
        for unit in self.units:
            x = unit(x)
        x = F.relu(self.up3(F.relu(self.up2(F.relu(self.up1(features + x))))))
        return torch.tanh(self.to_image(x)), mean, log_sigma


class Discriminator(nn.Module):
    """simgan_tf.methods.tagan.Discriminator without its words."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d, stages = config.d_width, config.image_size.bit_length() - 3
        widths = [min(d << i, 8 * d) for i in range(stages)]
        self.first = max(0, stages - 3)  # of the maps that words are held against
        self.conv0 = conv(3, d, 4, 2, bias=True)
        self.stages = nn.ModuleList(Normed(widths[i - 1], widths[i], 4, 2) for i in range(1, stages))
        self.to_logit = nn.Conv2d(widths[-1], 1, 4)
        self.scales = nn.ModuleList()
        for width in widths[self.first :]:
            self.scales.append(nn.ModuleList([Normed(width, width, 3), nn.Linear(config.hidden_size, width + 1)]))
        self.to_levels = nn.Linear(config.hidden_size, len(self.scales))

    def forward(self, image: torch.Tensor, look: bool, update: bool = True) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The logit [B], and with `look` what words are held against, v_j [B, C_j]."""
        maps = [F.leaky_relu(self.conv0(image), SLOPE)]
        for stage in self.stages:
            maps.append(F.leaky_relu(stage(maps[-1], update), SLOPE))
        pairs = zip(self.scales, maps[self.first :], strict=True) if look else ()
        seen = [F.leaky_relu(scale[0](x, update), SLOPE).mean((2, 3)) for scale, x in pairs]
        return self.to_logit(maps[-1]).flatten(), seen

    def hear(self, u: torch.Tensor, known: torch.Tensor) -> list[torch.Tensor]:
        """Attention [B, T], log beta [B, T, J], and of each map W and b as one, [B, T, C_j + 1]."""
        scores = torch.einsum("bth,bh->bt", u, Words.mean(u, known)).masked_fill(~known, -1e9)
        levels = F.log_softmax(self.to_levels(u), dim=-1)
        return [scores.softmax(1), levels, *[scale[1](u) for scale in self.scales]]

    @staticmethod
    def match(seen: list[torch.Tensor], heard: list[torch.Tensor]) -> torch.Tensor:
        """log p [B] of v_j and what `hear` gave."""
        attention, levels, *classifiers = heard
        pairs = zip(seen, classifiers, strict=True)
        logits = [torch.einsum("btc,bc->bt", w[..., :-1], v) + w[..., -1] for v, w in pairs]
        return (attention * (levels + F.logsigmoid(torch.stack(logits, -1))).logsumexp(-1)).sum(1)


def log_cross_entropy(log_p: torch.Tensor, target: float) -> torch.Tensor:
    return -(log_p if target else (-torch.expm1(log_p.clamp(max=-1e-7))).log()).mean()


class TAGAN(Peer):
    """The update, from one forward pass of G as ours.

    table: word vectors [V, E] float32. compiled: by torch.compile, all but the GRUs.
    """

    def __init__(self, config: Config, table: np.ndarray, compiled: bool = False) -> None:
        networks = ([Words(table, config.hidden_size), network(config)] for network in (Generator, Discriminator))
        super().__init__(config, *map(nn.ModuleList, networks), compiled=False)
        self.g_words, self.edit = self.generator
        self.d_words, self.see = self.discriminator
        self.hear = self.see.hear
        if compiled:
            self.edit, self.see, self.hear = (
                torch.compile(each, dynamic=False) for each in (self.edit, self.see, self.hear)
            )

    def train_step(self, rows: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One update of D, then one of G; the terms and figures that our step returns. rows: of our `prepare`."""
        config, image, match = self.config, rows["image"], Discriminator.match
        texts = torch.cat([rows["mismatching"], rows["matching"]])
        target, own = Words.mean(*self.g_words(texts)).chunk(2)
        edited, mean, log_sigma = self.edit(image, target, rows["noise"])

        real, seen = self.see(image, True)
        wrong, right = zip(*(each.chunk(2) for each in self.hear(*self.d_words(texts))), strict=True)
        mismatching, matching = match(seen, wrong), match(seen, right)
        fake, _ = self.see(edited.detach(), False)
        terms = {
            "d_real": cross_entropy(real, 1.0),
            "d_edited": cross_entropy(fake, 0.0),
            "d_matching": config.conditional_weight / 2 * log_cross_entropy(matching, 1.0),
            "d_mismatched": config.conditional_weight / 2 * log_cross_entropy(mismatching, 0.0),
        }
        d_loss = sum(terms.values())
        descend(self.d_optimizer, d_loss)

        self.discriminator.requires_grad_(False)  # no gradient of D's weights in the update of G
        heard = self.hear(*self.d_words(rows["mismatching"]))
        logit, seen = self.see(edited, True, update=False)
        reconstructed, own_mean, own_log_sigma = self.edit(image, own, rows["own_noise"])
        g_terms = {
            "g_adversarial": cross_entropy(logit, 1.0),
            "g_matching": config.conditional_weight * log_cross_entropy(match(seen, heard), 1.0),
            "g_reconstruction": config.reconstruction_weight * (reconstructed - image).abs().mean(),
            "g_kl": config.kl_weight * (kl_to_normal(mean, log_sigma) + kl_to_normal(own_mean, own_log_sigma)),
        }
        g_loss = sum(g_terms.values())
        descend(self.g_optimizer, g_loss)
        self.discriminator.requires_grad_(True)
        terms |= {**g_terms, "d_loss": d_loss, "g_loss": g_loss, "score_real": real.sigmoid().mean(),
                  "score_edited": fake.sigmoid().mean(), "score_matching": matching.exp().mean(),
                  "score_mismatched": mismatching.exp().mean(),
                  "source_correlation": correlation(edited, image)}  # fmt: skip
        return {name: term.detach() for name, term in terms.items()}
