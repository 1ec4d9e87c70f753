import gc
import threading

from oxe_pipeline.loader.buffers import BufferPool


class CollectingShape(tuple):
    """A shape that runs the garbage collector whenever the pool looks it up."""

    def __hash__(self):
        gc.collect()
        return tuple.__hash__(self)


def test_memory_is_used_again_once_the_tensor_that_showed_it_is_gone():
    pool = BufferPool(keep=1)
    first = pool.take((4, 8))
    address, view = first.data_ptr(), first[1:]
    del first
    second = pool.take((4, 8))
    assert second.data_ptr() != address, "a view still shows it"
    del view
    assert pool.take((4, 8)).data_ptr() == address


def test_a_collection_in_the_middle_of_a_take_does_not_block_the_pool():
    pool = BufferPool(keep=4)

    def take_while_garbage_is_collected():
        cycle = [pool.take((4, 8))]
        cycle.append(cycle)
        del cycle
        pool.take(CollectingShape((4, 8)))

    thread = threading.Thread(target=take_while_garbage_is_collected, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
