"""How inputs lie in memory: what a view shows, what lies around it, and its strides."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelproof.conformance.layout import NUMPY_DTYPES, View, lay_out, read_back
from kernelproof.spec.domain import LAYOUTS

EACH_DTYPE = pytest.mark.parametrize("dtype", NUMPY_DTYPES)
EACH_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)
SHAPES = given(shape=st.lists(st.integers(0, 4), max_size=4).map(tuple))
DRAWN = settings(deadline=None, derandomize=True, max_examples=40)


def numbered(shape, dtype="float32"):
    """Different numbers as far as the dtype can tell them apart, and no poison among them."""
    count = np.arange(math.prod(shape)).reshape(shape) % (2 if dtype == "bool" else 15)
    return count.astype(NUMPY_DTYPES[dtype])


def shown(array, layout):
    """What a view must show: the array, or its first part for every index of its first axis."""
    repeats = layout == "expanded" and array.ndim and array.shape[0]
    return np.broadcast_to(array[:1], array.shape) if repeats else array


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


@EACH_LAYOUT
@DRAWN
@SHAPES
def test_offset_and_strides_find_every_element_inside_the_storage(layout, shape):
    array = numbered(shape)
    view = lay_out(array, layout)
    assert view.storage.ndim == 1
    assert len(view.strides) == len(view.shape) == len(shape)
    assert np.array_equal(view.storage[positions(view)], shown(array, layout))


@EACH_DTYPE
@EACH_LAYOUT
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


@DRAWN
@SHAPES
def test_transposed_is_row_major_with_two_axes_swapped_in_memory(shape):
    view = lay_out(numbered(shape), "transposed")
    order = list(range(len(shape)))
    if len(order) > 1:
        first = len(order) - (3 if len(order) > 2 else 2)
        order[first], order[first + 1] = first + 1, first
    swapped = tuple(view.strides[axis] for axis in order)
    assert not math.prod(shape) or swapped == row_major([shape[axis] for axis in order])
    assert gaps(view).size == 0


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((3, 5), (1, 3)), ((2, 3, 5), (5, 10, 1)), ((2, 3, 4, 5), (60, 5, 15, 1)), ((6,), (1,))],
)
def test_transposed_swaps_heads_and_tokens_and_makes_a_matrix_column_major(shape, strides):
    assert lay_out(numbered(shape), "transposed").strides == strides


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
    ("shape", "strides"), [((3,), (0,)), ((2, 5), (0, 1)), ((4, 2, 3), (0, 3, 1)), ((), ())]
)
def test_expanded_has_stride_zero_along_the_first_axis_and_stores_it_once(shape, strides):
    view = lay_out(numbered(shape), "expanded")
    assert view.strides == strides
    assert view.storage.size == math.prod(shape[1:])


@EACH_LAYOUT
def test_nan_and_negative_zero_travel_as_they_are(layout):
    array = np.array([[-0.0, np.nan], [np.inf, -np.inf]])
    got = np.ascontiguousarray(read_back(lay_out(array, layout)))
    want = np.ascontiguousarray(shown(array, layout))
    assert np.array_equal(got.view(np.int64), want.view(np.int64))


def test_every_layout_has_a_sentence_and_an_unlike_view():
    array = numbered((2, 3, 4, 5))
    views = [lay_out(array, layout) for layout in LAYOUTS]
    assert len({(view.storage.size, view.offset, view.strides) for view in views}) == len(LAYOUTS)
    assert all(LAYOUTS.values())


def test_a_view_of_a_part_reads_that_part():
    view = View(np.arange(20.0), 3, (2, 3), (8, 2))
    assert np.array_equal(read_back(view), [[3, 5, 7], [11, 13, 15]])
