"""The sets R, RTS, P, E, TC and S: what is drawn, where it puts the digits, and undoing it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from scipy.stats import kstest

from ministn.data import Distorted, distorted, sources
from ministn.data.cluttered import CHUNK, draw_enlarged
from ministn.data.dataset import Digits, PosedSplit
from ministn.data.distorted import RECIPES, RTS, TC, Drawn, E, P, R, Recipe, S
from ministn.data.sources import EMBEDDED
from ministn.data.warping import SPLINE, homography, projective_theta, spline_theta, warp
from ministn.errors import UserError
from ministn.metrics.attention import CORNERS
from ministn.transformer.transforms import Projective

SIDE = 28
each_set = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


@cache
def strokes(count: int = 7, side: int = SIDE) -> Digits:
    """Smooth crooked strokes of different shapes, black at the edges, like digits."""
    rng = np.random.default_rng(count)
    y, x = np.mgrid[:side, :side] / (side - 1)
    t = np.linspace(0, 1, 40)
    images = []
    for _ in range(count):
        points = np.clip(0.5 + np.cumsum(rng.normal(0, 0.14, (5, 2)), axis=0), 0.22, 0.78)
        curve = np.stack([np.interp(t, np.linspace(0, 1, 5), p) for p in points.T], axis=1)
        squares = ((np.stack([x, y], -1)[..., None, :] - curve) ** 2).sum(-1)
        images.append(np.exp(-squares / 0.002).max(axis=-1))
    scaled = np.where(np.array(images) > 0.02, 255 * np.array(images), 0)
    return Digits(scaled.astype(np.uint8), np.arange(count, dtype=np.uint8))


def make(recipe: Recipe, count: int, name: str = "train", **draws: int) -> PosedSplit:
    return distorted.generate(recipe, name, strokes(), count, **({"seed": 3} | draws))


def same(a: PosedSplit, b: PosedSplit, rows: int) -> bool:
    return all(
        np.array_equal(p[:rows], q[:rows])
        for p, q in zip(vars(a).values(), vars(b).values(), strict=True)
    )


def drawn(n: int = 1, **given: object) -> Drawn:
    """Distortions that are none, but for what is given."""
    still = {
        "angle": np.zeros(n),
        "scale": np.ones(n),
        "shift": np.zeros((n, 2)),
        "corners": np.zeros((n, 4, 2)),
        "controls": np.zeros((n, 16, 2)),
    }
    return Drawn(**{key: np.broadcast_to(given.get(key, v), v.shape) for key, v in still.items()})


def distort(recipe: Recipe, images: np.ndarray, how: Drawn) -> np.ndarray:
    return warp(images, distorted.sampling_grid(recipe, images.shape[1], how))


# ---- exact answers

NOISE = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE)).astype(np.uint8)


def test_no_distortion_leaves_the_digit_in_the_middle():
    middle = np.pad(NOISE, ((0, 0), (7, 7), (7, 7)))
    for recipe in (RTS, P, E):
        np.testing.assert_array_equal(distort(recipe, NOISE, drawn(2)), middle)
    middle = np.pad(NOISE, ((0, 0), (42, 42), (42, 42)))
    np.testing.assert_array_equal(distort(S, NOISE, drawn(2)), middle)
    np.testing.assert_array_equal(distort(R, NOISE, drawn(2)), NOISE)


@pytest.mark.parametrize(("angle", "turns"), [(90, -1), (-90, 1), (180, 2)])
def test_a_quarter_turn_is_that_of_the_array(angle, turns):
    expected = np.rot90(NOISE, turns, axes=(1, 2))  # 1 turns it to the left
    np.testing.assert_array_equal(distort(R, NOISE, drawn(2, angle=angle)), expected)


def test_a_shift_by_whole_pixels_is_that_of_the_array():
    expected = np.zeros((2, 42, 42), np.uint8)
    expected[:, 2:30, 10:38] = NOISE
    np.testing.assert_array_equal(distort(RTS, NOISE, drawn(2, shift=(3, -5))), expected)


def test_scale_two_puts_the_pixels_two_apart():
    small = NOISE[:, :5, :5]
    found = distort(Recipe("twice", 13, scale=(2, 2)), small, drawn(2, scale=2.0))
    np.testing.assert_array_equal(found[:, 2:11:2, 2:11:2], small)
    between = (small[:, :, 1:].astype(int) + small[:, :, :-1] + 1) // 2
    np.testing.assert_array_equal(found[:, 2:11:2, 3:10:2], between)
    assert not found[:, :1].any() and not found[..., 12:].any()


def test_first_turned_then_shifted():
    expected = np.zeros((2, 42, 42), np.uint8)
    expected[:, 2:30, 10:38] = np.rot90(NOISE, -1, axes=(1, 2))
    found = distort(RTS, NOISE, drawn(2, angle=90.0, shift=(3, -5)))
    np.testing.assert_array_equal(found, expected)


def test_all_corners_moved_alike_is_a_shift():
    corners = np.array([4.0, -3.0])
    expected = distort(RTS, NOISE, drawn(2, shift=corners))
    np.testing.assert_array_equal(distort(P, NOISE, drawn(2, corners=corners)), expected)


def test_corners_of_the_canvas_go_where_they_are_moved():
    """Each corner pixel of an image as large as the canvas is found at its new, whole place."""
    recipe = Recipe("corners", SIDE, corners=1.0)
    corners = np.array([[3, 1], [-2, 4], [-5, -1], [6, -3]])
    (found,) = distort(recipe, NOISE[:1], drawn(corners=corners))
    places = (np.array([[0, 0], [27, 0], [27, 27], [0, 27]]) + corners).tolist()
    before = NOISE[0, [0, 0, 27, 27], [0, 27, 27, 0]]
    assert [found[y, x] for x, y in places] == before.tolist()
    poses = distorted.true_poses(recipe, SIDE, drawn(corners=corners))[0, ::3, ::3] * 13.5 + 13.5
    np.testing.assert_allclose(poses.reshape(4, 2)[[0, 1, 3, 2]], places, atol=1e-5)


def test_control_points_read_where_they_are_moved():
    """Control points of 43 pixels lie on pixels 0, 14, 28 and 42, here of an equal image."""
    recipe = Recipe("controls", 43, controls=1.0)
    image = np.random.default_rng(1).integers(0, 256, (1, 43, 43)).astype(np.uint8)
    controls = np.random.default_rng(2).integers(-2, 3, (16, 2))
    (found,) = distort(recipe, image, drawn(controls=controls))
    x, y = (14 * np.stack(np.meshgrid(range(4), range(4)), -1).reshape(16, 2)).T
    from_x, from_y = x + controls[:, 0], y + controls[:, 1]
    inside = (from_x >= 0) & (from_x < 43) & (from_y >= 0) & (from_y < 43)
    expected = np.where(inside, image[0, from_y % 43, from_x % 43], 0)
    np.testing.assert_array_equal(found[y, x], expected)
    assert inside.sum() > 8


# ---- what is drawn


def many(recipe: Recipe, chunks: int = 5) -> Drawn:
    made = [distorted.draw(recipe, "train", SIDE, 1, 1, number) for number in range(chunks)]
    return Drawn(*(np.concatenate(parts) for parts in zip(*made, strict=True)))


def test_parameters_have_their_distributions():
    """Kolmogorov and Smirnov: a true null hypothesis gives p < 0.001 once in 1,000 times."""

    def uniform(values: np.ndarray, low: float, high: float) -> Iterator[float]:
        assert low <= values.min() and values.max() <= high
        yield kstest(np.ravel(values), "uniform", (low, high - low)).pvalue

    def normal(values: np.ndarray, sigma: float) -> Iterator[float]:
        for column in values.reshape(len(values), -1).T:
            yield kstest(column, "norm", (0, sigma)).pvalue

    rotated, moved, seen, bent = many(R), many(RTS), many(P), many(E)
    free = (41 - 27 * moved.scale[:, None]) / 2
    shares = [
        *uniform(rotated.angle, -90, 90),
        *uniform(moved.angle, -45, 45),
        *uniform(moved.scale, 0.7, 1.2),
        *uniform(moved.shift[:, 0] / free[:, 0], -1, 1),
        *uniform(moved.shift[:, 1] / free[:, 0], -1, 1),
        *uniform(seen.scale, 0.75, 1),
        *uniform(bent.scale, 0.75, 1),
        *uniform(np.log2(many(S).scale), -1, 2),
        *normal(seen.corners, 5),
        *normal(bent.controls, 1.5),
    ]
    assert len(shares) == 8 + 8 + 32
    assert min(shares) > 1e-3


def test_what_a_set_does_not_have_is_left_alone():
    for recipe, touched in [
        (R, {"angle"}),
        (RTS, {"angle", "scale", "shift"}),
        (P, {"scale", "corners"}),
        (E, {"scale", "controls"}),
        (S, {"scale"}),
    ]:
        still = drawn(CHUNK)
        for key, values in many(recipe, 1)._asdict().items():
            assert (values != getattr(still, key)).any() == (key in touched), (recipe.name, key)


def test_parameters_are_not_correlated():
    moved = many(RTS)
    columns = np.stack([moved.angle, moved.scale, *moved.shift.T])
    correlation = np.corrcoef(columns) - np.eye(4)
    assert np.abs(correlation).max() < 5 / np.sqrt(5 * CHUNK)


def test_the_draws_are_the_same_everywhere():
    """Changing them changes every record's data: do it on purpose, and replace these."""
    how = distorted.draw(RTS, "test", SIDE, 0, 0, 0)
    np.testing.assert_allclose(how.angle[:2], [2.77755673, 33.79201042], rtol=1e-7)
    np.testing.assert_allclose(how.shift[999], [3.07792824, 1.11262229], rtol=1e-7)


