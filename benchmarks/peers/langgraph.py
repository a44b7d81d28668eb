"""LangGraph with a durable checkpointer, in SQLite or PostgreSQL: a graph of four nodes, 32 threads of it at once.

Durability: `durability="sync"`, a checkpoint per node is committed before the next node starts. SQLite as its saver
opens it (WAL, synchronous=FULL); PostgreSQL with synchronous commits through a pool of 16 connections.
"""

import sys
from contextlib import AsyncExitStack
from typing import TypedDict

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from benchmarks.peers.client import Body, InProcess, Task, pass_on, serve
from benchmarks.peers.environment import FOLDER, POSTGRES, RUN, STAGES, VARIANT


class Work(TypedDict):
    """What travels."""

    body: Body


def build(saver: "BaseCheckpointSaver[str]") -> object:
    """Chain the nodes."""
    graph = StateGraph(Work)

    def add_stage(number: int) -> None:
        async def node(state: Work) -> Work:
            return {"body": pass_on(state["body"], number)}

        graph.add_node(f"stage{number}", node)

    for number in range(STAGES):
        add_stage(number)
        graph.add_edge(f"stage{number - 1}" if number else START, f"stage{number}")
    graph.add_edge(f"stage{STAGES - 1}", END)
    return graph.compile(checkpointer=saver)


class LangGraphClient(InProcess):
    """Run the graph in this process."""

    def __init__(self) -> None:
        super().__init__(self._invoke)
        self._opened = AsyncExitStack()

    async def start(self) -> None:
        """Open the checkpointer."""
        saver = await self._postgres() if VARIANT == "postgres" else await self._sqlite()
        await saver.setup()
        self._graph = build(saver)

    async def _sqlite(self) -> AsyncSqliteSaver:
        return await self._opened.enter_async_context(AsyncSqliteSaver.from_conn_string(str(FOLDER / "graph.sqlite")))

    async def _postgres(self) -> AsyncPostgresSaver:
        options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        pool = AsyncConnectionPool(POSTGRES, min_size=16, max_size=16, kwargs=options, open=False)
        return AsyncPostgresSaver(await self._opened.enter_async_context(pool))

    async def _invoke(self, task: Task) -> int:
        config = {"configurable": {"thread_id": f"{RUN}-{task.id}"}}
        ended = await self._graph.ainvoke({"body": task.body()}, config, durability="sync")
        return int(ended["body"]["stage"])

    async def stop(self) -> None:
        """Close it."""
        await self._opened.aclose()


if __name__ == "__main__" and sys.argv[1] == "client":
    serve(LangGraphClient())
