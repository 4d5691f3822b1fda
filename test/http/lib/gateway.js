// A gateway of its own for each test, as a process; the server and its database are those of test/run
// (PGDATA, PGDATABASE), with what setup.sql and lib/ads.sql have put there.
'use strict';

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { createHmac, randomBytes } = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { once } = require('node:events');
const { setTimeout: delay } = require('node:timers/promises');

const root = path.join(__dirname, '../../..');
const gatewayDirectory = path.join(root, 'examples/http');
const { Pool } = require(require.resolve('pg', { paths: [gatewayDirectory] }));
const SECRET = randomBytes(24).toString('hex');

const database = new Pool({ user: 'postgres', max: 2 });
database.on('error', () => {});

// The rows of a query, as lists of text.
async function sql(text, values) {
	return (await database.query({ text, values, rowMode: 'array' })).rows;
}

async function value(text, values) {
	return (await sql(text, values))[0][0];
}

// Wait for a state; what brings it about is under way.
async function until(what, isSo) {
	for (const end = Date.now() + 60000; Date.now() < end; await delay(20))
		if (await isSo())
			return;
	assert.fail(`not within a minute: ${what}`);
}

function freePort() {
	return new Promise(resolve => {
		const server = net.createServer().listen(0, '127.0.0.1', () => {
			const { port } = server.address();
			server.close(() => resolve(port));
		});
	});
}

const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });

// Answers as they come: { status, headers, text, json }.
function request(port, method, url, { headers, body } = {}) {
	return new Promise((resolve, reject) => {
		const sent = http.request({ port, host: '127.0.0.1', method, path: url, headers, agent }, async response => {
			let text = '';

			for await (const part of response.setEncoding('utf8'))
				text += part;
			resolve({ status: response.statusCode, headers: response.headers, text, get json() { return JSON.parse(text); } });
		});
		sent.on('error', reject);
		sent.end(body);
	});
}

// What a server answers to bytes that need not be HTTP.
async function raw(port, bytes) {
	const socket = net.connect(port, '127.0.0.1');
	let text = '';

	socket.on('error', () => {});
	socket.end(bytes);
	for await (const part of socket.setEncoding('latin1'))
		text += part;
	return text;
}

const running = new Set();

// In the end, also after a failure: what still runs would keep this process from ending.
async function cleanUp() {
	running.forEach(gateway => gateway.process.kill('SIGKILL'));
	agent.destroy();
	await database.end();
}

class Gateway {
	static async start(env = {}) {
		const gateway = new Gateway();

		gateway.port = await freePort();
		gateway.spool = env.SPOOL ?? fs.mkdtempSync(path.join(os.tmpdir(), 'spool.'));
		gateway.process = spawn(process.execPath, ['server.js'], {
			cwd: gatewayDirectory, stdio: ['ignore', 'pipe', 'pipe'],
			env: { ...process.env, PGUSER: 'adclick_gateway', JWT_SECRET: SECRET, PORT: gateway.port, RATE_LIMIT: '1000000', ...env, SPOOL: gateway.spool },
		});
		running.add(gateway);
		// not before all that it has said is read
		gateway.exited = once(gateway.process, 'close').finally(() => running.delete(gateway));
		gateway.log = '';
		for (const stream of [gateway.process.stdout, gateway.process.stderr])
			stream.setEncoding('utf8').on('data', text => gateway.log += text);
		await until('the gateway listens', () => gateway.log.includes('listening') || !running.has(gateway));
		assert.ok(running.has(gateway), `exit code ${gateway.process.exitCode}: ${gateway.log}`);
		return gateway;
	}

	get(url, options) {
		return request(this.port, 'GET', url, options);
	}

	click(ad, body, headers = {}) {
		return request(this.port, 'POST', `/ads/${ad}/click`, body === undefined ? { headers }
			: { headers: { 'content-type': 'application/json', ...headers }, body: typeof body === 'string' ? body : JSON.stringify(body) });
	}

	// A question of who has such a token.
	ask(url, claims) {
		return this.get(url, { headers: { authorization: `Bearer ${token(claims)}` } });
	}

	async health() {
		return (await this.get('/health')).json;
	}

	async stop(signal = 'SIGTERM') {
		this.process.kill(signal);
		return (await this.exited)[0];
	}
}

const base64 = text => Buffer.from(text).toString('base64url');

// By hand, so that it can be a bad one.
function token(claims, { header = { alg: 'HS256', typ: 'JWT' }, key = SECRET } = {}) {
	const said = `${base64(JSON.stringify(header))}.${base64(JSON.stringify({ exp: Math.floor(Date.now() / 1000) + 600, ...claims }))}`;

	return `${said}.${createHmac(header.alg === 'HS512' ? 'sha512' : 'sha256', key).update(said).digest('base64url')}`;
}

// { error: { code, message } } and nothing of the inside.
function isProblem(response, status, message) {
	assert.equal(response.status, status, response.text);
	assert.match(response.headers['content-type'], /^application\/json/);
	assert.deepEqual(Object.keys(response.json), ['error'], response.text);
	const { code, message: said, ...rest } = response.json.error;

	assert.match(code, /^[a-z_]+$/);
	assert.equal(typeof said, 'string');
	assert.deepEqual(Object.keys(rest).filter(key => !['detail', 'hint'].includes(key)), [], response.text);
	assert.doesNotMatch(response.text, /\bat \w+ \(|node_modules|SELECT|adclick_api|\.js\b/);
	if (message)
		assert.match(said, message);
}

// stdin and stdout would be the server's, too
function pgCtl(...args) {
	const child = spawn('pg_ctl', ['-D', process.env.PGDATA, '-s', '-w', ...args, '-l', `${process.env.PGDATA}.log`], { stdio: 'ignore' });

	return once(child, 'exit').then(([code]) => assert.equal(code, 0, `pg_ctl ${args}`));
}

module.exports = { Gateway, cleanUp, database, delay, freePort, isProblem, pgCtl, raw, request, root, sql, token, until, value, SECRET };
