"""psycopg2: parameters, cursors, COPY, jsonb, times with zones, composites, roles."""

import datetime
import io

import psycopg2.extras

from client import CLICKS, connect, done, equal, ok, raises, rows, value, window

Json = psycopg2.extras.Json

db = connect()
db.autocommit = True
start, end = window(db)


def plain_count(condition, parameters):
    return value(db, f'SELECT count(*) FROM {CLICKS} WHERE {condition}', parameters)


# Parameters: put in by the client, by name, and kept by the server

for ad_id in 1001, 1002, 1096, 999:
    equal(value(db, 'SELECT adclick.ad_click_count_between(%s, %s, %s)', (ad_id, start, end)),
          plain_count('ad_id = %s', (ad_id,)), f'ad {ad_id} by psycopg2 parameters')

filters = {'country': ['CA', 'FR'], 'region': 'Île-de-France'}
equal(value(db, 'SELECT adclick.ad_click_count_between(1001, "from" => %(from)s, "to" => %(to)s, filters => %(filters)s)',
            {'from': start, 'to': end, 'filters': Json(filters)}),
      plain_count('ad_id = 1001 AND country = ANY (%s) AND region = %s', (filters['country'], filters['region'])),
      'named arguments, and filters by the Json adapter')

with db.cursor() as cursor:
    cursor.execute('PREPARE question (bigint, timestamptz, timestamptz, jsonb) AS'
                   ' SELECT adclick.ad_click_count_between($1, $2, $3, $4)')
ads = [1001 + i for i in range(12)]
equal([value(db, 'EXECUTE question (%s, %s, %s, %s)', (ad, start, end, Json({'device': 'mobile'}))) for ad in ads],
      [plain_count("ad_id = %s AND device = 'mobile'", (ad,)) for ad in ads],
      'a statement prepared in the server, executed twelve times')

# Parameters and literals without a type: no question shares its name with another

QUESTIONS = {  # the first argument, what comes after the window, and a plain answer
    'ad_click_count': (1001, (), 'count(*) FROM {} WHERE ad_id = 1001'),
    'top_n_ads': (3, (), 'row_number() OVER (ORDER BY count(*) DESC, ad_id), ad_id, count(*) FROM {} GROUP BY 2 ORDER BY 1 LIMIT 3'),
    'breakdown': (1001, ('country',), 'country, count(*) FROM {} WHERE ad_id = 1001 GROUP BY 1 ORDER BY 2 DESC, 1'),
    'unique_users': (1001, (), 'count(DISTINCT user_id) FROM {} WHERE ad_id = 1001'),
    'advertiser_click_count': (3, (), 'count(*) FROM {} WHERE ad_id IN (SELECT ad_id FROM adclick.ads WHERE advertiser_id = 3)')}
for question, (first, rest, plain) in QUESTIONS.items():
    expected = rows(db, f'SELECT {plain.format(CLICKS)}')
    for name, times in (question, ('1440',)), (f'{question}_between', ('-infinity', 'infinity')):
        arguments = (str(first), *times, *rest, '{}')
        equal(rows(db, f"SELECT * FROM adclick.{name}({', '.join(['%s'] * len(arguments))})", arguments), expected,
              f'{name} with untyped literals')
        with db.cursor() as cursor:
            cursor.execute(f"PREPARE untyped AS SELECT * FROM adclick.{name}"
                           f"({', '.join(f'${i + 1}' for i in range(len(arguments)))})")
        equal(rows(db, f"EXECUTE untyped ({', '.join(['%s'] * len(arguments))})", arguments), expected,
              f'{name} with untyped parameters in the server')
        with db.cursor() as cursor:
            cursor.execute('DEALLOCATE untyped')

# Filters of every kind

