"""Our requests in a dialog that a peer made: whence they come, and which way they go."""

from __future__ import annotations

import attrs

from aivc.config.settings import Address
from aivc.sip.address import MAGIC_COOKIE, Via, format_host_port
from aivc.sip.dialog import Dialog, reachable_address
from aivc.sip.inspection import Fields
from aivc.sip.transaction_layer import ClientTransaction, ServerTransaction, TransactionLayer


@attrs.define(eq=False, repr=False)
class DialogClient:
    """The client half of one dialog.

    Args:
      transaction: of the peer's INVITE.
    """

    dialog: Dialog
    transaction: ServerTransaction
    layer: TransactionLayer

    def send(self, method: str, fields: Fields) -> ClientTransaction:
        """Send a request with these header fields beside those of the dialog."""
        parameters = (("branch", MAGIC_COOKIE + self.layer.new_token()), ("rport", None))
        host, port = self.address
        request = self.dialog.request(method, Via(host, port, "UDP", parameters), fields)
        return self.layer.send(request, self.transaction.arrival.listener, self.next_address)

    @property
    def host(self) -> str:
        return self.transaction.arrival.local_host

    @property
    def address(self) -> Address:
        """Our own, as the peer must see it."""
        return self.host, self.transaction.arrival.listener.address[1]

    @property
    def contact(self) -> str:
        """The URI that the peer's requests in the dialog are to name."""
        return f"sip:{format_host_port(*self.address)}"

    @property
    def contact_field(self) -> tuple[str, str]:
        return "Contact", f"<{self.contact}>"

    @property
    def next_address(self) -> Address:
        """Where our requests go. A phone that names one host in Via and Contact and sends from another sits behind a
        NAT that it does not know of, and only the way back through that NAT reaches it (RFC 3581 section 1)."""
        hop, sent_by = self.dialog.next_hop, self.transaction.request.via.host
        source = self.transaction.arrival.source
        if not self.dialog.route_set and hop.host == sent_by != source[0]:
            return source
        return reachable_address(hop, otherwise=source)
