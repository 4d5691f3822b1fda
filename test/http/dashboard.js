// The dashboard, in a browser. SCREENSHOTS: a directory for pictures of it, to be looked at.
'use strict';

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const path = require('node:path');
const { after, before, test } = require('node:test');
const Browser = require('./lib/browser');
const { Gateway, cleanUp, pgCtl, sql, token, until, value } = require('./lib/gateway');

const program = ['chromium', 'chromium-browser', 'google-chrome'].find(name => {
	try {
		return execFileSync('sh', ['-c', `command -v ${name}`]);
	} catch {
		return false;
	}
});

if (!program) {
	console.log('1..0 # SKIP there is no chromium');
	process.exit(0);
}

let gateway, browser;

before(async () => {
	gateway = await Gateway.start();
	browser = await Browser.start(program);
	await sql('GRANT adclick_advertiser TO adclick_gateway'); // who knows of no ads
});
after(async () => {
	await browser.close();
	const code = await gateway.stop();

	await cleanUp();
	assert.equal(code, 0);
});

const open = claims => browser.open(`http://127.0.0.1:${gateway.port}/${claims ? `#token=${token(claims)}` : ''}`);
const textOf = id => browser.evaluate(`document.getElementById('${id}').innerText`);
const rowsOf = id => browser.evaluate(`Array.from(document.getElementById('${id}').rows, row => Array.from(row.cells, cell => cell.innerText.trim()).slice(0, 2))`);
const shows = (what, id, expected) => until(what, async () => JSON.stringify(await rowsOf(id)) === JSON.stringify(expected));
const picture = name => process.env.SCREENSHOTS && browser.screenshot(path.join(process.env.SCREENSHOTS, `${name}.png`));
const number = new Intl.NumberFormat('en');

const topAds = (advertisers, n = 10) => sql(`SELECT 'ad ' || ad_id, count(*) FROM adclick.click_log JOIN adclick.ads USING (ad_id) WHERE advertiser_id = ANY ($1)
	GROUP BY ad_id ORDER BY 2 DESC, ad_id LIMIT $2`, [advertisers, n]).then(rows => rows.map(([ad, count]) => [ad, number.format(count)]));
const values = (ad, dimension) => sql(`SELECT coalesce(${dimension}, 'unknown'), count(*) FROM adclick.click_log WHERE ad_id = $1 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10`, [ad])
	.then(rows => rows.map(([name, count]) => [name, number.format(count)]));

test('it asks for a token', async () => {
	await open();
	await until('it says so', async () => (await textOf('problem')).startsWith('Paste a token'));
	await picture('token');
});

test('and says that there are no clicks', async () => {
	await open({ role: 'adclick_advertiser' });
	await until('the answer', async () => /role|permission/.test(await textOf('problem')));
	await open({ role: 'shoes' });
	await shows('no ads', 'ads', [['No clicks in this time.']]);
	await shows('no values', 'values', [['No clicks in this time.']]);
	assert.equal(await textOf('problem'), '');
	await picture('empty');
});

test('the most clicked ads, a line, and who clicks', async () => {
	// in waves over the hour, so that there is something to see
	await sql(`INSERT INTO adclick.clicks (ad_id, clicked_at, country, region, device)
		SELECT 2 + (n * n % 17) * (1 + n % 3), date_trunc('minute', now()) - m * interval '1 minute', ('{CA,CA,CA,US,US,FR,"<img src=x onerror=hurt()>",NULL}'::text[])[1 + n % 8], 'R' || n % 4, ('{mobile,mobile,desktop}'::text[])[1 + n % 3]
		FROM generate_series(0, 50) m, generate_series(1, 60 + (40 * sin(m / 6.0))::int) n`);
	await open({ role: 'analyst' });
	await shows('the ads', 'ads', await topAds([7, 8]));
	const [[first]] = await topAds([7, 8]);
	await shows('its countries', 'values', await values(first.slice(3), 'country'));
	assert.equal(await textOf('of'), `A${first.slice(1)} by country`);
	const all = await value('SELECT count(*) FROM adclick.click_log');
	assert.match(await textOf('state'), new RegExp(`^${number.format(all)} clicks, as of`));
	assert.equal(await browser.evaluate("chart.data[1].reduce((a, b) => a + b) + ' ' + chart.data[2].reduce((a, b) => a + b) + ' ' + chart.data[0].length"),
		`${all} ${await value('SELECT count(*) FROM adclick.click_log WHERE ad_id = $1', [first.slice(3)])} 60`);
	assert.ok(await browser.evaluate("document.querySelector('#chart canvas').getContext('2d').getImageData(0, 0, 900, 240).data.some(byte => byte > 0)"), 'something is drawn');
	assert.equal(await browser.evaluate('location.href'), `http://127.0.0.1:${gateway.port}/`, 'the token stands no longer in the address');
	await picture('light');
	await browser.resize(1100, 800, 'dark');
	await open({ role: 'analyst' });
	await shows('the ads', 'ads', await topAds([7, 8]));
	await picture('dark');
	await browser.resize(420, 1000);
	await open({ role: 'analyst' });
	await shows('the ads', 'ads', await topAds([7, 8]));
	assert.equal(await browser.evaluate('document.documentElement.scrollWidth <= innerWidth'), true, 'nothing is too wide');
	await picture('narrow');
	await browser.resize(1100, 800);
});

test('it is live', async () => {
	await open({ role: 'analyst' });
	await shows('the ads', 'ads', await topAds([7, 8]));
	for (let i = 0; i < 5; i++)
		await gateway.click(77);
	await sql("INSERT INTO adclick.clicks (ad_id, country) SELECT 77, 'JP' FROM generate_series(1, 2000)");
	await shows('the new ones', 'ads', await topAds([7, 8]));
	assert.equal((await rowsOf('ads'))[0][0], 'ad 77');
});

test('another ad, another dimension', async () => {
	const [, [second]] = await topAds([7, 8]);

	await browser.evaluate("document.getElementById('ads').rows[1].cells[0].click()");
	await shows('its countries', 'values', await values(second.slice(3), 'country'));
	await browser.evaluate("document.getElementById('dimension').value = 'device'; document.getElementById('dimension').dispatchEvent(new Event('change'))");
	await shows('its devices', 'values', await values(second.slice(3), 'device'));
	await browser.evaluate("document.getElementById('span').value = '1440'; document.getElementById('span').dispatchEvent(new Event('change'))");
	await until('a day', () => browser.evaluate('chart.data[0].length === 1440'));
});

test('what clicks say is text', async () => {
	await sql("INSERT INTO adclick.clicks (ad_id, country) SELECT 88, '<img src=x onerror=document.title=1>' FROM generate_series(1, 5000)");
	await open({ role: 'analyst' });
	await shows('it', 'values', [['<img src=x onerror=document.title=1>', '5,000']]);
	assert.equal(await browser.evaluate('document.title'), 'adclick');
});

test('an advertiser sees his own, all digits of their ids', async () => {
	await sql('INSERT INTO adclick.clicks (ad_id) SELECT 9007199254740993 FROM generate_series(1, 9000)');
	await open({ role: 'shoes' });
	await shows('his ads', 'ads', await topAds([7]));
	assert.deepEqual((await rowsOf('ads'))[0], ['ad 9007199254740993', '9,000']);
	assert.equal(await textOf('of'), 'Ad 9007199254740993 by country');
	await open({ role: 'tea' });
	await shows('his ads', 'ads', await topAds([8]));
});

test('what goes wrong is said, what was there stays, and it goes on', async () => {
	const ads = await topAds([8]);

	await pgCtl('-m', 'fast', 'stop');
	await until('it says so', async () => await textOf('problem') === 'Not up to date: the database is away.');
	assert.deepEqual(await rowsOf('ads'), ads);
	await picture('away');
	await pgCtl('start');
	await until('it goes on', async () => await browser.evaluate("document.getElementById('problem').hidden"));
	await browser.open(`http://127.0.0.1:${gateway.port}/#forged`);
	await until('a forged token', async () => (await textOf('problem')).startsWith('Not up to date: '));
});

test('the page did nothing that its policy forbids, and failed nowhere', () => {
	assert.deepEqual(browser.complaints, []);
});
