# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The sender's side of a receiver: from a message that a local service sends to the hosts that shall deliver it.

Two rules. Which host gets a message is decided in this file; when a broker is asked for one, in seeking.py. And a message goes to another host only
while it is certain that the first did not take it: it was never sent there, or came back from the very incarnation that it was sent to. No sockets,
no clock: time comes in as `now`, in seconds.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from .. import protocol
from ..deadlines import Deadlines
from ..envelope import MAX_HOPS, Envelope, MessageId, Pattern
from ..matchmaker.base import MatchMaker, Route
from ..protocol import Accepted, Assigned, Held, Parcel, Returned, Seek
from ..topics import Address
from .figures import Bound, Tally
from .notifications import NotificationStore
from .origins import Origins
from .outgoing import FIRST_PAUSE, LONGEST_PAUSE, Copy, Lane, Outgoing, Source, Target
from .seeking import Seeking

NO_CONSUMER_SECONDS = 2.0
"""How long a host that had no consumer of a bare topic is passed over while another has one."""
REMEMBERED_SECONDS = 30.0
"""How long a host that went down, or was not heard yet, still counts for what it consumes: it may be a restart."""
LATE = 60.0
"""How many seconds longer than it may live it is remembered that a notification was put into the store, and to which host a message went."""
MAX_TURNS = 10_000
"""For so many bare topics it is remembered which host is next."""
TOO_MANY_OF_ONE = Bound("messages_of_one_sender", "too many messages of a sender at {subject} wait here: further ones go back to it as failed")
NOTIFICATION_DROPPED = Bound("notifications", "a notification for {subject} was dropped: nobody listened in time, or there were too many")
RETRIES_AT_ONCE = 200
"""For so many addresses without a host it is looked at each tick whether there is one now."""
MAX_STRANGERS = 100
"""So many hosts that the MatchMaker does not know may be known at a time because messages of this host's services name them."""
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

SendToHost = Callable[[str, "Parcel | Seek"], None]
STORE: Source = ("store", b"")
TellSource: TypeAlias = "Callable[[Source, Accepted | Returned | Held | Assigned], bool]"
"""Returns whether there still is a connection to the source."""
Say = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class ForwardingSettings:
    """What the sender's side needs to know.

    At most `window` messages at a time are under way to one host for one address. A message whose time is over while it is with another host gets
    `grace` seconds more for its verdict. After `all_connected_at` all hosts that connect to a broker of their own accord, and live, have done so.
    `per_source` messages of one service, or of one host for which this one is the broker, and `notifications` to which nobody listens are kept.
    """

    host: str
    incarnation: str
    window: int
    grace: float
    all_connected_at: float
    per_source: int = 100_000
    notifications: int = 10_000


