"""What the tests in Python share: TAP, connections, and answers by plain SQL."""

import datetime
import os

import psycopg2

PASSWORDS = {'bi': 'change me', 'shop': 'sends clicks'}

# adclick.click_log, each click with its minute and with its dimensions as they are counted.
CLICKS = """(
    SELECT ad_id, date_trunc('minute', clicked_at, 'UTC') AS click_minute, user_id, ip,
        coalesce(country, 'unknown') AS country, coalesce(region, 'unknown') AS region,
        coalesce(device, 'unknown') AS device
    FROM adclick.click_log) clicks"""

_tests = 0


def ok(passed, name, *diagnostics):
    global _tests
    _tests += 1
    print(f"{'ok' if passed else 'not ok'} {_tests} - {name}", flush=True)
    if not passed:
        for line in '\n'.join(str(d) for d in diagnostics).splitlines():
            print('#', line[:1000])
    return passed


def equal(got, expected, name):
    return ok(got == expected, name, f'got      {got}', f'expected {expected}')


def raises(sqlstate, name, function, *args):
    """Whether the call fails with the SQLSTATE; returns the error."""
    try:
        function(*args)
    except psycopg2.Error as error:
        equal(error.pgcode, sqlstate, name)
        return error
    ok(False, name, 'no error')
    return None


def done():
    print(f'1..{_tests}')


def connect(role='postgres'):
    """A connection of psycopg2: by the socket, but by TCP and password for those who have one."""
    if role in PASSWORDS:
        return psycopg2.connect(host='127.0.0.1', user=role, password=PASSWORDS[role])
    return psycopg2.connect(user=role)


def url(role):
    """The same for SQLAlchemy."""
    password = PASSWORDS[role].replace(' ', '%20')
    return f"postgresql+psycopg2://{role}:{password}@127.0.0.1:{os.environ['PGPORT']}/{os.environ['PGDATABASE']}"


def rows(connection, query, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetchall()


def value(connection, query, parameters=None):
    return rows(connection, query, parameters)[0][0]


def window(connection):
    """From the first minute with clicks to the end of the last."""
    first, last = rows(connection, f'SELECT min(click_minute), max(click_minute) FROM {CLICKS}')[0]
    return first, last + datetime.timedelta(minutes=1)


def sql_blocks(path):
    """The ```sql blocks of a page."""
    with open(path, encoding='utf-8') as page:
        parts = page.read().split('```')[1::2]
    return [part[len('sql\n'):] for part in parts if part.startswith('sql\n')]
