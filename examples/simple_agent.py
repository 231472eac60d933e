"""Answer a question from a small library: query, search, generate, completed.

Written for the in-memory library microflow; the import line is the only one that changed.
Every run is kept in ``./flowstore.db``: ``flowstore runs`` and ``flowstore log RUN`` show it.

    python examples/simple_agent.py "How do lighthouses warn ships?"
"""

# ruff: noqa: ANN001, ANN201, ARG001, D103
# (a script of the kind that microflow's users have: plain functions without annotations)

import asyncio
import sys

from flowstore import WorkflowEvent, WorkflowManager

LIBRARY = {
    "Lighthouses": "Lighthouses warn ships of rocks with a light whose rhythm is their name.",
    "Tides": "Tides rise and fall about twice a day, because the Moon pulls at the sea.",
    "Harbours": "Harbours give ships shelter from wind and waves.",
    "Sextants": "Sextants measure the height of a star, which tells how far north a ship is.",
}
SMALL_WORDS = {"a", "and", "are", "do", "does", "how", "in", "is", "of", "the", "what", "why"}


async def on_query(event, ctx):
    question = event.data["question"].strip()
    yield WorkflowEvent.progress("query", f"Reading the question: {question}")
    words = {word.strip("?.,!").lower() for word in question.split()} - SMALL_WORDS
    if not words:
        raise ValueError("there is no word in the question to search for")
    ctx["question"] = question
    yield WorkflowEvent(name="search", data={"words": sorted(words)}, metadata=event.metadata)


async def on_search(event, ctx):
    words = set(event.data["words"])
    yield WorkflowEvent.progress("search", f"Searching {len(LIBRARY)} pages")
    found = []
    for title, text in LIBRARY.items():
        hits = words & {word.strip(".,").lower() for word in text.split()}
        if hits:
            found.append({"title": title, "text": text, "hits": len(hits)})
    found.sort(key=lambda page: -page["hits"])
    yield WorkflowEvent(name="generate", data={"pages": found[:2]}, metadata=event.metadata)


async def on_generate(event, ctx):
    pages = event.data["pages"]
    yield WorkflowEvent.progress("generate", f"Writing an answer from {len(pages)} pages")
    answer = " ".join(page["text"] for page in pages) or "The library has nothing on this."
    yield WorkflowEvent(
        name="completed",
        data={
            "question": ctx["question"],
            "answer": answer,
            "sources": [page["title"] for page in pages],
        },
        metadata=event.metadata,
    )


async def main():
    question = " ".join(sys.argv[1:]) or "How do lighthouses warn ships?"
    workflow = WorkflowManager()
    workflow.register("query", on_query)
    workflow.register("search", on_search)
    workflow.register("generate", on_generate)

    first = WorkflowEvent(name="query", data={"question": question}, metadata={"user": "visitor"})
    async for event in workflow.process(first):
        if event.name == "progress":
            print(f"[{event.data['step']}] {event.data['description']}")
        elif event.name == "completed":
            print(f"Answer: {event.data['answer']}")
            print(f"Sources: {', '.join(event.data['sources']) or 'none'}")
        elif event.name == "error":
            print(f"Error: {event.error}")


if __name__ == "__main__":
    asyncio.run(main())
