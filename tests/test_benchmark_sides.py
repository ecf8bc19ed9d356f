"""What the sides of reproduce/benchmark.py --cpu do: training steps, and convolution blocks."""

from importlib import import_module

import numpy as np
import pytest
import table3
from benchmarks.blocks import BLOCKS, Block
from benchmarks.networks import BENCHED
from benchmarks.sides import LAYOUTS, Job, our_convolutions, our_training

from ministn.data import as_batch
from ministn.errors import UserError
from ministn.initializers import ZEROS
from ministn.kinds import replaced
from ministn.layers import Conv2d
from ministn.optimizers import SGD, Adam, Nesterov, Optimizer, RMSprop
from ministn.parameter import Parameter, ParameterBuffer
from ministn.randomness import Step
from ministn.training.protocol import Training


def test_a_step_trains_on_all_rows(monkeypatch):
    """Four batches in turn, again and again, and never the same number of a step."""
    taken = []
    steps = import_module("benchmarks.sides").PlainSteps
    take = steps.take
    monkeypatch.setattr(steps, "take", lambda self, n: taken.append(n) or take(self, n))
    settings = replaced(BENCHED["arch1-tstn"].settings, "data.canvas", 8)
    with our_training(Job("arch1-tstn", settings, 3, cores=1)) as set_up:
        step = set_up()["step"]
        for _ in range(5):
            step()
    assert taken == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("paper", dict.fromkeys(network.paper for network in BENCHED.values()))
def test_blocks_are_those_of_the_networks(paper, monkeypatch):
    seen = set()
    forward = Conv2d.forward
    (batch,) = {block.batch for block in BLOCKS if block.paper == paper}

    def noted(self, x, step=None):
        kernel, _, channels, kernels = self.weight.shape
        assert x.shape[1] == x.shape[2]
        seen.add(
            Block(
                paper, batch, x.shape[1], channels, kernels, kernel,
                self.pool, self.padding, self.stride, self.activation,
            )
        )  # fmt: skip
        return forward(self, x, step)

    for settings in (n.settings for n in BENCHED.values() if n.paper == paper):
        monkeypatch.setattr(Conv2d, "forward", forward)  # building may need sizes of maps
        network = settings.network.build(settings.data.form)
        monkeypatch.setattr(Conv2d, "forward", noted)
        for parameters in (network.fixed_parameters(), network.parameters()):
            if parameters:
                ParameterBuffer(parameters, seed=0)
        network.forward(as_batch(settings.data.noise(1).images[:1]), Step(0, 0))
    listed = [block for block in BLOCKS if block.paper == paper]
    assert seen == set(listed) and len(seen) == len(listed)


def test_blocks_have_names_of_their_own():
    assert len({block.name for block in BLOCKS}) == len(BLOCKS)
    assert BLOCKS[0].name == "tstn/1-32-3x3-60x60-pool/64"
    strided = next(block for block in BLOCKS if block.stride > 1)
    assert strided.name == "stn/1-8-9x9-84x84-valid-stride4-pool/64"


def test_networks_are_those_of_the_scripts():
    """What trains is the experiment's own, and batches are the usual ones or its own."""
    assert list(BENCHED)[:6] == table3.SIX
    six = [BENCHED[name].settings for name in table3.SIX]
    assert six == table3.EXPERIMENT.parse(["--nets", *table3.SIX])
    batches = {name: network.batches for name, network in BENCHED.items()}
    assert {batches.pop(name) for name in list(batches) if "-spn-" in name} == {(100,)}
    of_placement = [name for name in batches if name.startswith(("svhn-", "plankton-"))]
    assert len(of_placement) == 5 and {batches.pop(name) for name in of_placement} == {(128,)}
    assert batches.pop("colocalisation") == (200,)
    assert batches.pop("projection-cnn") == batches.pop("projection-st-cnn") == (32,)
    assert set(batches.values()) == {(64, 256)}
    assert [n for n, network in BENCHED.items() if network.compiled] == [
        "arch1-tstn", "rts-st-cnn-affine", "r-stn-sl1", "rnn-spn-d2",
    ]  # fmt: skip


