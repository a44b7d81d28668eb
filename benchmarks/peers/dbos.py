"""DBOS on PostgreSQL: a workflow of four steps, 32 workflows at once in one process.

Durability: the outcome of every step is committed to PostgreSQL before the next starts, synchronous commits.
"""

import sys

from dbos import DBOS, SetWorkflowID

from benchmarks.peers.client import Body, InProcess, Task, pass_on, serve
from benchmarks.peers.environment import POSTGRES, RUN, STAGES


@DBOS.step()
async def stage(body: Body, number: int) -> Body:
    """Pass it on."""
    return pass_on(body, number)


@DBOS.workflow()
async def stages(body: Body) -> Body:
    """Go through the stages."""
    for number in range(STAGES):
        body = await stage(body, number)
    return body


class DbosClient(InProcess):
    """Run the workflows in this process."""

    def __init__(self) -> None:
        super().__init__(self._workflow)

    async def start(self) -> None:
        """Create its tables and start it."""
        DBOS(config={"name": "stages", "system_database_url": POSTGRES, "log_level": "ERROR"})
        DBOS.launch()

    async def _workflow(self, task: Task) -> int:
        with SetWorkflowID(f"{RUN}-{task.id}"):
            body = await stages(task.body())
        return int(body["stage"])

    async def stop(self) -> None:
        """Stop it."""
        DBOS.destroy()


if __name__ == "__main__" and sys.argv[1] == "client":
    serve(DbosClient())
