// Questions: what SQL answers, for who may ask.
'use strict';

const assert = require('node:assert/strict');
const { after, before, test } = require('node:test');
const { Gateway, cleanUp, isProblem, sql, value } = require('./lib/gateway');

const DAY = new Date(Date.now() - 864e5).toISOString().slice(0, 10); // yesterday
const ALL = 'from=-infinity&to=infinity';
let gateway;

before(async () => {
	gateway = await Gateway.start();
	await sql(`INSERT INTO adclick.clicks (ad_id, clicked_at, country, region, device, user_id)
		SELECT 1 + n * n % 40, '${DAY} 00:00Z'::timestamptz + n * interval '7 s', ('{CANADA,FR,NULL}'::text[])[1 + n % 3], 'R&D=1', ('{MOBILE,DESKTOP}'::text[])[1 + n % 2], n % 9
		FROM generate_series(0, 2000) n`);
	await sql("INSERT INTO adclick.clicks (ad_id) VALUES (9007199254740993), (9223372036854775807)");
});
after(async () => {
	const code = await gateway.stop();

	await cleanUp();
	assert.equal(code, 0);
});

const WINDOW = `from=${DAY}T00:00Z&to=${DAY}T04:00Z`;
const FORMS = {
	written: encodeURIComponent('COUNTRY=CANADA & DEVICE=MOBILE'), json: encodeURIComponent('{"country": ["CANADA"], "device": "MOBILE"}'),
	plus: 'COUNTRY%3DCANADA+%26+DEVICE%3DMOBILE', region: encodeURIComponent('{"country": "CANADA", "device": "MOBILE", "region": "R&D=1"}'),
};

// By plain SQL.
const plain = (columns, rest = '') => sql(`SELECT ${columns} FROM adclick.click_log WHERE clicked_at < '${DAY} 04:00Z' ${rest}`);
const CANADA = "AND country = 'CANADA' AND device = 'MOBILE'";

test('the number of clicks of an ad', async () => {
	for (const ad of [1, 2, 5]) {
		const [[all]] = await plain('count(*)::int', `AND ad_id = ${ad}`);
		const [[some]] = await plain('count(*)::int', `AND ad_id = ${ad} ${CANADA}`);

		assert.deepEqual((await gateway.ask(`/ads/${ad}/adClickCount?${WINDOW}`, { role: 'analyst' })).json, { adId: ad, adClickCount: all });
		for (const [form, filters] of Object.entries(FORMS))
			assert.deepEqual((await gateway.ask(`/ads/${ad}/adClickCount?${WINDOW}&filters=${filters}`, { role: 'analyst' })).json, { adId: ad, adClickCount: some }, form);
	}
});

test('the most clicked ads', async () => {
	for (const [filters, condition] of [['', ''], [`&filters=${FORMS.written}`, CANADA], [`&filters=${FORMS.json}`, CANADA]]) {
		const expected = (await plain('ad_id::int, count(*)::int', `${condition} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 7`)).map(([adId, adClickCount]) => ({ adId, adClickCount }));

		assert.deepEqual((await gateway.ask(`/ads/topNAds?n=7&${WINDOW}${filters}`, { role: 'analyst' })).json, { mostClickedAds: expected });
	}
	assert.deepEqual((await gateway.ask('/ads/topNAds?n=7&from=2001-01-01T00:00Z&to=2001-01-02T00:00Z', { role: 'analyst' })).json, { mostClickedAds: [] });
});

test('over time and by dimension', async () => {
	const series = (await gateway.ask(`/ads/1/clickSeries?${WINDOW}&bucket=${encodeURIComponent('1 hour')}`, { role: 'analyst' })).json.clickSeries;
	const [[all]] = await plain('count(*)::int', 'AND ad_id = 1');
	const minutes = (await gateway.ask(`/ads/clicksPerMinute?${WINDOW}`, { role: 'analyst' })).json.clicksPerMinute;

	assert.deepEqual(series.map(({ time }) => time), [0, 1, 2, 3].map(hour => `${DAY}T0${hour}:00:00+00:00`));
	assert.equal(series.reduce((sum, { adClickCount }) => sum + adClickCount, 0), all);
	assert.equal(minutes.reduce((sum, { adClickCount }) => sum + adClickCount, 0), 2001);
	assert.deepEqual((await gateway.ask(`/ads/1/breakdown?${WINDOW}&dimension=country`, { role: 'analyst' })).json.breakdown.map(({ value, adClickCount }) => [value, adClickCount]),
		await plain("coalesce(country, 'unknown'), count(*)::int", 'AND ad_id = 1 GROUP BY 1 ORDER BY 2 DESC, 1'));
});

test('empty filters are none', async () => {
	for (const url of [`/ads/1/adClickCount?${ALL}`, `/ads/topNAds?n=5&${ALL}`])
		assert.equal((await gateway.ask(`${url}&filters=`, { role: 'analyst' })).text, (await gateway.ask(url, { role: 'analyst' })).text);
});

