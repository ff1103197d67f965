"""Which pages of a file are in the page cache, as the kernel tells by mincore(2)."""

import ctypes
import mmap

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def cached_pages(descriptor: int, offset: int, length: int) -> bytes:
    """Return a byte for each page of a range of an open file: 1 if it is cached, else 0."""
    pages = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
    address = _LIBC.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, offset)
    assert address != ctypes.c_void_p(-1).value
    assert _LIBC.mincore(address, length, pages) == 0
    _LIBC.munmap(address, length)
    return pages.raw