def test_corners_are_kept_convex():
    corners = np.zeros((3, 4, 2))
    corners[0, 0] = 12, 12  # still convex in 42 pixels
    corners[1, 0] = 24, 24  # beyond the diagonal: halved once
    corners[2, 1] = -90, 0  # left of the next corner but one: halved twice
    kept = distorted.kept_convex(corners, 42)
    assert kept[:, :2].tolist() == [
        [[12, 12], [0, 0]],
        [[12, 12], [0, 0]],
        [[0, 0], [-22.5, 0]],
    ]


# ---- sets


@each_set
def test_images_labels_boxes_and_poses(recipe):
    split = make(recipe, 40)
    assert split.images.shape == (40, recipe.canvas, recipe.canvas)
    assert split.images.dtype == np.uint8 and split.boxes.dtype == np.int16
    assert split.labels.dtype == np.uint8 and split.labels.tolist() == [i % 7 for i in range(40)]
    assert split.poses.shape == (40, 4, 4, 2) and split.poses.dtype == np.float32
    half = (recipe.canvas - 1) / 2
    for (left, top, right, bottom), pose in zip(
        split.boxes, split.poses * half + half, strict=True
    ):
        assert pose[..., 0].min() - 1 < left < right < pose[..., 0].max() + 1
        assert pose[..., 1].min() - 1 < top < bottom < pose[..., 1].max() + 1


