// Tokens, addresses, bodies and bytes of who means harm: an error of one shape, nothing recorded, nothing told.
'use strict';

const assert = require('node:assert/strict');
const { generateKeyPairSync, createSign } = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { after, before, test } = require('node:test');
const { Gateway, SECRET, cleanUp, isProblem, raw, request, sql, token, value } = require('./lib/gateway');

const QUESTION = '/ads/2/adClickCount?from=-infinity&to=infinity';
let gateway;

before(async () => {
	gateway = await Gateway.start();
});
after(async () => {
	const code = await gateway.stop();

	await cleanUp();
	assert.equal(code, 0);
	assert.doesNotMatch(gateway.log, /203\.0\.113|eyJ|"stack"/, 'no address, no token, and nothing went wrong inside');
});

const asked = authorization => gateway.get(QUESTION, { headers: authorization === undefined ? {} : { authorization } });

test('tokens that are none', async () => {
	const good = token({ role: 'shoes' });
	const [header, claims, signature] = good.split('.');
	const encoded = value => Buffer.from(JSON.stringify(value)).toString('base64url');
	const exp = Math.floor(Date.now() / 1000) + 600;
	const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
	const rsa = `${encoded({ alg: 'RS256', typ: 'JWT' })}.${encoded({ role: 'shoes', exp })}`;

	assert.equal((await asked(`Bearer ${good}`)).status, 200);
	for (const [what, bad] of Object.entries({
		'none': undefined, 'empty': '', 'no Bearer': good, 'Basic': `Basic ${good}`, 'nothing behind': 'Bearer ', 'no token': 'Bearer x', 'two parts': `Bearer ${header}.${claims}`,
		'no signature': `Bearer ${header}.${claims}.`, 'signature cut': `Bearer ${good.slice(0, -2)}`, 'signature of another': `Bearer ${header}.${claims}.${token({ role: 'tea' }).split('.')[2]}`,
		'other claims': `Bearer ${header}.${encoded({ role: 'tea', exp })}.${signature}`, 'another key': `Bearer ${token({ role: 'shoes' }, { key: `${SECRET}x` })}`,
		'an empty key': `Bearer ${token({ role: 'shoes' }, { key: '' })}`, 'alg none': `Bearer ${encoded({ alg: 'none' })}.${encoded({ role: 'shoes', exp })}.`,
		'alg None': `Bearer ${encoded({ alg: 'None' })}.${encoded({ role: 'shoes', exp })}.`, 'alg HS512': `Bearer ${token({ role: 'shoes' }, { header: { alg: 'HS512' } })}`,
		'alg missing': `Bearer ${token({ role: 'shoes' }, { header: { typ: 'JWT' } })}`, 'RS256': `Bearer ${rsa}.${createSign('RSA-SHA256').update(rsa).sign(privateKey).toString('base64url')}`,
		'its public key as a secret': `Bearer ${token({ role: 'shoes' }, { key: publicKey.export({ type: 'spki', format: 'pem' }) })}`,
		'kid and jku': `Bearer ${token({ role: 'shoes' }, { header: { alg: 'HS256', kid: '../../../dev/null', jku: 'http://127.0.0.1/' }, key: '' })}`,
		'expired': `Bearer ${token({ role: 'shoes', exp: exp - 1200 })}`, 'not yet valid': `Bearer ${token({ role: 'shoes', nbf: exp })}`, 'never expires': `Bearer ${token({ role: 'shoes', exp: undefined })}`,
		'expires as text': `Bearer ${token({ role: 'shoes', exp: 'never' })}`, 'no role': `Bearer ${token({})}`, 'long': `Bearer ${'x'.repeat(5000)}`,
	})) {
		const response = await asked(bad);

		isProblem(response, 401);
		assert.equal(response.headers['www-authenticate'], 'Bearer', what);
	}
	isProblem(await gateway.get(`${QUESTION}&token=${good}`), 401);
	isProblem(await gateway.get(QUESTION, { headers: { cookie: `token=${good}` } }), 401);
});

test('a public key', async () => {
	const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
	const pem = publicKey.export({ type: 'spki', format: 'pem' });
	const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'key.')), 'public.pem');
	const said = token({ role: 'shoes' }, { header: { alg: 'RS256', typ: 'JWT' } }).split('.').slice(0, 2).join('.');
	const signed = `${said}.${createSign('RSA-SHA256').update(said).sign(privateKey).toString('base64url')}`;

	fs.writeFileSync(file, pem);
	const other = await Gateway.start({ JWT_PUBLIC_KEY_FILE: file });
	const statusOf = async bearer => (await other.get(QUESTION, { headers: { authorization: `Bearer ${bearer}` } })).status;

	assert.equal(await statusOf(signed), 200);
	assert.equal(await statusOf(signed.replace(/.{8}$/, 'AAAAAAAA')), 401);
	for (const key of [pem, pem.trim(), SECRET, ''])
		assert.equal(await statusOf(token({ role: 'shoes' }, { key })), 401, 'the public key is no secret');
	assert.equal(await other.stop(), 0);
});