class Forwarding:
    """Routes messages, sends them, and sees to it that each gets a verdict before its time is over."""

    def __init__(self, settings: ForwardingSettings, matchmaker: MatchMaker, send: SendToHost, tell: TellSource, say: Say) -> None:
        """Forward as `matchmaker` says; what is to be sent, told and logged goes to the three functions."""
        self._host = settings.host
        self._settings = settings
        self._matchmaker = matchmaker
        self._send = send
        self._tell_source = tell
        self._say = say
        self._outgoing: dict[MessageId, Outgoing] = {}
        self._origins = Origins()
        self._last: dict[tuple[str, Address], Outgoing] = {}
        self._deadlines: Deadlines[MessageId] = Deadlines()
        self._homeless: dict[Address, OrderedDict[MessageId, Outgoing]] = {}
        self._seeking = Seeking(send)
        self._turns: dict[Address, int] = {}
        self._announced: dict[Address, tuple[str, ...]] = {}
        self._unheard: set[str] = set()
        self._names = dict.fromkeys(LOOPBACK, self._host)
        self._of_source: Counter[Source] = Counter()
        self._notifications = NotificationStore(settings.incarnation, settings.notifications)
        self._senderless: dict[MessageId, Outgoing] = {}
        self.targets: dict[str, Target] = {self._host: Target(self._host, 0.0, settings.incarnation, "")}
        self.tally = Tally("forwarding", "network")

    def _tell(self, source: Source, message: Accepted | Returned | Held | Assigned) -> bool:
        return source == STORE or self._tell_source(source, message)

    # --- messages ------------------------------------------------------------------------------------------------------------------------

    def submit(self, parcel: Parcel, source: Source, now: float) -> None:
        """Take over a message from `source`."""
        envelope = parcel.envelope
        self._origins.settle(envelope.id.origin, envelope.settled)
        if self._origins.too_many:
            self._origins.keep({envelope.id.origin, *(message.origin for message in self._outgoing)})
        went_to = self._origins.host_of(envelope.id)
        known = self._outgoing.get(envelope.id)
        if known is not None:
            self._of_source[source] += 1
            self._leave(known.source)
            known.source = source
            known.told_why = ""
            if self._senderless.pop(envelope.id, None) is not None:
                self._route(known, now)
            elif went_to:
                self._tell(source, Assigned(envelope.id, went_to))
            return
        if envelope.pattern is Pattern.NOTIFICATION and self._notifications.was_adopted(envelope.id):
            self._tell(source, Accepted((envelope.id,)))
            return
        if self._of_source[source] >= self._settings.per_source:
            self.tally.count(f"failed_{protocol.FULL}", envelope)
            self.tally.bounds.hit(TOO_MANY_OF_ONE, envelope.sender, now)
            self._tell(
                source, Returned(envelope.id, protocol.FULL, f"{self._settings.per_source} messages of this sender wait at {self._host} already")
            )
            return
        if envelope.attempt and went_to is not None:
            envelope.host = went_to
        if envelope.hops >= MAX_HOPS:
            text = f"it passed through {MAX_HOPS} receivers, the last {self._host}; do their brokers name each other?"
            self.tally.count(f"failed_{protocol.TOO_MANY_HOPS}", envelope)
            self._tell(source, Returned(envelope.id, protocol.TOO_MANY_HOPS, text))
            return
        outgoing = self._outgoing[envelope.id] = Outgoing(parcel, source, now + envelope.ttl)
        self._of_source[source] += 1
        self.tally.count("submitted", envelope)
        if envelope.address.server and envelope.pattern is not Pattern.REPLY:
            self._line_up(outgoing)
        self._deadlines.set(envelope.id, outgoing.deadline)
        self._route(outgoing, now)

    def _line_up(self, outgoing: Outgoing) -> None:
        envelope = outgoing.parcel.envelope
        last = self._last.get((envelope.id.origin, envelope.address))
        if last is not None:
            last.behind, outgoing.before = outgoing, last
        self._last[(envelope.id.origin, envelope.address)] = outgoing

    def _leave_line(self, outgoing: Outgoing) -> None:
        """Let what stood behind the message stand behind what stood before it: the order holds also when one in between came to nothing."""
        envelope = outgoing.parcel.envelope
        if outgoing.behind is not None:
            outgoing.behind.before = outgoing.before
        elif self._last.get((envelope.id.origin, envelope.address)) is outgoing:
            if outgoing.before is not None:
                self._last[(envelope.id.origin, envelope.address)] = outgoing.before
            else:
                del self._last[(envelope.id.origin, envelope.address)]
        if outgoing.before is not None:
            outgoing.before.behind = outgoing.behind

    def _give_to(self, outgoing: Outgoing, host: str, now: float) -> None:
        """Give a message for a bare topic to a host, unless its sender is not there to hear which: it will send the message again."""
        message = outgoing.parcel.envelope.id
        if self._tell(outgoing.source, Assigned(message, host)):
            self._origins.went(message, host, outgoing.deadline + LATE)
            self._assign(outgoing, (host,), now)
        else:
            self._senderless[message] = outgoing

    def _route(self, outgoing: Outgoing, now: float) -> None:
        envelope = outgoing.parcel.envelope
        if envelope.host:
            self._assign_if_known(outgoing, envelope.host, now)
            return
        route = self._matchmaker.route(envelope.address)
        if route.problem:
            self._keep_homeless(outgoing, now, route.problem)
        elif route.broker and not self.is_here(route.broker):
            if route.ask and envelope.address.bare:
                self._seek(outgoing, route.broker, now)
            else:
                self._assign(outgoing, (route.broker,), now, to_broker=True)
        elif envelope.address.fanout and route.announced and self._matchmaker.dials_back and now < self._settings.all_connected_at:
            self._keep_homeless(outgoing, now, f"the broker {self._host} has just been started and waits for hosts to connect")
        elif not (hosts := self._hosts_of(envelope.address, route, now)):
            self._nobody_consumes(outgoing, route, now)
        elif envelope.address.fanout:
            self._assign(outgoing, hosts, now)
        elif envelope.address.server:
            self._assign_if_known(outgoing, next((host for host in hosts if (known := self._known(host)) and known.incarnation), hosts[0]), now)
        elif (host := self._choose(envelope.address, hosts, outgoing.source, now)) is not None:
            self._give_to(outgoing, host, now)
        else:
            self._keep_homeless(outgoing, now, self._why_none(envelope.address, hosts, now))

    def _nobody_consumes(self, outgoing: Outgoing, route: Route, now: float) -> None:
        """Keep a message until somebody consumes its address; a fanout has reached all who do if it is announced who does."""
        address = outgoing.parcel.envelope.address
        if address.fanout and route.announced:
            self._end(outgoing, None)
        else:
            self._keep_homeless(outgoing, now, f"{self._matchmaker} has no host for {address}: nobody consumes it now")

    def is_here(self, host: str) -> bool:
        """Whether `host` is this very host."""
        return self.name_of(host) == self._host

    def name_of(self, host: str) -> str:
        """Return the name of a host that may be given by its address."""
        return self._names.get(host, host)

    def _hosts_of(self, address: Address, route: Route, now: float) -> tuple[str, ...]:
        """Return the hosts to which a route leads that ends here: one of them for a bare or directed topic, all for a fanout."""
        if not route.announced:
            return route.hosts
        announced = self._announced.get(address) or route.hosts
        if not address.fanout:
            return announced
        may_come_back = sorted(host for host in self._unheard if self._may_be_back(host, now))
        if now < self._settings.all_connected_at and self._host not in announced:
            may_come_back.append(self._host)  # its services may not have reconnected yet
        return announced + tuple(may_come_back) if may_come_back else announced

    def _may_be_back(self, host: str, now: float) -> bool:
        return now - self.targets[host].not_up_since < REMEMBERED_SECONDS

    def _known(self, host: str) -> Target | None:
        return self.targets.get(self.name_of(host))

    def _may_become_known(self, host: str, source: Source) -> bool:
        """Whether a host may be connected to because a message names it: not on another host's word, and only so many on our services'."""
        listed = self._matchmaker.hosts()
        return host in listed or (source[0] == "client" and len(self.targets) <= len(listed) + MAX_STRANGERS)

    def _assign_if_known(self, outgoing: Outgoing, host: str, now: float) -> None:
        if self._known(host) is None and not self._may_become_known(host, outgoing.source):
            self._keep_homeless(outgoing, now, f"host {host} is not one that {self._matchmaker} knows")
        else:
            self._assign(outgoing, (host,), now)

    def _choose(self, address: Address, hosts: tuple[str, ...], source: Source, now: float) -> str | None:
        """Return the next host in turn that is up, has a consumer as far as is known, and does not push back."""
        turn = self._turns.get(address, 0)
        for step in range(len(hosts)):
            index = (turn + step) % len(hosts)
            if self._known(hosts[index]) is None and self._may_become_known(hosts[index], source):
                self.target(hosts[index], now)
            if self._obstacle(hosts[index], address, now) is None:
                if len(self._turns) >= MAX_TURNS and address not in self._turns:
                    self._turns.clear()
                self._turns[address] = index + 1
                return hosts[index]
        return None

    def _obstacle(self, host: str, address: Address, now: float) -> str | None:
        target = self._known(host)
        if target is None:
            return "not known"
        if target.incarnation is None:
            return target.why_not
        if target.consumes is not None and address not in target.consumes and not address.server:
            return "has no consumer of it"
        lane = target.lanes.get(address)
        if lane is not None and now < lane.no_consumer_until:
            return "has no consumer of it"
        if lane is not None and (now < lane.paused_until or len(lane.unsent) + len(lane.sent) >= self._settings.window):
            return "is pushing back"
        return None

    def _why_none(self, address: Address, hosts: tuple[str, ...], now: float) -> str:
        reasons = "; ".join(f"{host}: {self._obstacle(host, address, now)}" for host in hosts[:10])
        more = f"; and {len(hosts) - 10} more" if len(hosts) > 10 else ""
        return f"none of the hosts that {self._matchmaker} has for {address} can take it now ({reasons}{more})"

    def _keep_homeless(self, outgoing: Outgoing, now: float, why: str) -> None:
        envelope = outgoing.parcel.envelope
        # One that may have been taken stays under its own name, by which whoever took it knows it.
        if envelope.pattern is Pattern.NOTIFICATION and not envelope.attempt and envelope.id not in self._notifications:
            outgoing = self._adopt(outgoing, now)
            envelope = outgoing.parcel.envelope
        self._homeless.setdefault(envelope.address, OrderedDict())[envelope.id] = outgoing
        if why != outgoing.told_why:
            outgoing.told_why = why
            self._tell(outgoing.source, Held(envelope.id, why))

    def _adopt(self, outgoing: Outgoing, now: float) -> Outgoing:
        """Put a notification into the store, and return it as it is from now on. The oldest one makes room if there is none."""
        envelope = outgoing.parcel.envelope
        self._forget(outgoing)
        self._tell(outgoing.source, Accepted((envelope.id,)))
        kept = Outgoing(Parcel(self._notifications.adopt(envelope, outgoing.deadline + LATE), outgoing.parcel.body), STORE, outgoing.deadline)
        message = kept.parcel.envelope.id
        self._outgoing[message] = kept
        self._of_source[STORE] += 1
        self._deadlines.set(message, kept.deadline)
        oldest = self._notifications.one_too_many()
        if oldest is not None:
            dropped = self._outgoing[oldest]
            self._end_now(dropped, Returned(oldest, protocol.FULL, "newer notifications needed its place"), now)
        return kept

    def _leave(self, source: Source) -> None:
        self._of_source[source] -= 1
        if not self._of_source[source]:
            del self._of_source[source]

    def _assign(self, outgoing: Outgoing, hosts: Iterable[str], now: float, *, to_broker: bool = False) -> None:
        envelope = outgoing.parcel.envelope
        lanes = []
        for host in hosts:
            target = self.target(host, now)
            lane = target.lanes.get(envelope.address)
            if lane is None:
                lane = target.lanes[envelope.address] = Lane(target.host, envelope.address)
            copy = Copy(outgoing, lane, to_broker, envelope.attempt)
            outgoing.copies[target.host] = lane.unsent[envelope.id] = copy
            lanes.append(lane)
            if target.incarnation is None:
                self._tell(outgoing.source, Held(envelope.id, f"host {host} is not up: {target.why_not}"))
        for lane in lanes:
            self._pump(lane, now)

    def target(self, host: str, now: float) -> Target:
        """Return what is known of `host`, which is made known if it was not."""
        host = self.name_of(host)
        target = self.targets.get(host)
        if target is None:
            target = self.targets[host] = Target(host, now)
            self._unheard.add(host)
        return target

    # --- the broker is asked ---------------------------------------------------------------------------------------------------------------

    def _seek(self, outgoing: Outgoing, broker: str, now: float) -> None:
        """Ask the broker which host shall have the message."""
        target = self.target(broker, now)
        self._seeking.begin(outgoing, target.host, now, is_up=target.incarnation is not None)
        if target.incarnation is None:
            self._tell(outgoing.source, Held(outgoing.parcel.envelope.id, f"the broker {broker} is not up: {target.why_not}"))

    def _found(self, broker: str, assigned: Assigned, now: float) -> None:
        """The broker said which host shall have a message, or which has it by now."""
        outgoing = self._outgoing.get(assigned.message)
        if outgoing is None:
            return
        if broker in outgoing.copies and outgoing.copies[broker].to_broker:
            outgoing.relayed_to = assigned.host
            self._origins.went(assigned.message, assigned.host, outgoing.deadline + LATE)
            self._tell(outgoing.source, assigned)
        elif self._seeking.end(outgoing):
            self._give_to(outgoing, assigned.host, now)
            self._seeking.found_one(outgoing.parcel.envelope.address)

    def _not_found(self, returned: Returned, now: float) -> None:
        """The broker knows no host for a message now."""
        outgoing = self._outgoing.get(returned.message)
        if outgoing is not None and self._seeking.found_none(outgoing, now):
            self._tell(outgoing.source, Held(returned.message, returned.text))

    def find_host(self, seek: Seek, now: float) -> Assigned | Returned:
        """Answer, as the broker, which host shall have a message of another host."""
        route = self._matchmaker.route(seek.address)
        if route.problem or (route.broker and not self.is_here(route.broker)):
            why = route.problem or f"{self._host} was asked as the broker, but its own broker is {route.broker}"
            return Returned(seek.message, protocol.NO_CONSUMER, why)
        hosts = self._hosts_of(seek.address, route, now)
        host = self._choose(seek.address, hosts, ("link", b""), now)
        if host is None:
            why = self._why_none(seek.address, hosts, now) if hosts else f"the broker {self._host} knows nobody who consumes {seek.address} now"
            return Returned(seek.message, protocol.NO_CONSUMER, why)
        return Assigned(seek.message, host)

    def _pump(self, lane: Lane, now: float) -> None:
        """Send what may be sent on the lane."""
        target = self.targets[lane.host]
        while lane.unsent and target.incarnation is not None and now >= lane.paused_until and len(lane.sent) < self._settings.window:
            message, copy = lane.unsent.popitem(last=False)
            lane.sent[message] = copy
            parcel = copy.outgoing.parcel
            if copy.sent_to is None:
                copy.sent_to = target.incarnation
                self.tally.seconds["forwarding"].observe(now - copy.outgoing.deadline + parcel.envelope.ttl)
            copy.sent_at = now
            if copy.attempt:
                self.tally.count("retried", parcel.envelope)
            self._send(lane.host, Parcel(self._written(parcel.envelope, copy, now), parcel.body))

    def _written(self, envelope: Envelope, copy: Copy, now: float) -> Envelope:
        """Return the envelope as it is true now."""
        return envelope.rewritten(
            host="" if copy.to_broker else copy.lane.host,
            ttl=max(0.0, copy.outgoing.deadline - now),
            settled=self._notifications.settled() if envelope.id in self._notifications else self._origins.settled(envelope.id.origin),
            after=copy.outgoing.before.parcel.envelope.id.number if copy.outgoing.before is not None else 0,
            hops=envelope.hops + 1,
            attempt=copy.attempt,
        )

    # --- verdicts ------------------------------------------------------------------------------------------------------------------------

    def verdict(self, host: str, verdict: Accepted | Returned | Held | Assigned, now: float) -> None:
        """Take in what `host` says of messages that were sent to it, or that it was asked about."""
        if isinstance(verdict, Assigned):
            self._found(host, verdict, now)
        elif isinstance(verdict, Accepted):
            for message in verdict.messages:
                self._copy_accepted(host, message, now)
        elif isinstance(verdict, Held):
            outgoing = self._outgoing.get(verdict.message)
            if outgoing is not None and host in outgoing.copies:
                self._tell(outgoing.source, verdict)
        else:
            outgoing = self._outgoing.get(verdict.message)
            if outgoing is not None and host in outgoing.copies:
                self._copy_returned(outgoing, host, verdict, now)
            else:
                self._not_found(verdict, now)

    def _copy_accepted(self, host: str, message: MessageId, now: float) -> None:
        outgoing = self._outgoing.get(message)
        copy = outgoing.copies.get(host) if outgoing is not None else None
        if outgoing is None or copy is None:
            return
        copy.lane.pause = FIRST_PAUSE
        if host != self._host:
            self.tally.seconds["network"].observe(now - copy.sent_at)
        self._end_copy(outgoing, host, None, now)

    def _end_copy(self, outgoing: Outgoing, host: str, failure: str | None, now: float) -> None:
        message = outgoing.parcel.envelope.id
        lane = outgoing.copies.pop(host).lane
        lane.sent.pop(message, None)
        lane.unsent.pop(message, None)
        if failure:
            outgoing.failures.append(failure)
        if not outgoing.copies:
            reason = Returned(message, protocol.EXPIRED, "; ".join(outgoing.failures)) if outgoing.failures else None
            self._end(outgoing, reason)
        self._pump(lane, now)
        if outgoing.parcel.envelope.address in self._homeless:
            self._retry_homeless(outgoing.parcel.envelope.address, now)

    def _end(self, outgoing: Outgoing, failure: Returned | None) -> None:
        message = outgoing.parcel.envelope.id
        self._forget(outgoing)
        if failure is None:
            self.tally.count("accepted", outgoing.parcel.envelope)
            self._tell(outgoing.source, Accepted((message,)))
            return
        self.tally.count(f"failed_{failure.reason}", outgoing.parcel.envelope)
        if outgoing.parcel.envelope.pattern is not Pattern.CALL and outgoing.source[0] == "client":
            self._say(logging.WARNING, f"{outgoing.parcel.envelope} was not handed over ({failure.reason}): {failure.text}")
        self._tell(outgoing.source, failure)

    def _forget(self, outgoing: Outgoing) -> None:
        message = outgoing.parcel.envelope.id
        del self._outgoing[message]
        self._deadlines.discard(message)
        self._leave(outgoing.source)
        self._notifications.end(message)
        self._leave_line(outgoing)

    def _hand_back(self, outgoing: Outgoing, returned: Returned) -> None:
        """As a broker, let the sender's receiver send a message here anew: it may not hear in time that the message goes to another host now."""
        self._forget(outgoing)
        self._origins.never_went(outgoing.parcel.envelope.id)
        self._tell(outgoing.source, returned)

    def _copy_returned(self, outgoing: Outgoing, host: str, returned: Returned, now: float) -> None:
        envelope = outgoing.parcel.envelope
        copy = outgoing.copies[host]
        lane = copy.lane
        certain = copy.sent_to == self.targets[host].incarnation and not envelope.attempt
        if returned.reason == protocol.NO_CONSUMER:
            lane.no_consumer_until = now + NO_CONSUMER_SECONDS
        if returned.reason == protocol.NO_CONSUMER and envelope.address.fanout:
            self._end_copy(outgoing, host, None, now)
        elif returned.reason in (protocol.NO_CONSUMER, protocol.FULL, protocol.DRAINING) and envelope.address.bare and certain and not envelope.host:
            if returned.reason != protocol.NO_CONSUMER:
                self._pause(lane, now)
            self._take_back(copy)
            if outgoing.relayed_to:
                outgoing.relayed_to = ""
                self._origins.went(envelope.id, "", outgoing.deadline + LATE)
            if outgoing.source[0] == "link":
                self._hand_back(outgoing, returned)
            else:
                self._route(outgoing, now)
        elif returned.reason in (protocol.NO_CONSUMER, protocol.FULL, protocol.DRAINING, protocol.EARLIER_MISSING):
            self._pause(lane, now)
            self._send_again(copy)
            if returned.text:
                self._tell(outgoing.source, Held(envelope.id, returned.text))
        else:
            self._end_copy(outgoing, host, returned.text or f"returned by {host}: {returned.reason}", now)

    def _pause(self, lane: Lane, now: float) -> None:
        if now >= lane.paused_until:
            lane.paused_until = now + lane.pause
            lane.pause = min(LONGEST_PAUSE, lane.pause * 2)

    def _take_back(self, copy: Copy) -> None:
        """Let the copy's host have nothing to do with the message any more."""
        message = copy.outgoing.parcel.envelope.id
        copy.lane.sent.pop(message, None)
        copy.lane.unsent.pop(message, None)
        del copy.outgoing.copies[copy.lane.host]

    @staticmethod
    def _send_again(copy: Copy) -> None:
        """Put a copy that was sent back among the unsent ones, in the order of their numbers."""
        lane = copy.lane
        message = copy.outgoing.parcel.envelope.id
        if lane.sent.pop(message, None) is None:
            return
        later = [other for other in lane.unsent if other.origin == message.origin and other.number > message.number]
        lane.unsent[message] = copy
        for other in later:
            lane.unsent.move_to_end(other)

    # --- hosts ---------------------------------------------------------------------------------------------------------------------------

    def host_up(self, host: str, incarnation: str, now: float) -> None:
        """`host` can be sent to. What it was sent before goes to it again, first and in order: it knows what it took."""
        target = self.target(host, now)
        target.incarnation = incarnation
        target.why_not = ""
        for lane in list(target.lanes.values()):
            again = lane.sent
            lane.sent = OrderedDict()
            for copy in again.values():
                copy.attempt += 1
            again.update(lane.unsent)
            lane.unsent = again
            lane.paused_until = lane.no_consumer_until = 0.0
            lane.pause = FIRST_PAUSE
            self._pump(lane, now)
        self._seeking.broker_up(host)
        for address in list(self._homeless):
            self._retry_homeless(address, now)

    def announced(self, host: str, addresses: Iterable[Address], now: float, *, complete: bool = True) -> None:
        """Take in what services on `host` consume: all of it, or with `complete` false, what is to be added to what is known."""
        target = self.target(host, now)
        before = target.consumes or frozenset()
        target.consumes = frozenset(addresses) if complete else before.union(addresses)
        if complete:
            self._unheard.discard(target.host)
        self._index(host, before, target.consumes)
        for address in sorted(target.consumes - before, key=str):
            lane = target.lanes.get(address)
            if lane is not None:
                lane.no_consumer_until = 0.0
            if address in self._homeless:
                self._retry_homeless(address, now)

    def _index(self, host: str, before: frozenset[Address], after: frozenset[Address]) -> None:
        for address in before - after:
            hosts = tuple(other for other in self._announced[address] if other != host)
            if hosts:
                self._announced[address] = hosts
            else:
                del self._announced[address]
        for address in after - before:
            self._announced[address] = tuple(sorted({*self._announced.get(address, ()), host}))

    def _forget_announced(self, target: Target) -> None:
        self._index(target.host, target.consumes or frozenset(), frozenset())
        target.consumes = None
        self._unheard.discard(target.host)

    def is_called(self, address: str, host: str, now: float) -> None:
        """Whoever answers at `address` is `host`, perhaps this very one. What goes there goes to `host`, until that is down."""
        self._names[address] = host
        target = self.targets.pop(address)
        self._forget_announced(target)
        for lane in target.lanes.values():
            for copy in [*lane.sent.values(), *lane.unsent.values()]:
                del copy.outgoing.copies[address]
                self._route(copy.outgoing, now)
        self._reroute_seekers(address, now)
        self.target(host, now)

    def _reroute_seekers(self, broker: str, now: float) -> None:
        for outgoing in self._seeking.without(broker):
            self._route(outgoing, now)

    def host_down(self, host: str, why: str, now: float) -> None:
        """`host` can't be sent to. What it can't have goes elsewhere, what it may have waits for it."""
        target = self.target(host, now)
        if target.incarnation is not None:
            target.not_up_since = now
        target.incarnation = None
        target.why_not = why
        self._names = {address: name for address, name in self._names.items() if name != host or address in LOOPBACK}
        self._reroute_seekers(host, now)
        for lane in list(target.lanes.values()):
            for message, copy in [*lane.unsent.items(), *lane.sent.items()]:
                outgoing = copy.outgoing
                if lane.address.bare and copy.sent_to is None and not outgoing.parcel.envelope.host:
                    self._take_back(copy)
                    self._route(outgoing, now)
                elif copy.to_broker and outgoing.relayed_to:
                    self._go_directly(copy, now)
                else:
                    self._tell(outgoing.source, Held(message, f"host {host} is not up: {why}"))

    def _go_directly(self, copy: Copy, now: float) -> None:
        """Send a message whose broker is gone to the host that the broker gave it to, and nowhere else: it may have it."""
        outgoing = copy.outgoing
        self._take_back(copy)
        outgoing.parcel.envelope.host = outgoing.relayed_to
        outgoing.parcel.envelope.attempt += 1
        self._assign_if_known(outgoing, outgoing.relayed_to, now)

    def forget_host(self, host: str) -> None:
        """Drop what is known of a host for which nothing is on its way."""
        self._forget_announced(self.targets.pop(host))

    def replace_matchmaker(self, matchmaker: MatchMaker, now: float) -> None:
        """Go by `matchmaker` from now on."""
        self._matchmaker = matchmaker
        for address in list(self._homeless):
            self._retry_homeless(address, now)

    @property
    def matchmaker(self) -> MatchMaker:
        """Return the MatchMaker that is gone by."""
        return self._matchmaker

    def _retry_homeless(self, address: Address, now: float) -> None:
        waiting = self._homeless.pop(address)
        while waiting:
            message, outgoing = waiting.popitem(last=False)
            if message not in self._outgoing:
                continue
            self._route(outgoing, now)
            if message in self._homeless.get(address, ()):
                self._homeless[address].update(waiting)
                return

    # --- time ----------------------------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Send what was held back long enough, and end what is due."""
        self._seeking.tick(now)
        for target in self.targets.values():
            if target.incarnation is None and target.consumes is not None and not self._may_be_back(target.host, now):
                self._forget_announced(target)
            for address, lane in list(target.lanes.items()):
                self._pump(lane, now)
                if not lane.unsent and not lane.sent and now >= max(lane.no_consumer_until, lane.paused_until):
                    del target.lanes[address]
        # each goes to the end of the line, so that all have their turn
        for address in list(itertools.islice(self._homeless, RETRIES_AT_ONCE)):
            self._retry_homeless(address, now)
        self._origins.forget(now)
        for message in self._deadlines.due(now):
            if message in self._outgoing:
                self._time_is_over(self._outgoing[message], now)
        self._notifications.forget(now)

    def _time_is_over(self, outgoing: Outgoing, now: float) -> None:
        message = outgoing.parcel.envelope.id
        if not outgoing.in_grace and any(copy.sent_to is not None for copy in outgoing.copies.values()):
            outgoing.in_grace = True
            self._deadlines.set(message, now + self._settings.grace)
            return
        self._end_now(outgoing, None, now)

    def _end_now(self, outgoing: Outgoing, failure: Returned | None, now: float) -> None:
        """End a message wherever it is; without a `failure`, its time is over."""
        address = outgoing.parcel.envelope.address
        message = outgoing.parcel.envelope.id
        if self._senderless.pop(message, None) is not None:
            outgoing.failures.append("its sender is gone")
        homeless = self._homeless.get(address)
        if homeless is not None and homeless.pop(message, None) is not None:
            if not homeless:
                del self._homeless[address]
            route = self._matchmaker.route(address)
            hosts = self._hosts_of(address, route, now)
            nobody = f"{self._matchmaker} has no host for {address}: nobody consumes it"
            outgoing.failures.append(route.problem or (self._why_none(address, hosts, now) if hosts else nobody))
        if self._seeking.end(outgoing):
            outgoing.failures.append("the broker named no host for it")
        for host, copy in list(outgoing.copies.items()):
            outgoing.failures.append(self._why_late(host, copy))
            self._take_back(copy)
        if outgoing.source == STORE:
            self.tally.bounds.hit(NOTIFICATION_DROPPED, str(address), now)
        self._end(outgoing, failure or Returned(message, protocol.EXPIRED, "; ".join(outgoing.failures)))

    def _why_late(self, host: str, copy: Copy) -> str:
        target = self.targets[host]
        state = f"is not up ({target.why_not})" if target.incarnation is None else "did not say what became of it"
        sent = "it was sent there and may have been taken" if copy.sent_to is not None else "it was not sent there"
        return f"host {host} {state}; {sent}"

    @property
    def notifications(self) -> int:
        """Return how many notifications wait in the store."""
        return len(self._notifications)

    @property
    def idle(self) -> bool:
        """Whether no message is on its way."""
        return not self._outgoing

    def homeless(self) -> Iterable[tuple[Address, int]]:
        """Return the addresses that no host serves now, and how many messages wait for one, for status."""
        return [(address, len(messages)) for address, messages in self._homeless.items()]

    def route_of(self, address: Address, now: float) -> tuple[Route, list[tuple[str, str]], str | None]:
        """Return where `address` leads, each host's obstacle (empty for none), and the host that is next in turn."""
        route = self._matchmaker.route(address)
        hosts = self._hosts_of(address, route, now)
        obstacles = [(host, self._obstacle(host, address, now) or "") for host in hosts]
        turn = self._turns.get(address, 0) % max(1, len(obstacles))
        free = [host for host, obstacle in obstacles[turn:] + obstacles[:turn] if not obstacle]
        return route, obstacles, free[0] if free and address.bare else None

    def consumers_of(self, address: Address, now: float) -> list[str]:
        """Return the hosts that can take a message for `address` now, as far as is known: a broker, if it is for it to know."""
        route = self._matchmaker.route(address)
        if route.broker and not self.is_here(route.broker):
            return [route.broker]
        known = [(host, self._known(host)) for host in self._hosts_of(address, route, now)]
        return [
            host
            for host, target in known
            if target is not None and target.incarnation is not None and (target.consumes is None or address in target.consumes)
        ]

    def exchanges_of(self, address: Address) -> list[str]:
        """Return the exchanges in which the bare topic of `address` is consumed in its namespace, as far as hosts announced it."""
        topic = Address(address.topic, namespace=address.namespace)
        return sorted(announced.exchange for announced in self._announced if announced._replace(exchange="") == topic)
