// Clicks: where they lead to, what is recorded of them, and none is lost while the server is restarted.
'use strict';

const assert = require('node:assert/strict');
const { after, before, test } = require('node:test');
const { Gateway, cleanUp, isProblem, pgCtl, sql, until, value } = require('./lib/gateway');

let gateway;

before(async () => {
	gateway = await Gateway.start();
});
after(async () => {
	const code = await gateway.stop();

	await cleanUp();
	assert.equal(code, 0);
});

const clicksOf = ad => sql('SELECT user_id, host(ip), country, region, device FROM adclick.click_log WHERE ad_id = $1 ORDER BY 1', [ad]);

test('a click is redirected', async () => {
	const response = await gateway.click(1);

	assert.equal(response.status, 302);
	assert.equal(response.headers.location, 'https://shop.example/landing?ad=1');
	assert.equal(response.headers['cache-control'], 'no-store');
	assert.equal(response.text, '');
});

test('it is in the database when it is answered, as it was sent by the proxy', async () => {
	await gateway.click(2, { userId: 501 }, { 'x-real-ip': '203.0.113.7', 'x-country': 'CA', 'x-region': 'CA-1', 'x-device': 'mobile', 'x-forwarded-for': '198.51.100.1' });
	await gateway.click(2, { userId: '9007199254740993' }, { 'x-real-ip': '2001:db8::7' });
	await gateway.click(2, { userId: 502 }, { 'x-real-ip': 'nobody' });
	await gateway.click(2, { userId: 503 }, { 'x-real-ip': 'fe80::1%eth0' });
	assert.deepEqual(await clicksOf(2), [['501', '203.0.113.7', 'CA', 'CA-1', 'mobile'], ['502', null, null, null, null], ['503', 'fe80::1', null, null, null],
		['9007199254740993', '2001:db8::7', null, null, null]]);
});

test('what is not from the proxy has the address of its connection', async () => {
	const bare = await Gateway.start({ PROXIES: '192.0.2.1' });

	await bare.click(3, { userId: 1 }, { 'x-real-ip': '203.0.113.7', 'x-country': 'CA' });
	assert.deepEqual(await clicksOf(3), [['1', '127.0.0.1', null, null, null]]);
	assert.equal(await bare.stop(), 0);
});

test('forms and empty bodies are taken', async () => {
	const form = { 'content-type': 'application/x-www-form-urlencoded' };

	assert.equal((await gateway.click(4, 'userId=503', form)).status, 302);
	assert.equal((await gateway.click(4, '', form)).status, 302);
	assert.deepEqual((await clicksOf(4)).map(([user]) => user), ['503', null]);
});

test('ads that lead nowhere', async () => {
	isProblem(await gateway.click(13), 410, /ad 13 is not active/);
	isProblem(await gateway.click(14000), 404, /leads nowhere/);
	isProblem(await gateway.click(4711), 404, /unknown/);
	isProblem(await gateway.click(-1), 404, /unknown/);
	assert.deepEqual(await sql('SELECT ad_id FROM adclick.click_log WHERE ad_id IN (13, 14000, 4711, -1)'), []);
});

test('ids beyond 2^53', async () => {
	assert.equal((await gateway.click('9007199254740993')).headers.location, 'https://shop.example/large');
	isProblem(await gateway.click('9007199254740992'), 404);
	assert.equal((await gateway.click('9223372036854775807')).headers.location, 'https://shop.example/largest');
	isProblem(await gateway.click('9223372036854775808'), 400);
});

test('an id has one form, however it is written', async () => {
	for (const id of ['22', '0022', '-0', '0'])
		await gateway.click(id);
	await sql('INSERT INTO adclick.ads (ad_id, redirect_url) VALUES (0, \'https://shop.example/zero\')');
	assert.equal((await gateway.click('-0')).headers.location, 'https://shop.example/zero');
	await sql('UPDATE adclick.ads SET active = false WHERE ad_id IN (0, 22)');
	await until('22 is known to be inactive', async () => (await gateway.click('22')).status === 410);
	isProblem(await gateway.click('0022'), 410, /^ad 22 is not active$/);
	await until('0 is known to be inactive', async () => (await gateway.click('0')).status === 410);
	isProblem(await gateway.click('-0'), 410, /^ad 0 is not active$/);
	await sql('DELETE FROM adclick.ads WHERE ad_id = 0; UPDATE adclick.ads SET active = true WHERE ad_id = 22');
});

