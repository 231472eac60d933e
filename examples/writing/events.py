"""What can happen to an inquiry, and what is known of it."""

from __future__ import annotations

from datetime import date, datetime  # noqa: TC003 - Pydantic reads the annotations

from pydantic import BaseModel, ConfigDict, Field

from writing.mail import Attachment  # noqa: TC001 - likewise


class PipelineEvent(BaseModel):
    """What all events of the pipeline have in common: they are facts, and are logged."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InquiryReceived(PipelineEvent):
    """Somebody wrote."""

    message_id: str
    sender: str
    address: str
    subject: str
    sent_at: datetime | None
    in_reply_to: str | None
    text: str
    attachments: list[Attachment]


class DetailsExtracted(PipelineEvent):
    """What is wanted is known: the model said so, or a person."""

    topic: str = Field(min_length=3)
    words: int = Field(ge=50, le=5000)
    due: date


class ExtractionFailed(PipelineEvent):
    """The model's answer cannot be used."""

    answer: str
    problem: str


class PersonNeeded(PipelineEvent):
    """The pipeline does not get any further by itself."""

    reason: str


class AvailabilityChecked(PipelineEvent):
    """The calendar has a day for it."""

    day: date


class ArticlesFound(PipelineEvent):
    """Past articles about the same, perhaps none."""

    titles: list[str]


class DraftReady(PipelineEvent):
    """There is a draft, and somebody has to read it."""

    draft: str


class Approved(PipelineEvent):
    """Somebody read the draft and likes it."""

    by: str = Field(min_length=1)


class Published(PipelineEvent):
    """It is out."""

    article: str
    by: str


IN_WORK = "in work"
NEEDS_PERSON = "needs a person"
DRAFT_READY = "draft ready"
PUBLISHED = "published"


class State(BaseModel):
    """What is known of a run."""

    stage: str = IN_WORK
    inquiry: InquiryReceived | None = None
    details: DetailsExtracted | None = None
    day: date | None = None
    draft: str | None = None
    article: str | None = None
    reason: str | None = None
    history: list[str] = []
