"""Ask about the weather: the question is read, the weather looked up, the answer streamed.

    python examples/weather_assistant.py "Do I need an umbrella in Lisbon tomorrow?"

The same question on the same day is the same run (or name one with ``--id``): ask again and the
recorded answer is shown; kill the program and ask again, and it goes on without repeating what it
has looked up. Runs are kept where FLOWSTORE_URL says, else in ``./flowstore.db``.

Nothing leaves this machine unless you say so. Set OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL
for any OpenAI-compatible endpoint; GEOCODING_URL (https://geocoding-api.open-meteo.com) and
FORECAST_URL (https://api.open-meteo.com) for Open-Meteo, with WEATHER_API_KEY if you have one.
What is not set is served by ``examples/weather/server.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel
from weather.server import LocalServer

from flowstore import Context, Retry, WorkflowEvent, WorkflowManager
from flowstore.errors import FlowstoreError, StreamFailedError, StreamRestartedError

try:
    import httpx
    import openai
except ModuleNotFoundError as missing:
    sys.exit(
        f"{missing.name} is missing; it comes with: "
        "python -m pip install 'flowstore-engine[examples]'"
    )

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

READ = """\
Which place and day is the question about? Answer with a JSON object: "place" is the name of the
place, or null if there is none; "day" is "today" or "tomorrow"."""
WRITE = "Answer the question in two or three sentences, from the weather given and nothing else."

SKY = {0: "a clear sky", 1: "a mostly clear sky", 2: "some clouds", 3: "clouds"}
"""What the codes of the World Meteorological Organization mean; those above follow."""
KINDS = [(48, "fog"), (57, "drizzle"), (67, "rain"), (77, "snow"), (82, "showers")]


class Question(BaseModel):
    """What a question is about."""

    place: str | None
    day: Literal["today", "tomorrow"]


class Place(BaseModel):
    """Somewhere that has weather."""

    name: str
    country: str = ""
    latitude: float
    longitude: float


class Weather(BaseModel):
    """The weather of one day: °C, % and km/h."""

    place: str
    country: str
    day: str
    date: str
    sky: str
    low: float
    high: float
    rain: int
    wind: float


class WeatherError(Exception):
    """The weather service has no answer."""


class WeatherUnavailableError(WeatherError):
    """The weather service has no answer at the moment."""


# What may be better in a moment. The clients' own retries are off: these outlive the process.
PATIENT = Retry(
    attempts=3,
    delay=0.25,
    on=(
        openai.APIConnectionError,
        openai.InternalServerError,
        openai.RateLimitError,
        httpx.TransportError,
        WeatherUnavailableError,
    ),
)


# --- the services --------------------------------------------------------------------------


class Services(NamedTuple):
    """Where the weather and the words come from."""

    web: httpx.AsyncClient
    geocoding: str
    forecast: str
    weather_key: str
    llm: openai.AsyncOpenAI
    model: str


@contextlib.asynccontextmanager
async def connect() -> AsyncIterator[Services]:
    """Open the clients; a local server stands in for what the environment does not name."""
    named = {name: os.environ.get(f"{name}_URL") for name in ("GEOCODING", "FORECAST")}
    base = os.environ.get("OPENAI_BASE_URL")
    async with contextlib.AsyncExitStack() as stack:
        local = ""
        if not (base and all(named.values())):
            local = stack.enter_context(LocalServer()).url
        # A key that is there by chance is not for the local server.
        key = os.environ.get("OPENAI_API_KEY", "none") if base else "local"
        # A proxy for the outside is not one for this machine.
        outside = all(named.values())
        web = await stack.enter_async_context(httpx.AsyncClient(trust_env=outside, timeout=10))
        llm = await stack.enter_async_context(
            openai.AsyncOpenAI(
                base_url=base or f"{local}/v1",
                api_key=key,
                max_retries=0,
                http_client=openai.DefaultAsyncHttpxClient(trust_env=bool(base)),
            )
        )
        yield Services(
            web=web,
            geocoding=named["GEOCODING"] or local,
            forecast=named["FORECAST"] or local,
            weather_key=os.environ.get("WEATHER_API_KEY", ""),
            llm=llm,
            model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"),
        )


async def read_question(services: Services, text: str) -> Question:
    """Let the model say what a question is about."""
    reply = await services.llm.chat.completions.create(
        model=services.model,
        response_format={"type": "json_object"},
        messages=[{"role": "system", "content": READ}, {"role": "user", "content": text}],
    )
    return Question.model_validate_json(reply.choices[0].message.content or "")


async def find_place(services: Services, name: str) -> Place:
    """Find a place by its name."""
    url = f"{services.geocoding}/v1/search"
    found = (await fetch(services, url, name=name, count=1)).get("results")
    if not found:
        raise WeatherError(f"no place called {name!r} is known")
    return Place.model_validate(found[0])


async def look_up(services: Services, place: Place, day: str) -> Weather:
    """Look up the weather of a day."""
    answer = await fetch(
        services,
        f"{services.forecast}/v1/forecast",
        latitude=place.latitude,
        longitude=place.longitude,
        daily="weather_code,temperature_2m_min,temperature_2m_max,"
        "precipitation_probability_max,wind_speed_10m_max",
        forecast_days=2,
        timezone="auto",
    )
    daily, number = answer["daily"], ("today", "tomorrow").index(day)
    return Weather(
        place=place.name,
        country=place.country,
        day=day,
        date=daily["time"][number],
        sky=name_sky(daily["weather_code"][number]),
        low=daily["temperature_2m_min"][number],
        high=daily["temperature_2m_max"][number],
        rain=daily["precipitation_probability_max"][number],
        wind=daily["wind_speed_10m_max"][number],
    )


async def fetch(services: Services, url: str, **parameters: str | float) -> dict[str, Any]:
    """Ask the weather service."""
    if services.weather_key:
        parameters["apikey"] = services.weather_key
    response = await services.web.get(url, params=parameters)
    if response.is_success:
        document: dict[str, Any] = response.json()
        return document
    said = f"the weather service answered {response.status_code} {response.reason_phrase}"
    raise (WeatherUnavailableError if response.is_server_error else WeatherError)(said)


def name_sky(code: int) -> str:
    """Return the words for a weather code."""
    return SKY.get(code) or next((sky for last, sky in KINDS if code <= last), "thunderstorms")


# --- the workflow --------------------------------------------------------------------------


def build(services: Services) -> WorkflowManager:
    """Make the workflow: query, weather, answer, completed."""
    workflow = WorkflowManager(ctx={"services": services}, name="weather-assistant")

    @workflow.on("query", retry=PATIENT)
    async def analyse(event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        yield WorkflowEvent.progress("analysis", "Reading the question")
        text = event.data["question"]
        asked: Question = await ctx.step("read", read_question, ctx["services"], text)
        if asked.place is None:
            raise ValueError("the question names no place")
        ctx["question"] = text
        yield WorkflowEvent("weather", asked.model_dump())

    @workflow.on("weather", retry=PATIENT)
    async def weather(event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        name, day = event.data["place"], event.data["day"]
        yield WorkflowEvent.progress("weather", f"Looking up {name}, {day}")
        place = await ctx.step("find", find_place, ctx["services"], name)
        found: Weather = await ctx.step("look up", look_up, ctx["services"], place, day)
        yield WorkflowEvent("answer", found.model_dump())

    @workflow.on("answer", retry=PATIENT)
    async def answer(event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        yield WorkflowEvent.progress("answer", "Writing the answer")
        given = f"{ctx['question']}\n\n{Weather(**event.data).model_dump_json()}"
        reply = WorkflowEvent("stream", {"stream": listen(ctx["services"], given)})
        yield reply
        # Behind the yield the stream has been written down to its end.
        answer = "".join([text async for text in reply.data["stream"]])
        yield WorkflowEvent("completed", {"answer": answer, "date": event.data["date"]})

    return workflow


async def listen(services: Services, given: str) -> AsyncIterator[str]:
    """Ask the model to write, and yield the text of its reply as it comes."""
    reply = await services.llm.chat.completions.create(
        model=services.model,
        stream=True,
        messages=[{"role": "system", "content": WRITE}, {"role": "user", "content": given}],
    )
    async with reply:
        async for chunk in reply:
            if chunk.choices and (text := chunk.choices[0].delta.content):
                yield text


# --- the program ---------------------------------------------------------------------------


async def show(stream: Any) -> None:
    """Print a stream as it comes, from its new beginning if it was interrupted."""
    begun = False
    while True:
        try:
            async for text in stream:
                begun = True
                print(text, end="", flush=True)
        except StreamRestartedError:
            if begun:
                print("\n[answer] It was interrupted; here it is anew")
        except StreamFailedError:
            print()  # an error event says why
            return
        else:
            print()
            return


async def ask(workflow: WorkflowManager, question: str, run: str) -> bool:
    """Ask, or go on with what was asked; return whether there is an answer."""
    first = WorkflowEvent("query", {"question": question})
    answered = False
    # The ids make it one and the same event in the same run, however often it is sent.
    async for event in workflow.process(first, correlation_id=run, id="question"):
        if event.name == "progress":
            print(f"[{event.data['step']}] {event.data['description']}", flush=True)
        elif event.name == "stream":
            await show(event.data["stream"])
        elif event.name == "completed":
            answered = True
        elif event.name == "error":
            print(f"Error: {event.error}")
            print("It is on record; ask anew with another --id")
    return answered


async def main() -> int:
    """Ask one question."""
    parser = argparse.ArgumentParser(description="Ask about the weather of today or tomorrow.")
    parser.add_argument("question", nargs="?", default="Do I need an umbrella in Lisbon tomorrow?")
    parser.add_argument("--id", help="the run; else the question with the date")
    options = parser.parse_args()
    run = options.id or f"{datetime.now(UTC).date()} {options.question}"
    async with connect() as services:
        workflow = build(services)
        try:
            return 0 if await ask(workflow, options.question, run) else 1
        except FlowstoreError as error:
            print(f"Error: {error}")
            return 1
        finally:
            await workflow.close()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except KeyboardInterrupt:
        sys.exit("interrupted; run it again to go on")
    except BrokenPipeError:  # no one reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
