"""The order of the data: a function of seed and step, whatever the number of processes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.errors import ConfigError
from refseg.training.sampling import Order, check_pieces, choose, positions


@given(count=st.integers(1, 40), seed=st.integers(0, 9), epoch=st.integers(0, 4))
@settings(deadline=None, max_examples=40)
def test_every_epoch_holds_every_item_once(count, seed, epoch):
    order = Order(count, seed)
    assert sorted(order.item(epoch * count + place) for place in range(count)) == list(range(count))


def test_epochs_and_seeds_are_shuffled_differently_and_repeatably():
    first = [Order(30, 1).item(p) for p in range(30)]
    assert first == [Order(30, 1).item(p) for p in range(30)]
    assert first != [Order(30, 1).item(p) for p in range(30, 60)]
    assert first != [Order(30, 2).item(p) for p in range(30)]


def test_endless_streams_never_repeat():
    assert [Order(None, 0).item(p) for p in (0, 7, 10**9)] == [0, 7, 10**9]


@given(processes=st.integers(1, 4), accumulation=st.integers(1, 4), share=st.integers(1, 5), step=st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_the_pieces_of_a_step_are_the_batch_and_steps_follow_each_other(processes, accumulation, share, step):
    pieces = processes * accumulation
    batch = share * pieces
    check_pieces(batch, processes, accumulation)
    together = [p for piece in range(pieces) for p in positions(step, piece, pieces, batch)]
    assert together == list(range(step * batch, (step + 1) * batch))


def test_a_batch_that_cannot_be_cut_is_refused():
    with pytest.raises(ConfigError, match="pictures_per_batch: 10 pictures"):
        check_pieces(10, 2, 2)


def test_choose_takes_all_when_there_are_few_and_never_twice():
    assert sorted(choose(0, 5, 3, 8)) == [0, 1, 2]
    picked = choose(0, 5, 20, 8)
    assert len(set(picked)) == 8
    assert picked == choose(0, 5, 20, 8)
    assert picked != choose(0, 6, 20, 8)


def test_an_empty_data_set_is_refused():
    with pytest.raises(ConfigError, match="empty"):
        Order(0, 0)
