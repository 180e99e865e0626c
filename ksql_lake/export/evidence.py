"""What shows that the rows of a stream, or of a push query, are all of them."""

from __future__ import annotations

from ksql_lake.errors import EvidenceError
from ksql_lake.feeds.model import Feed
from ksql_lake.ksqldb.properties import SentProperties
from ksql_lake.ksqldb.version import ServerVersion
from ksql_lake.lake.commit.manifest import Evidence


def pull_evidence(
    sent: SentProperties,
    version: ServerVersion | None,
    *,
    derived: bool,
    refused: tuple[str, ...],
    fell_back: str = "",
) -> Evidence:
    """Judge a pull query of a stream that ended properly.

    Args:
        sent: The properties it carried.
        version: The server's version; None counts as the newest.
        derived: Whether another query writes the stream.
        refused: The properties that the server refuses.
        fell_back: Why a pull query read a stream that is to be read on from its marks.
    """
    doubts = []
    if fell_back:
        doubts.append(f"it was a pull query, which proves nothing of the stream's own source: {fell_back}")
    if not sent.legacy:
        doubts.append("its writer ends an answer in the same way when the query is closed in its middle")
    if version is not None and not version.stream_pulls_say_completed:
        doubts.append(f"release {version.text} ends a pull query without saying that it is complete")
    if sent.rows_may_repeat:
        doubts.append("rows may repeat after a pause of server, broker or client")
    isolation = isolation_of(sent, derived=derived)
    if doubts:
        text = f"the server ended the query as complete, but {'; '.join(doubts)}"
        return Evidence(level="checked", text=text, isolation=isolation, caveats=list(refused))
    text = "the server said that the query was completed, and could not have read rows twice"
    return Evidence(level="proven", text=text, isolation=isolation, caveats=list(refused))


def push_evidence(
    sent: SentProperties,
    *,
    judged_by: str,
    text: str,
    derived: bool,
    refused: tuple[str, ...],
    doubt: str = "",
) -> Evidence:
    """Judge a push query that has caught up: offsets that were reached prove it, unless a doubt remains."""
    return Evidence(
        level="proven" if judged_by == "offsets" and not doubt else "checked",
        text=f"{text}; {doubt}" if doubt else text,
        isolation=isolation_of(sent, derived=derived),
        caveats=list(refused),
    )


def isolation_of(sent: SentProperties, *, derived: bool) -> str:
    """Return which records were read; a derived source holds what its own query has read."""
    if derived:
        return "unknown"
    return "committed" if sent.committed else "uncommitted"


def demand(feed: Feed, evidence: Evidence) -> None:
    """Refuse rows that the feed requires to be proven and that are not.

    Raises:
        EvidenceError: The rows are not proven.
    """
    if feed.evidence == "proven" and evidence.level != "proven":
        raise EvidenceError(
            f"the rows are {evidence.level}, not proven: {evidence.text}",
            hint=f'The feed file says "evidence": "proven". Ways out: {_ways_out(feed)}; or remove the key.',
            feed=feed.name,
        )


def _ways_out(feed: Feed) -> str:
    if feed.kind == "stream" and feed.positions is not None:
        return "correct what is named, and export again"
    if feed.extraction == "push":
        return (
            "let a query on the server read the same topic (CREATE STREAM ... AS SELECT), so "
            "that Kafka's own ends "
            "of it are known"
        )
    if feed.kind == "table":
        return 'name all nodes in KSQLDB_NODES, so that each can be asked by itself; set "extraction": "push"'
    return 'allow the properties that docs/completeness.md lists; set "extraction": "push"'
