"""The one address of a pair of Redis servers, as a service of Kubernetes or a virtual address is.

Leads each new connection to the port that is written in a file then; what was connected before stays where it is.

    python -m tests.cluster.forwarder PORT FILE
"""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path


async def forward(port: int, target: Path) -> None:
    """Serve until this process is ended."""

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            server = await asyncio.open_connection("127.0.0.1", int(target.read_text()))
            await asyncio.gather(_copy(reader, server[1]), _copy(server[0], writer))
        writer.close()

    async with await asyncio.start_server(lead, "127.0.0.1", port) as server:
        await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes from one side to the other, until the one has ended."""
    with suppress(OSError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(forward(int(sys.argv[1]), Path(sys.argv[2])))