for filters, condition in (
        ({'user_id': 7}, 'user_id = 7'),
        ({'user_id': [7, 8], 'country': 'CA'}, "user_id IN (7, 8) AND country = 'CA'"),
        ({'ip': '203.0.113.5'}, "ip = '203.0.113.5'"),
        ({'ip': '203.0.113.0/29'}, "ip <<= '203.0.113.0/29'"),
        ({'advertiser_id': 3}, 'ad_id IN (SELECT ad_id FROM adclick.ads WHERE advertiser_id = 3)'),
        ({'device': 'desktop'}, "device = 'desktop'")):
    equal(rows(db, 'SELECT * FROM adclick.top_n_ads_between(10, %s, %s, %s)', (start, end, Json(filters))),
          rows(db, f'SELECT row_number() OVER (ORDER BY count(*) DESC, ad_id)::int, ad_id, count(*)'
                   f' FROM {CLICKS} WHERE {condition} GROUP BY ad_id ORDER BY 1 LIMIT 10'),
          f'top ten with {filters}')

error = raises('22023', 'an unknown filter is an error',
               value, db, 'SELECT adclick.ad_click_count(1001, 60, %s)', (Json({'city': 'Montreal'}),))
ok(error and error.diag.message_hint, 'with a hint', error)

# Cursors in the server

plain_facts = rows(db, f"""SELECT ad_id, click_minute, country, region, device, count(*)
                           FROM {CLICKS} GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5""")
FACTS = """SELECT ad_id, click_minute, country, region, device, click_count
           FROM adclick.clicks_per_minute ORDER BY 1, 2, 3, 4, 5"""
reader = connect('bi')
with reader, reader.cursor('facts') as cursor:
    cursor.itersize = 100
    cursor.execute(FACTS)
    equal(list(cursor), plain_facts, 'a named cursor reads the view in many round trips')

with reader, reader.cursor('facts', scrollable=True) as cursor:
    cursor.execute('SELECT ad_id, click_count FROM adclick.ad_click_counts')
    first = cursor.fetchmany(50)
    cursor.scroll(-50)
    equal(cursor.fetchmany(50), first, 'a cursor scrolls back over a view')

cursor = reader.cursor('facts', withhold=True)
cursor.execute(FACTS)
reader.commit()
equal(cursor.fetchall(), plain_facts, 'a cursor WITH HOLD outlives its transaction')
cursor.close()
reader.rollback()

# COPY: what a writer sends counts in its own transaction, and for others once it commits

OWN = 'SELECT adclick.ad_click_count(7001, 60)'
FEED = '\n'.join(f'7001,2.0.0.{i},CA,QC,mobile' for i in range(25))
COPY = 'COPY adclick.clicks (ad_id, ip, country, region, device) FROM STDIN WITH (FORMAT csv)'

writer = connect()
for end_transaction, committed in (writer.rollback, 0), (writer.commit, 25):
    with writer.cursor() as cursor:
        cursor.copy_expert(COPY, io.StringIO(FEED))
    equal((value(writer, OWN), value(db, OWN)), (25, 0), 'clicks copied in count for the writer alone')
    end_transaction()
    equal((value(writer, OWN), value(db, OWN)), (committed, committed), f'after {end_transaction.__name__} for all')
    writer.rollback()
equal(value(db, 'SELECT sum(click_count) FROM adclick.ad_click_counts WHERE ad_id = 7001'), 25, 'and in the views')

# Times