def test_every_network_trains_for_the_benchmark():
    """At two examples; volumes as bytes."""
    several = "r-st-cnn-affine", "addition-2st-fcn-affine", "encoder", "colocalisation"
    for name in (*several, "rnn-spn-d2", "svhn-sl3"):
        job = Job(name, BENCHED[name].settings, 2, cores=1)
        with our_training(job) as set_up:
            set_up()["step"]()
    split, _ = Job("", BENCHED["projection-st-cnn"].settings, 1, cores=1).noise()
    assert type(split.images) is np.ndarray and split.images.shape == (4, 60, 60, 60)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_sides_compute_the_same_blocks(layout, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    threads = torch.get_num_threads()
    blocks = [
        Block("a", 2, 7, 2, 3, pool=True),
        Block("b", 2, 6, 3, 4, activation="leaky_relu"),
        Block("c", 1, 19, 2, 3, 5, True, "valid", 2),
    ]
    theirs = import_module("benchmarks.sides").torch_convolutions(blocks, layout)
    with our_convolutions(blocks) as our_set_up, theirs as their_set_up:
        ours, theirs = our_set_up(), their_set_up()
        assert torch.get_num_threads() == 1
    torch.set_num_threads(threads)
    assert ours.keys() == theirs.keys() and len(ours) == 9
    for block in (block.name for block in blocks):
        for side in (ours, theirs):
            side[f"{block}/set up"]()
        (y, _), their_y = ours[f"{block}/forward"](), theirs[f"{block}/forward"]()
        np.testing.assert_allclose(y, their_y.detach().permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)
        dx, dweight, dbias = ours[f"{block}/backward"]()
        their_dx, their_dweight, their_dbias = theirs[f"{block}/backward"]()
        np.testing.assert_allclose(dx, their_dx.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(dweight, their_dweight.permute(2, 3, 1, 0), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(dbias, their_dbias, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "rule", [Adam(), SGD(0.9, 0.1), SGD(0, 0.1, True), RMSprop(epsilon=1e-10), Nesterov(0.9)]
)
def test_pytorchs_optimiser_is_the_experiments(rule):
    """At a constant rate; epsilons lie elsewhere, which here weighs 1e-5 of a step."""
    torch = pytest.importorskip("torch")
    training = Training(rule, 0.01, batch_size=1, epochs=1)
    network = torch.nn.Linear(3, 2)
    theirs = import_module("benchmarks.pytorch").optimizer(training, network)
    weight, bias = Parameter("a/weight", (2, 3), ZEROS), Parameter("a/bias", (2,), ZEROS)
    buffer = ParameterBuffer([weight, bias], seed=0)
    ours = Optimizer(rule, buffer)
    pairs = [(weight, network.weight), (bias, network.bias)]
    for mine, other in pairs:
        mine.data[...] = other.detach().numpy()
    for step in range(3):
        for mine, other in pairs:
            gradient = np.random.default_rng(step).normal(size=mine.shape).astype(np.float32)
            mine.grad[...], other.grad = gradient, torch.from_numpy(gradient)
        ours.step(training.lr)
        theirs.step()
    for mine, other in pairs:
        np.testing.assert_allclose(mine.data, other.detach().numpy(), rtol=1e-4)


def test_pytorchs_side_says_what_it_has_not(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(Adam, "kind", "lion")
    with pytest.raises(UserError, match="has no lion yet"):
        import_module("benchmarks.pytorch").optimizer(Training(epochs=1), torch.nn.Linear(1, 1))


def test_pytorchs_side_limits_the_gradient():
    """First each value to 0.5, then the norm of all to 0.6: at rate 1, that is what SGD takes."""
    torch = pytest.importorskip("torch")
    pytorch = import_module("benchmarks.pytorch")
    device, split = pytorch.TorchDevice("cpu"), BENCHED["r-fcn"].settings.data.noise(2)
    network = torch.nn.Linear(3, 1)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    slopes = torch.tensor([3.0, -2.0, 0.1])
    network.loss = lambda x, labels: network.weight @ slopes + 4 * network.bias
    training = Training(SGD(), 1.0, batch_size=2, epochs=1, clip=0.5, clip_norm=0.6)
    examples = pytorch.Labelled(device, split, 1)
    pytorch.TorchSteps(device, network, examples, np.arange(2), training, False).take(0)
    gradient = np.array([0.5, -0.5, 0.1, 0.5])
    gradient *= 0.6 / np.linalg.norm(gradient)
    moved = [before[name] - p.detach() for name, p in network.named_parameters()]
    np.testing.assert_allclose(np.concatenate([m.ravel() for m in moved]), gradient, rtol=1e-5)
