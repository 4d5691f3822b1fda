// The questions: functions of adclick_api, asked as the role that the token names (as PostgREST does).
'use strict';

const { Problem, ofDatabase } = require('./errors');

const text = description => ({ type: 'string', minLength: 1, maxLength: 2000, description });
const ad = { type: 'string', format: 'bigint', description: 'id of the ad' };
const from = text('ISO 8601, a whole minute, or -infinity');
const to = text('ISO 8601, a whole minute, not included, or infinity');
const filters = { ...text('COUNTRY=CANADA & DEVICE=MOBILE, or JSON: {"country": "CA", "device": ["mobile", "tablet"]}; none if empty'), minLength: 0 };
const n = { type: 'string', pattern: '^([1-9][0-9]{0,2}|1000)$', description: 'how many, up to 1000' };
const bucket = { type: 'string', enum: ['1 minute', '5 minutes', '15 minutes', '1 hour', '1 day'] };
const dimension = { type: 'string', enum: ['country', 'region', 'device'] };

// Arguments stand in the order of the function's; "id" is in the path.
const QUESTIONS = [
	['/ads/:id/adClickCount', 'ad_click_count', 'How many clicks an ad had', { id: ad, from, to, filters }],
	['/ads/topNAds', 'top_n_ads', 'The n ads with the most clicks', { n, from, to, filters }],
	['/ads/:id/clickSeries', 'click_series', 'Clicks of an ad over time', { id: ad, from, to, bucket, filters }],
	['/ads/:id/breakdown', 'breakdown', 'Clicks of an ad by country, region or device', { id: ad, from, to, dimension, filters }],
	['/ads/clicksPerMinute', 'clicks_per_minute', 'Clicks of each minute, of all ads one may know', { from, to }],
];

const authorize = request => request.jwtVerify().catch(({ message }) => {
	throw new Problem(401, message);
});

async function ask(database, role, name, values) {
	const marks = values.map((_, i) => `$${i + 1}`).join(', ');

	return database.transact(async client => {
		await client.query({ name: 'role', text: "SELECT set_config('role', $1, true)", values: [role] }).catch(error => {
			throw /^(22|42)/.test(error.code) ? new Problem(403, 'the role of the token may not ask here') : error;
		});
		const { rows } = await client.query({ name, text: `SELECT adclick_api.${name}(${marks})::text`, values, rowMode: 'array' });
		return rows[0][0];
	}).catch(error => {
		throw error instanceof Problem ? error : ofDatabase(error);
	});
}

// Answers are passed on as they come: numbers have all their digits.
module.exports = function questions(app) {
	for (const [url, name, summary, { id, ...query }] of QUESTIONS) {
		const required = Object.keys(query).filter(key => key !== 'filters');
		const schema = {
			summary, security: [{ bearer: [] }],
			querystring: { type: 'object', properties: query, required, additionalProperties: false },
			...id && { params: { type: 'object', properties: { id } } },
		};

		app.get(url, { schema, onRequest: authorize }, async (request, reply) => {
			const values = [...id ? [request.params.id] : [], ...required.map(key => request.query[key]), ...query.filters ? [request.query.filters ?? ''] : []];

			reply.type('application/json; charset=utf-8').header('cache-control', 'no-store');
			return ask(app.pg.questions, request.user.role, name, values);
		});
	}
};
