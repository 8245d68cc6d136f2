"""Standard output and error, which may be closed, full, or read by nobody: that ends no run.

``guard`` is called once, at the start of a process. It is not for notebooks, whose streams are their own.
"""

import errno
import io
import os
import select
import sys


class Output(io.FileIO):
    """A descriptor that drops what it cannot write.

    Attributes:
      needed: whether what is written is all that the command does, so that its end ends the command.
    """

    needed = False

    def write(self, data) -> int:
        """The bytes written, or dropped.

        Raises:
          BrokenPipeError: nobody reads any more, and the output is needed; after that it is dropped.
          OSError: the output is needed and cannot be written for another reason, such as a full disk.
        """
        try:
            while (written := super().write(data)) is None:  # another process has made it non-blocking, and it is full
                select.select([], [self], [])
            return written
        except OSError as error:
            if self.needed:
                self.needed = False
                raise OSError(error.errno, os.strerror(error.errno or errno.EIO), self.name) from error
            return len(memoryview(data))


def guard() -> Output | None:
    """Makes standard output and error such streams, in which characters that they cannot encode are replaced.

    Returns standard output, or None where it is closed or something else has taken its place.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # else the next file that is opened would get its number, and what libraries print into it
            os.open(os.devnull, os.O_RDWR)
    found = {name: _guarded(name, descriptor) for name, descriptor in (("stdout", 1), ("stderr", 2))}
    return found["stdout"]


def _guarded(name: str, descriptor: int) -> Output | None:
    stream = getattr(sys, name)
    if stream is None:  # it was closed when Python started
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        return None
    if stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper):
        return None
    output = Output(descriptor, "w", closefd=False)
    output.name = f"<{name}>"
    guarded = io.TextIOWrapper(
        io.BufferedWriter(output),
        encoding=stream.encoding,
        errors="replace" if stream.errors in ("strict", "surrogateescape") else stream.errors,
        line_buffering=stream.line_buffering or name == "stderr",
    )
    setattr(sys, name, guarded)
    return output
