"""What a call has cost so far, in tokens by kind. Prices are not the server's to tell: they stand in the settings."""

from __future__ import annotations

import attrs

from aivc.realtime.events import CallerTranscript, Usage


@attrs.frozen
class UsageTotals:
    """Tokens of a whole call, replaced sessions included; `input_cached` is a part of the other two inputs."""

    input_audio: int = 0
    input_text: int = 0
    input_cached: int = 0
    output_audio: int = 0
    output_text: int = 0
    transcription_tokens: int = 0
    transcription_seconds: float = 0.0
    responses: int = 0  # with any status: a cancelled one costs too

    def with_response(self, usage: Usage | None) -> UsageTotals:
        """Return the totals after one more `response.done`; None where the server counted nothing."""
        spent = usage or Usage()
        return attrs.evolve(
            self,
            input_audio=self.input_audio + spent.input_audio_tokens,
            input_text=self.input_text + spent.input_text_tokens,
            input_cached=self.input_cached + spent.cached_tokens,
            output_audio=self.output_audio + spent.output_audio_tokens,
            output_text=self.output_text + spent.output_text_tokens,
            responses=self.responses + 1,
        )

    def with_totals(self, other: UsageTotals) -> UsageTotals:
        """Return the totals of two conversations."""
        mine, theirs = attrs.asdict(self), attrs.asdict(other)
        return UsageTotals(**{kind: spent + theirs[kind] for kind, spent in mine.items()})

    def with_transcript(self, event: CallerTranscript) -> UsageTotals:
        """Return the totals after one more transcription, which is another model's work."""
        spent = event.usage or Usage()
        return attrs.evolve(
            self,
            transcription_tokens=self.transcription_tokens + spent.input_tokens + spent.output_tokens,
            transcription_seconds=self.transcription_seconds + event.seconds,
        )
