// Start the gateway: settings are environment variables, see docs/http.md.
'use strict';

const fs = require('node:fs');
const { isIP } = require('node:net');
const build = require('./app');

const { env } = process;
const secret = env.JWT_SECRET_FILE ? fs.readFileSync(env.JWT_SECRET_FILE, 'utf8').trim() : env.JWT_SECRET;
const key = env.JWT_PUBLIC_KEY_FILE ? fs.readFileSync(env.JWT_PUBLIC_KEY_FILE, 'utf8') : secret;

function refuse(message) {
	console.error(message);
	process.exit(2);
}

function number(name, otherwise, atMost = 1e12) {
	const text = env[name] ?? String(otherwise);

	if (!/^[1-9][0-9]*$/.test(text) || +text > atMost)
		refuse(`${name} must be a whole number from 1 to ${atMost}, and is "${text}"`);
	return +text;
}

function addresses(name, otherwise) {
	const list = (env[name] ?? otherwise).split(',').map(address => address.trim()).filter(address => address !== '');

	for (const address of list)
		if (!isIP(address))
			refuse(`${name} must be addresses, with commas between them, and "${address}" is none`);
	return list;
}

if (!key || !env.JWT_PUBLIC_KEY_FILE && key.length < 32)
	refuse('JWT_PUBLIC_KEY_FILE, or a JWT_SECRET of 32 characters at least, is missing');

async function main() {
	const port = number('PORT', 8080, 65535);
	const app = await build({
		key, algorithms: env.JWT_PUBLIC_KEY_FILE ? ['RS256', 'ES256', 'EdDSA'] : ['HS256'],
		database: env.DATABASE_URL, // without one, PGHOST and the like
		connections: number('CONNECTIONS', 10, 10000),
		proxies: addresses('PROXIES', '127.0.0.1'),
		spool: env.SPOOL ?? 'spool', spoolBytes: number('SPOOL_BYTES', 64 << 20),
		adsCached: number('ADS_CACHED', 100000, 1e7), staleSeconds: number('STALE_SECONDS', 60),
		rateLimit: number('RATE_LIMIT', 600), // requests a minute, of an address
		logLevel: env.LOG_LEVEL ?? 'info',
	});

	for (const signal of ['SIGTERM', 'SIGINT'])
		process.once(signal, () => app.close().then(() => process.exit(0)));
	await app.listen({ host: env.HOST ?? '127.0.0.1', port }).catch(async error => {
		await app.close();
		throw error;
	});
}

main().catch(error => {
	console.error(error.message);
	process.exit(1);
});