test('all digits of ids', async () => {
	assert.equal((await gateway.ask(`/ads/9007199254740993/adClickCount?${ALL}`, { role: 'analyst' })).text, '{"adId" : 9007199254740993, "adClickCount" : 1}');
	assert.match((await gateway.ask(`/ads/topNAds?n=1000&${ALL}`, { role: 'analyst' })).text, /"adId" : 9223372036854775807/);
});

test('an advertiser knows of his own ads', async () => {
	assert.equal((await gateway.ask(`/ads/2/adClickCount?${ALL}`, { role: 'shoes' })).status, 200);
	for (const url of [`/ads/1/adClickCount?${ALL}`, `/ads/4711/adClickCount?${ALL}`, `/ads/1/breakdown?${ALL}&dimension=country`, `/ads/1/clickSeries?${WINDOW}&bucket=1%20hour`])
		isProblem(await gateway.ask(url, { role: 'shoes' }), 403, /^permission denied to ask about this ad$/);
	isProblem(await gateway.ask(`/ads/2/adClickCount?${ALL}&filters=USER_ID%3D1`, { role: 'shoes' }), 403, /^permission denied to ask about users/);
	const own = (await gateway.ask(`/ads/topNAds?n=1000&${ALL}`, { role: 'shoes' })).json.mostClickedAds.map(({ adId }) => adId);
	assert.ok(own.length > 2 && own.every(ad => ad % 2 === 0 || ad > 1000), String(own));
	const others = (await gateway.ask(`/ads/topNAds?n=1000&${ALL}`, { role: 'tea' })).json.mostClickedAds.map(({ adId }) => adId);
	assert.deepEqual(own.filter(ad => others.includes(ad)), []);
});

test('one connection after the other, each with its own role', async () => {
	const roles = ['shoes', 'tea', 'analyst'];
	const answers = await Promise.all(Array.from({ length: 90 }, (_, i) => gateway.ask(`/ads/2/adClickCount?${ALL}`, { role: roles[i % 3] })));

	assert.deepEqual(answers.map(({ status }) => status), answers.map((_, i) => [200, 403, 200][i % 3]));
});

test('what a question refuses is told in one shape', async () => {
	const refused = async (url, status, message) => isProblem(await gateway.ask(url, { role: 'analyst' }), status, message);

	await refused(`/ads/1/adClickCount?${ALL}&filters=CITY%3DMontreal`, 400, /^unknown filter "city"$/);
	await refused(`/ads/1/adClickCount?${ALL}&filters=COUNTRY`, 400, /no name or no value/);
	await refused(`/ads/1/adClickCount?${ALL}&filters=%7B`, 400, /invalid input syntax for type json/);
	await refused('/ads/1/adClickCount?from=2026-01-01T00:00:30Z&to=infinity', 400, /whole minute/);
	await refused('/ads/1/adClickCount?from=nonsense&to=infinity', 400, /timestamp/);
	await refused('/ads/1/adClickCount?from=infinity&to=-infinity', 400, /later/);
	await refused('/ads/1/adClickCount?from=-infinity', 400, /'to'/);
	await refused('/ads/1/adClickCount', 400);
	await refused(`/ads/1/adClickCount?${ALL}&city=Montreal`, 400, /additional properties/);
	await refused(`/ads/1/adClickCount?${ALL}&filters=&filters=x`, 400);
	await refused(`/ads/topNAds?${ALL}`, 400, /'n'/);
	for (const n of ['0', '-1', '1001', '1e3', '5.0', ' 5', '9999999999', 'x', ''])
		await refused(`/ads/topNAds?n=${encodeURIComponent(n)}&${ALL}`, 400);
	await refused(`/ads/1/breakdown?${ALL}&dimension=city`, 400);
	await refused(`/ads/1/clickSeries?${ALL}&bucket=1%20hour`, 400, /finite/);
	await refused('/ads/x/adClickCount?' + ALL, 400);
	await refused('/ads/1/nothing', 404);
	const hint = (await gateway.ask(`/ads/1/adClickCount?${ALL}&filters=CITY%3Dx`, { role: 'analyst' })).json.error.hint;
	assert.match(hint, /^Filters are country, region, device/);
});

test('the endpoints are described', async () => {
	const { openapi, paths } = (await gateway.get('/docs/json')).json;

	assert.match(openapi, /^3\./);
	assert.deepEqual(Object.keys(paths).sort(), ['/ads/clicksPerMinute', '/ads/topNAds', '/ads/{id}/adClickCount', '/ads/{id}/breakdown', '/ads/{id}/click', '/ads/{id}/clickSeries']);
	assert.deepEqual(paths['/ads/topNAds'].get.parameters.map(({ name, required = false }) => [name, required]), [['n', true], ['from', true], ['to', true], ['filters', false]]);
	assert.equal((await gateway.get('/docs')).status, 200);
});
