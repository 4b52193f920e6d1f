"""Freed arrays stay with the process, so that the next ones need no page faults.

A pullback frees a handful of activations at once. glibc then gives the top of its heap back to the system, and faults
it in again, page by page, at the next evaluation: on a batch of 512 and a width of 64 that made a VJP cost nine
evaluations of f instead of three. glibc raises the threshold for this to twice the largest block that a program has
ever freed, up to 32 MiB; one such block, never written to and so never given any memory, is all it takes. Other
allocators don't mind.
"""

import numpy as np

LARGEST_COUNTED = 31 * 2**20  # bytes; glibc ignores blocks above 32 MiB


def keep_freed_memory() -> None:
    """Tell the allocator, by example, that large blocks come and go."""
    np.empty(LARGEST_COUNTED, dtype=np.uint8)