test('roles that the gateway may not become', async () => {
	for (const role of ['postgres', 'stranger', 'adclick_owner', 'adclick_admin', 'adclick_gateway', 'nobody at all', 'none', 'NONE', 'shoes; RESET ROLE', '"shoes"', 'SHOES', '', ' shoes', 'x'.repeat(1000), '\u0000',
		['shoes'], { role: 'shoes' }, 7, true, null])
		isProblem(await gateway.ask(QUESTION, { role }), 403);
	assert.equal((await gateway.ask(QUESTION, { role: 'shoes' })).status, 200);
});

test('addresses', async () => {
	const clicks = await value('SELECT count(*) FROM adclick.click_log');

	for (const ad of ['x', '1x', '0x1', '1e1', '1.0', '+1', ' 1', '1 ', '1%20', '%31%00', '1%0d%0aSet-Cookie:a=b', "1'--", '1;DROP TABLE adclick.clicks', '1,2', '-', '--1', '１', '1%2f2', '9'.repeat(19), '9'.repeat(90)])
		isProblem(await gateway.click(encodeURI(decodeURIComponent(ad)).replace('/', '%2f')), 400);
	for (const url of ['//evil.example/%2e%2e', '/ads//click', '/ads/1/click/', '/ads/1/click%2f', '/ADS/1/click', '/ads/../ads/1/click', '/ads/1', '/adclick', '/.git/config', '/chart/..%2f..%2f..%2fpackage.json',
		'/chart/%2e%2e/%2e%2e/package.json', '/server.js', '/spool/waiting.jsonl'])
		for (const method of ['GET', 'POST']) {
			const response = await request(gateway.port, method, url);

			assert.ok(response.status >= 400 && response.status < 500, `${method} ${url}: ${response.status}`);
			isProblem(response, response.status);
		}
	for (const method of ['GET', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])
		assert.match(await raw(gateway.port, `${method} /ads/1/click HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`), /^HTTP\/1.1 404 /);
	isProblem(await gateway.get('/%zz'), 400);
	isProblem(await gateway.get(`/${'x'.repeat(10000)}`), 404);
	assert.equal(await value('SELECT count(*) FROM adclick.click_log'), clicks, 'none of these is a click');
});

test('nothing that a client says is where it is led to', async () => {
	const headers = { host: 'evil.example', 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'gopher', 'x-original-url': '/evil', referer: 'https://evil.example/' };
	const response = await request(gateway.port, 'POST', '/ads/1/click?url=https://evil.example/&redirect_url=//evil.example', { headers });

	assert.equal(response.headers.location, 'https://shop.example/landing?ad=1');
	assert.doesNotMatch(JSON.stringify(response.headers), /evil/);
	isProblem(await gateway.click(1, { redirect_url: 'https://evil.example/' }), 400);
	// What the table would not take, written past its constraint: no second header comes of it.
	await sql("ALTER TABLE adclick.ads DROP CONSTRAINT redirect_url_is_safe; UPDATE adclick.ads SET redirect_url = E'https://shop.example/\\r\\nSet-Cookie: a=b' WHERE ad_id = 99");
	const split = await gateway.click(99);
	await sql("UPDATE adclick.ads SET redirect_url = 'https://shop.example/' WHERE ad_id = 99");
	isProblem(split, 404, /leads nowhere/);
	assert.equal(split.headers['set-cookie'], undefined);
	assert.deepEqual(await sql('SELECT ad_id FROM adclick.click_log WHERE ad_id = 99'), []);
});

test('bodies', async () => {
	const clicks = await value('SELECT count(*) FROM adclick.click_log');

	for (const body of ['{', '[', '[]', '"x"', '1', 'true', '{"userId": }', '{"userId": 1} x', '{"userId": NaN}', "{'userId': 1}", '\u0000', '{"userId": 1e400}', '{"__proto__": {"userId": 1}}', '{"constructor": {"prototype": {}}}'])
		isProblem(await gateway.click(1, body), 400);
	for (const userId of ['x', '', '1.5', '1e3', '0x1', ' 1', '9223372036854775808', '-9223372036854775809', '9'.repeat(100), 1.5, 9007199254740992, -9007199254740992, 1e300, true, null, [], [1], {}, { $gt: '' }])
		isProblem(await gateway.click(1, { userId }), 400);
	for (const impression of [1, null, [], {}, 'x'.repeat(501), '\u0000', 'a\u0000b', '\r\n', 'é', '\ud800'])
		isProblem(await gateway.click(1, { impression }), 400);
	for (const extra of [{ ad_id: 2 }, { click_id: '019aa9d4-70a0-7c11-8b7e-5f0f3a010001' }, { clicked_at: '2020-01-01' }, { ip: '203.0.113.7' }, { country: 'CA' }])
		isProblem(await gateway.click(1, extra), 400);
	isProblem(await gateway.click(1, JSON.stringify({ impression: 'x'.repeat(5000) })), 413);
	isProblem(await gateway.click(1, `${'['.repeat(2000)}${']'.repeat(2000)}`), 400);
	isProblem(await gateway.click(1, 'a', { 'content-type': 'text/plain' }), 415);
	isProblem(await gateway.click(1, '<a/>', { 'content-type': 'application/xml' }), 415);
	isProblem(await gateway.click(1, 'userId=1&userId=x', { 'content-type': 'application/x-www-form-urlencoded' }), 400);
	isProblem(await gateway.click(1, 'ip=203.0.113.7', { 'content-type': 'application/x-www-form-urlencoded' }), 400);
	assert.equal(await value('SELECT count(*) FROM adclick.click_log'), clicks, 'none of these is a click');
	assert.equal(({}).userId, undefined);
});

