"""Links and what hangs on them: tags, lists, finds, totals and the visits of bounded links."""

from collections.abc import Sequence

from asyncpg import Record

from groundswell.kernel import ids, postgres
from groundswell.links.model.codes import shard_of_owner
from groundswell.links.model.links import ClickTotal, Link, Options, Target, find_digest

_LINK = """
    SELECT l.*, d.host AS domain, coalesce(c.clicks, 0) AS clicks, coalesce(c.bots, 0) AS bots,
        ARRAY(SELECT tag FROM link_tags t WHERE (t.tenant_id, t.shard, t.link_id) = (l.tenant_id, l.shard, l.id) ORDER BY position) AS tags,
        EXISTS (SELECT FROM suspicious_links s WHERE (s.tenant_id, s.shard, s.link_id) = (l.tenant_id, l.shard, l.id)) AS suspicious
    FROM links l
    JOIN domains d ON (d.tenant_id, d.id) = (l.tenant_id, l.domain_id)
    LEFT JOIN click_totals c ON (c.tenant_id, c.shard, c.link_id) = (l.tenant_id, l.shard, l.id)
"""
# One statement writes all rows of all links. A link whose code or id is taken gets no row in `links`, and the caller, who learns which
# those are, gives up the transaction and so all the others' rows too.
_INSERT = """
    WITH drafts AS (
        SELECT * FROM unnest($2::smallint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[],
            $10::boolean[], $11::smallint[], $12::integer[], $13::text[], $14::bigint[], $15::bytea[], $16::bigint[])
        AS t(shard, id, domain_id, code, destination, valid_since_ms, expires_ms, max_visits, is_active, redirect_status, edge_seconds,
            title, created_ms, digest, version)
    ), listed AS (
        INSERT INTO links_by_owner SELECT $1, $17, $18, id FROM drafts ON CONFLICT DO NOTHING
    ), findable AS (
        INSERT INTO link_finds SELECT $1, $17, $18, digest, id FROM drafts ON CONFLICT DO NOTHING
    )
    INSERT INTO links (tenant_id, shard, id, domain_id, code, owner, destination, valid_since_ms, expires_ms, max_visits, is_active,
        redirect_status, edge_seconds, title, created_ms, updated_ms, version)
    SELECT $1, shard, id, domain_id, code, $18, destination, valid_since_ms, expires_ms, max_visits, is_active, redirect_status,
        edge_seconds, title, created_ms, created_ms, version FROM drafts
    ON CONFLICT DO NOTHING RETURNING id
"""
_COUNT_VISITS = """
    WITH before AS (
        SELECT visits_used FROM links WHERE (tenant_id, shard, id) = ($1, $2, $3) AND visits_used < max_visits FOR UPDATE
    )
    UPDATE links l SET visits_used = least(l.max_visits, before.visits_used + $4) FROM before
    WHERE (l.tenant_id, l.shard, l.id) = ($1, $2, $3) RETURNING l.visits_used - before.visits_used
"""
_TAKE_TOTALS = """
    INSERT INTO click_totals (tenant_id, shard, link_id, clicks, bots)
    SELECT l.tenant_id, l.shard, l.id, n.clicks, n.bots
    FROM unnest($2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS n(shard, link_id, clicks, bots)
    JOIN links l ON (l.tenant_id, l.shard, l.id) = ($1, n.shard, n.link_id)
    ORDER BY l.shard, l.id
    ON CONFLICT (tenant_id, shard, link_id)
    DO UPDATE SET clicks = greatest(click_totals.clicks, excluded.clicks), bots = greatest(click_totals.bots, excluded.bots)
"""


