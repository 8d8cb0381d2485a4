"""Callables that deceive or break whoever runs them, and an honest one beside them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import torch
from torch import Tensor

from kernelproof import implementation

SPEC = "attention.scaled_dot_product"


def attention(q, k, v):
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v


def hostile(function):
    """Register under the function's own name."""
    return implementation(SPEC, name=function.__name__, returns=["out"])(function)


@hostile
def honest(q, k, v):
    return attention(q, k, v)


# What comes back ----------------------------------------------------------------------------


@hostile
def nothing(q, k, v):
    return None


@hostile
def two_tensors(q, k, v):
    return attention(q, k, v), q.new_zeros(1)


@hostile
def wrong_shape(q, k, v):
    return attention(q, k, v)[..., :-1]


@hostile
def wrong_dtype(q, k, v):
    return attention(q, k, v).double()


@hostile
def complex_numbers(q, k, v):
    return attention(q, k, v).to(torch.complex64)


@hostile
def generator(q, k, v):
    yield attention(q, k, v)


@hostile
def list_of_floats(q, k, v):
    return attention(q, k, v).tolist()


@hostile
def one_float(q, k, v):
    return attention(q, k, v).sum().item()


@hostile
def numpy_array(q, k, v):
    return attention(q, k, v).numpy()


class Lazy(Tensor):
    """A subclass that could compute when it is looked at."""


@hostile
def tensor_subclass(q, k, v):
    return attention(q, k, v).as_subclass(Lazy)


@hostile
def meta_tensor(q, k, v):
    return attention(q.to("meta"), k.to("meta"), v.to("meta"))


@hostile
def sparse_tensor(q, k, v):
    return attention(q, k, v).to_sparse()


@hostile
def endless_tensor(q, k, v):
    return torch.zeros(1).expand(1 << 40)


@hostile
def list_that_raises(q, k, v):
    class Trap(list):
        def __iter__(self):
            raise ValueError("it bites")

    return Trap([attention(q, k, v)])


@hostile
def all_nan(q, k, v):
    return torch.full_like(q, float("nan"))


@hostile
def all_zero(q, k, v):
    return torch.zeros_like(q)


@hostile
def mean_of_values(q, k, v):
    return v.mean(-2, keepdim=True).expand(q.shape).clone()


@hostile
def uninitialised(q, k, v):
    return torch.empty(q.shape)


@hostile
def uninitialised_like(q, k, v):
    return torch.empty_like(q)


@hostile
def half_written(q, k, v):
    out = q.new_empty(q.shape)
    out[..., :4, :] = attention(q, k, v)[..., :4, :]
    return out


@hostile
def numpy_garbage(q, k, v):
    return torch.from_numpy(np.empty(q.shape, np.float32))


@hostile
def requires_grad(q, k, v):
    return attention(q.requires_grad_(), k, v)


@hostile
def transposed_output(q, k, v):
    return attention(q, k, v).transpose(-1, -2).contiguous().transpose(-1, -2)


# Memory -------------------------------------------------------------------------------------


@hostile
def input_itself(q, k, v):
    return q.copy_(attention(q, k, v))


@hostile
def one_key_is_the_value(q, k, v):
    return v


@hostile
def one_key_is_a_view_of_the_value(q, k, v):
    return v.flatten(0, 1).view(v.shape)


@hostile
def changes_input(q, k, v):
    out = attention(q, k, v)
    k[0, 0, 0, 0] += 1
    return out


