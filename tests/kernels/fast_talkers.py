"""Kernels that deceive a clock, each in its own way, and an honest one beside them."""

from __future__ import annotations

import sys
import threading
import time

import torch

from kernelproof import implementation

SPEC = "matmul.tiled"


def deceiver(function):
    """Register under the function's own name."""
    return implementation(SPEC, name=function.__name__)(function)


def slow(a, b):
    """A product that takes long enough to be worth a lie."""
    for _ in range(40):
        out = a @ b
    return out


@deceiver
def honest(a, b):
    return slow(a, b)


@deceiver
def wrong(a, b):
    return a @ b + 1


@deceiver
def raises(a, b):
    raise ValueError("no luck")


calls = 0


@deceiver
def raises_later(a, b):
    """Only where it is called often, as timed calls are."""
    global calls
    calls += 1
    if calls > 5:
        raise ValueError("no more")
    return slow(a, b)


# Clocks --------------------------------------------------------------------------------------


def clocks():
    """Modules of the harness in this process that have a clock of their own."""
    named = ("kernelproof.conformance.timing.clocks", "kernelproof.conformance.timing.series")
    return [sys.modules[name] for name in named if name in sys.modules]


@deceiver
def patches_time(a, b):
    """Replaces the function that everybody calls; the harness has bound its own before."""
    time.perf_counter_ns = lambda: 0
    time.perf_counter = lambda: 0.0
    return slow(a, b)


true_now = time.perf_counter_ns


def slowed():
    return true_now() // 1000


@deceiver
def slows_the_clock(a, b):
    """Replaces the harness's clock for rounds by one that runs a thousand times slower."""
    patch_clock()
    return slow(a, b)


@deceiver
def slows_both_clocks(a, b):
    """And its clock for everything."""
    patch_clock()
    clocks()[1]._now = slowed
    return slow(a, b)


@deceiver
def stops_the_clock(a, b):
    """Rounds take no time at all."""
    clocks()[0]._now = lambda: 0
    return slow(a, b)


@deceiver
def stops_it_at_times(a, b):
    """Most rounds take none: their median is 0, and their sum is not."""
    global calls
    calls += 1
    clocks()[0]._now = true_now if calls % 4 == 0 else lambda: 0
    return slow(a, b)


def patch_clock():
    clocks()[0]._now = slowed


# Work elsewhere -------------------------------------------------------------------------------


@deceiver
def works_after_return(a, b):
    """A thread makes the result when the clock has stopped."""
    out = torch.empty(a.shape[0], b.shape[1], dtype=a.dtype)
    threading.Thread(target=lambda: out.copy_(slow(a, b))).start()
    return out


@deceiver
def works_before_the_copy(a, b):
    """The same, and whoever copies the result waits for it: the work is done beside the clock."""
    out, worker = works_after_return(a, b), threading.enumerate()[-1]
    original = torch.Tensor.detach

    def detach(tensor):
        worker.join()
        return original(tensor)

    torch.Tensor.detach = detach
    return out


@deceiver
def never_rests(a, b):
    """A thread goes on for seconds with something that looks like work of a call."""
    if not any(t.name == "restless" for t in threading.enumerate()):
        threading.Thread(target=spin, name="restless", daemon=True).start()
    return slow(a, b)


def spin():
    x, end = torch.ones(300, 300), time.monotonic() + 60
    while time.monotonic() < end:
        x @ x


class Lazy(torch.Tensor):
    pass


@deceiver
def lazy(a, b):
    return torch.empty(a.shape[0], b.shape[1]).as_subclass(Lazy)


# Results of earlier calls -----------------------------------------------------------------------

kept = {}


def keep(key, a, b):
    if key not in kept:
        kept[key] = slow(a, b)
    return kept[key].clone()


@deceiver
def caches_by_address(a, b):
    return keep((a.data_ptr(), b.data_ptr()), a, b) if warm() else slow(a, b)


@deceiver
def caches_by_first_value(a, b):
    return keep((a[0, 0].item(), b[0, 0].item()), a, b)


@deceiver
def caches_by_all_values(a, b):
    """Right, and no faster: no two calls have equal inputs."""
    return keep((hash(a.numpy().tobytes()), hash(b.numpy().tobytes())), a, b)


@deceiver
def caches_by_shape_when_timed(a, b):
    """Knows from the number of calls that it is timed."""
    return keep((a.shape, b.shape), a, b) if warm() else slow(a, b)


def warm():
    global calls
    calls += 1
    return calls > 8


# Calls of which nobody looks at the result --------------------------------------------------------

addresses = []
last = None


@deceiver
def works_in_the_last_slot(a, b):
    """Knows the memory of a round's last call, and works for that one alone."""
    global last
    if last is None:
        addresses.append(a.data_ptr())
        last = last_of_a_round()
    if last in (None, a.data_ptr()):
        return slow(a, b)
    return torch.empty(a.shape[0], b.shape[1])


def last_of_a_round():
    """Once four rounds were alike; single calls were made in the first slot before."""
    for number in range(2, 100):
        rounds = addresses[-4 * number :]
        if rounds == rounds[:number] * 4 and len(set(rounds)) == number:
            first = max(set(rounds), key=addresses.count)
            return rounds[rounds.index(first) - 1]
    return None
