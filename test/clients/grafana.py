"""examples/grafana-dashboard.json: each query executed, its macros expanded as Grafana does."""

import datetime
import json
import re

from client import CLICKS, connect, done, equal, ok, rows, window

with open('examples/grafana-dashboard.json', encoding='utf-8') as file:
    dashboard = json.load(file)
panels = dashboard['panels']
variables = {variable['name']: variable for variable in dashboard['templating']['list']}

MINUTE = datetime.timedelta(minutes=1)
TIMESTAMPTZ, TEXT = 1184, 25
NUMBERS = {20: 'int8', 21: 'int2', 23: 'int4', 701: 'float8', 1700: 'numeric'}


def expand(sql, start, end, interval, ad, country):
    """What Grafana sends: first its variables, then $__interval, then the macros of PostgreSQL's data source."""
    sql = sql.replace('$country', country).replace('$ad', ad)
    minutes = interval // MINUTE
    sql = sql.replace('$__interval_ms', str(minutes * 60000))
    sql = sql.replace('$__interval', f'{minutes // 60}h' if minutes % 60 == 0 else f'{minutes}m')
    first, last = (f"'{time.astimezone(datetime.timezone.utc):%Y-%m-%dT%H:%M:%S.%f}Z'" for time in (start, end))
    macros = {
        '__timeFrom': lambda _: first,
        '__timeTo': lambda _: last,
        '__timeFilter': lambda column: f'{column} BETWEEN {first} AND {last}'}
    return re.sub(r'\$(\w+)\(([^)]*)\)', lambda macro: macros[macro[1]](macro[2]), sql)


bi = connect('bi')
bi.autocommit = True


def answer(sql, **values):
    """Column names, their types, and rows; what is left of a variable is an error."""
    sql = expand(sql, **values)
    assert '$' not in sql, sql
    with bi.cursor() as cursor:
        cursor.execute(sql)
        return [column.name for column in cursor.description], [column.type_code for column in cursor.description], \
            cursor.fetchall()


# The file

ok(36 <= dashboard['schemaVersion'] <= 40, 'the schema of Grafana 10 or 11')
equal(len({panel['id'] for panel in panels}), len(panels), 'ids of panels are unique')
queries = [(panel, target) for panel in panels for target in panel['targets']]
equal({(source['type'], source['uid']) for panel, target in queries
       for source in (panel['datasource'], target['datasource'])}, {('postgres', '${DS_ADCLICK}')},
      'all panels ask the data source that is chosen')
equal((variables['DS_ADCLICK']['type'], variables['DS_ADCLICK']['query']), ('datasource', 'postgres'),
      'by a variable')
cells = [(x, y) for panel in panels for grid in [panel['gridPos']]
         for x in range(grid['x'], grid['x'] + grid['w']) for y in range(grid['y'], grid['y'] + grid['h'])]
ok(len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24, 'no panel covers another')
equal([panel['title'] for panel, target in queries if '$__interval' in target['rawSql'] and panel.get('interval') != '1m'],
      [], '$__interval is never less than a minute')

# Each query, as Grafana sends it: whole minutes or parts of them at the ends, all or some countries, long and short

db = connect()
start, end = window(db)
ALL = variables['country']['allValue']
EACH = {'all of an hour': dict(start=start + 0.4 * MINUTE, end=end + 20.7 * MINUTE, interval=MINUTE, ad='1001', country=ALL),
        'two countries': dict(start=start + 2 * MINUTE, end=end - 2 * MINUTE, interval=MINUTE, ad='1001', country="'CA','unknown'"),
        'two days': dict(start=end - 2880.5 * MINUTE, end=end, interval=5 * MINUTE, ad='1002', country=ALL),
        'two months': dict(start=end - 86400 * MINUTE, end=end, interval=120 * MINUTE, ad='1002', country="'US'")}

