"""What is told of a sentence, written by hand, and the page's JavaScript beside it over the same sentences."""

import json

import pytest
import tensorflow as tf

from data.captions import ALPHABET
from export.serving import noting
from simgan_tf.edit import PRETRAINED
from simgan_tf.text import encoders, notes
from simgan_tf.text.released_tokens import Characters, Dictionary
from simgan_tf.text.tokens import Vocabulary
from tests.tiny import ROOT, node, other_encoder, random_encoder

WORDS = ["this", "flower", "has", "petals", "the", "is", "a", "not", "with", "and", "red", "purple", "yellow", "blue",
         "black", "stem", "center", "very", "long", "pollen", "without", "pruple", "colored"]  # fmt: skip
SHARES = {"red": 0.2, "purple": 0.15, "yellow": 0.05, "blue": 0.04, "black": 0.018, "gold": 0.0, "teal": 0.001}
LENGTH = 8
NOT_RED = '"not" is not understood: red is taken as asked for'
EXPECTED = {  # by hand
    "this flower has red petals": [],
    "This FLOWER has YELLOW petals!": [],  # 5 % is not below 5 %
    "": [],
    "?!": [],
    "this flower has purpel petals": ["unknown to the model: purpel (did you mean purple?)"],  # a swap; not pruple
    "yelow yelllow yellwo ylelwo": ["unknown to the model: yelow (did you mean yellow?), yelllow (did you mean "
                                   "yellow?), yellwo (did you mean yellow?), ylelwo"],
    "rad flower": ["unknown to the model: rad"],  # too short to guess
    "rde bleu redd": ["unknown to the model: rde, bleu (did you mean blue?), redd (did you mean red?)"],
    "teal petals": ["unknown to the model: teal"],  # a colour is no typing error
    "wolf wolf a fox": ["unknown to the model: wolf, fox"],
    "kolared petals": ["unknown to the model: kolared"],  # two errors in seven letters are too many
    "coolored petals": ["unknown to the model: coolored (did you mean colored?)"],
    "koolored petals": ["unknown to the model: koolored (did you mean colored?)"],  # and in eight are not
    "this flower is not red": [NOT_RED],
    "not not red": [NOT_RED],
    "it is not a very long red petal": ["unknown to the model: it, petal (did you mean petals?)", NOT_RED],
    "not this long yellow flower": ['"not" is not understood: yellow is taken as asked for'],
    "not a very long stem and red": ['"not" is not understood: what follows is taken as asked for'],
    "this flower isn't red": ['"isn\'t" is not understood: red is taken as asked for'],
    "this flower isn\u2019t red": ['"isn\'t" is not understood: red is taken as asked for'],
    "it isnt red": ["unknown to the model: it", '"isnt" is not understood: red is taken as asked for'],
    "petals without pollen": ['"without" is not understood: what follows is taken as asked for'],
    "no": ['"no" is not understood: what follows is taken as asked for'],
    "red t": ["unknown to the model: t"],
    "black petals": ["only one training caption in 56 says black: the edit may have another colour"],  # 1 / 0.018
    "blue, blue and black": ["only one training caption in 25 says blue: the edit may have another colour",
                            "only one training caption in 56 says black: the edit may have another colour"],
    "not black": ['"not" is not understood: black is taken as asked for',
                  "only one training caption in 56 says black: the edit may have another colour"],
    "this flower has a very long stem and yellow petals": [
        "only the first 8 words are read; left out: yellow petals"],
    "this flower has a very long stem and not black wolf": [  # what is not read is not told twice
        "only the first 8 words are read; left out: not black wolf"],
    "a a a a a a a a " + "red " * 12: [
        "only the first 8 words are read; left out: red red red red red red red red red red and 2 more"],
}  # fmt: skip
MORE = [  # no line by hand: that the two languages agree on them is enough
    "caf\u00e9 fleur", "red\u00a0flower", "na\u00efve  red", "a\tb\nc", "\u2014 red \u2014", "\U0001f338 red",
    "\U0001f338", "RED.", "isn't", "t t t", "n't", "don't can't won't", "neither red nor blue", "a " * 30, "x" * 300,
    "petals, red; yellow/blue", "100 %", "red\u200bflower", "\x00red", "constructor toString __proto__",
    "hasOwnProperty", "ab" * 120 + " the end", "\u00e9" * 101 + "tail", "nott rred", "purplepurple",
    "stems stam centre colors colourd",
]  # fmt: skip


class Told:
    """What `notes` reads of an encoder."""

    def __init__(self, vocabulary, length=LENGTH, colours=SHARES):
        self.vocabulary, self.length, self.colours = vocabulary, length, colours


@pytest.fixture(scope="module")
def phi():
    return Told(Vocabulary(WORDS))


@pytest.mark.parametrize("text", EXPECTED)
def test_lines_by_hand(phi, text):
    assert notes.notes(text, phi) == EXPECTED[text]


def test_nothing_is_told_of_colours_that_nobody_counted():
    assert notes.notes("black petals", Told(Vocabulary(WORDS), colours={})) == []
    assert notes.notes("gold", Told(Vocabulary(["gold"]))) == [
        "no training caption says gold: the edit may have another colour"
    ]


