"""One UA session of the test OpenSIPS: an entity of its module b2b_entities (dlg.h), as `ua_session_list` shows it."""

from __future__ import annotations

import enum
import re
from typing import Final, Literal

import attrs
import trio

from aivc.config.settings import Address
from aivc.sip.address import NameAddr
from aivc.sip.dialog import Dialog
from aivc.testing.opensips_transactions import ClientTransaction, ServerTransaction
from aivc.testing.schema import Json

KEY: Final = re.compile(r"B2B\.(\d+)\.(\d+)\.")
METHODS: Final = ("INVITE", "CANCEL", "ACK", "BYE", "INFO", "OPTIONS", "UPDATE", "REGISTER", "MESSAGE", "SUBSCRIBE")
METHOD_BITS: Final = {name: 1 << bit for bit, name in enumerate((*METHODS, "NOTIFY", "PRACK", "REFER", "PUBLISH"))}

EntityType = Literal["UAS", "UAC"]


class State(enum.IntEnum):
    """As the list has them; their order matters."""

    NEW = 1
    EARLY = 3  # only of a UAC entity: a 1xx of ours leaves an UAS entity in NEW
    CONFIRMED = 4  # 2xx sent or received
    ESTABLISHED = 5  # and acknowledged
    MODIFIED = 6  # re-INVITE; where it stays when that is refused
    TERMINATED = 7


@attrs.define(eq=False, kw_only=True)
class UaSession:
    """One entity.

    Attributes:
      index: what commands find it by: two numbers of the key, whatever the rest of it says.
      flags: of ua_session_server_init or ua_session_client_start, without t.
      dialog: None while no response has made it (UAC).
      peer: where the other side was met.
      contact: our own URI.
      uas: the request that waits for the connector's answer, INVITE until its ACK; one at a time.
      update: the same for UPDATE.
      uac: our INVITE that waits for its answer.
      has_outlived_timer: the session timer ran out before the answer, which frees nothing.
      opened_at, terminated_at: trio's clock; the latter when it reached state 7.
    """

    key: str
    entity_type: EntityType
    flags: frozenset[str]
    call_id: str
    caller: NameAddr  # From of the INVITE
    callee: NameAddr
    contact: str
    peer: Address
    opened_at: float = attrs.field(factory=trio.current_time)
    dialog: Dialog | None = attrs.field(default=None, repr=False)
    ruri: str | None = None
    state: State = State.NEW
    last_invite_cseq: int = 1
    last_method: str = ""
    last_reply_code: int = 0
    uas: ServerTransaction | None = None
    update: ServerTransaction | None = None
    uac: ClientTransaction | None = None
    terminated_at: float | None = None
    has_outlived_timer: bool = False

    @property
    def index(self) -> tuple[int, int]:
        found = read_key(self.key)
        assert found is not None
        return found

    @property
    def waiting(self) -> tuple[ServerTransaction, ...]:
        """Requests that the connector has not answered."""
        return tuple(each for each in (self.uas, self.update) if each is not None and each.status < 200)

    @property
    def is_stuck(self) -> bool:
        """Whether it is a call of ours that was refused, and whose entity nothing frees."""
        return self.entity_type == "UAC" and self.state < State.CONFIRMED and self.uac is None

    @property
    def is_being_cancelled(self) -> bool:
        """Whether it was ended while an INVITE of ours was open: the answer to that, or the lack of one, frees it."""
        return self.state is State.TERMINATED and self.uac is not None

    def move(self, state: State, now: float) -> None:
        self.terminated_at = now if state is State.TERMINATED else None
        self.state = state

    def step(self, method: str, now: float) -> None:
        """What a request of either side does to the state (set_dlg_state in dlg.c)."""
        if method == "INVITE":
            self.move(State.MODIFIED, now)
        elif method in ("CANCEL", "BYE"):
            self.move(State.TERMINATED, now)
        elif method == "ACK" and self.state is State.CONFIRMED:
            self.move(State.ESTABLISHED, now)

    def listed(self, socket: Address) -> Json:
        """What `ua_session_list` says of it."""
        local_cseq = self.last_invite_cseq if self.dialog is None else self.dialog.local_cseq
        remote_cseq = 0 if self.dialog is None else 1  # never counted on
        is_server = self.entity_type == "UAS"
        remote_contact = "" if self.dialog is None else str(self.dialog.remote_target)
        contacts = (remote_contact, self.contact) if is_server else (self.contact, remote_contact)
        cseqs = (remote_cseq, local_cseq) if is_server else (local_cseq, remote_cseq)
        told: Json = {
            "dlg": self.index[1],
            "logic_key": "",
            "mod_name": "b2b_entities",
            "state": int(self.state),
            "last_invite_cseq": self.last_invite_cseq,
            "last_method": METHOD_BITS.get(self.last_method, 0),
        }
        if self.last_reply_code:
            told["last_reply_code"] = self.last_reply_code
        told["db_flag"] = 0 if self.dialog is None else 2
        if self.ruri is not None:
            told["ruri"] = self.ruri
        told["callid"] = self.call_id
        told |= {"from": self.caller.display_name, "from_uri": str(self.caller.uri), "from_tag": self.caller.tag or ""}
        told |= {"to": self.callee.display_name, "to_uri": str(self.callee.uri), "to_tag": self._callee_tag}
        told["cseq"] = dict(zip(("caller", "callee"), cseqs, strict=True))
        told["contact"] = dict(zip(("caller", "callee"), contacts, strict=True))
        told["send_sock"] = socket[0]
        pending = (("uac", self.uac), ("uas", self.uas), ("update", self.update))
        for name, transaction in pending:
            if transaction is not None:
                told["tm_tran"] = name
        if not is_server and self.dialog is not None:
            leg = {"id": 0, "tag": self.dialog.remote_tag, "cseq": self.last_invite_cseq, "contact": remote_contact}
            told["LEGS"] = [leg]
        return told

    @property
    def _callee_tag(self) -> str:
        if self.entity_type == "UAS":
            return self.key
        return "" if self.dialog is None else self.dialog.remote_tag


def read_key(key: str) -> tuple[int, int] | None:
    """The two numbers of a session key that count; None: it has not the form of one."""
    found = KEY.match(key)
    return None if found is None else (int(found[1]), int(found[2]))
