"""What a tool may do to its call: the hands behind its context, and transfers by REFER."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
import trio
from call_parts import Parts, parts
from paper_leg import PaperLeg, paper_leg
from trio.testing import MockClock, wait_all_tasks_blocked

from aivc.config.settings import DtmfSettings, OpenAISettings
from aivc.nursery.causes import until_over
from aivc.nursery.control import BYE_BEHIND, Attempt, Control, own_uri, refer
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.ground import Progress
from aivc.nursery.keys import Keypad
from aivc.nursery.leaving import JITTER_BUFFER
from aivc.nursery.record import TransferBegan, TransferOver, TransferRun
from aivc.nursery.watch import heeded
from aivc.realtime.effects import Play
from aivc.realtime.events import CreateResponse, ResponseCreated, ResponseDone, SendRaw
from aivc.realtime.toolcontext import DigitsFailed, TransferFailed
from aivc.sip.leg import HungUp, ReferOutcome

DESK = "sip:desk@example.com"
SALES = "sip:sales@example.com"
OPENAI = OpenAISettings(transfer_to=DESK, transfer_targets={"sales": SALES}, transfer_seconds=5.0)
ANSWERED = ReferOutcome(200, "OK", accepted=True)
BUSY = ReferOutcome(486, "Busy Here", accepted=True)


@attrs.frozen(eq=False)
class Hands:
    """A control, and what it works on."""

    control: Control
    leg: PaperLeg
    given: Parts

    async def transfer(self, target: str | None = None) -> str | CallOver:
        """What the tool is told if the transfer failed, or how the call ends by it."""
        outcome: list[str] = []

        async def ask() -> None:
            async with trio.open_nursery() as nursery:
                with self.control.leaving.heeded(nursery, self.given.performer, OPENAI.farewell_seconds):
                    try:
                        await self.control.transfer(target)
                    except TransferFailed as error:
                        outcome.append(str(error))

        with trio.fail_after(60):
            over = await until_over(ask)
        return outcome[0] if over is None else over

    @property
    def runs(self) -> list[TransferRun]:
        return self.given.performer.turns.transfers

    @property
    def referred(self) -> list[tuple[str, str]]:
        """Refer-To and Referred-By of each REFER."""
        return [(done[1], done[2]) for done in self.leg.did if isinstance(done, tuple) and done[0] == "refer"]


async def nobody(refer_to: str, send_refer: Attempt) -> ReferOutcome:
    raise AssertionError(f"{refer_to} is not consulted")


def hands(*outcomes: ReferOutcome, openai: OpenAISettings = OPENAI, hold: bytes = b"") -> Hands:
    given, leg = parts(openai), paper_leg()
    leg.outcomes = list(outcomes)
    performer = given.performer
    control = Control(leg, openai, DtmfSettings(), performer.stream, performer, performer.leaving, hold, nobody)
    return Hands(control, leg, given)


# Small things


async def test_a_tool_has_the_model_speak_and_be_silent() -> None:
    some = hands()
    some.control.say("Say: one moment.")
    (asked,) = some.given.sent
    assert isinstance(asked, CreateResponse)
    assert "Say: one moment." in (asked.instructions or "")
    some.given.performer.handle(ResponseCreated("r1"))
    some.given.performer.perform([Play("r1", "i1", b"x" * 160)])
    some.control.interrupt()
    assert some.given.performer.playout.drained


async def test_a_tool_sends_any_event_as_it_is() -> None:
    some = hands()
    some.control.send_event({"type": "input_audio_buffer.clear"})
    assert some.given.sent == [SendRaw({"type": "input_audio_buffer.clear"})]


async def test_a_tool_that_hangs_up_wishes_for_the_end() -> None:
    some = hands()
    some.control.hang_up()
    assert some.control.leaving.ending is Ending.MODEL_HUNG_UP


async def test_a_tool_that_hangs_up_and_interrupts_still_hangs_up() -> None:
    some = hands()
    performer = some.given.performer
    performer.handle(ResponseCreated("r1"))
    performer.perform([Play("r1", "i1", b"x" * 1600)])
    some.control.hang_up()
    some.control.interrupt()
    assert some.control.leaving.ending is Ending.MODEL_HUNG_UP
    some.given.sent.clear()
    performer.handle(ResponseDone("r1", "cancelled"))
    performer.tool_finished("c1", "ok")
    assert [event for event in some.given.sent if isinstance(event, CreateResponse)] == []


async def test_the_hold_sound_is_played_again_and_again_until_it_is_stopped() -> None:
    some = hands(hold=b"\x10" * 160)
    stream = some.control.stream
    some.control.start_hold_sound()
    frames = [(stream.outgoing(stream.pacer.due) or b"")[12:] for _ in range(3)]
    some.control.stop_hold_sound()
    assert frames == [b"\x10" * 160] * 3
    assert (stream.outgoing(stream.pacer.due) or b"")[12:] == b"\xff" * 160


async def test_without_a_hold_sound_nothing_is_played() -> None:
    some = hands()
    some.control.start_hold_sound()
    assert (some.control.stream.outgoing(some.control.stream.pacer.due) or b"")[12:] == b"\xff" * 160


# Digits


async def test_digits_that_cannot_be_sent_are_the_models_to_know() -> None:
    some = hands()
    with trio.fail_after(1), pytest.raises(DigitsFailed, match="telephone-event"):
        await some.control.send_digits("1")
    some.control.stream.telephone_event = 101
    with trio.fail_after(1), pytest.raises(DigitsFailed, match="'x' is no key"):
        await some.control.send_digits("x")


async def test_sending_digits_lasts_until_they_are_sent(autojump_clock: MockClock) -> None:
    some = hands()
    stream, began = some.control.stream, trio.current_time()
    stream.telephone_event, stream.pacer.due = 101, began
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play_frames, some)
            await some.control.send_digits("12")
            nursery.cancel_scope.cancel()
    settings = some.control.dtmf
    assert trio.current_time() - began == pytest.approx(2 * (settings.tone_ms + settings.gap_ms) / 1000, abs=0.021)


async def play_frames(some: Hands) -> None:
    stream = some.control.stream
    while True:
        await trio.sleep_until(stream.pacer.due)
        stream.outgoing(trio.current_time())


# Transfers


async def test_a_transfer_that_succeeds_ends_the_call(autojump_clock: MockClock) -> None:
    some, began = hands(ANSWERED), trio.current_time() + JITTER_BUFFER
    over = await some.transfer("sales")
    assert isinstance(over, CallOver)
    assert (over.ending, over.detail) == (Ending.TRANSFERRED, SALES)
    assert some.runs == [TransferRun(SALES, began, began, 200, "OK", succeeded=True)]
    assert [event.what for event in some.given.told] == [TransferBegan(SALES), TransferOver(some.runs[0])]


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (BUSY, "486 Busy Here"),
        (ReferOutcome(405, "Method Not Allowed"), "405 Method Not Allowed"),
        (ReferOutcome(None, "the subscription ended: noresource", accepted=True), "the subscription ended: noresource"),
        (ReferOutcome(200, "OK"), "200 OK"),  # a front end that contradicts itself is not believed
    ],
)
async def test_a_transfer_that_fails_is_told_and_the_call_goes_on(
    autojump_clock: MockClock, outcome: ReferOutcome, told: str
) -> None:
    some = hands(outcome)
    assert await some.transfer() == f"the transfer failed: {told}; the caller is still on the line"
    (run,) = some.runs
    assert (run.target, run.status, run.text, run.succeeded) == (DESK, outcome.status, outcome.text, False)
    assert not some.control.leaving.referring
    assert some.control.leaving.ending is None


async def test_a_transfer_of_which_nothing_is_heard_has_a_deadline(autojump_clock: MockClock) -> None:
    some, began = hands(), trio.current_time()
    assert await some.transfer() == "the transfer failed: no answer; the caller is still on the line"
    assert trio.current_time() - began == pytest.approx(JITTER_BUFFER + 5.0 + BYE_BEHIND)
    (run,) = some.runs
    assert run.ended_at == pytest.approx(run.started_at + 5.0)


async def test_a_place_that_is_not_allowed_is_refused_without_a_refer() -> None:
    some = hands(ANSWERED)
    assert "'the moon' is no place to transfer to" in str(await some.transfer("the moon"))
    assert some.leg.did == []
    assert some.runs == []


async def test_what_the_model_is_saying_is_said_before_the_refer(autojump_clock: MockClock) -> None:
    some = hands(ANSWERED)
    some.control.stream.pacer.due = trio.current_time()
    some.given.performer.perform([Play("r1", "i1", b"x" * 8000)])
    some.given.performer.playout.end_item("i1")
    began = trio.current_time()
    with trio.move_on_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play_frames, some)
            await some.transfer()
            nursery.cancel_scope.cancel()
    (run,) = some.runs
    assert run.started_at - began == pytest.approx(1.0 + JITTER_BUFFER, abs=0.041)


async def test_of_two_transfers_at_a_time_the_second_is_refused(autojump_clock: MockClock, any_schedule: int) -> None:
    """A model may call the function twice in one response: both wait for the same last words."""
    some, told = hands(), list[str | CallOver]()

    async def transfer(after: float) -> None:
        await trio.sleep(after)
        told.append(await some.transfer("sales"))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for after in (0.0, 0.0, 1.0):
                nursery.start_soon(transfer, after)
    assert told[:2] == ["a transfer is under way already"] * 2
    assert len(some.referred) == len(some.runs) == 1


async def test_after_a_failure_another_transfer_may_be_tried(autojump_clock: MockClock) -> None:
    some = hands(BUSY, ANSWERED)
    await some.transfer()
    assert isinstance(await some.transfer("sales"), CallOver)
    assert [refer_to for refer_to, _ in some.referred] == [DESK, SALES]


async def test_a_uri_that_cannot_be_sent_is_a_failure_like_others(autojump_clock: MockClock) -> None:
    @attrs.define(eq=False)
    class PickyLeg(PaperLeg):
        async def refer(self, refer_to: str, referred_by: str, seconds: float, **more: object) -> ReferOutcome:
            raise ValueError("no URI")

    some = hands()
    leg = PickyLeg()
    picky = attrs.evolve(some, control=attrs.evolve(some.control, leg=leg))
    assert await picky.transfer() == "the transfer failed: no URI; the caller is still on the line"
    assert not some.control.leaving.referring


# A BYE of the caller while the REFER is out


@attrs.define(eq=False)
class PartingLeg(PaperLeg):
    """Its REFER comes to nothing at the moment when the test says so."""

    parted: trio.Event = attrs.field(factory=trio.Event)

    async def refer(self, refer_to: str, referred_by: str, seconds: float, **more: object) -> ReferOutcome:
        await self.parted.wait()
        return ReferOutcome(None, "the call is over", accepted=True)


async def parting(bye_behind: float, first: str) -> tuple[CallOver | None, list[TransferRun]]:
    """How a call ends whose REFER comes to nothing when the caller says BYE, or shortly before."""
    given = parts(OPENAI)
    leg, progress = PartingLeg(), Progress(0.0, leaving=given.performer.leaving)
    turns, announcer = given.performer.turns, given.performer.announcer

    async def part() -> None:
        await wait_all_tasks_blocked()
        acts: list[Callable[[], object]] = [leg.parted.set, lambda: leg.events.tell(HungUp())]
        for act in acts if first == "outcome" else reversed(acts):
            act()
            if bye_behind:
                await trio.sleep(bye_behind)

    async def call() -> None:
        async with trio.open_nursery() as nursery:
            with heeded(leg, progress, Keypad(progress), nursery):
                nursery.start_soon(part)
                await refer(leg, OPENAI, progress.leaving, turns, announcer, DESK)
                await trio.sleep_forever()

    with trio.fail_after(5):
        return await until_over(call), turns.transfers


@pytest.mark.parametrize("first", ["outcome", "BYE"])
async def test_a_bye_during_the_refer_is_its_success_whichever_task_wakes_first(
    autojump_clock: MockClock, any_schedule: int, first: str
) -> None:
    over, runs = await parting(0.0, first)
    assert over is not None
    assert over.ending is Ending.TRANSFERRED
    assert [run.target for run in runs] == [DESK]


@pytest.mark.parametrize(
    ("behind", "ending"),
    [(0.75 * BYE_BEHIND, Ending.TRANSFERRED), (1.25 * BYE_BEHIND, Ending.CALLER_HUNG_UP)],
)
async def test_a_bye_may_follow_the_end_of_the_subscription_that_it_explains(
    autojump_clock: MockClock, behind: float, ending: Ending
) -> None:
    over, _ = await parting(behind, "outcome")
    assert over is not None
    assert over.ending is ending


# Referred-By


REFERRED_BY = [
    ('"Desk" <sip:1000@example.com;user=phone>;tag=1', "sip:1000@example.com;user=phone"),
    ("sips:1000@example.com", "sips:1000@example.com"),
    ("<tel:+4930123>", "tel:+4930123"),
    ("<sip:1000@example.com?Subject=x>", "sip:1000@example.com"),
    ("<urn:service:sos>", "sip:1000@anonymous.invalid"),
    ("<sip:", "sip:1000@anonymous.invalid"),
    (None, "sip:1000@anonymous.invalid"),
]


@pytest.mark.parametrize(("to", "expected"), REFERRED_BY)
def test_who_was_called_refers_unless_the_settings_name_somebody(to: str | None, expected: str) -> None:
    leg = paper_leg()
    leg.headers = {} if to is None else {"to": to}
    assert own_uri(leg) == expected


@pytest.mark.parametrize(
    ("transfer_by", "expected"),
    [(None, "sip:1000@anonymous.invalid"), ("sip:assistant@example.com", "sip:assistant@example.com")],
)
async def test_the_refer_says_who_sends_it(autojump_clock: MockClock, transfer_by: str | None, expected: str) -> None:
    some = hands(BUSY, openai=attrs.evolve(OPENAI, transfer_by=transfer_by))
    await some.transfer()
    assert some.referred == [(DESK, expected)]
