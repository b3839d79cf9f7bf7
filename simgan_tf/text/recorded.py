"""phi by looking it up: the embeddings that came with the records, for the captions that they belong to.
For runs whose encoder is not available."""

from collections.abc import Iterable, Sequence

import numpy as np

from data.splits import Split

ALIKE = 0.99  # mean cosine from which an encoder counts as the one that made the embeddings


class Recorded:
    """A text encoder that knows the captions of the records and no other sentence.

    Attributes: dim, name, kind "recorded", fingerprint (of the embeddings). It has no words, no tokens and no graph.
    """

    kind = "recorded"

    def __init__(self, info: dict, splits: Iterable[Split]) -> None:
        """info: dataset.json of records with embeddings. splits: those whose captions are to be known.

        Where two pictures share a caption, their rows are one encoder's and agree; the last one is kept.
        """
        facts = info["embeddings"]
        self.dim, self.name, self.fingerprint = facts["dim"], facts["name"], facts["fingerprint"]
        self._rows: dict[str, np.ndarray] = {}
        for split in splits:
            captions = (caption for each in split.captions for caption in each)
            self._rows.update(zip(captions, split.embeddings, strict=True))

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """phi [n, dim] float32. Raises: ValueError for a sentence that is no caption of the records."""
        for text in texts:
            self.check(text)
        return np.stack([self._rows[text] for text in texts])

    def check(self, text: str) -> None:
        """Raises: ValueError for a sentence that is no caption of the records."""
        if text not in self._rows:
            raise ValueError(
                f"{text!r} is no caption of the records, and this run has only their embeddings ({self.name}); to type "
                "sentences of your own, train with the encoder that made them: run_train.py --text_encoder=..."
            )

    def unknown_words(self, text: str) -> list[str]:
        """Nothing: a sentence is known as a whole or not at all."""
        return []


def require_same(encoder: object, info: dict, split: Split, count: int = 64) -> None:
    """Checks that `encoder` is the one that made the embeddings of the records.

    The fingerprints decide where an encoder filled the records; where they came from files, `count` captions of
    `split` are encoded and compared by cosine.

    Raises: ValueError for another size, or a mean cosine under 0.99.
    """
    facts = info["embeddings"]
    if facts["fingerprint"] == encoder.fingerprint:
        return
    remedy = (
        "give the encoder that made them, or take them out: python -m simgan_tf.text.embed --remove --records_dir=..."
    )
    if facts["dim"] != encoder.dim:
        raise ValueError(
            f"the records hold {facts['dim']}-dimensional embeddings ({facts['name']}), the text encoder "
            f"{encoder.name} gives {encoder.dim}; {remedy}"
        )
    first = np.cumsum([0, *split.caption_counts])
    rows = np.unique(np.linspace(0, first[-1] - 1, count).astype(int))
    pictures = np.searchsorted(first, rows, side="right") - 1
    texts = [split.captions[picture][row - first[picture]] for picture, row in zip(pictures, rows, strict=True)]
    computed, recorded = encoder.encode(texts), split.embeddings[rows]
    lengths = np.linalg.norm(computed, axis=1) * np.linalg.norm(recorded, axis=1)
    cosine = float(np.mean(np.sum(computed * recorded, axis=1) / np.maximum(lengths, 1e-12)))
    if cosine < ALIKE:
        raise ValueError(
            f"the embeddings of the records ({facts['name']}) are not those of the text encoder {encoder.name}: mean "
            f"cosine {cosine:.3f} over {len(rows)} captions; {remedy}"
        )
