"""Weighted fair queue of admitted tasks: who may be planned next. A data structure; the caller brings the time.

Between tenants it is start-time fair queueing: each start costs a tenant 1/weight of virtual time, and the tenant
with the least goes next, so that one with ten tasks never waits behind another's ten thousand. Within a tenant
priority counts, and waiting: `ageing` of waiting is worth one level. Because everybody ages at the same speed, that
order never changes and a heap holds it.

It knows the tasks of this process only, and forgets with it: the tasks themselves are stored, and each comes back by
its own timer.
"""

import heapq
from bisect import insort
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count


@dataclass(frozen=True, slots=True)
class Ticket:
    """A task in the queue. Tasks of one `session` are done one after another, in the order of admission."""

    task: str
    tenant: str
    admitted_at: datetime
    priority: int = 5
    not_before: datetime | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """How capacity is shared. `idle`: a slot whose task was silent for so long is free, for it may have moved away."""

    total: int = 256
    per_tenant: int = 192
    weights: Mapping[str, float] = field(default_factory=dict)
    ageing: timedelta = timedelta(seconds=30)
    idle: timedelta = timedelta(minutes=30)

    def cost(self, tenant: str) -> float:
        """Give the virtual time one start costs a tenant; an unnamed one has weight 1."""
        return 1 / self.weights.get(tenant, 1.0)


@dataclass(slots=True)
class _Slot:
    ticket: Ticket
    seen_at: datetime
    parked: bool = False


