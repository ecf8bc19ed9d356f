"""The tied recurrent network: several glimpses, one classifier, the mean of what it says."""

import numpy as np
import pytest
from helpers import normal
from small_runs import SETTINGS, data_set, trainer_of

from ministn.data import Form
from ministn.errors import UserError
from ministn.gradcheck.networks import perturbed
from ministn.kinds import replaced
from ministn.models import Trstn, Tstn
from ministn.parameter import ParameterBuffer

FORM, SHAPE, T = Form((13, 19), classes=5), (4, 13, 19, 1), 3


def built(network):
    made = network.build(FORM)
    perturbed(ParameterBuffer(made.parameters(), 0, np.float64))
    return made


def test_logits_are_the_mean_of_what_the_tied_classifier_makes_of_each_glimpse():
    network = built(Trstn(1, 1.5, T))
    tied = built(Tstn(1, 1.5))
    own = {p.name: p.data for p in network.parameters()}
    for parameter in tied.classifier.parameters():
        parameter.data[...] = own[parameter.name]
    x = abs(normal(*SHAPE))
    logits, looked = network.predict(x)
    crops = [tied.transformer.warp(x, look.theta) for look in looked]
    expected = np.mean([tied.classifier.forward(crop)[0] for crop in crops], axis=0)
    np.testing.assert_allclose(logits, expected, rtol=1e-12)
    assert len(looked) == T and abs(looked[0].theta - looked[-1].theta).min() > 1e-6


def test_it_starts_from_the_classifier_of_the_tstn_and_looks_at_the_whole_image():
    network, tied = (kind(2).build(FORM) for kind in (Trstn, Tstn))
    for made in (network, tied):
        ParameterBuffer(made.parameters(), seed=2)
    own = {p.name: p.data for p in network.parameters()}
    for parameter in tied.classifier.parameters():
        np.testing.assert_array_equal(own[parameter.name], parameter.data)
    _, looked = network.predict(normal(*SHAPE).astype(np.float32))
    assert all((look.theta == np.eye(2, 3)).all() for look in looked)
    gates = own["localisation/gru/weight_x"]
    assert gates.std() == pytest.approx(len(gates) ** -0.5, rel=0.01)


def test_what_only_the_localisation_network_has():
    names = {p.name.rpartition("/")[0] for p in Trstn(1).build(FORM).localisation_only()}
    assert names == {"localisation/gru", "localisation/theta"}


@pytest.mark.parametrize("glimpses", [0, -1, 1.5])
def test_impossible_glimpses_are_refused(glimpses):
    with pytest.raises(UserError, match=r"^glimpses must be "):
        Trstn(1, glimpses=glimpses)


def test_an_epoch_comes_to_the_same_on_either_engine(quick_device):
    """Queued and captured there; each glimpse is measured."""
    settings = replaced(SETTINGS, "training.lr", 1e-4)
    settings = replaced(replaced(settings, "network", Trstn(1, glimpses=2)), "training.epochs", 1)
    found = []
    for device in (None, quick_device):
        trainer = trainer_of(settings, data_set(), device=device, say=lambda line: None)
        while not trainer.finished:
            trainer.step()
        found.append(trainer.state.history[0])
    expected, got = found
    for key in ("train_loss", "train_error", "valid_loss", "valid_error", "overlap"):
        assert got[key] == pytest.approx(expected[key], rel=2e-4), key
    assert len(expected["transformers"]) == len(got["transformers"]) == 2
    assert np.shape(expected["theta"]) == (6, 2 * 6)
