// Errors have one shape, { error: { code, message, detail?, hint? } }, and tell nothing of the inside.
'use strict';

const { DatabaseError } = require('pg');

const CODES = {
	400: 'bad_request', 401: 'unauthorized', 403: 'forbidden', 404: 'not_found', 408: 'timeout', 409: 'not_kept', 410: 'gone', 413: 'too_large',
	415: 'unsupported_media_type', 429: 'too_many_requests', 431: 'too_large', 500: 'internal', 503: 'unavailable', 504: 'timeout',
};

// The status of a SQLSTATE, by its first two characters or by all of them.
const STATUSES = { 22: 400, 54: 400, 42501: 403, 55: 409, 57014: 504, '08': 503, 40: 503, 53: 503, 57: 503 };

class Problem extends Error {
	constructor(statusCode, message) {
		super(message);
		this.statusCode = statusCode;
	}
}

// Whether the database has refused the data; anything else may be otherwise in a moment.
const isRefused = error => error instanceof DatabaseError && /^(22|23|P0)/.test(error.code);

// An error of the database, or of the way to it.
function ofDatabase(error) {
	const status = error instanceof DatabaseError ? STATUSES[error.code] ?? STATUSES[error.code.slice(0, 2)] ?? 500 : 503;
	const problem = new Problem(status, { 403: 'permission denied', 503: 'the database is away' }[status] ?? error.message);

	problem.code = error.code; // for the log
	if (status === 403 && error.message.startsWith('permission denied to ask'))
		problem.message = error.message;
	if (status === 400 || status === 409)
		Object.assign(problem, { detail: error.detail, hint: error.hint });
	return problem;
}

function body(error) {
	const status = error.statusCode >= 400 && error.statusCode < 600 ? error.statusCode : 500;
	const { message, detail, hint } = status === 500 ? { message: 'internal error' } : error;

	return [status, { error: { code: CODES[status] ?? 'bad_request', message, detail, hint } }];
}

function send(error, request, reply) {
	const [status, said] = body(error);

	if (status === 500)
		request.log.error({ code: error.code, stack: error.stack }, 'internal error');
	if (status === 503)
		reply.header('retry-after', '1');
	if (status === 401)
		reply.header('www-authenticate', 'Bearer');
	return reply.code(status).send(said);
}

// What is not HTTP, before there is a request.
function sendRaw(error, socket) {
	if (error.code === 'ECONNRESET' || !socket.writable)
		return;
	const status = { HPE_HEADER_OVERFLOW: 431, ERR_HTTP_REQUEST_TIMEOUT: 408 }[error.code] ?? 400;
	const said = JSON.stringify(body(new Problem(status, 'this is no request'))[1]);

	socket.end(`HTTP/1.1 ${status} Bad Request\r\nContent-Type: application/json\r\nContent-Length: ${said.length}\r\nConnection: close\r\n\r\n${said}`);
}

module.exports = { Problem, isRefused, ofDatabase, send, sendRaw };
