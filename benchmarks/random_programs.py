"""Random programs on the paged cache: no page is ever lost, or held by two that do not share it.

    python benchmarks/random_programs.py [--operations 10000] [--seed 0]

Each program is about five sequences in a small pool; about half of its requests are to be refused,
by turns for want of pages and of a sequence. The cache and the reference must grant the same
requests, and hold the same tokens in as many pages.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
import torch

from kernelproof.impls.torch.cache.paged_manager import OutOfPages, PagedCache, UnknownSequence
from kernelproof.impls.torch.cache.paged_manager import SequenceExists as Exists
from kernelproof.reference.cache.paged_manager import PagedManager
from kernelproof.spec.contracts.paged_manager.program import PROGRAM, random_steps
