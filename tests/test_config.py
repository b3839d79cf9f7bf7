"""The paper's numbers, refusals with their numbers, flags and config.json."""

import dataclasses
import json

import pytest
from absl import flags

from simgan_tf import configs
from simgan_tf.configs.base import Base
from simgan_tf.configs.simgan import PRESETS, Config


@pytest.mark.parametrize("name", ["simgan_cub", "simgan_oxford102"])
def test_paper_presets_hold_the_papers_numbers(name):
    """Sec. 3.1 of the paper, number by number."""
    config = PRESETS[name]
    assert (config.image_size, config.units, config.batch_size, config.epochs) == (256, 16, 16, 600)
    assert (config.learning_rate, config.halve_epochs) == (2e-4, 50)
    assert (config.adversarial_weight, config.cycle_weight, config.kl_weight) == (1, 10, 1)
    assert (config.steps, config.beta1, config.precision) == (0, 0.5, "float32")
    assert (config.decoder, config.image_skip, config.own_text, config.ema_decay) == ("transposed", "none", 0, 0)


@pytest.mark.parametrize("name", ["oxford102_64", "oxford102_128", "cub_64", "cub_128"])
def test_presets_for_modest_hardware_keep_the_papers_objective(name):
    """Smaller networks and a shorter schedule; every field of the networks' kind and of Eq. 4 is the paper preset's."""
    config, paper = PRESETS[f"simgan_{name}"], PRESETS[f"simgan_{name.split('_')[0]}"]
    assert set(configs.differences(config, paper)) == {
        "image_size", "load_size", "width", "units", "d_width", "steps", "halve_epochs", "sample_every",
        "checkpoint_every", "keep_every",
    }  # fmt: skip
    assert config.image_size == int(name.split("_")[1]) and config.load_size * 64 == config.image_size * 76


@pytest.mark.parametrize("name", ["oxford102_64", "oxford102_128", "cub_64", "cub_128"])
def test_shipped_presets_differ_from_the_papers_objective_where_they_say(name):
    config, plain = PRESETS[f"simgan_{name}_shipped"], PRESETS[f"simgan_{name}"]
    found = configs.differences(config, plain)
    assert set(found) - {"halve_epochs"} == {
        "image_skip", "decoder", "own_text", "cycle_weight", "kl_weight", "ema_decay", "learning_rate"
    }  # fmt: skip
    assert (config.adversarial_weight, config.cycle_weight, config.kl_weight) == (1, 3, 0.1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"image_size": 100}, "image_size=100 must be a power of two from 16.*try 64"),
        ({"image_size": 8, "load_size": 8}, "image_size=8 must be from 16 to 512"),
        ({"image_size": 64, "load_size": 60}, "load_size=60 is below image_size=64.*try 76"),
        ({"batch_size": 1}, "batch_size=1"),
        ({"width": 0}, "width=0 must be from 1 to 2048"),
        ({"units": -1}, "units=-1 must be from 0 to 100"),
        ({"decoder": "bilinear"}, "decoder='bilinear' is not one of 'transposed', 'resize'"),
        ({"steps": 0, "epochs": 0}, "steps=0 and epochs=0"),
        ({"sentences": ()}, "sentences=.*at least one"),
        ({"sentences": ("red", " ")}, "sentences=.*none of them empty"),
        ({"learning_rate": float("nan")}, "learning_rate=nan must be a finite number"),
        ({"rotate_degrees": 400.0}, "rotate_degrees=400.0 must be from 0 to 180"),
        ({"beta1": 1.5}, "beta1=1.5 must be from 0"),
        ({"seed": 2**40}, "seed=1099511627776 must be from 0"),
        ({"own_text": 1.0}, "own_text=1.0 leaves no picture"),
        ({"looks": 3}, "looks=3 must divide batch_size=16"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be 1e-12 or more"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(values, said):
    with pytest.raises(ValueError, match=said):
        Config(**values)


def test_an_unknown_field_is_an_error():
    with pytest.raises(TypeError):
        Config(lamba=1.0)


def parse(*arguments):
    """Flags of a fresh set, as run_train.py would parse them."""
    values = flags.FlagValues()
    configs.define_flags(arguments, flag_values=values)
    values(["run_train.py", *arguments])
    return configs.from_flags(values)


def test_flags_override_the_preset_and_nothing_else():
    config = parse("--preset=simgan_demo", "--units=3", "--noflip", "--sentences=a red flower", "--sentences=blue, too")
    changed = dict(units=3, flip=False, sentences=("a red flower", "blue, too"))
    assert config == dataclasses.replace(PRESETS["simgan_demo"], **changed)


def test_every_field_has_a_flag():
    assert parse("--preset=simgan_cub") == PRESETS["simgan_cub"]
    values = flags.FlagValues()
    configs.define_flags(["--preset=simgan_cub"], flag_values=values)
    assert {field.name for field in dataclasses.fields(Config)} <= set(values)


@pytest.mark.parametrize("arguments", [(), ("--records_dir=r",), ("--preset", "nothing")])
def test_without_a_preset_there_are_the_flags_that_all_methods_share(arguments):
    """So that --help says what there is; which flags follow is the preset's word, however it is written."""
    values = flags.FlagValues()
    configs.define_flags(arguments, flag_values=values)
    assert {field.name for field in dataclasses.fields(Base)} | {"preset"} == set(values)
    values = flags.FlagValues()
    configs.define_flags(["--steps=1", "--preset", "simgan_cub"], flag_values=values)
    assert "units" in values


def test_a_bad_flag_value_is_refused():
    with pytest.raises(ValueError, match="image_size=96"):
        parse("--preset=simgan_demo", "--image_size=96")
    with pytest.raises(flags.Error, match="decoder"):
        parse("--preset=simgan_demo", "--decoder=bilinear")


def test_save_and_load(tmp_path):
    config = dataclasses.replace(PRESETS["simgan_cub"], seed=5)
    configs.save(config, str(tmp_path), dataset={"fingerprint": "abc"})
    assert configs.load(str(tmp_path)) == (config, {"dataset": {"fingerprint": "abc"}})


def test_load_says_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="no config.json"):
        configs.load(str(tmp_path))
    path = tmp_path / "config.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="config.json is no JSON"):
        configs.load(str(tmp_path))
    path.write_text(json.dumps({"config": {"method": "pix2pix", "sentences": []}}))
    with pytest.raises(ValueError, match="method 'pix2pix' is not one of 'simgan'"):
        configs.load(str(tmp_path))
    path.write_text(json.dumps({"config": {"method": "simgan", "sentences": ["red"], "d_layout": "b", "units": 3}}))
    with pytest.raises(ValueError, match="d_layout='b': no settings of simgan in this version. docs/ambiguities.md"):
        configs.load(str(tmp_path))
    path.write_text(json.dumps({"config": {"method": "simgan", "sentences": ["red"], "units": -3}}))
    with pytest.raises(ValueError, match="config.json: units=-3 must be from 0 to 100. Choose another --run_dir"):
        configs.load(str(tmp_path))


def test_configurations_of_two_methods_differ_in_their_method():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Other(Base):
        method = "other"

    assert configs.differences(Other(image_size=64, load_size=76), Config()) == {
        "method": ("other", "simgan"), "image_size": (64, 256), "load_size": (76, 304),
    }  # fmt: skip
    assert configs.differences(Config(), Other())["units"] == (16, None)
