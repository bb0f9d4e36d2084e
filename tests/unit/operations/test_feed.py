"""Tests of feeds: pieces in order, an end for everyone, and nothing kept for nobody."""

from __future__ import annotations

import asyncio

import pytest

from handshake.kernel.errors import Draining
from handshake.kernel.ids import JobId
from handshake.kernel.job import JobState
from handshake.operations.feed import Feed, Feeds, Over, Piece, Retrying, Started, Text

JOB = JobId("job")
OVER = Over(JobState.COMPLETED)


async def all_of(feed: Feed) -> list[Piece]:
    return [piece async for piece in feed]


async def test_pieces_come_in_order_and_text_that_waits_is_joined() -> None:
    feed = Feed()
    pieces = (Started(1), Text("a"), Text("b"), Retrying(1, "reset", 500), Started(2), Text("c"), OVER)
    for piece in pieces:
        feed.push(piece)
    assert await all_of(feed) == [Started(1), Text("ab"), Retrying(1, "reset", 500), Started(2), Text("c"), OVER]


async def test_who_waits_gets_each_piece_as_it_comes() -> None:
    feed = Feed()
    stream = aiter(feed)
    for piece in (Started(1), Text("a"), Text("b"), OVER):
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        assert not waiting.done()
        feed.push(piece)
        assert await waiting == piece
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_nothing_comes_after_the_end() -> None:
    feed = Feed()
    for piece in (OVER, Text("late"), Over(JobState.CANCELLED)):
        feed.push(piece)
    assert await all_of(feed) == [OVER]
    assert await all_of(feed) == []


async def test_two_who_share_a_feed_both_see_its_end() -> None:
    feed = Feed()
    readers = [asyncio.ensure_future(all_of(feed)) for _ in range(2)]
    await asyncio.sleep(0)
    feed.push(Text("a"))
    feed.push(OVER)
    assert sorted(map(len, await asyncio.gather(*readers))) == [0, 2]


async def test_everyone_who_listens_hears_everything_and_others_nothing() -> None:
    feeds = Feeds()
    first, second, other = feeds.listen(JOB), feeds.listen(JOB), feeds.listen(JobId("other"))
    feeds.push(JOB, Text("a"))
    feeds.leave(JOB, second)
    feeds.push(JOB, OVER)
    feeds.push(JobId("nobody"), OVER)
    assert await all_of(first) == [Text("a"), OVER]
    feeds.close()
    for feed, left in ((second, [Text("a")]), (other, [])):
        stream = aiter(feed)
        for piece in left:
            assert await anext(stream) == piece
        if feed is other:
            with pytest.raises(Draining):
                await anext(stream)


async def test_leaving_twice_or_as_a_stranger_does_nothing() -> None:
    feeds = Feeds()
    feed = feeds.listen(JOB)
    for _ in range(2):
        feeds.leave(JOB, feed)
    feeds.leave(JOB, Feed())
    feeds.push(JOB, OVER)
    feed.push(Over(JobState.FAILED))
    assert await all_of(feed) == [Over(JobState.FAILED)]


async def test_nobody_is_remembered_after_the_end() -> None:
    feeds = Feeds()
    forgotten = [feeds.listen(JobId(f"job-{number}")) for number in range(100)]
    for number in range(100):
        feeds.push(JobId(f"job-{number}"), OVER)
    assert not feeds._by_job
    assert [await all_of(feed) for feed in forgotten] == [[OVER]] * 100


async def test_closing_ends_every_feed_after_what_it_holds() -> None:
    feeds = Feeds()
    waiting, ended = feeds.listen(JOB), feeds.listen(JOB)
    ended.push(OVER)
    reader = asyncio.ensure_future(all_of(waiting))
    await asyncio.sleep(0)
    feeds.close()
    with pytest.raises(Draining):
        await reader
    assert await all_of(ended) == [OVER]
    with pytest.raises(Draining):
        await all_of(feeds.listen(JOB))