class LinkStore:
    """The links of the transaction's tenant."""

    def __init__(self, tx: postgres.Tx) -> None:
        self._tx = tx

    async def add(self, owner: str, links: Sequence[Link]) -> list[Link]:
        """Inserts `links`, all of `owner`; returns those that could not be, because their code (or id) is taken.

        Waits for concurrent claims of the same code. The caller gives up the transaction unless nothing is returned.
        """
        columns = zip(*[_row(link) for link in links], strict=True)
        made = await self._tx.fetch(_INSERT, self._tx.tenant, *map(list, columns), shard_of_owner(owner), owner)
        inserted = {row["id"] for row in made}
        refused = [link for link in links if link.id not in inserted]
        if not refused:
            await self._add_tags(links)
            await self._flag([link for link in links if link.options.suspicious])
        return refused

    async def release_code(self, link: Link, deleted_before_ms: int) -> int:
        """Removes the link that had this link's code, if it was deleted so long ago that the code is free again.

        Returns the version with which it ended, 0 when there was none: caches may still hold that.
        """
        version = await self._tx.fetchval(
            "DELETE FROM links WHERE (tenant_id, shard, domain_id, code) = ($1, $2, $3, $4) AND deleted_ms < $5 RETURNING version",
            self._tx.tenant, ids.shard_of(link.id), link.domain_id, link.code, deleted_before_ms,
        )  # fmt: skip
        return int(version or 0)

    async def get(self, link: int, *, lock: bool = False) -> Link | None:
        """A link that is not deleted, locked against other changes if asked."""
        query = f"{_LINK} WHERE l.tenant_id = $1 AND l.shard = $2 AND l.id = $3 AND l.deleted_ms IS NULL"
        row = await self._tx.fetchrow(
            query + (" FOR UPDATE OF l" if lock else ""), self._tx.tenant, ids.shard_of(link), link
        )
        return None if row is None else _link(row)

    async def with_code(self, shard: int, domain: int, code: str) -> Link | None:
        """The link with this code, if it is not deleted."""
        where = "WHERE l.tenant_id = $1 AND l.shard = $2 AND l.domain_id = $3 AND l.code = $4 AND l.deleted_ms IS NULL"
        row = await self._tx.fetchrow(f"{_LINK} {where}", self._tx.tenant, shard, domain, code)
        return None if row is None else _link(row)

    async def target(self, shard: int, domain: int, code: str) -> Target | None:
        """What a redirect needs, deleted links included: their version keeps older records out of caches."""
        row = await self._tx.fetchrow(
            "SELECT l.*, EXISTS (SELECT FROM suspicious_links s WHERE (s.tenant_id, s.shard, s.link_id) = (l.tenant_id, l.shard, l.id)) "
            "AS suspicious FROM links l WHERE tenant_id = $1 AND shard = $2 AND domain_id = $3 AND code = $4",
            self._tx.tenant,
            shard,
            domain,
            code,
        )
        return None if row is None else _target(row)

    async def code_exists(self, link: Link) -> bool:
        """Whether a link has this link's code, or had it and still reserves it."""
        return await self.target(ids.shard_of(link.id), link.domain_id, link.code) is not None

    async def page(self, owner: str, before: int, size: int) -> list[Link]:
        """Up to `size` links of `owner` with ids below `before`, newest first."""
        rows = await self._tx.fetch(
            f"""WITH listed AS (SELECT link_id FROM links_by_owner WHERE (tenant_id, shard, owner) = ($1, $2, $3) AND link_id < $4
                    ORDER BY link_id DESC LIMIT $5)
                {_LINK} JOIN listed o ON l.shard = ((o.link_id >> 10) & 8191)::smallint AND l.id = o.link_id
                WHERE l.tenant_id = $1 AND l.deleted_ms IS NULL ORDER BY l.id DESC""",
            self._tx.tenant,
            shard_of_owner(owner),
            owner,
            before,
            size,
        )
        return [_link(row) for row in rows]

    async def alike(self, owner: str, digest: bytes) -> list[Link]:
        """The owner's links with this digest, newest first. Callers with the same digest wait for each other until commit."""
        await self._tx.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", owner + digest.hex(), self._tx.tenant
        )
        rows = await self._tx.fetch(
            f"""{_LINK} JOIN link_finds f ON l.shard = ((f.link_id >> 10) & 8191)::smallint AND l.id = f.link_id
                WHERE l.tenant_id = $1 AND (f.tenant_id, f.shard, f.owner, f.digest) = ($1, $2, $3, $4) AND l.deleted_ms IS NULL
                ORDER BY l.id DESC LIMIT 100""",
            self._tx.tenant,
            shard_of_owner(owner),
            owner,
            digest,
        )
        return [_link(row) for row in rows]

    async def change(self, before: Link, after: Link) -> None:
        """Writes a changed link; `before` is what `get(…, lock=True)` returned."""
        chosen = after.options
        await self._tx.execute(
            "UPDATE links SET destination = $4, valid_since_ms = $5, expires_ms = $6, max_visits = $7, is_active = $8, "
            "redirect_status = $9, edge_seconds = $10, title = $11, updated_ms = $12, version = $13 "
            "WHERE (tenant_id, shard, id) = ($1, $2, $3)",
            *self._key(after), chosen.destination, chosen.valid_since_ms, chosen.expires_ms, chosen.max_visits, chosen.active,
            chosen.redirect_status, chosen.edge_seconds, chosen.title, after.updated_ms, after.version,
        )  # fmt: skip
        if before.options.tags != chosen.tags:
            await self._tx.execute(
                "DELETE FROM link_tags WHERE (tenant_id, shard, link_id) = ($1, $2, $3)", *self._key(after)
            )
            await self._add_tags([after])
        if chosen.suspicious:
            await self._flag([after])
        elif before.options.suspicious:
            await self._tx.execute(
                "DELETE FROM suspicious_links WHERE (tenant_id, shard, link_id) = ($1, $2, $3)", *self._key(after)
            )
        await self._unfind(before)
        await self._tx.execute(
            "INSERT INTO link_finds (tenant_id, shard, owner, digest, link_id) VALUES ($1, $2, $3, $4, $5)",
            self._tx.tenant, shard_of_owner(after.owner), after.owner, find_digest(after.domain_id, chosen), after.id,
        )  # fmt: skip

    async def delete(self, link: Link) -> None:
        """Takes a link away but for its code; `link` carries its last version and moment."""
        await self._tx.execute(
            "UPDATE links SET deleted_ms = $4, updated_ms = $4, version = $5 WHERE (tenant_id, shard, id) = ($1, $2, $3)",
            *self._key(link),
            link.updated_ms,
            link.version,
        )
        await self._unfind(link)
        await self._tx.execute(
            "DELETE FROM links_by_owner WHERE (tenant_id, shard, owner, link_id) = ($1, $2, $3, $4)",
            self._tx.tenant, shard_of_owner(link.owner), link.owner, link.id,
        )  # fmt: skip

    async def count_visits(self, link: int, visits: int) -> int:
        """Spends up to `visits` of a bounded link; returns how many were left to spend. Never more than `max_visits` in all."""
        return await self._tx.fetchval(_COUNT_VISITS, self._tx.tenant, ids.shard_of(link), link, visits) or 0

    async def take_totals(self, totals: Sequence[ClickTotal]) -> None:
        """Raises totals to what they are at least; items that are no link here are ignored. Each link at most once."""
        shards = [ids.shard_of(total.link) for total in totals]
        columns = [
            [total.link for total in totals],
            [total.clicks for total in totals],
            [total.bots for total in totals],
        ]
        await self._tx.execute(_TAKE_TOTALS, self._tx.tenant, shards, *columns)

    def _key(self, link: Link) -> tuple[int, int, int]:
        return self._tx.tenant, ids.shard_of(link.id), link.id

    async def _add_tags(self, links: Sequence[Link]) -> None:
        rows = [
            (ids.shard_of(link.id), link.id, position, tag)
            for link in links
            for position, tag in enumerate(link.options.tags)
        ]
        if rows:
            await self._tx.execute(
                "INSERT INTO link_tags SELECT $1, * FROM unnest($2::smallint[], $3::bigint[], $4::smallint[], $5::text[])",
                self._tx.tenant,
                *map(list, zip(*rows, strict=True)),
            )

    async def _flag(self, links: Sequence[Link]) -> None:
        if links:
            await self._tx.execute(
                "INSERT INTO suspicious_links SELECT $1, * FROM unnest($2::smallint[], $3::bigint[]) ON CONFLICT DO NOTHING",
                self._tx.tenant,
                [ids.shard_of(link.id) for link in links],
                [link.id for link in links],
            )

    async def _unfind(self, link: Link) -> None:
        await self._tx.execute(
            "DELETE FROM link_finds WHERE (tenant_id, shard, owner, digest, link_id) = ($1, $2, $3, $4, $5)",
            self._tx.tenant, shard_of_owner(link.owner), link.owner, find_digest(link.domain_id, link.options), link.id,
        )  # fmt: skip