test('filters', async () => {
	for (const filters of ["COUNTRY=CA' OR '1'='1", 'COUNTRY=CA; DROP TABLE adclick.clicks', '{"country": "\\u0041"}', 'COUNTRY=\u202e', '{"country": "A", "country": "B"}'])
		assert.equal((await gateway.ask(`${QUESTION}&filters=${encodeURIComponent(filters)}`, { role: 'shoes' })).status, 200, filters);
	for (const filters of ['{"country": "\\u0000"}', '\u0000', '[', '"x"', '{"country": {"a": 1}}', '{"user_id": 1e999}', '['.repeat(1900), 'x'.repeat(2001), '{"filters": {}}'])
		isProblem(await gateway.ask(`${QUESTION}&filters=${encodeURIComponent(filters)}`, { role: 'shoes' }), 400);
	isProblem(await gateway.ask(`${QUESTION}&filters=%ff%fe`, { role: 'shoes' }), 400);
});

test('bytes that are no request', async () => {
	for (const bytes of ['\r\n\r\n\r\nnonsense\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n', 'GET\r\n\r\n', '\x16\x03\x01\x02\x00\x01\x00', 'GET / HTTP/1.1\r\nHost: x\r\nA\r\n\r\n',
		'POST /ads/1/click HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n', 'POST /ads/1/click HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
		`GET / HTTP/1.1\r\nHost: x\r\nA: ${'x'.repeat(20000)}\r\n\r\n`, 'GET /ads/1\r\nSet-Cookie:a=b HTTP/1.1\r\n\r\n']) {
		const answer = await raw(gateway.port, bytes);

		assert.match(answer, /^HTTP\/1.1 4\d\d /, JSON.stringify(bytes.slice(0, 60)));
		assert.match(answer, /\{"error":\{"code":"[a-z_]+","message":"[^"]+"/, answer);
	}
});

test('too many requests of an address', async () => {
	const limited = await Gateway.start({ RATE_LIMIT: '5' });
	const from = ip => limited.click(1, undefined, { 'x-real-ip': ip, 'x-forwarded-for': String(Math.random()) });
	const statuses = [];

	for (let i = 0; i < 7; i++)
		statuses.push((await from('203.0.113.7')).status);
	assert.deepEqual(statuses, [302, 302, 302, 302, 302, 429, 429]);
	isProblem(await from('203.0.113.7'), 429, /try again in/);
	assert.equal((await from('203.0.113.8')).status, 302, 'another one is no matter');
	for (let i = 0; i < 5; i++)
		assert.equal((await limited.get('/nothing', { headers: { 'x-real-ip': '2001:db8::1' } })).status, 404);
	assert.equal((await limited.get('/nothing', { headers: { 'x-real-ip': '2001:db8::2' } })).status, 429, 'a network is one');
	assert.equal(await limited.stop(), 0);
});

test('a gateway without a key does not start', async () => {
	for (const env of [{ JWT_SECRET: '' }, { JWT_SECRET: 'short' }])
		await assert.rejects(Gateway.start(env), /JWT/);
});

test('settings that are none are refused by their names', async () => {
	for (const name of ['PORT', 'CONNECTIONS', 'SPOOL_BYTES', 'ADS_CACHED', 'STALE_SECONDS', 'RATE_LIMIT'])
		for (const text of name === 'SPOOL_BYTES' ? ['', 'ten', '-1', '0', '1.5', '0x10', '9'.repeat(20)] : ['ten'])
			await assert.rejects(Gateway.start({ [name]: text }), new RegExp(`exit code 2: ${name} must be`));
	for (const text of ['localhost', '127.0.0.1;::1', '10.0.0.0/8'])
		await assert.rejects(Gateway.start({ PROXIES: text }), /exit code 2: PROXIES must be/);
	const spaced = await Gateway.start({ PROXIES: ' ::1 , 127.0.0.1 ', SPOOL_BYTES: '1000000000000' });

	await spaced.click(98, { userId: 1 }, { 'x-country': 'CA' });
	assert.deepEqual(await sql('SELECT country FROM adclick.click_log WHERE ad_id = 98'), [['CA']]);
	assert.equal(await spaced.stop(), 0);
});
