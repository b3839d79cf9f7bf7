"""The record files: what is written is read back, whatever the shards, and what is damaged is named."""

import numpy as np
import pytest

from data import places, records


def test_written_examples_are_read_back_in_order_whatever_the_shards(tmp_path):
    examples = [
        records.Example(b"p%d" % i, f"k{i}", i + 1, ("one", "zwei \u00e4")[: i % 2 + 1], b"m" * i, "red" * (i % 2),
                        np.full((i % 2 + 1, 3), i / 3, np.float32))
        for i in range(7)
    ]  # fmt: skip
    parts = []
    for shards in (1, 3, 9):
        folder = tmp_path / str(shards)
        folder.mkdir()
        parts.append(records.write_split(str(folder), "train", examples, shards))
        records.write_info(str(folder), {"format_version": 1, "shards": shards, "splits": {"train": parts[-1]}})
        assert len(list(folder.glob("train-*-of-*.tfrecord"))) == shards
        found = list(records.read_examples(str(folder), "train"))
        assert [e.key for e in found] == [e.key for e in examples]
        for one, other in zip(found, examples, strict=True):
            np.testing.assert_array_equal(one.embeddings, other.embeddings)
            fields = ("image", "class_id", "captions", "mask", "colour")
            assert [getattr(one, name) for name in fields] == [getattr(other, name) for name in fields]
    assert parts[0] == parts[1] == parts[2]
    assert (parts[0]["images"], parts[0]["captions"], parts[0]["embedding_dim"]) == (7, 4 * 1 + 3 * 2, 3)
    changed = [*examples[:-1], records.Example(b"p6", "k6", 7, ("two",), b"m" * 6, "", np.full((1, 3), 2, np.float32))]
    assert records.write_split(str(folder), "train", changed, 1)["fingerprint"] != parts[0]["fingerprint"]


def test_split_refuses_a_key_seen_twice_and_an_example_without_captions(tmp_path):
    one = records.Example(b"p", "k", 1, ("c",))
    with pytest.raises(ValueError, match="'k' occurs twice"):
        records.write_split(str(tmp_path), "train", [one, one], 1)
    with pytest.raises(ValueError, match="'k' has no caption"):
        records.write_split(str(tmp_path), "train", [records.Example(b"p", "k", 1, ())], 1)


def record_lengths(data):
    """Bytes of each record of a shard: 8 bytes of length, 4 of checksum, the record, 4 of checksum."""
    lengths, place = [], 0
    while place < len(data):
        lengths.append(int.from_bytes(data[place : place + 8], "little"))
        place += 16 + lengths[-1]
    return lengths


def crc32c(data):
    """The masked CRC-32C of TensorFlow's records, bit by bit: polynomial 0x1EDC6F41, reflected 0x82F63B78."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def foreign_record(data):
    """A record whose checksums fit, whatever is in it."""
    length = len(data).to_bytes(8, "little")
    return length + crc32c(length) + data + crc32c(data)


def test_damaged_or_missing_records_are_named(tmp_path):
    out = tmp_path / "records"
    with pytest.raises(FileNotFoundError, match="python -m data.build"):
        records.read_info(str(out))
    out.mkdir()
    examples = [records.Example(b"picture %d" % i, f"k{i}", 1, ("a caption",)) for i in range(6)]
    splits = {"train": records.write_split(str(out), "train", examples, 2)}
    records.write_info(str(out), {"format_version": records.FORMAT_VERSION, "shards": 2, "splits": splits})
    with pytest.raises(ValueError, match="split='valid'"):
        list(records.read_examples(str(out), "valid"))
    shard = out / "train-00001-of-00002.tfrecord"
    good = shard.read_bytes()
    lengths = record_lengths(good)
    assert len(lengths) == 3
    second, third = 16 + lengths[0], 32 + lengths[0] + lengths[1]  # where records 1 and 2 begin
    flipped = bytearray(good)
    flipped[second + 12 + lengths[1] // 2] ^= 4
    huge = good[:second] + (2**62).to_bytes(8, "little") + good[second + 8 :]
    for data, words in (
        (good[:-7], f"is damaged: record 2, at byte {third:,}, would end after the file's {len(good) - 7:,} bytes"),
        (good[: second + 5], f"is damaged: record 1, at byte {second:,}, would end"),
        (good[:second], "holds 1 train records, not 3"),
        (b"", "holds 0 train records, not 3"),
        (good + good[:second], "holds 4 train records, not 3"),
        (huge, f"is damaged: record 1, at byte {second:,}, would end"),  # 4 EiB that nobody may try to allocate
        (bytes(flipped), "is damaged: record 1: its checksum does not fit"),
        (good[:-1] + bytes([good[-1] ^ 255]), "is damaged: record 2: its checksum does not fit"),
        (b"".join(map(foreign_record, (b"", b"\xff" * 9, b"x"))), "is damaged: record 0: it is not one of this"),
    ):
        shard.write_bytes(data)
        with pytest.raises(ValueError, match=r"train-00001-of-00002\.tfrecord " + words) as caught:
            list(records.read_examples(str(out), "train"))
        assert "\n" not in str(caught.value)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match="train-00001-of-00002"):
        list(records.read_examples(str(out), "train"))


def test_a_record_whose_features_stand_in_another_order_is_named():
    """Another program's protocol buffers are as valid; where its bytes stand is not what the index reckons."""
    import tensorflow as tf

    example = records.Example(key="wren", image=b"\xff\xd8" * 20, class_id=1, captions=("a red bird",))
    data = records._serialize(records._values(example))
    feature = tf.train.Example.FromString(data).features.feature
    parts = {name: tf.train.Features(feature={name: feature[name]}).SerializeToString() for name in feature}

    def whole(names):
        inner = b"".join(parts[name] for name in names)
        size = bytes([len(inner) & 127 | 128, len(inner) >> 7])  # a varint of two bytes: 128 to 16,383
        return b"\x0a" + size + inner

    assert whole(sorted(parts)) == data
    records._note(example, records._values(example), data, places.Index())
    with pytest.raises(ValueError, match="the record of 'wren' is not one of this project's"):
        records._note(example, records._values(example), whole(sorted(parts, reverse=True)), places.Index())
