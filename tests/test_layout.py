"""How inputs lie in memory: what a view shows, what lies around it, and its strides."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelproof.conformance.layout import (
    NUMPY_DTYPES,
    View,
    lay_out,
    layout_of,
    layout_of_input,
    read_back,
)
from kernelproof.spec.domain import LAYOUTS
from kernelproof.spec.language import parse_tensors

EACH_DTYPE = pytest.mark.parametrize("dtype", NUMPY_DTYPES)
ONE_VIEW = [layout for layout in LAYOUTS if layout != "mixed"]
NEAR = [layout for layout in ONE_VIEW if layout != "far"]
EACH_LAYOUT = pytest.mark.parametrize("layout", ONE_VIEW)
EACH_NEAR = pytest.mark.parametrize("layout", NEAR)
SHAPES = given(shape=st.lists(st.integers(0, 4), max_size=4).map(tuple))
DRAWN = settings(deadline=None, derandomize=True, max_examples=40)


def numbered(shape, dtype="float32"):
    """Different numbers as far as the dtype can tell them apart, and no poison among them."""
    count = np.arange(math.prod(shape)).reshape(shape) % (2 if dtype == "bool" else 15)
    return count.astype(NUMPY_DTYPES[dtype])


REPEATING = {"expanded": 0, "repeated": 1}


def shown(array, layout):
    """What a view must show: the array, or its first part all along the axis of stride 0."""
    axis = REPEATING.get(layout, array.ndim)
    if array.ndim < axis + 2 or not array.shape[axis]:
        return array
    return np.broadcast_to(array.take([0], axis), array.shape)


def positions(view):
    """Where in its storage a view finds each of its elements."""
    index = np.full(view.shape, view.offset)
    for axis, stride in enumerate(view.strides):
        index += stride * np.arange(view.shape[axis]).reshape(-1, *[1] * (index.ndim - axis - 1))
    return index


def gaps(view):
    """What the storage holds beside the elements of the view."""
    return np.delete(view.storage, np.unique(positions(view)))


def row_major(shape):
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


@EACH_DTYPE
@EACH_LAYOUT
@DRAWN
@SHAPES
def test_a_view_shows_the_array_that_was_laid_out(layout, dtype, shape):
    array = numbered(shape, dtype)
    got = read_back(lay_out(array, layout))
    assert got.dtype == array.dtype
    assert got.shape == shape
    assert np.array_equal(got, shown(array, layout))


@EACH_NEAR
@DRAWN
@SHAPES
def test_offset_and_strides_find_every_element_inside_the_storage(layout, shape):
    array = numbered(shape)
    view = lay_out(array, layout)
    assert view.storage.ndim == 1
    assert len(view.strides) == len(view.shape) == len(shape)
    assert np.array_equal(view.storage[positions(view)], shown(array, layout))


@EACH_DTYPE
@EACH_NEAR
@DRAWN
@SHAPES
def test_what_lies_between_is_poison(layout, dtype, shape):
    rest = gaps(lay_out(numbered(shape, dtype), layout))
    kind = np.dtype(NUMPY_DTYPES[dtype]).kind
    if kind in "iu":
        assert (rest == np.iinfo(rest.dtype).max).all()
    else:
        assert rest.all() if kind == "b" else np.isnan(rest.astype(np.float64)).all()


@EACH_LAYOUT
@DRAWN
@SHAPES
def test_the_storage_is_a_copy(layout, shape):
    array = numbered(shape)
    before = array.copy()
    lay_out(array, layout).storage[...] = 99
    assert np.array_equal(array, before)


@DRAWN
@SHAPES
def test_contiguous_is_row_major_with_nothing_around_it(shape):
    view = lay_out(numbered(shape), "contiguous")
    assert (view.offset, view.storage.size) == (0, math.prod(shape))
    assert not math.prod(shape) or view.strides == row_major(shape)


@pytest.mark.parametrize(("layout", "axis"), [("transposed", -3), ("columns", -2)])
@DRAWN
@SHAPES
def test_two_neighbouring_axes_are_swapped_in_memory_and_nothing_else_is(layout, axis, shape):
    view, order = lay_out(numbered(shape), layout), list(range(len(shape)))
    if len(order) > 1:
        first = len(order) + max(axis, -len(order))
        order[first], order[first + 1] = first + 1, first
    swapped = tuple(view.strides[axis] for axis in order)
    assert not math.prod(shape) or swapped == row_major([shape[axis] for axis in order])
    assert gaps(view).size == 0


@pytest.mark.parametrize(
    ("layout", "shape", "strides"),
    [
        ("transposed", (6,), (1,)),
        ("transposed", (3, 5), (1, 3)),
        ("transposed", (2, 3, 5), (5, 10, 1)),
        ("transposed", (2, 3, 4, 5), (60, 5, 15, 1)),
        ("columns", (3, 5), (1, 3)),
        ("columns", (2, 3, 4, 5), (60, 20, 1, 4)),
    ],
)
def test_transposed_swaps_heads_and_tokens_and_columns_swaps_the_last_two(layout, shape, strides):
    assert lay_out(numbered(shape), layout).strides == strides


@DRAWN
@SHAPES
def test_sliced_takes_each_axis_out_of_a_longer_one(shape):
    view = lay_out(numbered(shape), "sliced")
    assert view.strides == row_major([size + 3 for size in shape])
    assert view.storage.size == math.prod(size + 3 for size in shape)
    assert view.offset == sum(view.strides)


@DRAWN
@SHAPES
def test_offset_starts_at_an_odd_element_with_poison_before_and_behind(shape):
    view = lay_out(numbered(shape), "offset")
    assert view.offset % 2 == 1
    assert not math.prod(shape) or view.strides == row_major(shape)
    behind = view.storage.size - view.offset - math.prod(shape)
    assert gaps(view).size == view.offset + behind
    assert behind > 0


@pytest.mark.parametrize(
    ("layout", "shape", "strides"),
    [
        ("expanded", (2, 5), (0, 1)),
        ("expanded", (4, 2, 3), (0, 3, 1)),
        ("repeated", (2, 3, 5), (5, 0, 1)),
        ("repeated", (2, 3, 4, 5), (20, 0, 5, 1)),
        ("repeated", (3, 5), (5, 1)),
        ("expanded", (3,), (1,)),
        ("expanded", (), ()),
    ],
)
def test_stride_zero_stores_the_first_part_once_and_never_takes_the_last_axis(
    layout, shape, strides
):
    view = lay_out(numbered(shape), layout)
    assert view.strides == strides
    stored = [size for size, stride in zip(shape, strides, strict=True) if stride]
    assert view.storage.size == math.prod(stored)


@EACH_LAYOUT
def test_nan_and_negative_zero_travel_as_they_are(layout):
    array = np.array([[-0.0, np.nan], [np.inf, -np.inf]])
    got = np.ascontiguousarray(read_back(lay_out(array, layout)))
    want = np.ascontiguousarray(shown(array, layout))
    assert np.array_equal(got.view(np.int64), want.view(np.int64))


def test_every_layout_has_a_sentence_and_an_unlike_view():
    array = numbered((2, 3, 4, 5))
    views = [lay_out(array, layout) for layout in ONE_VIEW]
    assert len({(view.storage.size, view.offset, view.strides) for view in views}) == len(views)
    assert all(LAYOUTS.values())


def test_mixed_gives_each_of_four_inputs_another_layout():
    got = {layout_of("mixed", position) for position in range(4)}
    assert got == {"transposed", "sliced", "columns", "offset"}


@EACH_LAYOUT
def test_every_other_layout_is_that_of_all_inputs(layout):
    assert {layout_of(layout, position) for position in range(4)} == {layout}


@pytest.mark.parametrize("shape", [(2, 3), (5, 2, 3, 4), (1000, 2)])
def test_far_parts_are_sent_side_by_side_and_the_last_lies_beyond_offsets_of_32_bits(
    shape,
):
    array = numbered(shape)
    view = lay_out(array, "far")
    assert np.array_equal(view.storage, array.reshape(-1))
    assert view.strides == (view.apart, *row_major(shape)[1:])
    last = view.apart * (shape[0] - 1)
    assert 2**31 < last <= 2**31 + 16 * shape[0]


@pytest.mark.parametrize("shape", [(), (4,), (0, 3), (1, 3)])
def test_what_has_no_two_parts_lies_together(shape):
    assert lay_out(numbered(shape), "far").apart == 0


@pytest.mark.parametrize(
    ("layout", "line", "want"),
    [
        ("far", "k: pages page d", "far"),
        ("far", "table: b n int32", "contiguous"),
        ("far", "q: b h d", "contiguous"),
        ("expanded", "table: b n int32", "contiguous"),
        ("repeated", "q: b h d", "repeated"),
        ("sliced", "table: b n int32", "sliced"),
        ("mixed", "table: b n int32", "sliced"),
    ],
)
def test_pages_alone_lie_far_apart_and_tables_keep_their_values(layout, line, want):
    (tensor,) = parse_tensors(line)
    assert layout_of_input(layout, 1, tensor) == want


def test_a_view_of_a_part_reads_that_part():
    view = View(np.arange(20.0), 3, (2, 3), (8, 2))
    assert np.array_equal(read_back(view), [[3, 5, 7], [11, 13, 15]])