def _row(link: Link) -> tuple[object, ...]:
    """In the order of `drafts` in `_INSERT`."""
    chosen = link.options
    return (
        ids.shard_of(link.id), link.id, link.domain_id, link.code, chosen.destination, chosen.valid_since_ms, chosen.expires_ms,
        chosen.max_visits, chosen.active, chosen.redirect_status, chosen.edge_seconds, chosen.title, link.created_ms,
        find_digest(link.domain_id, chosen), link.version,
    )  # fmt: skip


def _link(row: Record) -> Link:
    options = Options(
        destination=row["destination"],
        valid_since_ms=row["valid_since_ms"],
        expires_ms=row["expires_ms"],
        max_visits=row["max_visits"],
        active=row["is_active"],
        redirect_status=row["redirect_status"],
        edge_seconds=row["edge_seconds"],
        title=row["title"],
        tags=tuple(row["tags"]),
        suspicious=row["suspicious"],
    )
    return Link(
        id=row["id"],
        tenant=row["tenant_id"],
        domain_id=row["domain_id"],
        domain=row["domain"],
        code=row["code"],
        owner=row["owner"],
        options=options,
        created_ms=row["created_ms"],
        updated_ms=row["updated_ms"],
        version=row["version"],
        visits_used=row["visits_used"],
        clicks=row["clicks"],
        bots=row["bots"],
    )


def _target(row: Record) -> Target:
    return Target(
        link=row["id"],
        tenant=row["tenant_id"],
        version=row["version"],
        destination=row["destination"],
        redirect_status=row["redirect_status"],
        edge_seconds=row["edge_seconds"],
        valid_since_ms=row["valid_since_ms"],
        expires_ms=row["expires_ms"],
        max_visits=row["max_visits"],
        active=row["is_active"],
        deleted=row["deleted_ms"] is not None,
        suspicious=row["suspicious"],
    )
