"""A telephone made of PJSIP: calls a URI, or waits for calls and answers them; plays one WAV file to them and records
what it hears into another.

Run by an interpreter that has the module `pjsua2`, which is not the one that runs the tests; its argument is JSON, see
`interop.pjsip.options`.

Prints `listening 127.0.0.1:5060`, `state CALLING`, `state CONFIRMED`, `media`, `state DISCONNECTED 200 Normal call
clearing`. Lines on standard input: `hang up`; `hold`, `resume`, `update`; `press 42#` sends keys as RFC 4733 events,
`info 42#` by INFO; `call URI` makes another call, `join 0 1` has the other side of the first call take our place in the
second (attended transfer), `count` prints RTCP's figures. Follows a REFER by calling its target, then prints `transfer
URI`; prints `heard 4` for each key of the other side, `replaced` when a call takes the place of another. Ends when it
had a call and all of them are over; if it is only called, after the line `quit`.
"""

from __future__ import annotations

import json
import select
import sys
from typing import Any

import pjsua2  # type: ignore[import-not-found]  # in a virtual environment of its own

POLL_MS = 10
TRANSPORTS = {
    "udp": pjsua2.PJSIP_TRANSPORT_UDP,
    "tcp": pjsua2.PJSIP_TRANSPORT_TCP,
    "tls": pjsua2.PJSIP_TRANSPORT_TLS,
}


class Telephone:
    """The calls that there were, and what all of them play and record."""

    def __init__(self, account: Account, player: pjsua2.AudioMedia, recorder: pjsua2.AudioMedia) -> None:
        self.account = account
        self.player = player
        self.recorder = recorder
        self.calls: list[WavCall] = []
        self.may_quit = False

    @property
    def is_done(self) -> bool:
        return self.may_quit and bool(self.calls) and all(call.is_over for call in self.calls)

    def add(self, call_id: int = pjsua2.PJSUA_INVALID_ID) -> WavCall:
        call = WavCall(self, call_id)
        self.calls.append(call)
        return call

    def obey(self, line: str) -> None:
        """Do what a line of standard input says."""
        word, _, rest = line.strip().partition(" ")
        current = next((call for call in reversed(self.calls) if not call.is_over), None)
        if word == "quit":
            self.may_quit = True
        elif word == "call":
            self.add().makeCall(rest, pjsua2.CallOpParam(True))
        elif word == "join":
            stays, leads = (self.calls[int(number)] for number in rest.split())
            stays.xferReplaces(leads, pjsua2.CallOpParam(True))
        elif current is not None:
            current.obey(word, rest)


class WavCall(pjsua2.Call):  # type: ignore[misc]  # pjsua2 has no types
    """One call; what PJSIP tells of it comes in through the `on...` methods, from `libHandleEvents`."""

    def __init__(self, telephone: Telephone, call_id: int) -> None:
        super().__init__(telephone.account, call_id)
        self.telephone = telephone
        self.is_over = False

    def obey(self, word: str, rest: str) -> None:
        parameters: Any  # of two kinds
        if word == "hang":
            self.hangup(pjsua2.CallOpParam())
        elif word == "hold":
            self.setHold(pjsua2.CallOpParam())
        elif word == "resume":
            parameters = pjsua2.CallOpParam(True)
            parameters.opt.flag = pjsua2.PJSUA_CALL_UNHOLD
            self.reinvite(parameters)
        elif word == "update":
            self.update(pjsua2.CallOpParam(True))
        elif word == "press":
            self.dialDtmf(rest)
        elif word == "info":
            parameters = pjsua2.CallSendDtmfParam()
            parameters.method, parameters.digits = pjsua2.PJSUA_DTMF_METHOD_SIP_INFO, rest
            self.sendDtmf(parameters)
        elif word == "count":
            self.count()

    def count(self) -> None:
        """Print what was sent and received, and what the other side's reports said of it."""
        figures = self.getStreamStat(0).rtcp
        told = {
            "received": figures.rxStat.pkt,
            "lost": figures.rxStat.loss,
            "lost_there": figures.txStat.loss,
            "reports": figures.txStat.updateCount,  # of the other side, on what we send
            "round_trips": figures.rttUsec.n,  # computed from its reports on ours
        }
        print("figures", json.dumps(told), flush=True)

    def onDtmfDigit(self, prm: pjsua2.OnDtmfDigitParam) -> None:
        print("heard", prm.digit, flush=True)

    def onCallTransferRequest(self, prm: pjsua2.OnCallTransferRequestParam) -> None:
        print("transfer", prm.dstUri, flush=True)
        prm.newCall = self.telephone.add()

    def onCallTransferStatus(self, prm: pjsua2.OnCallTransferStatusParam) -> None:
        if prm.finalNotify and prm.statusCode // 100 == 2:
            self.hangup(pjsua2.CallOpParam())

    def onCallReplaced(self, prm: pjsua2.OnCallReplacedParam) -> None:
        print("replaced", flush=True)
        prm.newCall = self.telephone.add(prm.newCallId)

    def onCallState(self, _prm: object) -> None:
        info = self.getInfo()
        self.is_over = info.state == pjsua2.PJSIP_INV_STATE_DISCONNECTED
        print("state", info.stateText, *([info.lastStatusCode, info.lastReason] if self.is_over else []), flush=True)

    def onCallMediaState(self, _prm: object) -> None:
        info = self.getInfo()
        if all(media.status != pjsua2.PJSUA_CALL_MEDIA_ACTIVE for media in info.media):
            return  # on hold
        audio = self.getAudioMedia(-1)
        self.telephone.player.startTransmit(audio)
        audio.startTransmit(self.telephone.recorder)
        print("media", flush=True)


