"""Whether a PostgreSQL server is set so that it can lose data; asked without a pool."""

import psycopg

from ai_stack.errors import DatabaseUnavailable

TIMEOUT_S = 3
UNSAFE = """
    SELECT name FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off'
"""


def unsafe_settings(url: str) -> list[str]:
    """The settings that are off and ought to be on; DatabaseUnavailable when it does not answer."""
    try:
        with psycopg.connect(url, connect_timeout=TIMEOUT_S, autocommit=True) as connection:
            return [str(row[0]) for row in connection.execute(UNSAFE)]
    except psycopg.Error as error:
        raise DatabaseUnavailable("it does not answer, or lets this user in no more.") from error
