import signal
import threading
import weakref

import pytest

from oxe_pipeline.interrupts import heard_interrupts


class Batch:
    pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_falls_into_a_finaliser_is_raised_at_the_next_step():
    went_on = False
    with pytest.raises(KeyboardInterrupt), heard_interrupts() as raise_dropped:
        batch = Batch()
        weakref.finalize(batch, signal.raise_signal, signal.SIGINT)
        del batch  # Here Python drops the exception.
        went_on = True
        raise_dropped()
    assert went_on


def test_without_an_interrupt_nothing_is_raised_and_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with heard_interrupts() as raise_dropped:
        assert signal.getsignal(signal.SIGINT) is not before
        raise_dropped()
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt), heard_interrupts():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_in_other_threads_it_changes_nothing():
    found = []

    def body() -> None:
        with heard_interrupts() as raise_dropped:
            raise_dropped()
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]
