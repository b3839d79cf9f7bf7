"""Tests of the client, the protocol and the files beside the model, against a stand-in for tensorflow_model_server."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

from export.serving import checks, client, deployment
from simgan_tf.text import notes
from simgan_tf.text.tokens import Vocabulary
from simgan_tf.text.vse import TextEncoder
from tests.tiny import picture_files, refused, run

pytest.importorskip("tensorflow_serving", reason="pip install --no-deps tensorflow-serving-api~=2.21.0")

from google.protobuf import text_format  # noqa: E402
from tensorflow_serving.apis import prediction_log_pb2  # noqa: E402
from tensorflow_serving.config import model_server_config_pb2  # noqa: E402

from tests import serving_double  # noqa: E402

RED, BLUE = "this flower has red petals", "this flower has blue petals"
PROTOCOLS = ("rest", "grpc")


@pytest.fixture(scope="module")
def double(served_session) -> serving_double.Double:
    return serving_double.Double(served_session)


@pytest.fixture(scope="module")
def addresses(double):
    """Of both servers, by protocol, over one session."""
    with serving_double.rest_server(double) as rest, serving_double.grpc_server(double) as grpc:
        yield {"rest": rest, "grpc": grpc}


@pytest.fixture(scope="module")
def picture() -> bytes:
    return picture_files(2)[1]  # a PNG


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_edit_and_interpolate(addresses, double, picture, kind):
    """Over the wire: the PNGs that the Session gives."""
    wanted = double.session.run("serving_default", image_bytes=[picture] * 3, text=[RED] * 3, seed=[0, 1, 2])
    made = client.edit(addresses[kind], kind, picture, RED, [0, 1, 2])
    assert made == wanted["image_bytes"].tolist() and len(set(made)) == 3
    wanted = double.session.run("interpolate", image_bytes=[picture], text=[RED], to_text=[BLUE], steps=[4], seed=[5])
    made = client.interpolate(addresses[kind], kind, picture, RED, BLUE, 4, 5)
    assert made == wanted["png_bytes"][0].tolist() and len(set(made)) == 4


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_the_sentence_is_told_as_it_was_understood(addresses, untrained, picture, kind):
    """The lines that the command tells, beside the picture; none of a sentence that is understood."""
    text = f"zzz not {BLUE} {RED}"
    pictures, lines = client.edit_with_notes(addresses[kind], kind, picture, text, [0, 7])
    assert len(pictures) == 2 and lines == notes.notes(text, untrained.text_encoder) and len(lines) > 2
    assert client.edit_with_notes(addresses[kind], kind, picture, RED, [0])[1] == []


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_bad_requests_and_the_server_lives(addresses, picture, kind):
    """Each fault has its sentence, and a good request after it is answered."""
    address, good = addresses[kind], client.edit(addresses[kind], kind, picture, RED, [3])
    for data, text, words in (
        (b"no picture", RED, "refuses the request: row 0: image_bytes is no JPEG, PNG or WebP (10 bytes)"),
        (picture[:-40], RED, "refuses the request: row 0: image_bytes is damaged, it cannot be decoded"),
        (picture, " ", "refuses the request: row 0: text is empty"),
        (picture, "zzz", "refuses the request: row 0: no word of text is known to this model"),
    ):
        with pytest.raises(client.Failed, match=re.escape(words)):
            client.edit(address, kind, data, text, [3])
        assert client.edit(address, kind, picture, RED, [3]) == good
    with pytest.raises(client.Failed, match="no model 'other' ready .*wait until .*AVAILABLE, or give another --model"):
        client.edit(address, kind, picture, RED, [3], model="other")
    with pytest.raises(client.Failed, match='refuses the request: Serving signature key "none" not found'):
        client._ask(address, kind, "simgan", "none", {"text": [RED]}, 60)
    with pytest.raises(client.Failed, match="refuses the request: .*image_bytes"):
        client._ask(address, kind, "simgan", "serving_default", {"text": [RED]}, 60)
    assert client.edit(address, kind, picture, RED, [3]) == good


def test_bad_rows_by_rest_alone(addresses, picture):
    """What only JSON can get wrong: no JSON, no rows, NaN, a number for a text, another path."""
    host, _, port = addresses["rest"].partition(":")

    def post(path: str, body: bytes) -> tuple[int, str]:
        connection = http.client.HTTPConnection(host, int(port), timeout=300)
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["error"]

    path = "/v1/models/simgan:predict"
    assert post(path, b"{")[0] == 400 and post(path, b"[]")[0] == 400 and post(path, b'{"instances": [1]}')[0] == 400
    edit = {"image": np.zeros([16, 16, 3]).tolist(), "embedding": [0.0] * 6, "noise": [float("nan")] * 5}
    status, message = post(path, json.dumps({"signature_name": "edit", "instances": [edit]}).encode())
    assert status == 400 and "row 0: noise has values that are not finite" in message
    edit["noise"] = [0.0] * 4
    status, message = post(path, json.dumps({"signature_name": "edit", "instances": [edit]}).encode())
    assert status == 400 and "noise" in message
    status, message = post(path, json.dumps({"signature_name": "embed", "instances": [{"text": 3}]}).encode())
    assert status == 400
    assert post("/v1/models/simgan:classify", b"{}")[0] == 404
    assert len(client.edit(addresses["rest"], "rest", picture, RED, [0])) == 1


def test_many_clients_at_once(addresses, picture):
    """Eight threads, good and bad requests mixed: everyone gets their own answer."""
    wanted = {seed: client.edit(addresses["rest"], "rest", picture, RED, [seed]) for seed in range(4)}
    found: dict[int, object] = {}

    def ask(i: int) -> None:
        kind = PROTOCOLS[i % 2]
        try:
            found[i] = client.edit(addresses[kind], kind, picture if i < 6 else b"bad", RED, [i % 4])
        except client.Failed as error:
            found[i] = str(error)

    threads = [threading.Thread(target=ask, args=[i]) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[i] == wanted[i % 4] for i in range(6))
    assert all("row 0: image_bytes is no JPEG" in str(found[i]) for i in (6, 7))


def test_command(addresses, tmp_path, picture):
    (tmp_path / "flower.png").write_bytes(picture)
    common = ["-m", "export.serving.client", f"--address={addresses['rest']}",
              f"--image={tmp_path}/flower.png", f"--text={RED}", f"--out={tmp_path}/edit.png"]  # fmt: skip
    assert run(*common).stdout == f"wrote {tmp_path}/edit.png\n"
    assert (tmp_path / "edit.png").read_bytes() == client.edit(addresses["rest"], "rest", picture, RED, [0])[0]
    assert run(*common, "--samples=2", "--seed=4").stdout == f"wrote {tmp_path}/edit_1.png to {tmp_path}/edit_2.png\n"
    made = [(tmp_path / f"edit_{i}.png").read_bytes() for i in (1, 2)]
    assert made == client.edit(addresses["rest"], "rest", picture, RED, [4, 5])
    assert "note: unknown to the model: zzz" in run(*common, f"--text={RED} zzz").stdout
    run(*common, f"--to_text={BLUE}", "--steps=3")
    assert sorted(os.listdir(tmp_path)) == ["edit.png", *[f"edit_{i}.png" for i in (1, 2, 3)], "flower.png"]
    (tmp_path / "flower.png").write_bytes(b"no picture")
    assert "refuses the request: row 0: image_bytes is no JPEG" in refused(*common)


def test_command_by_grpc(addresses, tmp_path, picture):
    """Without a word of TensorFlow's on the screen, which its messages start."""
    (tmp_path / "flower.png").write_bytes(picture)
    done = run("-m", "export.serving.client", f"--address={addresses['grpc']}", "--protocol=grpc",
               f"--image={tmp_path}/flower.png", f"--text={RED}", f"--out={tmp_path}/edit.png")  # fmt: skip
    assert (done.stdout, done.stderr) == (f"wrote {tmp_path}/edit.png\n", "")
    assert (tmp_path / "edit.png").read_bytes() == client.edit(addresses["grpc"], "grpc", picture, RED, [0])[0]


