"""The tables, as versioned migrations: the same for SQLite and PostgreSQL.  Pure.

- `requests` and `attempts` are what happened, a row each.  Retention removes them.
- `rollups`, `hours`, `reasons` and `bins` are sums over them, made in the same transaction.  They are
  additive: rows of several proxies, or of two databases, merge by adding them up.
- `exposures` and `visits` count people: who was first seen in a stage, and who came in an hour.
- `spend` is money by hour and proxy, which budgets are shared and survive a restart by.  A shadow's stands
  apart, under its agent's name and `/shadow`.
- `batches` names what has been written, so that a batch that is sent again counts once.
- `rejected` keeps rows that the database would not take.
- `stages` says when a stage began, and what was frozen for it.
- `brakes`, `holds`, `decisions`, `looks` and `leases` are the rollout's memory: what was tripped, what
  waits for a person, what was done and why, the smallest p-values so far, and who is deciding now.

Compared requests are those with `assignment` `finetuned` or `baseline` and a bucket, on the route
`chat`; `rollups` and `exposures` hold no others.
"""

# Each is one version, run in one transaction, in order; what has been released is never edited.
# `{bare}` is what makes a table without a hidden row number in SQLite, and nothing in PostgreSQL.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE requests (
            id text PRIMARY KEY,
            time double precision NOT NULL,
            hour bigint NOT NULL,
            agent text NOT NULL,
            route text NOT NULL,
            unit text NOT NULL,
            bucket integer NOT NULL,
            percentage double precision NOT NULL,
            salt text NOT NULL,
            policy text NOT NULL,
            assignment text NOT NULL,
            variant text NOT NULL,
            served text NOT NULL,
            status integer NOT NULL,
            failure text NOT NULL,
            fallback text NOT NULL,
            first_ok integer NOT NULL,
            attempts integer NOT NULL,
            latency double precision NOT NULL,
            ttft double precision,
            input bigint NOT NULL,
            output bigint NOT NULL,
            cached bigint NOT NULL,
            reasoning bigint NOT NULL,
            estimated integer NOT NULL,
            cost double precision NOT NULL,
            stream integer NOT NULL,
            response_id text NOT NULL,
            score double precision
        ){bare}
        """,
        "CREATE INDEX requests_response ON requests (response_id) WHERE response_id <> ''",
        """
        CREATE TABLE attempts (
            request_id text NOT NULL,
            number integer NOT NULL,
            upstream text NOT NULL,
            model text NOT NULL,
            status integer NOT NULL,
            failure text NOT NULL,
            started double precision NOT NULL,
            seconds double precision NOT NULL,
            input bigint NOT NULL,
            output bigint NOT NULL,
            cost double precision NOT NULL,
            PRIMARY KEY (request_id, number)
        ){bare}
        """,
        """
        CREATE TABLE rollups (
            agent text NOT NULL,
            salt text NOT NULL,
            percentage double precision NOT NULL,
            bucket integer NOT NULL,
            variant text NOT NULL,
            requests bigint NOT NULL,
            ok bigint NOT NULL,
            first_ok bigint NOT NULL,
            fallbacks bigint NOT NULL,
            cost double precision NOT NULL,
            latency double precision NOT NULL,
            rated bigint NOT NULL,
            score double precision NOT NULL,
            last_hour bigint NOT NULL,
            PRIMARY KEY (agent, salt, percentage, bucket, variant)
        ){bare}
        """,
        """
        CREATE TABLE exposures (
            agent text NOT NULL,
            salt text NOT NULL,
            percentage double precision NOT NULL,
            unit text NOT NULL,
            variant text NOT NULL,
            time double precision NOT NULL,
            PRIMARY KEY (agent, salt, percentage, unit)
        ){bare}
        """,
        """
        CREATE TABLE hours (
            hour bigint NOT NULL,
            agent text NOT NULL,
            assignment text NOT NULL,
            variant text NOT NULL,
            requests bigint NOT NULL,
            ok bigint NOT NULL,
            first_ok bigint NOT NULL,
            fallbacks bigint NOT NULL,
            streams bigint NOT NULL,
            latency double precision NOT NULL,
            ttft double precision NOT NULL,
            input bigint NOT NULL,
            output bigint NOT NULL,
            cached bigint NOT NULL,
            reasoning bigint NOT NULL,
            estimated bigint NOT NULL,
            cost double precision NOT NULL,
            rated bigint NOT NULL,
            score double precision NOT NULL,
            PRIMARY KEY (hour, agent, assignment, variant)
        ){bare}
        """,
        """
        CREATE TABLE reasons (
            hour bigint NOT NULL,
            agent text NOT NULL,
            assignment text NOT NULL,
            variant text NOT NULL,
            kind text NOT NULL,
            reason text NOT NULL,
            requests bigint NOT NULL,
            PRIMARY KEY (hour, agent, assignment, variant, kind, reason)
        ){bare}
        """,
        """
        CREATE TABLE bins (
            hour bigint NOT NULL,
            agent text NOT NULL,
            assignment text NOT NULL,
            variant text NOT NULL,
            kind text NOT NULL,
            bin integer NOT NULL,
            requests bigint NOT NULL,
            PRIMARY KEY (hour, agent, assignment, variant, kind, bin)
        ){bare}
        """,
        """
        CREATE TABLE visits (
            hour bigint NOT NULL,
            agent text NOT NULL,
            assignment text NOT NULL,
            variant text NOT NULL,
            unit text NOT NULL,
            PRIMARY KEY (hour, agent, assignment, variant, unit)
        ){bare}
        """,
        """
        CREATE TABLE spend (
            hour bigint NOT NULL,
            agent text NOT NULL,
            proxy text NOT NULL,
            cost double precision NOT NULL,
            PRIMARY KEY (hour, agent, proxy)
        ){bare}
        """,
        """
        CREATE TABLE feedback (
            id text PRIMARY KEY,
            time double precision NOT NULL,
            request_id text NOT NULL,
            response_id text NOT NULL,
            score double precision NOT NULL,
            comment text NOT NULL,
            joined integer NOT NULL
        ){bare}
        """,
        "CREATE INDEX feedback_waiting ON feedback (time) WHERE joined = 0",
        "CREATE TABLE batches (id text PRIMARY KEY, time double precision NOT NULL){bare}",
        """
        CREATE TABLE rejected (
            id text PRIMARY KEY,
            time double precision NOT NULL,
            error text NOT NULL,
            content text NOT NULL
        ){bare}
        """,
    ),
    (
        # What a verdict needs besides; see `experiment/evidence.py`.  `latency` and `cost` stay as they came.
        "ALTER TABLE rollups ADD COLUMN slow bigint NOT NULL DEFAULT 0",
        "ALTER TABLE rollups ADD COLUMN capped_latency double precision NOT NULL DEFAULT 0",
        "ALTER TABLE rollups ADD COLUMN capped_cost double precision NOT NULL DEFAULT 0",
        """
        CREATE TABLE stages (
            agent text NOT NULL,
            salt text NOT NULL,
            percentage double precision NOT NULL,
            first_time double precision NOT NULL,
            last_time double precision NOT NULL,
            tau double precision,
            latency_cap double precision,
            cost_cap double precision,
            frozen double precision,
            PRIMARY KEY (agent, salt, percentage)
        ){bare}
        """,
        # The latest requests of an agent's baseline, and a stage's: see `thresholds.py`.
        "CREATE INDEX requests_compared ON requests (agent, assignment, id) WHERE route = 'chat' AND bucket >= 0",
        # What is there already: until a stage's thresholds are frozen, nothing is slow and nothing is cut.
        "UPDATE rollups SET capped_latency = latency, capped_cost = cost",
        """
        INSERT INTO stages (agent, salt, percentage, first_time, last_time)
        SELECT sums.agent, sums.salt, sums.percentage, coalesce(seen.first_time, sums.first_time), sums.last_time
        FROM (
            SELECT agent, salt, percentage, min(last_hour) * 3600.0 AS first_time, max(last_hour) * 3600.0 AS last_time
            FROM rollups WHERE last_hour > 0 GROUP BY agent, salt, percentage
        ) AS sums
        LEFT JOIN (
            SELECT agent, salt, percentage, min(time) AS first_time FROM exposures GROUP BY agent, salt, percentage
        ) AS seen
        ON seen.agent = sums.agent AND seen.salt = sums.salt AND seen.percentage = sums.percentage
        """,
        """
        CREATE TABLE brakes (
            id text PRIMARY KEY,
            agent text NOT NULL,
            time double precision NOT NULL,
            evidence text NOT NULL,
            cleared double precision,
            cleared_by text NOT NULL
        ){bare}
        """,
        """
        CREATE TABLE holds (
            agent text PRIMARY KEY,
            kind text NOT NULL,
            reason text NOT NULL,
            time double precision NOT NULL,
            actor text NOT NULL
        ){bare}
        """,
        """
        CREATE TABLE decisions (
            id text PRIMARY KEY,
            time double precision NOT NULL,
            agent text NOT NULL,
            salt text NOT NULL,
            percentage double precision NOT NULL,
            action text NOT NULL,
            target double precision,
            reasons text NOT NULL,
            actor text NOT NULL,
            evidence text NOT NULL
        ){bare}
        """,
        "CREATE INDEX decisions_agent ON decisions (agent, time)",
        """
        CREATE TABLE looks (
            agent text NOT NULL,
            salt text NOT NULL,
            name text NOT NULL,
            p double precision NOT NULL,
            PRIMARY KEY (agent, salt, name)
        ){bare}
        """,
        """
        CREATE TABLE leases (
            name text PRIMARY KEY,
            holder text NOT NULL,
            expires double precision NOT NULL
        ){bare}
        """,
    ),
    # Decisions are counted every few seconds, and their rows are wide.
    ("CREATE INDEX decisions_actions ON decisions (agent, action)",),
)
