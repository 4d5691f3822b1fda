// Start the gateway: settings are environment variables, see docs/http.md.
'use strict';

const fs = require('node:fs');
const build = require('./app');

const { env } = process;
const secret = env.JWT_SECRET_FILE ? fs.readFileSync(env.JWT_SECRET_FILE, 'utf8').trim() : env.JWT_SECRET;
const key = env.JWT_PUBLIC_KEY_FILE ? fs.readFileSync(env.JWT_PUBLIC_KEY_FILE, 'utf8') : secret;

if (!key || !env.JWT_PUBLIC_KEY_FILE && key.length < 32) {
	console.error('JWT_PUBLIC_KEY_FILE, or a JWT_SECRET of 32 characters at least, is missing');
	process.exit(2);
}

async function main() {
	const app = await build({
		key, algorithms: env.JWT_PUBLIC_KEY_FILE ? ['RS256', 'ES256', 'EdDSA'] : ['HS256'],
		database: env.DATABASE_URL, // without one, PGHOST and the like
		connections: +(env.CONNECTIONS ?? 10),
		proxies: (env.PROXIES ?? '127.0.0.1').split(','),
		spool: env.SPOOL ?? 'spool', spoolBytes: +(env.SPOOL_BYTES ?? 64 << 20),
		adsCached: +(env.ADS_CACHED ?? 100000), staleSeconds: +(env.STALE_SECONDS ?? 60),
		rateLimit: +(env.RATE_LIMIT ?? 600), // requests a minute, of an address
		logLevel: env.LOG_LEVEL ?? 'info',
	});

	for (const signal of ['SIGTERM', 'SIGINT'])
		process.once(signal, () => app.close().then(() => process.exit(0)));
	await app.listen({ host: env.HOST ?? '127.0.0.1', port: +(env.PORT ?? 8080) });
}

main();
