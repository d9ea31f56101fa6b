"""What a compressed recording's columns are packed with: zstd (RFC 8878), by the package `zstandard`."""

from typing import Any

from protocol.errors import MalformedMessage, UsageError


class Zstd:
    """Packs and unpacks; raises `UsageError` where the package is missing. Each direction belongs to one thread."""

    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise UsageError("a compressed recording needs zstandard: pip install 'headrace[zstd]'") from error
        self._package: Any = zstandard
        self._packer, self._unpacker = zstandard.ZstdCompressor(write_checksum=True), zstandard.ZstdDecompressor()

    def pack(self, data: bytes) -> bytes:
        """One zstd frame, which tells its content's size and checks it."""
        return bytes(self._packer.compress(data))

    def unpack(self, packed: bytes | memoryview, nbytes: int) -> bytes:
        """The reverse, of so many bytes: nothing larger is made. Raises `MalformedMessage`."""
        try:
            if self._package.frame_content_size(packed) != nbytes:
                raise MalformedMessage(f"a zstd frame that does not hold {nbytes} bytes")
            return bytes(self._unpacker.decompress(packed))
        except self._package.ZstdError as error:
            raise MalformedMessage(f"no zstd frame: {error}") from error
