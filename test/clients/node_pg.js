// node-postgres: parameters, which it sends as text without a type, and prepared statements.
'use strict';

let pg;
try {
	pg = require('pg');
} catch (error) {
	console.log('1..0 # SKIP node-postgres is not installed');
	process.exit(0);
}

let tests = 0;

function equal(got, expected, name) {
	const [a, b] = [JSON.stringify(got), JSON.stringify(expected)];
	console.log(`${a === b ? 'ok' : 'not ok'} ${++tests} - ${name}`);
	if (a !== b)
		console.log(`# got      ${a}\n# expected ${b}`);
}

const bi = new pg.Client({ host: '127.0.0.1', user: 'bi', password: 'change me' });
const shop = new pg.Client({ host: '127.0.0.1', user: 'shop', password: 'sends clicks' });
const owner = new pg.Client({ user: 'postgres' });

async function rows(client, text, values) {
	return (await client.query({ text, values, rowMode: 'array' })).rows;
}

const CLICKS = `(SELECT ad_id, clicked_at, user_id, coalesce(country, 'unknown') AS country
	FROM adclick.click_log) clicks`;

// By plain SQL, all clicks there are; each window below has them all.
const PLAIN = {
	ad_click_count: ad => [`SELECT count(*) FROM ${CLICKS} WHERE ad_id = $1`, [ad]],
	top_n_ads: n => [`SELECT row_number() OVER (ORDER BY count(*) DESC, ad_id)::int, ad_id, count(*) FROM ${CLICKS}
		GROUP BY ad_id ORDER BY 1 LIMIT $1`, [n]],
	breakdown: ad => [`SELECT country, count(*) FROM ${CLICKS} WHERE ad_id = $1 GROUP BY 1 ORDER BY 2 DESC, 1`, [ad]],
	unique_users: ad => [`SELECT count(DISTINCT user_id) FROM ${CLICKS} WHERE ad_id = $1`, [ad]],
	advertiser_click_count: advertiser => [`SELECT count(*) FROM ${CLICKS} WHERE ad_id IN (
		SELECT ad_id FROM adclick.ads WHERE advertiser_id = $1)`, [advertiser]],
};
const FIRST = { ad_click_count: 1001, top_n_ads: 5, breakdown: 1001, unique_users: 1001, advertiser_click_count: 3 };
const MINUTES = 1440;

// As people write them: dates, and text
const now = new Date();
const WINDOWS = {
	dates: [new Date(Math.floor(now / 60000 - MINUTES) * 60000), new Date(Math.floor(now / 60000 + 60) * 60000)],
	text: ['-infinity', 'infinity'],
};

async function questions() {
	for (const [name, plain] of Object.entries(PLAIN)) {
		const expected = await rows(owner, ...plain(FIRST[name]));
		const dimension = name === 'breakdown' ? ['country'] : [];
		const ask = async (question, values) => {
			const marks = values.map((_, i) => `$${i + 1}`).join(', ');
			return rows(owner, `SELECT * FROM adclick.${question}(${marks})`, values);
		};

		equal(await ask(name, [FIRST[name], MINUTES, ...dimension]), expected, `${name} by minutes`);
		equal(await ask(name, [FIRST[name], MINUTES, ...dimension, {}]), expected, `${name} by minutes, with filters`);
		for (const [kind, window] of Object.entries(WINDOWS)) {
			equal(await ask(`${name}_between`, [FIRST[name], ...window, ...dimension]), expected, `${name}_between, ${kind}`);
			equal(await ask(`${name}_between`, [FIRST[name], ...window, ...dimension, {}]), expected,
				`${name}_between, ${kind}, with filters`);
		}
	}
	const ways = await rows(owner, 'SELECT way FROM adclick.explain_top_n($1, $2)', [5, MINUTES]);
	equal(await rows(bi, 'SELECT way FROM adclick.explain_top_n_between($1, $2, $3)', [5, ...WINDOWS.text]), ways, 'explain_top_n');
	equal(await rows(bi, 'SELECT sum(click_count) FROM adclick.click_series($1, $2, $3, $4)', [1001, ...WINDOWS.dates, '1 day']),
		await rows(shop, ...PLAIN.ad_click_count(1001)), 'click_series');
}

// Filters as objects, and a statement that the server keeps
async function prepared() {
	for (const question of ['ad_click_count($1, 1440, $2)', "ad_click_count_between($1, '-infinity', 'infinity', $2)"]) {
		const answers = [], expected = [];

		for (let i = 0; i < 12; i++) {
			const country = ['CA', 'FR', ['CA', 'unknown']][i % 3];

			answers.push((await bi.query({ name: question, text: `SELECT adclick.${question}`, rowMode: 'array',
				values: [1001 + i, { country }] })).rows);
			expected.push(await rows(shop, `SELECT count(*) FROM ${CLICKS} WHERE ad_id = $1 AND country = ANY ($2)`,
				[1001 + i, [country].flat()]));
		}
		equal(answers, expected, `prepared: ${question}`);
	}
}

async function views() {
	const minutes = 'click_minute >= $1 AND click_minute < $2';

	equal(await rows(bi, `SELECT country, sum(click_count) FROM adclick.clicks_per_minute WHERE ${minutes} AND ad_id > $3
		GROUP BY 1 ORDER BY 1`, [...WINDOWS.dates, 0]),
	await rows(shop, `SELECT country, count(*) FROM ${CLICKS} GROUP BY 1 ORDER BY 1`), 'a view, its conditions by parameters');
}

async function sending() {
	await shop.query('INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip, country) VALUES ($1, $2, $3, $4, $5)',
		[7010, new Date(), 1, '198.51.100.7', 'BR']);
	equal(await rows(bi, 'SELECT * FROM adclick.breakdown($1, $2, $3)', [7010, 5, 'country']), [['BR', '1']], 'a click sent counts');
}

async function main() {
	for (const client of [bi, shop, owner])
		await client.connect();
	for (const part of [questions, prepared, views, sending])
		await part();
	for (const client of [bi, shop, owner])
		await client.end();
	console.log(`1..${tests}`);
}

main().catch(error => {
	console.log(`not ok ${++tests} - ${error.message}\n1..${tests}\n# ${error.stack.replaceAll('\n', '\n# ')}`);
	process.exit(1);
});
