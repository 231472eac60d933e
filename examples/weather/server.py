"""A weather service and a language model on this machine, so that the example needs neither.

It speaks real HTTP: ``/v1/search`` and ``/v1/forecast`` as Open-Meteo does, and
``/v1/chat/completions`` as OpenAI does, streamed or not. The weather is made up and the model is
a few rules; what goes over the wire is not.

    python examples/weather/server.py --port 8765 --fail /v1/forecast=503
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import re
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Self

SEARCH, FORECAST, CHAT = "/v1/search", "/v1/forecast", "/v1/chat/completions"

PLACES: list[dict[str, Any]] = [
    {"id": 1, "name": "Lisbon", "country": "Portugal", "latitude": 38.72, "longitude": -9.13},
    {"id": 2, "name": "Oslo", "country": "Norway", "latitude": 59.91, "longitude": 10.75},
    {"id": 3, "name": "São Paulo", "country": "Brazil", "latitude": -23.55, "longitude": -46.64},
]

# Today and tomorrow: WMO code, low and high in °C, chance of rain in %, wind in km/h.
WEATHER = {
    1: [(0, 13.1, 19.4, 2, 11.5), (61, 12.2, 16.8, 85, 27.0)],
    2: [(71, -6.3, -1.0, 70, 14.8), (3, -4.9, 0.6, 10, 9.2)],
    3: [(95, 18.7, 26.1, 90, 21.3), (1, 17.5, 28.9, 15, 12.6)],
}
DAILY = (
    "weather_code",
    "temperature_2m_min",
    "temperature_2m_max",
    "precipitation_probability_max",
    "wind_speed_10m_max",
)

WET, COLD, WINDY = 50, 0, 40
"""From this chance of rain (%), below this low (°C), from this wind (km/h)."""

Answer = tuple[int, dict[str, Any]]


class LocalServer(ThreadingHTTPServer):
    """Serves on a thread of its own between ``with`` and its end.

    Args:
        port: 0 for any that is free.
        before_word: called before each streamed word with its number, from 0; what makes the
            words come slowly. A ConnectionError breaks the connection off.
        failures: for a path, the status of each answer to come; None for a proper one.
        key: the API key that the model asks for; None: any.

    Attributes:
        url: where it is, without a path.
        requests: how many requests each path has had.
    """

    daemon_threads = True
    block_on_close = False  # a held answer holds up no one who is done

    def __init__(
        self,
        port: int = 0,
        *,
        before_word: Callable[[int], None] = lambda _: time.sleep(0.03),
        failures: Mapping[str, Iterator[int | None]] | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", port), Conversation)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.before_word = before_word
        self.failures = failures or {}
        self.key = key
        self.requests: Counter[str] = Counter()
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def enter(self, path: str) -> int | None:
        """Count a request; return the status with which it is to fail, if any."""
        with self.lock:
            self.requests[path] += 1
            return next(self.failures.get(path, iter(())), None)


class Conversation(BaseHTTPRequestHandler):
    """One client's connection."""

    protocol_version = "HTTP/1.1"
    server: LocalServer

    def do_GET(self) -> None:
        """Answer for the weather service."""
        parts = urlsplit(self.path)
        status = self.server.enter(parts.path)
        parameters = dict(parse_qsl(parts.query))
        if status is not None:
            self.reply(status, {"error": True, "reason": "told to fail"})
        elif parts.path == SEARCH:
            self.reply(*search(parameters))
        elif parts.path == FORECAST:
            self.reply(*forecast(parameters))
        else:
            self.reply(404, {"error": True, "reason": "Not Found"})

    def do_POST(self) -> None:
        """Answer for the model."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status = self.server.enter(self.path)
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if status is not None:
            self.refuse(status, "told to fail")
        elif self.path != CHAT:
            self.refuse(404, f"no such path: {self.path}")
        elif not key or self.server.key not in {None, key}:
            self.refuse(401, "incorrect API key provided")
        else:
            self.chat(json.loads(body))

    def chat(self, request: dict[str, Any]) -> None:
        """Complete a chat, word by word if that is asked for."""
        text = request["messages"][-1]["content"]
        if request.get("response_format", {}).get("type") == "json_object":
            answer = extract(text, [place["name"] for place in PLACES])
        else:
            answer = write(text)
        if not request.get("stream"):
            message = {"role": "assistant", "content": answer}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self.reply(200, completion(request, "chat.completion", choice))
            return
        # A client that has gone, or is to think that the server has.
        with contextlib.suppress(ConnectionError):
            self.stream(request, answer)
        self.close_connection = True

    def stream(self, request: dict[str, Any], answer: str) -> None:
        """Send an answer as server-sent events."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": word + " "} for word in answer.split(" ")[:-1]]
        deltas += [{"content": answer.rpartition(" ")[2]}, {}]
        for number, delta in enumerate(deltas):
            if delta.get("content"):
                self.server.before_word(number - 1)
            choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}
            self.chunk(json.dumps(completion(request, "chat.completion.chunk", choice)))
        self.chunk("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def chunk(self, data: str) -> None:
        """Send one event."""
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def refuse(self, status: int, message: str) -> None:
        """Answer with an error as OpenAI does."""
        self.reply(status, {"error": {"message": message, "type": "local_server", "code": None}})

    def reply(self, status: int, document: dict[str, Any]) -> None:
        """Answer with JSON."""
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet: the output belongs to the example."""


def completion(request: dict[str, Any], kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    """Return what is around the model's words."""
    return {
        "id": "chatcmpl-local",
        "object": kind,
        "created": int(time.time()),
        "model": request["model"],
        "choices": [choice],
    }


def search(parameters: dict[str, str]) -> Answer:
    """Find places by name; a name that is not known has no ``results``."""
    name = parameters.get("name", "").casefold()
    found = [place for place in PLACES if place["name"].casefold() == name]
    return 200, {"results": found} if found else {"generationtime_ms": 0.1}


def forecast(parameters: dict[str, str]) -> Answer:
    """Return the weather of a place, today and tomorrow."""
    wanted = parameters.get("latitude"), parameters.get("longitude")
    for place in PLACES:
        if wanted == (str(place["latitude"]), str(place["longitude"])):
            days = WEATHER[place["id"]]
            break
    else:
        return 400, {"error": True, "reason": "no weather is known there"}
    today = datetime.now(UTC).date()
    daily: dict[str, list[Any]] = {
        name: list(values) for name, values in zip(DAILY, zip(*days, strict=True), strict=True)
    }
    daily["time"] = [str(today + timedelta(days=number)) for number in range(len(days))]
    return 200, {"latitude": place["latitude"], "longitude": place["longitude"], "daily": daily}


# --- the model's few rules ---------------------------------------------------------------


def extract(question: str, places: list[str]) -> str:
    """Say as JSON which place and day a question is about."""
    # A place that the server does not know is still one: the service is to say so.
    named = re.search(r"\b(?:in|at|for)\s+([^\W\d_a-z]\w+(?:\s+[^\W\d_a-z]\w+)*)", question)
    known = [place for place in places if place.casefold() in question.casefold()]
    place = known[0] if known else named[1] if named else None
    day = "tomorrow" if "tomorrow" in question.casefold() else "today"
    return json.dumps({"place": place, "day": day})


def write(request: str) -> str:
    """Answer from the weather that the request holds as JSON."""
    weather = json.loads(request[request.index("{") :])
    told = (
        f"{weather['day'].capitalize()} in {weather['place']}, {weather['country']}: "
        f"{weather['sky']}, {weather['low']:g} to {weather['high']:g} °C, "
        f"a {weather['rain']} % chance of rain and wind up to {weather['wind']:g} km/h."
    )
    advice = "Take an umbrella." if weather["rain"] >= WET else "No umbrella needed."
    if weather["low"] < COLD:
        advice = "Dress warmly. " + advice
    if weather["wind"] >= WINDY:
        advice += " Hold on to your hat."
    return f"{told} {advice}"


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A weather service and a model, both made up.")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--pause", type=float, default=0.03, help="seconds before each word")
    parser.add_argument("--fail", action="append", default=[], metavar="PATH=STATUS")
    options = parser.parse_args()
    failing = [each.split("=") for each in options.fail]
    failures = {path: itertools.repeat(int(status)) for path, status in failing}
    server = LocalServer(
        options.port, before_word=lambda _: time.sleep(options.pause), failures=failures
    )
    url = server.url
    print(f"OPENAI_BASE_URL={url}/v1 GEOCODING_URL={url} FORECAST_URL={url}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    server.server_close()


if __name__ == "__main__":
    main()
