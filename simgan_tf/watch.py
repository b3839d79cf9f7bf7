"""Early warnings that a GAN is dying, read from the rows of its log; the README's table says more on each.
Knows no network and no TensorFlow."""

from simgan_tf.configs import Config

PATIENCE = 300  # steps that a condition must hold without a break: one batch, or the first steps, say nothing
ROWS = 5  # logged rows that it must hold in, at the least
SATURATED = 0.05  # squared distance of D's scores from their targets
SILENT = 1e-3  # KL of a dimension of the code, in nats
UNCHANGED = 0.995  # correlation of an edit and its source


class Watch:
    """Remembers since when each condition holds."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.since: dict[str, tuple[int, int]] = {}  # condition -> first step, rows
        self.warned: set[str] = set()

    def see(self, step: int, terms: dict[str, float]) -> list[str]:
        """One line for each condition that has just held for long; again only after it was gone.

        terms: one row of the log: the weighted terms, D's scores, source_correlation; what is missing is not judged.
        """
        lines = []
        for name, (holds, line) in self._conditions(terms).items():
            if not holds:
                self.since.pop(name, None)
                self.warned.discard(name)
                continue
            first, rows = self.since.get(name, (step, 0))
            self.since[name] = first, rows + 1
            if step - first >= PATIENCE and rows + 1 >= ROWS and name not in self.warned:
                self.warned.add(name)
                lines.append(f"step {step}: since step {first} {line}")
        return lines

    def _conditions(self, terms: dict[str, float]) -> dict[str, tuple[bool, str]]:
        config = self.config
        found = {}
        weights = {
            "d_real": config.adversarial_weight,
            "d_mismatched": config.adversarial_weight * config.mismatched_weight,
            "d_edited": config.adversarial_weight * config.edited_weight,
        }
        if min(weights.values()) > 0 and weights.keys() <= terms.keys():
            found["saturated"] = (
                all(terms[name] < SATURATED * weight for name, weight in weights.items()),
                "D's three scores are saturated: it has learnt the pictures by heart and teaches G little. Stop "
                "earlier, take more data, or start again with a lower --learning_rate.",
            )
        if config.kl_weight > 0 and "g_kl" in terms:
            dimensions = config.ca_size if config.kl_reduction == "sum" else 1
            found["silent"] = (
                terms["g_kl"] < SILENT * config.kl_weight * dimensions,
                f"g_kl is about zero ({terms['g_kl']:.2g}): the text is silenced. Start again with "
                "--kl_reduction=mean, a lower --kl_weight, or a larger --phi_scale of phi.",
            )
        if "source_correlation" in terms:
            correlation = terms["source_correlation"]
            found["inverted"] = (
                correlation < 0,
                f"source_correlation is below 0 ({correlation:.2f}): G inverts the pictures. Start again with "
                "--own_text=0.25 or another --seed.",
            )
            found["unchanged"] = (
                correlation > UNCHANGED,
                f"the edits equal their sources (source_correlation {correlation:.4f}): G does not hear the text. "
                "Start again with a lower --own_text or --cycle_weight, or a larger --phi_scale of phi.",
            )
        return found
