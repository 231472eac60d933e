"""The weather assistant as a program, with its local server or one that the test holds."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest
from programs import EXAMPLES, TIMEOUT, environment, read_runs, run, run_into_head

from flowstore.codec import Codec

NAMES = ("FORECAST_URL", "GEOCODING_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL")
SEARCH, FORECAST, CHAT = "/v1/search", "/v1/forecast", "/v1/chat/completions"
LISBON = "Do I need an umbrella in Lisbon tomorrow?"
ANSWER = (
    "Tomorrow in Lisbon, Portugal: rain, 12.2 to 16.8 °C, a 85 % chance of rain "
    "and wind up to 27 km/h. Take an umbrella."
)
SHOWN = f"""\
[analysis] Reading the question
[weather] Looking up Lisbon, tomorrow
[answer] Writing the answer
{ANSWER}
"""
ON_RECORD = "It is on record; ask anew with another --id\n"


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """Whatever the machine's environment says, the tests ask no one outside."""
    for name in (*NAMES, "WEATHER_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve(monkeypatch):
    """Start local servers that can be held, broken and counted."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from weather.server import LocalServer

    with contextlib.ExitStack() as stack:

        def start(**options):
            options.setdefault("before_word", lambda _: None)
            return stack.enter_context(LocalServer(**options))

        yield start


def urls(server, **more):
    return {
        "OPENAI_BASE_URL": f"{server.url}/v1",
        "OPENAI_API_KEY": "a key",
        "GEOCODING_URL": server.url,
        "FORECAST_URL": server.url,
        **more,
    }


def events(store, name):
    """Return the data of a store's events of this name."""
    with contextlib.closing(sqlite3.connect(store)) as connection:
        found = connection.execute("SELECT data FROM event WHERE name = ?", (name,))
        return [json.loads(data) for (data,) in found]


def ask(*arguments, cwd, **variables):
    done = run("weather_assistant.py", *arguments, cwd=cwd, **variables)
    assert "Traceback" not in done.stderr
    return done


# --- answers -------------------------------------------------------------------------------


def test_it_answers_with_nothing_set(tmp_path):
    done = ask(LISBON, "--id", "one", cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == (SHOWN, "", 0)
    [(name, status, head, cursor)] = read_runs(tmp_path / "flowstore.db")
    assert (name, status, head) == ("one", "idle", cursor)
    [data] = events(tmp_path / "flowstore.db", "completed")
    assert data["answer"] == ANSWER


def test_it_keeps_its_run_where_the_environment_says(tmp_path):
    elsewhere = tmp_path / "elsewhere.db"
    done = ask(LISBON, cwd=tmp_path, FLOWSTORE_URL=f"sqlite:///{elsewhere}")
    assert done.stdout == SHOWN
    assert len(read_runs(elsewhere)) == 1
    assert not (tmp_path / "flowstore.db").exists()


def test_it_goes_on_after_its_pipe_was_closed(tmp_path):
    assert run_into_head("weather_assistant.py", cwd=tmp_path) == (1, "")
    assert ask(cwd=tmp_path).stdout == SHOWN


def test_the_same_id_again_shows_what_is_on_record(tmp_path, serve):
    """G3, G5: the second time no service is asked anything."""
    server = serve()
    first = ask(LISBON, "--id", "one", cwd=tmp_path, **urls(server))
    asked = dict(server.requests)
    second = ask(LISBON, "--id", "one", cwd=tmp_path, **urls(server))
    assert first.stdout == second.stdout == SHOWN
    assert dict(server.requests) == asked == {CHAT: 2, SEARCH: 1, FORECAST: 1}


def test_another_question_under_the_same_id_is_refused(tmp_path, serve):
    server = serve()
    ask(LISBON, "--id", "one", cwd=tmp_path, **urls(server))
    done = ask("And in Oslo?", "--id", "one", cwd=tmp_path, **urls(server))
    assert done.stdout.startswith("Error: ")
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (
            "What is the weather in Oslo?",
            (
                "Today in Oslo, Norway: snow, -6.3 to -1 °C, a 70 % chance of rain and wind up to "
                "14.8 km/h. Dress warmly. Take an umbrella."
            ),
        ),
        (
            "Wie wird es in são paulo, tomorrow?",
            (
                "Tomorrow in São Paulo, Brazil: a mostly clear sky, 17.5 to 28.9 °C, a 15 % chance "
                "of rain and wind up to 12.6 km/h. No umbrella needed."
            ),
        ),
    ],
)
def test_it_answers_about_other_places(tmp_path, serve, question, answer):
    done = ask(question, cwd=tmp_path, **urls(serve()))
    assert done.stdout.splitlines()[-1] == answer


