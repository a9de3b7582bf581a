"""Views that stream, and views that never end."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from io import BytesIO

from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse

from keys.decorators import api_key_required


@api_key_required()
def streaming(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        yield b"one"
        if "break" in request.GET:
            raise RuntimeError("the stream broke")
        yield b"two"

    return StreamingHttpResponse(parts())


@api_key_required()
async def streaming_async(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        if "break" in request.GET:
            raise RuntimeError("the stream broke")
        yield b"two"

    return StreamingHttpResponse(parts())


@api_key_required()
def endless(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter(lambda: b"x" * 65_536, b""))


@api_key_required()
async def endless_async(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536
            await asyncio.sleep(0)

    return StreamingHttpResponse(parts())


@api_key_required()
async def silent_async(request: HttpRequest) -> HttpResponse:
    """Never answer: the client has to disconnect."""
    await asyncio.Event().wait()
    return HttpResponse()


@api_key_required()
async def silent_stream_async(request: HttpRequest) -> StreamingHttpResponse:
    """Send the headers and nothing else."""

    async def parts() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    return StreamingHttpResponse(parts())


@api_key_required()
def download(request: HttpRequest) -> FileResponse:
    return FileResponse(BytesIO(b"contents"), filename="report.txt")