for name, values in EACH.items():
    for panel, target in queries:
        title = f"{panel['title']}, {name}"
        names, types, found = answer(target['rawSql'], **values)
        ok(found, f'{title}: has rows', names)
        if target['format'] == 'time_series':
            times = [row[0] for row in found]
            ok(names[0] == 'time' and types[0] == TIMESTAMPTZ and times == sorted(set(times)),
               f'{title}: times ascend', names, types)
            ok(all(type_ in NUMBERS for type_ in types[1:]), f'{title}: values are numbers', types)
        else:
            ok(types[-1] in NUMBERS and all(type_ in NUMBERS or type_ == TEXT for type_ in types),
               f'{title}: numbers and text', types)
    for variable in 'country', 'ad':
        names, types, found = answer(variables[variable]['query'], **values)
        ok(found and types == [TEXT], f'the choices of {variable}, {name}', found)

# The values

by_title = {panel['title']: target['rawSql'] for panel, target in queries}


def plain(values, select, condition='true', group='', minute='click_minute >= %(from)s'):
    """The answer by plain SQL, in the whole minutes of the functions or as $__timeFilter takes them."""
    if values['country'] != ALL:
        condition += f" AND country IN ({values['country']})"
    first = values['start'].replace(second=0, microsecond=0)
    return rows(db, f"SELECT {select} FROM {CLICKS} WHERE {condition} AND click_minute <= %(to)s AND {minute} {group}",
                {'from': first, 'exact': values['start'], 'to': values['end']})


for name, values in EACH.items():
    bucket = f"date_bin('{values['interval']}', click_minute, 'epoch')"
    equal(answer(by_title['Clicks per minute'], **values)[2],
          plain(values, f"{bucket}, count(*) / {values['interval'] // MINUTE}::numeric",
                group='GROUP BY 1 ORDER BY 1', minute='click_minute >= %(exact)s'), f'{name}: clicks per minute')
    equal([(row[0], int(row[1]), row[4]) for row in answer(by_title['Top 10 ads'], **values)[2]],
          plain(values, 'row_number() OVER (ORDER BY count(*) DESC, ad_id), ad_id, count(*)',
                group='GROUP BY ad_id ORDER BY 1 LIMIT 10'), f'{name}: top ten ads')
    own = f"ad_id = {values['ad']}"
    equal(answer(by_title['Clicks of ad $ad'], **values)[2], plain(values, 'count(*)', own), f'{name}: clicks of the ad')
    equal([row for row in answer(by_title['Clicks of ad $ad over time'], **values)[2] if row[1] > 0],
          plain(values, f'{bucket}, count(*)', own, 'GROUP BY 1 ORDER BY 1'), f'{name}: clicks of the ad over time')
    equal(answer(by_title['Ad $ad by country'], **values)[2],
          plain(dict(values, country=ALL), 'country, count(*)', own, 'GROUP BY 1 ORDER BY 2 DESC, 1'),
          f'{name}: the ad by country')
    equal(answer(by_title['Clicks of its advertiser'], **values)[2],
          plain(values, 'count(*)', f"""ad_id IN (SELECT ad_id FROM adclick.ads WHERE advertiser_id =
              (SELECT advertiser_id FROM adclick.ads WHERE {own}))"""), f'{name}: clicks of its advertiser')

set_aside = rows(db, "SELECT count(*) FILTER (WHERE reason = 'duplicate'), count(*) FILTER (WHERE reason <> 'duplicate')"
                     " FROM adclick.discarded_clicks")[0]
equal(tuple(answer(by_title[title], **EACH['all of an hour'])[2][0][0] for title in ('Duplicates', 'Discarded')),
      set_aside, 'duplicates and discarded clicks')

# A database without clicks has no ad to choose

for panel, target in queries:
    found = answer(target['rawSql'], **dict(EACH['all of an hour'], ad=''))[2]
    ok('$ad' not in target['rawSql'] or found in ([], [(None,)]), f"{panel['title']}, no ad: no data", found)

done()
