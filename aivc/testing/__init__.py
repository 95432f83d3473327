"""Test an agent without a phone, a network or a clock: a virtual network, a phone, and a strict Realtime server.

See docs/testing.md. Everything named here is public.
"""

from aivc.testing.answering import ReceivedCall
from aivc.testing.caller import Phone, open_phone
from aivc.testing.calling import PhoneCall
from aivc.testing.chaos import Chaos, Crossing, Stall
from aivc.testing.connect import connect_to
from aivc.testing.credentials import Credentials, Guard
from aivc.testing.dialog import PhoneDialog
from aivc.testing.faults import Faults
from aivc.testing.handset import Handset, RtpHeard, RtpSent
from aivc.testing.keys import DigitHeard
from aivc.testing.model import FakeModel, serve_port
from aivc.testing.network import VirtualNetwork
from aivc.testing.opensips import FakeOpenSips, MiCommand, open_fake_opensips
from aivc.testing.opensips_session import UaSession
from aivc.testing.opensips_subscribers import EventSubscriber
from aivc.testing.phrases import phrase
from aivc.testing.refreshing import SessionTimer
from aivc.testing.refusal import CallRefused
from aivc.testing.reports import ReportHeard
from aivc.testing.script import CallTool, Context, CutOff, Fail, Part, Say, Script, decided, echo, scripted, stand_in
from aivc.testing.session import Session
from aivc.testing.transfers import Referral, Transfers
from aivc.testing.voice import silence, speech
from aivc.testing.websocket import Latency, memory_stream_pair

__all__ = [
    "CallRefused",
    "CallTool",
    "Chaos",
    "Context",
    "Credentials",
    "Crossing",
    "CutOff",
    "DigitHeard",
    "EventSubscriber",
    "Fail",
    "FakeModel",
    "FakeOpenSips",
    "Faults",
    "Guard",
    "Handset",
    "Latency",
    "MiCommand",
    "Part",
    "Phone",
    "PhoneCall",
    "PhoneDialog",
    "ReceivedCall",
    "Referral",
    "ReportHeard",
    "RtpHeard",
    "RtpSent",
    "Say",
    "Script",
    "Session",
    "SessionTimer",
    "Stall",
    "Transfers",
    "UaSession",
    "VirtualNetwork",
    "connect_to",
    "decided",
    "echo",
    "memory_stream_pair",
    "open_fake_opensips",
    "open_phone",
    "phrase",
    "scripted",
    "serve_port",
    "silence",
    "speech",
    "stand_in",
]