@hostile
def writes_around_input(q, k, v):
    out = attention(q, k, v)
    q.as_strided((q.untyped_storage().nbytes() // 4,), (1,), 0).nan_to_num_(7.0)
    return out


BUFFERS = {}


@hostile
def static_buffer(q, k, v):
    buffer = BUFFERS.setdefault(q.shape, torch.zeros(q.shape))
    return buffer.copy_(attention(q, k, v))


@hostile
def returns_before_it_is_done(q, k, v):
    out, right = torch.empty(q.shape), attention(q, k, v)

    def later():
        time.sleep(0.5)
        out.copy_(right)

    threading.Thread(target=later, daemon=True).start()
    return out


# Results of earlier calls -------------------------------------------------------------------

KNOWN = {}


@hostile
def caches_by_shape(q, k, v):
    return KNOWN.setdefault(q.shape, attention(q, k, v)).clone()


# Global state -------------------------------------------------------------------------------


@hostile
def default_dtype(q, k, v):
    torch.set_default_dtype(torch.float64)
    return attention(q, k, v)


@hostile
def default_device(q, k, v):
    out = attention(q, k, v)
    torch.set_default_device("meta")
    return out


@hostile
def grad_mode(q, k, v):
    torch.set_grad_enabled(False)
    return attention(q, k, v)


@hostile
def thread_count(q, k, v):
    torch.set_num_threads(torch.get_num_threads() + 1)
    return attention(q, k, v)


@hostile
def deterministic_mode(q, k, v):
    torch.use_deterministic_algorithms(True)
    return attention(q, k, v)


@hostile
def matmul_precision(q, k, v):
    torch.set_float32_matmul_precision("medium")
    return attention(q, k, v)


@hostile
def current_directory(q, k, v):
    os.chdir("/")
    return attention(q, k, v)


@hostile
def removed_directory(q, k, v):
    os.chdir(folder := tempfile.mkdtemp())
    os.rmdir(folder)
    return attention(q, k, v)


@hostile
def sets_variable(q, k, v):
    os.environ["OMP_NUM_THREADS_OF_MINE"] = "1"
    return attention(q, k, v)


@hostile
def deletes_variable(q, k, v):
    os.environ.pop("PATH")
    return attention(q, k, v)


@hostile
def patches_torch(q, k, v):
    out = attention(q, k, v)
    torch.equal = lambda *tensors: True
    Tensor.contiguous = lambda self, *rest, **others: torch.zeros_like(self)
    return out


@hostile
def patches_numpy(q, k, v):
    out = attention(q, k, v)
    np.array_equal = None
    return out


# Determinism --------------------------------------------------------------------------------


def nondeterministic(q, k, v):
    out = attention(q, k, v)
    return out * (1 + 1e-7 * torch.randn_like(out))


implementation(SPEC, name="nondeterministic", returns=["out"])(nondeterministic)
implementation(SPEC, name="atomics", returns=["out"], atomics=True)(nondeterministic)


# Dying --------------------------------------------------------------------------------------


@hostile
def raises(q, k, v):
    raise ValueError("no luck\nat all")


@hostile
def sys_exit(q, k, v):
    sys.exit(0)


@hostile
def keyboard_interrupt(q, k, v):
    raise KeyboardInterrupt


@hostile
def os_exit(q, k, v):
    os._exit(0)


@hostile
def segfault(q, k, v):
    return ctypes.string_at(0)


@hostile
def abort(q, k, v):
    os.abort()


@hostile
def kills_itself(q, k, v):
    os.kill(os.getpid(), signal.SIGKILL)


@hostile
def infinite_loop(q, k, v):
    while True:  # here it hangs
        pass


@hostile
def stops_itself(q, k, v):
    os.kill(os.getpid(), signal.SIGSTOP)


@hostile
def hangs_deaf(q, k, v):
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    threading.Event().wait()


@hostile
def recursion(q, k, v):
    return recursion(q, k, v)


@hostile
def allocates(q, k, v):
    kept = []
    while True:
        kept.append(np.zeros(64 << 20, np.uint8))


@hostile
def allocates_tensor(q, k, v):
    return torch.empty(1 << 40)


HOARD = []


@hostile
def hoards(q, k, v):
    while True:
        for size in (64 << 20, 1 << 20, 64 << 10):
            with contextlib.suppress(MemoryError):
                while True:
                    HOARD.append(np.zeros(size, np.uint8))
        raise MemoryError


# Streams, descriptors, processes ------------------------------------------------------------


@hostile
def prints_megabytes(q, k, v):
    sys.stdout.write("o" * 5_000_000)
    os.write(2, b"e" * 5_000_000)
    return attention(q, k, v)


@hostile
def prints_a_verdict(q, k, v):
    print("check: pass\n" * 100, flush=True)
    return torch.zeros_like(q)


@hostile
def closes_streams(q, k, v):
    sys.stdout.close()
    os.close(2)
    return attention(q, k, v)


@hostile
def closes_descriptors(q, k, v):
    os.closerange(3, 256)
    return attention(q, k, v)


@hostile
def closes_everything(q, k, v):
    os.closerange(0, 256)
    return attention(q, k, v)


@hostile
def writes_everywhere(q, k, v):
    for descriptor in range(3, 256):
        with contextlib.suppress(OSError):
            os.write(descriptor, b"check: pass, ratio 0\n")
    return attention(q, k, v)


SLEEP = f"import time; time.sleep(600)  # for {os.getppid()}"
TWICE = f"import os\nif os.fork(): os._exit(0)\nos.setsid()\n{SLEEP}"


@hostile
def child(q, k, v):
    subprocess.Popen([sys.executable, "-S", "-c", SLEEP])
    return attention(q, k, v)


@hostile
def child_in_new_session(q, k, v):
    subprocess.Popen([sys.executable, "-S", "-c", SLEEP], start_new_session=True)
    return attention(q, k, v)


@hostile
def daemon(q, k, v):
    subprocess.run([sys.executable, "-S", "-c", TWICE], check=True)
    return attention(q, k, v)


@hostile
def child_and_crash(q, k, v):
    subprocess.Popen([sys.executable, "-S", "-c", SLEEP], start_new_session=True)
    os._exit(3)


@hostile
def forks(q, k, v):
    os.fork()
    return attention(q, k, v)


@hostile
def background_thread(q, k, v):
    threading.Thread(target=threading.Event().wait).start()
    return attention(q, k, v)


@hostile
def dies_later(q, k, v):
    threading.Timer(0.1, os._exit, (1,)).start()
    return attention(q, k, v)


# What lives in the same process as the worker -----------------------------------------------


def worker_frame(name):
    """The frame of the worker's own code that has this local variable."""
    frame = sys._getframe()
    while name not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals


@hostile
def forges_empty_reply(q, k, v):
    found = worker_frame("channel")
    number = found["request"]["number"]
    found["channel"].send({"number": number, "runs": [], "problems": []}, {})
    return attention(q, k, v)


@hostile
def disarms_the_worker(q, k, v):
    sys.modules["__main__"].Memory.changed = lambda self: []
    out = attention(q, k, v)
    k.zero_()
    return out


@hostile
def uses_the_reference(q, k, v):
    from kernelproof.reference.attention.scaled_dot_product import scaled_dot_product

    exact = scaled_dot_product(*(x.double().numpy() for x in (q, k, v)))
    return torch.from_numpy(exact.out).float()
