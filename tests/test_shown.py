"""Sentences of the sheets of sets whose captions are of anything."""

import pytest

from simgan_tf.text import shown
from simgan_tf.text.tokens import Vocabulary


def test_known_sentences_and_captions_in_their_place():
    shoes = Vocabulary(["red", "shoe", "blue", "боты"])
    captions = ["red shoe", "blue shoe", "nothing of it", "Боты", "red shoe"]
    assert shown.known(["a red flower", "purple petals"], captions, shoes) == ("a red flower",)
    assert shown.known(["purple petals", "?"], captions, shoes) == ("blue shoe", "red shoe")  # of 3, numbers 0 and 1
    assert shown.drawn(captions, shoes, 9) == ("blue shoe", "red shoe", "Боты")
    with pytest.raises(ValueError, match="knows no word of any caption"):
        shown.drawn(["purple petals"], shoes, 2)