@each_set
def test_fewer_images_are_a_prefix_of_more(recipe):
    most = make(recipe, 2100)
    for count in (1, 999, 1001):
        few = make(recipe, count)
        assert len(few) == count and same(few, most, count)


@each_set
def test_everything_depends_on_seed_split_epoch_and_chunk(recipe):
    first = make(recipe, 2 * 7)
    others = [make(recipe, 14, seed=4), make(recipe, 14, "test"), make(recipe, 14, epoch=1)]
    assert same(first, make(recipe, 14), 14)
    for other in (*others, make(recipe, 14, epoch=2)):
        assert (first.images != other.images).any(axis=(1, 2)).all()
        assert (first.poses != other.poses).any(axis=(1, 2, 3)).all()
        assert np.array_equal(first.labels, other.labels)
    poses = make(recipe, 2 * CHUNK).poses
    assert (poses[:CHUNK] != poses[CHUNK:]).any(axis=(1, 2, 3)).mean() > 0.99


@each_set
def test_training_gets_the_same_images(recipe):
    expected = make(recipe, 1100, epoch=5)
    options = {"seed": 3, "epoch": 5}
    plain, labels = distorted.fresh(recipe, "train", strokes(), 1100, **options)
    np.testing.assert_array_equal(plain, expected.images)
    np.testing.assert_array_equal(labels, expected.labels)
    with ThreadPoolExecutor(2) as pool:
        shared, _ = distorted.fresh(recipe, "train", strokes(), 1100, **options, map=pool.map)
    np.testing.assert_array_equal(shared, expected.images)


