"""Whatever the branches of a forked call answer, and in whatever order, nobody is left hanging."""

from __future__ import annotations

from collections import Counter

import trio
from hypothesis import given
from hypothesis import strategies as st
from paper_flow import PaperFlow, PaperTransports, reply, tokens

from aivc.sip.flow import Flow
from aivc.sip.message import Request
from aivc.sip.outgoing import Answered, Invitation, OutgoingCall
from aivc.sip.timers import Timers
from aivc.sip.transaction_layer import TransactionLayer

FORKS = ("a", "b", "c")
CONTACT = ("Contact", "<sip:x@192.0.2.10:5060>")
Steps = st.lists(
    st.tuples(
        st.sampled_from([100, 180, 183, 200, 200, 302, 401, 407, 486]), st.sampled_from(FORKS), st.integers(0, 3)
    ),
    max_size=12,
)


class Everybody:
    """A password for whoever asks."""

    def answer(self, request: Request, response: object, peer: object) -> tuple[str, str]:
        return "Authorization", "Digest x"


async def play(steps: list[tuple[int, str, int]], give_up_before: int) -> tuple[PaperFlow, OutgoingCall, set[str]]:
    """The callee's side; returns whose first 2xx has come to a live INVITE."""
    near = PaperFlow()
    flow: Flow = near
    layer = TransactionLayer(Timers(), tokens(), PaperTransports())
    plain = Invitation(target="sip:x@example.com", caller="sip:y@example.com", offer=b"v=0", flow=flow)
    call = OutgoingCall(layer, plain, Everybody())
    call.start()
    for number, (status, tag, rseq) in enumerate(steps):
        if number == give_up_before:
            call.abandon("given up")
        invite = [request for request in near.requests if request.method == "INVITE"][-1]
        reliable = (("Require", "100rel"), ("RSeq", str(rseq))) if status in (180, 183) and rseq else ()
        layer.receive_response(reply(invite, status, CONTACT, *reliable, tag=tag, body=b"v=0"))
    answered = {tag for tag, ack in call._transaction._acks.items() if ack is not None}
    if isinstance(call.outcome, Answered):
        answered.add(call.outcome.dialog.remote_tag)
    return near, call, answered


@given(steps=Steps, give_up_before=st.integers(0, 14))
def test_any_answers_of_any_forks_leave_one_call_at_most(
    steps: list[tuple[int, str, int]], give_up_before: int
) -> None:
    near, call, answered = trio.run(play, steps, give_up_before)
    is_given_up = give_up_before < len(steps)
    kept = call.outcome.dialog.remote_tag if isinstance(call.outcome, Answered) and not is_given_up else None
    byes = [request.to.tag for request in near.requests if request.method == "BYE"]
    assert sorted(filter(None, byes)) == sorted(answered - {kept})
    methods = Counter(near.methods)
    assert methods["INVITE"] <= 3
    assert methods["CANCEL"] <= 1
    assert not (methods["CANCEL"] and kept)
    racks = [(request.to.tag, request.header("RAck")) for request in near.requests if request.method == "PRACK"]
    assert len(racks) == len(set(racks))
    cseqs = [(r.to.tag, r.cseq.number) for r in near.requests if r.method in ("PRACK", "BYE")]
    assert len(cseqs) == len(set(cseqs))
