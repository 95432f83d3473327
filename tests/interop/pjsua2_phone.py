"""A telephone made of PJSIP: calls a URI, plays one WAV file to it and records what it hears into another.

Run by an interpreter that has the module `pjsua2`, which is not the one that runs the tests:

    python pjsua2_phone.py sip:1000@127.0.0.1:5060 PCMU in.wav out.wav

Prints `state CALLING`, `state CONFIRMED`, `media`, `state DISCONNECTED 200 Normal call clearing`. Lines on standard
input: `hang up`; `hold`, `resume`; `press 42#` sends keys as RFC 4733 events, `info 42#` by INFO. Follows a REFER by
calling its target, then prints `transfer URI`; prints `heard 4` for each key of the other side. Ends when the call and
the one to the target are over.
"""

from __future__ import annotations

import select
import sys
from typing import Any

import pjsua2  # type: ignore[import-not-found]  # in a virtual environment of its own

POLL_MS = 10


class WavCall(pjsua2.Call):  # type: ignore[misc]  # pjsua2 has no types
    """One call; what PJSIP tells of it comes in through the `on...` methods, from `libHandleEvents`."""

    def __init__(self, account: pjsua2.Account, player: pjsua2.AudioMedia, recorder: pjsua2.AudioMedia) -> None:
        super().__init__(account)
        self.account = account
        self.player = player
        self.recorder = recorder
        self.over = False
        self.successor: WavCall | None = None  # the call to the target of a REFER

    @property
    def current(self) -> WavCall:
        """The call to the target while there is one, else this one."""
        return self if self.successor is None or self.successor.over else self.successor

    def obey(self, line: str) -> None:
        """Do what a line of standard input says."""
        command, _, keys = line.strip().rpartition(" ")
        parameters: Any  # of two kinds
        if line.strip() == "hang up":
            self.hangup(pjsua2.CallOpParam())
        elif line.strip() == "hold":
            self.setHold(pjsua2.CallOpParam())
        elif line.strip() == "resume":
            parameters = pjsua2.CallOpParam(True)
            parameters.opt.flag = pjsua2.PJSUA_CALL_UNHOLD
            self.reinvite(parameters)
        elif command == "press":
            self.dialDtmf(keys)
        elif command == "info":
            parameters = pjsua2.CallSendDtmfParam()
            parameters.method, parameters.digits = pjsua2.PJSUA_DTMF_METHOD_SIP_INFO, keys
            self.sendDtmf(parameters)

    def onDtmfDigit(self, prm: pjsua2.OnDtmfDigitParam) -> None:
        print("heard", prm.digit, flush=True)

    def onCallTransferRequest(self, prm: pjsua2.OnCallTransferRequestParam) -> None:
        print("transfer", prm.dstUri, flush=True)
        self.successor = prm.newCall = WavCall(self.account, self.player, self.recorder)

    def onCallState(self, _prm: object) -> None:
        info = self.getInfo()
        self.over = info.state == pjsua2.PJSIP_INV_STATE_DISCONNECTED
        print("state", info.stateText, *([info.lastStatusCode, info.lastReason] if self.over else []), flush=True)

    def onCallMediaState(self, _prm: object) -> None:
        info = self.getInfo()
        if all(media.status != pjsua2.PJSUA_CALL_MEDIA_ACTIVE for media in info.media):
            return  # on hold
        audio = self.getAudioMedia(-1)
        self.player.startTransmit(audio)
        audio.startTransmit(self.recorder)
        print("media", flush=True)


def endpoint_for(codec: str) -> pjsua2.Endpoint:
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
    transport = pjsua2.TransportConfig()
    transport.boundAddress = "127.0.0.1"
    endpoint.transportCreate(pjsua2.PJSIP_TRANSPORT_UDP, transport)
    endpoint.libStart()
    endpoint.audDevManager().setNullDev()
    for known in endpoint.codecEnum2():
        endpoint.codecSetPriority(known.codecId, 255 if known.codecId.startswith(f"{codec}/") else 0)
    return endpoint


def account_of(user: str) -> pjsua2.Account:
    config = pjsua2.AccountConfig()
    config.idUri = f"sip:{user}@127.0.0.1"
    config.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
    account = pjsua2.Account()
    account.create(config)
    return account


def main(uri: str, codec: str, to_play: str, to_record: str) -> None:
    endpoint = endpoint_for(codec)
    account = account_of("pjsip")
    player, recorder = pjsua2.AudioMediaPlayer(), pjsua2.AudioMediaRecorder()
    player.createPlayer(to_play, pjsua2.PJMEDIA_FILE_NO_LOOP)
    recorder.createRecorder(to_record)
    call = WavCall(account, player, recorder)
    call.makeCall(uri, pjsua2.CallOpParam(True))
    while not call.current.over:
        endpoint.libHandleEvents(POLL_MS)
        if select.select([sys.stdin], [], [], 0)[0]:
            call.current.obey(sys.stdin.readline())
    call.successor = None
    del call, player, recorder, account  # in this order, and before the library: PJSIP asserts otherwise
    endpoint.libDestroy()


main(*sys.argv[1:])