@each_set
def test_a_gpu_makes_the_same_images(recipe, quick_device):
    """But for what is rounded the other way: at most 1 of 255."""
    options = {"seed": 3, "epoch": 5}
    expected, _ = distorted.fresh(recipe, "train", strokes(), 30, **options)
    found, _ = distorted.fresh(recipe, "train", strokes(), 30, **options, device=quick_device)
    assert type(found) is quick_device.array and found.dtype == np.uint8
    difference = np.abs(quick_device.to_cpu(found).astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def undone(recipe: Recipe, split: PosedSplit) -> np.ndarray:
    """The images, sampled where their poses say the digits lie."""
    corners = split.poses[:, ::3, ::3].reshape(-1, 4, 2)[:, [0, 1, 3, 2]].astype(float)
    if recipe is E:
        grid, _ = SPLINE.forward(spline_theta(split.poses.reshape(-1, 16, 2)), (SIDE, SIDE))
    else:
        grid, _ = Projective().forward(projective_theta(homography(CORNERS, corners)), (SIDE, SIDE))
    return warp(split.images, grid.astype(np.float32))


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (x.reshape(len(x), -1) - x.mean(axis=(1, 2))[:, None] for x in (a, b))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / np.maximum(lengths, 1)  # 0 with an image that is black


@pytest.mark.parametrize("recipe", [R, RTS, P, E], ids=lambda recipe: recipe.name)
def test_undoing_by_the_pose_recovers_the_digit(recipe):
    """What is lost is sharpness, strokes at the edge, and in E what a spline cannot undo."""
    split = make(recipe, 700)
    digits = strokes().images[split.labels]
    found = correlation(undone(recipe, split), digits)
    margin = (recipe.canvas - SIDE) // 2
    middle = split.images[:, margin : margin + SIDE, margin : margin + SIDE]
    before = correlation(middle, digits)
    assert before.mean() < 0.7
    assert found.mean() > 0.97 and np.quantile(found, 0.01) > 0.9


def test_undoing_translation_and_clutter():
    split, half = make(TC, 300), 29.5
    corners = np.rint(split.poses[:, 0, 0] * half + half).astype(int)
    for image, label, box, (x, y) in zip(
        split.images, split.labels, split.boxes, corners, strict=True
    ):
        digit = strokes().images[label]
        shown = image[y : y + SIDE, x : x + SIDE]
        assert (shown >= digit).all()  # clutter adds
        rows, columns = np.nonzero(digit)
        ink = [x + columns.min(), y + rows.min(), x + columns.max(), y + rows.max()]
        assert box.tolist() == ink
    found = correlation(undone(TC, split), strokes().images[split.labels])
    assert np.median(found) > 0.9


def test_clutter_is_clipped_to_white_and_is_six_patches():
    white = Digits(np.full((1, SIDE, SIDE), 255, np.uint8), np.zeros(1, np.uint8))
    images = distorted.generate(TC, "train", white, 400, seed=1).images
    assert np.unique(images).tolist() == [0, 255]
    ink = (images > 0).sum(axis=(1, 2))
    assert ink.min() >= SIDE**2 and ink.max() == SIDE**2 + 6 * 36


def test_patches_are_added_to_scaled_digits():
    """And clipped to white; boxes and poses are the digits'."""
    made, alone = make(S, 30), make(S._replace(distractors=0, largest=0), 30)
    sizes = {"canvas": 112, "distractors": 6, "patch": 6, "largest": 9}
    patches = draw_enlarged("S/train/0", strokes(), 0, 30, seed=3, **sizes)
    expected = (alone.images.astype(int) + patches).clip(max=255)
    np.testing.assert_array_equal(made.images, expected)
    np.testing.assert_array_equal(made.boxes, alone.boxes)
    np.testing.assert_array_equal(made.poses, alone.poses)
    assert (expected != alone.images).any(axis=(1, 2)).mean() > 0.8  # some are of black alone


def test_passes_are_over_the_same_digits():
    once, thrice = (Distorted("R", EMBEDDED, 30, passes=n).load().test for n in (1, 3))
    assert len(thrice) == 3 * len(once) == Distorted("R", EMBEDDED, passes=3).test_size
    assert same(once, thrice, len(once))
    digits = sources.load(EMBEDDED, None)["test"]
    np.testing.assert_array_equal(thrice.labels, np.resize(digits.labels, 3000))
    first, again = thrice.images[:10], thrice.images[1500:1510]  # of the same digits
    assert (first != again).any(axis=(1, 2)).all()
    assert Distorted("S", passes=10).test_size == 100_000


@each_set
@pytest.mark.parametrize(
    ("draws", "words"),
    [
        ({"count": 0}, "train_size must be at least 1, got 0"),
        ({"seed": -1}, "data seed must be at least 0, got -1"),
        ({"epoch": -1}, "epoch must be at least 0, got -1"),
    ],
)
def test_impossible_sets(recipe, draws, words):
    arguments = {"count": 3, "seed": 0, "epoch": 0} | draws
    for function in (distorted.generate, distorted.fresh):
        with pytest.raises(UserError, match=words):
            function(recipe, "train", strokes(), **arguments)


def test_of_several_passes_the_first_is_looked_at_after_each_epoch():
    data = Distorted("R", EMBEDDED, 20, passes=3)
    made = data.load()
    assert (
        (len(made.watched), len(made.test)) == (data.watched_size, data.test_size) == (1000, 3000)
    )
    for name, array in made.watched.arrays().items():
        np.testing.assert_array_equal(array, made.test.arrays()[name][:1000])
    assert Distorted("R", EMBEDDED, 20).load().watched.arrays().keys() == made.test.arrays().keys()
