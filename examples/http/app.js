// The gateway: clicks that are redirected, questions for who has a token, their description, a dashboard.
'use strict';

const { createHash } = require('node:crypto');
const fs = require('node:fs');
const { isIP } = require('node:net');
const path = require('node:path');
const { fastify, LogController } = require('fastify');
const rateLimit = require('@fastify/rate-limit');
const Ads = require('./ads');
const Clicks = require('./clicks');
const Spool = require('./spool');
const { Problem, send, sendRaw } = require('./errors');
const questions = require('./questions');

const isBigint = text => /^-?[0-9]{1,19}$/.test(text) && BigInt.asIntN(64, BigInt(text)) === BigInt(text);
// As the table's own constraint has it, but for what an older ad may have: bytes that end no header.
const isSafe = /^https?:\/\/[!-~]+$/;
const CLICK = {
	summary: 'Record a click and redirect to where the ad leads to',
	params: { type: 'object', properties: { id: { type: 'string', format: 'bigint', description: 'id of the ad' } } },
	body: {
		type: ['object', 'null'], additionalProperties: false,
		properties: {
			userId: { description: 'who clicked; in quotes if it may be beyond 2^53', anyOf: [{ type: 'string', format: 'bigint' },
				{ type: 'integer', minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER }] },
			impression: { type: 'string', maxLength: 500, pattern: '^[ -~]*$', description: 'the token of adclick.new_impression()' },
		},
	},
	response: { 302: { description: 'to the redirect_url of the ad', type: 'null' } },
};

// What a header says is believed if the proxy says it, who overwrites what its clients send.
function readers(proxies) {
	const bare = address => address?.replace(/^::ffff:|%.*/g, ''); // a zone says something to this machine alone
	const peerOf = ({ socket: { remoteAddress } }) => bare(remoteAddress);
	const said = (request, name) => proxies.includes(peerOf(request)) ? request.headers[name]?.slice(0, 64) : undefined;
	const addressOf = request => {
		const address = proxies.includes(peerOf(request)) ? bare(request.headers['x-real-ip']) : peerOf(request);

		return isIP(address) ? address : undefined;
	};

	return { said, addressOf };
}

// Rates, tokens, and what describes the endpoints.
async function addParts(app, config, addressOf) {
	await app.register(rateLimit, {
		max: config.rateLimit, timeWindow: '1 minute', cache: 100000, keyGenerator: request => rateLimit.normalizeIP(addressOf(request) ?? ''),
		addHeadersOnExceeding: { 'x-ratelimit-limit': false, 'x-ratelimit-remaining': false, 'x-ratelimit-reset': false },
		errorResponseBuilder: (request, { after }) => new Problem(429, `too many requests; try again in ${after}`),
	});
	await app.register(require('@fastify/jwt'), {
		secret: { public: config.key }, verify: { algorithms: config.algorithms, requiredClaims: ['role', 'exp'] },
		formatUser: ({ role }) => ({ role: typeof role === 'string' ? role : '' }),
	});
	await app.register(require('@fastify/swagger'), { openapi: { info: { title: 'adclick', version: '1.0.0' },
		components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } } } } });
	await app.register(require('@fastify/swagger-ui'), { routePrefix: '/docs', staticCSP: true });
}

// A pool for questions, and one for clicks and ads.
async function addPools(app, config) {
	const connection = { connectionString: config.database, connectionTimeoutMillis: 2000 };

	await app.register(require('@fastify/postgres'), { ...connection, name: 'questions', max: config.connections, query_timeout: 15000,
		options: '-c timezone=UTC -c default_transaction_read_only=on -c statement_timeout=10s' });
	await app.register(require('@fastify/postgres'), { ...connection, name: 'clicks', max: 4, query_timeout: 3000, options: '-c timezone=UTC -c statement_timeout=2s' });
	for (const { pool } of [app.pg.questions, app.pg.clicks])
		pool.on('error', ({ code }) => app.log.warn({ code }, 'a connection was lost'));
}

function answerRest(app) {
	app.setErrorHandler(send);
	app.setNotFoundHandler({ preHandler: app.rateLimit() }, () => {
		throw new Problem(404, 'there is nothing here');
	});
	app.addHook('onSend', async (request, reply) => {
		reply.header('x-content-type-options', 'nosniff');
		if (!app.server.listening)
			reply.header('connection', 'close'); // an idle connection would hold up the end
	});
	app.removeContentTypeParser('text/plain');
	// An empty field of a form is none.
	app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, async (request, text) => Object.fromEntries([...new URLSearchParams(text)].filter(([, value]) => value !== '')));
}

async function redirects(app, config, { said, addressOf }) {
	const spool = await Spool.open(config.spool, config.spoolBytes);
	const ads = new Ads({ database: app.pg.clicks, limit: config.adsCached, staleAfter: config.staleSeconds * 1000, log: app.log });
	const clicks = new Clicks({ database: app.pg.clicks, spool, log: app.log });

	await ads.tried;
	app.post('/ads/:id/click', { schema: CLICK }, async (request, reply) => {
		const id = String(BigInt(request.params.id)); // 0001 is 1 for the cache, too
		const ad = await ads.find(id);

		if (!isSafe.test(ad?.url ?? ''))
			throw new Problem(404, `ad ${id} is unknown, or leads nowhere`);
		if (!ad.active)
			throw new Problem(410, `ad ${id} is not active`);
		await clicks.add({ ad_id: id, user_id: request.body?.userId, impression: request.body?.impression, ip: addressOf(request),
			country: said(request, 'x-country'), region: said(request, 'x-region'), device: said(request, 'x-device') });
		return reply.code(302).header('location', ad.url).header('cache-control', 'no-store').send();
	});
	app.get('/health', { schema: { hide: true } }, async () => ({ database: clicks.isAway ? 'away' : 'there', spooledBytes: spool.bytes, refused: clicks.refused, adsCached: ads.size }));
	// Requests that came are answered before, and the pools end after it.
	app.addHook('onClose', () => Promise.all([ads.close(), clicks.close()]));
}

// One page, whose script and style are the only ones that may be inline.
function dashboard(app) {
	const page = fs.readFileSync(path.join(__dirname, 'dashboard.html'), 'utf8');
	const hash = tag => `'sha256-${createHash('sha256').update(page.match(`<${tag}>([^]*?)</${tag}>`)[1]).digest('base64')}'`;
	const policy = `default-src 'none'; connect-src 'self'; img-src 'self' data:; script-src 'self' ${hash('script')}; style-src 'self' ${hash('style')}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;

	app.get('/', { schema: { hide: true } }, async (request, reply) => {
		reply.type('text/html; charset=utf-8').headers({ 'content-security-policy': policy, 'referrer-policy': 'no-referrer' });
		return page;
	});
	app.register(require('@fastify/static'), { root: path.dirname(require.resolve('uplot')), prefix: '/chart/', decorateReply: false });
}

module.exports = async function build(config) {
	const app = fastify({
		logger: { level: config.logLevel, serializers: { req: ({ method, routeOptions }) => ({ method, url: routeOptions?.url }), err: ({ code }) => ({ code }) } },
		logController: new LogController({ disableRequestLogging: true }), bodyLimit: 4096, requestTimeout: 10000, return503OnClosing: false,
		ajv: { customOptions: { coerceTypes: false, removeAdditional: false, formats: { bigint: isBigint } } },
		frameworkErrors: send, clientErrorHandler: sendRaw,
	});
	const read = readers(config.proxies);

	await addParts(app, config, read.addressOf);
	await addPools(app, config);
	answerRest(app);
	await redirects(app, config, read);
	questions(app);
	dashboard(app);
	return app;
};
