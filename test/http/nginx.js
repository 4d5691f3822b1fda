// Behind nginx, by examples/http/nginx.conf: what clients say of themselves is written over, sizes and rates are bounded.
'use strict';

const assert = require('node:assert/strict');
const { execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { once } = require('node:events');
const { after, before, test } = require('node:test');
const { Gateway, cleanUp, freePort, isProblem, request, root, sql, token, until } = require('./lib/gateway');

try {
	execFileSync('nginx', ['-v'], { stdio: 'ignore' });
} catch {
	console.log('1..0 # SKIP there is no nginx');
	process.exit(0);
}

let gateway, nginx, port;

// The file as it is, but for the ports.
async function start() {
	const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'nginx.'));
	const conf = fs.readFileSync(path.join(root, 'examples/http/nginx.conf'), 'utf8');
	const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(name => `${name}_temp_path ${directory}/${name};`).join('\n');

	port = await freePort();
	assert.match(conf, /listen 80;/);
	assert.match(conf, /server 127\.0\.0\.1:8080;/);
	fs.writeFileSync(path.join(directory, 'nginx.conf'), `pid ${directory}/pid; error_log ${directory}/error.log; daemon off; worker_processes 1;
		events { } http { access_log off; ${temporary}
		${conf.replace('listen 80;', `listen 127.0.0.1:${port};`).replace('127.0.0.1:8080', `127.0.0.1:${gateway.port}`)} }`);
	nginx = spawn('nginx', ['-p', directory, '-e', 'error.log', '-c', 'nginx.conf'], { stdio: 'ignore' });
	await until('nginx listens', () => request(port, 'GET', '/').then(() => true, () => false));
}

before(async () => {
	gateway = await Gateway.start();
	await start();
});
after(async () => {
	nginx.kill();
	await once(nginx, 'exit');
	const code = await gateway.stop();

	await cleanUp();
	assert.equal(code, 0);
});

test('a click comes with the address that nginx sees, whatever its sender says', async () => {
	const response = await request(port, 'POST', '/ads/1/click', { headers: { 'x-real-ip': '203.0.113.7', 'X-REAL-IP': '203.0.113.8', 'x-forwarded-for': '203.0.113.9', forwarded: 'for=203.0.113.10',
		'x-country': 'XX', 'x-region': 'XX', 'x-device': 'toaster', 'user-agent': 'Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Mobile/15E148' } });

	assert.equal(response.status, 302);
	assert.equal(response.headers.location, 'https://shop.example/landing?ad=1');
	assert.equal(response.headers['cache-control'], 'no-store');
	await request(port, 'POST', '/ads/1/click', { headers: { 'user-agent': 'Mozilla/5.0 (iPad; CPU OS 17_0 like Mac OS X)' } });
	await request(port, 'POST', '/ads/1/click');
	assert.deepEqual(await sql("SELECT host(ip), nullif(country, ''), nullif(region, ''), device FROM adclick.click_log WHERE ad_id = 1 ORDER BY device"),
		[['127.0.0.1', null, null, 'desktop'], ['127.0.0.1', null, null, 'mobile'], ['127.0.0.1', null, null, 'tablet']]);
});

test('questions and the dashboard come through', async () => {
	const response = await request(port, 'GET', '/ads/2/adClickCount?from=-infinity&to=infinity&filters=COUNTRY%3DCA%20%26%20DEVICE%3DMOBILE', { headers: { authorization: `Bearer ${token({ role: 'shoes' })}` } });

	assert.deepEqual(response.json, { adId: 2, adClickCount: 0 });
	isProblem(await request(port, 'GET', '/ads/2/adClickCount?from=-infinity&to=infinity'), 401);
	assert.match((await request(port, 'GET', '/')).text, /<title>adclick/);
	assert.equal((await request(port, 'GET', '/health')).status, 404);
});

test('what is too large does not reach the gateway', async () => {
	assert.equal((await request(port, 'POST', '/ads/1/click', { body: 'x'.repeat(5000), headers: { 'content-type': 'application/json' } })).status, 413);
	assert.equal((await request(port, 'GET', `/${'x'.repeat(9000)}`)).status, 414);
});

test('one address does not send more than its rate', async () => {
	const statuses = [];

	await until('some are too many', async () => {
		for (const { status } of await Promise.all(Array.from({ length: 400 }, () => request(port, 'POST', '/ads/3/click'))))
			statuses.push(status);
		return statuses.includes(429);
	});
	const taken = statuses.filter(status => status === 302).length;

	assert.ok(statuses.every(status => [302, 429].includes(status)));
	assert.deepEqual(await sql('SELECT count(*)::int FROM adclick.click_log WHERE ad_id = 3'), [[taken]]);
});