with reader, reader.cursor() as cursor:
    series = []
    for zone in 'UTC', 'Asia/Kolkata', 'America/St_Johns':
        cursor.execute("SELECT set_config('TimeZone', %s, true)", (zone,))
        series.append(rows(reader, "SELECT * FROM adclick.click_series(1001, %s, %s, interval '5 minutes')",
                           (start, end)))
    ok(all(time.tzinfo for time, _ in series[0]), 'times of a series come back aware of their zone')
    ok(series[0] == series[1] == series[2], 'and are the same in every zone', *series)
    buckets = -(-(end - start) // datetime.timedelta(minutes=5))
    equal([time for time, _ in series[0]], [start + i * datetime.timedelta(minutes=5) for i in range(buckets)],
          'one for each bucket')
    equal([count for _, count in series[0]],
          [plain_count("ad_id = 1001 AND click_minute >= %s AND click_minute < %s::timestamptz + interval '5 minutes'",
                       (time, time)) for time, _ in series[0]],
          'with its clicks')

equal(rows(db, "SELECT * FROM adclick.breakdown_between(1001, %s, %s, 'country')", (start, end)),
      rows(db, f'SELECT country, count(*) FROM {CLICKS} WHERE ad_id = 1001 GROUP BY 1 ORDER BY 2 DESC, 1'),
      'a breakdown')
equal(value(db, 'SELECT adclick.unique_users_between(1001, %s, %s)', (start, end)),
      value(db, f'SELECT count(DISTINCT user_id) FROM {CLICKS} WHERE ad_id = 1001'), 'unique users')
equal(value(db, 'SELECT adclick.advertiser_click_count_between(3, %s, %s)', (start, end)),
      plain_count('ad_id IN (SELECT ad_id FROM adclick.ads WHERE advertiser_id = 3)', ()), "an advertiser's clicks")

# Arrays of composites

psycopg2.extras.register_composite('adclick.ad_click', db)
closed = rows(db, 'SELECT DISTINCT click_minute FROM adclick.most_clicked_ads ORDER BY 1')
registered = value(db, """SELECT filter_id FROM adclick.filters
                          WHERE country = 'CA' AND region IS NULL AND device IS NULL""")
for filter_id, condition in (0, 'true'), (registered, "country = 'CA'"):
    lists = rows(db, """SELECT click_minute, most_clicked_ads, cut_off FROM adclick.most_clicked_ads
                        WHERE filter_id = %s ORDER BY 1""", (filter_id,))
    ok(closed and [minute for minute, _, _ in lists] == [minute for minute, in closed],
       f'filter {filter_id}: a list for each closed minute', closed, lists)
    ok(all(entry.ad_id and entry.click_count for _, ads, _ in lists for entry in ads), 'of named tuples', lists)
    equal(lists, [(minute, rows(db, f"""SELECT ad_id, count(*) FROM {CLICKS}
                                        WHERE click_minute = %s AND {condition} GROUP BY 1 ORDER BY 2 DESC, 1""",
                                (minute,)), 0) for minute, in closed], 'its ads, best first')
ok(any(not ads for _, ads, _ in lists), 'some of them empty')

# A click that is redirected, its parameters without a type

with db.cursor() as cursor:
    cursor.execute('PREPARE redirect AS SELECT adclick.click($1, $2, $3, $4, $5, $6, $7)')
token = value(db, 'SELECT adclick.new_impression(%s, %s)', ('1001', '507'))
equal(value(db, 'EXECUTE redirect (%s, %s, %s, %s, %s, %s, %s)', ('1001', '507', '203.0.113.7', 'CA', None, 'mobile', token)),
      'https://shop.example/1001', 'where it leads to')
raises('UA001', 'an ad that is unknown', value, db, 'SELECT adclick.click(%s, NULL, NULL, NULL, NULL, NULL)', ('4711',))

# A role that only reads

reader.set_session(readonly=True, autocommit=True)
equal(rows(reader, 'SELECT * FROM adclick.top_n_ads_between(5, %s, %s)', (start, end)),
      rows(db, 'SELECT * FROM adclick.top_n_ads_between(5, %s, %s)', (start, end)), 'the role of docs/bi.md asks')
equal(value(reader, 'SELECT sum(click_count) FROM adclick.clicks_per_minute'),
      plain_count('true', ()), 'and reads the views, read only')
equal(value(reader, 'SELECT lag_rows >= 0 AND workers_alive IS NOT NULL FROM adclick.status'), True, 'and the status')
for refused in ('SELECT count(*) FROM adclick.clicks', 'SELECT count(*) FROM adclick.click_log', 'SELECT * FROM adclick.tick()', 'SELECT * FROM adclick.compact()',
                'SELECT adclick.add_filter(\'{"country": "FR"}\')', 'SELECT adclick.drop_filter(\'{"country": "CA"}\')',
                'SELECT count(*) FROM adclick_internal.segments', 'DELETE FROM adclick.ads'):
    raises('25006' if refused.startswith('DELETE') else '42501', f'but not: {refused}', rows, reader, refused)

done()
