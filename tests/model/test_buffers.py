"""Where the engine keeps its feature maps: in memory, or in files if there is too little of it."""

import errno
import io
from typing import Any

import pytest
import torch

from devudp_model.bands.rows import FileImage
from devudp_model.engine import buffers as buffers
from devudp_model.engine import strips as strips
from devudp_model.engine.buffers import (
    BlockBuffer,
    BufferPool,
    BufferShape,
    FileBuffer,
    MemoryBuffer,
    RowBuffer,
    empty_strip,
)
from devudp_model.engine.network import Network
from tests.model.engine_network import generator, random_image

CPU = torch.device("cpu")


def test_few_buffers_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most three full-size feature maps: 384 bytes a pixel with width 64 in 16 bits."""
    sizes: list[float] = []

    class Counting(BufferPool):
        def allocate(self, shape: BufferShape) -> RowBuffer:
            if not hasattr(self, "start"):
                self.start = self.left = 1e12
            buffer = super().allocate(shape)
            sizes.append(self.start - self.left)
            return buffer

    monkeypatch.setattr(strips, "BufferPool", Counting)
    Network(generator("devudp", 2), torch.bfloat16)(random_image(1, 3, 64, 64))
    assert max(sizes) / 64**2 == 3 * 8 * 2


@pytest.mark.parametrize("kind", ["memory", "block", "file"])
def test_buffers_are_queues_of_rows(kind: str) -> None:
    """Frames 2, height 6: rows come back in order whatever the strips, also while written anew, and
    as they were taken, also when the strip's memory is used again."""
    shape = BufferShape(2, 3, 6, 5)
    buffer = {
        "memory": lambda: MemoryBuffer(shape, CPU, CPU),
        "block": lambda: BlockBuffer(shape, torch.bfloat16, CPU),
        "file": lambda: FileBuffer(shape, torch.bfloat16),
    }[kind]()
    rows = torch.arange(12.0).view(1, 1, 12, 1).expand(1, 3, 12, 5).bfloat16()
    rows = rows.contiguous(memory_format=torch.channels_last)

    def read(count: int) -> list[float]:
        place = empty_strip(shape, count, torch.bfloat16, CPU)
        return torch.cat(buffer.read(place), 2)[0, 0, :, 0].tolist()

    def write(more: int, *spans: tuple[int, int]) -> None:
        """Taken from the last to the first, appended in order."""
        taken = []
        for start, stop in reversed(spans):
            strip = rows[:, :, start:stop] + more
            taken.append(buffer.take(start, strip, copy=True))
            strip.zero_()
        for strip in reversed(taken):
            buffer.append(strip)

    write(0, (0, 4), (4, 6), (6, 7), (7, 12))
    assert read(3) == [0, 1, 2]
    write(100, (0, 2))
    assert read(3) == [3, 4, 5]
    assert read(6) == [6, 7, 8, 9, 10, 11]
    write(100, (2, 9), (9, 12))
    assert read(6) == [100, 101, 102, 103, 104, 105]
    buffer.close()


def test_workspace_spills_what_does_not_fit() -> None:
    space, shape = (
        BufferPool(torch.float32, CPU, 1000),
        BufferShape(1, 2, 5, 10),
    )  # 400 bytes a buffer
    first, second, third = (space.allocate(shape) for _ in range(3))
    # Each takes much of the limit.
    assert [type(p) for p in (first, second, third)] == [BlockBuffer, BlockBuffer, FileBuffer]
    assert space.spilled == 400
    space.free(third)
    space.free(first)
    assert isinstance(space.allocate(shape), BlockBuffer)
    assert isinstance(BufferPool(torch.float32, CPU, 40_000).allocate(shape), MemoryBuffer)


def test_without_a_limit_only_large_buffers_are_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of large images would leave holes: up to 13 GB in place of 9 for 24 megapixels."""
    monkeypatch.setattr(buffers, "LARGE_BYTES", 4000)
    space = BufferPool(torch.float32, CPU, None)
    assert isinstance(space.allocate(BufferShape(1, 2, 50, 10)), BlockBuffer)
    assert isinstance(space.allocate(BufferShape(1, 2, 49, 10)), MemoryBuffer)


def test_a_bound_that_cannot_be_kept_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    net, x = Network(generator("devudp"), torch.float32), random_image(1, 3, 40, 40)
    outs = [net(x, memory=memory) for memory in (None, 10_000_000, 10_000_000)]
    assert all(torch.equal(out, outs[0]) for out in outs)
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1 and "limit is too low: it leaves 10 MB" in warnings[0]
    caplog.clear()
    Network(generator("devudp"), torch.float32)(x, memory=200_000_000)
    assert not caplog.records


def test_a_full_disk_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(buffers.tempfile, "TemporaryFile", lambda **options: Full())
    with pytest.raises(OSError, match="TMPDIR") as caught:
        Network(generator("devudp"), torch.float32)(random_image(1, 3, 16, 16), memory=1)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="TMPDIR"):
        FileImage(torch.Size((1, 3, 4, 5))).write(0, 0, torch.rand(1, 3, 4, 5))