test('one click counts of an impression, and none of a forged one', async () => {
	const impression = await value('SELECT adclick.new_impression(5, 501)');
	const verdicts = 'SELECT verdict, count(*)::int FROM adclick.click_log WHERE ad_id = 5 GROUP BY 1 ORDER BY 1';

	for (const [userId, token] of [[501, impression], [501, impression], [501, impression], [502, impression], [501, 'forged'], [501, '']])
		assert.equal((await gateway.click(5, { userId, impression: token })).status, 302);
	assert.equal((await gateway.click(5, 'userId=503&impression=', { 'content-type': 'application/x-www-form-urlencoded' })).status, 302, 'none');
	await sql('SELECT adclick.tick()');
	assert.deepEqual(await sql(verdicts), [['counted', 2], ['duplicate', 2], ['forged impression', 3]]);
});

test('an ad that changes is known to have changed', async () => {
	const leadsTo = async (ad, status, url) => until(`ad ${ad} is answered ${status} ${url}`, async () => {
		const response = await gateway.click(ad);

		return response.status === status && response.headers.location === url;
	});

	await leadsTo(20, 302, 'https://shop.example/landing?ad=20');
	await sql("UPDATE adclick.ads SET redirect_url = 'https://new.example/' WHERE ad_id = 20");
	await leadsTo(20, 302, 'https://new.example/');
	await sql('UPDATE adclick.ads SET ad_id = 20020 WHERE ad_id = 20');
	await leadsTo(20, 404, undefined);
	await leadsTo(20020, 302, 'https://new.example/');
	await sql('DELETE FROM adclick.ads WHERE ad_id = 20020');
	await leadsTo(20020, 404, undefined);
	await leadsTo(21, 302, 'https://shop.example/landing?ad=21');
	await sql('INSERT INTO adclick.ads (ad_id, redirect_url) SELECT n, \'https://bulk.example/\' FROM generate_series(100001, 100200) n');
	await leadsTo(100150, 302, 'https://bulk.example/');
	await sql('UPDATE adclick.ads SET active = false WHERE ad_id > 100000 AND ad_id < 200000');
	await leadsTo(100150, 410, undefined);
	await sql('BEGIN; CREATE TEMP TABLE kept AS TABLE adclick.ads; TRUNCATE adclick.ads; INSERT INTO adclick.ads SELECT ad_id, advertiser_id, \'https://again.example/\' FROM kept WHERE ad_id = 21; COMMIT');
	await leadsTo(21, 302, 'https://again.example/');
	await sql('TRUNCATE adclick.ads; INSERT INTO adclick.ads (ad_id, advertiser_id, redirect_url, active, created_at, website) SELECT ad_id, advertiser_id, redirect_url, active, created_at, website FROM kept WHERE ad_id < 100000 OR ad_id > 200000; DROP TABLE kept');
	await leadsTo(21, 302, 'https://shop.example/landing?ad=21');
});

test('10,000 clicks, the server killed and started meanwhile: none is lost, each counts once', async () => {
	const CLICKS = 10000;
	let sent = 0;
	let server; // what is done to it

	const answers = { 302: 0 };
	const client = async () => {
		while (sent < CLICKS) {
			const n = sent++;

			if (n === 3000)
				server = pgCtl('-m', 'immediate', 'stop');
			if (n === 6000)
				server = server.then(() => pgCtl('start'));
			const { status } = await gateway.click(31 + n % 50, { userId: n });
			answers[status] = (answers[status] ?? 0) + 1;
		}
	};
	// each of these ads is known before
	for (let ad = 31; ad <= 80; ad++)
		await gateway.click(ad);
	await Promise.all(Array.from({ length: 64 }, client));
	await server;
	assert.deepEqual(answers, { 302: CLICKS });
	await until('the spool is empty', async () => (await gateway.health()).spooledBytes === 0);
	await sql('SELECT adclick.tick()');
	assert.deepEqual(await sql('SELECT count(*)::int, count(DISTINCT user_id)::int FROM adclick.click_log WHERE ad_id BETWEEN 31 AND 80 AND verdict = \'counted\' AND user_id IS NOT NULL'), [[CLICKS, CLICKS]]);
	assert.equal(await value("SELECT sum(adclick.ad_click_count_between(ad_id, '-infinity', 'infinity'))::int FROM adclick.ads WHERE ad_id BETWEEN 31 AND 80"), CLICKS + 50);
});