def test_command_refuses_before_it_asks(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    common = ["-m", "export.serving.client", "--address=127.0.0.1:1"]
    for image, text, out, words in (
        ("a.jpg", RED, "a.jpg", "must end in .png"),
        ("a.jpg", " ", "a.png", "--text is empty"),
        ("none.jpg", RED, "a.png", "none.jpg"),
        ("a.jpg", RED, "a.png", "no server at 127.0.0.1:1 "),
    ):
        line = refused(*common, f"--image={tmp_path}/{image}", f"--text={text}", f"--out={tmp_path}/{out}")
        assert words in line
    assert os.listdir(tmp_path) == ["a.jpg"]


@pytest.mark.parametrize("seed", [2**31 - 63, -(2**31) - 1])
def test_seeds_that_are_no_int32(tmp_path, seed):
    """Refused, also where only the last of 64 samples would be too large."""
    line = refused("-m", "export.serving.client", "--protocol=grpc", f"--image={tmp_path}/a.jpg", f"--text={RED}",
                   f"--out={tmp_path}/a.png", f"--seed={seed}")  # fmt: skip
    assert "--seed" in line and str(seed) in line


def test_a_proxy_is_named(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert "no_proxy=example.com goes past it" in client._down("example.com:8501", "refused")
    assert "proxy" not in client._down("127.0.0.1:8501", "refused")


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_a_server_that_is_down_late_or_another(addresses, picture, kind):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(client.Failed, match=f"no server at {address} .*start it .*or give another --address"):
            client.edit(address, kind, picture, RED, [0])
    other = {"rest": "grpc", "grpc": "rest"}[kind]
    wrong = "does not speak HTTP; for the gRPC port give --protocol=grpc" if kind == "rest" else "no server at|refuses"
    with pytest.raises(client.Failed, match=wrong):
        client.edit(addresses[other], kind, picture, RED, [0])


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_deadline(double, picture, kind):
    slow = serving_double.Double(double.session, delay=2.0)
    server = serving_double.rest_server if kind == "rest" else serving_double.grpc_server
    with server(slow) as address, pytest.raises(client.Failed, match="within 0.2 seconds; give a longer --timeout"):
        client.edit(address, kind, picture, RED, [0], timeout=0.2)


def test_client_needs_no_tensorflow():
    """By REST it imports no TensorFlow, which takes seconds and a gigabyte, nor anything else of ours that does."""
    code = ("import sys; from export.serving import client; "
            "sys.exit(any(name.split('.')[0] in ('tensorflow', 'keras') for name in sys.modules))")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], cwd=os.path.dirname(os.path.dirname(__file__))).returncode == 0