def test_words_are_shown_as_they_come(tmp_path, serve):
    """The server says the fourth word once the third one has been shown."""
    shown = threading.Event()
    server = serve(before_word=lambda number: number != 3 or shown.wait(TIMEOUT))
    with started(LISBON, "--id", "one", cwd=tmp_path, **urls(server)) as process:
        read_until(process, "Tomorrow in Lisbon, ")
        shown.set()
        rest, told = process.communicate(timeout=TIMEOUT)
    assert rest.decode() == ANSWER.removeprefix("Tomorrow in Lisbon, ") + "\n"
    assert (told, process.returncode) == (b"", 0)


# --- errors --------------------------------------------------------------------------------


def test_an_unknown_place_is_an_error_event(tmp_path, serve):
    server = serve()
    done = ask("What is it like in Atlantis?", "--id", "one", cwd=tmp_path, **urls(server))
    assert done.stdout == (
        "[analysis] Reading the question\n"
        "[weather] Looking up Atlantis, today\n"
        "Error: no place called 'Atlantis' is known\n" + ON_RECORD
    )
    assert done.returncode == 1
    assert server.requests[SEARCH] == 1
    [(_, status, _, _)] = read_runs(tmp_path / "flowstore.db")
    assert status == "failed"


def test_a_question_without_a_place_is_an_error_event(tmp_path, serve):
    done = ask("Will it rain?", cwd=tmp_path, **urls(serve()))
    assert "Error: the question names no place\n" in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("path", "status", "tries", "told"),
    [
        (FORECAST, 503, 3, "the weather service answered 503 Service Unavailable"),
        (SEARCH, 400, 1, "the weather service answered 400 Bad Request"),
        (CHAT, 429, 3, "Error code: 429"),
        (CHAT, 500, 3, "Error code: 500"),
        (CHAT, 400, 1, "Error code: 400"),
    ],
)
def test_an_api_that_fails_is_an_error_event(  # noqa: PLR0917 - pytest fills them in by name
    tmp_path, serve, path, status, tries, told
):
    """What may pass is tried three times, what will not once."""
    server = serve(failures={path: itertools.repeat(status)})
    done = ask(LISBON, cwd=tmp_path, **urls(server))
    assert f"\nError: {told}" in done.stdout
    assert done.stdout.endswith(ON_RECORD)
    assert done.returncode == 1
    assert server.requests[path] == tries


def test_a_failure_that_passes_is_not_seen(tmp_path, serve):
    failures = {CHAT: iter([429, None, 500]), FORECAST: iter([503])}
    server = serve(failures=failures)
    done = ask(LISBON, cwd=tmp_path, **urls(server))
    assert done.stdout == SHOWN
    # A step that is done is not repeated because one after it failed.
    assert dict(server.requests) == {CHAT: 4, SEARCH: 1, FORECAST: 2}


def test_the_key_goes_to_the_endpoint_that_is_named(tmp_path, serve):
    server = serve(key="the right key")
    good = ask(LISBON, "--id", "1", cwd=tmp_path, **urls(server, OPENAI_API_KEY="the right key"))
    bad = ask(LISBON, "--id", "2", cwd=tmp_path, **urls(server, OPENAI_API_KEY="another"))
    assert good.stdout == SHOWN
    assert "Error: Error code: 401" in bad.stdout
    assert bad.returncode == 1


def test_no_service_at_all_is_an_error_event(tmp_path, serve):
    server = serve()
    server.shutdown()
    server.server_close()
    done = ask(LISBON, cwd=tmp_path, **urls(server))
    assert "\nError: Connection error.\n" in done.stdout
    assert done.returncode == 1


def breaking(times):
    """Break the connection off at the fourth word, so many times."""
    left = iter(range(times))

    def before_word(number):
        if number == 3 and next(left, None) is not None:
            raise ConnectionResetError

    return before_word


def test_an_answer_that_breaks_off_is_given_anew(tmp_path, serve):
    server = serve(before_word=breaking(1))
    done = ask(LISBON, "--id", "one", cwd=tmp_path, **urls(server))
    anew = "\n[answer] It was interrupted; here it is anew\n"
    assert done.stdout.replace("[answer] Writing the answer\nTomorrow in Lisbon, ", "") == (
        SHOWN.replace(f"[answer] Writing the answer\n{ANSWER}\n", f"{anew}{ANSWER}\n")
    )
    assert (done.stderr.count("failed, next try"), done.returncode) == (1, 0)
    assert server.requests[CHAT] == 3
    [data] = events(tmp_path / "flowstore.db", "completed")
    assert data["answer"] == ANSWER