def test_words_between_spaces_and_characters():
    """One id of 4 is the end of the sentence; a mark makes a word unknown. Six bytes: "caf", two of an e, a space."""
    spaced = Told(Dictionary(["a", "red", "wings", "."]), length=4, colours={})
    assert notes.notes("a red wings. bird", spaced) == [
        "only the first 3 words are read; left out: bird",
        "unknown to the model: wings. (did you mean wings?)",
    ]
    assert notes.notes("a\u00a0\x07", spaced) == ["unknown to the model: aU+00A0U+0007"]
    spelt = Told(Characters(ALPHABET), length=6, colours={})
    assert notes.notes("caf\u00e9 not red", spelt) == [
        "only the first 6 characters are read; left out: not red",
        "unknown to the model: \u00e9",
    ]
    assert notes.notes("no red", spelt) == ['"no" is not understood: red is taken as asked for']


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [("", "", 0), ("", "ab", 2), ("purpel", "purple", 1), ("bleu", "blue", 1), ("ca", "abc", 3),
     ("kitten", "sitting", 3), ("abc", "abc", 0)],
)  # fmt: skip
def test_distance(first, second, expected):
    """ca to abc is 3, since no letter is touched twice: swapping and then putting one in between would be 2."""
    assert notes.distance(first, second) == notes.distance(second, first) == expected


def test_shares_of_captions():
    """Red in 2 of 4 captions, once in each; "redder" is another word; every colour is there."""
    found = notes.shares(["a red red flower", "Red, and black", "redder", ""])
    assert found.keys() == set(notes.COLOURS)
    assert {colour: share for colour, share in found.items() if share} == {"red": 0.5, "black": 0.25}


def test_the_table_is_kept_and_does_not_change_the_encoder(tmp_path):
    encoder = random_encoder(["red", "black"], dim=4, length=5)
    bare = encoder.fingerprint
    encoder.colours = {"red": 0.5, "black": 0.01}
    encoder.save(str(tmp_path / "text_encoder"))
    again = encoders.load(str(tmp_path))
    assert again.colours == encoder.colours and again.fingerprint == bare
    assert other_encoder("kiros").colours == other_encoder("char_cnn_rnn").colours == {}


def test_encoders_from_before_the_table_load(tmp_path):
    random_encoder(["red"], dim=4, length=5).save(str(tmp_path))
    path = tmp_path / "encoder.json"
    facts = json.loads(path.read_text())
    del facts["colours"]
    path.write_text(json.dumps(facts))
    assert encoders.load(str(tmp_path)).colours == {}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [("flowers128", "this flower has black petals", "one training caption in 56 says black"),
     ("flowers64", "this flower has purple petals", ""),
     ("birds", "a purple bird", "one training caption in 146 says purple"),
     ("birds", "a red bird that is black and yellow", "")],
)  # fmt: skip
def test_shipped_models(name, text, told):
    """1.797 % of 66,818 and 0.683 % of 43,170 captions."""
    lines = notes.notes(text, encoders.load(f"{PRETRAINED}/{name}"))
    assert len(lines) == bool(told) and all(told in line for line in lines)


def in_javascript(contract: dict, vocabulary: str | None, texts: list[str]) -> list[list[str]]:
    return node(
        """
        const tokeniser = words.makeTokeniser(value.contract.tokens, value.vocabulary);
        answer = value.texts.map((text) => notes.notesOf(text, value.contract, tokeniser));
        """,
        {"contract": contract, "vocabulary": vocabulary, "texts": texts},
    )


def test_javascript_tells_the_same(tmp_path):
    """Of all kinds of encoder, by what an export packs."""
    texts = [*EXPECTED, *MORE]
    assert len(texts) >= 40
    for vocabulary, length in ((Vocabulary(WORDS), LENGTH), (Dictionary([*WORDS, "."]), LENGTH),
                               (Dictionary([*WORDS, "Red"]), 30), (Characters(ALPHABET), 201)):  # fmt: skip
        encoder, words = Told(vocabulary, length), None
        if vocabulary.in_file:
            vocabulary.save(str(tmp_path / "words"))
            words = (tmp_path / "words").read_text(encoding="utf-8")
        contract = {"tokens": {"length": length, **vocabulary.contract}, "notes": notes.contract(encoder)}
        expected = [notes.notes(text, encoder) for text in texts]
        assert sum(map(bool, expected)) > 20
        assert in_javascript(contract, words, texts) == expected


def test_javascript_with_a_contract_without_notes():
    contract = {"tokens": {"length": 3, **Vocabulary.contract}}
    assert in_javascript(contract, "<pad>\n<unk>\nred\nblack\n", ["not black a red"]) == [
        ["only the first 3 words are read; left out: red", "unknown to the model: not, a"]
    ]


def test_the_page_has_pythons_numbers():
    page = (ROOT / "export/web/page/notes.js").read_text()
    assert f"NEAR = {notes.NEAR}, COMMON = {notes.COMMON}, SHOWN = {notes.SHOWN};" in page


@pytest.mark.parametrize(
    "vocabulary",
    [Vocabulary(WORDS), Dictionary([*WORDS, "."]), Dictionary([*WORDS, "Red"]), Characters(ALPHABET)],
    ids=["words", "spaces", "spaces and capitals", "characters"],
)
def test_the_graph_tells_the_same(tmp_path, vocabulary):
    """But for what cannot be printed, of encoders that read marks."""
    encoder = Told(vocabulary, {Characters: 201, Vocabulary: LENGTH}.get(type(vocabulary), 12))
    table = None
    if vocabulary.in_file:
        vocabulary.save(str(tmp_path / "words"))
        table = vocabulary.file_table(str(tmp_path / "words"))
    texts = [text for text in [*EXPECTED, *MORE] if isinstance(vocabulary, Vocabulary) or text.isprintable()]
    spec = [tf.TensorSpec([None], tf.string)]
    graph = tf.function(lambda text: noting.of(text, encoder, table), input_signature=spec)
    made = [lines.decode().split("\n") if lines else [] for lines in graph(tf.constant(texts)).numpy()]
    expected = [notes.notes(text, encoder) for text in texts]
    assert dict(zip(texts, made, strict=True)) == dict(zip(texts, expected, strict=True))
    assert sum(map(bool, expected)) > 20
