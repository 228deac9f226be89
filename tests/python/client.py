"""The official MCP client, through the proxy: client.py URL (streamable HTTP), client.py --sse URL, or
client.py --reconnect URL COMMAND... with a command that restarts the server meanwhile.

Speaks to the echo server, and says on one line what it found. Any surprise is an exception.
"""

import asyncio
import sys

from mcp import Client, ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client


def text(result) -> str:
    assert not result.is_error, result
    return "".join(part.text for part in result.content)


async def exercise(session) -> str:
    """What one session does: list, call, ping."""
    tools = [tool.name for tool in (await session.list_tools()).tools]
    assert "echo" in tools, tools
    assert text(await session.call_tool("echo", {"text": "ü€😀"})) == "ü€😀"
    assert text(await session.call_tool("add", {"a": 40, "b": 2})) == "42"
    await session.send_ping()
    return text(await session.call_tool("version", {}))


async def streamable(url: str) -> str:
    """Two sessions at once, whose calls overlap: the slow one is asked first and answered last."""
    async with streamable_http_client(url) as one, streamable_http_client(url) as two:
        async with ClientSession(*one[:2]) as first, ClientSession(*two[:2]) as second:
            initialized = await first.initialize()
            await second.initialize()
            order = []

            async def call(session, ms: int, mark: str) -> None:
                assert text(await session.call_tool("slow", {"ms": ms})) == f"slept {ms} ms"
                order.append(mark)

            await asyncio.gather(call(first, 500, "slow"), call(second, 10, "quick"))
            assert order == ["quick", "slow"], order
            versions = await asyncio.gather(exercise(first), exercise(second))
            assert versions[0] == versions[1], versions
            return f"{initialized.server_info.name} {versions[0]}"


async def newest(url: str) -> str:
    """The client that an application uses: it finds out by itself which revision both speak."""
    async with Client(url) as client:
        assert "echo" in [tool.name for tool in (await client.list_tools()).tools]
        assert text(await client.call_tool("echo", {"text": "again"})) == "again"
        return "negotiated"


async def sse(url: str) -> str:
    async with sse_client(url) as streams, ClientSession(*streams) as session:
        await session.initialize()
        return f"sse {await exercise(session)}"


async def reconnect(url: str, command: list[str]) -> str:
    """A session that is open while the server is restarted, and one more from the same process afterwards."""
    async with streamable_http_client(url) as streams, ClientSession(*streams[:2]) as before:
        await before.initialize()
        first = text(await before.call_tool("whoami", {}))
        restart = await asyncio.create_subprocess_exec(*command)
        assert await restart.wait() == 0, command
        async with streamable_http_client(url) as streams, ClientSession(*streams[:2]) as after:
            await after.initialize()
            await exercise(after)
            second = text(await after.call_tool("whoami", {}))
            assert first != second, (first, second)
    return "reconnected"


async def main() -> None:
    if sys.argv[1] == "--reconnect":
        print(await reconnect(sys.argv[2], sys.argv[3:]))
    elif sys.argv[1] == "--sse":
        print(await sse(sys.argv[2]))
    else:
        print(await streamable(sys.argv[1]), await newest(sys.argv[1]))


asyncio.run(asyncio.wait_for(main(), 60))