def test_an_answer_that_always_breaks_off_is_an_error_event(tmp_path, serve):
    done = ask(LISBON, "--id", "one", cwd=tmp_path, **urls(serve(before_word=breaking(99))))
    assert done.stdout.count("Tomorrow in Lisbon, \n") == 3
    assert "\nError: " in done.stdout
    assert done.stdout.endswith(ON_RECORD)
    assert done.returncode == 1


@pytest.mark.parametrize("name", ["httpx", "openai"])
def test_without_the_extra_it_says_which(tmp_path, name):
    """A package that is not there: a file in its place that says what Python would say."""
    text = f"raise ModuleNotFoundError('No module named {name}', name={name!r})\n"
    (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = ask(LISBON, cwd=tmp_path, PYTHONPATH=paths)
    assert done.stderr == (
        f"{name} is missing; it comes with: python -m pip install 'flowstore-engine[examples]'\n"
    )
    assert (done.stdout, done.returncode) == ("", 1)


def test_the_clients_own_chunks_can_be_streamed():
    """Who does not want words, as the example does, streams what the client gives."""
    from openai.types.chat import ChatCompletionChunk

    text = (
        '{"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "more": [1],'
        ' "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": null}]}'
    )
    chunk = ChatCompletionChunk.model_validate_json(text)
    recorded = Codec().encode_chunk(chunk, "data.stream[0]")
    assert ChatCompletionChunk.model_validate_json(recorded) == chunk


# --- interruptions ---------------------------------------------------------------------------


@contextlib.contextmanager
def started(*arguments, cwd, **variables):
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "weather_assistant.py"), *arguments],
        cwd=cwd,
        # Unbuffered, it would show its words without being told to.
        env={**environment(), "PYTHONUNBUFFERED": "", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # what is not asked for stays in the pipe
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process, end):
    """Read what it prints up to these words; the rest stays for others."""
    read = b""
    while not read.endswith(end.encode()):
        byte = process.stdout.read(1)
        assert byte, f"it ended early: {read.decode()!r}"
        read += byte
    return read.decode()


def test_killed_in_the_middle_of_the_answer_it_goes_on(tmp_path, serve):
    """G3, G9: the answer is complete, and what was looked up is not looked up again."""
    go_on = threading.Event()
    server = serve(before_word=lambda number: number != 5 or go_on.wait(TIMEOUT))
    with started(LISBON, "--id", "one", cwd=tmp_path, **urls(server)) as process:
        read_until(process, "Tomorrow in Lisbon, Portugal: rain, ")
        process.send_signal(signal.SIGKILL)
        assert process.wait(TIMEOUT) == -signal.SIGKILL
    go_on.set()
    assert dict(server.requests) == {CHAT: 2, SEARCH: 1, FORECAST: 1}
    again = ask(LISBON, "--id", "one", cwd=tmp_path, **urls(server))
    assert (again.stderr, again.returncode) == ("", 0)
    assert again.stdout.endswith(f"\n{ANSWER}\n")
    assert dict(server.requests) == {CHAT: 3, SEARCH: 1, FORECAST: 1}
    # And from now on it is on record.
    once_more = ask(LISBON, "--id", "one", cwd=tmp_path, **urls(server))
    assert once_more.stdout == SHOWN
    assert dict(server.requests) == {CHAT: 3, SEARCH: 1, FORECAST: 1}


@pytest.mark.parametrize("path", [SEARCH, FORECAST])
def test_killed_while_it_looks_up_it_repeats_no_finished_step(tmp_path, serve, path):
    """G3, G9: the request that was under way is made again, those before it are not."""
    entered, go_on = threading.Event(), threading.Event()

    def hold():
        entered.set()
        go_on.wait(TIMEOUT)
        yield None

    server = serve(failures={path: hold()})
    with started(LISBON, "--id", "one", cwd=tmp_path, **urls(server)) as process:
        assert entered.wait(TIMEOUT)
        process.send_signal(signal.SIGKILL)
        process.wait(TIMEOUT)
    go_on.set()
    again = ask(LISBON, "--id", "one", cwd=tmp_path, **urls(server))
    assert again.stdout == SHOWN
    assert dict(server.requests) == {CHAT: 2, SEARCH: 1, FORECAST: 1, path: 2}


def test_an_answer_that_breaks_off_is_asked_for_again(tmp_path, serve):
    """The service drops the connection in the middle of its first answer."""
    broken = iter([True])

    def break_once(number):
        if number == 5 and next(broken, False):
            raise ConnectionAbortedError

    server = serve(before_word=break_once)
    done = ask(LISBON, "--id", "one", cwd=tmp_path, **urls(server))
    assert done.returncode == 0
    assert done.stdout.endswith(f"\n{ANSWER}\n")
    assert dict(server.requests) == {CHAT: 3, SEARCH: 1, FORECAST: 1}