class Account(pjsua2.Account):  # type: ignore[misc]  # as above
    """Answers whoever calls."""

    telephone: Telephone

    def onIncomingCall(self, prm: pjsua2.OnIncomingCallParam) -> None:
        answer = pjsua2.CallOpParam(True)
        answer.statusCode = 200
        self.telephone.add(prm.callId).answer(answer)


def endpoint_for(told: dict[str, Any]) -> pjsua2.Endpoint:
    """PJSIP without a sound card at 8000 Hz, with this codec alone and nothing that alters audio."""
    config = pjsua2.EpConfig()
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    config.logConfig.consoleLevel = 1
    config.medConfig.clockRate = 8000
    config.medConfig.sndClockRate = 8000
    config.medConfig.ecTailLen = 0
    config.medConfig.noVad = True
    endpoint = pjsua2.Endpoint()
    endpoint.libCreate()
    endpoint.libInit(config)
    number = endpoint.transportCreate(TRANSPORTS[told["transport"]], transport_of(told))
    print("listening", endpoint.transportGetInfo(number).localName, flush=True)
    endpoint.libStart()
    endpoint.audDevManager().setNullDev()
    for known in endpoint.codecEnum2():
        endpoint.codecSetPriority(known.codecId, 255 if known.codecId.startswith(f"{told['codec']}/") else 0)
        parameters = endpoint.codecGetParam(known.codecId)
        parameters.setting.plc = False  # it would blend the frames after a gap with what it invented for the gap
        endpoint.codecSetParam(known.codecId, parameters)
    return endpoint


def transport_of(told: dict[str, Any]) -> pjsua2.TransportConfig:
    """Servers must have a certificate that our authority has signed for the address that we call."""
    transport = pjsua2.TransportConfig()
    transport.boundAddress = "127.0.0.1"
    if told["authority"]:
        tls = transport.tlsConfig
        tls.CaListFile, tls.certFile, tls.privKeyFile = told["authority"], told["certificate"], told["certificate"]
        tls.verifyServer = True
    return transport


def account_of(told: dict[str, Any]) -> Account:
    config = pjsua2.AccountConfig()
    user, password = told["credentials"] or ("pjsip", None)
    config.idUri = f"sip:{user}@127.0.0.1"
    if password is not None:
        config.sipConfig.authCreds.append(pjsua2.AuthCredInfo("digest", "*", user, 0, password))
    config.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
    if told["srtp"]:
        config.mediaConfig.srtpUse = pjsua2.PJMEDIA_SRTP_MANDATORY
        config.mediaConfig.srtpSecureSignaling = 0  # keys may go over UDP here
        suite = pjsua2.SrtpCrypto()
        suite.name, suite.flags = told["srtp"], 0
        config.mediaConfig.srtpOpt.cryptos.append(suite)
        config.mediaConfig.srtpOpt.keyings.append(pjsua2.PJMEDIA_SRTP_KEYING_SDES)
    if told["reliable"]:
        config.callConfig.prackUse = pjsua2.PJSUA_100REL_MANDATORY
    if told["session_seconds"]:
        config.callConfig.timerUse = pjsua2.PJSUA_SIP_TIMER_REQUIRED
        config.callConfig.timerSessExpiresSec = told["session_seconds"]
    account = Account()
    account.create(config)
    return account


def main(told: dict[str, Any]) -> None:
    endpoint = endpoint_for(told)
    account = account_of(told)
    player, recorder = pjsua2.AudioMediaPlayer(), pjsua2.AudioMediaRecorder()
    player.createPlayer(told["to_play"], pjsua2.PJMEDIA_FILE_NO_LOOP)
    recorder.createRecorder(told["to_record"])
    telephone = account.telephone = Telephone(account, player, recorder)
    if told["uri"]:
        telephone.may_quit = True
        telephone.obey(f"call {told['uri']}")
    while not telephone.is_done:
        endpoint.libHandleEvents(POLL_MS)
        if select.select([sys.stdin], [], [], 0)[0]:
            telephone.obey(sys.stdin.readline())
    telephone.calls.clear()
    del account.telephone
    del telephone, player, recorder, account  # in this order, and before the library: PJSIP asserts otherwise
    endpoint.libDestroy()


main(json.loads(sys.argv[1]))
