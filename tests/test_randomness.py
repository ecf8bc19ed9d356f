"""Philox against its published answers, and dropout masks against how the batch is cut."""

from dataclasses import replace
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest

from ministn import ops, randomness
from ministn.randomness import Step, generator, philox4x32, random_bits, stream

STEP = Step(seed=5, number=7)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (
            [0xFFFFFFFF] * 4,
            (0xFFFFFFFF, 0xFFFFFFFF),
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_known_answers_of_random123(counter, key, words):
    counters = np.array(counter, np.uint64)[:, None].repeat(3, axis=1)
    assert philox4x32(counters, key).T.tolist() == [words] * 3


def mask(step, rows=11, width=7, rate=0.5, stream=3):
    return ops.dropout(np.ones((rows, width)), rate, step, stream)[0]


@pytest.mark.parametrize("cuts", [(0, 11), (0, 1, 11), (0, 4, 5, 11), tuple(range(12))])
def test_mask_does_not_depend_on_how_the_batch_is_cut(cuts):
    parts = [mask(replace(STEP, first_row=start), stop - start) for start, stop in pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), mask(STEP))


@pytest.mark.parametrize(
    "other",
    [
        {"step": replace(STEP, seed=6)},
        {"step": replace(STEP, seed=5 + 2**32)},
        {"step": replace(STEP, number=8)},
        {"step": replace(STEP, call=1)},
        {"step": replace(STEP, first_row=11)},
        {"stream": 4},
    ],
    ids=str,
)
def test_masks_differ(other):
    assert (mask(**{"step": STEP, **other}) != mask(STEP)).any()
    np.testing.assert_array_equal(mask(STEP), mask(STEP))


@pytest.mark.parametrize("block", [1, 3, 19, 1000])
def test_how_many_words_are_drawn_at_a_time_does_not_matter(monkeypatch, block):
    expected = mask(replace(STEP, first_row=3))
    monkeypatch.setattr(randomness, "BLOCK", block)
    np.testing.assert_array_equal(mask(replace(STEP, first_row=3)), expected)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate_and_mean_are_kept(rate):
    kept = mask(STEP, 1000, 100, rate)
    deviation = sqrt(rate * (1 - rate) / kept.size)
    assert abs((kept == 0).mean() - rate) < 4 * deviation
    assert abs(kept.mean() - 1) < 4 * deviation / (1 - rate)
    assert np.unique(kept).tolist() == [0, 1 / (1 - rate)]


def test_bits_are_uniform_and_independent():
    bits = random_bits(STEP, 3, 1000, 100)
    each = np.unpackbits(bits.view(np.uint8)).reshape(-1, 32)
    # 100,000 draws: a fair bit's mean lies within 4.5 standard deviations of 1/2.
    assert np.abs(each.mean(axis=0) - 0.5).max() < 4.5 * 0.5 / sqrt(len(each))
    assert len(np.unique(bits)) > bits.size - 10  # 100,000 of 4 thousand million: 1.2 collisions
    uniform = bits / 2**32
    assert abs(np.corrcoef(uniform[:, :-1].ravel(), uniform[:, 1:].ravel())[0, 1]) < 0.015


def test_generator_depends_on_its_arguments_alone():
    def draw(*arguments):
        return generator(*arguments).random(3).tolist()

    assert draw(1, "weights", 2) == draw(1, "weights", 2)
    distinct = [
        draw(1, "weights", 2),
        draw(2, "weights", 2),
        draw(1, "data", 2),
        draw(1, "weights"),
    ]
    assert len({tuple(numbers) for numbers in distinct}) == len(distinct)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "1", True, None])
def test_impossible_seeds_are_named(seed):
    for make in (lambda: Step(seed, 0), lambda: generator(seed, "weights")):
        with pytest.raises(
            ValueError, match=r"^seed must be a whole number from 0 to 2\^64 - 1, got"
        ):
            make()


def test_stream_is_the_same_everywhere():
    assert stream("123456789") == 0xCBF43926  # the check value of CRC-32