def test_a_request_holds_what_it_was_given():
    """Arrays, numbers and strings of both kinds, read back by TensorFlow."""
    image = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3)
    given = {"image": image, "seed": [-3], "text": ["red"], "raw": [b"\xff\0"]}
    request = client.predict_request("simgan", "edit", given)
    assert (request.model_spec.name, request.model_spec.signature_name) == ("simgan", "edit")
    found = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
    np.testing.assert_array_equal(found["image"], image)
    assert found["image"].dtype == np.float32 and found["seed"].tolist() == [-3] and found["seed"].dtype == np.int32
    assert found["text"].tolist() == [b"red"] and found["raw"].tolist() == [b"\xff\0"]


@pytest.fixture
def without_the_package(monkeypatch):
    """As where tensorflow-serving-api is not installed."""
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorflow_serving"]:
        monkeypatch.setitem(sys.modules, name, None)


def test_grpc_says_what_to_install(without_the_package, addresses, picture):
    words = r'needs tensorflow-serving-api: pip install "simgan-tf\[serving\]", or ask by --protocol=rest'
    with pytest.raises(client.Failed, match=words):
        client.edit(addresses["grpc"], "grpc", picture, RED, [0])
    assert len(client.edit(addresses["rest"], "rest", picture, RED, [0])) == 1


def test_an_export_says_that_it_has_no_warm_up(without_the_package, untrained, served, tmp_path, capsys):
    """Everything else is written; the check counts no request."""
    deployment.write(untrained, str(tmp_path / "simgan" / "7"))
    assert "no warm-up requests, which need tensorflow-serving-api: pip install" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path)) == ["batching_parameters.txt", "docker-compose.yml", "models.config"]
    session = checks.Session(served)
    session.directory = str(tmp_path / "simgan" / "7")
    assert checks.warmup(session) == 0


def test_warm_up_over_the_real_api(served, addresses):
    """Every record is a PredictionLog whose request a server answers."""
    import grpc
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    path = os.path.join(served, "assets.extra", "tf_serving_warmup_requests")
    records = [prediction_log_pb2.PredictionLog.FromString(r.numpy()) for r in tf.data.TFRecordDataset(path)]
    requests = [record.predict_log.request for record in records]
    signatures = {"serving_default", "edit", "embed", "interpolate"}
    assert {request.model_spec.signature_name for request in requests} == signatures
    with grpc.insecure_channel(addresses["grpc"]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for request in requests:
            assert stub.Predict(request, timeout=300).outputs
        del requests[0].inputs["seed"]  # the signature's default
        assert stub.Predict(requests[0], timeout=300).outputs["image_bytes"]


def test_files_beside_the_model(served):
    """models.config by the server's own message; the compose file mounts the folder that both stand in."""
    folder = os.path.dirname(os.path.dirname(served))
    assert sorted(os.listdir(folder)) == ["batching_parameters.txt", "docker-compose.yml", "models.config", "simgan"]

    def text(name: str) -> str:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            return file.read()

    config = text_format.Parse(text("models.config"), model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("simgan", "/models/simgan", "tensorflow")
    assert re.findall(r"^(\w+) \{ value: \d+ \}$", text("batching_parameters.txt"), re.MULTILINE) == [
        "max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"]  # fmt: skip
    compose = text("docker-compose.yml")
    assert f"image: tensorflow/serving:{tf.__version__}" in compose and "- .:/models:ro" in compose
    for named in re.findall(r"=/models/(\S+)", compose):
        assert os.path.isfile(os.path.join(folder, named))
    commands = re.findall(r"python -m export.serving.client (.*?out=\S+\.jpg)", compose.replace("\\\n#", ""), re.DOTALL)
    assert len(commands) == 1 and "--address=localhost:8501" in commands[0]


def test_warm_up_has_a_sentence_that_is_known(served):
    """Where no sentence of the sample sheet is known to the encoder: a word of its own."""
    encoder = TextEncoder(Vocabulary(["rouge"]), dim=6, word_dim=4, length=9)
    editor = type("Editor", (), {"text_encoder": encoder, "config": type("C", (), {"sentences": ("a flower",)})})
    assert deployment.known_sentence(editor) == "rouge"
    editor.config.sentences = ("a flower", "un rouge")
    assert deployment.known_sentence(editor) == "un rouge"
    assert checks.LEVEL == pytest.approx(2 / 255)
