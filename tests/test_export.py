"""A recorded run's network written for other software."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from ministn import demo, export
from ministn.errors import UserError
from ministn.models import Colocaliser

WEIGHTS = demo.DEMOS["small"].weights


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run's folder."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs") / "one"
    folder.mkdir(parents=True)
    shutil.copy(WEIGHTS, folder / "best.safetensors")
    (folder / "record.json").write_text("{}")
    return folder


@pytest.fixture
def images():
    """As here, and channels first; and what the network makes of them."""
    network, settings = demo.load_network()
    x = np.random.default_rng(0).uniform(0, 1, (5, *settings.data.form.size, 1))
    x = x.astype(np.float32)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)), network.forward(x)[0]


@pytest.mark.parametrize("name", ["record.json", "best.safetensors", "."])
def test_an_onnx_file_of_a_run(run, images, capsys, name):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    assert export.main([str(run / name)]) == 0
    assert capsys.readouterr().out == "wrote small-stn.onnx: small-stn, 40,482 parameters\n"
    session = runtime.InferenceSession("small-stn.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": images[0]})
    np.testing.assert_allclose(found, images[1], 0, 1e-5 * np.abs(images[1]).max())


@pytest.mark.slow
def test_a_program_for_pytorch_of_a_run(run, images):
    torch = pytest.importorskip("torch")
    assert export.main([str(run), "--to", "torch", "--out", "it.pt2"]) == 0
    module = torch.export.load("it.pt2").module()
    found = module(torch.from_numpy(images[0])).detach().numpy()
    np.testing.assert_allclose(found, images[1], 0, 1e-5 * np.abs(images[1]).max())
    assert "localisation.theta.bias" in module.state_dict()


def test_what_is_not_there_is_one_line(run):
    with pytest.raises(UserError, match=r"does not exist: name a record in the folder of its run"):
        export.main(["record.json"])
    with pytest.raises(UserError, match=r"cannot save nowhere/it.onnx: there is no"):
        export.main([str(run), "--out", "nowhere/it.onnx"])
    with pytest.raises(UserError, match=r"argument --to: invalid choice: 'tf'"):
        export.main([str(run), "--to", "tf"])


def test_what_a_run_began_with_is_not_in_its_file(run, monkeypatch):
    network, settings = demo.load_network()
    monkeypatch.setattr(network, "fixed_parameters", Colocaliser().build(
        settings.data.form).fixed_parameters)  # fmt: skip
    monkeypatch.setattr(export, "load_network", lambda path: (network, settings))
    with pytest.raises(UserError, match="lacks classifier/conv1/weight and what else small-stn"):
        export.main([str(run)])