class FairQueue:
    """Offer, next, finish. Every operation may be repeated for the same task without harm."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._waiting: dict[str, Ticket] = {}
        self._slots: dict[str, _Slot] = {}
        self._busy: Counter[str] = Counter()
        self._ready: dict[str, list[tuple[float, int, str]]] = {}
        self._later: list[tuple[datetime, int, str]] = []
        self._lines: dict[tuple[str, str], list[tuple[datetime, str]]] = {}
        self._served: dict[str, float] = {}
        self._virtual = 0.0
        self._arrivals = count()

    @property
    def depth(self) -> int:
        """Count the tasks that wait."""
        return len(self._waiting)

    @property
    def active(self) -> int:
        """Count the tasks that use capacity: begun, not ended, not parked."""
        return self._busy.total()

    def oldest_age(self, now: datetime) -> timedelta:
        """Give how long the task that waits longest has been waiting, not counting its own not-before."""
        since = [max(one.admitted_at, one.not_before or one.admitted_at) for one in self._waiting.values()]
        return max(timedelta(0), now - min(since)) if since else timedelta(0)

    def offer(self, ticket: Ticket) -> None:
        """Let a task wait for its turn."""
        if ticket.task in self._waiting or ticket.task in self._slots:
            return
        self._waiting[ticket.task] = ticket
        if ticket.session is not None:
            self._join_line(ticket)
        self._queue(ticket)

    def claim(self, ticket: Ticket, now: datetime) -> bool:
        """Take a slot for this very task if it is its turn at this moment; else it waits."""
        if ticket.task in self._slots:
            return True
        self.offer(ticket)
        if self._peek(now) != ticket.task:
            return False
        self._start(ticket, now)
        return True

    def next(self, now: datetime) -> Ticket | None:
        """Give the task whose turn it is, and its slot with it; None: nobody may start now."""
        task = self._peek(now)
        if task is None:
            return None
        ticket = self._waiting[task]
        self._start(ticket, now)
        return ticket

    def hold(self, ticket: Ticket, now: datetime, *, parked: bool = False) -> None:
        """Note that a task is under way; a parked one waits for a person: no capacity, but still its session."""
        slot = self._slots.get(ticket.task)
        if slot is None:
            self._occupy(ticket, now)
            slot = self._slots[ticket.task]
        slot.seen_at = now
        if slot.parked != parked:
            slot.parked = parked
            self._count(ticket.tenant, -1 if parked else 1)

    def finish(self, task: str) -> None:
        """Free what a task used or stop it from waiting: it ended, or somebody else has it."""
        slot = self._slots.pop(task, None)
        ticket = slot.ticket if slot else self._waiting.pop(task, None)
        if slot and not slot.parked:
            self._count(slot.ticket.tenant, -1)
        if ticket is not None and ticket.session is not None:
            self._leave_line(ticket)

    def _queue(self, ticket: Ticket) -> None:
        if ticket.not_before is not None:
            heapq.heappush(self._later, (ticket.not_before, next(self._arrivals), ticket.task))
        else:
            self._make_ready(ticket)

    def _make_ready(self, ticket: Ticket) -> None:
        since = max(ticket.admitted_at, ticket.not_before or ticket.admitted_at)
        rank = since.timestamp() - ticket.priority * self._policy.ageing.total_seconds()
        heapq.heappush(self._ready.setdefault(ticket.tenant, []), (rank, next(self._arrivals), ticket.task))

    def _peek(self, now: datetime) -> str | None:
        while self._later and self._later[0][0] <= now:
            task = heapq.heappop(self._later)[2]
            if task in self._waiting:
                self._make_ready(self._waiting[task])
        if self.active >= self._policy.total:
            self._drop_idle(now)
            if self.active >= self._policy.total:
                return None
        heads = [
            (self._due(tenant), tenant, head)
            for tenant in list(self._ready)
            if self._busy[tenant] < self._policy.per_tenant and (head := self._head(tenant)) is not None
        ]
        return min(heads)[2] if heads else None

    def _due(self, tenant: str) -> float:
        return max(self._served.get(tenant, 0.0), self._virtual)

    def _head(self, tenant: str) -> str | None:
        """Find the first of a tenant that may start; drop what ended or is not at the head of its session."""
        heap = self._ready[tenant]
        while heap:
            task = heap[0][2]
            if task in self._waiting and self._leads_line(self._waiting[task]):
                return task
            heapq.heappop(heap)
        del self._ready[tenant]
        return None

    def _start(self, ticket: Ticket, now: datetime) -> None:
        self._virtual = self._due(ticket.tenant)
        self._served[ticket.tenant] = self._virtual + self._policy.cost(ticket.tenant)
        self._occupy(ticket, now)
        self._forget_served()

    def _forget_served(self) -> None:
        if len(self._served) > 2 * len(self._ready) + 64:
            self._served = {tenant: at for tenant, at in self._served.items() if at > self._virtual}

    def _occupy(self, ticket: Ticket, now: datetime) -> None:
        self._waiting.pop(ticket.task, None)
        self._slots[ticket.task] = _Slot(ticket, now)
        self._count(ticket.tenant, 1)
        if ticket.session is not None:
            self._join_line(ticket, at_head=True)

    def _count(self, tenant: str, change: int) -> None:
        self._busy[tenant] += change
        if not self._busy[tenant]:
            del self._busy[tenant]

    def _drop_idle(self, now: datetime) -> None:
        for task, slot in list(self._slots.items()):
            if now - slot.seen_at > self._policy.idle:
                self.finish(task)

    def _join_line(self, ticket: Ticket, *, at_head: bool = False) -> None:
        line = self._lines.setdefault((ticket.tenant, ticket.session or ""), [])
        place = (ticket.admitted_at, ticket.task)
        if at_head:
            if place in line:
                line.remove(place)
            line.insert(0, place)
        elif place not in line:
            started = sum(task in self._slots for _, task in line)
            insort(line, place, lo=started)

    def _leads_line(self, ticket: Ticket) -> bool:
        if ticket.session is None:
            return True
        return self._lines[ticket.tenant, ticket.session][0][1] == ticket.task

    def _leave_line(self, ticket: Ticket) -> None:
        key = (ticket.tenant, ticket.session or "")
        line = self._lines[key]
        line.remove((ticket.admitted_at, ticket.task))
        if not line:
            del self._lines[key]
        elif (head := self._waiting.get(line[0][1])) is not None:
            self._queue(head)
